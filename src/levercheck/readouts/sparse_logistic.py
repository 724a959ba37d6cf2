"""L1-regularised logistic regression on wide matrices, solved to a checked optimum.

Minimises Σ_i log(1 + exp(-s_i (x_i·w + b))) + λ ‖w‖₁ with s = ±1, λ = 1/C: the problem of scikit-learn's
`LogisticRegression(l1_ratio=1, C=C)`. The intercept b is free, or penalised as liblinear penalises it.

A pool of gathered columns is solved while λ falls from its largest useful value; the full gradient is looked at only
when λ has fallen far, to let the steepest columns in (the idea of the strong rules, Tibshirani et al. 2012). At the
end, one pass in float64 over all columns gives the gradients of all solutions at once: their certificates. Columns that
violate the optimality (KKT) conditions join the pool, and only the solutions they concern are solved again. liblinear
stays available as an oracle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from levercheck.errors import LevercheckError, MissingError, NotEnoughDataError
from levercheck.readouts.sparse_matrix import Array, Columns, Matrix, Rows, Scaling, row_indices
from levercheck.readouts.sparse_newton import sigmoid, solve, violations

Intercept = Literal["free", "penalised"]

KKT_LIMIT = 1e-4  # relative to λ; no solution worse than this is returned
KKT_TOLERANCE = KKT_LIMIT / 10
LOOSE_TOLERANCE = 1e-2  # on the way down, before the pool is complete
ROUNDS = 60  # of certificates; each admits the worst violators, so that a handful is enough
FALL = 0.5  # λ may fall to this share of its value before the full gradient is looked at again
NEWCOMERS = 200  # columns that join the pool at such a look


class NotConvergedError(LevercheckError):
    """The solver stopped before the optimum; scale the features or ask for a smaller C."""

    exit_code = 1


@dataclass(frozen=True)
class Fit:
    """A solution: coefficients float64 [features], intercept, and the largest KKT violation divided by λ.

    `iterations` counts Newton steps for this C; `passes`, how often all of x had been read when it was certified.
    """

    c: float
    coefficients: Array
    intercept: float
    kkt_residual: float
    iterations: int = 0
    passes: int = 0


def fit_path(
    x: Matrix,
    y: np.ndarray[Any, Any],
    cs: Sequence[float],
    *,
    rows: Rows | None = None,
    scaling: Scaling | None = None,
    intercept: Intercept = "free",
) -> list[Fit]:
    """Certified solutions for ascending values of C.

    x: float16, float32 or float64 [items, features], in memory or mapped; it is never copied or converted as a whole.
    y: 0/1 [items] with both classes. rows: bool mask or indices of the items to fit on. scaling: standardise the
    features on the fly; the coefficients are then per standard deviation. intercept: "free", or "penalised" by λ|b| as
    in liblinear with `intercept_scaling=1`.

    Raises `UsageError` for values that are not finite, `NotEnoughDataError` for a single class, `NotConvergedError`
    when a solution stays above `KKT_LIMIT`, `ValueError` for arguments no data could make right.
    """
    if list(cs) != sorted(cs) or not cs or cs[0] <= 0:
        raise ValueError(f"cs must be positive and ascending, got {list(cs)}")
    if intercept not in ("free", "penalised"):
        raise ValueError(f"intercept must be 'free' or 'penalised', got {intercept!r}")
    columns = Columns(x, rows, scaling)
    path = _Path(columns, targets(y, rows, len(x)), penalised=intercept == "penalised")
    return path.fit(cs)


def liblinear(
    x: Matrix,
    y: np.ndarray[Any, Any],
    c: float,
    *,
    tol: float = 1e-8,
    max_iter: int = 1000,
    seed: int = 42,
    rows: Rows | None = None,
    scaling: Scaling | None = None,
) -> Fit:
    """The same problem given to scikit-learn's liblinear, whose intercept is penalised and which copies x to float64.

    Arguments as for `fit_path`. The Fit holds our own KKT residual, which nothing limits: scikit-learn's default
    tolerance of 1e-4 leaves it far above `KKT_LIMIT`. `iterations` are liblinear's; `passes` is 0.
    Raises `MissingError` without scikit-learn, and what `fit_path` raises for unusable x and y.
    """
    try:
        import sklearn  # type: ignore[import-untyped]
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    except ImportError:
        raise MissingError(
            "the liblinear oracle needs scikit-learn, which is not installed: pip install scikit-learn"
        ) from None
    labels = targets(y, rows, len(x))
    Columns(x, rows, scaling).gradient(labels - 0.5)  # refuses values that are not finite
    chosen = row_indices(rows, len(x))
    dense = x if chosen is None else x[chosen]
    dense = dense if scaling is None else scaling(dense)
    newer = tuple(int(part) for part in sklearn.__version__.split(".")[:2]) >= (1, 8)
    lasso = {"l1_ratio": 1} if newer else {"penalty": "l1"}
    model = LogisticRegression(**lasso, C=c, solver="liblinear", tol=tol, max_iter=max_iter, random_state=seed)
    model.fit(dense, labels)
    weights = np.asarray(model.coef_[0], np.float64)
    intercept = float(model.intercept_[0])
    residual = kkt_residual(x, y, c, weights, intercept, rows=rows, scaling=scaling, penalised=True)
    return Fit(c, weights, intercept, residual, int(model.n_iter_[0]))


def kkt_residual(
    x: Matrix,
    y: np.ndarray[Any, Any],
    c: float,
    weights: Array,
    intercept: float,
    *,
    rows: Rows | None = None,
    scaling: Scaling | None = None,
    penalised: bool = False,
) -> float:
    """Largest violation of the optimality conditions over all columns, divided by λ = 1/C; 0 at the exact optimum."""
    columns, lam = Columns(x, rows, scaling), 1 / c
    error = sigmoid(columns.margins(weights, intercept)) - targets(y, rows, len(x))
    gradient = columns.gradients(error[:, None])[0]
    return _violation(gradient, float(error.sum()), weights, intercept, lam, penalised)[1]


def _violation(
    gradient: Array, intercept_gradient: float, weights: Array, intercept: float, lam: float, penalised: bool
) -> tuple[Array, float]:
    """Violation of each column's condition, float64 [features], and the largest, intercept included, divided by λ."""
    of_columns = violations(gradient, weights, np.full(len(weights), lam))
    of_intercept = violations(np.array([intercept_gradient]), np.array([intercept]), np.array([lam * penalised]))
    return of_columns, float(max(of_columns.max(initial=0.0), of_intercept[0]) / lam)


