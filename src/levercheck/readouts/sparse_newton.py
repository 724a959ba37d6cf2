"""Proximal Newton for L1-penalised logistic regression on a moderate number of columns, to a checked optimum.

Every step takes the support and the worst violators of the optimality conditions, builds the Gram matrix of those
columns only, and solves the quadratic model exactly by block principal pivoting (Kim & Park, AISTATS 2010): all
coordinates with a wrong sign or a too steep slope change sides at once, one at a time when that does not help.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

STEPS = 200
PIVOTS = 200  # a handful is usual; coordinate descent takes over beyond
SWEEPS = 300
RIDGE = 1e-10  # of unit curvatures
LEAST_CURVATURE = 1e-12  # of p(1 - p): keeps the model solvable where every item is classified with certainty


def solve(design: Array, y: Array, penalty: Array, point: Array, tolerance: float) -> tuple[Array, int]:
    """Minimise Σ log-loss + Σ penalty |point| from `point`; returns the point and the Newton steps taken.

    design: float64 [items, columns]; y: 0/1 [items]; penalty: float64 [columns], 0 where a column is free.
    Stops when no optimality condition is violated by more than `tolerance`, or when no step makes progress.
    """
    point = point.copy()
    support = np.flatnonzero(point)
    margin = design[:, support] @ point[support]
    value = _loss(margin, y) + float(penalty @ np.abs(point))
    for step in range(STEPS):
        p = sigmoid(margin)
        gradient = design.T @ (p - y)
        violation = violations(gradient, point, penalty)
        if violation.max() <= tolerance:
            return point, step
        working = _working_set(violation, point, penalty)
        columns = design[:, working]
        half = columns * np.sqrt(np.maximum(p * (1 - p), LEAST_CURVATURE))[:, None]
        hessian = half.T @ half
        start = point[working]
        move = minimise(hessian, gradient[working] - hessian @ start, penalty[working], start) - start
        slope = float(gradient[working] @ move + penalty[working] @ (np.abs(start + move) - np.abs(start)))
        change, scale, rounding = columns @ move, 1.0, 1e-13 * abs(value)
        while scale > 1e-10:
            trial = point.copy()
            trial[working] = start + scale * move
            reached = _loss(margin + scale * change, y) + float(penalty @ np.abs(trial))
            if reached <= value + 1e-4 * scale * slope + rounding:
                break
            scale /= 2
        else:
            return point, step
        point, margin, value = trial, margin + scale * change, reached
    return point, STEPS


def violations(gradient: Array, point: Array, penalty: Array) -> Array:
    """By how much each coordinate violates its optimality condition; all arguments float64 [columns]."""
    return np.where(
        point != 0, np.abs(gradient + penalty * np.sign(point)), np.maximum(np.abs(gradient) - penalty, 0.0)
    )


def _working_set(violation: Array, point: Array, penalty: Array) -> Any:
    """Support, free columns, and the worst violators: not more of them than keeps the model small."""
    kept = (point != 0) | (penalty == 0)
    outside = np.flatnonzero(~kept & (violation > 0))
    limit = max(30, int(kept.sum()) // 2)
    if len(outside) > limit:
        outside = outside[np.argpartition(-violation[outside], limit)[:limit]]
    return np.union1d(np.flatnonzero(kept), outside)


def minimise(hessian: Array, linear: Array, penalty: Array, start: Array) -> Array:
    """Minimise linear·z + ½ z·H·z + Σ penalty |z|, H [columns, columns] semidefinite, with a trace of |z - start|².

    That trace makes the answer unique where columns repeat each other, and vanishes where Newton's method ends.
    """
    size = np.sqrt(np.maximum(hessian.diagonal(), 1e-300))  # solved with unit curvatures, whatever the columns' scales
    hessian = hessian / size[:, None] / size + RIDGE * np.eye(len(size))
    penalty, start = penalty / size, start * size
    linear = linear / size - RIDGE * start
    free, sign = penalty == 0, np.sign(start)
    z = start
    fewest, patience = len(z) + 1, 3
    for _ in range(PIVOTS):
        inside = np.flatnonzero(free | (sign != 0))
        z = np.zeros_like(start)
        z[inside] = np.linalg.solve(hessian[np.ix_(inside, inside)], -(linear + penalty * sign)[inside])
        slope = linear + hessian[:, inside] @ z[inside]
        wrong = np.where(sign != 0, z * sign <= 0, np.abs(slope) > penalty * (1 + 1e-9)) & ~free
        count = int(wrong.sum())
        if count == 0:
            return z / size
        if count < fewest:
            fewest, patience = count, 3
        elif patience > 0:
            patience -= 1
        else:
            wrong[: np.flatnonzero(wrong)[-1]] = False
        sign = np.where(wrong, np.where(sign != 0, 0.0, -np.sign(slope)), sign)
    return _coordinate_descent(hessian, linear, penalty, start) / size


def _coordinate_descent(hessian: Array, linear: Array, penalty: Array, start: Array) -> Array:
    """The same minimum, slowly but without cycles; four of five sweeps visit the support only."""
    curvature = hessian.diagonal()
    z = start.copy()
    slope = linear + hessian @ z
    for sweep in range(SWEEPS):
        largest, full = 0.0, sweep % 5 == 0
        for j in range(len(z)) if full else np.flatnonzero(z):
            wanted = z[j] - slope[j] / curvature[j]
            new = np.sign(wanted) * max(abs(wanted) - penalty[j] / curvature[j], 0.0)
            if new != z[j]:
                slope += hessian[j] * (new - z[j])
                largest = max(largest, abs(new - z[j]) * float(np.sqrt(curvature[j])))
                z[j] = new
        if full and largest < 1e-6:
            break
    return z


def _loss(margin: Array, y: Array) -> float:
    return float(np.logaddexp(0, np.where(y > 0, -margin, margin)).sum())


def sigmoid(v: Array) -> Array:
    """1 / (1 + exp(-v)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * v))
