"""Probes on whole studies' features: the same from a mapped file, from chosen rows and from a standardised copy."""

from __future__ import annotations

import numpy as np
import pytest

from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.readouts.probe import Scaling, fit_probe, out_of_fold
from levercheck.readouts.sparse_logistic import KKT_LIMIT, fit_path

CS = (0.02, 0.05, 0.1)
LAYERS, NEURONS = 3, 40


@pytest.fixture
def study():
    """float32 features [items, layers, neurons] of which two neurons matter, 0/1 labels, folds."""
    rng = np.random.default_rng(0)
    features = np.exp(0.6 * rng.standard_normal((160, LAYERS, NEURONS))) * 0.05
    signal = features[:, 1, 7] - features[:, 2, 3]
    labels = (signal + 0.02 * rng.standard_normal(160) > 0).astype(float)
    return features.astype(np.float32), labels, np.arange(160) % 4


@pytest.fixture
def mapped(study, tmp_path):
    np.save(tmp_path / "features.npy", study[0])
    return np.load(tmp_path / "features.npy", mmap_mode="r")


def test_finds_the_neurons_and_their_signs(study):
    features, labels, _ = study
    probe = fit_probe(features, labels, CS)
    assert (1, 7) in probe.neurons
    assert (2, 3) in probe.nonzero and (2, 3) not in probe.neurons
    assert probe.c == 0.1 and probe.kkt_residual <= KKT_LIMIT
    assert probe.weights.shape == (LAYERS, NEURONS)


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("intercept", ["free", "penalised"])
def test_equals_a_fit_on_a_copy(study, mapped, scale, intercept):
    features, labels, _ = study
    cs = CS if scale else (10.0, 100.0)
    rows = np.flatnonzero(np.arange(160) % 5 > 0)
    x = features.reshape(160, -1).astype(np.float64)
    copy = (x - x[rows].mean(0)) / x[rows].std(0) if scale else x
    expected = fit_path(copy[rows], labels[rows], cs, intercept=intercept)[-1]
    probe = fit_probe(mapped, labels, cs, rows=rows, scale=scale, intercept=intercept)
    assert np.abs(probe.weights.ravel() - expected.coefficients).max() < 1e-5 * max(1, np.abs(probe.weights).max())
    wanted = copy @ expected.coefficients + expected.intercept
    assert np.abs(probe.score(mapped) - wanted).max() < 1e-4
    assert np.array_equal(probe.score(mapped, rows), probe.score(features[rows]))


def test_c_may_come_in_any_order(study):
    features, labels, _ = study
    assert np.array_equal(fit_probe(features, labels, CS[::-1]).weights, fit_probe(features, labels, CS).weights)


@pytest.mark.parametrize("scale", [True, False])
def test_out_of_fold_scores_come_from_the_other_folds(study, mapped, scale):
    features, labels, folds = study
    cs = CS if scale else (10.0, 50.0, 100.0)
    found = out_of_fold(mapped, labels, folds, cs, scale=scale)
    assert found.cs == cs and found.scores.shape == (3, 160)
    for fold in range(4):
        held = folds == fold
        probe = fit_probe(features[~held], labels[~held], cs, scale=scale)
        assert np.abs(found.scores[-1, held] - probe.score(features[held])).max() < 1e-4


def test_out_of_fold_takes_rows_in_their_order(study, mapped):
    features, labels, folds = study
    rows = np.random.default_rng(1).permutation(160)[:120]
    found = out_of_fold(mapped, labels, folds, CS, rows=rows)
    expected = out_of_fold(features[rows], labels[rows], folds[rows], CS)
    assert np.abs(found.scores - expected.scores).max() < 1e-4
    mask = np.isin(np.arange(160), rows)
    sorted_scores = out_of_fold(mapped, labels, folds, CS, rows=mask).scores
    assert np.abs(sorted_scores - expected.scores[:, np.argsort(rows)]).max() < 1e-4


def test_float16_features(study):
    features, labels, _ = study
    half = features.astype(np.float16)
    probe, expected = fit_probe(half, labels, CS), fit_probe(half.astype(np.float64), labels, CS)
    assert np.abs(probe.weights - expected.weights).max() < 1e-5
    assert np.abs(probe.score(half) - expected.score(half.astype(np.float64))).max() < 1e-5


def test_scoring_reads_only_neurons_with_a_weight(study):
    features, labels, _ = study
    probe = fit_probe(features, labels, CS)
    other = features.copy()
    other[:, probe.weights == 0] = np.nan
    assert np.array_equal(probe.score(other), probe.score(features))
    other[5, 1, 7] = np.nan
    with pytest.raises(UsageError, match=f"row 5, column {NEURONS + 7}"):
        probe.score(other)


def test_rows_that_are_left_out_may_hold_anything(study):
    features, labels, folds = study
    features[3] = np.nan
    rows = np.arange(160) != 3
    assert np.isfinite(out_of_fold(features, labels, folds, CS, rows=rows).scores).all()
    assert fit_probe(features, labels, CS, rows=rows).neurons
    with pytest.raises(UsageError, match="row 3, column 0"):
        fit_probe(features, labels, CS)


def test_a_probe_on_raw_features_has_the_identity_as_scaling(study):
    features, labels, _ = study
    probe = fit_probe(features, labels, (10.0, 100.0), scale=False)
    assert not probe.scaling.mean.any() and (probe.scaling.deviation == 1).all()
    direct = features.reshape(160, -1) @ probe.weights.ravel() + probe.intercept
    assert np.allclose(probe.score(features), direct, atol=1e-5)


def test_scaling_is_measured_in_float64_on_the_rows():
    x = (np.random.default_rng(2).standard_normal((500, 30)) * 1e-3 + 1000).astype(np.float32)
    rows = np.arange(100, 400)
    scaling = Scaling.of(x, rows)
    exact = x[rows].astype(np.float64)
    assert np.allclose(scaling.mean, exact.mean(0), rtol=1e-14)
    assert np.allclose(scaling.deviation, exact.std(0), rtol=1e-9)
    assert np.abs(scaling(x[rows]).std(0) - 1).max() < 1e-9


def test_a_fold_that_holds_a_whole_class_is_too_little_data(study):
    features, labels, _ = study
    with pytest.raises(NotEnoughDataError, match="expected both"):
        out_of_fold(features, labels, labels.astype(int), CS)
