"""L1-regularised logistic regression on wide matrices, solved to a checked optimum.

Minimises Σ_i log(1 + exp(-s_i (x_i·w + b))) + λ ‖w‖₁ with s = ±1, λ = 1/C and an unpenalised intercept b: the problem
of scikit-learn's `LogisticRegression(l1_ratio=1, C=C)` except that liblinear also penalises b. A small working set is
solved by proximal Newton steps and finished by Newton steps on its support; all columns are then checked, and the worst
violators of the optimality (KKT) conditions join the set. Along the path, strong rules (Tibshirani et al. 2012) choose
the first set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from levercheck.errors import LevercheckError

Array = np.ndarray[Any, np.dtype[np.float64]]

KKT_LIMIT = 1e-4  # relative to λ; no solution worse than this is returned
KKT_TOLERANCE = KKT_LIMIT / 10


class NotConvergedError(LevercheckError):
    """The solver stopped before the optimum; scale the features or ask for a smaller C."""

    exit_code = 1


@dataclass(frozen=True)
class Fit:
    """A solution: coefficients [features], intercept, and the largest KKT violation divided by λ."""

    c: float
    coefficients: Array
    intercept: float
    kkt_residual: float


def fit_path(x: Array, y: Array, cs: Sequence[float]) -> list[Fit]:
    """Solutions for ascending values of C, each warm-started from the last.

    x: float64 [items, features], already scaled as the caller wants; y: 0/1 [items] with both classes.
    """
    if list(cs) != sorted(cs) or not cs or cs[0] <= 0:
        raise ValueError(f"cs must be positive and ascending, got {list(cs)}")
    if set(np.unique(y)) != {0.0, 1.0}:
        raise ValueError("y must hold both classes, coded 0 and 1")
    weights = np.zeros(x.shape[1])
    intercept = float(np.log(y.mean() / (1 - y.mean())))
    gradient = x.T @ (_sigmoid(np.full(len(y), intercept)) - y)
    previous = float(np.abs(gradient).max())
    fits = []
    for c in cs:
        lam = 1.0 / c
        working = _strongest(np.abs(gradient) >= 2 * lam - previous, gradient, weights)
        for _ in range(200):
            weights[working], intercept = _solve(x[:, working], y, lam, weights[working], intercept)
            gradient = x.T @ (_sigmoid(x[:, working] @ weights[working] + intercept) - y)
            violators = (np.abs(gradient) > lam * (1 + KKT_TOLERANCE)) & (weights == 0)
            violators[working] = False
            if not violators.any():
                break
            working = _strongest(violators, gradient, weights)
        previous = lam
        residual = kkt_residual(x, y, c, weights, intercept)
        if residual > KKT_LIMIT:
            raise NotConvergedError(f"C = {c:g} has a KKT residual of {residual:.1e}, expected at most {KKT_LIMIT:g}")
        fits.append(Fit(c, weights.copy(), intercept, residual))
    return fits


def _strongest(candidates: np.ndarray[Any, np.dtype[np.bool_]], gradient: Array, weights: Array) -> Any:
    """The support and the candidates with the steepest gradients: few columns, so that each solve stays cheap."""
    support = np.flatnonzero(weights)
    ranked = np.flatnonzero(candidates & (weights == 0))
    ranked = ranked[np.argsort(-np.abs(gradient[ranked]), kind="stable")]
    return np.union1d(support, ranked[: max(50, len(support))])


def kkt_residual(x: Array, y: Array, c: float, weights: Array, intercept: float) -> float:
    """Largest violation of the optimality conditions, divided by λ = 1/C; 0 at the exact optimum."""
    error = _sigmoid(x @ weights + intercept) - y
    return _violation(x.T @ error, float(error.sum()), weights, 1.0 / c)


def _violation(gradient: Array, intercept_gradient: float, weights: Array, lam: float) -> float:
    active = weights != 0
    off = np.maximum(np.abs(gradient[~active]) - lam, 0).max(initial=0.0)
    on = np.abs(gradient[active] + lam * np.sign(weights[active])).max(initial=0.0)
    return float(max(off, on, abs(intercept_gradient)) / lam)


def _solve(x: Array, y: Array, lam: float, weights: Array, intercept: float) -> tuple[Array, float]:
    """Proximal Newton on a working set: each quadratic model is solved by coordinate descent on its Gram matrix."""
    design = np.column_stack([x, np.ones(len(y))])
    point = np.append(weights, intercept)
    penalty = np.append(np.full(x.shape[1], lam), 0.0)
    for _ in range(60):
        polished = _newton(x, y, lam, point[:-1], float(point[-1]))
        p = _sigmoid(x @ polished[0] + polished[1])
        if _violation(x.T @ (p - y), float((p - y).sum()), polished[0], lam) <= KKT_TOLERANCE / 2:
            return polished
        p = _sigmoid(design @ point)
        hessian = (design * np.maximum(p * (1 - p), 1e-6)[:, None]).T @ design
        gradient = design.T @ (p - y)
        move = _coordinate_descent(hessian, gradient, point, penalty)
        slope = float(gradient @ move + penalty @ (np.abs(point + move) - np.abs(point)))
        value, scale = _penalised_loss(design, y, point, penalty), 1.0
        while scale > 1e-8 and _penalised_loss(design, y, point + scale * move, penalty) > value + 1e-4 * scale * slope:
            scale /= 2
        point = point + scale * move
    return point[:-1], float(point[-1])


def _coordinate_descent(hessian: Array, gradient: Array, point: Array, penalty: Array) -> Array:
    """Minimise gradient·d + ½ d·H·d + Σ penalty |point + d|; four of five sweeps visit the support only."""
    curvature = hessian.diagonal() + 1e-10
    target, slope = point.copy(), gradient.copy()
    for sweep in range(300):
        largest = 0.0
        full = sweep % 5 == 0
        for j in range(len(point)) if full else np.flatnonzero(target):
            wanted = target[j] - slope[j] / curvature[j]
            new = np.sign(wanted) * max(abs(wanted) - penalty[j] / curvature[j], 0.0)
            if new != target[j]:
                slope += hessian[j] * (new - target[j])
                largest = max(largest, abs(new - target[j]) * float(np.sqrt(curvature[j])))
                target[j] = new
        if full and largest < 1e-6:
            break
    return target - point


def _penalised_loss(design: Array, y: Array, point: Array, penalty: Array) -> float:
    margin = design @ point
    return float(np.logaddexp(0, np.where(y > 0, -margin, margin)).sum() + penalty @ np.abs(point))


def _newton(x: Array, y: Array, lam: float, weights: Array, intercept: float) -> tuple[Array, float]:
    """Newton steps with the support and its signs held fixed; a step that would flip a sign is cut short."""
    support = np.flatnonzero(weights)
    signs = np.sign(weights[support])
    design = np.column_stack([x[:, support], np.ones(len(y))])
    point = np.append(weights[support], intercept)
    penalty = np.append(lam * signs, 0.0)
    for _ in range(30):
        p = _sigmoid(design @ point)
        gradient = design.T @ (p - y) + penalty
        if np.abs(gradient).max() <= 1e-9 * lam:
            break
        hessian = (design * (p * (1 - p))[:, None]).T @ design
        hessian[np.diag_indices_from(hessian)] += 1e-10 * max(float(hessian.diagonal().max()), 1e-12)
        move = np.linalg.solve(hessian, gradient)
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(signs * move[:-1] > 0, point[:-1] / move[:-1], np.inf)
        scale = min(1.0, 0.9 * float(room.min(initial=np.inf)))
        value = _objective(design, y, point, penalty)
        while scale > 1e-8 and _objective(design, y, point - scale * move, penalty) > value:
            scale /= 2
        point = point - scale * move
    out = np.zeros_like(weights)
    out[support] = point[:-1]
    return out, float(point[-1])


def _objective(design: Array, y: Array, point: Array, penalty: Array) -> float:
    margin = design @ point
    return float(np.logaddexp(0, np.where(y > 0, -margin, margin)).sum() + penalty @ point)


def _sigmoid(v: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * v))
