"""The H-neuron readout: a sparse logistic probe on standardised CETT values, its C chosen on training folds only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from levercheck.readouts.sparse_logistic import Fit, fit_path

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Scaling:
    """Per-feature mean and standard deviation of the training items; constant features get deviation 1."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, x: Array) -> Scaling:
        """Measure both on `x`, float64 [items, features]."""
        deviation = x.std(axis=0)
        return cls(x.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def __call__(self, x: Array) -> Array:
        """Standardise float64 [items, features]."""
        return (x - self.mean) / self.deviation


@dataclass(frozen=True)
class Probe:
    """A fitted sparse probe. `weights` are per standard deviation, float64 [layers, neurons]; scores are log-odds."""

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

    def score(self, features: np.ndarray[Any, Any]) -> Array:
        """Log-odds of the positive label for float [items, layers, neurons]."""
        x = self.scaling(features.reshape(len(features), -1).astype(np.float64))
        scores: Array = x @ self.weights.ravel() + self.intercept
        return scores


@dataclass(frozen=True)
class OutOfFold:
    """Held-out scores of every training item at every C, float64 [cs, items], from folds that share no entity."""

    cs: tuple[float, ...]
    scores: Array


def out_of_fold(features: np.ndarray[Any, Any], labels: Array, folds: Array, cs: Sequence[float]) -> OutOfFold:
    """Score each fold with a path fitted on the others."""
    x = features.reshape(len(features), -1).astype(np.float64)
    scores = np.empty((len(cs), len(labels)))
    for fold in np.unique(folds):
        train, held = folds != fold, folds == fold
        for row, (scaling, fit) in enumerate(_fit(x[train], labels[train], cs)):
            scores[row, held] = scaling(x[held]) @ fit.coefficients + fit.intercept
    return OutOfFold(tuple(cs), scores)


def fit_probe(features: np.ndarray[Any, Any], labels: Array, cs: Sequence[float]) -> Probe:
    """Fit the path over `cs` on float [items, layers, neurons] with 0/1 labels; the probe of the largest C."""
    x = features.reshape(len(features), -1).astype(np.float64)
    scaling, fit = _fit(x, labels, sorted(cs))[-1]
    weights = fit.coefficients.reshape(features.shape[1:])
    return Probe(fit.c, weights, fit.intercept, scaling, fit.kkt_residual)


def _fit(x: Array, labels: Array, cs: Sequence[float]) -> list[tuple[Scaling, Fit]]:
    scaling = Scaling.of(x)
    return [(scaling, fit) for fit in fit_path(scaling(x), labels.astype(np.float64), cs)]
