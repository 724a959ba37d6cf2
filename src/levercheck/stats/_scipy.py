"""Quantiles and tail probabilities, with scipy imported on first use.

``scipy.special`` costs a fifth of a second to import, so nothing here touches it until a number is needed.
All functions take and return Python floats.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import Any


@lru_cache(maxsize=1)
def special() -> Any:
    """The ``scipy.special`` module."""
    return import_module("scipy.special")


def normal_quantile(p: float) -> float:
    """z with P(Z <= z) = p."""
    return float(special().ndtri(p))


def normal_cdf(z: float) -> float:
    """P(Z <= z)."""
    return float(special().ndtr(z))


def t_quantile(p: float, df: float) -> float:
    """t with P(T_df <= t) = p; an infinite ``df`` gives the normal quantile."""
    if df == float("inf"):
        return normal_quantile(p)
    return float(special().stdtrit(df, p))


def t_cdf(t: float, df: float) -> float:
    """P(T_df <= t); an infinite ``df`` gives the normal distribution."""
    if df == float("inf"):
        return normal_cdf(t)
    return float(special().stdtr(df, t))


def beta_quantile(p: float, a: float, b: float) -> float:
    """x with P(Beta(a, b) <= x) = p."""
    return float(special().betaincinv(a, b, p))


def chi2_upper(x: float, df: float) -> float:
    """P(chi-square_df >= x)."""
    return float(special().chdtrc(df, x))


def two_sided_z(level: float) -> float:
    """Normal critical value of a two-sided interval, e.g. 1.96 for 0.95."""
    return normal_quantile(0.5 + level / 2)


def two_sided_t(level: float, df: float) -> float:
    """Student critical value of a two-sided interval."""
    return t_quantile(0.5 + level / 2, df)
