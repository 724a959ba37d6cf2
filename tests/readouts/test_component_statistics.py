"""Streaming statistics against the same numbers from all activations at once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import IntegrityError, NotEnoughDataError, UsageError  # noqa: E402
from levercheck.lm.activations import per_token  # noqa: E402
from levercheck.lm.places import O_PROJ_INPUT, RESID_POST, Site, head_shape, place  # noqa: E402
from levercheck.lm.saes.sae import Sae  # noqa: E402
from levercheck.lm.sites import DOWN_PROJ_INPUT  # noqa: E402
from levercheck.readouts.component_statistics import activations_at, component_statistics  # noqa: E402
from levercheck.readouts.component_store import load_statistics, save_statistics  # noqa: E402
from levercheck.readouts.geometry import write_vectors  # noqa: E402
from levercheck.readouts.unembed import logit_effects  # noqa: E402

RNG = np.random.default_rng(0)
SEQUENCES = [RNG.integers(3, 97, size=n).tolist() for n in (5, 30, 12, 41, 8, 8, 25)]
REGIONS = [(1, len(s)) for s in SEQUENCES]


def dictionary(lm):
    width = place(lm, Site(1, RESID_POST)).width
    w = np.random.default_rng(5).normal(0, 0.4, (width, 24)).astype(np.float32)
    zeros = np.zeros(24, np.float32), np.zeros(width, np.float32)
    return Sae(Site(1, RESID_POST), "jumprelu", w, zeros[0], 3 * w.T, zeros[1], np.full(24, 0.9, np.float32), scale=2.0)


def test_streaming_equals_all_at_once(tiny):
    sae = dictionary(tiny)
    found = component_statistics(tiny, SEQUENCES, regions=REGIONS, saes=[sae])
    assert (found.tokens, found.sequences) == (sum(stop - start for start, stop in REGIONS), len(SEQUENCES))
    for layer in range(3):
        z = per_token(tiny, SEQUENCES, Site(layer, DOWN_PROJ_INPUT), REGIONS).double().numpy()
        wanted = {"mean": z.mean(0), "variance": z.var(0, ddof=1), "mean_abs": np.abs(z).mean(0)}
        for name, values in {**wanted, "frequency": (z > 0).mean(0)}.items():
            assert np.allclose(getattr(found.neurons, name)[layer], values, rtol=1e-4, atol=1e-6), name
        _, heads, width = head_shape(tiny)
        out = per_token(tiny, SEQUENCES, Site(layer, O_PROJ_INPUT), REGIONS).double().numpy().reshape(-1, heads, width)
        assert np.allclose(found.heads.mean_norm[layer], np.linalg.norm(out, axis=-1).mean(0), rtol=1e-4)
        assert np.allclose(found.heads.variance[layer], out.var(0, ddof=1).sum(-1), rtol=1e-4)
    f = sae.encode(per_token(tiny, SEQUENCES, sae.site, REGIONS)).numpy()
    latents = found.latents[sae.fingerprint]
    assert np.allclose(latents.rate, (f > 0).mean(0)) and 0 < latents.rate.mean() < 0.9
    mean = [column[column > 0].mean() if (column > 0).any() else 0 for column in f.T]
    assert np.allclose(latents.mean_on, mean, rtol=1e-4)
    assert np.allclose(latents.decoder_norm, np.linalg.norm(sae.w_dec, axis=1) / 2, rtol=1e-5)


def test_write_norms_are_those_of_the_vectors_and_their_logits(tiny):
    found = component_statistics(tiny, SEQUENCES[:2])
    some = [(0, 0), (1, 17), (2, 47)]
    at = tuple(np.array(some).T)
    assert np.allclose(found.neurons.write_norm[at], np.linalg.norm(write_vectors(tiny, some), axis=1), rtol=1e-5)
    effects = logit_effects(tiny, some).double().numpy()
    centred = np.linalg.norm(effects - effects.mean(1, keepdims=True), axis=1)
    assert np.allclose(found.neurons.logit_norm[at], centred, rtol=1e-4)


def test_a_heads_write_norm_is_what_it_adds_to_the_stream(tiny):
    width = head_shape(tiny)[2]
    matrix = place(tiny, Site(1, O_PROJ_INPUT)).write[:, 2 * width : 3 * width].double()
    norm = getattr(getattr(tiny.decoder, "layers", [None, None])[1], "post_attention_layernorm", None)
    if not tiny.name.startswith("gemma"):  # the others add the projection as it is, whatever they call their norms
        found = component_statistics(tiny, SEQUENCES[:2])
        assert found.heads.write_norm[1, 2] == pytest.approx(float(matrix.norm()), rel=1e-4)
        return
    kept = norm.weight.clone()
    try:
        norm.weight.copy_(torch.linspace(-0.5, 2, len(kept)))
        found = component_statistics(tiny, SEQUENCES[:2])
        wanted = float((matrix * (1 + norm.weight.double())[:, None]).norm())
    finally:
        norm.weight.copy_(kept)
    assert found.heads.write_norm[1, 2] == pytest.approx(wanted, rel=1e-4) != float(matrix.norm())


def test_a_threshold_counts_size_and_not_sign(tiny):
    found = component_statistics(tiny, SEQUENCES, threshold=0.05)
    z = per_token(tiny, SEQUENCES, Site(2, DOWN_PROJ_INPUT), [(0, len(s)) for s in SEQUENCES]).numpy()
    assert np.allclose(found.neurons.frequency[2], (np.abs(z) > 0.05).mean(0))
    assert found.threshold == 0.05


def test_activations_are_of_the_same_tokens_everywhere(tiny):
    sites = [Site(0, RESID_POST), Site(1, RESID_POST)]
    found = activations_at(tiny, SEQUENCES, sites, 20, seed=3)
    whole = [per_token(tiny, SEQUENCES, site, [(0, len(s)) for s in SEQUENCES]).numpy() for site in sites]
    rows = [int(np.abs(whole[0] - row).sum(1).argmin()) for row in found[sites[0]]]
    assert len(set(rows)) == 20 and rows == sorted(rows)
    for site, table in zip(sites, whole, strict=True):
        assert np.allclose(found[site], table[rows], atol=1e-5)
    assert len(activations_at(tiny, SEQUENCES, sites, 10_000, seed=3)[sites[0]]) == sum(map(len, SEQUENCES))


ONE = pytest.mark.parametrize("tiny", ["llama"], indirect=True)


@ONE
def test_files_give_back_what_was_measured(tiny, tmp_path):
    found = component_statistics(tiny, SEQUENCES, saes=[dictionary(tiny)], threshold=0.1)
    save_statistics(found, tmp_path / "x")
    again = load_statistics(tmp_path / "x")
    assert again.arrays().keys() == found.arrays().keys()
    assert all(np.array_equal(again.arrays()[name], array) for name, array in found.arrays().items())
    plain = ("tokens", "sequences", "threshold", "text", "model")
    assert [getattr(again, name) for name in plain] == [getattr(found, name) for name in plain]
    with pytest.raises(UsageError, match="already"):
        save_statistics(found, tmp_path / "x")
    file = tmp_path / "x" / "components.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x01")
    with pytest.raises(IntegrityError, match="measure again"):
        load_statistics(tmp_path / "x")
    with pytest.raises(UsageError, match=r"holds no components\.json"):
        load_statistics(tmp_path)


@ONE
def test_too_little_text_and_wrong_regions_are_one_line(tiny):
    with pytest.raises(NotEnoughDataError, match="1 tokens"):
        component_statistics(tiny, [[5]])
    with pytest.raises(UsageError, match="region"):
        component_statistics(tiny, [[5, 6]], regions=[(0, 3)])


@ONE
def test_statistics_without_heads_are_stored_too(tiny, tmp_path):
    found = dataclasses.replace(component_statistics(tiny, SEQUENCES), heads=None)
    save_statistics(found, tmp_path)
    assert load_statistics(tmp_path).heads is None
