"""Single rates: k successes out of n."""

from __future__ import annotations

import math
from typing import Literal

from levercheck.stats._scipy import beta_quantile, two_sided_z
from levercheck.stats.estimate import Estimate, check_level

PER_UNIT = {"fraction": 1.0, "%": 100.0, "pp": 100.0}


def proportion(
    k: int,
    n: int,
    level: float = 0.95,
    method: Literal["wilson", "exact"] = "wilson",
    unit: str = "fraction",
) -> Estimate:
    """Rate k/n with a Wilson (1927) score or a Clopper-Pearson (1934) exact interval.

    ``unit`` is "fraction", "%" or "pp" (the last two report 100 k/n). ``n`` = 0 is not estimable; ``k``
    outside 0..n, a count that is not whole, or an unknown method or unit is a ``ValueError``.
    """
    level = check_level(level)
    if int(k) != k or int(n) != n:
        raise ValueError(f"counts must be whole numbers, got {k} of {n}")
    k, n = int(k), int(n)
    if n < 0 or not 0 <= k <= n:
        raise ValueError(f"{k} successes out of {n} is impossible")
    if unit not in PER_UNIT:
        raise ValueError(f"unit {unit!r} is unknown: use {', '.join(PER_UNIT)}")
    if method not in ("wilson", "exact"):
        raise ValueError(f"method {method!r} is unknown: use wilson or exact")
    if n == 0:
        return Estimate(None, None, None, level, unit, 0, method, note="no items")
    low, high = wilson_bounds(k, n, level) if method == "wilson" else exact_bounds(k, n, level)
    scale = PER_UNIT[unit]
    return Estimate(scale * k / n, scale * low, scale * high, level, unit, n, method)


def zero_event_bound(n: int, level: float = 0.95, unit: str = "fraction") -> Estimate:
    """What "none seen in ``n`` items" excludes: the one-sided exact upper bound 1 - (1 - level)^(1/n).

    About 3/n at 95 % (the rule of three; Hanley and Lippman-Hand 1983). For clustered items pass the number
    of clusters. ``n`` = 0 is not estimable.
    """
    level = check_level(level)
    if unit not in PER_UNIT:
        raise ValueError(f"unit {unit!r} is unknown: use {', '.join(PER_UNIT)}")
    if n < 0 or int(n) != n:
        raise ValueError(f"n is {n}")
    if n == 0:
        return Estimate(None, None, None, level, unit, 0, "exact_one_sided", note="no items")
    high = -math.expm1(math.log1p(-level) / n)
    return Estimate(0.0, 0.0, PER_UNIT[unit] * high, level, unit, n, "exact_one_sided", note="no event seen")


def items_to_exclude(rate: float, level: float = 0.95) -> int:
    """Fewest items without an event that exclude a rate as high as ``rate`` (a fraction): 299 for 1 % at 95
    %.
    """
    level = check_level(level)
    if not 0 < rate < 1:
        raise ValueError(f"rate is {rate}: it must lie strictly between 0 and 1")
    return math.ceil(math.log1p(-level) / math.log1p(-rate) * (1 - 1e-12))


def wilson_bounds(k: float, n: float, level: float) -> tuple[float, float]:
    """Wilson (1927) score interval of k/n as fractions; non-integer effective counts are allowed, n > 0."""
    z2 = two_sided_z(level) ** 2
    p = k / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = (z2 * (p * (1 - p) / n + z2 / (4 * n * n))) ** 0.5 / (1 + z2 / n)
    low = 0.0 if k <= 0 else max(0.0, centre - half)
    high = 1.0 if k >= n else min(1.0, centre + half)
    return low, high


def exact_bounds(k: float, n: float, level: float) -> tuple[float, float]:
    """Clopper-Pearson (1934) interval of k/n as fractions, from beta quantiles; effective counts are
    allowed.
    """
    tail = (1 - level) / 2
    low = 0.0 if k <= 0 else beta_quantile(tail, k, n - k + 1)
    high = 1.0 if k >= n else beta_quantile(1 - tail, k + 1, n - k)
    return low, high
