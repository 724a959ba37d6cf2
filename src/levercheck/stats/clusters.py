"""How much items of one cluster move together, and what that costs in effective items."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, Ints, codes, finite


@dataclass(frozen=True)
class Clustering:
    """Dependence of items within clusters.

    ``icc``: intra-cluster correlation; ``design_effect``: factor by which clustering inflates the variance
    of the mean; ``effective_n`` = n / design_effect. ``None`` where there is no variation or too few
    clusters to tell.
    """

    n: int
    clusters: int
    icc: float | None
    design_effect: float | None
    effective_n: float | None

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain JSON types."""
        return asdict(self)


def clustering(values: npt.ArrayLike, clusters: npt.ArrayLike) -> Clustering:
    """Intra-cluster correlation and design effect of ``float64 [items]`` with labels ``[items]``.

    ``icc`` is the one-way analysis-of-variance estimator with the average cluster size adjusted for unequal
    sizes (Donner 1986); it can be negative. ``design_effect`` is the cluster-robust over the simple
    variance of the mean (Miller 2024); for equal sizes m it is close to 1 + (m - 1) icc.
    """
    array = finite(values, "values", 1)
    n = len(array)
    label, count = codes(clusters, n)
    if count < 2 or float(np.ptp(array)) == 0.0:
        return Clustering(n, count, None, None, None)
    ratio = _variance_ratio(array, label, count)
    sizes = np.bincount(label, minlength=count).astype(np.float64)
    icc = None
    if n > count:
        means = np.bincount(label, weights=array, minlength=count) / sizes
        between = float(sizes @ (means - array.mean()) ** 2) / (count - 1)
        within = float(((array - means[label]) ** 2).sum()) / (n - count)
        typical = (n - float(sizes @ sizes) / n) / (count - 1)
        icc = (between - within) / (between + (typical - 1) * within)
    return Clustering(n, count, icc, ratio, None if not ratio else n / ratio)


def largest_design_effect(label: Ints, count: int) -> float:
    """Design effect if the items of a cluster were identical: sum of squared sizes over n (Kish 1965)."""
    sizes = np.bincount(label, minlength=count).astype(np.float64)
    return float(sizes @ sizes) / float(sizes.sum())


def sparse_design_effect(values: Floats, label: Ints, count: int) -> float:
    """Design effect of per-item changes when few items change, at least 1; ``label`` ``int64 [items]`` in
    0..count-1.

    The estimated ratio is averaged with the largest possible design effect, the former weighted by the
    number of clusters in which something changed and the latter by two: a handful of changed clusters says
    little about whether items move together. With no change at all the largest is returned.
    """
    largest = largest_design_effect(label, count)
    if count < 2 or float(np.ptp(values)) == 0.0:
        return largest
    moved = len(np.unique(label[values != 0.0]))
    return (moved * max(1.0, _variance_ratio(values, label, count)) + 2 * largest) / (moved + 2)


def _variance_ratio(values: Floats, label: Ints, count: int) -> float:
    """Cluster-robust over simple variance of the mean."""
    n = len(values)
    residuals = values - values.mean()
    sums = np.bincount(label, weights=residuals, minlength=count)
    return float(count / (count - 1) * (sums @ sums) / (n / (n - 1) * (residuals @ residuals)))
