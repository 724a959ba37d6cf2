"""AUROC restricted to comparable pairs: within strata, or within a caliper of a covariate."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Bools, Floats, Ints, boolean, codes, finite, same_length
from levercheck.stats.estimate import Estimate, check_level
from levercheck.stats.means import unit_of_clusters
from levercheck.stats.proportions import exact_bounds
from levercheck.stats.resampling import percentile_bounds, weight_draws

_CELLS = 4_000_000
Comparable = Callable[[slice], Bools]


def matched_auroc(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    covariate: npt.ArrayLike,
    caliper: float,
    clusters: npt.ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    cluster_unit: str | None = None,
) -> Estimate:
    """P(score_pos > score_neg) over all positive-negative pairs with |covariate difference| <= ``caliper``.

    Ties count one half. It asks whether a readout tells more than a covariate (length, token probability)
    does. ``scores``, ``covariate``: ``float64 [items]``; ``labels``: ``bool [items]``; ``caliper`` in
    covariate units. Percentile interval from ``resamples`` bootstrap draws of items, or of whole clusters;
    each draw reweights the pairs. Draws without a pair are dropped and counted in the note, which also
    gives the pairs and items used.

    When every pair agrees (area 0 or 1) the bootstrap cannot vary and the exact binomial bound from
    disjoint pairs is given instead; when all pairs tie there is no interval. No pairs: not estimable.
    Raises ``ValueError`` for missing entries, unequal lengths or a negative caliper.
    """
    if not caliper >= 0:
        raise ValueError(f"caliper is {caliper}: it cannot be negative")
    values, truth = finite(scores, "scores", 1), boolean(labels, "labels")
    other = finite(covariate, "covariate", 1)
    same_length(scores=values, labels=truth, covariate=other)
    positive, negative = other[truth], other[~truth]

    def comparable(rows: slice) -> Bools:
        return np.asarray(np.abs(positive[rows, None] - negative[None, :]) <= caliper)

    return _pair_auroc(values, truth, comparable, "matched", clusters, resamples, seed, level, cluster_unit)


def within_auroc(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    strata: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    cluster_unit: str | None = None,
) -> Estimate:
    """P(score_pos > score_neg) over all positive-negative pairs of the same stratum (labels ``[items]``).

    The pair-weighted average of the strata's own AUROCs; strata with one class contribute nothing.
    Interval, notes and errors as in :func:`matched_auroc`.
    """
    values, truth = finite(scores, "scores", 1), boolean(labels, "labels")
    n = same_length(scores=values, labels=truth)
    stratum, _ = codes(strata, n, "strata")
    positive, negative = stratum[truth], stratum[~truth]

    def comparable(rows: slice) -> Bools:
        return np.asarray(positive[rows, None] == negative[None, :])

    return _pair_auroc(values, truth, comparable, "within", clusters, resamples, seed, level, cluster_unit)


def _pair_auroc(
    values: Floats,
    truth: Bools,
    comparable: Comparable,
    method: str,
    clusters: npt.ArrayLike | None,
    resamples: int,
    seed: int,
    level: float,
    cluster_unit: str | None,
) -> Estimate:
    level = check_level(level)
    n = len(values)
    label, count = (np.arange(n), None) if clusters is None else codes(clusters, n)
    name = unit_of_clusters(count, cluster_unit)
    unit = f"{method} AUROC"

    def report(value: float | None, low: float | None, high: float | None, kind: str, note: str) -> Estimate:
        random = low is not None and kind == "bootstrap_percentile"
        used, drawn = (seed, resamples) if random else (None, None)
        full = kind if count is None else f"cluster_{kind}"
        return Estimate(value, low, high, level, unit, n, full, count, name, used, drawn, note)

    positive, negative = label[truth], label[~truth]
    wins, total, positives, covered = 0.0, 0, 0, np.zeros(len(negative), dtype=np.bool_)
    for _, mask, won in _blocks(values[truth], values[~truth], comparable):
        wins += float(won.sum())
        total += int(mask.sum())
        positives += int(mask.any(axis=1).sum())
        covered |= mask.any(axis=0)
    if total == 0:
        return report(None, None, None, "bootstrap_percentile", "no comparable positive-negative pairs")
    note = f"{total} pairs of {positives} positive and {int(covered.sum())} negative items"
    area = wins / total
    if area in (0.0, 1.0):
        m = _disjoint_pairs(_blocks(values[truth], values[~truth], comparable), positive, negative)
        low, high = exact_bounds(area * m, m, level)
        return report(area, low, high, "exact", f"{note}; complete separation, bound from {m} disjoint pairs")
    units = int(label.max()) + 1
    if units < 2:
        return report(area, None, None, "bootstrap_percentile", f"{note}; one cluster only")
    blocks = _blocks(values[truth], values[~truth], comparable)
    top, bottom = _resample(blocks, positive, negative, units, resamples, seed)
    drawn = top[bottom > 0] / bottom[bottom > 0]
    if len(drawn) < resamples:
        note += f"; {resamples - len(drawn)} resamples without a pair dropped"
    if len(drawn) < resamples / 2 or float(np.ptp(drawn)) == 0.0:
        return report(area, None, None, "bootstrap_percentile", f"{note}; too few pairs for an interval")
    return report(area, *percentile_bounds(drawn, level), "bootstrap_percentile", note)


def _blocks(positive: Floats, negative: Floats, comparable: Comparable) -> Iterator[tuple[slice, Bools, Floats]]:
    """Row blocks of the pair table: which positives, the comparable pairs, and 1, 1/2 or 0 where comparable.

    Tables are ``[some positives, negatives]`` and bounded in size, so memory does not grow with the square
    of n.
    """
    rows = max(1, _CELLS // max(1, len(negative)))
    for start in range(0, len(positive), rows):
        block = slice(start, min(start + rows, len(positive)))
        mask = comparable(block)
        gap = positive[block, None] - negative[None, :]
        yield block, mask, np.where(mask, (np.sign(gap) + 1) / 2, 0.0)


def _resample(
    blocks: Iterator[tuple[slice, Bools, Floats]],
    positive: Ints,
    negative: Ints,
    units: int,
    resamples: int,
    seed: int,
) -> tuple[Floats, Floats]:
    """Sums of wins and of comparable pairs in every resample of the units, both ``float64 [resamples]``.

    With w_u the number of times unit u was drawn, a pair from units u and v counts w_u w_v times; a pair
    within one unit counts w_u times, because copies of a unit are separate units and bring no further such
    pairs.
    """
    top, bottom = np.zeros(resamples), np.zeros(resamples)
    order = np.argsort(negative, kind="stable")
    columns, first = np.unique(negative[order], return_index=True)
    for block, mask, won in blocks:
        rows = positive[block]
        own = rows[:, None] == columns[None, :]
        for table, result in ((won, top), (mask.astype(np.float64), bottom)):
            grouped = np.add.reduceat(table[:, order], first, axis=1)
            inside = np.bincount(rows, weights=np.where(own, grouped, 0.0).sum(axis=1), minlength=units)
            grouped[own] = 0.0
            start = 0
            for weights in weight_draws(units, resamples, seed):
                part = weights[:, rows] @ grouped
                sums = np.einsum("rj,rj->r", part, weights[:, columns]) + weights @ inside
                result[start : start + len(sums)] += sums
                start += len(sums)
    return top, bottom


def _disjoint_pairs(blocks: Iterator[tuple[slice, Bools, Floats]], positive: Ints, negative: Ints) -> int:
    """Size of a greedy set of comparable pairs in which no unit appears twice (a lower bound on the largest).

    Both ends of a pair may lie in one unit, which then serves no other pair.
    """
    used: set[int] = set()
    size = 0
    for block, mask, _ in blocks:
        for own, row in zip(positive[block].tolist(), mask, strict=True):
            if own in used:
                continue
            for other in negative[np.flatnonzero(row)].tolist():
                if other not in used:
                    used.update((own, other))
                    size += 1
                    break
    return size
