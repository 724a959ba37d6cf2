"""Arms of a dose sweep and the cells (arm x dose x benchmark) that are run for them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from levercheck.benchmarks.counterfactual import RULER, WITH_CONTEXT, ContextItem
from levercheck.benchmarks.prompts import PREFIX
from levercheck.interventions.build import scale_neurons
from levercheck.interventions.controls import layer_matched
from levercheck.interventions.spec import BASELINE as UNHOOKED
from levercheck.interventions.spec import Treatment
from levercheck.lm.batches import token_batches
from levercheck.lm.model import LanguageModel
from levercheck.sweep.engine import Block, Engine

NOOP_DOSE = 1.0
BASELINE = "baseline"
"""Condition of the rows that were measured without any hook; every arm shares them as its no-op dose."""


@dataclass(frozen=True)
class Arm:
    """A set of neurons to scale. `control_seed` numbers the draws of a control condition."""

    condition: str
    neurons: tuple[tuple[int, int], ...]
    control_seed: int | None = None

    @property
    def label(self) -> str:
        """Name for folders and tables."""
        return self.condition if self.control_seed is None else f"{self.condition}-{self.control_seed}"


@dataclass(frozen=True)
class Cell:
    """One arm at one dose on one benchmark: the unit of work, resume and cache."""

    arm: Arm
    alpha: float
    benchmark: str

    @property
    def label(self) -> str:
        """Readable part of the cell's folder name."""
        return f"{self.arm.label}-a{self.alpha:g}-{self.benchmark}"


def random_arms(
    lm: LanguageModel,
    target: Sequence[tuple[int, int]],
    *,
    draws: int,
    seed: int = 0,
    exclude: Iterable[tuple[int, int]] = (),
) -> list[Arm]:
    """Negative controls: `draws` random sets with as many neurons in each layer as the target."""
    sets = layer_matched(target, lm.shape[1], exclude=exclude, draws=draws, seed=seed)
    return [Arm("random", neurons, number) for number, neurons in enumerate(sets)]


def strongest_arm(effects: np.ndarray[Any, Any], size: int) -> Arm:
    """The positive control: the `size` neurons with the largest mean effect in float [items, layers, neurons]."""
    mean = effects.mean(axis=0, dtype=np.float64)
    top = np.argsort(-mean.ravel(), kind="stable")[:size]
    return Arm("gradient", tuple(sorted((int(i // mean.shape[1]), int(i % mean.shape[1])) for i in top)))


def plan_cells(arms: Sequence[Arm], doses: Sequence[float], benchmarks: Sequence[str]) -> list[Cell]:
    """All cells of a sweep: the unhooked baseline and one hooked no-op per benchmark, the arms at every other dose.

    The `noop` condition hooks every neuron of every arm at the no-op dose; its rows must equal the baseline's exactly.
    """
    union = tuple(sorted({neuron for arm in arms for neuron in arm.neurons}))
    cells = [Cell(Arm(BASELINE, ()), NOOP_DOSE, b) for b in benchmarks]
    cells += [Cell(Arm("noop", union), NOOP_DOSE, b) for b in benchmarks]
    for arm in arms:
        for dose in doses:
            if dose != NOOP_DOSE:
                cells += [Cell(arm, dose, b) for b in benchmarks]
    return cells


class CellRunner:
    """Scores batches of items for one cell; the shared prefix is computed once, under the cell's own hooks."""

    def __init__(self, lm: LanguageModel, cell: Cell, items: Sequence[ContextItem]) -> None:
        self.cell, self.items = cell, items
        prompts = [lm.encode(item.prompt(cell.benchmark)) for item in items]
        hooked = cell.arm.neurons
        treatment = Treatment(((scale_neurons(lm, hooked), cell.alpha),)) if hooked else UNHOOKED
        self.engine = Engine(lm, lm.start_ids + lm.encode(PREFIX), prompts, [treatment])
        self.pairs = [(item.asserted_token, item.true_token) for item in items]

    def batches(self) -> list[list[int]]:
        """Item indices in batches of similar prompt length."""
        return token_batches(self.engine.prompts)

    def score(self, batch: Sequence[int]) -> list[dict[str, object]]:
        """SWEEP rows of one batch. A hook that did not fire is an error, raised by the receipt."""
        scored = [row[0] for row in self.engine.score(Block(tuple(batch), (0,)), self.pairs)]
        return [
            {
                "benchmark": self.cell.benchmark,
                "condition": self.cell.arm.condition,
                "control_seed": self.cell.arm.control_seed,
                "alpha": self.cell.alpha,
                "split": "confirm",
                "item_id": self.items[i].item_id,
                "cluster_id": self.items[i].entity,
                "ruler": RULER,
                "positive": _positive(self.cell.benchmark, found.logits[0] - found.logits[1]),
                "value": found.logits[0] - found.logits[1],
                "mass": math.exp(found.logprobs[0]) + math.exp(found.logprobs[1]),
                "relative_dose": found.receipt.relative_dose,
            }
            for i, found in zip(batch, scored, strict=True)
        ]


def _positive(benchmark: str, value: float) -> bool:
    return value > 0 if benchmark == WITH_CONTEXT else value < 0
