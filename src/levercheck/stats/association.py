"""Rank correlation of two measurements."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, finite, same_length
from levercheck.stats._scipy import two_sided_z
from levercheck.stats.estimate import Estimate, check_level


def spearman(x: npt.ArrayLike, y: npt.ArrayLike, level: float = 0.95) -> Estimate:
    """Spearman's rho of two ``float64 [items]``, average ranks for ties, unit "rho".

    Interval on Fisher's z scale with variance (1 + rho^2/2)/(n - 3) (Bonett and Wright 2000). A constant
    input is not estimable; n < 4 or |rho| = 1 leaves the interval empty with a note.
    """
    level = check_level(level)
    first, second = finite(x, "x", 1), finite(y, "y", 1)
    n = same_length(x=first, y=second)

    def report(value: float | None, low: float | None, high: float | None, note: str | None) -> Estimate:
        return Estimate(value, low, high, level, "rho", n, "spearman_fisher_z", note=note)

    if n < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return report(None, None, None, "fewer than two items, or a constant input")
    a, b = average_ranks(first), average_ranks(second)
    a, b = a - a.mean(), b - b.mean()
    rho = float(a @ b / math.sqrt((a @ a) * (b @ b)))
    rho = max(-1.0, min(1.0, rho))
    if n < 4 or 1 - abs(rho) < 1e-12:
        return report(rho, None, None, f"no interval for rho {rho:.3g} of {n} items")
    half = two_sided_z(level) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return report(rho, math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half), None)


def average_ranks(values: Floats) -> Floats:
    """Ranks from 1, ties sharing their average, ``float64 [items]``."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)
