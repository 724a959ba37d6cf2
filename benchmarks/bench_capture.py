"""CETT capture against the loop people write: one sequence at a time, whole model, hooks that keep every activation.

    python benchmarks/bench_capture.py --model embedded:smollm2-135m
    python benchmarks/bench_capture.py --model embedded:gemma3-270m --sequences 24 --rounds 3
    python benchmarks/bench_capture.py --shape gemma3-4b --dtype bfloat16 --sequences 64 --batch-tokens 8192   # GPU

All variants run in one process on the same weights, dtype and kernels, interleaved in rounds; a ratio is the median
over rounds, its range in brackets. `loop` computes what the upstream script does (answer span and all other tokens).
`--kernels torch` leaves levercheck's float32 kernel out for all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from levercheck.benchmarks.facts import load_facts
from levercheck.lm.batches import SharedPrefix, right_padded, token_batches
from levercheck.lm.kernels import OneDnnLinear
from levercheck.lm.model import LanguageModel, load_model
from levercheck.readouts.cett import EPSILON, capture_batch
from levercheck.readouts.store import Channel

CHANNELS = [Channel("answer"), Channel("other")]


def text_sequences(lm, count, shortest=32, longest=79, seed=0):
    """Questions with answers and other facts before them: (tokens, answer span), of mixed length."""
    rng = np.random.default_rng(seed)
    facts = load_facts()
    found = []
    while len(found) < count:
        goal = int(rng.integers(shortest, longest + 1))
        ids: list[int] = []
        while len(ids) < goal - 20:
            fact = facts[rng.integers(len(facts))]
            ids += lm.encode(f"{fact.assertion(fact.answer)} ")
        fact = facts[rng.integers(len(facts))]
        ids += lm.encode(f"Question: {fact.question}\nAnswer:")
        answer = lm.encode(f" {fact.answer}")
        if shortest <= len(ids) + len(answer) <= longest:
            found.append((ids + answer, (len(ids), len(ids) + len(answer))))
    return found


def random_sequences(lm, count, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(32, 80, count)
    return [(rng.integers(5, 5000, n).tolist(), (int(n) - 4, int(n))) for n in lengths]


@torch.inference_mode()
def loop(lm, items):
    """The plain way: batch 1, language-model head included, every layer's activations kept until the end."""
    norms = torch.stack([site.write_norms() for site in lm.sites])
    out = []
    for tokens, (start, stop) in items:
        kept: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

        def hook(layer, kept=kept):
            return lambda _module, args, output: kept.__setitem__(layer, (args[0], output))

        handles = [site.module.register_forward_hook(hook(site.layer)) for site in lm.sites]
        lm.model(input_ids=torch.tensor([tokens], device=lm.device), use_cache=False)
        for handle in handles:
            handle.remove()
        z = torch.stack([kept[layer][0][0] for layer in range(len(lm.sites))]).float()
        h = torch.stack([kept[layer][1][0] for layer in range(len(lm.sites))]).float()
        cett = z.abs() * norms[:, None] / (h.norm(dim=-1, keepdim=True) + EPSILON)
        inside = torch.zeros(len(tokens), dtype=torch.bool, device=lm.device)
        inside[start:stop] = True
        out.append(torch.stack([cett[:, inside].mean(1), cett[:, ~inside].mean(1)]).cpu())
    return torch.stack(out, dim=1)


@torch.inference_mode()
def trunk(lm, items, batches):
    """The bare batched forward pass without the head: what capture cannot beat."""
    for batch in batches:
        lm.decoder(input_ids=right_padded(lm, [items[i][0] for i in batch])[0], use_cache=False)
    if lm.device.type == "cuda":
        torch.cuda.synchronize()


def ours(lm, items, batches):
    """`capture_batch` over length-sorted batches, both regions in one pass."""
    out = torch.empty(2, len(items), *lm.shape)
    prefix = SharedPrefix(lm, [])
    for batch in batches:
        regions = [
            {"answer": [items[i][1]], "other": [(0, items[i][1][0]), (items[i][1][1], len(items[i][0]))]} for i in batch
        ]
        out[:, batch] = capture_batch(lm, prefix, [items[i][0] for i in batch], regions, CHANNELS)
    return out


def shaped(name, dtype, device):
    """A randomly initialised model of a published shape, for GPUs without the weights."""
    import transformers

    if name != "gemma3-4b":
        raise SystemExit(f"--shape '{name}' is unknown, expected gemma3-4b")
    config = transformers.Gemma3TextConfig(
        vocab_size=262_208,
        hidden_size=2560,
        intermediate_size=10_240,
        num_hidden_layers=34,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=256,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.Gemma3ForCausalLM._from_config(config, dtype=dtype)
    return LanguageModel(name, model.eval().requires_grad_(False), None, {})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:smollm2-135m")
    parser.add_argument("--shape")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device")
    parser.add_argument("--kernels", choices=["levercheck", "torch"], default="levercheck")
    parser.add_argument("--sequences", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    if a.shape:
        device = a.device or ("cuda" if torch.cuda.is_available() else "cpu")
        lm = shaped(a.shape, getattr(torch, a.dtype), device)
        items = random_sequences(lm, a.sequences)
    else:
        lm = load_model(a.model, dtype=a.dtype, device=a.device)
        items = text_sequences(lm, a.sequences)
    if a.kernels == "torch":
        for module in lm.model.modules():
            if isinstance(module, OneDnnLinear):
                module.__class__ = torch.nn.Linear
    batches = token_batches([tokens for tokens, _ in items], a.batch_tokens)
    single = [[i] for i in range(len(items))]
    variants = {
        "loop": lambda: loop(lm, items),
        "trunk": lambda: trunk(lm, items, batches),
        "capture": lambda: ours(lm, items, batches),
        "capture batch 1": lambda: ours(lm, items, single),
    }
    reference, found = loop(lm, items), ours(lm, items, batches)
    worst = float((reference - found).abs().max())
    trunk(lm, items, batches)
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(a.rounds):
        for name, run in variants.items():
            clock = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - clock)
    ratios = {name: [one / other for one, other in zip(times["loop"], times[name], strict=True)] for name in variants}
    overhead = [c / t - 1 for c, t in zip(times["capture"], times["trunk"], strict=True)]
    report = {
        "model": a.shape or a.model,
        "dtype": a.dtype,
        "device": str(lm.device),
        "kernels": a.kernels,
        "sequences": len(items),
        "tokens": sum(len(tokens) for tokens, _ in items),
        "batches": len(batches),
        "rounds": a.rounds,
        "max_abs_difference": worst,
        "speed_over_loop": {n: [statistics.median(r), min(r), max(r)] for n, r in ratios.items()},
        "overhead_over_trunk": [statistics.median(overhead), min(overhead), max(overhead)],
        "seconds": {n: statistics.median(t) for n, t in times.items()},
    }
    where = f"{a.dtype} on {lm.device.type}, {a.kernels} kernels"
    print(f"{report['model']} {where}: {len(items)} sequences, {report['tokens']} tokens")
    for name, (median, low, high) in report["speed_over_loop"].items():
        print(f"  {name:<16} {median:5.2f}x the loop [{low:.2f}, {high:.2f}]")
    print("  capture over the bare trunk: {:+.1%} [{:+.1%}, {:+.1%}]".format(*report["overhead_over_trunk"]))
    print(f"  largest difference from the loop: {worst:.1e}")
    if a.json:
        a.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
