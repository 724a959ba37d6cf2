"""Worst and best case over rows that could not be scored: parse failures, truncations, judge errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats
from levercheck.stats.estimate import Estimate
from levercheck.stats.paired import paired_difference
from levercheck.stats.proportions import proportion


@dataclass(frozen=True)
class Bounds:
    """An estimate under the least and the most favourable filling of unscored rows.

    ``scored`` uses the scored rows only, as if the rest were missing at random. ``low``/``high`` span the
    intervals of the two extreme cases: they hold whatever the unscored rows would have been.
    """

    lowest: Estimate
    highest: Estimate
    scored: Estimate
    unscored: int

    @property
    def low(self) -> float | None:
        """Lower end of the worst case's interval."""
        return self.lowest.low

    @property
    def high(self) -> float | None:
        """Upper end of the best case's interval."""
        return self.highest.high

    def same_sign(self) -> bool | None:
        """Whether zero is excluded on one side in every filling; ``None`` when not estimable."""
        if self.low is None or self.high is None:
            return None
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "lowest": self.lowest.to_dict(),
            "highest": self.highest.to_dict(),
            "scored": self.scored.to_dict(),
            "unscored": self.unscored,
        }


def rate_bounds(outcomes: npt.ArrayLike, level: float = 0.95, unit: str = "fraction") -> Bounds:
    """Bounds of a rate: ``outcomes`` ``float64 [items]`` of 0 and 1, NaN where unscored (Manski 1989)."""
    values = _partial(outcomes, "outcomes")
    n, missing, yes = len(values), int(np.isnan(values).sum()), int(np.nansum(values))
    return Bounds(
        lowest=proportion(yes, n, level, unit=unit),
        highest=proportion(yes + missing, n, level, unit=unit),
        scored=proportion(yes, n - missing, level, unit=unit),
        unscored=missing,
    )


def paired_bounds(
    after: npt.ArrayLike,
    before: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    unit: str = "pp",
) -> Bounds:
    """Bounds of a paired difference of rates; 0, 1 or NaN per item ``[items]`` in each arm.

    Lowest: unscored rows count as no in ``after`` and as yes in ``before``; highest: the reverse.
    ``scored`` keeps the items scored in both arms. ``unscored`` counts items unscored in either.
    """
    first, second = _partial(after, "after"), _partial(before, "before")
    if len(first) != len(second):
        raise ValueError(f"lengths differ: after {len(first)}, before {len(second)}")
    whole = np.isfinite(first) & np.isfinite(second)
    kept = None if clusters is None else np.asarray(clusters)[whole]
    return Bounds(
        lowest=paired_difference(_fill(first, 0.0), _fill(second, 1.0), clusters, level, unit),
        highest=paired_difference(_fill(first, 1.0), _fill(second, 0.0), clusters, level, unit),
        scored=paired_difference(first[whole], second[whole], kept, level, unit),
        unscored=int((~whole).sum()),
    )


def _fill(values: Floats, with_value: float) -> Floats:
    return np.where(np.isnan(values), with_value, values)


def _partial(values: npt.ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} has {array.ndim} axes, expected 1")
    bad = int((~np.isnan(array) & (array != 0.0) & (array != 1.0)).sum())
    if bad:
        raise ValueError(f"{name} has {bad} entries that are neither 0, 1 nor missing")
    return array
