"""Simultaneous bands over a dose grid."""

import numpy as np
import pytest
from scipy import stats as oracle

from levercheck.stats import simultaneous_band

DOSES = [0.0, 0.5, 1.0, 2.0, 3.0]


def table(rng, items=150, rise=0.0):
    levels = rng.normal(size=(items, 1)) + 0.7 * rng.normal(size=(items, 5)) + rise * np.arange(5)
    return levels > 0


def test_band_is_wider_than_pointwise_and_narrower_than_bonferroni():
    band = simultaneous_band(table(np.random.default_rng(0)), DOSES, reference=1.0)
    assert band.pointwise == pytest.approx(oracle.t.ppf(0.975, 149))
    assert band.pointwise < band.critical < oracle.t.ppf(1 - 0.025 / 4, 149) + 0.03
    assert [point.estimable for point in band.points] == [True, True, False, True, True]
    assert band.points[2].value == 0.0


def test_values_are_the_mean_changes():
    outcomes = table(np.random.default_rng(1), rise=0.3)
    band = simultaneous_band(outcomes, DOSES, reference=0.0)
    expected = 100 * (outcomes.mean(axis=0) - outcomes[:, 0].mean())
    assert [point.value for point in band.points] == pytest.approx(list(expected))
    assert band.beyond() == (0.5, 1.0, 2.0, 3.0) or 3.0 in band.beyond()
    assert band.window()[1] == 3.0


def test_window_is_the_longest_run_of_neighbours():
    outcomes = np.zeros((400, 5), bool)
    outcomes[:80, 1] = outcomes[:90, 3] = outcomes[:100, 4] = True
    band = simultaneous_band(outcomes, DOSES, reference=0.0)
    assert band.beyond() == (0.5, 2.0, 3.0)
    assert band.window() == (2.0, 3.0)
    assert band.window(threshold=50) is None


def test_no_flip_keeps_a_width():
    band = simultaneous_band(np.ones((50, 5)), DOSES, reference=0.0)
    assert all(point.low < 0 < point.high for point in band.points[1:])
    graded = simultaneous_band(np.ones((50, 5)), DOSES, reference=0.0, binary=False)
    assert not any(point.estimable for point in graded.points)


def test_clusters_and_seed():
    groups = np.repeat(np.arange(40), 4)
    outcomes = table(np.random.default_rng(2), items=40)[groups]
    clustered = simultaneous_band(outcomes, DOSES, 0.0, clusters=groups)
    assert clustered.points[1].clusters == 40
    assert clustered.points[1].width > 1.5 * simultaneous_band(outcomes, DOSES, 0.0).points[1].width
    assert clustered == simultaneous_band(outcomes, DOSES, 0.0, clusters=groups)
    assert clustered.to_dict()["reference"] == 0.0


def test_refusals():
    with pytest.raises(ValueError, match=r"reference dose 7\.0"):
        simultaneous_band(np.ones((5, 5)), DOSES, 7.0)
    with pytest.raises(ValueError, match="4 columns"):
        simultaneous_band(np.ones((5, 4)), DOSES, 0.0)
    with pytest.raises(ValueError, match="binary=False"):
        simultaneous_band(np.full((5, 5), 0.5), DOSES, 0.0)
    assert not simultaneous_band(np.ones((1, 5)), DOSES, 0.0).points[1].estimable


def test_band_covers_all_doses_at_once():
    rng = np.random.default_rng(3)
    missed = 0
    for run in range(300):
        band = simultaneous_band(table(rng, items=80), DOSES, 0.0, draws=2000, seed=run)
        missed += any(point.low > 0 or point.high < 0 for point in band.points[1:])
    assert missed / 300 <= 0.075
