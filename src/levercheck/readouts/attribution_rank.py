"""Where a predicted slope falls among those of control draws that were never run: the first-order null. Plain numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from levercheck.errors import NotEnoughDataError
from levercheck.stats import Estimate, attainable_p, mean, monte_carlo_p, percentile_bounds, proportion

MIN_DRAWS = 100
"""Fewest draws: a percentile from fewer is too coarse to be read, and more cost nothing."""


@dataclass(frozen=True)
class FirstOrder:
    """A target's predicted slope against those of its control draws, all on the same items.

    `slope`: mean over items with its interval. `below`: share of draws with a smaller mean, with a Wilson interval for
    the number of draws. `p`: two-sided Monte-Carlo p; `attainable_p` the smallest it could be. `controls`: mean, sd and
    central 95 % of the draws' means. First order: what large doses do is not predicted.
    """

    slope: Estimate
    below: Estimate
    p: float
    attainable_p: float
    controls: dict[str, float]
    draws: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "slope": self.slope.to_dict(),
            "below": self.below.to_dict(),
            "p": self.p,
            "attainable_p": self.attainable_p,
            "controls": self.controls,
            "draws": self.draws,
        }


def first_order(
    target: npt.ArrayLike,
    draws: npt.ArrayLike,
    *,
    clusters: npt.ArrayLike | None = None,
    cluster_unit: str | None = None,
    unit: str = "logit/dose",
) -> FirstOrder:
    """Rank `target` float [items] among `draws` float [draws, items] by their means over items."""
    own, table = np.asarray(target, np.float64), np.asarray(draws, np.float64)
    if len(table) < MIN_DRAWS:
        raise NotEnoughDataError(f"{len(table)} draws for a first-order null, expected at least {MIN_DRAWS}: draw more")
    null = table.mean(axis=1)
    value = float(own.mean())
    low, high = percentile_bounds(null, 0.95)
    return FirstOrder(
        mean(own, clusters=clusters, unit=unit, cluster_unit=cluster_unit),
        proportion(int((null < value).sum()), len(null)),
        monte_carlo_p(value, null, "two-sided"),
        attainable_p(len(null), "two-sided"),
        {"mean": float(null.mean()), "sd": float(null.std(ddof=1)), "low": low, "high": high},
        len(null),
    )
