"""Gradient times activation against a finite difference of the dose, on every architecture."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.interventions.build import scale_neurons  # noqa: E402
from levercheck.interventions.spec import Treatment  # noqa: E402
from levercheck.readouts.attribution import attribution_batch  # noqa: E402
from levercheck.sweep.engine import Block, Engine  # noqa: E402

SEQUENCES, PAIRS = [[5, 6, 7, 8, 9], [40, 41, 42, 43, 44]], [(3, 4), (60, 61)]


def test_equals_the_slope_of_the_dose_response(tiny):
    effects = attribution_batch(tiny, SEQUENCES, PAIRS)
    assert effects.shape == (2, *tiny.shape)
    for neurons in ([(0, 3)], [(2, 40)], [(0, 1), (1, 2), (1, 30), (2, 5)]):
        step = 1e-2
        scale = scale_neurons(tiny, neurons)
        engine = Engine(tiny, [], SEQUENCES, [Treatment(((scale, dose),)) for dose in (1 - step, 1 + step)])
        scored = engine.score(Block((0, 1), (0, 1)), PAIRS)
        values = torch.tensor([[a.logits[0] - a.logits[1] for a in row] for row in scored], dtype=torch.float64)
        measured = (values[:, 1] - values[:, 0]) / (2 * step)
        predicted = torch.stack([effects[:, layer, index] for layer, index in neurons]).sum(0)
        assert torch.allclose(predicted.double(), measured, atol=3e-3, rtol=3e-2)


def test_batching_changes_nothing(tiny):
    together = attribution_batch(tiny, SEQUENCES, PAIRS)
    alone = torch.cat([attribution_batch(tiny, [s], [p]) for s, p in zip(SEQUENCES, PAIRS, strict=True)])
    assert (together - alone).abs().max() < 1e-4


def test_no_gradient_is_left_behind(tiny):
    attribution_batch(tiny, SEQUENCES, PAIRS)
    assert all(p.grad is None and not p.requires_grad for p in tiny.model.parameters())
    assert not any(site.module._forward_pre_hooks for site in tiny.sites)
