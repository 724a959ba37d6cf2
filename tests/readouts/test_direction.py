"""Directions: the formula by hand, on planted data, on every architecture, and on a real model."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import NotEnoughDataError, UsageError  # noqa: E402
from levercheck.lm.sites import decoder_layers  # noqa: E402
from levercheck.readouts.artifact import load_artifact, save_artifact  # noqa: E402
from levercheck.readouts.contrast import Example, Tokens, groups_of, labels_of, split  # noqa: E402
from levercheck.readouts.direction import (  # noqa: E402
    direction_artifact,
    fit_direction,
    fold_areas,
    mass_mean,
    residuals,
)
from levercheck.readouts.separation import accuracy, areas, balanced  # noqa: E402

SEQUENCES = [[1, 44, 9, 23, 5], [1, 7, 80], [1, 90, 3, 3, 12, 50, 71, 8, 9], [1, 33, 20, 11]]
REGIONS = [(2, 5), (2, 3), (4, 9), (0, 4)]


def planted(n=120, layers=4, hidden=12, at=2, strength=2.0, seed=0):
    """Noise, but for one layer in which a known unit vector carries the label."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2 == 1
    vector = rng.normal(size=hidden)
    vector /= np.linalg.norm(vector)
    features = rng.normal(size=(n, layers, hidden)).astype(np.float32)
    features[labels, at] += (strength * vector).astype(np.float32)
    examples = [Example(str(i), f"t{i}", None, int(labels[i]), f"g{i // 4}") for i in range(n)]
    return features, labels, examples, vector


def test_the_formula_by_hand():
    x = np.array([[[3.0, 0.0]], [[5.0, 0.0]], [[1.0, 0.0]], [[-1.0, 2.0]]])
    found = mass_mean(x, np.array([True, True, False, False]))
    difference = np.array([4.0, -1.0])
    d = difference / np.sqrt(17)
    assert np.allclose(found.directions[0], d)
    projections = x[:, 0] @ d
    assert np.isclose(found.sigma[0], projections.std(ddof=0))
    assert np.isclose(found.low[0], projections[2:].mean())
    assert np.isclose(found.high[0], projections[:2].mean())
    assert found.high[0] > found.low[0]


def test_a_planted_direction_is_found_and_its_layer_chosen():
    features, labels, examples, vector = planted()
    parts = split(examples, seed=1)
    found = fit_direction(features, labels, groups_of(examples), parts, seed=1, draws=60)
    assert found.best == 2
    assert found.mass.directions[2] @ vector > 0.8
    estimate = found.auroc[2]
    assert estimate.value > 0.8 and estimate.low < estimate.value < estimate.high
    assert estimate.n == int((~parts.fit).sum()) and estimate.clusters is not None
    by_hand = features[~parts.fit, 2] @ found.mass.directions[2]
    assert np.isclose(estimate.value, areas(by_hand, labels[~parts.fit]))
    right = (by_hand > found.mass.threshold[2]) == labels[~parts.fit]
    assert np.isclose(found.accuracy[2].value, right.mean())
    assert found.stability[2].value > 0.7 > found.stability[0].value
    assert abs(found.references["shuffled"]["mean"] - 0.5) < 0.1
    assert found.references["shuffled"]["high"] < estimate.value
    assert found.references["random"]["p"] <= 2 / 61


def test_the_held_out_part_does_not_choose_the_layer():
    features, labels, examples, _ = planted()
    parts = split(examples, seed=1)
    held = ~parts.fit
    other = features.copy()
    other[held] = np.random.default_rng(9).normal(size=other[held].shape)
    other[held & labels, 0] += 9.0
    first, second = (fit_direction(x, labels, groups_of(examples), parts, draws=5) for x in (features, other))
    assert first.best == second.best
    assert np.array_equal(first.mass.directions, second.mass.directions)
    assert np.array_equal(first.cv, second.cv)
    assert second.auroc[2].value < 0.75 < first.auroc[2].value


def test_noise_is_reported_as_chance():
    features, labels, examples, _ = planted(n=400, strength=0.0)
    found = fit_direction(features, labels, groups_of(examples), split(examples), draws=40)
    chosen = found.auroc[found.best]
    assert chosen.low < 0.5 < chosen.high
    assert found.references["shuffled"]["p"] > 0.02


