"""Correcting judged rates, bounding unscored rows, calibration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from levercheck.stats import (
    JudgeErrors,
    brier,
    expected_calibration_error,
    items_to_exclude,
    mean,
    paired_bounds,
    paired_difference,
    ppi_mean,
    ppi_paired_difference,
    proportion,
    rate_bounds,
    reliability_bins,
    rogan_gladen,
    rogan_gladen_difference,
    zero_event_bound,
)

PROPERTY = settings(derandomize=True, deadline=None, max_examples=50, database=None)


@PROPERTY
@given(st.integers(0, 200), st.integers(1, 40), st.integers(1, 40), st.data())
def test_rogan_gladen_inverts_the_judge(k, positives, negatives, data):
    right_yes, right_no = data.draw(st.integers(0, positives)), data.draw(st.integers(0, negatives))
    rate = rogan_gladen(k, 200, JudgeErrors(right_yes, positives, right_no, negatives))
    se, sp = right_yes / positives, right_no / negatives
    if se + sp <= 1:
        assert not rate.has_value and "no information" in rate.note
        return
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    if 0 < rate.value < 1:
        assert rate.value * se + (1 - rate.value) * (1 - sp) == pytest.approx(k / 200)


def test_perfect_judge_with_ample_gold_is_nearly_the_wilson_interval():
    ours, plain = rogan_gladen(60, 200, JudgeErrors(10**7, 10**7, 10**7, 10**7)), proportion(60, 200)
    assert ours.value == pytest.approx(plain.value)
    assert (ours.low, ours.high) == pytest.approx((plain.low, plain.high), abs=0.005)


def test_few_gold_rows_widen():
    few, many = JudgeErrors(9, 10, 17, 20), JudgeErrors(900, 1000, 1700, 2000)
    assert rogan_gladen(60, 200, few).width > 1.5 * rogan_gladen(60, 200, many).width


@pytest.mark.parametrize(("rate", "se", "sp"), [(0.3, 0.85, 0.8), (0.03, 0.9, 0.97), (0.6, 0.7, 0.9)])
def test_rogan_gladen_covers(rate, se, sp):
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(500):
        judge = JudgeErrors(rng.binomial(50, se), 50, rng.binomial(60, sp), 60)
        ours = rogan_gladen(rng.binomial(300, rate * se + (1 - rate) * (1 - sp)), 300, judge)
        hits += ours.low <= rate <= ours.high
    assert hits / 500 >= 0.93


def test_difference_of_corrected_rates():
    judge = JudgeErrors(45, 50, 52, 60)
    after, before = rogan_gladen(120, 300, judge), rogan_gladen(60, 300, judge)
    gap = rogan_gladen_difference(after, before)
    assert gap.value == pytest.approx(100 * (after.value - before.value)) and gap.unit == "pp"
    assert gap.low <= gap.value <= gap.high
    back = rogan_gladen_difference(before, after)
    assert (back.low, back.high) == pytest.approx((-gap.high, -gap.low))
    unknown = rogan_gladen(60, 300, JudgeErrors(5, 10, 5, 10))
    assert not rogan_gladen_difference(after, unknown).has_value
    with pytest.raises(ValueError, match="level or unit"):
        rogan_gladen_difference(after, rogan_gladen(60, 300, judge, unit="%"))


def test_judge_counts_are_checked():
    with pytest.raises(ValueError, match="11 right calls out of 10"):
        JudgeErrors(11, 10, 1, 2)
    assert "both are needed" in rogan_gladen(1, 10, JudgeErrors(0, 0, 1, 2)).note
    with pytest.raises(ValueError, match="impossible"):
        rogan_gladen(11, 10, JudgeErrors(1, 1, 1, 1))


def judged(rng, items, labelled, error):
    truth = (rng.random(items) < 0.4).astype(float)
    judge = np.where(rng.random(items) < error, 1 - truth, truth)
    gold = np.where(rng.permutation(items) < labelled, truth, np.nan)
    return truth, judge, gold


def test_ppi_extremes():
    rng = np.random.default_rng(1)
    _, judge, gold = judged(rng, 400, 100, 0.1)
    known = np.isfinite(gold)
    classical = ppi_mean(judge, gold, tuning=0.0)
    assert classical.value == pytest.approx(gold[known].mean())
    assert classical.width == pytest.approx(mean(gold[known]).width, rel=0.01)
    plain = ppi_mean(judge, gold, tuning=1.0)
    assert plain.value == pytest.approx(judge[~known].mean() + (gold - judge)[known].mean())
    tuned = ppi_mean(judge, gold)
    assert tuned.width < 0.8 * classical.width
    useless = ppi_mean(rng.random(400), gold)
    assert useless.width <= 1.05 * classical.width


def test_ppi_tuned_variance_from_its_formula():
    rng = np.random.default_rng(2)
    _, judge, gold = judged(rng, 500, 120, 0.15)
    known = np.isfinite(gold)
    lam = np.cov(gold[known], judge[known])[0, 1] / judge.var() / (1 + 120 / 380)
    variance = (gold - lam * judge)[known].var() / 120 + lam**2 * judge[~known].var() / 380
    ours = ppi_mean(judge, gold)
    assert ours.note == f"120 gold labels, lambda {lam:.2f}"
    assert ours.width == pytest.approx(2 * 1.9801 * (variance * 120 / 119) ** 0.5, rel=1e-3)


def test_ppi_without_enough_gold():
    assert not ppi_mean([1.0, 0.0], [np.nan, np.nan]).has_value
    assert not ppi_mean([1.0, 0.0, 1.0], [1.0, np.nan, np.nan]).estimable
    agreed = ppi_mean([1.0, 0.0, 1.0, 0.0], [1.0, 1.0, np.nan, np.nan])
    assert not agreed.estimable or agreed.width > 0
    full = ppi_mean([1.0, 0.0, 1.0], [1.0, 0.0, 0.0])
    assert full.value == pytest.approx(1 / 3) and "every item" in full.note
    with pytest.raises(ValueError, match="shape"):
        ppi_mean([1.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="tuning is 2"):
        ppi_mean([1.0, 0.0], [1.0, np.nan], tuning=2)


def test_ppi_covers_with_and_without_clusters():
    rng = np.random.default_rng(3)
    hits = clustered_hits = 0
    for _ in range(400):
        _, judge, gold = judged(rng, 300, 60, 0.2)
        ours = ppi_mean(judge, gold)
        hits += ours.low <= 0.4 <= ours.high
        groups = np.repeat(np.arange(100), 3)
        truth = (rng.random(100) < 0.4).astype(float)[groups]
        judge = np.where(rng.random(300) < 0.2, 1 - truth, truth)
        gold = np.where((rng.permutation(100) < 40)[groups], truth, np.nan)
        ours = ppi_mean(judge, gold, clusters=groups)
        clustered_hits += ours.low <= 0.4 <= ours.high
    assert 0.92 <= hits / 400 <= 0.98
    assert 0.92 <= clustered_hits / 400 <= 0.985


def test_paired_ppi_removes_a_bias_that_shifts_with_the_dose():
    rng = np.random.default_rng(4)
    items = 3000
    before = (rng.random(items) < 0.5).astype(float)
    after = before.copy()
    fooled = np.where(rng.random(items) < 0.2, 1.0, after)
    gold = np.where(rng.permutation(items) < 400, after, np.nan)
    naive = paired_difference(fooled, before)
    corrected = ppi_paired_difference(fooled, before, gold, np.where(np.isfinite(gold), before, np.nan))
    assert naive.low > 7
    assert corrected.value == pytest.approx(0.0, abs=1e-9)


def test_zero_events():
    assert zero_event_bound(299).high < 0.01 < zero_event_bound(298).high
    assert items_to_exclude(0.01) == 299
    assert zero_event_bound(100, unit="%").high == pytest.approx(proportion(0, 100, 0.9, "exact", "%").high)
    assert not zero_event_bound(0).has_value
    with pytest.raises(ValueError, match="rate is 0"):
        items_to_exclude(0)


def test_rate_bounds_count_the_unscored_both_ways():
    bounds = rate_bounds([1, 1, 0, np.nan, np.nan])
    assert (bounds.lowest.value, bounds.highest.value, bounds.scored.value) == (0.4, 0.8, 2 / 3)
    assert (bounds.unscored, bounds.low, bounds.high) == (2, proportion(2, 5).low, proportion(4, 5).high)


PARTIAL = st.lists(st.sampled_from([0.0, 1.0, float("nan")]), min_size=2, max_size=8)


@PROPERTY
@given(PARTIAL, st.data())
def test_paired_bounds_contain_every_filling(after, data):
    before = data.draw(st.lists(st.sampled_from([0.0, 1.0, float("nan")]), min_size=len(after), max_size=len(after)))
    bounds = paired_bounds(after, before)
    rng = np.random.default_rng(0)
    for _ in range(10):
        filled = [np.where(np.isnan(arm), rng.integers(0, 2, len(arm)), arm) for arm in (after, before)]
        inside = paired_difference(*filled)
        assert bounds.lowest.value - 1e-9 <= inside.value <= bounds.highest.value + 1e-9
        assert bounds.low <= inside.low + 1e-9 and inside.high - 1e-9 <= bounds.high


def test_bounds_without_missing_rows_are_the_estimate():
    bounds = paired_bounds([1, 1, 0, 1], [0, 1, 0, 0], clusters=["a", "a", "b", "c"])
    assert bounds.lowest == bounds.highest == bounds.scored
    with pytest.raises(ValueError, match="neither 0, 1 nor missing"):
        rate_bounds([0.5])


def test_brier_matches_sklearn():
    rng = np.random.default_rng(5)
    stated = rng.random(200)
    labels = rng.random(200) < stated
    ours = brier(stated, labels)
    assert ours.value == pytest.approx(brier_score_loss(labels, stated))
    assert ours.estimable
    with pytest.raises(ValueError, match="1 of 2 probabilities"):
        brier([0.5, 1.5], [0, 1])


@PROPERTY
@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.sampled_from(["width", "count"]),
)
def test_bins_partition_the_items(rows, by):
    stated, labels = zip(*rows, strict=True)
    table = reliability_bins(stated, labels, bins=5, by=by)
    assert sum(part.observed.n for part in table) == len(rows)
    assert sum(part.observed.n * part.stated for part in table) == pytest.approx(sum(stated), abs=1e-9)
    assert all(part.low <= part.stated <= part.high + 1e-12 for part in table)
    assert 0 <= expected_calibration_error(table) <= 1


def test_calibrated_statements_have_a_small_error():
    rng = np.random.default_rng(6)
    stated = rng.random(20000)
    table = reliability_bins(stated, rng.random(20000) < stated)
    assert expected_calibration_error(table) < 0.02
    assert reliability_bins([], []) == () and expected_calibration_error(()) is None
