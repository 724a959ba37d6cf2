"""How well scores tell two labels apart: areas of many columns at once, and rates with clustered intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import rankdata

from levercheck import stats
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.stats import Estimate
from levercheck.stats.proportions import exact_bounds

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]


def areas(scores: np.ndarray[Any, Any], labels: Bools) -> Floats:
    """AUROC of every column, float64 [...], for scores [items, ...]; ties count one half.

    A label that is missing is a NotEnoughDataError and a score that is not finite a UsageError, never 0.5.
    """
    ones, zeros = int(labels.sum()), int((~labels).sum())
    if not ones or not zeros:
        raise NotEnoughDataError(f"{ones} examples of label 1 and {zeros} of label 0: an AUROC needs both")
    if not np.isfinite(scores).all():
        raise UsageError("scores are not finite: load the model in float32 or bfloat16")
    ranks = rankdata(scores, axis=0)
    area: Floats = (ranks[labels].sum(0) - ones * (ones + 1) / 2) / (ones * zeros)
    return area


def balanced(right: np.ndarray[Any, Any], labels: Bools) -> Floats:
    """Balanced accuracy of every column, float64 [...], for bool [items, ...]: the mean of both labels' recalls."""
    if labels.all() or not labels.any():
        raise NotEnoughDataError("one label is missing: a balanced accuracy needs both")
    mean: Floats = (right[labels].mean(0) + right[~labels].mean(0)) / 2
    return mean


def accuracy(right: Bools, groups: Sequence[str] | None, *, labels: Bools | None = None) -> Estimate:
    """Share of right calls with its interval; with `labels`, the balanced accuracy.

    The interval is that of the linearised mean (each label's recall around its own value), clustered by group, cut to
    0..1. Where that has no spread (all calls right, or one right in every group), it is the exact binomial one of as
    many independent units as the rarer label has groups.
    """
    unit = "accuracy" if labels is None else "balanced accuracy"
    names = list(range(len(right))) if groups is None else list(groups)
    if labels is None:
        values = right.astype(np.float64)
        units = len(set(names))
    else:
        values = np.full(len(right), float(balanced(right, labels)))
        for label in (labels, ~labels):
            values[label] += len(right) / (2 * label.sum()) * (right[label] - right[label].mean())
        units = min(len({n for n, k in zip(names, label, strict=True) if k}) for label in (labels, ~labels))
    found = stats.mean(values, groups, unit=unit, cluster_unit=None if groups is None else "group")
    if found.value is None:
        return found
    if found.low is None or found.high is None:
        low, high = exact_bounds(found.value * units, units, found.level)
        note = f"{found.note}: exact bound from {units} units"
        return replace(found, low=low, high=high, method="exact", note=note)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def area(scores: np.ndarray[Any, Any], labels: Bools, groups: Sequence[str] | None) -> Estimate:
    """AUROC of one column with its (clustered) interval."""
    return stats.auroc(scores, labels, groups, cluster_unit=None if groups is None else "group")


def clusters_of(groups: Sequence[str]) -> list[str] | None:
    """The groups where any has several examples, None where every example is its own."""
    return list(groups) if len(set(groups)) < len(groups) else None
