"""Greedy answers of one prompt under several treatments at once, seen while they grow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from levercheck.interventions.hooks import Hooks
from levercheck.interventions.receipts import RowReceipt
from levercheck.interventions.spec import Treatment
from levercheck.interventions.steps import Steps
from levercheck.lm import kv
from levercheck.lm.model import LanguageModel
from levercheck.sweep.engine import Block, Engine
from levercheck.sweep.generate import StopReason


@dataclass(frozen=True)
class Growing:
    """One treatment's answer so far; `reason` is None while it grows, `receipt` of what was done until now."""

    tokens: tuple[int, ...]
    text: str
    reason: StopReason | None
    receipt: RowReceipt | None


@torch.inference_mode()
def stream(
    lm: LanguageModel, prompt: Sequence[int], treatments: Sequence[Treatment], max_new_tokens: int
) -> Iterator[tuple[Growing, ...]]:
    """After every token the answers of all treatments, in one batch; the last one yielded has every reason and receipt.

    Leaving the loop early stops the generation. Logits that are not finite end their row.
    """
    engine = Engine(lm, [], [prompt], treatments)
    rows: list[list[int]] = [[] for _ in treatments]
    reasons: list[StopReason | None] = [None] * len(rows)
    with Hooks(lm, list(treatments)) as hooks:
        state = engine.prefill(hooks, Block((0,), tuple(range(len(rows)))), use_cache=True)
        logits, gaps, alive = state.logits, state.gaps, list(range(len(rows)))
        for number in range(max_new_tokens):
            finite = torch.isfinite(logits.logsumexp(-1)).tolist()
            chosen = torch.nan_to_num(logits).argmax(-1).tolist()
            for row, token, good in zip(alive, chosen, finite, strict=True):
                if not good:
                    reasons[row] = "non_finite"
                elif token in lm.end_ids:
                    reasons[row] = "end"
                else:
                    rows[row].append(token)
                    reasons[row] = "length" if number == max_new_tokens - 1 else None
            running = [at for at, row in enumerate(alive) if reasons[row] is None]
            if not running:
                break
            yield _grown(lm, rows, reasons, [None] * len(rows))
            if len(running) < len(alive):  # a row that ended is edited no more
                kept = torch.tensor(running, device=lm.device)
                kv.keep_rows(state.cache, kept)
                hooks.keep(kept)
                alive, gaps = [alive[at] for at in running], [gaps[at] for at in running]
            tokens = torch.tensor([[chosen[at]] for at in running], device=lm.device)
            hooks.at(Steps.generated(number + 2))
            logits = engine.step(tokens, state.cache, gaps, [state.lengths[row] + number for row in alive])
        yield _grown(lm, rows, reasons, hooks.receipts())


def _grown(
    lm: LanguageModel,
    rows: Sequence[Sequence[int]],
    reasons: Sequence[StopReason | None],
    receipts: Sequence[RowReceipt | None],
) -> tuple[Growing, ...]:
    return tuple(
        Growing(tuple(tokens), _whole(lm.decode(tokens), reason), reason, receipt)
        for tokens, reason, receipt in zip(rows, reasons, receipts, strict=True)
    )


def _whole(text: str, reason: StopReason | None) -> str:
    """Without the stand-in for a character whose bytes are still to come."""
    return text if reason is not None else text.rstrip("�")
