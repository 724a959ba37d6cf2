"""Trend and curvature of a dose response."""

from __future__ import annotations

import numpy as np
import pytest

from levercheck.stats import dose_shape

DOSES = np.array([0.0, 0.5, 1.0, 2.0, 3.0])


def table(curve, items=200, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return curve(DOSES) + noise * rng.standard_normal((items, len(DOSES)))


@pytest.mark.parametrize(
    ("curve", "kind"),
    [
        (lambda d: 0.2 * d, "monotone"),
        (lambda d: -0.2 * d, "monotone"),
        (lambda d: 0.5 * d - 0.06 * d**2, "saturating"),  # would turn at 4.2, outside the grid
        (lambda d: -((d - 1.5) ** 2) / 2, "peak"),
        (lambda d: (d - 1.2) ** 2 / 2, "trough"),
    ],
)
def test_shapes(curve, kind):
    found = dose_shape(table(curve), DOSES, unit="logit", scale=1.0)
    assert found.kind == kind


def test_flat_responses_are_called_flat_at_about_the_level():
    found = [dose_shape(table(lambda d: 0 * d, items=60, seed=seed), DOSES).kind for seed in range(200)]
    assert 0.84 <= found.count("flat") / 200 <= 0.96  # two intervals of 95 %: 0.9025 expected


def test_coefficients_equal_polyfit():
    rows = table(lambda d: 0.3 * d - 0.1 * d**2, items=50)
    found = dose_shape(rows, DOSES, scale=1.0)
    means = rows.mean(axis=0)
    assert found.quadratic.value == pytest.approx(np.polyfit(DOSES, means, 2)[0])
    assert found.linear.value == pytest.approx(np.polyfit(DOSES, means, 1)[0])


def test_the_turning_point_of_a_parabola():
    found = dose_shape(table(lambda d: -((d - 1.5) ** 2), noise=0.01), DOSES, scale=1.0)
    assert found.turning == pytest.approx(1.5, abs=0.01)


def test_constant_rows_are_undecided():
    assert dose_shape(np.ones((20, 5)), DOSES).kind == "undecided"


@pytest.mark.parametrize(("rows", "doses"), [(np.ones((4, 2)), [0, 1]), (np.ones((4, 3)), [0, 1, 2, 3])])
def test_bad_input(rows, doses):
    with pytest.raises(ValueError, match="doses"):
        dose_shape(rows, doses)
