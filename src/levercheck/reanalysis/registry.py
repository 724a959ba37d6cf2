"""The estimators an analysis file can name. A plug-in adds its own with the same decorator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from levercheck.errors import UsageError
from levercheck.evidence.documents import Model, validated
from levercheck.reanalysis.selection import Floats, Labels, Selection
from levercheck.registry import Registry
from levercheck.stats import Estimate, bootstrap_means, percentile_bounds
from levercheck.stats.resampling import draws

Parts = dict[str, Estimate]
Function = Callable[[Selection, Any], Parts]


class NoParameters(Model):
    """An estimator without parameters."""


@dataclass(frozen=True)
class Entry:
    """A registered estimator: its function makes named parts; the first is the one reported by default."""

    name: str
    function: Function
    parameters: type[Model]


ESTIMATORS: Registry[Entry] = Registry("estimator", "levercheck.estimators")


def estimator(name: str, parameters: type[Model] = NoParameters) -> Callable[[Function], Function]:
    """Register a function under the name that analysis files use."""

    def register(function: Function) -> Function:
        ESTIMATORS.register(name)(Entry(name, function, parameters))
        return function

    return register


def names() -> list[str]:
    """Every registered estimator."""
    return ESTIMATORS.names()


def find(name: str, where: str) -> Entry:
    """The estimator `name`, or a UsageError with the nearest word."""
    try:
        return ESTIMATORS.find(name)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def make(selection: Selection) -> Parts:
    """Every part of the estimate that a selection's spec asks for."""
    entry = find(selection.spec.estimator, selection.where)
    parameters = validated(entry.parameters, selection.spec.parameters, f"{selection.where}, parameters")
    try:
        return entry.function(selection, parameters)
    except ValueError as error:
        raise UsageError(f"{selection.where}: {error}") from None


def scale_of(unit: str) -> float:
    """100 for units in per cent or percentage points, else 1."""
    return 100.0 if unit.startswith(("pp", "%")) else 1.0


def plain(
    selection: Selection, value: float | None, unit: str, n: int, method: str, note: str | None = None
) -> Estimate:
    """A number without an interval."""
    return Estimate(value, None, None, selection.spec.level, unit, n, method, note=note)


def percentile(
    selection: Selection,
    values: Floats,
    unit: str,
    scale: float,
    clusters: Labels | None,
    dropped: int = 0,
    value: float | None = None,
) -> Estimate:
    """Percentile bootstrap of a mean over items, or over whole clusters, with the spec's stream and seed."""
    spec = selection.spec
    samples = bootstrap_means(values, clusters, spec.resamples, spec.seed, spec.stream) * scale
    return from_samples(selection, float(values.mean()) * scale if value is None else value, samples, unit, len(values),
                        clusters, dropped_note(dropped))  # fmt: skip


def resampled_means(selection: Selection, values: Floats, clusters: Labels | None) -> Floats:
    """Bootstrap means of `float64 [items, columns]`, all from the same draws: `float64 [resamples, columns]`."""
    spec = selection.spec
    code = np.arange(len(values)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    columns = np.column_stack([values, np.ones(len(values))]) if clusters is not None else values
    sums = np.zeros((int(code.max()) + 1, columns.shape[1]))
    np.add.at(sums, code, columns)
    parts = [np.ascontiguousarray(column) for column in sums.T]
    drawn = np.concatenate([
        np.column_stack([part[picked].sum(axis=1) for part in parts])
        for picked in draws(len(sums), spec.resamples, spec.seed, spec.stream)
    ])  # fmt: skip
    return np.asarray(drawn / len(values) if clusters is None else drawn[:, :-1] / drawn[:, -1:])


def from_samples(
    selection: Selection,
    value: float,
    samples: Floats,
    unit: str,
    n: int,
    clusters: Labels | None = None,
    note: str | None = None,
    method: str = "bootstrap_percentile",
) -> Estimate:
    """Percentile interval of resampled values; undefined ones are dropped and counted."""
    spec = selection.spec
    good = samples[np.isfinite(samples)]
    notes = [note] if note else []
    if len(good) < len(samples):
        notes.append(f"{len(samples) - len(good)} undefined resamples dropped")
    if len(good) < len(samples) / 2:
        return Estimate(value, None, None, spec.level, unit, n, method, note="; ".join(notes))
    low, high = percentile_bounds(good, spec.level)
    if high - low <= 1e-13:
        notes.append("no resample differs: this bootstrap cannot show the uncertainty")
    count = None if clusters is None else len(set(clusters.tolist()))
    name = method if clusters is None else f"cluster_{method}"
    cluster_unit = None if clusters is None else spec.cluster_unit
    text = "; ".join(notes) or None
    return Estimate(value, low, high, spec.level, unit, n, name, count, cluster_unit, spec.seed, spec.resamples, text)


def dropped_note(dropped: int) -> str | None:
    """What to say when incomplete items were left out."""
    return f"{dropped} incomplete items left out" if dropped else None
