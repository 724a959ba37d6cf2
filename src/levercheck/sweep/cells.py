"""Rows of a cell: arms of one lever on the items of one benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from levercheck.benchmarks.base import Benchmark, Item, Scored
from levercheck.benchmarks.outcomes import Label, Outcome, Response, scored
from levercheck.benchmarks.scorers.refusal import read_stance
from levercheck.errors import UsageError
from levercheck.evidence.unit import Row
from levercheck.interventions.receipts import RowReceipt
from levercheck.interventions.spec import BASELINE, Treatment
from levercheck.lm.model import LanguageModel
from levercheck.lm.sample import Sampling
from levercheck.sweep.engine import Block, Engine
from levercheck.sweep.generate import Generated, generate
from levercheck.sweep.options import joined, score_options
from levercheck.sweep.prompting import continuation, encoded, second_turns

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


@dataclass(frozen=True)
class Cell:
    """What a cell asks: arms, which share one instruction, on items in one role."""

    lm: LanguageModel
    benchmark: Benchmark
    items: Sequence[Item]
    arms: Sequence[LeverArm]
    role: str
    seed: int

    @property
    def instruction(self) -> str | None:
        """What every prompt of the cell opens with."""
        return self.arms[0].instruction

    def row(self, prompt: int, treatment: int, receipt: RowReceipt, found: Outcome, **more: Any) -> Row:
        """One row: what was asked, what was done, and what came of it."""
        item, arm, binary = self.items[prompt], self.arms[treatment], self.benchmark.binary
        return {
            "benchmark": self.benchmark.id,
            "lever": arm.lever,
            "control": arm.control,
            "draw": arm.draw,
            "dose": arm.dose,
            "effort": arm.effort,
            "role": self.role,
            "item_id": item.id,
            "cluster_id": item.cluster,
            "ruler": self.benchmark.ruler,
            "style": self.benchmark.style_name,
            "stratum": item.facts.get("template", item.facts.get("category", item.facts.get("stratum"))),
            "relative_dose": _number(receipt.relative_dose),
            "change": _number(receipt.change),
            "sites": receipt.sites,
            "prompt_positions": receipt.prompt,
            "decode_positions": receipt.decode,
            "outcome": found.label,
            "score": found.score,
            "positive": found.score > 0.5 if binary and found.score is not None else None,
            "value": found.value,
            "chosen": found.chosen,
            "how": found.how,
            "degenerate": found.label == "broken",
            **more,
        }


def cell_work(
    lm: LanguageModel, benchmark: Benchmark, items: Sequence[Item], arms: Sequence[LeverArm], role: str, seed: int
) -> tuple[Engine, Callable[[Block], list[Row]]]:
    """The engine of a cell and the function that makes the rows of one of its blocks. Arms share one instruction."""
    if len({arm.instruction for arm in arms}) != 1:
        raise ValueError("arms of a cell must share their instruction: their prompts differ otherwise")
    cell = Cell(lm, benchmark, items, arms, role, seed)
    prefix, prompts = encoded(lm, benchmark, items, cell.instruction)
    reference = all(arm.lever in (BASE, NOOP) for arm in arms)  # which must run the very same arithmetic
    engine = Engine(lm, prefix, prompts, [arm.treatment for arm in arms], share_prompt=not reference)
    return engine, {"choice": _choices, "options": _options, "answer": _answers}[benchmark.kind](cell, engine)


def _choices(cell: Cell, engine: Engine) -> Callable[[Block], list[Row]]:
    tokens = [item.tokens for item in cell.items]

    def rows(block: Block) -> list[Row]:
        made = []
        for prompt, row in zip(block.prompts, engine.score(block, tokens), strict=True):
            for treatment, found in zip(block.treatments, row, strict=True):
                if not found.finite:
                    made.append(cell.row(prompt, treatment, found.receipt, Outcome("broken")))
                    continue
                gap = found.logits[0] - max(found.logits[1:])
                label: Label = "right" if gap > 0 else "wrong"
                if cell.benchmark.better == "lower":
                    label = "followed" if gap > 0 else "resisted"
                outcome = Outcome(label, float(gap > 0), value=gap)
                mass = sum(map(math.exp, found.logprobs))
                made.append(cell.row(prompt, treatment, found.receipt, outcome, mass=mass))
        return made

    return rows


def _options(cell: Cell, engine: Engine) -> Callable[[Block], list[Row]]:
    decide, style = cell.benchmark.decide, cell.benchmark.style
    if decide is None:
        raise UsageError(f"benchmark '{cell.benchmark.id}' scores options but decides nothing: ask its authors")
    options = [[continuation(cell.lm, style, text) for text in item.candidates] for item in cell.items]

    def rows(block: Block) -> list[Row]:
        made = []
        for prompt, row in zip(block.prompts, score_options(engine, block, options), strict=True):
            for treatment, found in zip(block.treatments, row, strict=True):
                finite = all(option.finite for option in found.options)
                totals = [Scored(option.logprob, option.tokens, option.top) for option in found.options]
                outcome = decide(cell.items[prompt], totals) if finite else Outcome("broken")
                logprobs = [option.logprob for option in totals] if finite else None
                made.append(cell.row(prompt, treatment, found.receipt, outcome, option_logprobs=logprobs))
        return made

    return rows


def _answers(cell: Cell, engine: Engine) -> Callable[[Block], list[Row]]:
    score, policy = cell.benchmark.score, cell.benchmark.policy
    if score is None:
        raise UsageError(f"benchmark '{cell.benchmark.id}' generates answers but scores none: ask its authors")
    sampling = Sampling(1, policy.temperature, policy.top_k, policy.top_p, policy.max_new_tokens, policy.stop)
    keys = [item.id for item in cell.items]

    def rows(block: Block) -> list[Row]:
        table = generate(engine, block, sampling, keys, greedy=policy.greedy, seed=cell.seed)
        firsts: list[list[Generated]] | None = None
        if cell.benchmark.style.then is not None:
            firsts, table = table, _again(cell, block, table, sampling)
        made = []
        for at, prompt in enumerate(block.prompts):
            for number, treatment in enumerate(block.treatments):
                found = table[at][number]
                first = None if firsts is None else firsts[at][number]
                told = (None, None) if first is None else (first.text, first.stop_reason)
                response = Response(found.text, found.stop_reason, len(found.tokens), *told)
                outcome, shape = scored(cell.items[prompt], response, score)
                stance = read_stance(found.text)
                made.append(
                    cell.row(
                        prompt, treatment, found.receipt, outcome, text=found.text, first=told[0],
                        first_stop_reason=told[1],
                        stop_reason=found.stop_reason, tokens=len(found.tokens), mean_logprob=found.mean_logprob,
                        words=shape.words, disclaimer_words=stance.disclaimer_words, refused=stance.refused,
                        hedged=stance.hedged,
                    )
                )  # fmt: skip
        return made

    return rows


def _again(
    cell: Cell, block: Block, firsts: Sequence[Sequence[Generated]], sampling: Sampling
) -> list[list[Generated]]:
    """Responses to the second turn under the same treatments; receipts cover both turns. Broken rows stay as they are.

    Every treatment has prompts of its own, because they hold its own first answers.
    """
    made = [list(row) for row in firsts]
    for number, treatment in enumerate(block.treatments):
        whole = [at for at, row in enumerate(firsts) if row[number].stop_reason != "non_finite"]
        if not whole:
            continue
        items = [cell.items[block.prompts[at]] for at in whole]
        answers = [firsts[at][number].text for at in whole]
        prefix, prompts = second_turns(cell.lm, cell.benchmark, items, cell.instruction, answers)
        arm = cell.arms[treatment]
        engine = Engine(cell.lm, prefix, prompts, [arm.treatment], share_prompt=arm.lever not in (BASE, NOOP))
        keys = [f"{item.id}\x00again" for item in items]
        for part in engine.blocks():
            found = generate(engine, part, sampling, keys, greedy=cell.benchmark.policy.greedy, seed=cell.seed)
            for prompt, (second,) in zip(part.prompts, found, strict=True):
                receipt = joined(firsts[whole[prompt]][number].receipt, second.receipt)
                made[whole[prompt]][number] = replace(second, receipt=receipt)
    return made


def _number(value: float | None) -> float | None:
    """Numbers of a row that broke are missing, not NaN."""
    return value if value is not None and math.isfinite(value) else None
