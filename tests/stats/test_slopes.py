"""Dose-response slopes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from levercheck.stats import item_slopes, largest_slope, slope, slope_difference
from levercheck.stats.resampling import draws

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60, database=None)
DOSES = np.array([0, 0.5, 1, 1.5, 2, 2.5, 3])
TABLES = st.integers(2, 30).flatmap(lambda n: arrays(np.bool_, (n, 7)))


def test_item_slopes_match_polyfit():
    table = np.random.default_rng(0).normal(size=(12, 7))
    assert item_slopes(table, DOSES) == pytest.approx(np.polyfit(DOSES, table.T, 1)[0])


@PROPERTY
@given(TABLES)
def test_mean_slope_is_the_slope_of_the_mean_curve(table):
    assert slope(table, DOSES).value == pytest.approx(100 * np.polyfit(DOSES, table.mean(axis=0), 1)[0], abs=1e-9)


@PROPERTY
@given(TABLES)
def test_adjusted_interval_never_collapses_and_mirrors(table):
    up, down = slope(table, DOSES), slope(~table, DOSES)
    assert up.width > 0
    assert up.low <= up.value + 1e-9 and up.value - 1e-9 <= up.high
    assert (down.value, down.low, down.high) == pytest.approx((-up.value, -up.high, -up.low), abs=1e-9)
    assert abs(up.value) <= 100 * largest_slope(DOSES) + 1e-9


@PROPERTY
@given(TABLES, st.permutations(range(7)))
def test_order_of_doses_does_not_matter(table, order):
    order = list(order)
    assert slope(table[:, order], DOSES[order]).low == pytest.approx(slope(table, DOSES).low, abs=1e-9)


def test_largest_slope_is_attained():
    best = (DOSES.mean() < DOSES).astype(float)
    assert item_slopes(best[None], DOSES)[0] == pytest.approx(largest_slope(DOSES))


def test_two_doses_give_the_adjusted_wald_interval():
    """Bonett and Price: counts plus one over n plus two; ours differs by Student's t and n - 1."""
    gained, lost, n = 7, 2, 60
    table = np.zeros((n, 2))
    table[:gained, 1] = 1
    table[gained : gained + lost, 0] = 1
    ours = slope(table, [0, 1], unit="pp")
    p12, p21 = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    error = np.sqrt((p12 + p21 - (p12 - p21) ** 2) / (n + 2))
    centre = p12 - p21
    assert (ours.low + ours.high) / 200 == pytest.approx(centre, rel=1e-9)
    assert ours.width / 200 == pytest.approx(2.001 * error, rel=0.02)


def test_no_flip_gives_zero_with_a_width():
    flat = slope(np.ones((100, 7)), DOSES)
    assert flat.value == 0 and flat.low < 0 < flat.high
    assert not slope(np.ones((100, 7)), DOSES, method="t").estimable
    assert not slope(np.ones((100, 7)), DOSES, method="bootstrap").estimable
    assert not slope(np.ones((100, 7)), DOSES, binary=False).estimable


def test_items_that_do_not_respond_have_a_slope_of_exactly_zero():
    grid = [0.1, 1 / 3, 3]
    assert np.array_equal(item_slopes(np.ones((5, 3)), grid), np.zeros(5))
    groups = np.repeat(np.arange(20), 3)
    flat = slope(np.ones((60, 3)), grid, clusters=groups)
    assert flat.width > 2 * slope(np.ones((60, 3)), grid).width


def test_difference_of_an_arm_with_itself_and_with_its_opposite():
    table = np.random.default_rng(2).random((50, 7)) < 0.4
    same = slope_difference(table, table, DOSES)
    assert same.value == 0 and same.low < 0 < same.high
    mirror = slope_difference(table, ~table, DOSES)
    assert mirror.value == pytest.approx(2 * slope(table, DOSES).value)


def test_clusters_widen_when_items_move_together():
    rng = np.random.default_rng(4)
    table = np.repeat(rng.random((30, 7)) < 0.5, 4, axis=0)
    groups = np.repeat([f"p{i}" for i in range(30)], 4)
    clustered = slope(table, DOSES, clusters=groups, cluster_unit="passage")
    assert clustered.width > 1.6 * slope(table, DOSES).width
    assert (clustered.clusters, clustered.cluster_unit) == (30, "passage")


