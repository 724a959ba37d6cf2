"""Rates and means."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from levercheck.stats import mean, proportion
from levercheck.stats.means import fit_mean

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60, database=None)


@PROPERTY
@given(st.integers(1, 400), st.data(), st.sampled_from([0.8, 0.95, 0.99]), st.sampled_from(["wilson", "exact"]))
def test_rate_intervals_match_scipy(n, data, level, method):
    k = data.draw(st.integers(0, n))
    ours = proportion(k, n, level=level, method=method)
    theirs = oracle.binomtest(k, n).proportion_ci(confidence_level=level, method=method)
    assert (ours.value, ours.n) == (k / n, n)
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)


def test_rate_units_and_refusals():
    assert proportion(1, 4, unit="%").value == 25.0
    assert not proportion(0, 0).has_value
    for k, n in [(5, 4), (-1, 4), (0, -1), (0.5, 2)]:
        with pytest.raises(ValueError):
            proportion(k, n)
    with pytest.raises(ValueError, match="method 'wald'"):
        proportion(1, 2, method="wald")
    with pytest.raises(ValueError, match="unit 'furlong'"):
        proportion(1, 2, unit="furlong")


def test_published_rate_interval():
    """642 of 1000, a row of the public reference study."""
    rate = proportion(642, 1000)
    assert rate.low == pytest.approx(0.6117948042178514, abs=1e-14)
    assert rate.high == pytest.approx(0.671118396372251, abs=1e-14)


def test_plain_mean_matches_scipy():
    values = np.random.default_rng(0).normal(3, 2, 37)
    ours = mean(values, level=0.9)
    theirs = oracle.ttest_1samp(values, 0).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_clustered_mean_matches_statsmodels():
    api = pytest.importorskip("statsmodels.api")
    rng = np.random.default_rng(1)
    groups = rng.integers(0, 25, 140)
    values = rng.normal(size=25)[groups] + rng.normal(size=140)
    fit = api.OLS(values, np.ones(140)).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    ours = mean(values, clusters=groups)
    assert fit_mean(values, groups).variance ** 0.5 == pytest.approx(fit.bse[0], rel=1e-10)
    assert (ours.low, ours.high) == pytest.approx(tuple(fit.conf_int()[0]), rel=1e-10)
    assert (ours.clusters, ours.cluster_unit) == (len(set(groups)), "cluster")


VALUES = st.lists(st.integers(-50, 50).map(float), min_size=2, max_size=40)


@PROPERTY
@given(VALUES)
def test_singleton_clusters_change_nothing(values):
    plain, clustered = mean(values), mean(values, clusters=[f"c{i}" for i in range(len(values))])
    assert plain.value == clustered.value
    assert plain.low == (None if clustered.low is None else pytest.approx(clustered.low, abs=1e-9))


@PROPERTY
@given(VALUES, st.integers(2, 4))
def test_copies_of_an_item_in_its_own_cluster_add_no_certainty(values, copies):
    single = fit_mean(np.array(values))
    copied = fit_mean(np.repeat(np.array(values), copies), np.repeat(np.arange(len(values)), copies))
    assert (single.variance is None) == (copied.variance is None)
    if single.variance is not None:
        assert copied.variance == pytest.approx(single.variance, rel=1e-9)


@PROPERTY
@given(VALUES, st.floats(-5, 5).filter(lambda s: abs(s) > 1e-3))
def test_scale_scales_all_three(values, scale):
    base, scaled = mean(values), mean(values, scale=scale)
    assert scaled.value == pytest.approx(base.value * scale, abs=1e-9)
    if base.width is not None:
        assert scaled.width == pytest.approx(base.width * abs(scale), rel=1e-9)


def test_what_cannot_be_estimated_is_said():
    assert mean([]).value is None
    one = mean([3.0])
    assert one.value == 3.0 and not one.estimable and "one item" in one.note
    same = mean([0.1] * 7)
    assert same.value == pytest.approx(0.1) and not same.estimable and "no variation" in same.note
    lone = mean([1.0, 2.0], clusters=["a", "a"])
    assert lone.value == 1.5 and not lone.estimable and "one cluster" in lone.note


def test_missing_entries_and_labels_are_named():
    with pytest.raises(ValueError, match="2 missing or infinite entries out of 3"):
        mean([1.0, np.nan, np.inf])
    with pytest.raises(ValueError, match="1 missing labels out of 2"):
        mean([1.0, 2.0], clusters=["a", None])
    with pytest.raises(ValueError, match="shape"):
        mean([1.0, 2.0], clusters=["a"])


def test_clustered_t_interval_covers():
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(600):
        sizes = rng.integers(1, 5, 20)
        groups = np.repeat(np.arange(20), sizes)
        values = rng.normal(size=20)[groups] + rng.normal(size=len(groups))
        interval = mean(values, clusters=groups)
        hits += interval.low <= 0 <= interval.high
    assert 0.92 <= hits / 600 <= 0.98
