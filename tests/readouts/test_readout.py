"""A readout survives its files, and damaged ones are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("safetensors", reason="needs levercheck[lm]")

from levercheck.errors import IntegrityError, UsageError
from levercheck.readouts.readout import Readout, from_coefficients, load_readout, save_readout

FACTS = {"channel": "answer.cett.mean", "model": {"name": "m"}, "c": 1.0}


def readout(scaled=False):
    weights = np.zeros((3, 5))
    weights[0, 4], weights[2, 1], weights[1, 0] = 1.5, -0.25, 0.5
    scaling = (np.full((3, 5), 0.1), np.full((3, 5), 2.0)) if scaled else (None, None)
    return Readout.of_dense(weights, -0.75, FACTS, *scaling)


@pytest.mark.parametrize("scaled", [False, True])
def test_round_trip(tmp_path, scaled):
    made = readout(scaled)
    save_readout(made, tmp_path)
    read = load_readout(tmp_path)
    assert read.fingerprint == made.fingerprint
    assert read.neurons == ((0, 4), (1, 0))
    assert read.components == ((0, 4), (1, 0), (2, 1))
    features = np.random.default_rng(0).random((7, 3, 5)).astype(np.float32)
    dense = np.zeros((3, 5))
    dense[made.layers, made.indices] = made.weights
    x = (features.astype(float) - 0.1) / 2 if scaled else features.astype(float)
    by_hand = (x * dense).sum((1, 2)) - 0.75
    assert np.allclose(read.score(read.select(features)), by_hand, atol=1e-12)


def test_damage_is_found(tmp_path):
    save_readout(readout(), tmp_path)
    body = json.loads((tmp_path / "readout.json").read_text())
    (tmp_path / "readout.json").write_text(json.dumps({**body, "fingerprint": "0" * 64}))
    with pytest.raises(IntegrityError, match="fingerprint"):
        load_readout(tmp_path)
    (tmp_path / "readout.json").write_text(json.dumps(body))
    data = bytearray((tmp_path / "readout.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "readout.safetensors").write_bytes(data)
    with pytest.raises(IntegrityError, match="does not match"):
        load_readout(tmp_path)
    with pytest.raises(UsageError, match=r"holds no readout\.json"):
        load_readout(tmp_path / "nowhere")


def test_coefficients_of_another_shape_are_refused():
    made = from_coefficients(np.arange(6.0) - 3, 0.5, (2, 3), FACTS)
    assert made.neurons == ((1, 1), (1, 2))
    with pytest.raises(UsageError, match="6 coefficients, expected 2 layers x 4 neurons = 8"):
        from_coefficients(np.arange(6.0), 0.0, (2, 4), FACTS)


def test_features_of_another_model_are_refused():
    with pytest.raises(UsageError, match=r"expected \(3, 5\)"):
        readout().select(np.zeros((2, 3, 6)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_must_be_finite(bad):
    weights = np.zeros((2, 2))
    weights[0, 0] = bad
    with pytest.raises(UsageError, match="finite"):
        Readout.of_dense(weights, 0.0, FACTS)
