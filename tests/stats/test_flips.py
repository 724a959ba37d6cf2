"""Flip matrices, agreement and clustering."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import cohen_kappa_score

from levercheck.stats import (
    clustering,
    cohen_kappa,
    flip_matrix,
    gwet_ac1,
    krippendorff_alpha,
    mcnemar,
)
from levercheck.stats.clusters import largest_design_effect, sparse_design_effect
from levercheck.stats.flips import FlipMatrix

PROPERTY = settings(derandomize=True, deadline=None, max_examples=50, database=None)
LABELS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=40)


def test_counts_and_readings():
    flips = flip_matrix(["right", "right", "wrong", "refused"], ["wrong", "right", "right", "refused"])
    assert flips.outcomes == ("refused", "right", "wrong")
    assert (flips.n, flips.flipped, flips.net("right"), flips.moved("right", "wrong")) == (4, 2, 0, 1)
    assert flips.retained("right") == 0.5
    assert flip_matrix(["a"], ["a"], outcomes=["a", "b"]).retained("b") is None
    assert flips.to_dict()["counts"] == [[1, 0, 0], [0, 1, 1], [0, 1, 0]]


@PROPERTY
@given(arrays(np.int64, (4, 4), elements=st.integers(1, 60)))
def test_symmetry_and_homogeneity_match_statsmodels(counts):
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    square = tables.SquareTable(counts, shift_zeros=False)
    ours = FlipMatrix(("a", "b", "c", "d"), counts)
    symmetry, homogeneity = square.symmetry(), square.homogeneity()
    assert (ours.bowker().statistic, ours.bowker().p) == pytest.approx((symmetry.statistic, symmetry.pvalue))
    assert ours.stuart_maxwell().df == 3
    assert ours.stuart_maxwell().statistic == pytest.approx(homogeneity.statistic, rel=1e-6, abs=1e-9)
    assert ours.stuart_maxwell().p == pytest.approx(homogeneity.pvalue, rel=1e-6)


@PROPERTY
@given(st.integers(0, 30), st.integers(0, 30))
def test_two_outcomes_give_mcnemar_without_correction(up, down):
    assume(up + down > 0)
    flips = FlipMatrix(("no", "yes"), np.array([[5, up], [down, 7]]))
    expected = (up - down) ** 2 / (up + down)
    assert flips.bowker().statistic == pytest.approx(expected)
    assert flips.stuart_maxwell().statistic == pytest.approx(expected)
    after, before = [1] * up + [0] * down, [0] * up + [1] * down
    assert (mcnemar(after, before).gained, mcnemar(after, before).lost) == (up, down)


def test_an_unused_outcome_changes_nothing():
    counts = np.array([[9, 12, 0], [3, 8, 0], [0, 0, 4]])
    small = FlipMatrix(("a", "b"), counts[:2, :2])
    large = FlipMatrix(("a", "b", "c"), counts)
    assert large.stuart_maxwell().df == small.stuart_maxwell().df == 1
    assert large.stuart_maxwell().statistic == pytest.approx(small.stuart_maxwell().statistic)
    assert large.bowker().df == 1


def test_nothing_flipped_has_no_p():
    still = flip_matrix(["a", "b"], ["a", "b"])
    assert still.bowker().p is None and still.stuart_maxwell().p is None


def test_flip_refusals():
    with pytest.raises(ValueError, match="lengths differ"):
        flip_matrix(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="1 outcomes are missing"):
        flip_matrix(["a", None], ["a", "b"])
    with pytest.raises(ValueError, match="unknown outcomes: b"):
        flip_matrix(["a"], ["b"], outcomes=["a"])
    with pytest.raises(ValueError, match="'z' is not one of"):
        flip_matrix(["a"], ["a"]).net("z")


@PROPERTY
@given(LABELS)
def test_kappa_matches_sklearn(pairs):
    first, second = zip(*pairs, strict=True)
    ours = cohen_kappa(first, second, resamples=20)
    if len(set(first) | set(second)) == 1:
        assert not ours.has_value
        return
    assert ours.value == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


@PROPERTY
@given(LABELS)
def test_alpha_of_complete_pairs_from_its_definition(pairs):
    """Nominal alpha of two complete raters: 1 - Do/De over the 2n pooled labels."""
    first, second = map(list, zip(*pairs, strict=True))
    pooled = first + second
    n = len(pooled)
    share = [pooled.count(label) for label in "abc"]
    expected = 1 - sum(c * c - c for c in share) / (n * (n - 1))
    assume(expected > 0)
    observed = np.mean([a != b for a, b in pairs])
    assert krippendorff_alpha([first, second], resamples=20).value == pytest.approx(1 - observed / expected)


def test_alpha_of_the_published_example():
    """Krippendorff's four observers and twelve units with missing entries."""
    ratings = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    for metric, expected in [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)]:
        ours = krippendorff_alpha(ratings, metric)
        assert ours.value == pytest.approx(expected, abs=5e-4)
        assert ours.low < ours.value <= ours.high


