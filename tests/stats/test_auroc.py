"""Readout quality: AUROC, paired differences, matched pairs."""

import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats as oracle
from sklearn.metrics import roc_auc_score

from levercheck.stats import auroc, auroc_difference, matched_auroc, proportion, within_auroc
from levercheck.stats.resampling import weight_draws

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60, database=None)
SCORED = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=4, max_size=40)


def split(rows):
    scores = np.array([float(score) for score, _ in rows])
    labels = np.array([label for _, label in rows])
    assume(0 < labels.sum() < len(labels))
    return scores, labels


def kernel(scores, labels):
    gap = scores[labels][:, None] - scores[~labels][None, :]
    return (np.sign(gap) + 1) / 2


@PROPERTY
@given(SCORED)
def test_area_matches_sklearn_with_ties(rows):
    scores, labels = split(rows)
    assert auroc(scores, labels).value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@PROPERTY
@given(SCORED)
def test_interval_contains_value_and_mirrors(rows):
    scores, labels = split(rows)
    there, back = auroc(scores, labels), auroc(-scores, labels)
    assert there.value == pytest.approx(1 - back.value, abs=1e-12)
    if there.estimable:
        assert 0 <= there.low <= there.value <= there.high <= 1
        assert there.high > there.low
        assert (back.low, back.high) == pytest.approx((1 - there.high, 1 - there.low), abs=1e-9)


@PROPERTY
@given(SCORED)
def test_monotone_transforms_change_nothing(rows):
    scores, labels = split(rows)
    assert auroc(np.exp(scores / 2), labels) == auroc(scores, labels)


def test_delong_variance_from_its_definition():
    rng = np.random.default_rng(0)
    labels = rng.random(90) < 0.4
    scores = rng.normal(size=90) + labels
    wins = kernel(scores, labels)
    variance = wins.mean(1).var(ddof=1) / labels.sum() + wins.mean(0).var(ddof=1) / (~labels).sum()
    area = wins.mean()
    centre, half = np.log(area / (1 - area)), oracle.norm.ppf(0.975) * variance**0.5 / (area * (1 - area))
    interval = auroc(scores, labels)
    assert (interval.low, interval.high) == pytest.approx(
        (1 / (1 + np.exp(half - centre)), 1 / (1 + np.exp(-half - centre))), rel=1e-10
    )


def test_copies_in_clusters_add_no_certainty():
    rng = np.random.default_rng(1)
    labels = rng.random(60) < 0.5
    scores = rng.normal(size=60) + labels
    single = auroc(scores, labels, clusters=np.arange(60))
    copied = auroc(np.repeat(scores, 3), np.repeat(labels, 3), clusters=np.repeat(np.arange(60), 3))
    assert (copied.value, copied.low, copied.high) == pytest.approx((single.value, single.low, single.high))
    assert copied.clusters == 60


def test_clustered_variance_agrees_with_a_cluster_bootstrap():
    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(80), 4)
    labels = rng.random(320) < 0.5
    scores = 0.8 * labels + rng.normal(size=80)[groups] + rng.normal(size=320)
    ours = auroc(scores, labels, clusters=groups)
    boot = within_auroc(scores, labels, np.zeros(320), clusters=groups)
    assert ours.value == pytest.approx(boot.value)
    assert ours.width == pytest.approx(boot.width, rel=0.1)
    assert (ours.low, ours.high) == pytest.approx((boot.low, boot.high), abs=0.015)


def test_perfect_separation_gives_an_exact_bound():
    best = auroc([1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 1, 1])
    assert best.value == best.high == 1
    assert best.low == pytest.approx(oracle.binomtest(2, 2).proportion_ci(method="exact").low)
    worst = auroc([1, 2, 3, 4, 5, 6], [1, 1, 0, 0, 0, 0])
    assert (worst.low, worst.value) == (0, 0) and 0 < worst.high < 1
    inside = auroc([1, 2, 3, 4], [0, 0, 1, 1], clusters=["a", "b", "a", "b"])
    assert inside.low == pytest.approx(0.025)


def test_what_cannot_be_estimated_is_said():
    assert "one class is missing: 2 positives" in auroc([1, 2], [1, 1]).note
    tied = auroc([1, 1, 1, 1], [0, 1, 0, 1])
    assert tied.value == 0.5 and not tied.estimable
    single = auroc([1, 2, 3], [0, 1, 0])
    assert single.value == 0.5 and not single.estimable
    lone = auroc([1, 2, 3, 4], [0, 1, 0, 1], clusters=["a"] * 4)
    assert lone.value == 0.75 and not lone.estimable
    assert not auroc([1, 2], [0, 1], clusters=["a", "a"]).estimable


def test_difference_of_two_readouts():
    rng = np.random.default_rng(3)
    labels = rng.random(300) < 0.5
    good, bad = labels + rng.normal(size=300), 0.3 * labels + rng.normal(size=300)
    gap = auroc_difference(good, bad, labels)
    assert gap.value == pytest.approx(roc_auc_score(labels, good) - roc_auc_score(labels, bad))
    mirrored = auroc_difference(bad, good, labels)
    assert (mirrored.low, mirrored.high) == pytest.approx((-gap.high, -gap.low))
    assert gap.width < auroc(good, labels).width + auroc(bad, labels).width
    one, two = kernel(good, labels), kernel(bad, labels)
    spread = (one - two).mean(1).var(ddof=1) / labels.sum() + (one - two).mean(0).var(ddof=1) / (~labels).sum()
    assert gap.width == pytest.approx(2 * oracle.norm.ppf(0.975) * spread**0.5)
    same = auroc_difference(good, good, labels)
    assert same.value == 0 and not same.estimable


