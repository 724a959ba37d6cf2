"""Gradient times activation against a finite difference of the dose, on every architecture."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError  # noqa: E402
from levercheck.interventions.build import add_direction, scale_latents, scale_neurons, shift_heads  # noqa: E402
from levercheck.interventions.scopes import ALL, Scope  # noqa: E402
from levercheck.interventions.spec import Edit, Intervention, Treatment  # noqa: E402
from levercheck.lm.places import O_PROJ_INPUT, RESID_POST, Site, head_shape, place  # noqa: E402
from levercheck.lm.saes.sae import Sae  # noqa: E402
from levercheck.readouts.attribution import attribute, attribution_batch  # noqa: E402
from levercheck.sweep.engine import Block, Engine  # noqa: E402

SEQUENCES, PAIRS = [[5, 6, 7, 8, 9], [40, 41, 42, 43, 44]], [(3, 4), (60, 61)]


RAGGED = [[5, 6, 7, 8, 9, 11], [40, 41, 42]]
SCOPES = {"all": ALL, "last": Scope("first_n", 1)}


def measured(lm, intervention, step=1e-2):
    """Central difference of the logit difference around the no-op dose, float64 [sequences]."""
    doses = (intervention.noop - step, intervention.noop + step)
    engine = Engine(lm, [], RAGGED, [Treatment(((intervention, dose),)) for dose in doses])
    scored = engine.score(Block((0, 1), (0, 1)), PAIRS)
    values = torch.tensor([[a.logits[0] - a.logits[1] for a in row] for row in scored], dtype=torch.float64)
    return (values[:, 1] - values[:, 0]) / (2 * step)


def agree(predicted, found):
    assert found.abs().max() > 1e-3  # a derivative of nothing would prove nothing
    assert torch.allclose(predicted.double(), found, atol=4e-3, rtol=3e-2)


def dictionary(lm, kind):
    width = place(lm, Site(1, RESID_POST)).width
    rng = np.random.default_rng(5)
    w = rng.normal(0, 0.4, (width, 24)).astype(np.float32)
    bias, centre = rng.normal(0, 0.1, 24).astype(np.float32), rng.normal(0, 0.1, width).astype(np.float32)
    extra = {"threshold": np.full(24, 0.2, np.float32)} if kind == "jumprelu" else {"k": 12}
    return Sae(Site(1, RESID_POST), kind, w, bias, w.T.copy(), centre, centred=True, scale=1.5, **extra)


@pytest.mark.parametrize("reach", ["all", "last"])
def test_every_family_equals_the_slope_of_its_dose_response(tiny, reach):
    scope, rng = SCOPES[reach], np.random.default_rng(0)
    saes = [dictionary(tiny, "jumprelu"), dictionary(tiny, "topk")]
    effects = attribute(tiny, RAGGED, PAIRS, saes=saes, reach=reach)
    layers, heads, width = head_shape(tiny)
    hidden = place(tiny, Site(0, RESID_POST)).width
    assert effects.neurons.shape == (2, *tiny.shape) and effects.residual.shape == (2, layers, hidden)
    assert effects.head_gradients.shape == (2, layers, heads, width) and effects.heads.shape == (2, layers, heads)

    neurons = [(0, 1), (1, 2), (1, 30), (2, 5)]
    agree(sum(effects.neurons[:, i, j] for i, j in neurons), measured(tiny, scale_neurons(tiny, neurons, scope)))

    head = np.arange(2 * width, 3 * width)
    scaled = Intervention("scale", (Edit(Site(1, O_PROJ_INPUT), {"indices": head}),), scope)
    agree(effects.heads[:, 1, 2], measured(tiny, scaled))

    chosen, along = [(0, 3), (2, 1)], rng.normal(size=(2, width))
    shifted = shift_heads(tiny, chosen, along, [0.5, 2.0], scope=scope)
    unit = torch.from_numpy(along / np.linalg.norm(along, axis=1, keepdims=True)).float()
    slopes = [s * effects.head_gradients[:, i, j] @ d for (i, j), d, s in zip(chosen, unit, (0.5, 2.0), strict=True)]
    agree(sum(slopes), measured(tiny, shifted))

    directions = {layer: rng.normal(size=hidden) for layer in (0, 2)}
    unit = {layer: torch.from_numpy(d / np.linalg.norm(d)).float() for layer, d in directions.items()}
    for kind, gradient in (("absolute", effects.residual), ("relative", effects.residual_relative)):
        added = add_direction(tiny, directions, unit=kind, scope=scope)
        agree(sum(gradient[:, layer] @ d for layer, d in unit.items()), measured(tiny, added, step=3e-3))

    for sae, found in zip(saes, effects.latents, strict=True):
        strongest = found.abs().sum(0).topk(2).indices.tolist()
        steered = scale_latents(tiny, [(sae, strongest)], scope=scope)
        agree(found[:, strongest].sum(1), measured(tiny, steered))


def test_families_can_be_asked_for_alone(tiny):
    whole = attribute(tiny, RAGGED, PAIRS)
    for family, arrays in (("heads", ("heads", "head_gradients")), ("directions", ("residual", "residual_relative"))):
        alone = attribute(tiny, RAGGED, PAIRS, families=(family,))
        for name in arrays:
            assert torch.allclose(getattr(alone, name), getattr(whole, name), atol=1e-5, rtol=1e-4)
        assert alone.neurons is None
    assert torch.allclose(attribution_batch(tiny, RAGGED, PAIRS), whole.neurons, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("wrong", [{"families": ("neuron",)}, {"families": ()}, {"reach": "prompt"}])
def test_wrong_requests_are_refused(tiny, wrong):
    with pytest.raises(UsageError):
        attribute(tiny, RAGGED, PAIRS, **wrong)


def test_batching_changes_nothing(tiny):
    together = attribution_batch(tiny, SEQUENCES, PAIRS)
    alone = torch.cat([attribution_batch(tiny, [s], [p]) for s, p in zip(SEQUENCES, PAIRS, strict=True)])
    assert (together - alone).abs().max() < 1e-4


def test_no_gradient_is_left_behind(tiny):
    attribute(tiny, SEQUENCES, PAIRS)
    assert all(p.grad is None and not p.requires_grad for p in tiny.model.parameters())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in tiny.model.modules())
