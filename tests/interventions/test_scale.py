"""Scaling neurons: exact, without side effects, and never silently idle."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError  # noqa: E402
from levercheck.interventions.operators import HookNeverFiredError, scale_neurons  # noqa: E402
from levercheck.lm.batches import SharedPrefix  # noqa: E402
from levercheck.lm.model import LanguageModel  # noqa: E402
from levercheck.lm.score import next_token_logits  # noqa: E402

NEURONS = [(0, 3), (0, 17), (1, 40), (2, 0), (2, 47)]
PROMPTS = [[5, 9, 13, 60, 22], [7, 7, 80, 41, 6], [90, 3, 3, 12, 50]]


def logits(lm, prompts=PROMPTS, prefix=()):
    return next_token_logits(lm, SharedPrefix(lm, list(prefix)), prompts)


def baked(lm, neurons, dose):
    """The same intervention written into a copy of the weights."""
    copied = LanguageModel(lm.name, copy.deepcopy(lm.model), None, {})
    for layer, index in neurons:
        copied.sites[layer].write[:, index] *= dose
    return copied


def test_noop_dose_is_bit_identical(tiny):
    plain = logits(tiny)
    with scale_neurons(tiny, NEURONS, 1.0) as receipt:
        hooked = logits(tiny)
        assert receipt.collect([5, 5, 5]) == [0.0, 0.0, 0.0]
    assert torch.equal(plain, hooked)
    assert torch.equal(plain, logits(tiny))


@pytest.mark.parametrize("dose", [0.0, 0.5, 3.0, -1.0])
def test_hooks_equal_baked_weights(tiny, dose):
    with scale_neurons(tiny, NEURONS, dose):
        hooked = logits(tiny)
    wanted = logits(baked(tiny, NEURONS, dose))
    assert (hooked - wanted).abs().max() < 2e-5
    assert (hooked - logits(tiny)).abs().max() > 1e-3


def test_batch_and_cache_change_nothing(tiny):
    with scale_neurons(tiny, NEURONS, 2.5):
        together = logits(tiny)
        alone = torch.cat([logits(tiny, [p]) for p in PROMPTS])
        cached = torch.cat([logits(tiny, [p[3:]], prefix=p[:3]) for p in PROMPTS])
    assert (together - alone).abs().max() < 2e-5
    assert (together - cached).abs().max() < 2e-5


def test_relative_dose_is_measured(tiny):
    """‖Δ‖/‖h‖ of the site's output, recomputed from two forward passes of the first layer."""
    outputs = {}
    site = tiny.sites[0]
    neurons = [(0, 3), (0, 17)]
    handle = site.module.register_forward_hook(lambda m, i, o: outputs.setdefault("rows", []).append(o))
    logits(tiny)
    with scale_neurons(tiny, neurons, 2.0) as receipt:
        logits(tiny)
        found = receipt.collect([5, 5, 5])
    handle.remove()
    before, after = outputs["rows"]
    wanted = ((after - before).norm(dim=-1) / before.norm(dim=-1)).mean(dim=-1)
    assert torch.allclose(torch.tensor(found, dtype=torch.float32), wanted, atol=1e-5)
    assert min(found) > 0


def test_relative_dose_does_not_depend_on_the_batch(tiny):
    rows = [[5, 9, 13], [7, 7, 80, 41, 6, 30, 31]]
    with scale_neurons(tiny, NEURONS, 2.0) as receipt:
        logits(tiny, rows)
        together = receipt.collect([3, 7])
        logits(tiny, rows[:1])
        alone = receipt.collect([3])
    assert together[0] == pytest.approx(alone[0], abs=1e-6)


def test_a_hook_that_never_fired_is_an_error(tiny):
    with scale_neurons(tiny, NEURONS, 2.0) as receipt, pytest.raises(HookNeverFiredError, match="layers \\[0, 1, 2\\]"):
        receipt.collect([5])


def test_hooks_are_removed_even_after_an_error(tiny):
    plain = logits(tiny)
    with pytest.raises(RuntimeError, match="stop"), scale_neurons(tiny, NEURONS, 0.0):
        raise RuntimeError("stop")
    assert torch.equal(plain, logits(tiny))
    assert not any(site.module._forward_hooks or site.module._forward_pre_hooks for site in tiny.sites)


@pytest.mark.parametrize("neuron", [(3, 0), (0, 48), (-1, 0)])
def test_neurons_outside_the_model_are_refused(tiny, neuron):
    with pytest.raises(UsageError, match="outside"), scale_neurons(tiny, [neuron], 2.0):
        pass


def test_noop_is_bit_identical_on_a_real_model(smollm):
    prompts = [smollm.encode("Question: What is the capital of France?\nAnswer:")] * 3
    prefix = SharedPrefix(smollm, smollm.encode("Question: 1 + 1?\nAnswer: 2\n\n"))
    plain = next_token_logits(smollm, prefix, prompts)
    neurons = [(layer, index) for layer in range(0, 30, 3) for index in (1, 700, 1535)]
    with scale_neurons(smollm, neurons, 1.0) as receipt:
        hooked = next_token_logits(smollm, prefix, prompts)
        assert receipt.collect([len(p) for p in prompts]) == [0.0] * 3
    assert torch.equal(plain, hooked)
