"""Is the target exceptional among matched control sets? Monte-Carlo ranks and items-by-sets inference."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, finite
from levercheck.stats._scipy import two_sided_t
from levercheck.stats.estimate import Estimate, check_level
from levercheck.stats.means import MeanFit, fit_mean, t_estimate
from levercheck.stats.slopes import adjusted_fit

Side = Literal["greater", "less", "two-sided"]
_SIDES = ("greater", "less", "two-sided")
_ONE_SET = "one control set: the spread between sets cannot be estimated"


def monte_carlo_p(value: float, null: npt.ArrayLike, side: Side = "greater") -> float:
    """(k + 1) / (K + 1), k being how many of the K draws ``float64 [K]`` are at least as extreme as
    ``value``.

    Two-sided: twice the smaller one-sided value, at most 1. Never zero (Davison and Hinkley 1997;
    Phipson and Smyth 2010). An empty ``null`` gives 1. Missing numbers or an unknown side are a
    ``ValueError``.
    """
    check_side(side)
    draws = finite(null, "null", 1)
    if not math.isfinite(value):
        raise ValueError(f"value is {value}")
    above = (int((draws >= value).sum()) + 1) / (len(draws) + 1)
    below = (int((draws <= value).sum()) + 1) / (len(draws) + 1)
    if side == "two-sided":
        return min(1.0, 2 * min(above, below))
    return above if side == "greater" else below


def attainable_p(sets: int, side: Side = "greater") -> float:
    """Smallest p that ``sets`` control sets can show: 1/(sets + 1), doubled when two-sided."""
    check_side(side)
    if sets < 0:
        raise ValueError(f"{sets} control sets")
    return min(1.0, (2 if side == "two-sided" else 1) / (sets + 1))


def sets_needed(alpha: float, side: Side = "greater") -> int:
    """Fewest control sets for which :func:`attainable_p` is at most ``alpha``: 19 for 0.05."""
    check_side(side)
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is {alpha}: it must lie strictly between 0 and 1")
    numerator = 2 if side == "two-sided" else 1
    return max(0, math.ceil(numerator / alpha * (1 - 1e-12)) - 1)


@dataclass(frozen=True)
class TwoLevel:
    """Target against K control sets over the same items.

    ``difference``: target minus the mean of the control sets, uncertain in both items and sets.
    ``prediction``: where the mean of one *new* control set would fall. ``p``: Monte-Carlo rank of the
    target among the sets, on ``side``; ``attainable_p`` is the smallest value it could have taken.
    ``set_sd``: standard deviation of the set means, in the unit of the estimates. ``outside_prediction``:
    whether the target's mean lies beyond the prediction interval on ``side`` (``None`` when there is no
    interval).
    """

    difference: Estimate
    prediction: Estimate
    p: float
    attainable_p: float
    sets: int
    side: str
    target_mean: float | None
    set_sd: float | None

    @property
    def outside_prediction(self) -> bool | None:
        """Whether the target's mean lies outside the prediction interval, on the side tested."""
        low, high = self.prediction.low, self.prediction.high
        if self.target_mean is None or low is None or high is None:
            return None
        above, below = self.target_mean > high, self.target_mean < low
        return {"greater": above, "less": below}.get(self.side, above or below)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "difference": self.difference.to_dict(),
            "prediction": self.prediction.to_dict(),
            "p": self.p,
            "attainable_p": self.attainable_p,
            "sets": self.sets,
            "side": self.side,
            "target_mean": self.target_mean,
            "set_sd": self.set_sd,
        }


