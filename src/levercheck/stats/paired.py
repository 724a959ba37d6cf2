"""Two arms on the same items with yes/no outcomes: difference of rates and McNemar tests."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import boolean, codes, same_length
from levercheck.stats._scipy import chi2_upper, special, two_sided_t, two_sided_z
from levercheck.stats.clusters import sparse_design_effect
from levercheck.stats.estimate import Estimate, check_level
from levercheck.stats.means import fit_mean, unit_of_clusters
from levercheck.stats.proportions import PER_UNIT


@dataclass(frozen=True)
class McNemar:
    """McNemar tests of two paired yes/no outcomes. All p-values are two-sided.

    ``gained``: items that went from no to yes; ``lost``: from yes to no; ``n``: all pairs.
    """

    gained: int
    lost: int
    n: int
    p_exact: float
    p_mid: float
    p_continuity: float
    statistic: float

    def to_dict(self) -> dict[str, float | int]:
        """Plain JSON types."""
        return asdict(self)


def mcnemar(after: npt.ArrayLike, before: npt.ArrayLike) -> McNemar:
    """Exact, mid-p and continuity-corrected McNemar tests of ``bool [items]`` after against before.

    Exact: two-sided binomial(gained + lost, 1/2) on the smaller count. Mid-p: the exact value less the
    probability of the observed count (Fagerland, Lydersen and Laake 2013). Continuity-corrected: chi-square
    (|gained - lost| - 1)^2 / (gained + lost) on one degree of freedom (Edwards 1948), with the bracket
    floored at 0. No discordant pair gives p = 1 in all three.
    """
    after, before = boolean(after, "after"), boolean(before, "before")
    n = same_length(after=after, before=before)
    gained, lost = int((after & ~before).sum()), int((~after & before).sum())
    flips = gained + lost
    if flips == 0:
        return McNemar(0, 0, n, 1.0, 1.0, 1.0, 0.0)
    smaller = min(gained, lost)
    log_choose = -np.log(flips + 1) - special().betaln(flips - smaller + 1, smaller + 1)
    mass = float(np.exp(log_choose - flips * np.log(2.0)))
    tail = float(special().betainc(flips - smaller, smaller + 1, 0.5))
    statistic = max(abs(gained - lost) - 1, 0) ** 2 / flips
    return McNemar(
        gained,
        lost,
        n,
        p_exact=min(1.0, 2 * tail),
        p_mid=min(1.0, 2 * tail - mass),
        p_continuity=chi2_upper(statistic, 1),
        statistic=statistic,
    )


def paired_difference(
    after: npt.ArrayLike,
    before: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    unit: str = "pp",
    cluster_unit: str | None = None,
) -> Estimate:
    """Rate after minus rate before over the same ``bool [items]``, with Tango's (1998) score interval.

    ``unit`` "pp" or "%" reports percentage points, "fraction" the raw difference. The interval keeps a
    positive width when no item changes: with n unchanged pairs it reaches z^2/(n + z^2) on either side.

    With ``clusters`` the discordant counts and n are divided by a design effect before the same interval is
    solved, as Korn and Graubard (1998) do for single rates, and n is further multiplied by (z / t_{G-1})^2
    for the few-cluster correction. The design effect is the cluster-robust over the simple variance of the
    differences, floored at 1 and drawn towards its largest possible value when few clusters hold a
    discordant pair (:func:`~levercheck.stats.clusters.sparse_design_effect`); with none, the effective n
    is n^2 / sum of squared cluster sizes, which is the number of clusters when these are of one size. One
    cluster only is not estimable (the value is kept).

    Raises ``ValueError`` for unequal lengths, missing entries or entries that are not yes/no.
    """
    level = check_level(level)
    if unit not in PER_UNIT:
        raise ValueError(f"unit {unit!r} is unknown: use {', '.join(PER_UNIT)}")
    after, before = boolean(after, "after"), boolean(before, "before")
    n = same_length(after=after, before=before)
    change = after.astype(np.float64) - before.astype(np.float64)
    fit = fit_mean(change, clusters)
    method = "tango" if clusters is None else "tango_effective_n"
    name = unit_of_clusters(fit.clusters, cluster_unit)
    scale = PER_UNIT[unit]
    if fit.value is None or fit.clusters == 1:
        value = None if fit.value is None else scale * fit.value
        return Estimate(value, None, None, level, unit, n, method, fit.clusters, name, note=fit.reason)
    note = None
    effective = float(n)
    if clusters is not None and fit.clusters is not None:
        label, count = codes(clusters, n)
        effective = n / sparse_design_effect(change, label, count)
        effective *= (two_sided_z(level) / two_sided_t(level, count - 1)) ** 2
        note = f"effective n {effective:.1f}"
    shrink = effective / n
    gained, lost = float((change > 0).sum()) * shrink, float((change < 0).sum()) * shrink
    low, high = tango_bounds(gained, lost, effective, level)
    return Estimate(scale * fit.value, scale * low, scale * high, level, unit, n, method, fit.clusters, name, note=note)


def tango_bounds(gained: float, lost: float, n: float, level: float) -> tuple[float, float]:
    """Tango's (1998) score interval of (gained - lost)/n, as fractions.

    Solves (gained - lost - n d)^2 = z^2 n (2 q + d (1 - d)) for d on either side of the estimate, q being the
    restricted maximum-likelihood estimate of the losing probability, by bisection to the last bit. Effective
    (non-integer) counts are allowed; ``n`` > 0 and gained + lost <= n (up to rounding).
    """
    if n <= 0 or gained < 0 or lost < 0 or gained + lost > n * (1 + 1e-9):
        raise ValueError(f"{gained} gained and {lost} lost out of {n} is impossible")
    z2 = two_sided_z(level) ** 2
    return -_tango_upper(lost, gained, n, z2), _tango_upper(gained, lost, n, z2)


def _tango_upper(gained: float, lost: float, n: float, z2: float) -> float:
    def outside(d: float) -> bool:
        b = (2 * n - gained + lost) * d - gained - lost
        minus_c = lost * d * (1 - d)
        root = max(0.0, b * b + 8 * n * minus_c) ** 0.5
        q = 2 * minus_c / (b + root) if b > 0 else (root - b) / (4 * n)
        return bool((gained - lost - n * d) ** 2 > z2 * n * max(0.0, 2 * q + d * (1 - d)))

    inner, outer = (gained - lost) / n, 1.0
    if inner >= 1.0:
        return 1.0
    while True:
        middle = (inner + outer) / 2
        if middle in (inner, outer):
            return outer
        if outside(middle):
            outer = middle
        else:
            inner = middle