def test_ac1_from_its_definition_and_under_high_prevalence():
    first = ["no"] * 95 + ["yes"] * 5
    second = ["no"] * 93 + ["yes"] * 2 + ["no"] * 4 + ["yes"]
    p = np.mean([label == "yes" for label in first + second])
    chance = 2 * p * (1 - p)
    observed = np.mean([a == b for a, b in zip(first, second, strict=True)])
    ac1 = gwet_ac1([first, second])
    assert ac1.value == pytest.approx((observed - chance) / (1 - chance))
    assert ac1.value > 0.9 > 0.3 > cohen_kappa(first, second).value
    same = gwet_ac1([["no"] * 9, ["no"] * 9], categories=["no", "yes"])
    assert same.value == 1.0 and not same.estimable
    with pytest.raises(ValueError, match="at least two categories"):
        gwet_ac1([["no"] * 9, ["no"] * 9])


def test_agreement_is_symmetric_and_clusters_widen():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 3, 40)
    other = np.where(rng.random(40) < 0.7, base, rng.integers(0, 3, 40))
    groups = np.repeat(np.arange(40), 5)
    first, second = np.repeat(base, 5), np.repeat(other, 5)
    there, back = cohen_kappa(first, second, clusters=groups), cohen_kappa(second, first, clusters=groups)
    assert (there.value, there.low) == pytest.approx((back.value, back.low))
    assert there.width > 1.8 * cohen_kappa(first, second).width
    assert there.clusters == 40


def test_agreement_refusals():
    with pytest.raises(ValueError, match="1 items lack a label"):
        cohen_kappa(["a", None], ["a", "b"])
    with pytest.raises(ValueError, match="outside the categories: c"):
        cohen_kappa(["a", "c"], ["a", "b"], categories=["a", "b"])
    with pytest.raises(ValueError, match="lengths differ: 2, 1"):
        gwet_ac1([["a", "b"], ["a"]])
    with pytest.raises(ValueError, match="metric 'ratio'"):
        krippendorff_alpha([["a"], ["a"]], "ratio")


def test_icc_of_identical_and_independent_items():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(200), 4)
    together = clustering(rng.normal(size=200)[groups], groups)
    assert together.icc == pytest.approx(1.0)
    assert together.design_effect == pytest.approx(4.0, rel=0.02)
    assert together.effective_n == pytest.approx(200, rel=0.02)
    apart = clustering(rng.normal(size=800), groups)
    assert apart.icc == pytest.approx(0.0, abs=0.08)
    half = clustering(rng.normal(size=200)[groups] + rng.normal(size=800), groups)
    assert half.icc == pytest.approx(0.5, abs=0.08)
    assert half.design_effect == pytest.approx(1 + 3 * half.icc, rel=0.05)


def test_icc_matches_the_analysis_of_variance():
    from scipy.stats import f_oneway

    rng = np.random.default_rng(2)
    groups = np.repeat(np.arange(12), 5)
    values = rng.normal(size=12)[groups] + rng.normal(size=60)
    f = f_oneway(*[values[groups == g] for g in range(12)]).statistic
    assert clustering(values, groups).icc == pytest.approx((f - 1) / (f + 4))


def test_clustering_that_cannot_be_told():
    assert clustering([1.0, 1.0], ["a", "b"]).design_effect is None
    assert clustering([1.0, 2.0], ["a", "a"]).icc is None
    assert clustering([1.0, 2.0, 4.0], ["a", "b", "c"]).icc is None


def test_sparse_design_effect_starts_at_the_largest():
    label = np.repeat(np.arange(10), 3)
    assert largest_design_effect(label, 10) == 3.0
    assert sparse_design_effect(np.zeros(30), label, 10) == 3.0
    one = np.zeros(30)
    one[0] = 1.0
    assert 1.0 < sparse_design_effect(one, label, 10) < 3.0
    assert sparse_design_effect(one, np.arange(30), 30) == pytest.approx(1.0)
