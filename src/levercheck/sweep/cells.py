"""Rows of a cell: arms of one lever on the items of one benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from levercheck.benchmarks.base import Benchmark, Item, instructed
from levercheck.errors import UsageError
from levercheck.evidence.unit import Row
from levercheck.interventions.receipts import RowReceipt
from levercheck.interventions.spec import BASELINE, Treatment
from levercheck.lm.model import LanguageModel
from levercheck.lm.sample import Sampling
from levercheck.sweep.engine import Block, Engine
from levercheck.sweep.generate import generate

BASE = "baseline"
"""Lever of the rows that were measured without any hook; every arm shares them as its no-op dose."""
NOOP = "noop"
"""Lever of the rows under every lever at once, each at its no-op dose: they must equal the baseline's."""


@dataclass(frozen=True)
class LeverArm:
    """One lever, or one draw of its control, at one dose."""

    lever: str
    control: str | None = None
    draw: int | None = None
    dose: float | None = None
    effort: float | None = None
    treatment: Treatment = BASELINE
    instruction: str | None = None

    @property
    def condition(self) -> str:
        """Readable name of the lever or its control."""
        return self.lever if self.control is None else f"{self.lever}.{self.control}"


def cell_work(
    lm: LanguageModel, benchmark: Benchmark, items: Sequence[Item], arms: Sequence[LeverArm], role: str, seed: int
) -> tuple[Engine, Callable[[Block], list[Row]]]:
    """The engine of a cell and the function that makes the rows of one of its blocks. Arms share one instruction."""
    instructions = {arm.instruction for arm in arms}
    if len(instructions) != 1:
        raise ValueError("arms of a cell must share their instruction: their prompts differ otherwise")
    prompts = [lm.encode(instructed(item, arms[0].instruction)) for item in items]
    prefix = lm.start_ids + lm.encode(benchmark.prefix)
    reference = all(arm.lever in (BASE, NOOP) for arm in arms)  # which must run the very same arithmetic
    engine = Engine(lm, prefix, prompts, [arm.treatment for arm in arms], share_prompt=not reference)
    tokens = [item.tokens for item in items]
    sampling = Sampling(samples=1, max_new_tokens=benchmark.max_new_tokens, stop=benchmark.stop)
    keys = [item.id for item in items]

    def common(prompt: int, treatment: int, receipt: RowReceipt) -> Row:
        item, arm = items[prompt], arms[treatment]
        return {
            "benchmark": benchmark.id,
            "lever": arm.lever,
            "control": arm.control,
            "draw": arm.draw,
            "dose": arm.dose,
            "effort": arm.effort,
            "role": role,
            "item_id": item.id,
            "cluster_id": item.cluster,
            "ruler": benchmark.ruler,
            "relative_dose": _number(receipt.relative_dose),
            "change": _number(receipt.change),
            "sites": receipt.sites,
            "prompt_positions": receipt.prompt,
            "decode_positions": receipt.decode,
        }

    def choices(block: Block) -> list[Row]:
        rows = []
        for prompt, scored in zip(block.prompts, engine.score(block, tokens), strict=True):
            for treatment, found in zip(block.treatments, scored, strict=True):
                gap = found.logits[0] - max(found.logits[1:]) if found.finite else None
                outcome: dict[str, Any] = {
                    "positive": None if gap is None else gap > 0,
                    "value": gap,
                    "mass": sum(map(math.exp, found.logprobs)) if found.finite else None,
                    "degenerate": not found.finite,
                }
                rows.append({**common(prompt, treatment, found.receipt), **outcome})
        return rows

    def answers(block: Block) -> list[Row]:
        rows = []
        for prompt, made in zip(block.prompts, generate(engine, block, sampling, keys, seed=seed), strict=True):
            for treatment, found in zip(block.treatments, made, strict=True):
                broken = found.stop_reason == "non_finite"
                assert benchmark.judge is not None
                outcome: dict[str, Any] = {
                    "positive": None if broken else benchmark.judge(items[prompt], found.text),
                    "text": found.text,
                    "stop_reason": found.stop_reason,
                    "tokens": len(found.tokens),
                    "mean_logprob": found.mean_logprob,
                    "degenerate": broken,
                }
                rows.append({**common(prompt, treatment, found.receipt), **outcome})
        return rows

    if benchmark.kind == "answer" and benchmark.judge is None:
        raise UsageError(f"benchmark '{benchmark.id}' generates answers but has no judge: ask its authors")
    return engine, choices if benchmark.kind == "choice" else answers


def _number(value: float | None) -> float | None:
    """Numbers of a row that broke are missing, not NaN."""
    return value if value is not None and math.isfinite(value) else None
