"""Log-likelihood of whole continuations, for many prompts, options and treatments at once.

A prompt is read once per treatment; its options then continue from the same keys and values, so that an option costs
its own tokens and no more. Tokens of an option count as generated ones: the last prompt position produces token 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from levercheck.errors import UsageError
from levercheck.interventions.hooks import Hooks
from levercheck.interventions.receipts import RowReceipt
from levercheck.interventions.steps import Steps
from levercheck.lm import kv
from levercheck.lm.batches import head_at
from levercheck.sweep.engine import Block, Engine, Prefilled

LOGITS = 1 << 27
"""Logits held at once: positions x vocabulary."""
CACHED = 4
"""Positions held in the caches of a pass, as a multiple of the engine's batch of tokens."""


@dataclass(frozen=True)
class Continuation:
    """One option: natural log-probability of its tokens, summed, from float32 logits; `finite` False: broken.

    `top` counts its tokens that were the most probable ones at their place.
    """

    logprob: float
    tokens: int
    top: int
    finite: bool


@dataclass(frozen=True)
class OptionScores:
    """All options of one prompt under one treatment."""

    options: tuple[Continuation, ...]
    receipt: RowReceipt


@dataclass(frozen=True)
class _Pass:
    """Some options of some rows: `rows` of the prefilled state, one per option, with the option's tokens."""

    rows: list[int]
    options: list[int]
    tokens: list[Sequence[int]]


def score_options(engine: Engine, block: Block, options: Sequence[Sequence[Sequence[int]]]) -> list[list[OptionScores]]:
    """Score every option of every prompt of a block, [prompts of the block][treatments of the block].

    `options` holds, per prompt of the engine, the token ids of its options; an option without a token is a UsageError.
    """
    if any(not option for prompt in block.prompts for option in options[prompt]):
        raise UsageError("an option has no token: give every option a text")
    return engine.resilient(block, lambda part: _score(engine, part, options))


@torch.inference_mode()
def _score(engine: Engine, block: Block, options: Sequence[Sequence[Sequence[int]]]) -> list[list[OptionScores]]:
    lm, count = engine.lm, len(block.treatments)
    own = [options[prompt] for prompt in block.prompts for _ in block.treatments]  # of every row
    lm.check_length(len(engine.prefix) + max(len(engine.prompts[p]) + max(map(len, options[p])) for p in block.prompts))
    longer = any(len(option) > 1 for row in own for option in row)
    with engine.hooks(block.treatments) as hooks:
        state = engine.prefill(hooks, block, use_cache=longer)
        normaliser, best = state.logits.logsumexp(-1), state.logits.argmax(-1).tolist()
        sums: list[list[float]] = []
        tops: list[list[int]] = []
        for row, choices in enumerate(own):
            first = torch.tensor([option[0] for option in choices], device=lm.device)
            sums.append((state.logits[row, first] - normaliser[row]).double().tolist())
            tops.append([int(option[0] == best[row]) for option in choices])
        receipts = hooks.receipts()
        if longer:
            for part in _passes(engine, state, own):
                found, edited = _continue(engine, hooks, state, part, count)
                for row, option, (logprob, top), receipt in zip(part.rows, part.options, found, edited, strict=True):
                    sums[row][option] += logprob
                    tops[row][option] += top
                    receipts[row] = joined(receipts[row], receipt)
    made = []
    for total, hits, choices, receipt in zip(sums, tops, own, receipts, strict=True):
        told = zip(total, hits, choices, strict=True)
        options_of = tuple(Continuation(v, len(option), top, math.isfinite(v)) for v, top, option in told)
        made.append(OptionScores(options_of, receipt))
    return [made[i * count : (i + 1) * count] for i in range(len(block.prompts))]


def _passes(engine: Engine, state: Prefilled, own: Sequence[Sequence[Sequence[int]]]) -> Iterator[_Pass]:
    """Options of more than one token, of similar length, as many as fit into a pass."""
    longer = [(row, at, option) for row, some in enumerate(own) for at, option in enumerate(some) if len(option) > 1]
    longer.sort(key=lambda one: (len(one[2]), one[0], one[1]))
    held, positions = max(state.lengths), max(1, LOGITS // state.logits.shape[-1])
    part: list[tuple[int, int, Sequence[int]]] = []
    for one in longer:
        rows, fed = len(part) + 1, len(one[2]) - 1
        if part and (rows * (held + fed) > CACHED * engine.batch_tokens or rows * fed > positions):
            yield _Pass(*map(list, zip(*part, strict=True)))
            part = []
        part.append(one)
    if part:
        yield _Pass(*map(list, zip(*part, strict=True)))


def _continue(
    engine: Engine, hooks: Hooks, state: Prefilled, part: _Pass, treatments: int
) -> tuple[list[tuple[float, int]], list[RowReceipt]]:
    """Of every option's tokens behind its first: summed log-probability, how many were the most probable; receipts."""
    lm, device = engine.lm, engine.lm.device
    fed = [len(option) - 1 for option in part.tokens]
    longest = max(fed)
    ids = torch.tensor(
        [[*o[:-1], *[o[-1]] * (longest - n)] for o, n in zip(part.tokens, fed, strict=True)], device=device
    )
    cache = kv.selected(state.cache, torch.tensor(part.rows, device=device))
    gaps = torch.tensor([state.gaps[row] for row in part.rows], device=device)
    start = torch.tensor([state.lengths[row] for row in part.rows], device=device)
    steps = torch.arange(longest, device=device)
    mask = None
    if bool(gaps.any()):
        place = torch.arange(cache.get_seq_length() + longest, device=device)[None]
        mask = (place >= gaps[:, None]).long()
    rows = torch.arange(len(fed), device=device).repeat_interleave(torch.tensor(fed, device=device))
    at = torch.cat([steps[:n] for n in fed])
    hooks.assign([row % treatments for row in part.rows])
    hooks.at(Steps.continued(fed, device))
    with head_at(lm, at, rows):
        logits = (
            lm.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=start[:, None] + steps[None],
                **{lm.cache_name: cache, "use_cache": True},
            )
            .logits[:, 0]
            .float()
        )
    wanted = torch.tensor([token for option in part.tokens for token in option[1:]], device=device)
    logprobs = logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(-1)
    total = torch.zeros(len(fed), dtype=torch.float64, device=device).index_add_(0, rows, logprobs.double())
    hits = (logits.argmax(-1) == wanted).long()
    top = torch.zeros(len(fed), dtype=torch.long, device=device).index_add_(0, rows, hits)
    return list(zip(total.tolist(), top.tolist(), strict=True)), hooks.receipts()


def joined(one: RowReceipt, other: RowReceipt) -> RowReceipt:
    """Receipts of two passes over a row: positions add up, doses are their mean over positions."""
    weights = [one.prompt + one.decode, other.prompt + other.decode]
    if not weights[1] or not weights[0]:
        return one if weights[0] else other
    whole = sum(weights)
    dose, change = (
        None if a is None or b is None else (a * weights[0] + b * weights[1]) / whole
        for a, b in ((one.relative_dose, other.relative_dose), (one.change, other.change))
    )
    sites, prompt, decode = max(one.sites, other.sites), one.prompt + other.prompt, one.decode + other.decode
    return RowReceipt(sites, prompt, decode, dose, change)
