"""Pools, draws and balance in a real model's terms, dictionaries included."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError  # noqa: E402
from levercheck.interventions import build  # noqa: E402
from levercheck.interventions.controls import ControlSpec  # noqa: E402
from levercheck.interventions.controls.draw import components_of  # noqa: E402
from levercheck.lm.places import RESID_POST, Site, head_shape, place  # noqa: E402
from levercheck.lm.saes.sae import Sae  # noqa: E402
from levercheck.readouts.component_statistics import component_statistics  # noqa: E402
from levercheck.sweep.control_pools import pool_of  # noqa: E402
from levercheck.sweep.control_preview import measured_doses, preview  # noqa: E402

RNG = np.random.default_rng(0)
SEQUENCES = [RNG.integers(3, 97, size=n).tolist() for n in (25, 30, 12, 41, 18, 28, 25)]
ONE = pytest.mark.parametrize("tiny", ["gemma2"], indirect=True)


def _worst(rows):
    """The largest |SMD|."""
    return max(abs(row.smd) for row in rows if row.smd is not None)


def dictionary(lm, layer, latents):
    """Latents whose decoder norms and firing rates are skewed and go together."""
    width = place(lm, Site(layer, RESID_POST)).width
    rng = np.random.default_rng(layer)
    size = np.exp(rng.normal(0, 1, latents)).astype(np.float32)
    w = rng.normal(size=(width, latents)).astype(np.float32)
    bias = 3 * (np.log(size) + rng.normal(0, 0.3, latents)).astype(np.float32)
    return Sae(Site(layer, RESID_POST), "standard", w, bias, size[:, None] * w.T, np.zeros(width, np.float32))


@ONE
def test_latents_are_matched_on_rate_and_norm(tiny):
    saes = [dictionary(tiny, 0, 400), dictionary(tiny, 2, 600)]
    found = component_statistics(tiny, SEQUENCES, saes=saes)
    chosen = []
    for sae in saes:
        rate = found.latents[sae.fingerprint].rate
        order = np.argsort(-found.latents[sae.fingerprint].decoder_norm)
        chosen.append((sae, [int(i) for i in order if 0 < rate[i] < 1][20:60:5]))
    target = build.scale_latents(tiny, chosen)
    gaps = {}
    for match in ("none", "layer", "activation"):
        pool = pool_of(tiny, target, statistics=found)
        shown = preview(target, ControlSpec(match=match, draws=15), pool, found, exclude=[(0, 3), (2, 4)])
        names = [row.covariate for row in shown.rows]
        assert names == ["layers", "firing rate", "mean when on", "decoder norm"]
        gaps[match] = {row.covariate: abs(row.smd) for row in shown.rows if row.smd is not None}
        drawn = {c for one in shown.draws for c in components_of(one)}
        assert not drawn & {(0, 3), (2, 4), *components_of(target)}
        assert (shown.rows[0].controls.value == 0) == (match != "none")
    for name in ("firing rate", "decoder norm"):
        assert gaps["layer"][name] > 0.5 and gaps["activation"][name] < 0.25
    other = component_statistics(tiny, SEQUENCES)
    with pytest.raises(UsageError, match="do not cover the dictionary"):
        pool_of(tiny, target, statistics=other)


@ONE
def test_neurons_are_matched_on_what_they_do(tiny):
    found = component_statistics(tiny, SEQUENCES)
    strongest = np.argsort(-found.neurons.mean_abs, axis=1)[:, 6:12:3]
    target = build.scale_neurons(tiny, [(layer, int(i)) for layer in range(3) for i in strongest[layer]])
    pool = pool_of(tiny, target, statistics=found)
    plain, matched = (
        preview(target, ControlSpec(match=match, draws=12, nearest=6, caliper=1.5), pool, found)
        for match in ("layer", "activation")
    )
    assert _worst(matched.rows[1:]) < _worst(plain.rows[1:])
    sizes = {row.covariate: abs(row.smd) for row in matched.rows if row.smd is not None}
    assert sizes["mean |activation|"] < 0.35
    with pytest.raises(UsageError, match="statistics"):
        preview(target, ControlSpec(), pool, None)


@ONE
def test_scaled_doses_of_draws_are_measured(tiny):
    target = build.scale_neurons(tiny, [(0, 1), (1, 2)])
    found = component_statistics(tiny, SEQUENCES)
    shown = preview(target, ControlSpec(draws=5), pool_of(tiny, target, statistics=found), found)
    row = measured_doses(tiny, target, shown.draws, 3.0, SEQUENCES[:3])
    assert row.covariate == "relative dose at 3" and row.target > 0 and row.of == 6
    assert row.controls.low < row.controls.value < row.controls.high
    assert shown.with_row(row).rows[-1] is row and shown.to_dict()["match"] == "layer"


@ONE
def test_directions_at_many_places_are_measured_in_the_middle_of_the_stream(tiny):
    hidden = place(tiny, Site(0, RESID_POST)).width
    from levercheck.interventions.writers import ablate_writers

    target = ablate_writers(tiny, np.eye(hidden)[0])
    pool = pool_of(tiny, target, sequences=SEQUENCES)
    assert list(pool.activations) == [1] and pool.activations[1].shape == (sum(map(len, SEQUENCES)), hidden)
    shown = preview(target, ControlSpec(match="activation", draws=40), pool, None)
    isotropic = preview(target, ControlSpec(match="none", draws=40), pool, None)
    share = [found.rows[0].controls.value for found in (shown, isotropic)]
    assert share[0] > 1.5 * share[1] and share[1] == pytest.approx(1 / hidden, rel=0.4)


@ONE
def test_heads_are_compared_on_norms(tiny):
    layers, heads, width = head_shape(tiny)
    found = component_statistics(tiny, SEQUENCES)
    target = build.shift_heads(tiny, [(0, 1), (2, 3)], np.ones((2, width)), [1.0, 2.0])
    shown = preview(target, ControlSpec(match="none", draws=9), pool_of(tiny, target, statistics=found), found)
    rows = {row.covariate: row for row in shown.rows}
    assert rows["mean norm"].target == pytest.approx(
        (found.heads.mean_norm[0, 1] + found.heads.mean_norm[2, 3]) / 2, rel=1e-5
    )
    assert (layers, heads) == found.heads.variance.shape and "write norm" in rows
