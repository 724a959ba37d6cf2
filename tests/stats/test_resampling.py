"""Bootstrap intervals and sign-flip tests."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from levercheck.stats import bootstrap, bootstrap_means, bootstrap_totals, sign_flip, westfall_young
from levercheck.stats.resampling import bca_bounds, weight_draws

PROPERTY = settings(derandomize=True, deadline=None, max_examples=40, database=None)
SKEWED = np.random.default_rng(0).exponential(size=60)


def test_reference_convention_reproduces_a_plain_loop():
    rng = np.random.default_rng(42)
    expected = np.array([rng.choice(SKEWED, 60, replace=True).mean() for _ in range(700)])
    ours = bootstrap(SKEWED, interval="percentile", stream="serial", resamples=700)
    assert bootstrap_means(SKEWED, resamples=700, stream="serial") == pytest.approx(expected)
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])))
    assert (ours.seed, ours.resamples, ours.method) == (42, 700, "bootstrap_percentile")


def test_cluster_resamples_reproduce_a_plain_loop():
    groups = np.arange(60) % 13
    rng = np.random.default_rng(42)
    expected = []
    for _ in range(300):
        picked = rng.choice(13, 13, replace=True)
        expected.append(np.concatenate([SKEWED[groups == g] for g in picked]).mean())
    assert bootstrap_means(SKEWED, groups, resamples=300, stream="serial") == pytest.approx(np.array(expected))


def test_weights_count_the_draws():
    for weights in weight_draws(11, 260, 5):
        assert np.all(weights.sum(axis=1) == 11)


@pytest.mark.parametrize("interval", ["percentile", "BCa"])
def test_intervals_agree_with_scipy_up_to_resampling_noise(interval):
    theirs = oracle.bootstrap((SKEWED,), np.mean, n_resamples=20000, method=interval, random_state=1)
    ours = bootstrap(SKEWED, interval=interval.lower(), resamples=20000)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), rel=0.015)


def test_bca_with_scipy_resamples_is_scipy_bca():
    """Same resamples, same jackknife: the same interval."""
    theirs = oracle.bootstrap((SKEWED,), np.mean, n_resamples=2000, method="BCa", random_state=2)
    leave_out = np.array([np.delete(SKEWED, i).mean() for i in range(60)])
    ours = bca_bounds(theirs.bootstrap_distribution, SKEWED.mean(), leave_out, 0.95)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), rel=1e-12)


def test_any_statistic_matches_the_built_in_mean():
    groups = np.arange(60) % 17
    built_in = bootstrap(SKEWED, clusters=groups, resamples=400)
    custom = bootstrap(SKEWED, lambda rows: float(rows.mean()), clusters=groups, resamples=400)
    assert (custom.low, custom.high) == pytest.approx((built_in.low, built_in.high))


def test_statistic_of_several_columns_and_undefined_resamples():
    table = np.column_stack([np.arange(12) % 4 == 0, np.arange(12) % 2 == 0]).astype(float)

    def precision(rows):
        return rows[:, 0].sum() / rows[:, 1].sum() if rows[:, 1].sum() > 4 else np.nan

    ratio = bootstrap(table, precision, resamples=500, interval="percentile")
    assert ratio.value == 0.5 and ratio.estimable and "undefined resamples dropped" in ratio.note
    hopeless = bootstrap(table, lambda rows: float("nan"), resamples=50)
    assert not hopeless.has_value


def test_totals_match_the_general_bootstrap():
    table = np.column_stack([np.arange(40) % 3 == 0, np.ones(40)]).astype(float)
    fast = bootstrap_totals(table, lambda totals: totals[:, 0] / totals[:, 1], resamples=400, seed=3)
    slow = bootstrap(
        table, lambda rows: rows[:, 0].sum() / rows[:, 1].sum(), interval="percentile", resamples=400, seed=3
    )
    assert (fast.value, fast.low, fast.high) == pytest.approx((slow.value, slow.low, slow.high))


def test_degenerate_input_is_not_estimable():
    assert not bootstrap([]).has_value
    for interval in ("percentile", "bca", "studentised"):
        assert bootstrap([2.0], interval=interval).value == 2.0
        assert not bootstrap([2.0], interval=interval).estimable
        assert not bootstrap([0.1] * 9, interval=interval, resamples=50).estimable
    with pytest.raises(ValueError, match="for the mean only"):
        bootstrap(SKEWED, np.median, interval="studentised")
    with pytest.raises(ValueError, match="interval 'basic'"):
        bootstrap(SKEWED, interval="basic")
    with pytest.raises(ValueError, match="stream 'x'"):
        bootstrap(SKEWED, stream="x")


def test_studentised_covers_a_skewed_mean_better_than_percentile():
    rng = np.random.default_rng(4)
    hits = {"percentile": 0, "studentised": 0}
    for run in range(300):
        values = rng.lognormal(0, 1, 25)
        for interval in hits:
            ours = bootstrap(values, interval=interval, resamples=500, seed=run)
            hits[interval] += ours.low <= np.exp(0.5) <= ours.high
    assert hits["studentised"] > hits["percentile"]
    assert hits["studentised"] / 300 > 0.88


def test_scale_may_be_negative():
    ours = bootstrap(SKEWED, resamples=200, scale=-100.0)
    assert ours.low <= ours.value <= ours.high <= 0


def test_sign_flip_reproduces_the_reference_loop():
    values = np.random.default_rng(5).normal(0.2, 1, 40)
    rng = np.random.default_rng(43)
    extreme = 0
    for _ in range(2000):
        extreme += np.where(rng.random(40) < 0.5, -values, values).mean() >= values.mean()
    ours = sign_flip(values, flips=2000)
    assert (ours.extreme, ours.p) == (extreme, (extreme + 1) / 2001)
    assert (ours.seed, ours.exact) == (43, False)


@PROPERTY
@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9), st.sampled_from(["greater", "less", "two-sided"]))
def test_exact_sign_flip_enumerates_everything(values, side):
    totals = [
        sum(s * v for s, v in zip(signs, values, strict=True))
        for signs in itertools.product([1, -1], repeat=len(values))
    ]
    turn = {"greater": lambda t: t, "less": lambda t: -t, "two-sided": abs}[side]
    expected = sum(turn(t) >= turn(sum(values)) for t in totals) / len(totals)
    ours = sign_flip(values, side=side)
    assert ours.exact and ours.p == expected
    if side == "greater" and len(values) > 1:
        data = (np.array(values, float),)
        theirs = oracle.permutation_test(data, np.sum, permutation_type="samples", alternative="greater")
        assert ours.p == pytest.approx(theirs.pvalue)


def test_clusters_flip_together():
    values = np.tile([1.0, 0.5, 0.2], 5)
    ours = sign_flip(values, clusters=np.repeat(np.arange(5), 3))
    assert ours.units == 5 and ours.p == 1 / 32
    with pytest.raises(ValueError, match="no differences"):
        sign_flip([])


def test_sign_flip_p_is_uniform_under_the_null():
    rng = np.random.default_rng(6)
    p = [sign_flip(rng.normal(size=30), flips=199, seed=run).p for run in range(400)]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.08


def test_westfall_young_single_component_is_the_sign_flip_test():
    values = np.random.default_rng(7).normal(0.3, 1, (30, 1))
    best = westfall_young(values, flips=1000)
    assert best.step_down[0] == best.single_step[0] == sign_flip(values[:, 0], flips=1000).p


def test_westfall_young_orders_and_adjusts():
    rng = np.random.default_rng(8)
    values = rng.normal(size=(50, 12))
    values[:, 4] += 1.5
    values[:, 9] = 0.0
    result = westfall_young(values, flips=999)
    assert result.best == 4 and result.step_down[4] == 1 / 1000
    assert result.step_down[9] == 1.0 and result.statistic[9] == 0.0
    assert np.all(result.step_down <= result.single_step + 1e-12)
    alone = np.array([sign_flip(values[:, j], flips=999).p for j in range(12)])
    assert np.all(result.step_down >= alone - 1e-12)
    mirrored = westfall_young(-values, flips=999, side="less")
    assert np.array_equal(mirrored.step_down, result.step_down)


def test_westfall_young_copies_cost_nothing():
    values = np.random.default_rng(9).normal(0.3, 1, (40, 1))
    copies = westfall_young(np.repeat(values, 5, axis=1), flips=500)
    assert np.allclose(copies.step_down, sign_flip(values[:, 0], flips=500).p)


def test_westfall_young_controls_the_family():
    rng = np.random.default_rng(10)
    wrong = 0
    for run in range(200):
        shared = rng.normal(size=(25, 1))
        result = westfall_young(shared + rng.normal(size=(25, 15)), flips=199, seed=run, side="two-sided")
        wrong += result.step_down.min() <= 0.05
    assert wrong / 200 <= 0.09