def targets(y: np.ndarray[Any, Any], rows: Rows | None, items: int) -> Array:
    """The chosen labels as float64 [rows]; `ValueError` unless coded 0 and 1, `NotEnoughDataError` for one class."""
    labels = np.asarray(y, np.float64)
    if labels.shape != (items,):
        raise ValueError(f"y must hold one label per item [{items}], got {labels.shape}")
    chosen = row_indices(rows, items)
    labels = labels if chosen is None else labels[chosen]
    found = np.unique(labels)
    if not np.isin(found, (0.0, 1.0)).all():
        raise ValueError(f"y must be coded 0 and 1, got {found[:5].tolist()}")
    if len(found) < 2:
        raise NotEnoughDataError(
            f"{len(labels)} items to fit on with labels {found.astype(int).tolist()}, expected both 0 and 1: add items "
            "of the missing class"
        )
    return labels


class _Path:
    """The pool of gathered columns and the solutions on it. Coordinate 0 of the pool is the intercept."""

    def __init__(self, columns: Columns, y: Array, penalised: bool):
        self.columns, self.y, self.penalised = columns, y, penalised
        self.members = np.empty(0, np.intp)
        self.design: Array = np.ones((columns.items, 1), order="F")
        self.known = np.zeros(columns.features, np.bool_)

    def fit(self, cs: Sequence[float]) -> list[Fit]:
        """Rounds of solving on the pool and certifying on all columns, until every solution is certified."""
        points, steps = self._descend([1 / c for c in cs])
        fits: dict[int, Fit] = {}
        for _ in range(ROUNDS):
            waiting = [i for i in range(len(cs)) if i not in fits]
            for i in waiting:
                points[i], taken = self._solve(1 / cs[i], points[i], KKT_TOLERANCE / 2)
                steps[i] += taken
            errors = np.column_stack([self._error(points[i]) for i in waiting])
            newcomers = [np.empty(0, np.intp)]
            for i, gradient, error in zip(waiting, self.columns.gradients(errors), errors.T, strict=True):
                weights, intercept = self._expand(points[i])
                lam = 1 / cs[i]
                violation, worst = _violation(gradient, float(error.sum()), weights, intercept, lam, self.penalised)
                outside = np.flatnonzero((violation > lam * KKT_TOLERANCE) & ~self.known)
                if len(outside):
                    newcomers.append(_steepest(outside, violation, max(50, int(np.count_nonzero(weights)))))
                elif not worst <= KKT_LIMIT:
                    raise NotConvergedError(
                        f"C = {cs[i]:g} has a KKT residual of {worst:.1e}, expected at most {KKT_LIMIT:g}: scale the "
                        "features or ask for a smaller C"
                    )
                else:
                    fits[i] = Fit(cs[i], weights, intercept, worst, steps[i], self.columns.passes)
            if len(fits) == len(cs):
                return [fits[i] for i in range(len(cs))]
            self._admit(np.unique(np.concatenate(newcomers)))
        raise NotConvergedError(
            f"{len(cs) - len(fits)} of {len(cs)} values of C have violated KKT conditions after {ROUNDS} rounds: scale "
            "the features or ask for a smaller C"
        )

    def _descend(self, lams: list[float]) -> tuple[list[Array], list[int]]:
        """Solutions on the pool for falling λ; where λ falls far, the gradient is looked at on the way."""
        rate = float(self.y.mean())
        point = np.array([0.0 if self.penalised else np.log(rate / (1 - rate))])
        point, _ = self._solve(lams[0], point, KKT_TOLERANCE / 2)
        gradient = self.columns.gradient(self._error(point))
        at = horizon = float(np.abs(gradient).max(initial=0.0))  # the pool serves down to the horizon
        fresh = True
        points, steps = [], []
        for lam in lams:
            steps.append(0)
            while True:
                if lam < horizon:
                    if not fresh:
                        gradient = self.columns.gradient(self._error(point))
                    limit = max(NEWCOMERS, 2 * int(np.count_nonzero(point)))
                    self._admit(_steepest(np.flatnonzero(~self.known & (gradient != 0)), np.abs(gradient), limit))
                    fresh, horizon = False, FALL * at
                stop = max(lam, horizon)
                point, taken = self._solve(stop, point, LOOSE_TOLERANCE)
                at, steps[-1] = min(at, stop), steps[-1] + taken
                if stop == lam:
                    break
            points.append(point)
        return points, steps

    def _solve(self, lam: float, point: Array, tolerance: float) -> tuple[Array, int]:
        """Solve on the pool from a point that may be shorter than it: later members start at zero."""
        size = self.design.shape[1]
        penalty = np.full(size, lam)
        penalty[0] = lam * self.penalised
        return solve(self.design, self.y, penalty, np.pad(point, (0, size - len(point))), tolerance * lam)

    def _admit(self, columns: np.ndarray[Any, np.dtype[np.intp]]) -> None:
        self.known[columns] = True
        self.members = np.append(self.members, columns)
        self.design = np.asfortranarray(np.hstack([self.design, self.columns.gather(columns)]))

    def _error(self, point: Array) -> Array:
        """Predicted probability minus label, float64 [rows]."""
        support = np.flatnonzero(point)
        return sigmoid(self.design[:, support] @ point[support]) - self.y

    def _expand(self, point: Array) -> tuple[Array, float]:
        weights = np.zeros(self.columns.features)
        weights[self.members[: len(point) - 1]] = point[1:]
        return weights, float(point[0])


def _steepest(candidates: np.ndarray[Any, np.dtype[np.intp]], slope: Array, limit: int) -> Any:
    """At most `limit` of the candidates, those with the largest slope, in ascending order."""
    if len(candidates) > limit:
        candidates = candidates[np.argpartition(-slope[candidates], limit)[:limit]]
    return np.sort(candidates)
