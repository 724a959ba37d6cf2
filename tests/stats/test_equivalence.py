"""No-effect claims, multiplicity, design and rank correlation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from levercheck.stats import (
    Estimate,
    benjamini_hochberg,
    benjamini_yekutieli,
    equivalent,
    holm,
    items_needed,
    mde,
    mde_paired_proportion,
    non_inferiority,
    spearman,
    tost,
)

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60, database=None)


def test_tost_matches_two_one_sided_tests():
    values = np.random.default_rng(0).normal(0.1, 1, 80)
    ours = tost(values, 0.4)
    low = oracle.ttest_1samp(values, -0.4, alternative="greater").pvalue
    high = oracle.ttest_1samp(values, 0.4, alternative="less").pvalue
    assert (ours.p_low, ours.p_high, ours.p) == pytest.approx((low, high, max(low, high)))
    assert ours.interval.level == pytest.approx(0.9)


@PROPERTY
@given(
    st.lists(st.integers(-9, 9).map(float), min_size=3, max_size=30),
    st.floats(0.1, 5),
    st.sampled_from([0.05, 0.01]),
)
def test_tost_decision_is_interval_inclusion(values, margin, alpha):
    result = tost(values, margin, alpha=alpha)
    if result.p is None:
        assert result.equivalent is None
    elif abs(result.p - alpha) > 1e-9:
        assert result.equivalent == equivalent(result.interval, margin) == (result.p < alpha)


def test_scale_applies_before_the_margin():
    values = [0.0, 0.01, -0.01, 0.02, -0.02] * 8
    assert tost(values, 2.0, scale=100, unit="pp").equivalent is True
    assert tost(values, 0.2, scale=100, unit="pp").equivalent is False


def test_margins_and_missing_intervals():
    unknown = Estimate(0.0, None, None, 0.9, "pp", 1, "t")
    assert equivalent(unknown, 1.0) is None
    assert non_inferiority(None, 1.0) is None
    assert non_inferiority(-0.9, 1.0) is True
    assert non_inferiority(-1.0, 1.0) is False
    for margin in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="margin"):
            non_inferiority(0.0, margin)


P_LISTS = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@PROPERTY
@given(P_LISTS)
def test_false_discovery_matches_scipy(p):
    assert benjamini_hochberg(p) == pytest.approx(oracle.false_discovery_control(p, method="bh"), abs=1e-12)
    assert benjamini_yekutieli(p) == pytest.approx(oracle.false_discovery_control(p, method="by"), abs=1e-12)


@PROPERTY
@given(P_LISTS)
def test_holm_lies_between_raw_and_bonferroni(p):
    adjusted = holm(p)
    assert np.all(adjusted >= np.array(p) - 1e-15)
    assert np.all(adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-15)
    assert np.all(np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0)


def test_holm_matches_statsmodels():
    multi = pytest.importorskip("statsmodels.stats.multitest")
    p = [0.01, 0.04, 0.03, 0.005, 0.5, 0.04]
    assert holm(p) == pytest.approx(multi.multipletests(p, method="holm")[1])


def test_p_values_are_checked():
    assert len(holm([])) == 0 and len(benjamini_yekutieli([])) == 0
    with pytest.raises(ValueError, match=r"1 of 2 p-values"):
        holm([0.1, 1.1])
    with pytest.raises(ValueError, match="missing"):
        holm([0.1, float("nan")])


def test_mde_and_sample_size_are_inverse():
    assert mde(0.5, 1000) == pytest.approx(2.8015852 * 0.5 / 1000**0.5)
    for effect in (0.01, 0.05, 0.3):
        n = items_needed(0.5, effect, design_effect=1.7)
        assert mde(0.5, n, design_effect=1.7) <= effect < mde(0.5, n - 1, design_effect=1.7)


def test_paired_mde_has_the_stated_power():
    """The McNemar z test detects the difference it promises about as often as promised."""
    n, discordance = 400, 0.2
    delta = mde_paired_proportion(n, discordance) / 100
    rng = np.random.default_rng(1)
    cells = rng.multinomial(n, [(discordance + delta) / 2, (discordance - delta) / 2, 1 - discordance], 20000)
    gained, lost = cells[:, 0], cells[:, 1]
    power = np.mean(np.abs(gained - lost) > 1.959964 * np.sqrt(gained + lost))
    assert power == pytest.approx(0.8, abs=0.015)


def test_paired_mde_says_when_nothing_would_do():
    assert mde_paired_proportion(5, 0.1) is None
    assert mde_paired_proportion(1000, 0.1) < mde_paired_proportion(1000, 0.1, design_effect=2)
    with pytest.raises(ValueError, match=r"discordance is 0"):
        mde_paired_proportion(100, 0)
    with pytest.raises(ValueError, match=r"power is 0.2"):
        mde(1, 100, power=0.2)


@PROPERTY
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=30))
def test_spearman_matches_scipy(pairs):
    x, y = np.array(pairs, float).T
    ours = spearman(x, y)
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        assert not ours.has_value
        return
    assert ours.value == pytest.approx(oracle.spearmanr(x, y).statistic, abs=1e-12)
    if ours.estimable:
        assert -1 < ours.low <= ours.value <= ours.high < 1
