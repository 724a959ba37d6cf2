"""Hooks: exact, without side effects, and never silently idle."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError  # noqa: E402
from levercheck.interventions.build import add_direction, scale_neurons  # noqa: E402
from levercheck.interventions.hooks import HookNeverFiredError, Hooks  # noqa: E402
from levercheck.interventions.spec import Treatment  # noqa: E402
from levercheck.interventions.steering import steered  # noqa: E402
from levercheck.interventions.steps import Steps  # noqa: E402
from levercheck.lm.activations import watching  # noqa: E402
from levercheck.lm.batches import last_logits  # noqa: E402
from levercheck.lm.model import LanguageModel  # noqa: E402
from levercheck.lm.places import Site  # noqa: E402

NEURONS = [(0, 3), (0, 17), (1, 40), (2, 0), (2, 47)]
PROMPTS = [[5, 9, 13, 60, 22], [7, 7, 80, 41, 6], [90, 3, 3, 12, 50]]


def logits(lm, prompts=PROMPTS):
    return last_logits(lm, prompts, use_cache=False)


def scaled(lm, dose, neurons=NEURONS):
    return Treatment(((scale_neurons(lm, neurons), dose),))


def baked(lm, neurons, dose):
    """The same intervention written into a copy of the weights."""
    copied = LanguageModel(lm.name, copy.deepcopy(lm.model), None, {})
    for layer, index in neurons:
        copied.sites[layer].write[:, index] *= dose
    return copied


def test_noop_dose_is_bit_identical(tiny):
    plain = logits(tiny)
    with steered(tiny, scaled(tiny, 1.0)) as hooks:
        hooked = logits(tiny)
        assert [r.relative_dose for r in hooks.receipts()] == [0.0, 0.0, 0.0]
    assert torch.equal(plain, hooked)
    assert torch.equal(plain, logits(tiny))


@pytest.mark.parametrize("dose", [0.0, 0.5, 3.0, -1.0])
def test_hooks_equal_baked_weights(tiny, dose):
    with steered(tiny, scaled(tiny, dose)):
        hooked = logits(tiny)
    wanted = logits(baked(tiny, NEURONS, dose))
    assert (hooked - wanted).abs().max() < 2e-5
    assert (hooked - logits(tiny)).abs().max() > 1e-3


def test_relative_dose_is_measured(tiny):
    """‖Δ‖/‖h‖ of the site's output, recomputed from two forward passes of the first layer."""
    outputs = {}
    site = tiny.sites[0]
    handle = site.module.register_forward_hook(lambda m, i, o: outputs.setdefault("rows", []).append(o))
    logits(tiny)
    with steered(tiny, scaled(tiny, 2.0, [(0, 3), (0, 17)])) as hooks:
        logits(tiny)
        found = hooks.receipts()
    handle.remove()
    before, after = outputs["rows"]
    ratio = (after - before).norm(dim=-1) / before.norm(dim=-1)
    for receipt, wanted, change in zip(found, ratio.mean(-1), (after - before).norm(dim=-1).mean(-1), strict=True):
        assert receipt.relative_dose == pytest.approx(float(wanted), abs=1e-5)
        assert receipt.change == pytest.approx(float(change), rel=1e-4)
        assert (receipt.sites, receipt.prompt, receipt.decode) == (1, 5, 0)
        assert receipt.relative_dose > 0


def test_receipts_measure_what_the_dtype_left_of_an_edit(tiny):
    """In bfloat16 most of a small edit is rounded away: the receipt says what was done, not what was meant."""
    lm = LanguageModel(tiny.name, copy.deepcopy(tiny.model).to(torch.bfloat16), None, {})
    width = int(lm.sites[0].write.shape[0])
    added = add_direction(lm, {1: np.random.default_rng(0).normal(size=width)}, unit="relative")
    seen = []
    with watching(lm, [Site(1, "resid.post")], lambda _, x: seen.append(x.float())):
        logits(lm)
    with (
        steered(lm, Treatment(((added, 3e-4),))) as hooks,
        watching(lm, [Site(1, "resid.post")], lambda _, x: seen.append(x.float())),
        torch.inference_mode(),
    ):
        logits(lm)
    plain, moved = seen
    real = ((moved - plain).norm(dim=-1) / plain.norm(dim=-1)).mean(-1)
    found = hooks.receipts()  # outside of the mode in which the passes ran
    assert [r.relative_dose for r in found] == pytest.approx(real.tolist(), rel=1e-3, abs=1e-9)
    assert all(abs(r.relative_dose - 3e-4) > 1e-5 for r in found)


def test_a_hook_that_never_fired_is_an_error(tiny):
    with Hooks(tiny, [scaled(tiny, 2.0)]) as hooks:
        hooks.assign([0])
        with pytest.raises(HookNeverFiredError, match=r"L0\.mlp\.down_proj\.input"):
            hooks.receipts()


@pytest.mark.parametrize("tiny", ["llama"], indirect=True)
def test_a_pass_before_rows_are_assigned_is_refused(tiny):
    with Hooks(tiny, [scaled(tiny, 2.0)]) as hooks, pytest.raises(ValueError, match="assign before at"):
        hooks.at(Steps.generated(1))


def test_hooks_are_removed_even_after_an_error(tiny):
    plain = logits(tiny)
    with pytest.raises(RuntimeError, match="stop"), steered(tiny, scaled(tiny, 0.0)):
        raise RuntimeError("stop")
    assert torch.equal(plain, logits(tiny))
    assert not any(site.module._forward_hooks or site.module._forward_pre_hooks for site in tiny.sites)


@pytest.mark.parametrize("neuron", [(3, 0), (0, 48), (-1, 0)])
def test_neurons_outside_the_model_are_refused(tiny, neuron):
    with pytest.raises(UsageError, match="outside"):
        scale_neurons(tiny, [neuron])


def test_noop_is_bit_identical_on_a_real_model(smollm):
    prompts = [smollm.encode("Question: What is the capital of France?\nAnswer:")] * 3
    plain = logits(smollm, prompts)
    neurons = [(layer, index) for layer in range(0, 30, 3) for index in (1, 700, 1535)]
    with steered(smollm, scaled(smollm, 1.0, neurons)) as hooks:
        hooked = logits(smollm, prompts)
        assert [r.relative_dose for r in hooks.receipts()] == [0.0] * 3
    assert torch.equal(plain, hooked)
