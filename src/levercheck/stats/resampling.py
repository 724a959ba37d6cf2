"""Bootstrap resampling of items or of whole clusters, with two reproducible random streams."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, Ints, codes, finite
from levercheck.stats._scipy import normal_cdf, normal_quantile
from levercheck.stats.estimate import Estimate, check_level
from levercheck.stats.means import unit_of_clusters

Stream = Literal["blocks", "serial"]
Interval = Literal["percentile", "bca", "studentised"]

_BLOCK = 250


def draws(units: int, resamples: int, seed: int, stream: Stream = "blocks") -> Iterator[Ints]:
    """Resampled unit numbers, yielded as ``int64 [block, units]`` until ``resamples`` rows have been drawn.

    "blocks" (the default): every block of 250 resamples has its own generator, seeded by (seed, block
    number), so a longer run starts with the shorter one and blocks can be drawn in any order. "serial": one
    ``default_rng(seed)`` drawing ``choice(units, units, replace=True)`` once per resample, the convention
    of the published reference statistics (drawn here as ``integers``, which is the same stream).
    """
    if units < 1 or resamples < 1:
        raise ValueError(f"cannot draw {resamples} resamples of {units} units")
    if stream not in ("blocks", "serial"):
        raise ValueError(f"stream {stream!r} is unknown: use blocks or serial")
    serial = np.random.default_rng(seed)
    for block, start in enumerate(range(0, resamples, _BLOCK)):
        rng = serial if stream == "serial" else np.random.default_rng([seed, block])
        rows = min(_BLOCK, resamples - start)
        yield rng.integers(0, units, size=(rows, units))


def weight_draws(units: int, resamples: int, seed: int, stream: Stream = "blocks") -> Iterator[Floats]:
    """The same resamples as :func:`draws`, as how often each unit was drawn: ``float64 [block, units]``."""
    for picked in draws(units, resamples, seed, stream):
        offset = np.arange(len(picked))[:, None] * units
        counts = np.bincount((picked + offset).ravel(), minlength=len(picked) * units)
        yield counts.reshape(len(picked), units).astype(np.float64)


def bootstrap_means(
    values: Floats,
    clusters: npt.ArrayLike | None = None,
    resamples: int = 10_000,
    seed: int = 42,
    stream: Stream = "blocks",
) -> Floats:
    """Means of resampled items, ``float64 [resamples]``; with ``clusters``, whole clusters are drawn.

    A cluster resample draws as many clusters as there are and divides the total by the number of items drawn.
    """
    n = len(values)
    if clusters is None:
        return np.concatenate([values[picked].mean(axis=1) for picked in draws(n, resamples, seed, stream)])
    label, units = codes(clusters, n)
    totals = np.bincount(label, weights=values, minlength=units)
    sizes = np.bincount(label, minlength=units).astype(np.float64)
    parts = [totals[picked].sum(axis=1) / sizes[picked].sum(axis=1) for picked in draws(units, resamples, seed, stream)]
    return np.concatenate(parts)


def percentile_bounds(samples: Floats, level: float) -> tuple[float, float]:
    """Percentile interval of ``float64 [resamples]`` by ``numpy.quantile`` (linear interpolation)."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap(
    values: npt.ArrayLike,
    statistic: Callable[[Floats], float] | None = None,
    clusters: npt.ArrayLike | None = None,
    interval: Interval = "bca",
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 42,
    stream: Stream = "blocks",
    unit: str = "value",
    scale: float = 1.0,
    cluster_unit: str | None = None,
) -> Estimate:
    """Bootstrap interval of ``statistic`` (default: the mean) of ``float64 [items]`` or ``[items, columns]``.

    Items, or whole clusters, are drawn with replacement; ``statistic`` gets the drawn rows and returns a
    number. NaN marks a resample in which it is undefined: those are dropped and counted in the note.

    ``interval``: "percentile"; "bca", bias-corrected and accelerated with a jackknife over the units (Efron
    1987); "studentised", the bootstrap-t for the mean only, each resample with its own cluster-robust
    standard error (Davison and Hinkley 1997). Seed 42, stream "serial" and "percentile" reproduce
    the conventions of the published reference statistics.

    Fewer than two units, or no variation between resamples, leaves the interval empty with a note.
    """
    level = check_level(level)
    if interval not in ("percentile", "bca", "studentised"):
        raise ValueError(f"interval {interval!r} is unknown: use percentile, bca or studentised")
    if interval == "studentised" and statistic is not None:
        raise ValueError("the studentised interval is for the mean only")
    table = finite(values, "values", np.ndim(values))
    n = len(table)
    label, count = (np.arange(n), n) if clusters is None else codes(clusters, n)
    kept = None if clusters is None else count
    name = unit_of_clusters(kept, cluster_unit)
    method = f"{'' if clusters is None else 'cluster_'}bootstrap_{interval}"
    if n == 0:
        return Estimate(None, None, None, level, unit, 0, method, kept, name, note="no items")
    if statistic is None and table.ndim != 1:
        raise ValueError("the mean needs values with one axis")
    value = float(np.mean(table)) if statistic is None else float(statistic(table))
    if not math.isfinite(value):
        return Estimate(None, None, None, level, unit, n, method, kept, name, note="the statistic is undefined")

    def report(low: float | None, high: float | None, note: str | None) -> Estimate:
        if low is None or high is None:
            return Estimate(value * scale, None, None, level, unit, n, method, kept, name, note=note)
        first, last = sorted((low * scale, high * scale))
        return Estimate(value * scale, first, last, level, unit, n, method, kept, name, seed, resamples, note)

    if count < 2:
        return report(None, None, "one unit only: its spread cannot be estimated")
    if interval == "studentised":
        low, high, note = _studentised(table, label, count, value, level, resamples, seed, stream)
        return report(low, high, note)
    if statistic is None:
        samples = bootstrap_means(table, None if clusters is None else label, resamples, seed, stream)
    else:
        members = np.split(np.argsort(label, kind="stable"), np.cumsum(np.bincount(label))[:-1])
        rows = (row for picked in draws(count, resamples, seed, stream) for row in picked)
        samples = np.array([statistic(table[np.concatenate([members[u] for u in row])]) for row in rows], float)
    good = samples[np.isfinite(samples)]
    note = f"{resamples - len(good)} undefined resamples dropped" if len(good) < resamples else None
    if len(good) < resamples / 2 or float(np.ptp(good)) <= 1e-13 * abs(value):
        return report(None, None, note or "no variation between resamples")
    if interval == "percentile":
        return report(*percentile_bounds(good, level), note)
    jackknife = _jackknife(table, statistic, label, count)
    return report(*bca_bounds(good, value, jackknife, level), note)


