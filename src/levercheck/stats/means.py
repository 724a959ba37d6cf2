"""Means of items that may come in clusters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, codes, finite
from levercheck.stats._scipy import two_sided_t
from levercheck.stats.estimate import Estimate, check_level


@dataclass(frozen=True)
class MeanFit:
    """A mean, the variance of that mean and its degrees of freedom.

    ``variance`` and ``df`` are ``None`` when they cannot be estimated; ``reason`` then says why.
    """

    value: float | None
    variance: float | None
    df: float | None
    n: int
    clusters: int | None
    reason: str | None = None


def fit_mean(values: Floats, clusters: npt.ArrayLike | None = None) -> MeanFit:
    """Mean of ``float64 [items]`` with the cluster-robust variance of that mean.

    Residuals are summed within each of G clusters before squaring and the sum is scaled by G/(G-1) (Liang
    and Zeger 1986; Miller 2024, with the small-sample factor); df = G - 1. Without clusters every
    item is its own cluster, which gives the ordinary s^2/n.
    """
    n = len(values)
    label, count = (None, None) if clusters is None else codes(clusters, n)
    if n == 0:
        return MeanFit(None, None, None, 0, count, "no items")
    value = float(np.mean(values))
    units = n if count is None else count
    if units < 2:
        what = "item" if count is None else "cluster"
        return MeanFit(value, None, None, n, count, f"only one {what}: its spread cannot be estimated")
    residuals: Floats = values - value
    if label is not None:
        residuals = np.bincount(label, weights=residuals, minlength=units).astype(np.float64)
    variance = units / (units - 1) * float(residuals @ residuals) / n**2
    scale = float(np.max(np.abs(values)))
    if variance <= (1e-13 * scale) ** 2:
        what = "items" if count is None else "clusters"
        return MeanFit(value, None, float(units - 1), n, count, f"no variation between {what}")
    return MeanFit(value, variance, float(units - 1), n, count)


def mean(
    values: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    unit: str = "value",
    scale: float = 1.0,
    cluster_unit: str | None = None,
) -> Estimate:
    """Mean of ``float64 [items]`` times ``scale``, with a Student interval.

    ``clusters`` (labels ``[items]``) switches to the cluster-robust standard error with G - 1 degrees of
    freedom. Fewer than two items or clusters, or no variation at all, leaves the interval empty with a
    note: the value is kept. Raises ``ValueError`` for missing values or a length mismatch.
    """
    fit = fit_mean(finite(values, "values", 1), clusters)
    method = "t" if clusters is None else "cluster_t"
    return t_estimate(fit, level, unit, method, scale, cluster_unit)


def t_estimate(
    fit: MeanFit,
    level: float,
    unit: str,
    method: str,
    scale: float = 1.0,
    cluster_unit: str | None = None,
) -> Estimate:
    """Student interval value +- t * sqrt(variance), all times ``scale``."""
    level = check_level(level)
    value = None if fit.value is None else fit.value * scale
    low = high = None
    if value is not None and fit.variance is not None and fit.df is not None:
        half = two_sided_t(level, fit.df) * fit.variance**0.5 * abs(scale)
        low, high = value - half, value + half
    return Estimate(
        value,
        low,
        high,
        level,
        unit,
        fit.n,
        method,
        clusters=fit.clusters,
        cluster_unit=unit_of_clusters(fit.clusters, cluster_unit),
        note=fit.reason,
    )


def unit_of_clusters(clusters: int | None, cluster_unit: str | None) -> str | None:
    """The name to print for a cluster: ``None`` without clusters, "cluster" when the caller gave no name."""
    return None if clusters is None else (cluster_unit or "cluster")
