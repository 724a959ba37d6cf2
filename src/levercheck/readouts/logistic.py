"""Ridge logistic probes of many sites at once: one small Newton problem per site, solved side by side.

Every site minimises ½‖w‖² + C Σᵢ log(1 + exp(−yᵢ (w · xᵢ + b))) over features standardised by the items it is fitted
on, with the intercept b free: the problem of scikit-learn's `LogisticRegression(C=C)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from levercheck.errors import NotEnoughDataError, UsageError

Floats = np.ndarray[Any, np.dtype[np.float64]]
TOLERANCE = 1e-8
"""Largest entry of the gradient at the solution, per item and unit of C."""
STEPS = 100
CHUNK = 1 << 25
"""Numbers of float64 that a chunk of sites may hold."""


@dataclass(frozen=True)
class Probes:
    """`weights`, `mean` and `deviation` float64 [sites, width], `intercepts` [sites]; weights are per deviation."""

    weights: Floats
    intercepts: Floats
    mean: Floats
    deviation: Floats

    def scores(self, features: np.ndarray[Any, Any]) -> Floats:
        """Log-odds of label 1, float64 [items, sites], of features [items, sites, width]."""
        slopes = self.weights / self.deviation
        offset = self.intercepts - (slopes * self.mean).sum(-1)
        found: Floats = np.einsum("nsw,sw->ns", features, slopes, dtype=np.float64, optimize=True) + offset
        return found


def fit_probes(features: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], *, c: float = 1.0) -> Probes:
    """Fit one probe per site of features [items, sites, width] to labels bool [items].

    A label that is missing is a NotEnoughDataError; a number that is not finite, or a C that is not positive, a
    UsageError.
    """
    if not c > 0:
        raise UsageError(f"C = {c}: expected a positive number")
    if labels.all() or not labels.any():
        raise NotEnoughDataError(
            f"{int(labels.sum())} of {len(labels)} examples have label 1: a probe needs both labels"
        )
    if not np.isfinite(features).all():
        raise UsageError("features of a probe are not finite: load the model in float32 or bfloat16")
    items, sites, width = features.shape
    step = max(1, CHUNK // ((items + width) * (width + 1)))
    parts = [_fit(features[:, at : at + step], labels, c) for at in range(0, sites, step)]
    return Probes(*(np.concatenate([getattr(p, name) for p in parts]) for name in Probes.__dataclass_fields__))


def _fit(features: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], c: float) -> Probes:
    x = np.moveaxis(features, 1, 0).astype(np.float64)  # [sites, items, width]
    mean, deviation = x.mean(1), x.std(1)
    deviation = np.where(deviation > 0, deviation, 1.0)
    x = (x - mean[:, None]) / deviation[:, None]
    design = np.concatenate([x, np.ones((*x.shape[:2], 1))], axis=2)
    ridge = np.ones(design.shape[2])
    ridge[-1] = 0.0
    truth = labels.astype(np.float64)
    beta = np.zeros((len(design), design.shape[2]))
    beta[:, -1] = np.log(truth.mean() / (1 - truth.mean()))
    live = np.arange(len(design))
    for _ in range(STEPS):
        own, at = design[live], beta[live]
        margin = np.matmul(own, at[..., None])[..., 0]
        p = np.exp(-np.logaddexp(0, -margin))
        gradient = c * np.matmul((p - truth)[:, None], own)[:, 0] + ridge * at
        open_ = np.abs(gradient).max(1) > TOLERANCE * c * len(truth)
        if not open_.any():
            break
        live, own, at, p, margin, gradient = (a[open_] for a in (live, own, at, p, margin, gradient))
        curvature = np.matmul((own * (c * p * (1 - p))[..., None]).transpose(0, 2, 1), own)
        curvature[:, np.arange(len(ridge)), np.arange(len(ridge))] += ridge
        beta[live] = _step(own, truth, at, gradient, np.linalg.solve(curvature, -gradient[..., None])[..., 0], c, ridge)
    else:
        raise UsageError(f"{len(live)} probes did not converge in {STEPS} Newton steps at C = {c:g}: use a smaller C")
    return Probes(beta[:, :-1], beta[:, -1], mean, deviation)


def _step(
    design: Floats, truth: Floats, at: Floats, gradient: Floats, direction: Floats, c: float, ridge: Floats
) -> Floats:
    """Each site's longest step of 1, ½, ¼, ... that lowers its objective enough (Armijo)."""
    before = _objective(design, truth, at, c, ridge)
    slope = (gradient * direction).sum(1)
    length = np.ones(len(at))
    for _ in range(40):
        new = at + length[:, None] * direction
        bad = _objective(design, truth, new, c, ridge) > before + 1e-4 * length * slope + 1e-12 * np.abs(before)
        if not bad.any():
            break
        length[bad] /= 2
    return new


def _objective(design: Floats, truth: Floats, beta: Floats, c: float, ridge: Floats) -> Floats:
    margin = np.matmul(design, beta[..., None])[..., 0]
    loss: Floats = c * (np.logaddexp(0, margin) - truth * margin).sum(1) + 0.5 * (ridge * beta**2).sum(1)
    return loss
