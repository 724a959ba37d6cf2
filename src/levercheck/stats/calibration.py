"""Do stated probabilities mean what they say: Brier score and reliability bins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Bools, Floats, boolean, finite, same_length
from levercheck.stats.estimate import Estimate
from levercheck.stats.means import mean
from levercheck.stats.proportions import proportion


@dataclass(frozen=True)
class Bin:
    """Items whose stated probability lies in [low, high): their mean statement and how often it came true."""

    low: float
    high: float
    stated: float
    observed: Estimate

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "low": self.low,
            "high": self.high,
            "stated": self.stated,
            "observed": self.observed.to_dict(),
        }


def brier(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    cluster_unit: str | None = None,
) -> Estimate:
    """Brier's (1950) score: mean of (probability - label)^2 over ``[items]``; 0 is perfect, 1 the worst.

    Student interval of the per-item squares, cluster-robust when ``clusters`` are given.
    """
    stated, truth = _pairs(probabilities, labels)
    return mean((stated - truth) ** 2, clusters, level, "Brier score", cluster_unit=cluster_unit)


def reliability_bins(
    probabilities: npt.ArrayLike,
    labels: npt.ArrayLike,
    bins: int = 10,
    by: Literal["width", "count"] = "width",
    level: float = 0.95,
) -> tuple[Bin, ...]:
    """Reliability table of ``[items]``: equal-width bins of 0..1, or bins of about equal counts; empty ones
    left out.

    Ties are never split between bins. Each observed rate has a Wilson interval.
    """
    if bins < 1:
        raise ValueError(f"{bins} bins")
    if by not in ("width", "count"):
        raise ValueError(f"by {by!r} is unknown: use width or count")
    stated, truth = _pairs(probabilities, labels)
    if len(stated) == 0:
        return ()
    edges = np.linspace(0, 1, bins + 1)
    if by == "count":
        inner = np.quantile(stated, edges[1:-1], method="inverted_cdf")
        edges = np.unique(np.concatenate([[0.0], inner, [1.0]]))
        edges = edges if len(edges) > 1 else np.array([0.0, 1.0])
    place = np.clip(np.searchsorted(edges, stated, side="right") - 1, 0, len(edges) - 2)
    table = []
    for index in np.unique(place).tolist():
        inside = place == index
        rate = proportion(int(truth[inside].sum()), int(inside.sum()), level)
        low, high = float(edges[index]), float(edges[index + 1])
        table.append(Bin(low, high, float(stated[inside].mean()), rate))
    return tuple(table)


def expected_calibration_error(table: tuple[Bin, ...]) -> float | None:
    """Count-weighted mean of |stated - observed| over the bins; ``None`` without bins.

    Biased upwards in small samples and dependent on the bins: a summary to print beside the table, not to
    test.
    """
    total = sum(part.observed.n for part in table)
    if total == 0:
        return None
    gaps = (part.observed.n * abs(part.stated - (part.observed.value or 0.0)) for part in table)
    return sum(gaps) / total


def _pairs(probabilities: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Bools]:
    stated, truth = finite(probabilities, "probabilities", 1), boolean(labels, "labels")
    same_length(probabilities=stated, labels=truth)
    bad = int(((stated < 0) | (stated > 1)).sum())
    if bad:
        raise ValueError(f"{bad} of {len(stated)} probabilities lie outside 0..1")
    return stated, truth
