"""A readout's folder becomes the intervention it stands for, on its own model only."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError
from levercheck.interventions import build
from levercheck.interventions.files import save_intervention
from levercheck.interventions.scopes import ALL, parse_scope
from levercheck.lm.places import (
    Site,
    head_shape,
)
from levercheck.lm.saes.sae import Sae
from levercheck.lm.saes.stored import save_sae
from levercheck.readouts.artifact import Artifact, save_artifact
from levercheck.readouts.readout import Readout, save_readout
from levercheck.sweep.levers import intervention_of

IDENTITY = {"name": "tiny", "tokenizer": "t", "weights": {"a": "1"}, "architecture": "X", "layers": 3}
RNG = np.random.default_rng(0)


@pytest.fixture
def lm(tiny):
    return dataclasses.replace(tiny, identity=IDENTITY)


def unit(*shape):
    vector = RNG.normal(size=shape)
    return (vector / np.linalg.norm(vector, axis=-1, keepdims=True)).astype(np.float32)


def direction(lm, folder, **facts):
    hidden = int(lm.sites[0].write.shape[0])
    arrays = {
        "directions": unit(3, hidden),
        "sigma": np.array([1, 2, 3], np.float32),
        "auroc": np.array([0.6, 0.9, 0.7]),
    }
    artifact = Artifact("direction", arrays, {"model": IDENTITY, **facts})
    save_artifact(artifact, folder)
    return artifact


def test_neurons_are_those_of_positive_weight(lm, tmp_path):
    weights = np.zeros(lm.shape)
    weights[0, 3], weights[1, 5], weights[2, 7] = 1.0, -1.0, 0.5
    save_readout(Readout.of_dense(weights, 0.0, {"model": IDENTITY}), tmp_path)
    made = intervention_of(lm, tmp_path)
    assert made.fingerprint == build.scale_neurons(lm, [(0, 3), (2, 7)]).fingerprint
    zeroed = intervention_of(lm, tmp_path, operator="replace", scope=parse_scope("decode"))
    assert zeroed.fingerprint == build.replace_neurons(lm, [(0, 3), (2, 7)], scope=parse_scope("decode")).fingerprint
    with pytest.raises(UsageError, match="operator 'add'"):
        intervention_of(lm, tmp_path, operator="add")
    assert intervention_of(lm, tmp_path, k=1).fingerprint == build.scale_neurons(lm, [(0, 3)]).fingerprint
    with pytest.raises(UsageError, match="expected 1 to 2"):
        intervention_of(lm, tmp_path, k=3)


def test_direction_takes_the_best_layer_in_relative_units(lm, tmp_path):
    artifact = direction(lm, tmp_path / "a")
    vectors = artifact.arrays["directions"]
    made = intervention_of(lm, tmp_path / "a")
    assert made.fingerprint == build.add_direction(lm, {1: vectors[1]}, unit="relative").fingerprint
    assert made.facts["layers"] == [1] and made.facts["readout"] == artifact.fingerprint
    direction(lm, tmp_path / "b", best_layer=2)
    assert [s.layer for s in intervention_of(lm, tmp_path / "b").sites] == [2]
    sigma = intervention_of(lm, tmp_path / "a", unit="sigma", layers=[0, 2])
    wanted = build.add_direction(lm, {0: vectors[0], 2: vectors[2]}, sigma={0: 1.0, 2: 3.0}, unit="sigma")
    assert sigma.fingerprint == wanted.fingerprint
    assert intervention_of(lm, tmp_path / "a", operator="ablate").operator == "ablate"
    everywhere = intervention_of(lm, tmp_path / "a", operator="ablate_writers")
    assert len(everywhere.sites) == 1 + 2 * lm.shape[0]
    with pytest.raises(UsageError, match="0 to 2"):
        intervention_of(lm, tmp_path / "a", layers=[3])
    with pytest.raises(UsageError, match="no components"):
        intervention_of(lm, tmp_path / "a", k=3)


def test_heads_are_the_first_k_of_the_ranking(lm, tmp_path):
    layers, heads, width = head_shape(lm)
    at = [(layer, head) for layer in range(layers) for head in range(heads)]
    area = RNG.random(len(at))
    arrays = {
        "layers": np.array([a for a, _ in at]),
        "heads": np.array([h for _, h in at]),
        "directions": unit(len(at), width),
        "sigma": np.linspace(1, 2, len(at)).astype(np.float32),
        "auroc": area,
        "cv_auroc": area,
        "cv_balanced_accuracy": area,
    }
    save_artifact(Artifact("heads", arrays, {"model": IDENTITY}), tmp_path)
    made = intervention_of(lm, tmp_path, k=3)
    best = np.argsort(-area)[:3]
    wanted = build.shift_heads(
        lm, [at[i] for i in best], arrays["directions"][best], arrays["sigma"][best].tolist(), unit="sigma"
    )
    assert made.unit == "sigma"
    for a, b in zip(made.edits, wanted.edits, strict=True):
        assert a.site == b.site and np.array_equal(a.arrays["indices"], b.arrays["indices"])
        np.testing.assert_allclose(a.arrays["values"], b.arrays["values"], rtol=1e-6)
        np.testing.assert_allclose(a.arrays["sigma"], b.arrays["sigma"], rtol=1e-6)


def test_sae_latents_of_positive_weight_with_the_dictionary_beside(lm, tmp_path):
    hidden = int(lm.sites[0].write.shape[0])
    w = RNG.normal(size=(hidden, 9)).astype(np.float32)
    zero = np.zeros(9, np.float32)
    sae = Sae(Site(1, "resid.post"), "standard", w, zero, w.T.copy(), np.zeros(hidden, np.float32))
    save_sae(sae, tmp_path / "sae")
    arrays = {"latents": np.array([2, 4, 8]), "weights": np.array([0.5, -0.1, 0.2])}
    save_artifact(Artifact("sae", arrays, {"model": IDENTITY, "sae": sae.fingerprint}), tmp_path)
    made = intervention_of(lm, tmp_path, operator="sae_full")
    assert made.operator == "sae_full"
    assert made.fingerprint == build.scale_latents(lm, [(sae, [2, 8])], full=True).fingerprint


def test_a_saved_intervention_is_taken_as_it_is(lm, tmp_path):
    made = build.scale_neurons(lm, [(0, 1)], parse_scope("decode"))
    save_intervention(made, tmp_path, model=IDENTITY)
    assert intervention_of(lm, tmp_path).fingerprint == made.fingerprint
    with pytest.raises(UsageError, match="scope decode, asked for all"):
        intervention_of(lm, tmp_path, scope=ALL)


def test_another_models_readout_is_refused(lm, tmp_path):
    direction(lm, tmp_path)
    other = dataclasses.replace(lm, identity={**IDENTITY, "tokenizer": "other"})
    with pytest.raises(UsageError, match="whose tokenizer differs"):
        intervention_of(other, tmp_path)
    save_intervention(build.scale_neurons(lm, [(0, 1)]), tmp_path / "i", model=IDENTITY)
    with pytest.raises(UsageError, match="whose tokenizer differs"):
        intervention_of(other, tmp_path / "i")
