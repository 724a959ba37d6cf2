"""Power of a verdict and what would undo one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levercheck.stats import items_to_drop, labels_to_flip, mean, paired_difference, slope, verdict_power
from levercheck.stats.power import simulate_doses

PROPERTY = settings(derandomize=True, deadline=None, max_examples=50, database=None)
DOSES = [0, 1, 2, 3]


def test_power_rises_with_the_effect_and_stays_at_alpha_without_one():
    def decide(data):
        outcomes, groups = data
        return "supported" if slope(outcomes, DOSES, clusters=groups).low > 0 else "inconclusive"

    def plan(up):
        return lambda rng: simulate_doses(rng, 120, DOSES, up=up, down=0.05, cluster_size=2, together=0.5)

    weak = verdict_power(plan(0.05), decide, runs=150)
    strong = verdict_power(plan(0.30), decide, runs=150)
    assert weak.get("supported") is None or weak["supported"].value < 0.06
    assert strong["supported"].value > 0.8
    assert strong == verdict_power(plan(0.30), decide, runs=150)
    assert sum(part.value for part in strong.values()) == pytest.approx(1.0)
    assert strong["supported"].resamples == 150


def test_simulated_items_flip_as_stated():
    outcomes, groups = simulate_doses(np.random.default_rng(0), 20000, DOSES, up=0.1, down=0.03, base=0.7)
    changed = outcomes[:, -1].astype(int) - outcomes[:, 0]
    assert np.mean(changed == 1) == pytest.approx(0.1, abs=0.01)
    assert np.mean(changed == -1) == pytest.approx(0.03, abs=0.006)
    assert np.abs(np.diff(outcomes.astype(int), axis=1)).sum(axis=1).max() == 1
    assert len(set(groups.tolist())) == 20000
    turned, _ = simulate_doses(np.random.default_rng(0), 500, DOSES[::-1], up=1.0, down=0.0)
    assert turned[:, 0].all() and not turned[:, -1].any()
    alike, groups = simulate_doses(np.random.default_rng(1), 90, DOSES, 0.3, 0.2, cluster_size=3, together=1.0)
    assert all(len(np.unique(alike[groups == g], axis=0)) == 1 for g in range(30))


def test_plans_are_checked():
    with pytest.raises(ValueError, match=r"up \+ down is 1\.2"):
        simulate_doses(np.random.default_rng(0), 10, DOSES, up=0.6, down=0.6)
    with pytest.raises(ValueError, match="cannot plan 0 items"):
        simulate_doses(np.random.default_rng(0), 0, DOSES, up=0.1, down=0.1)
    with pytest.raises(ValueError, match="0 runs"):
        verdict_power(lambda rng: rng, lambda data: True, runs=0)


def pairs(gained, lost, yes, no):
    after = np.array([1] * gained + [0] * lost + [1] * yes + [0] * no, bool)
    before = np.array([0] * gained + [1] * lost + [1] * yes + [0] * no, bool)
    return after, before


@PROPERTY
@given(st.integers(0, 14), st.integers(0, 14), st.integers(0, 12), st.integers(0, 12))
def test_label_flips_are_the_fewest(gained, lost, yes, no):
    after, before = pairs(gained, lost, yes, no)
    result = labels_to_flip(after, before)
    if len(after) == 0 or not paired_difference(after, before).excludes(0.0):
        assert result.count == 0 and result.note
        return
    up = gained > lost
    many, few, room = (gained, lost, yes) if up else (lost, gained, no)

    def undone(count):
        for turned in range(min(count, room) + 1):
            if count - turned <= many:
                cells = (many - count + turned, few + turned)
                changed = pairs(*cells, 0, len(after) - sum(cells))
                if not paired_difference(*changed).excludes(0.0):
                    return True
        return False

    fewest = next((count for count in range(1, many + room + 1) if undone(count)), None)
    assert result.count == fewest
    assert result.of == len(after) and result.share == result.count / len(after)


def test_a_borderline_gain_hangs_on_one_label():
    assert labels_to_flip(*pairs(6, 0, 47, 47)).count == 1
    assert labels_to_flip(*pairs(60, 0, 20, 20)).count > 10
    assert labels_to_flip(*pairs(60, 0, 20, 20)).reverses == 61


@PROPERTY
@given(st.lists(st.integers(-5, 9).map(float), min_size=3, max_size=25))
def test_dropped_items_do_undo_the_claim(values):
    array = np.array(values)
    result = items_to_drop(array)
    if not mean(array).excludes(0.0):
        assert result.count in (0, None) or result.note
        return
    order = np.argsort(-np.sign(array.mean()) * array, kind="stable")
    if result.count is not None:
        assert mean(array[order[result.count :]]).excludes(0.0) is False
    if result.reverses is not None:
        left = array[order[result.reverses :]].sum()
        assert left * array.mean() < 0
        before = array[order[result.reverses - 1 :]].sum()
        assert before * array.mean() >= 0


def test_one_cluster_may_carry_the_claim():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 5)
    values = 0.25 + 0.3 * rng.normal(size=60)
    result = items_to_drop(values, clusters=groups)
    assert result.kind == "clusters" and result.of == 12
    assert result.count >= 1
    assert items_to_drop([1.0, 1.0]).note == "interval not estimable"
    assert items_to_drop([]).count == 0
    assert result.to_dict()["share"] == result.count / 12
