"""Doses of equal effort: the measure by its definition, and its inversion."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.interventions import build  # noqa: E402
from levercheck.interventions.scopes import parse_scope  # noqa: E402
from levercheck.interventions.spec import Treatment  # noqa: E402
from levercheck.interventions.steering import steered  # noqa: E402
from levercheck.lm.activations import watching  # noqa: E402
from levercheck.lm.places import RESID_POST, Site, place  # noqa: E402
from levercheck.sweep.effort import find_doses, measure_efforts  # noqa: E402
from levercheck.sweep.engine import Engine  # noqa: E402

PREFIX = [1, 44, 9]
PROMPTS = [[5, 9, 13, 60, 22], [7, 7, 80], [90, 3, 3, 12]]


def direction(lm, layer, scope="all", unit="absolute"):
    width = place(lm, Site(layer, RESID_POST)).width
    vector = np.random.default_rng(layer).normal(size=width)
    return build.add_direction(lm, {layer: vector}, scope=parse_scope(scope), unit=unit)


@torch.inference_mode()
def by_hand(lm, treatment, prompt, positions):
    """Mean ‖h_α − h_0‖/‖h_0‖ at the last layer over positions, from two plain passes."""
    seen = []
    with watching(lm, [Site(2, RESID_POST)], lambda _, x: seen.append(x[0])):
        lm.model(input_ids=torch.tensor([PREFIX + prompt]), use_cache=False)
    with steered(lm, treatment), watching(lm, [Site(2, RESID_POST)], lambda _, x: seen.append(x[0])):
        lm.model(input_ids=torch.tensor([PREFIX + prompt]), use_cache=False)
    plain, moved = (h[len(PREFIX) :][positions] for h in seen)
    return float(((moved - plain).norm(dim=-1) / plain.norm(dim=-1)).mean())


@pytest.mark.parametrize("scope", ["all", "decode"])
def test_effort_is_what_it_says(tiny, scope):
    treatments = [Treatment(((direction(tiny, 1, scope), dose),)) for dose in (0.5, 3.0)]
    found = measure_efforts(tiny, PREFIX, PROMPTS, treatments, 2)
    for measured, treatment in zip(found, treatments, strict=True):
        for effort, prompt in zip(measured.efforts, PROMPTS, strict=True):
            positions = slice(None) if scope == "all" else slice(-1, None)
            assert effort == pytest.approx(by_hand(tiny, treatment, prompt, positions), rel=1e-3)
        assert measured.estimate.low <= measured.value <= measured.estimate.high
    assert found[0].value < found[1].value


@pytest.mark.parametrize("tiny", ["llama"], indirect=True)
def test_out_of_memory_halves_the_treatments_and_keeps_their_reference(tiny, monkeypatch):
    treatments = [Treatment(((direction(tiny, 1), dose),)) for dose in (0.5, 1.0, 2.0, 3.0, 4.0)]
    wanted = [m.efforts for m in measure_efforts(tiny, PREFIX, PROMPTS, treatments, 2)]
    whole, sizes = Engine.prefill, []

    def scarce(self, hooks, block, **options):
        sizes.append(len(block.prompts) * len(block.treatments))
        if sizes[-1] > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return whole(self, hooks, block, **options)

    monkeypatch.setattr(Engine, "prefill", scarce)
    found = [m.efforts for m in measure_efforts(tiny, PREFIX, PROMPTS, treatments, 2)]
    assert min(sizes) <= 3 < max(sizes)
    assert np.allclose(found, wanted, rtol=1e-4)


def test_doses_of_different_families_reach_the_same_effort(tiny):
    neurons = build.scale_neurons(tiny, [(0, 3), (1, 17), (1, 40)])
    wanted = [(family, effort) for family in (direction(tiny, 1), direction(tiny, 1, unit="relative"), neurons)
              for effort in (0.05, 0.2, -0.1)]  # fmt: skip
    found = find_doses(tiny, PREFIX, PROMPTS, wanted, 2, tolerance=0.03)
    for (intervention, effort), one in zip(wanted, found, strict=True):
        assert one.reason is None, (effort, one)
        assert abs(one.measured.value - abs(effort)) <= 0.03 * abs(effort)
        assert math.copysign(1, one.dose - intervention.noop) == math.copysign(1, effort)
        again = measure_efforts(tiny, PREFIX, PROMPTS, [Treatment(((intervention, one.dose),))], 2)[0]
        assert again.value == pytest.approx(one.measured.value, rel=1e-3)


def test_an_effort_out_of_reach_is_said_not_invented(tiny):
    neurons = build.scale_neurons(tiny, [(1, 17)])
    (found,) = find_doses(tiny, PREFIX, PROMPTS, [(neurons, 0.9)], 2, largest=2.0)
    assert found.dose is None
    assert "nearest effort" in found.reason
    assert "up to 2 from the no-op" in found.reason


def test_a_lever_above_the_layer_has_no_effort_there(tiny):
    (found,) = find_doses(tiny, PREFIX, PROMPTS, [(direction(tiny, 2), 0.1)], 1, largest=5.0)
    assert found.dose is None
    assert found.measured.value == pytest.approx(0.0, abs=1e-6)
