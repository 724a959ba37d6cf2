"""Adjusted p-values for families of tests. Each is comparable with alpha directly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, finite


def holm(p: npt.ArrayLike) -> Floats:
    """Holm's (1979) step-down adjusted p-values, ``float64 [tests]``: family-wise error, any dependence."""
    values = _p_values(p)
    order = np.argsort(values, kind="stable")
    steps = np.arange(len(values), 0, -1)
    return _unsort(np.maximum.accumulate(np.minimum(values[order] * steps, 1.0)), order)


def benjamini_hochberg(p: npt.ArrayLike) -> Floats:
    """Benjamini and Hochberg's (1995) adjusted p-values: false-discovery rate, independent or positively
    dependent.
    """
    return _step_up(_p_values(p), 1.0)


def benjamini_yekutieli(p: npt.ArrayLike) -> Floats:
    """Benjamini and Yekutieli's (2001) adjusted p-values: false-discovery rate, any dependence."""
    values = _p_values(p)
    return _step_up(values, float((1.0 / np.arange(1, len(values) + 1)).sum()))


def _step_up(values: Floats, factor: float) -> Floats:
    order = np.argsort(values, kind="stable")
    ranks = np.arange(1, len(values) + 1)
    raw = values[order] * (factor * len(values)) / ranks
    return _unsort(np.minimum(np.minimum.accumulate(raw[::-1])[::-1], 1.0), order)


def _unsort(adjusted: Floats, order: npt.NDArray[np.int64]) -> Floats:
    result = np.empty_like(adjusted)
    result[order] = adjusted
    return result


def _p_values(p: npt.ArrayLike) -> Floats:
    values = finite(p, "p", 1)
    bad = int(((values < 0) | (values > 1)).sum())
    if bad:
        raise ValueError(f"{bad} of {len(values)} p-values lie outside 0..1")
    return values
