"""The L1 solver against scikit-learn, and its optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest

from levercheck.readouts.sparse_logistic import fit_path, kkt_residual

CS = (0.02, 0.05, 0.1, 0.3, 1.0)


def problem(items=120, features=600, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((items, 8))
    x = np.abs(hidden @ rng.standard_normal((8, features)) * 0.6 + rng.standard_normal((items, features)))
    y = (hidden[:, 0] + 0.7 * hidden[:, 1] + 0.5 * rng.standard_normal(items) > 0).astype(float)
    return (x - x.mean(0)) / x.std(0), y


@pytest.mark.parametrize("seed", range(3))
def test_equals_scikit_learn(seed):
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = problem(items=80, features=120, seed=seed)
    for fit in fit_path(x, y, CS):
        oracle = linear.LogisticRegression(l1_ratio=1, C=fit.c, solver="saga", tol=1e-9, max_iter=100_000).fit(x, y)
        ours, theirs = (
            _loss(x, y, fit.c, fit.coefficients, fit.intercept),
            _loss(x, y, fit.c, oracle.coef_[0], oracle.intercept_[0]),
        )
        assert ours <= theirs + 1e-6 * abs(theirs)
        assert np.abs(fit.coefficients - oracle.coef_[0]).max() < 2e-3


@pytest.mark.parametrize("shape", [(60, 20), (40, 4000), (300, 50)])
def test_kkt_residual_is_small(shape):
    x, y = problem(*shape, seed=5)
    for fit in fit_path(x, y, CS):
        assert fit.kkt_residual <= 1e-4
        assert kkt_residual(x, y, fit.c, fit.coefficients, fit.intercept) == pytest.approx(fit.kkt_residual, abs=1e-12)


def test_warm_start_does_not_change_the_solution():
    x, y = problem(seed=9)
    path, alone = fit_path(x, y, CS)[-1], fit_path(x, y, CS[-1:])[0]
    assert np.abs(path.coefficients - alone.coefficients).max() < 1e-6


def test_strong_penalty_gives_the_prior():
    x, y = problem()
    fit = fit_path(x, y, (1e-4,))[0]
    assert not fit.coefficients.any()
    assert fit.intercept == pytest.approx(np.log(y.mean() / (1 - y.mean())))


def test_a_wrong_solution_has_a_large_residual():
    x, y = problem()
    assert kkt_residual(x, y, 1.0, np.zeros(x.shape[1]), 0.0) > 1


@pytest.mark.parametrize(("y", "cs"), [(np.zeros(120), CS), (None, (1.0, 0.1)), (None, ())])
def test_bad_input(y, cs):
    x, good = problem()
    with pytest.raises(ValueError, match="must"):
        fit_path(x, good if y is None else y, cs)


def _loss(x, y, c, w, b):
    margin = x @ w + b
    return np.logaddexp(0, np.where(y > 0, -margin, margin)).sum() + np.abs(w).sum() / c
