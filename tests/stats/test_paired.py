"""Paired yes/no outcomes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from scipy import stats as oracle

from levercheck.stats import mcnemar, paired_difference
from levercheck.stats.paired import tango_bounds

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60, database=None)


def arms(gained, lost, both, neither):
    after = [1] * gained + [0] * lost + [1] * both + [0] * neither
    before = [0] * gained + [1] * lost + [1] * both + [0] * neither
    return np.array(after, bool), np.array(before, bool)


CELLS = st.tuples(*[st.integers(0, 40)] * 4).filter(lambda cells: sum(cells) > 0)


def score_statistic(gained, lost, n, d):
    """Squared score statistic at difference d, with the losing probability maximised numerically."""

    def loss(q):
        parts = [(gained, q + d), (lost, q), (n - gained - lost, 1 - 2 * q - d)]
        return -sum(count * np.log(max(p, 1e-300)) for count, p in parts if count)

    low, high = max(0.0, -d), (1 - d) / 2
    q = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    candidates = [q, low, high]
    q = min(candidates, key=loss)
    return (gained - lost - n * d) ** 2 / (n * (2 * q + d * (1 - d)))


@pytest.mark.parametrize(("gained", "lost", "n"), [(12, 2, 50), (1, 0, 30), (5, 5, 20), (0, 7, 40), (3, 17, 20)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_tango_bounds_solve_the_score_equation(gained, lost, n, level):
    z2 = oracle.norm.ppf(0.5 + level / 2) ** 2
    for bound in tango_bounds(gained, lost, n, level):
        if abs(bound) < 1:
            assert score_statistic(gained, lost, n, bound) == pytest.approx(z2, rel=1e-4)


@PROPERTY
@given(CELLS)
def test_difference_contains_its_value_and_mirrors(cells):
    after, before = arms(*cells)
    there, back = paired_difference(after, before), paired_difference(before, after)
    assert there.value == pytest.approx(100 * (after.mean() - before.mean()))
    assert -100 <= there.low <= there.value + 1e-9 and there.value - 1e-9 <= there.high <= 100
    assert there.high > there.low
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=1e-9)


@pytest.mark.parametrize("n", [1, 7, 200])
def test_no_discordant_pair_has_the_closed_form(n):
    z2 = oracle.norm.ppf(0.975) ** 2
    flat = paired_difference([True] * n, [True] * n)
    assert (flat.low, flat.high) == pytest.approx((-100 * z2 / (n + z2), 100 * z2 / (n + z2)), rel=1e-12)


def test_every_pair_discordant():
    n, z2 = 9, oracle.norm.ppf(0.975) ** 2
    gain = paired_difference([1] * n, [0] * n)
    assert gain.high == 100 and gain.low == pytest.approx(100 * (n - z2) / (n + z2), rel=1e-9)


@PROPERTY
@given(CELLS.filter(lambda cells: sum(cells) > 1))
def test_singleton_clusters_only_pay_for_few_clusters(cells):
    after, before = arms(*cells)
    plain = paired_difference(after, before)
    clustered = paired_difference(after, before, clusters=np.arange(len(after)))
    assert clustered.value == plain.value
    assert clustered.low <= plain.low + 1e-9 and clustered.high >= plain.high - 1e-9


def test_copies_in_clusters_do_not_narrow():
    after, before = arms(8, 3, 10, 29)
    single = paired_difference(after, before, clusters=np.arange(50))
    copied = paired_difference(np.repeat(after, 4), np.repeat(before, 4), clusters=np.repeat(np.arange(50), 4))
    assert copied.width == pytest.approx(single.width, rel=0.02)


def test_clusters_without_any_change_count_as_one_item_each():
    flat = paired_difference([True] * 120, [True] * 120, clusters=np.repeat(np.arange(30), 4))
    z2 = (oracle.norm.ppf(0.975) / oracle.t.ppf(0.975, 29)) ** 2
    assert (flat.low, flat.high) == pytest.approx(tuple(100 * b for b in tango_bounds(0, 0, 30 * z2, 0.95)))
    assert flat.n == 120
    lone = paired_difference([1, 0], [0, 0], clusters=["a", "a"])
    assert lone.value == 50 and not lone.estimable


def test_clustered_difference_covers():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(500):
        groups = np.repeat(np.arange(40), rng.integers(1, 5, 40))
        up = rng.random(40)[groups] < 0.10
        down = rng.random(40)[groups] > 0.95
        interval = paired_difference(up, down, clusters=groups)
        hits += interval.low <= 5 <= interval.high
    assert 0.93 <= hits / 500 <= 0.995


def test_refusals():
    with pytest.raises(ValueError, match="lengths differ: after 2, before 1"):
        paired_difference([1, 0], [1])
    with pytest.raises(ValueError, match="1 entries that are neither 0 nor 1"):
        paired_difference([1, 2], [1, 0])
    with pytest.raises(ValueError, match="1 missing"):
        paired_difference([1, np.nan], [1, 0])
    assert not paired_difference([], []).has_value


@PROPERTY
@given(CELLS)
def test_mcnemar_matches_scipy_and_definition(cells):
    result = mcnemar(*arms(*cells))
    assert (result.gained, result.lost, result.n) == (cells[0], cells[1], sum(cells))
    flips = result.gained + result.lost
    if flips == 0:
        assert result.p_exact == result.p_mid == result.p_continuity == 1.0
        return
    exact = oracle.binomtest(result.gained, flips).pvalue
    assert result.p_exact == pytest.approx(exact, rel=1e-9)
    mass = oracle.binom.pmf(result.gained, flips, 0.5)
    assert result.p_mid == pytest.approx(min(1, 2 * oracle.binom.cdf(min(cells[:2]), flips, 0.5) - mass), rel=1e-9)
    assert result.p_mid <= result.p_exact + 1e-12


def test_mcnemar_matches_statsmodels():
    tables = pytest.importorskip("statsmodels.stats.contingency_tables")
    result = mcnemar(*arms(43, 14, 200, 243))
    table = [[200, 14], [43, 243]]
    assert result.p_exact == pytest.approx(tables.mcnemar(table, exact=True).pvalue)
    theirs = tables.mcnemar(table, exact=False, correction=True)
    assert (result.statistic, result.p_continuity) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert round(result.statistic, 2) == 13.75
