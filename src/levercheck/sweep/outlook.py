"""What a run is about to cost and can show, said before its first row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from levercheck.interventions.controls import attainability
from levercheck.study.spec import StudySpec
from levercheck.sweep.cells import LeverArm
from levercheck.sweep.prompting import continuation
from levercheck.sweep.study import StudyRun


@dataclass(frozen=True)
class Outlook:
    """Rows, prompts x treatments per benchmark, tokens of the forward passes at most, and what controls can show."""

    rows: int
    tokens: int
    benchmarks: tuple[tuple[str, int, int], ...]  # (benchmark, prompts, treatments)
    controls: tuple[tuple[str, str], ...]  # (control, what its draws can show)

    @property
    def lines(self) -> list[str]:
        """For a person."""
        shown = ", ".join(f"{name} {prompts} x {treatments}" for name, prompts, treatments in self.benchmarks)
        found = [f"{self.rows} rows (prompts x treatments: {shown}), at most {self.tokens:,} forward tokens"]
        return found + [f"control {name}: {sentence}" for name, sentence in self.controls]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        listed = {name: {"prompts": a, "treatments": b} for name, a, b in self.benchmarks}
        return {"rows": self.rows, "tokens": self.tokens, "benchmarks": listed, "controls": dict(self.controls)}


def outlook(run: StudyRun, arms: Sequence[LeverArm], role: str, benchmarks: Iterable[str]) -> Outlook:
    """What `arms` on the items of a role amount to. Nothing that is shared between treatments is taken off."""
    rows = tokens = 0
    told = []
    for name in benchmarks:
        benchmark, items = run.benchmark(name), run.items(name, role)
        lengths = {}
        for instruction in {arm.instruction for arm in arms}:
            prefix, prompts = run.encoded(name, items, instruction)
            lengths[instruction] = sum(len(prefix) + len(prompt) for prompt in prompts)
        count = len(items) * len(arms)
        written = 0
        if benchmark.kind == "answer":
            written = count * (benchmark.policy.max_new_tokens - 1)
        elif benchmark.kind == "options":
            texts = [text for item in items for text in item.candidates]
            written = len(arms) * sum(len(continuation(run.lm, benchmark.style, text)) for text in texts)
        rows, tokens = rows + count, tokens + sum(lengths[arm.instruction] for arm in arms) + written
        told.append((name, len(items), len(arms)))
    return Outlook(rows, tokens, tuple(told), controls_can_show(run.spec))


def controls_can_show(spec: StudySpec) -> tuple[tuple[str, str], ...]:
    """What the declared draws of every control can show at best."""
    return tuple((name, attainability(control.draws).sentence) for name, control in spec.controls.items())
