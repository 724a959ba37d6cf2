"""Target against control sets."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from levercheck.stats import attainable_p, mean, monte_carlo_p, sets_needed, two_level

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60, database=None)


@PROPERTY
@given(st.lists(st.integers(-3, 3), max_size=30), st.integers(-3, 3))
def test_monte_carlo_p_counts(null, value):
    above = sum(draw >= value for draw in null)
    below = sum(draw <= value for draw in null)
    total = len(null) + 1
    assert monte_carlo_p(value, null) == (above + 1) / total
    assert monte_carlo_p(value, null, side="less") == (below + 1) / total
    assert monte_carlo_p(value, null, side="two-sided") == min(1, 2 * (min(above, below) + 1) / total)
    for side in ("greater", "less", "two-sided"):
        assert monte_carlo_p(value, null, side=side) >= attainable_p(len(null), side)


@PROPERTY
@given(st.floats(0.001, 0.9), st.sampled_from(["greater", "two-sided"]))
def test_sets_needed_is_the_fewest(alpha, side):
    needed = sets_needed(alpha, side)
    assert attainable_p(needed, side) <= alpha * (1 + 1e-9)
    if needed > 0:
        assert attainable_p(needed - 1, side) > alpha


def test_usual_numbers_of_sets():
    assert [sets_needed(alpha) for alpha in (0.1, 0.05, 0.01, 0.001)] == [9, 19, 99, 999]
    assert sets_needed(0.05, "two-sided") == 39
    assert attainable_p(20) == 1 / 21
    assert attainable_p(0) == 1.0


def test_two_level_from_its_definition():
    rng = np.random.default_rng(0)
    target, controls = rng.normal(2, 1, 50), rng.normal(0, 1, (8, 50)) + rng.normal(0, 0.3, (8, 1))
    result = two_level(target, controls, unit="pp/dose", scale=100)
    means = controls.mean(1) * 100
    gap = (target - controls.mean(0)) * 100
    items, sets = gap.var(ddof=1) / 50, means.var(ddof=1) / 8
    df = (items + sets) ** 2 / (items**2 / 49 + sets**2 / 7)
    half = oracle.t.ppf(0.975, df) * (items + sets) ** 0.5
    assert result.difference.value == pytest.approx(gap.mean())
    assert (result.difference.low, result.difference.high) == pytest.approx((gap.mean() - half, gap.mean() + half))
    reach = oracle.t.ppf(0.975, 7) * means.std(ddof=1) * (1 + 1 / 8) ** 0.5
    assert result.prediction.value == pytest.approx(means.mean())
    assert (result.prediction.low, result.prediction.high) == pytest.approx(
        (means.mean() - reach, means.mean() + reach)
    )
    assert (result.p, result.attainable_p, result.sets) == (1 / 9, 1 / 9, 8)
    assert result.outside_prediction is True
    json.dumps(result.to_dict())


def test_clusters_enter_the_item_part():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(15), 4)
    target = rng.normal(size=15)[groups] + 0.1 * rng.normal(size=60)
    controls = 0.01 * rng.normal(size=(5, 60))
    clustered = two_level(target, controls, clusters=groups).difference
    assert clustered.clusters == 15
    assert clustered.width > 1.5 * two_level(target, controls).difference.width


def test_identical_sets_leave_the_item_noise():
    target = np.random.default_rng(2).normal(size=40)
    result = two_level(target, np.zeros((6, 40)))
    assert result.difference.low == pytest.approx(mean(target).low)
    assert not result.prediction.estimable and "no variation between control sets" in result.prediction.note
    assert result.outside_prediction is None


def test_identical_sets_of_yes_and_no_predict_one_item_at_least():
    """Two pseudo-sets one item away: s = (bound / n) sqrt(2 / (K + 1)), by hand."""
    target = np.r_[np.ones(5), np.zeros(35)]
    result = two_level(target, np.zeros((6, 40)), bound=1.0, scale=100.0)
    half = float(oracle.t.ppf(0.975, 5)) * 100 / 40 * np.sqrt(2 / 7) * np.sqrt(1 + 1 / 6)
    assert (result.prediction.low, result.prediction.high) == (pytest.approx(-half), pytest.approx(half))
    assert result.outside_prediction and "pseudo-sets" in result.prediction.note


def test_outcomes_that_a_set_lacks_are_left_out_of_it_alone():
    rng = np.random.default_rng(4)
    target, controls = rng.normal(size=30), rng.normal(size=(5, 30))
    holed = controls.copy()
    holed[2, 7] = holed[3, 7] = holed[0, 20] = np.nan
    result = two_level(target, holed)
    gaps = [target[i] - np.mean([row[i] for row in holed if not np.isnan(row[i])]) for i in range(30)]
    assert result.difference.value == pytest.approx(np.mean(gaps)) and result.difference.n == 30
    means = [np.nanmean(row) for row in holed]
    assert result.prediction.value == pytest.approx(np.mean(means))
    assert result.set_sd == pytest.approx(np.std(means, ddof=1))
    with pytest.raises(ValueError, match="no number at all"):
        two_level(target, np.where(np.arange(30) == 3, np.nan, controls))
    with pytest.raises(ValueError, match="no number at all"):
        two_level(target, np.vstack([controls, np.full(30, np.nan)]))


def test_a_bound_keeps_the_item_noise_when_nothing_flips():
    still = two_level(np.zeros(80), np.zeros((6, 80)))
    assert still.difference.value == 0 and not still.difference.estimable
    kept = two_level(np.zeros(80), np.zeros((6, 80)), bound=0.4, scale=100).difference
    assert kept.value == 0 and kept.low == pytest.approx(-kept.high) and 0 < kept.high < 3


def test_too_few_sets_are_not_estimable():
    one = two_level([1.0, 2.0], [[0.0, 0.5]])
    assert one.difference.value == 1.25 and not one.difference.estimable
    assert not one.prediction.estimable and one.p == one.attainable_p == 0.5
    none = two_level([1.0, 2.0], np.zeros((0, 2)))
    assert not none.difference.has_value and none.p == 1.0


def test_side_decides_the_tail():
    controls = np.random.default_rng(3).normal(size=(19, 30))
    low = two_level(np.full(30, -9.0) + controls[0], controls, side="less")
    assert low.p == 0.05 and low.outside_prediction is True
    high = two_level(np.full(30, -9.0) + controls[0], controls, side="greater")
    assert high.p == 1.0 and high.outside_prediction is False


def test_refusals():
    with pytest.raises(ValueError, match="controls cover 3 items, target 2"):
        two_level([1.0, 2.0], np.zeros((2, 3)))
    with pytest.raises(ValueError, match="side 'up'"):
        monte_carlo_p(1.0, [0.0], side="up")
    with pytest.raises(ValueError, match="value is nan"):
        monte_carlo_p(float("nan"), [0.0])
    with pytest.raises(ValueError, match="no items"):
        two_level([], np.zeros((2, 0)))


def test_prediction_and_difference_cover():
    rng = np.random.default_rng(4)
    hit_new = hit_gap = 0
    for _ in range(500):
        levels = rng.normal(0, 0.5, 7)
        items = rng.normal(0, 1, 40)
        own = 1 + items + rng.normal(0, 1, 40)
        controls = levels[:6, None] + 0.5 * items + rng.normal(0, 0.5, (6, 40))
        result = two_level(own, controls)
        new = levels[6] + float((0.5 * items + rng.normal(0, 0.5, 40)).mean())
        hit_new += result.prediction.low <= new <= result.prediction.high
        hit_gap += result.difference.low <= 1 <= result.difference.high
    assert 0.92 <= hit_new / 500 <= 0.98
    assert hit_gap / 500 >= 0.93
