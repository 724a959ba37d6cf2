"""Do two or more raters agree: Cohen's kappa, Krippendorff's alpha, Gwet's AC1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, Ints
from levercheck.stats.estimate import Estimate
from levercheck.stats.resampling import bootstrap_totals

Metric = Literal["nominal", "ordinal", "interval"]


def cohen_kappa(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    categories: Sequence[object] | None = None,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    cluster_unit: str | None = None,
) -> Estimate:
    """Cohen's (1960) kappa of two raters' labels ``[items]``: (po - pe)/(1 - pe), pe from both margins.

    Kappa falls with prevalence even when agreement does not: print it beside the confusion counts, or use
    :func:`gwet_ac1`. Both raters using one and the same label throughout is not estimable (chance agreement
    is certain). Percentile interval over items or clusters. Missing labels or unequal lengths are
    ``ValueError``.
    """
    ratings, names = _ratings([first, second], categories)
    if (ratings < 0).any():
        raise ValueError(f"{int((ratings < 0).any(axis=0).sum())} items lack a label: drop them first")
    q = len(names)
    cells = np.zeros((ratings.shape[1], q * q))
    cells[np.arange(ratings.shape[1]), ratings[0] * q + ratings[1]] = 1.0

    def kappa(totals: Floats) -> Floats:
        table = totals.reshape(-1, q, q)
        n = table.sum(axis=(1, 2))
        observed = np.trace(table, axis1=1, axis2=2) / n
        chance = (table.sum(axis=2) * table.sum(axis=1)).sum(axis=1) / n**2
        return _chance_corrected(observed, chance)

    return bootstrap_totals(cells, kappa, clusters, level, resamples, seed, "kappa", cluster_unit, "cohen_kappa")


def krippendorff_alpha(
    ratings: Sequence[npt.ArrayLike],
    metric: Metric = "nominal",
    categories: Sequence[object] | None = None,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    cluster_unit: str | None = None,
) -> Estimate:
    """Krippendorff's (2004) alpha of any number of raters, ``ratings[rater][item]``, ``None`` or NaN where
    missing.

    1 - observed over expected disagreement from the coincidence matrix; items with fewer than two ratings
    are left out. ``metric``: "nominal"; "ordinal", by ranks, in the order of ``categories`` (default:
    sorted); "interval", by squared differences of numeric categories. Percentile interval over items or
    clusters.
    """
    if metric not in ("nominal", "ordinal", "interval"):
        raise ValueError(f"metric {metric!r} is unknown: use nominal, ordinal or interval")
    coded, names = _ratings(ratings, categories)
    counts = _category_counts(coded, len(names))
    rated = counts.sum(axis=1)
    usable = rated >= 2
    q = len(names)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs[:, np.arange(q), np.arange(q)] -= counts
    weight = np.divide(1.0, rated - 1, out=np.zeros(len(rated)), where=usable)
    coincidence = (pairs * weight[:, None, None]).reshape(len(counts), q * q)
    distance = _distance(metric, names)

    def alpha(totals: Floats) -> Floats:
        table = totals.reshape(-1, q, q)
        margin = table.sum(axis=2)
        n = margin.sum(axis=1)
        gap = distance(margin)
        observed = (table * gap).sum(axis=(1, 2))
        expected = (margin[:, :, None] * margin[:, None, :] * gap).sum(axis=(1, 2)) / (n - 1)
        return np.asarray(1 - observed / expected)

    return bootstrap_totals(
        coincidence, alpha, clusters, level, resamples, seed, "alpha", cluster_unit, f"krippendorff_{metric}"
    )


def gwet_ac1(
    ratings: Sequence[npt.ArrayLike],
    categories: Sequence[object] | None = None,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    cluster_unit: str | None = None,
) -> Estimate:
    """Gwet's (2008) AC1 of two or more raters, ``ratings[rater][item]``, ``None`` or NaN where missing.

    Chance agreement is sum_k p_k (1 - p_k)/(q - 1), which stays small when one label is rare, where kappa
    breaks down. p_k averages over all rated items, agreement over items with at least two ratings.
    ``categories`` fixes q, which matters when a label never occurs. Percentile interval over items or
    clusters.
    """
    coded, names = _ratings(ratings, categories)
    q = len(names)
    if q < 2:
        raise ValueError("AC1 needs at least two categories: name them in categories=")
    counts = _category_counts(coded, q)
    rated = counts.sum(axis=1)
    usable = rated >= 2
    scale = np.where(usable, rated * (rated - 1), 1)
    agree = np.where(usable, (counts * (counts - 1)).sum(axis=1) / scale, 0.0)
    shares = counts / np.maximum(rated, 1)[:, None]
    parts = np.column_stack([agree, usable, shares, rated > 0]).astype(np.float64)

    def ac1(totals: Floats) -> Floats:
        observed = totals[:, 0] / totals[:, 1]
        p = totals[:, 2 : 2 + q] / totals[:, 2 + q, None]
        return _chance_corrected(observed, (p * (1 - p)).sum(axis=1) / (q - 1))

    return bootstrap_totals(parts, ac1, clusters, level, resamples, seed, "AC1", cluster_unit, "gwet_ac1")


def _chance_corrected(observed: Floats, chance: Floats) -> Floats:
    """(observed - chance)/(1 - chance), NaN where chance agreement is certain."""
    room = 1 - chance
    return np.where(room > 1e-9, (observed - chance) / np.where(room > 1e-9, room, 1.0), np.nan)


def _distance(metric: Metric, names: list[object]) -> Callable[[Floats], Floats]:
    """Squared distance between categories given margins ``[rows, q]``: ``[rows or 1, q, q]``."""
    q = len(names)
    if metric == "nominal":
        flat = (1.0 - np.eye(q))[None]
        return lambda margin: flat
    if metric == "interval":
        values = np.array(names, dtype=np.float64)
        square = ((values[:, None] - values[None, :]) ** 2)[None]
        return lambda margin: square

    def ordinal(margin: Floats) -> Floats:
        middle = np.cumsum(margin, axis=1) - margin / 2
        return np.asarray((middle[:, :, None] - middle[:, None, :]) ** 2)

    return ordinal


def _ratings(ratings: Sequence[npt.ArrayLike], categories: Sequence[object] | None) -> tuple[Ints, list[object]]:
    """Codes ``int64 [raters, items]`` (-1 where missing) and the category names in order."""
    rows = [np.asarray(row, dtype=object).tolist() for row in ratings]
    if len(rows) < 2:
        raise ValueError("agreement needs at least two raters")
    if len({len(row) for row in rows}) > 1:
        raise ValueError(f"lengths differ: {', '.join(str(len(row)) for row in rows)}")
    seen = {label for row in rows for label in row if label is not None and label == label}
    names = sorted(seen, key=lambda x: (str(type(x)), x)) if categories is None else list(categories)
    unknown = sorted(str(label) for label in seen - set(names))
    if unknown:
        raise ValueError(f"labels outside the categories: {', '.join(unknown)}")
    index = {name: code for code, name in enumerate(names)}
    coded = [[index[x] if x is not None and x == x else -1 for x in row] for row in rows]
    return np.array(coded, dtype=np.int64).reshape(len(rows), -1), names


def _category_counts(coded: Ints, q: int) -> Floats:
    """How many raters gave each label, ``float64 [items, q]``."""
    return np.stack([(coded == k).sum(axis=0) for k in range(q)], axis=1).astype(np.float64)
