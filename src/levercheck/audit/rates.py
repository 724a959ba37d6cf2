"""Rates of yes/no outcomes whose items may come in groups of one entity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from levercheck.stats import Estimate, mean, proportion

UNIT = "entity"


def rate(outcomes: npt.NDArray[np.bool_], clusters: npt.NDArray[Any], level: float = 0.95) -> Estimate:
    """Share of positive `outcomes`, bool [items], in per cent; `clusters` [items] names their entities.

    Wilson where every item is its own entity, else a cluster-robust t interval cut at 0 and 100, and where outcomes do
    not vary, Wilson on the number of entities.
    """
    groups = len(set(clusters.tolist()))
    if groups == len(outcomes):
        return proportion(int(outcomes.sum()), len(outcomes), level=level, unit="%")
    found = mean(outcomes.astype(np.float64), clusters, level=level, unit="%", scale=100.0, cluster_unit=UNIT)
    if found.low is None and found.value in (0.0, 100.0) and groups > 1:
        flat = proportion(groups if found.value else 0, groups, level=level, unit="%")
        return Estimate(flat.value, flat.low, flat.high, level, "%", len(outcomes), "wilson_clusters", groups, UNIT)
    if found.low is None or found.high is None:
        return found
    return replace(found, low=max(0.0, found.low), high=min(100.0, found.high))
