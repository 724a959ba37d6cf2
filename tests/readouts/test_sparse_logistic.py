"""The L1 solver against scikit-learn, its optimality conditions, and the views of a matrix that it never copies."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levercheck.errors import MissingError, NotEnoughDataError, UsageError
from levercheck.readouts import sparse_newton
from levercheck.readouts.sparse_logistic import KKT_LIMIT, NotConvergedError, fit_path, kkt_residual, liblinear
from levercheck.readouts.sparse_matrix import Columns, Scaling
from levercheck.readouts.sparse_newton import minimise, sigmoid

CS = (0.02, 0.05, 0.1, 0.3, 1.0)


def problem(items=120, features=600, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((items, 8))
    x = np.abs(hidden @ rng.standard_normal((8, features)) * 0.6 + rng.standard_normal((items, features)))
    y = (hidden[:, 0] + 0.7 * hidden[:, 1] + 0.5 * rng.standard_normal(items) > 0).astype(float)
    return (x - x.mean(0)) / x.std(0), y


def same(fits, others, tolerance=1e-6):
    """Equal up to what two solutions within the KKT tolerance may differ."""
    for fit, other in zip(fits, others, strict=True):
        assert np.abs(fit.coefficients - other.coefficients).max() < tolerance
        assert abs(fit.intercept - other.intercept) < tolerance


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


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(80, 120), (300, 40), (60, 900)])
def test_penalised_intercept_equals_liblinear(shape, seed):
    pytest.importorskip("sklearn")
    x, y = problem(*shape, seed=seed)
    x, y = x + 0.3, np.where(np.arange(len(y)) % 3 == 0, 1.0, y)  # an intercept that is not zero
    for fit in fit_path(x, y, CS, intercept="penalised"):
        oracle = liblinear(x, y, fit.c, tol=1e-10, max_iter=100_000)
        assert oracle.kkt_residual < 1e-5
        same([fit], [oracle], 1e-4)
        assert set(np.flatnonzero(fit.coefficients)) == set(np.flatnonzero(oracle.coefficients))


def test_the_oracle_says_how_far_it_got():
    pytest.importorskip("sklearn")
    x, y = problem(items=200, features=2000, seed=3)
    loose, tight = liblinear(x, y, 1.0, tol=1e-2), liblinear(x, y, 1.0, tol=1e-8)
    assert loose.kkt_residual > KKT_LIMIT > tight.kkt_residual
    scaling, rows = Scaling.of(x), np.arange(150)
    same([liblinear(x, y, 0.1, rows=rows, scaling=scaling)], [liblinear(scaling(x)[:150], y[:150], 0.1)])


def test_the_oracle_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingError, match="pip install scikit-learn"):
        liblinear(*problem(), 1.0)


@pytest.mark.parametrize("intercept", ["free", "penalised"])
@pytest.mark.parametrize("shape", [(60, 20), (40, 4000), (300, 50)])
def test_kkt_residual_is_small(shape, intercept):
    x, y = problem(*shape, seed=5)
    for fit in fit_path(x, y, CS, intercept=intercept):
        assert fit.kkt_residual <= KKT_LIMIT
        again = kkt_residual(x, y, fit.c, fit.coefficients, fit.intercept, penalised=intercept == "penalised")
        assert again == pytest.approx(fit.kkt_residual, abs=1e-11)


def test_warm_start_does_not_change_the_solution():
    x, y = problem(seed=9)
    path, alone = fit_path(x, y, CS)[-1], fit_path(x, y, CS[-1:])[0]
    assert np.abs(path.coefficients - alone.coefficients).max() < 1e-6


def test_every_c_of_a_long_path_is_as_good_as_a_fit_of_its_own():
    x, y = problem(items=150, features=3000, seed=2)
    cs = tuple(np.geomspace(0.005, 2, 20))
    same(fit_path(x, y, cs), [fit_path(x, y, (c,))[0] for c in cs], 1e-5)


def test_repeated_values_of_c_are_solved_alike():
    x, y = problem()
    same(fit_path(x, y, (0.1, 0.1)), fit_path(x, y, (0.1,)) * 2)


def test_strong_penalty_gives_the_prior():
    x, y = problem()
    fit = fit_path(x, y, (1e-4,))[0]
    assert not fit.coefficients.any()
    assert fit.intercept == pytest.approx(np.log(y.mean() / (1 - y.mean())))


def test_a_wrong_solution_has_a_large_residual():
    x, y = problem()
    assert kkt_residual(x, y, 1.0, np.zeros(x.shape[1]), 0.0) > 1


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_scaling_type_and_order_equal_a_copy(scaled, dtype, order):
    x, y = problem(items=200, features=400, seed=4)
    x = np.asarray(x * 0.3 + 0.5, dtype, order=order)
    rows = np.random.default_rng(0).permutation(200)[:140]
    copy = x.astype(np.float64)[rows]
    scaling = Scaling.of(x, rows) if scaled else None
    expected = fit_path(scaling(copy) if scaling else copy, y[rows], CS)
    same(fit_path(x, y, CS, rows=rows, scaling=scaling), expected, 1e-5)
    mask = np.isin(np.arange(200), rows)
    same(fit_path(x, y, CS, rows=mask, scaling=scaling), expected, 1e-5)


def test_a_repeated_row_counts_twice():
    x, y = problem(items=60, features=80)
    rows = np.append(np.arange(60), [3, 3, -1])
    same(fit_path(x, y, CS, rows=rows), fit_path(x[rows], y[rows], CS))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_mapped_file(tmp_path, dtype):
    x, y = problem(items=90, features=3000, seed=6)
    np.save(tmp_path / "x.npy", x.astype(dtype))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    same(fit_path(mapped, y, CS), fit_path(x.astype(dtype).astype(np.float64), y, CS), 1e-5)


def test_tiles_cover_a_matrix_larger_than_one(monkeypatch):
    monkeypatch.setattr("levercheck.readouts.sparse_matrix.TILE", 1000)
    x, y = problem(items=300, features=70)
    for order in "CF":
        view = Columns(np.asarray(x, np.float32, order=order), np.arange(7, 290))
        expected = x.astype(np.float32).astype(float)[7:290].T @ (y[7:290] - 0.5)
        assert np.allclose(view.gradients((y[7:290] - 0.5)[:, None])[0], expected, atol=1e-10)
        assert np.allclose(view.gradient(y[7:290] - 0.5), expected, atol=1e-3)
        assert np.allclose(Scaling.of(x, np.arange(7, 290)).deviation, x[7:290].std(axis=0), rtol=1e-12)


def test_certificates_do_not_inherit_the_rounding_of_float32():
    """Large values that cancel: single precision alone would misjudge the solution by more than the tolerance."""
    x, y = problem(items=500, features=300, seed=7)
    x = (x + 300).astype(np.float32)
    fit = fit_path(x, y, (0.05,))[0]
    error = sigmoid(x.astype(float) @ fit.coefficients + fit.intercept) - y
    exact = x.astype(np.float64).T @ error
    view = Columns(x)
    certified, quick = view.gradients(error[:, None])[0], view.gradient(error)
    assert np.abs(certified - exact).max() * fit.c < 1e-9
    assert np.abs(quick - exact).max() * fit.c > 1e3 * np.abs(certified - exact).max() * fit.c
    assert fit.kkt_residual == pytest.approx(_residual(exact, error.sum(), fit), abs=1e-9)


def test_constant_columns_get_deviation_one_and_no_weight():
    x, y = problem(items=70, features=30)
    x = np.hstack([x, np.full((70, 1), 0.1), np.zeros((70, 1))]).astype(np.float32)
    scaling = Scaling.of(x)
    assert scaling.deviation[30:].tolist() == [1.0, 1.0]
    assert not fit_path(x, y, CS, scaling=scaling)[-1].coefficients[30:].any()


@given(
    items=st.integers(6, 40),
    features=st.integers(1, 60),
    seed=st.integers(0, 10_000),
    c=st.sampled_from([0.01, 0.3, 3.0, 100.0]),
    kind=st.sampled_from(["plain", "repeated", "scales", "binary", "offset", "low rank"]),
    intercept=st.sampled_from(["free", "penalised"]),
)
@settings(max_examples=150, deadline=None)
def test_any_matrix_is_solved_to_its_optimum(items, features, seed, c, kind, intercept):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((items, features))
    if kind == "repeated":
        x = np.hstack([x, x, -x[:, :1], np.ones((items, 1))])
    elif kind == "scales":
        x = x * np.exp(2 * rng.standard_normal(features))
    elif kind == "binary":
        x = (x > 0.5).astype(float)
    elif kind == "offset":
        x = x + 100
    elif kind == "low rank":
        x = rng.standard_normal((items, 2)) @ rng.standard_normal((2, features)) + 0.02 * x
    y = (rng.random(items) < 0.5).astype(float)
    y[:2] = 0, 1
    fit = fit_path(x, y, (c / 10, c), intercept=intercept)[-1]
    error = sigmoid(x @ fit.coefficients + fit.intercept) - y
    assert _residual(x.T @ error, error.sum(), fit, intercept == "penalised") <= KKT_LIMIT


def test_coordinate_descent_takes_over_when_pivots_run_out(monkeypatch):
    rng = np.random.default_rng(1)
    half = rng.standard_normal((60, 30))
    hessian, linear, penalty = half.T @ half, 20 * rng.standard_normal(30), np.append(0.0, np.full(29, 9.0))
    quick = minimise(hessian, linear, penalty, np.zeros(30))
    monkeypatch.setattr(sparse_newton, "PIVOTS", 0)
    assert np.abs(minimise(hessian, linear, penalty, np.zeros(30)) - quick).max() < 1e-6


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_that_are_not_finite_are_named(value, dtype):
    x, y = problem(items=50, features=90)
    x = x.astype(dtype)
    x[20, 4] = x[11, 77] = value
    with pytest.raises(UsageError, match="row 11, column 77"):
        fit_path(x, y, CS)
    with pytest.raises(UsageError, match="row 11, column 77"):
        fit_path(x, y, CS, rows=np.arange(5, 45), scaling=Scaling.of(x, np.arange(5, 45)))
    with pytest.raises(UsageError, match="row 20, column 4"):
        liblinear(x, y, 1.0, rows=np.arange(15, 45))
    clean = np.delete(np.arange(50), [11, 20])
    same(fit_path(x, y, CS, rows=clean), fit_path(x[clean].astype(float), y[clean], CS), 1e-5)


def test_sums_beyond_the_range_of_float32_are_named():
    x, y = problem(items=50, features=90)
    x = x.astype(np.float32)
    x[:, 3] = 3e38 * y
    with pytest.raises(UsageError, match="column 3 of x overflows"):
        fit_path(x, y, CS)


def test_one_class_is_too_little_data():
    x, y = problem()
    with pytest.raises(NotEnoughDataError, match=r"120 items to fit on with labels \[0\], expected both"):
        fit_path(x, np.zeros(120), CS)
    with pytest.raises(NotEnoughDataError, match=r"labels \[1\]"):
        fit_path(x, y, CS, rows=y == 1)
    with pytest.raises(NotEnoughDataError, match="0 items"):
        fit_path(x, y, CS, rows=np.zeros(120, bool))


def test_an_optimum_that_is_not_reached_is_an_error(monkeypatch):
    monkeypatch.setattr(sparse_newton, "STEPS", 1)
    with pytest.raises(NotConvergedError, match=r"C = 0\.\d+ has a KKT residual of .*, expected at most 0.0001"):
        fit_path(*problem(), CS)


@pytest.mark.parametrize(
    "change",
    [
        {"cs": (1.0, 0.1)},
        {"cs": ()},
        {"cs": (0.0, 1.0)},
        {"y": np.full(120, 2.0)},
        {"y": np.zeros(7)},
        {"rows": np.ones(7, bool)},
        {"rows": np.array([500])},
        {"rows": np.array([0.5])},
        {"scaling": Scaling.identity(5)},
        {"x": np.zeros((120, 4), int)},
        {"x": np.zeros(120)},
        {"intercept": "none"},
    ],
)
def test_bad_input(change):
    x, y = problem()
    arguments = {"x": x, "y": y, "cs": CS, **change}
    with pytest.raises(ValueError, match="must"):
        fit_path(**arguments)


def _loss(x, y, c, w, b):
    margin = x @ w + b
    return np.logaddexp(0, np.where(y > 0, -margin, margin)).sum() + np.abs(w).sum() / c


def _residual(gradient, of_intercept, fit, penalised=False):
    """The optimality conditions written out once more, apart from the code under test."""
    lam, worst = 1 / fit.c, 0.0
    for slope, weight in zip(gradient, fit.coefficients, strict=True):
        worst = max(worst, abs(slope + lam * np.sign(weight)) if weight else abs(slope) - lam)
    if penalised:
        b = fit.intercept
        return max(worst, abs(of_intercept + lam * np.sign(b)) if b else abs(of_intercept) - lam) / lam
    return max(worst, abs(of_intercept)) / lam
