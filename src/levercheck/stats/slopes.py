"""Dose response: one least-squares slope per item, and inference on the mean of those slopes."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, boolean, codes, finite, same_length
from levercheck.stats.clusters import sparse_design_effect
from levercheck.stats.estimate import Estimate, check_level
from levercheck.stats.means import MeanFit, fit_mean, t_estimate, unit_of_clusters
from levercheck.stats.resampling import bootstrap_means, percentile_bounds

Method = Literal["adjusted", "t", "bootstrap"]


def slope_weights(doses: npt.ArrayLike) -> Floats:
    """Weights w ``float64 [doses]`` with slope = y . w: (a - mean a) / sum (a - mean a)^2.

    ``ValueError`` for fewer than two distinct doses.
    """
    grid = finite(doses, "doses", 1)
    if len(np.unique(grid)) < 2:
        raise ValueError(f"a slope needs at least two distinct doses, got {np.unique(grid).tolist()}")
    centred = grid - grid.mean()
    return np.asarray(centred / (centred @ centred), dtype=np.float64)


def item_slopes(outcomes: npt.ArrayLike, doses: npt.ArrayLike) -> Floats:
    """Ordinary least-squares slope of each row of ``[items, doses]`` on the doses, ``float64 [items]``.

    Unit: outcome per unit dose; an item that does not respond gets exactly 0. The mean of these equals the
    slope of the per-dose means, since every item is observed at every dose. Missing outcomes are a
    ``ValueError`` naming their count.
    """
    weights = slope_weights(doses)
    table = finite(outcomes, "outcomes", 2)
    if table.shape[1] != len(weights):
        raise ValueError(f"outcomes have {table.shape[1]} columns for {len(weights)} doses")
    slopes = table @ weights
    noise = 1e-13 * (np.abs(table) @ np.abs(weights))
    return np.where(np.abs(slopes) <= noise, 0.0, slopes)


def largest_slope(doses: npt.ArrayLike) -> float:
    """Largest slope that 0/1 outcomes can show on this grid: 1 above the mean dose and 0 below."""
    weights = slope_weights(doses)
    return float(weights[weights > 0].sum())


def slope(
    outcomes: npt.ArrayLike,
    doses: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    unit: str = "pp/dose",
    scale: float = 100.0,
    binary: bool = True,
    method: Method = "adjusted",
    cluster_unit: str | None = None,
    resamples: int = 10_000,
    seed: int = 42,
) -> Estimate:
    """Mean per-item slope of ``[items, doses]`` on the doses, times ``scale``.

    ``method``:

    - "adjusted" (binary outcomes): the cluster-robust Student interval is computed after adding two
      pseudo-items whose slopes are plus and minus :func:`largest_slope` (two pseudo-clusters, each weighing
      one effective item, when there are clusters: see :func:`adjusted_fit`); G - 1 degrees of freedom with
      the real G. On a two-point grid this is, but for Student's t, the adjusted Wald interval for paired
      proportions of Bonett and Price (2012). The interval keeps a positive width when no item flips;
      ``value`` stays the raw mean. For ``binary=False`` it is the same as "t".
    - "t": no pseudo-items. Undercovers badly when few items flip.
    - "bootstrap": percentile bootstrap of the items, or of whole clusters.

    Coverage of the 95 % "adjusted" interval: on two doses with one-way flips of single items, exactly, 93.7
    % or more for 60-300 items and flip rates of 1-15 %; in simulations over grids of 2, 3 and 7 doses,
    60-150 items, single or in clusters of 1-4 that flip apart, half together or all together, one way or
    both ways at rates of 0.5-15 %, between 93 % and 100 % (on average 99.8 % at 5 % and less, 97 % at 15
    %), where "t" fell below 30 % at 0.5 %.

    Fewer than two items or clusters leaves the interval empty with a note. Raises ``ValueError`` for missing
    outcomes (with their count), outcomes other than 0/1 while ``binary`` is set, or a degenerate grid.
    """
    if binary:
        _require_binary(outcomes, "outcomes")
    slopes = item_slopes(outcomes, doses)
    bound = largest_slope(doses) if binary else None
    return _mean_slope(slopes, bound, clusters, level, unit, scale, method, cluster_unit, resamples, seed)


def slope_difference(
    target: npt.ArrayLike,
    control: npt.ArrayLike,
    doses: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    unit: str = "pp/dose",
    scale: float = 100.0,
    binary: bool = True,
    method: Method = "adjusted",
    cluster_unit: str | None = None,
    resamples: int = 10_000,
    seed: int = 42,
) -> Estimate:
    """Mean slope of ``target`` minus that of ``control`` over the same items and doses (both ``[items,
    doses]``).

    Inference is on the per-item differences of slopes, exactly as in :func:`slope`; the pseudo-items of
    "adjusted" keep the size of one arm's largest slope (twice that doubled the width without need in
    simulation). Raises ``ValueError`` when the two arms differ in shape, besides the errors of
    :func:`slope`.
    """
    if binary:
        _require_binary(target, "target")
        _require_binary(control, "control")
    first, second = finite(target, "target", 2), finite(control, "control", 2)
    same_length(target=first, control=second)
    if first.shape != second.shape:
        raise ValueError(f"target has {first.shape[1]} columns, control {second.shape[1]}")
    slopes = item_slopes(first - second, doses)
    bound = largest_slope(doses) if binary else None
    return _mean_slope(slopes, bound, clusters, level, unit, scale, method, cluster_unit, resamples, seed)


def adjusted_fit(slopes: Floats, bound: float, clusters: npt.ArrayLike | None = None) -> MeanFit:
    """Mean and variance of ``float64 [items]`` after adding a pseudo-item at +bound and one at -bound.

    With clusters each pseudo-item counts as a whole cluster of identical items, as many as the design
    effect (:func:`~levercheck.stats.clusters.sparse_design_effect`), so that it weighs as one effective
    item. ``df`` stays that of the real items. The value is the *adjusted* mean.
    """
    raw = fit_mean(slopes, clusters)
    if raw.df is None:
        return raw
    n = len(slopes)
    label, count = (np.arange(n), n) if clusters is None else codes(clusters, n)
    weight = 1.0 if clusters is None else sparse_design_effect(slopes, label, count)
    total = n + 2 * weight
    centre = float(slopes.sum()) / total
    sums = np.bincount(label, weights=slopes - centre, minlength=count)
    squares = float(sums @ sums) + weight**2 * ((bound - centre) ** 2 + (bound + centre) ** 2)
    variance = (count + 2) / (count + 1) * squares / total**2
    return MeanFit(centre, variance, raw.df, n, raw.clusters)


def _mean_slope(
    slopes: Floats,
    bound: float | None,
    clusters: npt.ArrayLike | None,
    level: float,
    unit: str,
    scale: float,
    method: Method,
    cluster_unit: str | None,
    resamples: int,
    seed: int,
) -> Estimate:
    level = check_level(level)
    if method not in ("adjusted", "t", "bootstrap"):
        raise ValueError(f"method {method!r} is unknown: use adjusted, t or bootstrap")
    raw = fit_mean(slopes, clusters)
    prefix = "" if clusters is None else "cluster_"
    if method == "bootstrap" and raw.value is not None and raw.variance is not None:
        draws = bootstrap_means(slopes, clusters, resamples=resamples, seed=seed)
        low, high = percentile_bounds(draws * scale, level)
        group = unit_of_clusters(raw.clusters, cluster_unit)
        label = f"{prefix}bootstrap_percentile"
        return Estimate(raw.value * scale, low, high, level, unit, raw.n, label, raw.clusters, group, seed, resamples)
    if method != "adjusted" or bound is None or raw.df is None:
        plain = "bootstrap_percentile" if method == "bootstrap" else "t"
        return t_estimate(raw, level, unit, f"{prefix}{plain}", scale, cluster_unit)
    adjusted = t_estimate(
        adjusted_fit(slopes, bound, clusters), level, unit, f"{prefix}adjusted_t", scale, cluster_unit
    )
    value = None if raw.value is None else raw.value * scale
    return replace(adjusted, value=value)


def _require_binary(outcomes: npt.ArrayLike, name: str) -> None:
    table = np.asarray(outcomes)
    if table.dtype == np.bool_:
        return
    try:
        boolean(finite(table, name, 2), name, 2)
    except ValueError as error:
        if "neither" in str(error):
            raise ValueError(f"{error}: pass binary=False for graded outcomes") from None
        raise