@PROPERTY
@given(SCORED, st.integers(1, 3))
def test_within_is_the_pair_weighted_average_of_strata(rows, strata):
    scores, labels = split(rows)
    stratum = np.arange(len(scores)) % strata
    wins = pairs = 0.0
    for one in range(strata):
        part = kernel(scores[stratum == one], labels[stratum == one])
        wins, pairs = wins + part.sum(), pairs + part.size
    ours = within_auroc(scores, labels, stratum, resamples=50)
    assert ours.value == (None if pairs == 0 else pytest.approx(wins / pairs))


@PROPERTY
@given(SCORED, st.integers(0, 3))
def test_matched_counts_the_pairs_inside_the_caliper(rows, caliper):
    scores, labels = split(rows)
    length = np.arange(len(scores)) % 5
    mask = np.abs(length[labels][:, None] - length[~labels][None, :]) <= caliper
    ours = matched_auroc(scores, labels, length, caliper, resamples=50)
    if not mask.any():
        assert not ours.has_value
        return
    assert ours.value == pytest.approx(kernel(scores, labels)[mask].mean())
    assert ours.note.startswith(f"{mask.sum()} pairs of {mask.any(1).sum()} positive and {mask.any(0).sum()} negative")
    if ours.estimable:
        assert 0 <= ours.low <= ours.high <= 1


def test_wide_caliper_is_the_plain_area_with_a_like_interval():
    rng = np.random.default_rng(4)
    labels = rng.random(250) < 0.4
    scores = rng.normal(size=250) + labels
    plain, wide = auroc(scores, labels), matched_auroc(scores, labels, rng.random(250), 2.0)
    assert wide.value == pytest.approx(plain.value)
    assert (wide.low, wide.high) == pytest.approx((plain.low, plain.high), abs=0.02)
    assert wide == matched_auroc(scores, labels, rng.random(250), 2.0)
    assert (wide.seed, wide.resamples) == (0, 2000)


def test_a_readout_of_length_alone_is_exposed_by_matching():
    rng = np.random.default_rng(5)
    labels = rng.random(600) < 0.5
    length = 2.0 * labels + rng.normal(size=600)
    scores = length + 0.01 * rng.normal(size=600)
    assert auroc(scores, labels).low > 0.85
    matched = matched_auroc(scores, labels, length, 0.1)
    assert matched.value < 0.6


def test_matched_bootstrap_weights_agree_with_brute_force():
    rng = np.random.default_rng(6)
    labels = rng.random(30) < 0.5
    scores, length = rng.normal(size=30), rng.normal(size=30)
    mask = np.abs(length[labels][:, None] - length[~labels][None, :]) <= 0.5
    wins = kernel(scores, labels) * mask
    expected = []
    for weights in np.concatenate(list(weight_draws(30, 300, 9))):
        outer = np.outer(weights[labels], weights[~labels])
        expected.append((outer * wins).sum() / (outer * mask).sum())
    ours = matched_auroc(scores, labels, length, 0.5, resamples=300, seed=9)
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(expected, [0.025, 0.975])))


def test_blocks_of_the_pair_matrix_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(7)
    labels = rng.random(80) < 0.5
    scores, length = rng.normal(size=80), rng.normal(size=80)
    whole = matched_auroc(scores, labels, length, 0.4, resamples=100)
    monkeypatch.setattr(sys.modules["levercheck.stats.roc_pairs"], "_CELLS", 150)
    parts = matched_auroc(scores, labels, length, 0.4, resamples=100)
    assert (parts.low, parts.high, parts.note) == (
        pytest.approx(whole.low),
        pytest.approx(whole.high),
        whole.note,
    )


def test_pairs_inside_prompts_only():
    """One hallucinated and one faithful answer per prompt: strata and clusters coincide."""
    rng = np.random.default_rng(8)
    prompts = np.repeat([f"p{i}" for i in range(60)], 2)
    labels = np.tile([True, False], 60)
    scores = rng.normal(size=60).repeat(2) * 5 + labels * 0.8 + rng.normal(size=120) * 0.5
    inside = within_auroc(scores, labels, prompts, clusters=prompts)
    assert inside.value == 0.85
    rate = proportion(51, 60)
    assert (inside.low, inside.high) == pytest.approx((rate.low, rate.high), abs=0.03)
    perfect = within_auroc(labels.astype(float), labels, prompts, clusters=prompts)
    assert perfect.high == 1 and perfect.low == pytest.approx(0.025 ** (1 / 60))


def test_refusals():
    with pytest.raises(ValueError, match="caliper is -1"):
        matched_auroc([1, 2], [0, 1], [0, 0], -1)
    with pytest.raises(ValueError, match="1 missing or infinite"):
        auroc([1, np.nan], [0, 1])
    with pytest.raises(ValueError, match="lengths differ"):
        auroc([1, 2, 3], [0, 1])
    with pytest.raises(ValueError, match="covariate has 1 missing"):
        matched_auroc([1, 2], [0, 1], [0, np.nan], 1)


def test_intervals_cover():
    """Two normal classes one standard deviation apart: area Phi(1/sqrt 2)."""
    truth = oracle.norm.cdf(1 / 2**0.5)
    rng = np.random.default_rng(9)
    hits = 0
    for _ in range(500):
        labels = np.arange(60) < 25
        interval = auroc(rng.normal(size=60) + labels, labels)
        hits += interval.low <= truth <= interval.high
    assert 0.925 <= hits / 500 <= 0.98