def test_bootstrap_slope_is_seeded_and_close_to_t():
    table = np.random.default_rng(6).random((200, 7)) < 0.5
    boot = slope(table, DOSES, method="bootstrap", resamples=2000, seed=7)
    assert boot == slope(table, DOSES, method="bootstrap", resamples=2000, seed=7)
    assert boot != slope(table, DOSES, method="bootstrap", resamples=2000, seed=8)
    plain = slope(table, DOSES, method="t")
    assert (boot.seed, boot.resamples) == (7, 2000)
    assert boot.width == pytest.approx(plain.width, rel=0.08)


def test_serial_stream_is_the_reference_choice_stream():
    rng = np.random.default_rng(42)
    expected = np.stack([rng.choice(17, 17, replace=True) for _ in range(600)])
    assert np.array_equal(np.concatenate(list(draws(17, 600, 42, "serial"))), expected)


def test_block_stream_extends():
    short = np.concatenate(list(draws(9, 300, 1)))
    long = np.concatenate(list(draws(9, 900, 1)))
    assert np.array_equal(short[:250], long[:250])
    assert len(long) == 900


def test_refusals():
    with pytest.raises(ValueError, match="2 missing or infinite entries out of 14"):
        table = np.zeros((2, 7))
        table[0, :2] = np.nan
        slope(table, DOSES)
    with pytest.raises(ValueError, match=r"neither 0 nor 1.*binary=False"):
        slope(np.full((3, 7), 0.5), DOSES)
    with pytest.raises(ValueError, match="two distinct doses"):
        slope(np.zeros((3, 2)), [1, 1])
    with pytest.raises(ValueError, match="7 columns for 2 doses"):
        slope(np.zeros((3, 7)), [0, 1])
    with pytest.raises(ValueError, match="lengths differ: target 3, control 2"):
        slope_difference(np.zeros((3, 2)), np.zeros((2, 2)), [0, 1])
    with pytest.raises(ValueError, match="method 'magic'"):
        slope(np.zeros((3, 2)), [0, 1], method="magic")
    one = slope([[0, 1]], [0, 1])
    assert one.value == 100 and not one.estimable
    assert not slope(np.zeros((0, 2)), [0, 1]).has_value


def flips(rng, items, groups, rate, together, upward):
    """0/1 table in which a share ``rate`` of items flips once, at a random dose, upward with that chance."""
    shared = rng.random(items) < together

    def pick(single, grouped):
        return np.where(shared, grouped[groups], single)

    count = groups.max() + 1
    flip = pick(rng.random(items) < rate, rng.random(count) < rate)
    up = pick(rng.random(items) < upward, rng.random(count) < upward)
    start = pick(rng.integers(1, 7, items), rng.integers(1, 7, count))
    base = np.where(flip, ~up, rng.random(items) < 0.6)
    return base[:, None] ^ (flip[:, None] & (np.arange(7) >= start[:, None]))


@pytest.mark.parametrize(
    ("items", "rate", "clustered", "together", "upward"),
    [
        (60, 0.02, False, 0.0, 1.0),
        (60, 0.05, True, 0.5, 1.0),
        (150, 0.005, True, 1.0, 1.0),
        (150, 0.05, False, 0.0, 1.0),
        (150, 0.05, True, 0.7, 0.5),
    ],
)
def test_adjusted_interval_covers_sparse_flips(items, rate, clustered, together, upward):
    rng = np.random.default_rng(11)
    from_step = [item_slopes((np.arange(7) >= step)[None], DOSES)[0] for step in range(1, 7)]
    truth = 100 * rate * (2 * upward - 1) * float(np.mean(from_step))
    hits = 0
    for _ in range(400):
        sizes = rng.integers(1, 5, items) if clustered else np.ones(items, int)
        groups = np.repeat(np.arange(items), sizes)[:items]
        interval = slope(flips(rng, items, groups, rate, together, upward), DOSES, clusters=groups)
        hits += interval.low <= truth <= interval.high
    assert hits / 400 >= 0.935
