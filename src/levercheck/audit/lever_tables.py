"""Rows of a study's levers as tables: one column of outcomes per arm over the same items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from levercheck.errors import IntegrityError

BASELINE, NOOP = "baseline", "noop"
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Arm:
    """One arm on one benchmark; outcomes are NaN where there is none (a degenerate row, no verdict)."""

    lever: str
    control: str | None
    draw: int | None
    dose: float | None
    effort: float | None
    positive: Floats  # the score, 0 to 1, or NaN, in the order of the surface's items
    value: Floats
    mass: Floats
    relative_dose: Floats
    degenerate: int
    edited: bool  # every row has a receipt of at least one edited position

    @property
    def strength(self) -> tuple[float, float]:
        """How far the arm goes: the size of its effort, or else of what was measured at its sites; then the dose.

        The size of a dose says little: a neuron scaled by 0.5 is turned less than one scaled by 0. Sizes that agree to
        three digits are equal, so that two doses on either side of the no-op dose are ordered by their value.
        """
        kind, at = self.step
        if kind == "effort":
            return abs(at or 0.0), at or 0.0
        known = self.relative_dose[np.isfinite(self.relative_dose)]
        return (float(f"{known.mean():.2e}") if len(known) else 0.0), at or 0.0

    @property
    def step(self) -> tuple[str, float | None]:
        """Which point of the lever's curve this is: an effort, a dose, or an instruction that is there."""
        if self.effort is not None:
            return "effort", self.effort
        return ("dose", self.dose) if self.dose is not None else ("instruction", None)


@dataclass(frozen=True)
class Surface:
    """All arms on one benchmark. `binary`: scores are 0 or 1; `better` says which way its metric is good."""

    benchmark: str
    items: tuple[str, ...]
    clusters: np.ndarray[Any, Any] = field(repr=False)
    arms: tuple[Arm, ...] = field(repr=False)
    binary: bool = True
    better: str | None = None
    value_unit: str = "logit"

    @cached_property
    def baseline(self) -> Arm:
        """The unhooked arm."""
        return self._only(BASELINE)

    @cached_property
    def noop(self) -> Arm | None:
        """The arm with every hook at its no-op dose."""
        return next((arm for arm in self.arms if arm.lever == NOOP), None)

    @property
    def levers(self) -> list[str]:
        """Names of the levers, in the order they were declared."""
        return list(dict.fromkeys(a.lever for a in self.arms if a.lever not in (BASELINE, NOOP)))

    def targets(self, lever: str) -> list[Arm]:
        """The lever's own arms, weakest first."""
        own = [a for a in self.arms if a.lever == lever and a.control is None]
        return sorted(own, key=lambda a: a.strength)

    def draws(self, lever: str, control: str, step: tuple[str, float | None]) -> list[Arm]:
        """The control's arms at one point of the curve, by draw."""
        found = [a for a in self.arms if a.lever == lever and a.control == control and a.step == step]
        return sorted(found, key=lambda a: a.draw or 0)

    def controls(self, lever: str) -> list[str]:
        """Names of the lever's controls."""
        return list(dict.fromkeys(a.control for a in self.arms if a.lever == lever and a.control is not None))

    def _only(self, lever: str) -> Arm:
        found = [a for a in self.arms if a.lever == lever]
        if len(found) != 1:
            raise IntegrityError(
                f"benchmark {self.benchmark} has {len(found)} {lever} arms, expected one: run it again"
            )
        return found[0]


def surfaces(
    rows: pl.DataFrame, order: Sequence[str], meanings: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Surface]:
    """One table per benchmark from LEVERS rows; arms that do not cover the same items are an IntegrityError.

    `meanings` says, per benchmark, whether its scores are `binary` and which way they are `better`.
    """
    found = []
    for benchmark in order:
        own = rows.filter(pl.col("benchmark") == benchmark)
        plain = own.filter(pl.col("lever") == BASELINE).sort("item_id")
        items = tuple(plain["item_id"].to_list())
        arms = []
        keys = ["lever", "control", "draw", "dose", "effort"]
        for key, group in own.group_by(keys, maintain_order=True):
            table = group.sort("item_id")
            if tuple(table["item_id"].to_list()) != items:
                raise IntegrityError(f"{benchmark}: the rows of {key[0]} are of other items than the baseline's")
            arms.append(_arm(key, table))
        meaning = (meanings or {}).get(benchmark, {})
        kind = bool(meaning.get("binary", True)), meaning.get("better"), str(meaning.get("value_unit", "logit"))
        found.append(Surface(benchmark, items, plain["cluster_id"].to_numpy(), tuple(arms), *kind))
    return found


def _arm(key: tuple[Any, ...], table: pl.DataFrame) -> Arm:
    lever, control, draw, dose, effort = key
    numbers = {
        name: table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64)
        for name in ("positive", "value", "mass", "relative_dose")
    }
    scores = table["score"].cast(pl.Float64)
    if scores.is_not_null().any():
        numbers["positive"] = scores.fill_null(float("nan")).to_numpy().astype(np.float64)
    edited = bool(((table["prompt_positions"] + table["decode_positions"]) > 0).all())
    degenerate = int(table["degenerate"].fill_null(False).sum())
    return Arm(lever, control, draw, dose, effort, **numbers, degenerate=degenerate, edited=edited)
