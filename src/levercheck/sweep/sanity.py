"""Does a model still write text under a direction? Greedy answers at a few doses, with marks of text that has broken.

A direction that only works where the text falls apart is no lever. The marks are about form alone, and answers that
were broken without any hook are not held against the direction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from levercheck import stats
from levercheck.errors import UsageError
from levercheck.interventions.build import ablate_direction, add_direction
from levercheck.interventions.spec import BASELINE, Treatment
from levercheck.lm.model import LanguageModel
from levercheck.lm.sample import Sampling
from levercheck.stats import Estimate
from levercheck.sweep.engine import Engine
from levercheck.sweep.generate import Generated, generate

PERIOD, REPEATS, LOOP_TOKENS = 16, 3, 12
SIGNS, ALNUM, RUN = 24, 0.25, 8
Vectors = Mapping[int, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Sample:
    """One greedy answer. operator none is the unhooked model."""

    operator: str
    dose: float
    key: str
    text: str
    stop_reason: str
    mean_logprob: float | None
    relative_dose: float | None
    marks: tuple[str, ...]


@dataclass(frozen=True)
class DoseSummary:
    """One dose: how many answers are broken, and how many of those were not without the hook."""

    operator: str
    dose: float
    broken: Estimate
    newly_broken: Estimate
    relative_dose: float | None


def marks(text: str, tokens: Sequence[int], stop_reason: str) -> tuple[str, ...]:
    """What is wrong with the form of an answer: empty, non_finite, loop, not_words, run or scraps.

    loop: the last half or more of at least 12 tokens repeats a unit of up to 16 tokens three times; not_words: under a
    quarter of at least 24 signs are letters or digits; run: one sign 8 times in a row; scraps: at least four lines of
    up to four signs, hardly any of them different.
    """
    found = []
    bare = "".join(text.split())
    if stop_reason == "non_finite":
        found.append("non_finite")
    if not bare:
        found.append("empty")
    if _loops(tokens):
        found.append("loop")
    if len(bare) >= SIGNS:
        if sum(c.isalnum() for c in bare) < ALNUM * len(bare):
            found.append("not_words")
        if re.search(rf"(.)\1{{{RUN - 1},}}", bare):
            found.append("run")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) >= 4 and max(map(len, lines)) <= 4 and len(set(lines)) <= max(2, len(lines) / 4):
        found.append("scraps")
    return tuple(found)


def _loops(tokens: Sequence[int]) -> bool:
    size = len(tokens)
    if size < LOOP_TOKENS:
        return False
    for period in range(1, PERIOD + 1):
        alike = 0
        while alike + period < size and tokens[size - 1 - alike] == tokens[size - 1 - alike - period]:
            alike += 1
        if alike >= (REPEATS - 1) * period and alike + period >= max(LOOP_TOKENS, size / 2):
            return True
    return False


def sanity(
    lm: LanguageModel,
    added: Vectors,
    removed: Vectors,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[str],
    doses: Sequence[float],
    *,
    max_new_tokens: int = 32,
    tick: Callable[[int], None] = lambda rows: None,
) -> list[Sample]:
    """Greedy answers to whole prompts: unhooked, with `added` at relative doses ±, and with `removed` ablated.

    `added` and `removed` are unit directions per layer at `resid.post`; a relative dose is ‖Δ‖/‖h‖ at every position.
    Doses that are not positive are a UsageError.
    """
    if not doses or min(doses) <= 0:
        raise UsageError("doses of the sanity check: expected positive numbers, both signs are run")
    add, ablate = add_direction(lm, added, unit="relative"), ablate_direction(lm, removed)
    signed = sorted([*doses, *(-dose for dose in doses)])
    plan: list[tuple[str, float, Treatment]] = [("none", 0.0, BASELINE)]
    plan += [("add", dose, Treatment(((add, dose),))) for dose in signed]
    plan += [("ablate", 1.0, Treatment(((ablate, 1.0),)))]
    engine = Engine(lm, [], prompts, [treatment for _, _, treatment in plan])
    sampling = Sampling(samples=1, max_new_tokens=max_new_tokens, stop="")
    found: list[Sample] = []
    for block in engine.blocks():
        for prompt, row in zip(block.prompts, generate(engine, block, sampling, list(keys)), strict=True):
            found += [_sample(*plan[at][:2], keys[prompt], one) for at, one in zip(block.treatments, row, strict=True)]
            tick(len(row))
    order = {(operator, dose): at for at, (operator, dose, _) in enumerate(plan)}
    place = {key: at for at, key in enumerate(keys)}
    return sorted(found, key=lambda s: (order[s.operator, s.dose], place[s.key]))


def _sample(operator: str, dose: float, key: str, one: Generated) -> Sample:
    found = marks(one.text, one.tokens, one.stop_reason)
    dosed = one.receipt.relative_dose
    return Sample(operator, dose, key, one.text, one.stop_reason, one.mean_logprob, dosed, found)


def summaries(samples: Sequence[Sample]) -> list[DoseSummary]:
    """Shares of broken answers per operator and dose, in the samples' order, with exact intervals over prompts."""
    before = {s.key: bool(s.marks) for s in samples if s.operator == "none"}
    found = []
    for operator, dose in dict.fromkeys((s.operator, s.dose) for s in samples):
        rows = [s for s in samples if (s.operator, s.dose) == (operator, dose)]
        broken = sum(bool(s.marks) for s in rows)
        fresh = sum(bool(s.marks) and not before[s.key] for s in rows)
        measured = [s.relative_dose for s in rows if s.relative_dose is not None]
        found.append(
            DoseSummary(
                operator,
                dose,
                stats.proportion(broken, len(rows), method="exact"),
                stats.proportion(fresh, len(rows), method="exact"),
                float(np.mean(measured)) if measured else None,
            )
        )
    return found


def corruption_doses(found: Sequence[DoseSummary]) -> dict[str, float | None]:
    """The smallest added dose of each sign at which at least half of the answers are newly broken; None: none was."""
    out: dict[str, float | None] = {}
    for name, sign in (("positive", 1), ("negative", -1)):
        broken = [
            abs(s.dose)
            for s in found
            if s.operator == "add"
            and s.dose * sign > 0
            and s.newly_broken.value is not None
            and s.newly_broken.value >= 0.5
        ]
        out[name] = sign * min(broken) if broken else None
    return out