def test_single_labels_zero_directions_and_broken_numbers_are_errors():
    features, labels, examples, _ = planted(n=80)
    with pytest.raises(NotEnoughDataError):
        mass_mean(features, np.ones(80, bool))
    with pytest.raises(NotEnoughDataError):
        areas(features[:, 0, 0], np.zeros(80, bool))
    with pytest.raises(NotEnoughDataError):
        balanced(labels, np.ones(80, bool))
    with pytest.raises(NotEnoughDataError):
        fold_areas(features, labels, labels.astype(np.int64))
    flat = features.copy()
    flat[:, 1] = flat[0, 1]
    with pytest.raises(UsageError, match="same mean activation at layer 1"):
        fit_direction(flat, labels, groups_of(examples), split(examples))
    with pytest.raises(UsageError, match="not finite"):
        areas(np.where(np.arange(80) == 3, np.nan, features[:, 0, 0]), labels)


def test_areas_agree_with_an_oracle():
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, (50, 7)).astype(float), rng.random(50) > 0.4
    expected = [sklearn.roc_auc_score(labels, scores[:, i]) for i in range(7)]
    assert np.allclose(areas(scores, labels), expected)
    right = scores > 2
    expected = [sklearn.balanced_accuracy_score(labels, np.where(right[:, i], labels, ~labels)) for i in range(7)]
    assert np.allclose(balanced(right, labels), expected)


def test_accuracy_has_an_interval_even_at_the_border():
    labels = np.arange(40) % 4 == 0
    groups = [f"g{i // 2}" for i in range(40)]
    everything = accuracy(np.ones(40, bool), groups)
    assert everything.value == 1.0 and 0.8 < everything.low < 1.0 and everything.high == 1.0
    rare = accuracy(np.ones(40, bool), None, labels=labels)
    assert rare.low == pytest.approx(0.025 ** (1 / 10))
    some = accuracy(np.arange(40) % 5 != 0, groups, labels=labels)
    assert some.value == pytest.approx(balanced(np.arange(40) % 5 != 0, labels))
    assert 0 <= some.low < some.value < some.high <= 1


def by_hand(lm, sequence, region):
    """Mean output of every decoder layer over a region, from an unbatched pass."""
    seen = []
    _, layers = decoder_layers(lm.decoder)

    def see(_module, _args, output):
        seen.append((output[0] if isinstance(output, tuple) else output)[0])

    handles = [layer.register_forward_hook(see) for layer in layers]
    try:
        with torch.inference_mode():
            lm.model(input_ids=torch.tensor([sequence]))
    finally:
        for handle in handles:
            handle.remove()
    return torch.stack([x[region[0] : region[1]].mean(0) for x in seen]).numpy()


def test_activations_of_every_architecture_whatever_the_batch(tiny):
    together = residuals(tiny, Tokens(SEQUENCES, REGIONS, {}))
    assert together.shape == (4, 3, 32) and together.dtype == np.float32
    for i, (sequence, region) in enumerate(zip(SEQUENCES, REGIONS, strict=True)):
        alone = residuals(tiny, Tokens([sequence], [region], {}))[0]
        assert np.allclose(together[i], alone, atol=2e-6, rtol=1e-5)
        assert np.allclose(alone, by_hand(tiny, sequence, region), atol=2e-6, rtol=1e-5)
        assert np.abs(alone[1] - alone[0]).max() > 1e-2


def test_activations_that_are_not_finite_are_named(tiny):
    _, layers = decoder_layers(tiny.decoder)
    with pytest.raises(UsageError, match="example 0 at layer 1 are not finite"):
        handle = layers[1].register_forward_hook(
            lambda _m, _a, o: (o[0] * float("nan"), *o[1:]) if isinstance(o, tuple) else o * float("nan")
        )
        try:
            residuals(tiny, Tokens(SEQUENCES, REGIONS, {}))
        finally:
            handle.remove()


def test_the_readout_survives_the_disk(tmp_path):
    features, labels, examples, _ = planted()
    parts = split(examples)
    found = fit_direction(features, labels, groups_of(examples), parts, draws=10)
    artifact = direction_artifact(found, {"model": {"name": "m"}, "split": parts.facts})
    save_artifact(artifact, tmp_path)
    again = load_artifact(tmp_path)
    assert again.facts == artifact.facts
    assert np.allclose(np.linalg.norm(again.arrays["directions"], axis=1), 1, atol=1e-6)
    assert again.facts["layers"][2]["auroc"]["value"] == again.arrays["auroc"][2]


def test_truth_of_embedded_facts_separates_in_a_real_model(smollm):
    from levercheck.cli.contrast_data import of_facts

    data = of_facts(80, seed=0)
    parts = split(data.examples, folds=4)
    features = residuals(smollm, data.tokens(smollm, "plain", "mean"))
    found = fit_direction(features, labels_of(data.examples), groups_of(data.examples), parts, draws=60)
    chosen = found.auroc[found.best]
    assert chosen.low > 0.5 and chosen.value > 0.65
    assert found.references["shuffled"]["high"] < chosen.value
    assert found.cv[0] < 0.6 < found.cv[found.best]  # the embedding alone does not know