def two_level(
    target: npt.ArrayLike,
    controls: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    unit: str = "pp/dose",
    scale: float = 1.0,
    side: Side = "greater",
    cluster_unit: str | None = None,
    bound: float | None = None,
) -> TwoLevel:
    """Compare ``target`` ``float64 [items]`` with ``controls`` ``float64 [sets, items]`` on two levels.

    ``difference``: mean over items of (target - mean of the sets). Its variance is the sum of the
    (cluster-robust) variance of the mean of those per-item differences and s^2/K, s^2 being the variance of
    the K set means; degrees of freedom after Satterthwaite (1946). The item noise inside s^2 is not
    subtracted, so the interval errs wide. ``prediction``: mean of the sets +- t_{K-1} s sqrt(1 + 1/K), the
    normal-theory prediction interval for one further set. All numbers are multiplied by ``scale``.

    ``bound`` is for slopes of yes/no outcomes: pass :func:`~levercheck.stats.largest_slope` (unscaled), and
    the item variance is taken with the two pseudo-items of :func:`~levercheck.stats.slope`, so that
    it cannot vanish when few items flip. Where the sets do not vary at all, the prediction takes two
    pseudo-sets one item away from them on either side, for the same reason.

    A control may be NaN for an item: that set has no outcome there, and its mean is over the others; every
    item is compared with the mean of the sets that have it. Fewer than two sets leave both intervals empty
    with a note; no sets leave the values empty too. Raises ``ValueError`` for missing numbers of the target,
    for items or sets without any, or when the item counts differ.
    """
    level = check_level(level)
    check_side(side)
    own = finite(target, "target", 1)
    table = np.asarray(controls, dtype=np.float64)
    if table.ndim != 2 or np.isinf(table).any():
        raise ValueError(f"controls have {table.ndim} axes or infinite entries: expected float64 [sets, items]")
    sets, n = table.shape
    if n != len(own):
        raise ValueError(f"controls cover {n} items, target {len(own)}")
    if n == 0:
        raise ValueError("no items to compare")
    there = np.isfinite(table)
    if sets and not (there.any(axis=0).all() and there.any(axis=1).all()):
        raise ValueError("an item or a control set has no number at all")
    target_mean = float(own.mean()) * scale
    set_means = np.nanmean(table, axis=1) * scale
    gap = own - np.nanmean(table, axis=0) if sets else own
    fit = fit_mean(gap, clusters)
    if bound is not None:
        fit = replace(adjusted_fit(gap, bound, clusters), value=fit.value)
    spread = float(set_means.std(ddof=1)) if sets > 1 else None
    if spread is not None and spread <= 1e-13 * float(np.max(np.abs(set_means))):
        spread = 0.0
    return TwoLevel(
        difference=_difference(fit, spread, sets, level, unit, scale, cluster_unit),
        prediction=_prediction(set_means, spread, level, unit, n, None if bound is None else bound * scale),
        p=monte_carlo_p(target_mean, set_means, side),
        attainable_p=attainable_p(sets, side),
        sets=sets,
        side=side,
        target_mean=target_mean,
        set_sd=spread,
    )


def _difference(
    fit: MeanFit,
    spread: float | None,
    sets: int,
    level: float,
    unit: str,
    scale: float,
    cluster_unit: str | None,
) -> Estimate:
    """Target minus mean of sets: item variance plus s^2/K, Satterthwaite degrees of freedom."""
    method = f"two_level_t(sets={sets})"
    if sets == 0:
        fit = replace(fit, value=None, variance=None, reason="no control sets")
    elif spread is None:
        fit = replace(fit, variance=None, reason=_ONE_SET)
    elif fit.df is not None:
        items = fit.variance or 0.0
        between = (spread / scale) ** 2 / sets if scale else 0.0
        if items + between > 0:
            df = (items + between) ** 2 / (items**2 / fit.df + between**2 / (sets - 1))
            fit = replace(fit, variance=items + between, df=df, reason=None)
    return t_estimate(fit, level, unit, method, scale, cluster_unit)


def _prediction(
    set_means: Floats, spread: float | None, level: float, unit: str, n: int, bound: float | None
) -> Estimate:
    """Where the mean of one further set would fall, from K set means; ``bound`` is what one item can change."""
    sets = len(set_means)
    method = f"prediction_t(sets={sets})"
    if sets == 0:
        return Estimate(None, None, None, level, unit, n, method, note="no control sets")
    centre = float(set_means.mean())
    note = None
    if not spread:
        note = _ONE_SET if spread is None else "no variation between control sets"
        if spread is None or bound is None:
            return Estimate(centre, None, None, level, unit, n, method, note=note)
        spread, note = bound / n * math.sqrt(2 / (sets + 1)), f"{note}: two pseudo-sets one item away"
    half = two_sided_t(level, sets - 1) * spread * math.sqrt(1 + 1 / sets)
    return Estimate(centre, centre - half, centre + half, level, unit, n, method, note=note)


def check_side(side: str) -> None:
    """``ValueError`` unless ``side`` is one of the three that exist."""
    if side not in _SIDES:
        raise ValueError(f"side {side!r} is unknown: use {', '.join(_SIDES)}")
