"""A probe fitted again: on resampled training items, on drawn labels, without a category, without a component.

Every refit is one batch of a unit, so that a kill loses at most one, and has its own random stream, seeded by
(seed, purpose, draw). All run on the same store at the C that was chosen (halves at twice that) and are scored on the
test items; their rows hold weights and scores, from which everything else is derived without a model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from levercheck.audit.refitted import component_name
from levercheck.detect.probe import Floats, Ints, Items, Training
from levercheck.detect.workspace import Workspace
from levercheck.errors import NotEnoughDataError
from levercheck.evidence import schema
from levercheck.evidence.unit import Row
from levercheck.readouts.sparse_logistic import Fit, NotConvergedError, fit_path, liblinear
from levercheck.readouts.sparse_matrix import Scaling
from levercheck.stats import auroc

CONTROLS = 20
"""Draws of the control task: the smallest p they can show is 1/21."""

MIN_PER_CLASS = 5
"""Test items of each class that a category needs to be left out."""

STREAMS = {"bootstrap": 1, "half": 2, "control": 3}


@dataclass(frozen=True)
class Draw:
    """One refit: what it is for, its number, and the category or component that is left out."""

    purpose: str
    number: int
    held_out: str | None = None


@dataclass(frozen=True)
class Refitter:
    """Carries out draws for one probe.

    `categories` and `answers` belong to the items of each role, in their order; `heaviest` is the (layer, index) that
    the draw `without` leaves out.
    """

    training: Training
    train: Items
    test: Items
    train_categories: tuple[str | None, ...]
    test_categories: tuple[str | None, ...]
    train_answers: tuple[str, ...]
    test_answers: tuple[str, ...]
    c: float
    seed: int
    heaviest: tuple[int, int] | None

    def draws(self, refits: int) -> list[Draw]:
        """All refits: `refits` bootstraps, a fifth as many pairs of complementary halves, and the fixed ones."""
        plan = [Draw("bootstrap", k) for k in range(refits)]
        plan += [Draw("half", k) for k in range(2 * (refits // 5))]
        plan += [Draw("control", k) for k in range(CONTROLS)]
        names = sorted({c for c in self.test_categories if c is not None and self._judgeable(c)})
        plan += [Draw("category", k, name) for k, name in enumerate(names)]
        if self.heaviest is not None:
            plan.append(Draw("without", 0, component_name(*self.heaviest)))
        return plan

    def rows(self, draw: Draw) -> list[Row]:
        """REFITS rows of one draw; a draw that leaves no fit (one class only, not converged) is one row "failed"."""
        plan: _Plan = getattr(self, f"_{draw.purpose}")(draw)
        c = self.c * (2 if draw.purpose == "half" else 1)
        head = {"purpose": draw.purpose, "draw": draw.number, "c": c, "held_out": draw.held_out}
        try:
            fit, scaling = plan.fit(self.training, c)
        except (NotEnoughDataError, NotConvergedError):
            return [{**head, "metric": "failed", "value": 1.0}]
        neurons = self.training.store.array.shape[3]
        rows: list[Row] = [{**head, "metric": "intercept", "value": float(fit.intercept)}]
        for at in np.flatnonzero(fit.coefficients):
            place = {"layer": int(at // neurons), "index": int(at % neurons)}
            rows.append({**head, "metric": "weight", **place, "value": float(fit.coefficients[at])})
        scores = self.training.scores(fit, scaling, self.test.positions[plan.judged])
        ids = [self.test.ids[i] for i in plan.judged]
        rows += _values(head, "score", ids, scores)
        if plan.labels is not None:
            rows += _values(head, "label", ids, plan.labels)
            fitted = self.training.scores(fit, scaling, self.train.positions)
            rows.append({**head, "metric": "train_auroc", "value": auroc(fitted, plan.wrong).value})
        return rows

    @cached_property
    def _members(self) -> list[Ints]:
        """Training items of each group, groups in the order of their names."""
        names, code = np.unique(self.train.groups.astype(str), return_inverse=True)
        return [np.flatnonzero(code == k) for k in range(len(names))]

    @property
    def _all(self) -> Ints:
        return np.arange(len(self.test.ids))

    def _rng(self, draw: Draw, number: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, STREAMS[draw.purpose], number])

    def _judgeable(self, category: str) -> bool:
        """Whether test items of a category have both classes, and training items are left without it."""
        here = np.array([c == category for c in self.test_categories])
        wrong = int(self.test.wrong[here].sum())
        rest = np.array([c != category for c in self.train_categories])
        return min(wrong, int(here.sum()) - wrong) >= MIN_PER_CLASS and bool(rest.any())

    def _subset(self, chosen: Ints, judged: Ints | None = None) -> _Plan:
        return _Plan(self.train.positions[chosen], self.train.wrong[chosen], self._all if judged is None else judged)

    def _bootstrap(self, draw: Draw) -> _Plan:
        """As many groups as there are, with replacement; items of a group drawn twice count twice."""
        count = len(self._members)
        picked = self._rng(draw, draw.number).integers(0, count, count)
        return self._subset(np.concatenate([self._members[k] for k in picked]))

    def _half(self, draw: Draw) -> _Plan:
        """Half of the groups; draws 2k and 2k + 1 are complementary (Shah and Samworth 2013). C doubles, so that the
        penalty per item stays.
        """
        order = self._rng(draw, draw.number // 2).permutation(len(self._members))
        half = np.array_split(order, 2)[draw.number % 2]
        return self._subset(np.sort(np.concatenate([self._members[k] for k in half])))

    def _control(self, draw: Draw) -> _Plan:
        """Every distinct answer string is wrong with the observed share, whatever it answers (Hewitt and Liang)."""
        names = sorted({*self.train_answers, *self.test_answers})
        wrong = self._rng(draw, draw.number).random(len(names)) < self.train.wrong.mean()
        label = dict(zip(names, wrong.tolist(), strict=True))
        drawn = np.array([label[a] for a in self.train_answers], dtype=np.bool_)
        return _Plan(
            self.train.positions,
            drawn,
            self._all,
            labels=np.array([label[a] for a in self.test_answers], dtype=np.float64),
        )

    def _category(self, draw: Draw) -> _Plan:
        rest = np.flatnonzero([c != draw.held_out for c in self.train_categories])
        return self._subset(rest, np.flatnonzero([c == draw.held_out for c in self.test_categories]))

    def _without(self, draw: Draw) -> _Plan:
        assert self.heaviest is not None
        layer, index = self.heaviest
        everything = self._subset(np.arange(len(self.train.ids)))
        return replace(everything, excluded=layer * self.training.store.array.shape[3] + index)


@dataclass(frozen=True)
class _Plan:
    """Store rows and labels to fit on (repeats allowed), test items to score, and what else a draw needs."""

    positions: Ints
    wrong: np.ndarray[tuple[int], np.dtype[np.bool_]]
    judged: Ints
    labels: Floats | None = None  # of the judged items, in a control task
    excluded: int | None = None  # column without influence

    def fit(self, training: Training, c: float) -> tuple[Fit, Scaling | None]:
        if self.excluded is None:
            return training.fit(self.positions, self.wrong, [c])[0]
        return _fit_without(training, self.positions, self.wrong, c, self.excluded)


def _fit_without(
    training: Training, positions: Ints, wrong: np.ndarray[tuple[int], np.dtype[np.bool_]], c: float, column: int
) -> tuple[Fit, Scaling]:
    """Fit with one column held at zero: divided by an infinite deviation, so that nothing is copied."""
    rows, labels = training.rows(positions, wrong)
    width = training.matrix.shape[1]
    own = Scaling.of(training.matrix, rows) if training.spec.scale else Scaling(np.zeros(width), np.ones(width))
    deviation = own.deviation.copy()
    deviation[column] = np.inf
    scaling = Scaling(own.mean, deviation)
    if training.spec.solver == "liblinear":
        return liblinear(scaling(training.matrix[rows].astype(np.float64)), labels[rows], c), scaling
    fit = fit_path(training.matrix, labels, [c], rows=rows, scaling=scaling, intercept=training.spec.intercept)[0]
    return fit, scaling


def _values(head: Row, metric: str, ids: list[str], values: Floats) -> list[Row]:
    return [{**head, "metric": metric, "item_id": i, "value": float(v)} for i, v in zip(ids, values, strict=True)]


def refit(ws: Workspace, name: str, refitter: Refitter, refits: int) -> pl.DataFrame:
    """REFITS rows of a probe, computed or continued under `probes/<name>/refits`."""
    folder = f"probes/{name}"
    draws = refitter.draws(refits)
    return ws.compute(
        f"{folder}/refits",
        {"refits": refits, "controls": CONTROLS, "min_per_class": MIN_PER_CLASS, "seed": refitter.seed},
        ["split", "capture", folder, f"{folder}/path"],
        schema.REFITS,
        ["purpose", "draw", "metric", "item_id", "layer", "index"],
        title=f"refit probe {name}",
        batches=draws,
        rows=len(draws) * (len(refitter.test.ids) + 1),
        work=refitter.rows,
    )
