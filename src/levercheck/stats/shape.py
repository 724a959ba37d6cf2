"""Shape of a dose response: is there a straight trend, is there curvature, and where would it turn?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, finite
from levercheck.stats.estimate import Estimate
from levercheck.stats.means import mean

Kind = Literal["flat", "monotone", "saturating", "peak", "trough", "undecided"]


@dataclass(frozen=True)
class Shape:
    """Linear and quadratic components of the mean response, and the shape their intervals license.

    ``kind``: "flat" when neither interval excludes 0 (absence of evidence: use :func:`tost` to claim no effect);
    "monotone" when only the linear one does; with curvature, "peak" or "trough" when the fitted turning point lies
    inside the dose grid and "saturating" when it lies outside; "undecided" when a component is not estimable.
    ``turning``: the dose of the fitted extremum, ``None`` without curvature.
    """

    linear: Estimate
    quadratic: Estimate
    kind: Kind
    turning: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        pair = {"linear": self.linear.to_dict(), "quadratic": self.quadratic.to_dict()}
        return {**pair, "kind": self.kind, "turning": self.turning}


def dose_shape(
    outcomes: npt.ArrayLike,
    doses: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    unit: str = "pp",
    scale: float = 100.0,
    cluster_unit: str | None = None,
) -> Shape:
    """Orthogonal-polynomial trend test of ``[items, doses]`` at three or more distinct doses.

    Every item gets a least-squares linear and quadratic coefficient (the quadratic orthogonal to the line, on any
    spacing); their means carry cluster-robust Student intervals. Units: ``unit`` per unit dose and per squared unit
    dose. ``ValueError`` for fewer than three distinct doses or missing outcomes.
    """
    grid = finite(doses, "doses", 1)
    if len(np.unique(grid)) < 3:
        raise ValueError(f"curvature needs at least three distinct doses, got {np.unique(grid).tolist()}")
    table = finite(outcomes, "outcomes", 2)
    if table.shape[1] != len(grid):
        raise ValueError(f"outcomes have {table.shape[1]} columns for {len(grid)} doses")
    line, bend = _contrasts(grid)
    linear, quadratic = (
        mean(table @ weights, clusters, level, f"{unit}/dose{power}", scale, cluster_unit)
        for weights, power in ((line, ""), (bend, "^2"))
    )
    trend, curved = linear.excludes(0.0), quadratic.excludes(0.0)
    if trend is None or curved is None or linear.value is None or quadratic.value is None:
        return Shape(linear, quadratic, "undecided", None)
    if not curved:
        return Shape(linear, quadratic, "monotone" if trend else "flat", None)
    fit = np.polynomial.polynomial.polyfit(grid, table.mean(axis=0), 2)
    turning = float(-fit[1] / (2 * fit[2]))
    if not grid.min() < turning < grid.max():
        return Shape(linear, quadratic, "saturating", turning)
    return Shape(linear, quadratic, "peak" if quadratic.value < 0 else "trough", turning)


def _contrasts(grid: Floats) -> tuple[Floats, Floats]:
    """Weights w with coefficient = y . w, for the slope and for the quadratic term after the line."""
    centred = grid - grid.mean()
    line = centred / (centred @ centred)
    square = centred**2 - (centred**2).mean()
    square = square - (square @ line) * centred
    return line, np.asarray(square / (square @ square), dtype=np.float64)