def bca_bounds(samples: Floats, value: float, jackknife: Floats, level: float) -> tuple[float, float]:
    """Bias-corrected and accelerated interval (Efron 1987) from resampled and leave-one-out statistics."""
    below = (float((samples < value).sum()) + float((samples <= value).sum())) / (2 * len(samples))
    below = min(max(below, 0.5 / len(samples)), 1 - 0.5 / len(samples))
    bias = normal_quantile(below)
    pull = jackknife.mean() - jackknife
    power = float((pull**2).sum()) ** 1.5
    acceleration = 0.0 if power == 0 else float((pull**3).sum()) / (6 * power)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + normal_quantile(tail)
        ends.append(normal_cdf(bias + z / max(1e-9, 1 - acceleration * z)))
    low, high = np.quantile(samples, ends)
    return float(low), float(high)


def bootstrap_totals(
    contributions: Floats,
    statistic: Callable[[Floats], Floats],
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    unit: str = "value",
    cluster_unit: str | None = None,
    method: str = "percentile",
) -> Estimate:
    """Percentile interval of a statistic of column totals: ratios, kappas, anything additive over items.

    ``contributions``: ``float64 [items, parts]``; ``statistic`` maps totals ``[rows, parts]`` to
    ``[rows]``, with NaN where undefined. All resamples are evaluated in one matrix product.
    """
    level = check_level(level)
    n = len(contributions)
    label, count = (np.arange(n), n) if clusters is None else codes(clusters, n)
    kept = None if clusters is None else count
    name = unit_of_clusters(kept, cluster_unit)
    method = f"{method}_bootstrap" if clusters is None else f"{method}_cluster_bootstrap"
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(contributions.sum(axis=0)[None])[0]) if n else math.nan
        if not math.isfinite(value):
            return Estimate(None, None, None, level, unit, n, method, kept, name, note="undefined for these items")
        if count < 2:
            return Estimate(value, None, None, level, unit, n, method, kept, name, note="one unit only")
        sums = np.zeros((count, contributions.shape[1]))
        np.add.at(sums, label, contributions)
        samples = np.concatenate([statistic(w @ sums) for w in weight_draws(count, resamples, seed)])
    good = samples[np.isfinite(samples)]
    note = f"{resamples - len(good)} undefined resamples dropped" if len(good) < resamples else None
    if len(good) < resamples / 2 or float(np.ptp(good)) <= 1e-13:
        note = note or "no variation between resamples"
        return Estimate(value, None, None, level, unit, n, method, kept, name, note=note)
    low, high = percentile_bounds(good, level)
    return Estimate(value, low, high, level, unit, n, method, kept, name, seed, resamples, note)


def _jackknife(table: Floats, statistic: Callable[[Floats], float] | None, label: Ints, count: int) -> Floats:
    """The statistic without each unit in turn, ``float64 [units]``; undefined ones are left out."""
    if statistic is None:
        sizes = np.bincount(label, minlength=count)
        sums = np.bincount(label, weights=table, minlength=count)
        return np.asarray((table.sum() - sums) / (len(table) - sizes), dtype=np.float64)
    values = np.array([statistic(table[label != unit]) for unit in range(count)], dtype=np.float64)
    return values[np.isfinite(values)]


def _studentised(
    table: Floats,
    label: Ints,
    count: int,
    value: float,
    level: float,
    resamples: int,
    seed: int,
    stream: Stream,
) -> tuple[float | None, float | None, str | None]:
    """Bootstrap-t bounds of the mean; resamples without variation are dropped."""
    sizes = np.bincount(label, minlength=count).astype(np.float64)
    sums: Floats = np.bincount(label, weights=table, minlength=count).astype(np.float64)

    def error(s: Floats, m: Floats) -> tuple[Floats, Floats]:
        total = m.sum(axis=-1, keepdims=True)
        centre = s.sum(axis=-1, keepdims=True) / total
        spread = np.sqrt(count / (count - 1) * ((s - centre * m) ** 2).sum(axis=-1)) / total[..., 0]
        return centre[..., 0], spread

    own = float(error(sums, sizes)[1])
    if own <= 1e-13 * abs(value):
        return None, None, "no variation between units"
    ratios = []
    for picked in draws(count, resamples, seed, stream):
        centre, spread = error(sums[picked], sizes[picked])
        usable = spread > 1e-9 * own
        ratios.append((centre[usable] - value) / spread[usable])
    t = np.concatenate(ratios)
    if len(t) < resamples / 2:
        return None, None, f"{resamples - len(t)} of {resamples} resamples do not vary"
    low, high = percentile_bounds(t, level)
    note = f"{resamples - len(t)} resamples without variation dropped" if len(t) < resamples else None
    return value - high * own, value - low * own, note
