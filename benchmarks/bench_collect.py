"""Sampling N answers per question against generating them one at a time.

    python benchmarks/bench_collect.py --model embedded:smollm2-135m --questions 48
    python benchmarks/bench_collect.py --shape gemma3-4b --dtype bfloat16 --questions 256 --batch 128   # on a GPU

Same model, dtype, kernels, prompts, sampling settings and stopping rule in one process, interleaved in rounds. `one at
a time` is Hugging Face `generate` per sample (as the upstream script calls it); `returns N` is its
num_return_sequences, one question at a time. Draws differ, so the work is compared by the tokens that came out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import transformers

from levercheck.benchmarks.questions import load_questions
from levercheck.detect.prompting import common_prefix, prompting_for
from levercheck.lm.batches import SharedPrefix, equal_batches
from levercheck.lm.model import load_model
from levercheck.lm.sample import Sampling, sample_batch


class StopAt(transformers.StoppingCriteria):
    """Stops every row that has produced a token of the set."""

    def __init__(self, tokens, device):
        self.tokens = torch.tensor(sorted(tokens), device=device)

    def __call__(self, input_ids, scores, **_):
        return torch.isin(input_ids[:, -1], self.tokens)


def generate(lm, prompts, sampling, stops, returns):
    """Hugging Face generate, `returns` samples per call; the number of tokens that came out."""
    total = 0
    for prompt in prompts:
        for _ in range(sampling.samples // returns):
            out = lm.model.generate(
                torch.tensor([prompt], device=lm.device),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long, device=lm.device),
                do_sample=True,
                temperature=sampling.temperature,
                top_k=sampling.top_k,
                top_p=sampling.top_p,
                max_new_tokens=sampling.max_new_tokens,
                num_return_sequences=returns,
                stopping_criteria=[stops],
                pad_token_id=lm.tokenizer.eos_token_id if lm.tokenizer else 0,
            )
            new = out[:, len(prompt) :]
            ended = torch.isin(new, stops.tokens)
            lengths = torch.where(ended.any(1), ended.float().argmax(1) + 1, new.shape[1])
            total += int(lengths.sum())
    return total


def ours(lm, prompts, keys, sampling, batch):
    shared = common_prefix(prompts)
    prefix = SharedPrefix(lm, prompts[0][:shared])
    own = [p[shared:] for p in prompts]
    total = 0
    for group in equal_batches(own, len, batch):
        for answers in sample_batch(lm, prefix, [own[i] for i in group], [keys[i] for i in group], sampling, 0):
            total += sum(len(answer.tokens) + answer.stopped for answer in answers)
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:smollm2-135m")
    parser.add_argument("--shape")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    transformers.logging.set_verbosity_error()
    if a.shape:
        from bench_capture import shaped

        device = "cuda" if torch.cuda.is_available() else "cpu"
        lm = shaped(a.shape, getattr(torch, a.dtype), device)
        object.__setattr__(lm, "tokenizer", _NoTokenizer())
        rng = np.random.default_rng(0)
        prompts = [rng.integers(5, 5000, n).tolist() for n in rng.integers(20, 28, a.questions)]
        keys = [str(i) for i in range(a.questions)]
        sampling = Sampling(samples=a.samples, max_new_tokens=16, stop="")
        stops = StopAt({1}, lm.device)
    else:
        lm = load_model(a.model, dtype=a.dtype)
        questions = load_questions("facts", limit=a.questions).questions
        prompting = prompting_for(lm, "auto")
        prompts = [[*prompting.shared(lm), *prompting.own(lm, q.question)] for q in questions]
        keys = [q.id for q in questions]
        sampling = Sampling(samples=a.samples, max_new_tokens=50, stop=prompting.stop)
        ending = {i for i in range(len(lm.tokenizer)) if "\n" in lm.decode([i])} if prompting.stop else set()
        stops = StopAt(ending | lm.end_ids, lm.device)
    torch.manual_seed(0)
    variants = {
        "one at a time": lambda: generate(lm, prompts, sampling, stops, 1),
        f"returns {a.samples}": lambda: generate(lm, prompts, sampling, stops, a.samples),
        "collect": lambda: ours(lm, prompts, keys, sampling, a.batch),
    }
    times = {name: [] for name in variants}
    tokens = dict.fromkeys(variants, 0)
    for _ in range(a.rounds):
        for name, run in variants.items():
            clock = time.perf_counter()
            with torch.inference_mode():
                tokens[name] = run()
            times[name].append(time.perf_counter() - clock)
    base = times["one at a time"]
    ratios = {n: [one / other for one, other in zip(base, times[n], strict=True)] for n in variants}
    per_token = {
        n: statistics.median(base) / tokens["one at a time"] * tokens[n] / statistics.median(times[n]) for n in variants
    }
    print(f"{a.shape or a.model} {a.dtype} on {lm.device.type}: {a.questions} questions x {a.samples} samples")
    for name, values in ratios.items():
        spread = f"{statistics.median(values):6.2f}x [{min(values):.2f}, {max(values):.2f}]"
        print(f"  {name:<14} {spread}  per token {per_token[name]:6.2f}x  ({tokens[name]} tokens)")
    if a.json:
        report = {"model": a.shape or a.model, "dtype": a.dtype, "device": str(lm.device), "ratios": ratios}
        report |= {"questions": a.questions, "samples": a.samples, "tokens": tokens, "per_token": per_token}
        report["seconds"] = {n: statistics.median(t) for n, t in times.items()}
        a.json.write_text(json.dumps(report, indent=1) + "\n")


class _NoTokenizer:
    eos_token_id = 1
    bos_token_id = None

    def __call__(self, text, **_):
        return {"input_ids": []}

    def decode(self, ids, **_):
        return " ".join(str(i) for i in ids)


if __name__ == "__main__":
    main()
