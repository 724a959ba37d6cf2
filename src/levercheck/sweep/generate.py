"""Generation for many treatments at once; every row stops at its own end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from levercheck.interventions.receipts import RowReceipt
from levercheck.interventions.steps import Steps
from levercheck.lm import kv
from levercheck.lm.sample import Sampling, invert, stop_test, truncated, uniforms
from levercheck.sweep.engine import Block, Engine

StopReason = Literal["end", "stop", "length", "non_finite"]
SHRINK = 0.75
"""Finished rows leave the batch once no more than this share of it is still running: each leaving copies the cache."""


@dataclass(frozen=True)
class Generated:
    """One row's answer. Log-probabilities are natural, of the untruncated T = 1 distribution."""

    tokens: tuple[int, ...]
    text: str
    stop_reason: StopReason  # end: an end token; stop: the stop string; length: the cap; non_finite: broken logits
    mean_logprob: float | None  # over the answer's tokens, or of the stop token alone; None: nothing was finite
    receipt: RowReceipt


@dataclass
class _Row:
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    reason: StopReason | None = None


def generate(
    engine: Engine, block: Block, sampling: Sampling, keys: Sequence[str], *, greedy: bool = True, seed: int = 0
) -> list[list[Generated]]:
    """Answers of a block, [prompts of the block][treatments of the block].

    Greedy, or sampled with draws that depend on the prompt's key in `keys` and the seed only: all treatments of a
    prompt share them (common random numbers). `sampling.samples` must be 1. Logits that are not finite end the row and
    mark it.
    """
    return engine.resilient(block, lambda part: _generate(engine, part, sampling, keys, greedy, seed))


@torch.inference_mode()
def _generate(
    engine: Engine, block: Block, sampling: Sampling, keys: Sequence[str], greedy: bool, seed: int
) -> list[list[Generated]]:
    lm = engine.lm
    count = len(block.treatments)
    rows = [_Row() for _ in range(len(block.prompts) * count)]
    draws = None if greedy else [uniforms(seed, keys[i], sampling)[0] for i in block.prompts]
    is_stop = stop_test(lm, sampling.stop)
    with engine.hooks(block.treatments) as hooks:
        state = engine.prefill(hooks, block, use_cache=True)
        logits, alive = state.logits, list(range(len(rows)))
        for number in range(sampling.max_new_tokens):
            finite = torch.isfinite(logits.logsumexp(-1)).tolist()
            column = None if draws is None else [draws[row // count][number] for row in alive]
            chosen, logprobs = _choose(logits, column, sampling)
            for row, token, logprob, good in zip(alive, chosen, logprobs, finite, strict=True):
                _advance(rows[row], token, logprob, good, is_stop(token), token in lm.end_ids)
            running = [at for at, row in enumerate(alive) if rows[row].reason is None]
            if not running or number == sampling.max_new_tokens - 1:
                break
            if len(running) <= SHRINK * len(alive):
                kept = torch.tensor(running, device=lm.device)
                kv.keep_rows(state.cache, kept)
                hooks.keep(kept)
                alive, chosen = [alive[at] for at in running], [chosen[at] for at in running]
                state.gaps = [state.gaps[at] for at in running]
            elif len(running) < len(alive):
                hooks.count(running)
            hooks.at(Steps.generated(number + 2))
            positions = [state.lengths[row] + number for row in alive]
            tokens = torch.tensor(chosen, device=lm.device)[:, None]
            logits = engine.step(tokens, state.cache, state.gaps, positions)
        receipts = hooks.receipts()
    made = [_generated(engine, row, receipt) for row, receipt in zip(rows, receipts, strict=True)]
    return [made[i * count : (i + 1) * count] for i in range(len(block.prompts))]


def _choose(logits: torch.Tensor, draws: Sequence[float] | None, sampling: Sampling) -> tuple[list[int], list[float]]:
    """The next token of every row and its log-probability."""
    if draws is None:
        best = logits.argmax(-1)
        logprob = logits.gather(1, best[:, None])[:, 0] - logits.logsumexp(-1)
        return best.tolist(), logprob.double().tolist()
    cumulative, ids, logprobs = truncated(torch.nan_to_num(logits), sampling)
    ranks = [invert(row, draw) for row, draw in zip(cumulative, draws, strict=True)]
    return [int(ids[r, k]) for r, k in enumerate(ranks)], [float(logprobs[r, k]) for r, k in enumerate(ranks)]


def _advance(row: _Row, token: int, logprob: float, finite: bool, stops: bool, ends: bool) -> None:
    if row.reason is not None:
        return
    if not finite:
        row.reason = "non_finite"
        return
    row.logprobs.append(logprob)
    if stops:
        row.reason = "end" if ends else "stop"
    else:
        row.tokens.append(token)


def _generated(engine: Engine, row: _Row, receipt: RowReceipt) -> Generated:
    used = row.logprobs[: max(len(row.tokens), 1)]
    text = engine.lm.decode(row.tokens)
    mean = sum(used) / len(used) if used else None
    return Generated(tuple(row.tokens), text, row.reason or "length", mean, receipt)
