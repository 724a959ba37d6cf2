"""TruthfulQA-style scoring of whole answers against loops that read the question again for every choice.

    python benchmarks/bench_options.py                            # SmolLM2, 12 questions of the embedded facts
    python benchmarks/bench_options.py --data TruthfulQA.csv --questions 100

`pass per choice`: one pass over question and choice, one choice at a time. `token per step`: the question is read
for every choice and the choice is then fed token by token behind its cache. `ours` reads a question once and scores all
of its choices, for all doses, in shared batches. Same weights, dtype and kernels, interleaved in rounds; a ratio is the
median over rounds, its range in brackets. Scores are compared, and so is that the doses move them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from bench_sweep import PlainHooks, ratio, strongest, timed

from levercheck.benchmarks.base import Request, find_benchmark
from levercheck.benchmarks.data import Use
from levercheck.benchmarks.facts import load_facts
from levercheck.interventions.build import scale_neurons
from levercheck.interventions.spec import BASELINE, Treatment
from levercheck.lm.model import load_model
from levercheck.sweep.engine import Engine
from levercheck.sweep.options import score_options
from levercheck.sweep.prompting import continuation, encoded

DOSES = [0.0, 1.0, 3.0]
CHOICES = 7


def embedded(lm, count, seed=0):
    """Questions of the embedded facts with a true sentence and six false ones: choices as long as TruthfulQA's."""
    rng = np.random.default_rng(seed)
    facts = load_facts(["capital", "city_country", "us_city_state", "language"])
    prompts, options = [], []
    for number in rng.permutation(len(facts))[:count]:
        fact = facts[int(number)]
        others = sorted({f.answer for f in facts if f.category == fact.category} - {fact.answer})
        answers = [fact.answer, *rng.choice(others, CHOICES - 1, replace=False).tolist()]
        prompts.append(lm.encode(f"Question: {fact.question}\nAnswer:"))
        options.append([lm.encode(f" {fact.assertion(answer)}") for answer in answers])
    return lm.start_ids, prompts, options


def of_file(lm, path, count):
    """Questions of TruthfulQA MC2, as the benchmark asks them."""
    use = Use("truthfulqa-mc2", data=path)
    benchmark = find_benchmark(use.name)
    items = benchmark.made(Request(lambda _: 0, lambda _: True, 0, use))[:count]
    prefix, prompts = encoded(lm, benchmark, items)
    return prefix, prompts, [[continuation(lm, benchmark.style, text) for text in item.candidates] for item in items]


def pass_per_choice(lm, prompt, option):
    ids = torch.tensor([[*prompt, *option[:-1]]], device=lm.device)
    logits = lm.model(ids, use_cache=False).logits[0, len(prompt) - 1 :].float()
    picked = logits.log_softmax(-1).gather(1, torch.tensor(option, device=lm.device)[:, None])
    return float(picked.double().sum())


def token_per_step(lm, prompt, option):
    step = lm.model(torch.tensor([prompt], device=lm.device), use_cache=True)
    total = 0.0
    for at, token in enumerate(option):
        total += float(step.logits[0, -1].float().log_softmax(-1)[token])
        if at + 1 < len(option):
            cache = {lm.cache_name: getattr(step, lm.cache_name)}
            step = lm.model(torch.tensor([[token]], device=lm.device), use_cache=True, **cache)
    return total


@torch.inference_mode()
def loop(score, lm, prompts, options, hooks, doses):
    """Scores by prompt, dose and option, one at a time."""
    out = []
    for prompt, some in zip(prompts, options, strict=True):
        rows = []
        for dose in doses:
            hooks.dose = dose
            rows.append([score(lm, prompt, option) for option in some])
        out.append(rows)
    return out


def ours(lm, prefix, prompts, options, treatments, **settings):
    engine = Engine(lm, prefix, prompts, treatments, **settings)
    out = [[None] * len(treatments) for _ in prompts]
    for block in engine.blocks():
        for prompt, row in zip(block.prompts, score_options(engine, block, options), strict=True):
            for treatment, found in zip(block.treatments, row, strict=True):
                out[prompt][treatment] = [option.logprob for option in found.options]
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:smollm2-135m")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--questions", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    lm = load_model(a.model, dtype=a.dtype, device=a.device)
    prefix, prompts, options = of_file(lm, a.data, a.questions) if a.data else embedded(lm, a.questions)
    whole = [[*prefix, *prompt] for prompt in prompts]
    neurons = strongest(lm, whole, lm.shape[0] // 2, 3)
    lever = scale_neurons(lm, neurons)
    treatments = [Treatment(((lever, dose),)) for dose in DOSES]
    settings = {"batch_tokens": a.batch_tokens} if a.batch_tokens else {}

    def hooked(score, doses):
        hooks = PlainHooks(lm, neurons)
        try:
            return loop(score, lm, whole, options, hooks, doses)
        finally:
            hooks.remove()

    variants = {
        "pass per choice": lambda: hooked(pass_per_choice, [1.0]),
        "token per step": lambda: hooked(token_per_step, [1.0]),
        "ours": lambda: ours(lm, prefix, prompts, options, [BASELINE], **settings),
        "pass per choice, 3 doses": lambda: hooked(pass_per_choice, DOSES),
        "ours, 3 doses": lambda: ours(lm, prefix, prompts, options, treatments, **settings),
    }
    found = {name: run() for name, run in variants.items()}
    times = timed(variants, a.rounds, lm.device)
    gap = np.array([found["ours, 3 doses"][p] for p in range(len(prompts))], dtype=object)
    differences, moves = [], []
    for prompt in range(len(prompts)):
        reference = np.array(found["pass per choice, 3 doses"][prompt])
        differences.append(np.abs(np.array(gap[prompt].tolist()) - reference).max())
        moves.append(np.abs(reference - reference[1]).max())
    lengths = [len(option) for some in options for option in some]
    report = {
        "model": a.model, "dtype": a.dtype, "questions": len(prompts), "choices": sum(map(len, options)),
        "tokens_per_choice": float(np.mean(lengths)), "tokens_per_question": float(np.mean([len(w) for w in whole])),
        "rounds": a.rounds, "device": str(lm.device), "threads": torch.get_num_threads(),
        "ratios": {
            "over a pass per choice": ratio(times, "pass per choice", "ours"),
            "over a token per step": ratio(times, "token per step", "ours"),
            "over a pass per choice, 3 doses": ratio(times, "pass per choice, 3 doses", "ours, 3 doses"),
        },
        "largest_difference_nats": float(max(differences)), "largest_move_nats": float(max(moves)),
    }  # fmt: skip
    for name, (median, low, high) in report["ratios"].items():
        print(f"{name}: {median:.2f}x [{low:.2f}, {high:.2f}]")
    print(json.dumps(report, indent=1))
    if a.json:
        a.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
