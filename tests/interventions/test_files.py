"""Interventions on disk: the fingerprint survives, damage is seen, nothing is overwritten."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import IntegrityError, UsageError
from levercheck.interventions.files import load_intervention, save_intervention
from levercheck.interventions.scopes import parse_scope
from levercheck.interventions.spec import Edit, Intervention
from levercheck.lm.places import Site
from levercheck.lm.saes.sae import Sae

RNG = np.random.default_rng(0)


def sae(site, seed=0):
    rng = np.random.default_rng(seed)
    w = rng.normal(size=(6, 10)).astype(np.float32)
    zero = np.zeros(10, np.float32)
    return Sae(
        site, "jumprelu", w, zero, w.T.copy(), np.zeros(6, np.float32), threshold=zero + 0.1, facts={"from": "x"}
    )


def cases():
    a, b = Site(0, "resid.post"), Site(2, "resid.post")
    vector = RNG.normal(size=6).astype(np.float32)
    yield Intervention("add", (Edit(a, {"direction": vector, "sigma": np.ones(1, np.float32)}),), unit="sigma")
    yield Intervention(
        "scale", (Edit(Site(1, "mlp.down_proj.input"), {"indices": np.array([1, 4])}),), parse_scope("first_3")
    )
    shared = sae(a)
    yield Intervention(
        "sae_delta", (Edit(a, {"latents": np.array([1])}, shared), Edit(b, {"latents": np.array([2, 3])}, sae(b, 1)))
    )


@pytest.mark.parametrize("intervention", list(cases()), ids=lambda i: i.operator)
def test_round_trip_keeps_the_fingerprint(intervention, tmp_path):
    save_intervention(intervention, tmp_path, model={"name": "tiny", "layers": 3})
    again = load_intervention(tmp_path)
    assert again.fingerprint == intervention.fingerprint
    assert again.scope == intervention.scope and again.sites == intervention.sites
    assert again.facts["model"] == {"name": "tiny", "layers": 3}
    with pytest.raises(UsageError, match="another folder"):
        save_intervention(intervention, tmp_path)
    save_intervention(again, tmp_path / "copy")
    assert load_intervention(tmp_path / "copy").facts == again.facts


def test_damage_is_an_integrity_error(tmp_path):
    save_intervention(next(cases()), tmp_path)
    tensors, sidecar = tmp_path / "intervention.safetensors", tmp_path / "intervention.json"
    whole, body = tensors.read_bytes(), json.loads(sidecar.read_text())
    tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(IntegrityError, match="does not match"):
        load_intervention(tmp_path)
    tensors.write_bytes(whole)
    for change, message in (
        ({"scope": "decode"}, "another fingerprint"),
        ({"operator": "subtract"}, "cannot be read"),
        ({"edits": [{"site": "L0.resid.post", "arrays": ["nothing"]}]}, "cannot be read"),
        ({"schema": "levercheck.intervention/v0"}, "is not of"),
    ):
        sidecar.write_text(json.dumps({**body, **change}))
        with pytest.raises(IntegrityError, match=message):
            load_intervention(tmp_path)
    with pytest.raises(UsageError, match="holds no"):
        load_intervention(tmp_path / "nowhere")
