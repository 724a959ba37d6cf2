"""Claims of no effect and of no harm: two one-sided tests, and the interval rules they amount to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from levercheck.stats._checks import finite
from levercheck.stats._scipy import t_cdf
from levercheck.stats.estimate import Estimate
from levercheck.stats.means import fit_mean, t_estimate


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests of a mean against -margin and +margin.

    ``p_low`` tests "mean <= -margin", ``p_high`` tests "mean >= margin"; ``p`` is the larger of the two.
    ``interval`` has level 1 - 2 alpha; ``equivalent`` says whether it lies inside the margins, which is the
    same as p < alpha. All are ``None`` when the mean's spread cannot be estimated.
    """

    margin: float
    alpha: float
    p: float | None
    p_low: float | None
    p_high: float | None
    equivalent: bool | None
    interval: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "margin": self.margin,
            "alpha": self.alpha,
            "p": self.p,
            "p_low": self.p_low,
            "p_high": self.p_high,
            "equivalent": self.equivalent,
            "interval": self.interval.to_dict(),
        }


def tost(
    values: npt.ArrayLike,
    margin: float,
    clusters: npt.ArrayLike | None = None,
    alpha: float = 0.05,
    unit: str = "value",
    scale: float = 1.0,
    cluster_unit: str | None = None,
) -> Equivalence:
    """Schuirmann's (1987) two one-sided t tests that the mean of ``float64 [items]`` lies within
    +-``margin``.

    ``margin`` is positive and in the reported unit, after ``scale``. ``clusters`` gives the cluster-robust
    standard error with G - 1 degrees of freedom. Raises ``ValueError`` for a margin or alpha that makes no
    sense.
    """
    _check_margin(margin)
    if not 0.0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}: it must lie strictly between 0 and 0.5")
    fit = fit_mean(finite(values, "values", 1), clusters)
    method = "tost_t" if clusters is None else "tost_cluster_t"
    interval = t_estimate(fit, 1 - 2 * alpha, unit, method, scale, cluster_unit)
    if fit.value is None or fit.variance is None or fit.df is None:
        return Equivalence(margin, alpha, None, None, None, None, interval)
    error = fit.variance**0.5 * abs(scale)
    p_low = t_cdf(-(fit.value * scale + margin) / error, fit.df)
    p_high = t_cdf((fit.value * scale - margin) / error, fit.df)
    p = max(p_low, p_high)
    return Equivalence(margin, alpha, p, p_low, p_high, p < alpha, interval)


def equivalent(interval: Estimate, margin: float) -> bool | None:
    """Whether the interval lies strictly inside +-``margin``; ``None`` when it is not estimable.

    With an interval of level 1 - 2 alpha this is an equivalence test of size alpha, whatever estimator made
    it.
    """
    _check_margin(margin)
    if interval.low is None or interval.high is None:
        return None
    return interval.low > -margin and interval.high < margin


def non_inferiority(low: float | None, margin: float) -> bool | None:
    """Whether a loss larger than ``margin`` is excluded: the lower bound lies above -``margin``.

    The bound of a two-sided interval of level 1 - 2 alpha gives a one-sided test of size alpha. For
    outcomes where less is better, pass minus the upper bound. ``None`` in, ``None`` out.
    """
    _check_margin(margin)
    return None if low is None else low > -margin


def _check_margin(margin: float) -> None:
    if not 0.0 < margin < float("inf"):
        raise ValueError(f"margin is {margin}: declare a positive one")
