"""A dose sweep of neuron scaling against the loop people write: one prompt at a time, HF generate, a hook per layer.

    python benchmarks/bench_sweep.py                          # SmolLM2, 16 prompts x 7 doses, 8 new tokens
    python benchmarks/bench_sweep.py --model embedded:gemma3-270m
    python benchmarks/bench_sweep.py --shape gemma3-4b --dtype bfloat16 --prompts 64 --batch-tokens 16384   # GPU

All variants run in one process on the same weights, dtype and kernels, interleaved in rounds; a ratio is the median
over rounds, its range in brackets. Neurons are those that write most on these prompts, so that doses change tokens:
equality of tokens is checked and so is that prompts change. End tokens are ignored, so that every variant does the same
work.
`upper` has its first intervened layer in the middle of the model, `all` in layer 0. Hook cost compares the engine with
hooks and without on the same rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from bench_capture import shaped

from levercheck.benchmarks.facts import load_facts
from levercheck.interventions.build import scale_neurons
from levercheck.interventions.spec import BASELINE, Treatment
from levercheck.lm.activations import watching
from levercheck.lm.kernels import OneDnnLinear
from levercheck.lm.model import load_model
from levercheck.lm.places import Site
from levercheck.lm.sample import Sampling
from levercheck.lm.sites import DOWN_PROJ_INPUT
from levercheck.sweep.engine import Engine
from levercheck.sweep.generate import generate

DOSES = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
LETTERS = "ABCD"


def mc_prompts(lm, count, seed=0):
    """Multiple-choice questions on the embedded facts, as token ids."""
    if lm.tokenizer is None:
        rng = np.random.default_rng(seed)
        return [rng.integers(5, 5000, int(n)).tolist() for n in rng.integers(44, 62, count)]
    rng = np.random.default_rng(seed)
    facts = load_facts(["capital", "city_country", "us_city_state", "symbol", "language"])
    found = []
    for number in rng.permutation(len(facts))[:count]:
        fact = facts[int(number)]
        others = [f.answer for f in facts if f.category == fact.category and f.answer != fact.answer]
        options = [fact.answer, *rng.choice(others, 3, replace=False).tolist()]
        rng.shuffle(options)
        lines = "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=True))
        found.append(lm.start_ids + lm.encode(f"Question: {fact.question}\n{lines}\nAnswer with the letter:"))
    return found


@torch.inference_mode()
def strongest(lm, prompts, first, per_layer):
    """The neurons of every layer from `first` that write most at the end of the prompts."""
    total = {}
    sites = [Site(layer, DOWN_PROJ_INPUT) for layer in range(first, lm.shape[0])]

    def see(site, x):
        total[site.layer] = total.get(site.layer, 0) + x[0, -4:].abs().float().mean(0)

    with watching(lm, sites, see):
        for prompt in prompts[:4]:
            lm.decoder(input_ids=torch.tensor([prompt], device=lm.device), use_cache=False)
    picked = {layer: (size * lm.write_norms[layer]).topk(per_layer).indices.tolist() for layer, size in total.items()}
    return [(layer, index) for layer, indices in picked.items() for index in indices]


class PlainHooks:
    """What people write: a pre-hook per layer that scales the chosen activations in place."""

    def __init__(self, lm, neurons):
        self.dose = 1.0
        self.handles = []
        by_layer = {}
        for layer, index in neurons:
            by_layer.setdefault(layer, []).append(index)
        for layer, indices in by_layer.items():
            self.handles.append(lm.sites[layer].module.register_forward_pre_hook(self._hook(torch.tensor(indices))))

    def _hook(self, indices):
        def scale(_module, args):
            if self.dose != 1.0:
                args[0][..., indices] = args[0][..., indices] * self.dose
            return args

        return scale

    def remove(self):
        for handle in self.handles:
            handle.remove()


@torch.inference_mode()
def loop_generate(lm, prompts, neurons, new):
    hooks, out = PlainHooks(lm, neurons), []
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    options |= {"temperature": None, "top_p": None, "top_k": None}
    try:
        for prompt in prompts:
            row = []
            ids = torch.tensor([prompt], device=lm.device)
            for dose in DOSES:
                hooks.dose = dose
                made = lm.model.generate(ids, attention_mask=torch.ones_like(ids), **options)
                row.append(made[0, len(prompt) :].tolist())
            out.append(row)
    finally:
        hooks.remove()
    return out


@torch.inference_mode()
def loop_score(lm, prompts, neurons, letters):
    hooks, out = PlainHooks(lm, neurons), []
    try:
        for prompt in prompts:
            row = []
            for dose in DOSES:
                hooks.dose = dose
                logits = lm.model(torch.tensor([prompt], device=lm.device)).logits[0, -1].float()
                row.append(logits[letters].tolist())
            out.append(row)
    finally:
        hooks.remove()
    return out


def ours_generate(lm, prompts, treatments, new, **options):
    engine = Engine(lm, [], prompts, treatments, **options)
    sampling = Sampling(samples=1, max_new_tokens=new, stop="")
    out = [[None] * len(treatments) for _ in prompts]
    for block in engine.blocks():
        for prompt, row in zip(block.prompts, generate(engine, block, sampling, [""] * len(prompts)), strict=True):
            for treatment, made in zip(block.treatments, row, strict=True):
                out[prompt][treatment] = list(made.tokens)
    return out


def ours_score(lm, prompts, treatments, letters, **options):
    engine = Engine(lm, [], prompts, treatments, **options)
    out = [[None] * len(treatments) for _ in prompts]
    for block in engine.blocks():
        for prompt, row in zip(block.prompts, engine.score(block, [letters] * len(prompts)), strict=True):
            for treatment, found in zip(block.treatments, row, strict=True):
                out[prompt][treatment] = list(found.logits)
    return out


def endless(lm):
    """The model with no token that ends a text."""
    lm.model.generation_config.eos_token_id = None

    class NoEnd:
        eos_token_id = None

        def decode(self, ids, **_):
            return ""

    return dataclasses.replace(lm, tokenizer=NoEnd())


def timed(variants, rounds, device):
    times = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            clock = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - clock)
    return times


def ratio(times, base, name):
    found = [one / other for one, other in zip(times[base], times[name], strict=True)]
    return [statistics.median(found), min(found), max(found)]


def bandwidth(lm, prompts, batch_tokens, new=64):
    """Bytes that one decoding step must read (weights once, keys and values of every row), per second."""
    engine = Engine(lm, [], prompts, [BASELINE] * len(DOSES), batch_tokens=batch_tokens)
    (block, *_) = engine.blocks()
    rows = len(block.prompts) * len(block.treatments)
    lengths = [len(prompts[i]) for i in block.prompts]
    times = []
    for tokens in (8, new):
        sampling = Sampling(samples=1, max_new_tokens=tokens, stop="")
        generate(engine, block, sampling, [""] * len(prompts))
        torch.cuda.synchronize()
        clock = time.perf_counter()
        generate(engine, block, sampling, [""] * len(prompts))
        torch.cuda.synchronize()
        times.append(time.perf_counter() - clock)
    step = (times[1] - times[0]) / (new - 8)
    config = lm.model.config.get_text_config()
    size = next(lm.model.parameters()).element_size()
    weights = sum(p.numel() for p in lm.decoder.parameters()) * size
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * size
    held = len(block.treatments) * sum(n + (new + 8) / 2 for n in lengths)
    return {"rows": rows, "seconds_per_step": step, "bytes_per_step": weights + per_token * held,
            "bytes_per_second": (weights + per_token * held) / step}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded:smollm2-135m")
    parser.add_argument("--shape")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--device")
    parser.add_argument("--kernels", choices=["levercheck", "torch"], default="levercheck")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--new", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-layer", type=int, default=3)
    parser.add_argument("--batch-tokens", type=int)
    parser.add_argument("--only", help="names of variants, separated by semicolons")
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    if a.shape:
        lm = shaped(a.shape, getattr(torch, a.dtype), a.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    else:
        lm = load_model(a.model, dtype=a.dtype, device=a.device)
    if a.kernels == "torch":
        for module in lm.model.modules():
            if isinstance(module, OneDnnLinear):
                module.__class__ = torch.nn.Linear
    prompts = mc_prompts(lm, a.prompts)
    letters = [7, 8, 9, 10] if lm.tokenizer is None else [lm.encode(f" {letter}")[-1] for letter in LETTERS]
    lm = endless(lm)
    half = lm.shape[0] // 2
    sets = {"upper": strongest(lm, prompts, half, a.per_layer), "all": strongest(lm, prompts, 0, a.per_layer)}
    arms = {n: [Treatment(((scale_neurons(lm, s), dose),)) for dose in DOSES] for n, s in sets.items()}
    plain = [BASELINE] * len(DOSES)
    options = {"batch_tokens": a.batch_tokens} if a.batch_tokens else {}
    variants = {
        "loop": lambda: loop_generate(lm, prompts, sets["upper"], a.new),
        "batched, one dose at a time": lambda: [
            ours_generate(lm, prompts, [t], a.new, **options) for t in arms["upper"]
        ],
        "prompts x doses, first layer 0": lambda: ours_generate(lm, prompts, arms["all"], a.new, **options),
        "prompts x doses, trunk not shared": lambda: ours_generate(
            lm, prompts, arms["upper"], a.new, share_trunk=False, **options
        ),
        "prompts x doses, no hooks": lambda: ours_generate(lm, prompts, plain, a.new, **options),
        "prompts x doses, upper half": lambda: ours_generate(lm, prompts, arms["upper"], a.new, **options),
        "score: loop": lambda: loop_score(lm, prompts, sets["upper"], letters),
        "score: trunk not shared": lambda: ours_score(
            lm, prompts, arms["upper"], letters, share_trunk=False, **options
        ),
        "score: no hooks": lambda: ours_score(lm, prompts, plain, letters, **options),
        "score: upper half": lambda: ours_score(lm, prompts, arms["upper"], letters, **options),
    }
    if a.only:
        variants = {name: run for name, run in variants.items() if name in a.only.split(";")}
    report = {"model": a.shape or a.model, "dtype": a.dtype, "device": str(lm.device), "kernels": a.kernels,
              "prompts": len(prompts), "doses": DOSES, "new_tokens": a.new, "rounds": a.rounds,
              "threads": torch.get_num_threads(), "neurons": {n: len(s) for n, s in sets.items()}}  # fmt: skip
    report |= equality(lm, prompts, sets, arms, letters, a.new, options)
    times = timed(variants, a.rounds, lm.device)
    report["seconds"] = {name: statistics.median(t) for name, t in times.items()}
    report["speed_over_loop"] = {
        name: ratio(times, "score: loop" if name.startswith("score") else "loop", name)
        for name in times
        if ("score: loop" if name.startswith("score") else "loop") in times
    }
    pairs = {
        "generation": ("prompts x doses, trunk not shared", "prompts x doses, no hooks"),
        "scoring": ("score: trunk not shared", "score: no hooks"),
    }
    report["hook_cost"] = {}
    for name, (hooked, bare) in pairs.items():
        if hooked in times and bare in times:
            report["hook_cost"][name] = [r - 1 for r in ratio(times, hooked, bare)]
    if lm.device.type == "cuda":
        report["decode"] = bandwidth(lm, prompts, a.batch_tokens or 2048)
        report["gpu"] = torch.cuda.get_device_name()
    show(report)
    if a.json:
        a.json.write_text(json.dumps(report, indent=1) + "\n")


def equality(lm, prompts, sets, arms, letters, new, options):
    """Tokens and logits of the engine against the loop's, and how much the doses change."""
    loop, ours = (
        loop_generate(lm, prompts, sets["upper"], new),
        ours_generate(lm, prompts, arms["upper"], new, **options),
    )
    same = np.mean([a == b for x, y in zip(loop, ours, strict=True) for a, b in zip(x, y, strict=True)])
    changed = np.mean([any(tokens != row[DOSES.index(1.0)] for tokens in row) for row in loop])
    scores = loop_score(lm, prompts, sets["upper"], letters), ours_score(lm, prompts, arms["upper"], letters, **options)
    gap = float(np.abs(np.subtract(*scores)).max())
    effect = float(np.abs(np.array(scores[0]) - np.array(scores[0])[:, [DOSES.index(1.0)]]).max())
    return {"token_exact_rows": float(same), "prompts_changed": float(changed), "logit_difference": gap,
            "logit_effect": effect}  # fmt: skip


def show(report):
    print(f"{report['model']} {report['dtype']} on {report['device']}, {report['kernels']} kernels, "
          f"{report['threads']} threads: {report['prompts']} prompts x {len(report['doses'])} doses, "
          f"{report['new_tokens']} new tokens, {report['rounds']} rounds")  # fmt: skip
    print(f"  token-exact rows {report['token_exact_rows']:.1%}; prompts that some dose changed "
          f"{report['prompts_changed']:.1%}; largest logit difference {report['logit_difference']:.1e} (effect of the "
          f"doses {report['logit_effect']:.3g})")  # fmt: skip
    for name, (median, low, high) in report["speed_over_loop"].items():
        print(f"  {name:<36} {median:5.2f}x [{low:.2f}, {high:.2f}]")
    for name, (median, low, high) in report["hook_cost"].items():
        print(f"  hook cost, {name:<25} {median:+.1%} [{low:+.1%}, {high:+.1%}]")
    if "decode" in report:
        found = report["decode"]
        rate = found["bytes_per_second"] / 1e12
        print(f"  {report['gpu']}: a decoding step of {found['rows']} rows reads {rate:.2f} TB/s")


if __name__ == "__main__":
    main()
