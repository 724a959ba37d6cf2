"""A band that holds at all doses at once, so that "at its best dose" is not cherry-picked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, codes, finite
from levercheck.stats._scipy import two_sided_t, two_sided_z
from levercheck.stats.clusters import sparse_design_effect
from levercheck.stats.estimate import Estimate, check_level
from levercheck.stats.means import unit_of_clusters


@dataclass(frozen=True)
class Band:
    """Change from the reference dose at every dose, with one simultaneous level.

    ``points[j]`` belongs to ``doses[j]``; the reference dose itself has value 0 and no interval.
    ``critical`` is the common number of standard errors; ``pointwise`` is what a single dose alone would
    have needed.
    """

    doses: tuple[float, ...]
    points: tuple[Estimate, ...]
    reference: float
    level: float
    critical: float | None
    pointwise: float | None

    def beyond(self, threshold: float = 0.0) -> tuple[float, ...]:
        """Doses whose whole interval lies above ``threshold``: all of these statements hold at once."""
        pairs = zip(self.doses, self.points, strict=True)
        return tuple(dose for dose, point in pairs if point.low is not None and point.low > threshold)

    def window(self, threshold: float = 0.0) -> tuple[float, float] | None:
        """Longest run of neighbouring doses in :meth:`beyond` (first and last dose); ``None`` when there is
        none.
        """
        good = set(self.beyond(threshold))
        best: list[float] = []
        run: list[float] = []
        for dose in sorted(self.doses):
            run = [*run, dose] if dose in good else []
            best = run if len(run) > len(best) else best
        return (best[0], best[-1]) if best else None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "doses": list(self.doses),
            "points": [point.to_dict() for point in self.points],
            "reference": self.reference,
            "level": self.level,
            "critical": self.critical,
            "pointwise": self.pointwise,
        }


def simultaneous_band(
    outcomes: npt.ArrayLike,
    doses: npt.ArrayLike,
    reference: float,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    unit: str = "pp",
    scale: float = 100.0,
    binary: bool = True,
    draws: int = 20_000,
    seed: int = 42,
    cluster_unit: str | None = None,
) -> Band:
    """Max-t band for the mean change of ``[items, doses]`` outcomes from the ``reference`` dose.

    The critical value is the ``level`` quantile of the largest absolute coordinate of a normal vector with
    the estimated correlation of the changes (Gaussian multipliers of items or clusters: Chernozhukov,
    Chetverikov and Kato 2013), times t_{G-1}/z for small samples. For ``binary`` outcomes every change gets
    two pseudo-items at +1 and -1, as in :func:`~levercheck.stats.slope`, so that a dose where nothing flips
    keeps a positive width.

    Raises ``ValueError`` for missing outcomes or a reference dose that is not on the grid exactly once.
    Fewer than two items or clusters leave all intervals empty.
    """
    level = check_level(level)
    grid, table = finite(doses, "doses", 1), finite(outcomes, "outcomes", 2)
    n, columns = table.shape
    if columns != len(grid) or len(np.unique(grid)) < columns:
        raise ValueError(f"outcomes have {columns} columns for doses {grid.tolist()}")
    base = np.flatnonzero(grid == reference)
    if len(base) != 1:
        raise ValueError(f"reference dose {reference} is not one of {grid.tolist()}")
    if binary and not np.isin(table, (0.0, 1.0)).all():
        raise ValueError("outcomes are not all 0 or 1: pass binary=False for graded outcomes")
    change = np.delete(table - table[:, base], base[0], axis=1)
    label, count = (np.arange(n), n) if clusters is None else codes(clusters, n)
    kept = None if clusters is None else count
    name = unit_of_clusters(kept, cluster_unit)
    method = f"{'' if clusters is None else 'cluster_'}max_t"
    values = change.mean(axis=0) if n else np.zeros(0)
    critical = pointwise = None
    centre = error = np.zeros(0)
    if count >= 2:
        centre, error, scores = _scores(change, label, count, binary, clusters is not None)
        pointwise = two_sided_t(level, count - 1)
        critical = _critical(scores, level, draws, seed) * pointwise / two_sided_z(level)
    points = []
    for column in range(columns):
        if column == base[0]:
            note = "reference dose"
            points.append(Estimate(0.0 if n else None, None, None, level, unit, n, method, kept, name, note=note))
            continue
        place = column - (column > base[0])
        value = None if n == 0 else float(values[place]) * scale
        if critical is None or error[place] == 0.0:
            note = "too few items" if critical is None else "no variation"
            points.append(Estimate(value, None, None, level, unit, n, method, kept, name, note=note))
            continue
        middle, half = float(centre[place]) * scale, critical * float(error[place]) * abs(scale)
        low, high = middle - half, middle + half
        points.append(Estimate(value, low, high, level, unit, n, method, kept, name, seed, draws))
    return Band(tuple(grid.tolist()), tuple(points), float(reference), level, critical, pointwise)


def _scores(
    change: Floats, label: npt.NDArray[np.int64], count: int, binary: bool, clustered: bool
) -> tuple[Floats, Floats, Floats]:
    """Centres, standard errors ``float64 [columns]`` and unit sums ``float64 [units, columns]`` of the
    changes.

    For binary outcomes with pseudo-items: their sums are the last two rows.
    """
    n, columns = change.shape
    weight = np.zeros(columns)
    if binary:
        effects = [sparse_design_effect(change[:, j], label, count) for j in range(columns)]
        weight = np.array(effects) if clustered else np.ones(columns)
    total = n + 2 * weight
    centre = change.sum(axis=0) / total
    sums = np.zeros((count, columns))
    np.add.at(sums, label, change - centre)
    if binary:
        sums = np.vstack([sums, weight * (1 - centre), weight * (-1 - centre)])
    units = len(sums)
    error = np.sqrt(units / (units - 1) * (sums**2).sum(axis=0)) / total
    return centre, error, sums


def _critical(scores: Floats, level: float, draws: int, seed: int) -> float:
    """Quantile of max |N(0, R)|, R the correlation of the columns of ``scores``; constant columns do not
    count.
    """
    size = np.sqrt((scores**2).sum(axis=0))
    scores = scores[:, size > 0] / size[size > 0]
    if scores.shape[1] == 0:
        return two_sided_z(level)
    values, vectors = np.linalg.eigh(scores.T @ scores)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = np.random.default_rng(seed).standard_normal((draws, scores.shape[1]))
    largest = np.abs(normal @ root.T).max(axis=1)
    return max(two_sided_z(level), float(np.quantile(largest, level)))
