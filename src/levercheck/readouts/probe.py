"""The H-neuron readout: a sparse logistic probe on CETT values, its C chosen on training folds only.

Features may be a memory-mapped float16, float32 or float64 array [items, layers, neurons] in C order; folds and
training rows are taken from it without a copy, and standardisation, the default, is implicit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from levercheck.readouts.sparse_logistic import Fit, Intercept, fit_path
from levercheck.readouts.sparse_matrix import Array, Columns, Rows, Scaling, row_indices

__all__ = ["OutOfFold", "Probe", "Scaling", "fit_probe", "out_of_fold"]

Features = np.ndarray[Any, Any]  # float16, float32 or float64 [items, layers, neurons]


@dataclass(frozen=True)
class Probe:
    """A fitted sparse probe. `weights` are per standard deviation, float64 [layers, neurons]; scores are log-odds.

    The scaling of a probe on raw features is the identity.
    """

    c: float
    weights: Array
    intercept: float
    scaling: Scaling
    kkt_residual: float

    @property
    def neurons(self) -> tuple[tuple[int, int], ...]:
        """The H-neurons: (layer, index) of every positive weight, in layer order."""
        return tuple((int(layer), int(index)) for layer, index in np.argwhere(self.weights > 0))

    @property
    def nonzero(self) -> tuple[tuple[int, int], ...]:
        """(layer, index) of every weight that is not zero."""
        return tuple((int(layer), int(index)) for layer, index in np.argwhere(self.weights != 0))

    def score(self, features: Features, rows: Rows | None = None) -> Array:
        """Log-odds of the positive label, float64 [rows], for features [items, layers, neurons].

        Only neurons with a weight are read. Raises `UsageError` when a value among them is not finite.
        """
        return Columns(_flat(features), rows, self.scaling).margins(self.weights.ravel(), self.intercept)


@dataclass(frozen=True)
class OutOfFold:
    """Held-out scores of every training item at every C, float64 [cs, items], from folds that share no entity."""

    cs: tuple[float, ...]
    scores: Array


def out_of_fold(
    features: Features,
    labels: np.ndarray[Any, Any],
    folds: np.ndarray[Any, Any],
    cs: Sequence[float],
    *,
    rows: Rows | None = None,
    scale: bool = True,
    intercept: Intercept = "free",
) -> OutOfFold:
    """Score each fold with a path fitted on the others.

    labels (0/1) and folds are per item of `features`; only `rows` (bool mask or indices) take part, and the scores
    [cs, rows] keep their order. scale: standardise by the other folds; False leaves raw features. Raises what
    `fit_path` raises.
    """
    x = _flat(features)
    chosen = row_indices(rows, len(x))
    chosen = np.arange(len(x)) if chosen is None else chosen
    scores = np.empty((len(cs), len(chosen)))
    for fold in np.unique(folds[chosen]):
        held = folds[chosen] == fold
        scaling, fits = _fit(x, labels, cs, chosen[~held], scale, intercept)
        outside = Columns(x, chosen[held], scaling)
        for row, fit in enumerate(fits):
            scores[row, held] = outside.margins(fit.coefficients, fit.intercept)
    return OutOfFold(tuple(cs), scores)


def fit_probe(
    features: Features,
    labels: np.ndarray[Any, Any],
    cs: Sequence[float],
    *,
    rows: Rows | None = None,
    scale: bool = True,
    intercept: Intercept = "free",
) -> Probe:
    """Fit the path over `cs` on [items, layers, neurons] with 0/1 labels [items]; the probe of the largest C.

    rows: bool mask or indices of the items to fit on. scale: standardise by them; False leaves raw features.
    intercept: "free", or "penalised" as in liblinear. Raises what `fit_path` raises.
    """
    x = _flat(features)
    scaling, fits = _fit(x, labels, sorted(cs), rows, scale, intercept)
    fit = fits[-1]
    weights = fit.coefficients.reshape(features.shape[1:])
    return Probe(fit.c, weights, fit.intercept, scaling or Scaling.identity(x.shape[1]), fit.kkt_residual)


def _fit(
    x: Features, labels: np.ndarray[Any, Any], cs: Sequence[float], rows: Rows | None, scale: bool, intercept: Intercept
) -> tuple[Scaling | None, list[Fit]]:
    scaling = Scaling.of(x, rows) if scale else None
    return scaling, fit_path(x, labels, cs, rows=rows, scaling=scaling, intercept=intercept)


def _flat(features: Features) -> Features:
    """[items, layers · neurons], a view of features in C order."""
    return features.reshape(len(features), -1)
