"""What a comparison of a checkpoint with hooks may conclude: never more than its numbers carry."""

from __future__ import annotations

import copy
import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.interventions import build  # noqa: E402
from levercheck.interventions.spec import Treatment  # noqa: E402
from levercheck.sweep.parity import compare  # noqa: E402

PROMPTS = [[5, 9, 13, 60, 22], [7, 7, 80], [90, 3, 3, 12, 50, 71, 8, 9], [33, 2], [4, 4, 6], [8, 1, 20]]
ONE = pytest.mark.parametrize("tiny", ["llama"], indirect=True)


class Words:
    """A tokenizer of numbers; no token ends a text."""

    eos_token_id = -1

    def decode(self, ids, **_):
        return " ".join(map(str, ids))


def model(tiny, dtype):
    copied = copy.deepcopy(tiny.model).to(dtype)
    copied.generation_config.eos_token_id = None
    return dataclasses.replace(tiny, model=copied, tokenizer=Words())


@ONE
def test_a_checkpoint_without_the_intervention_is_never_called_equal(tiny):
    """In bfloat16 the tolerance is wide enough to hold a small effect."""
    lm = model(tiny, torch.bfloat16)
    vector = np.random.default_rng(0).normal(size=32)
    found = [
        compare(lm, Treatment(((build.add_direction(lm, {1: vector}), dose),)), lm, PROMPTS, max_new_tokens=8)
        for dose in (0.25, 4.0)
    ]
    assert found[0].max_logit_difference == found[0].effect < found[0].tolerance * found[0].max_logit
    assert found[0].changed.value > 0
    assert [one.verdict for one in found] == ["no_effect", "different"]


@ONE
def test_numbers_that_broke_are_not_equal(tiny):
    lm = model(tiny, torch.float32)
    treatment = Treatment(((build.scale_neurons(lm, [(0, 1), (1, 2)]), 3e38),))
    found = compare(lm, treatment, lm, PROMPTS[:2], max_new_tokens=3)
    assert found.verdict == "different" and found.changed.value == 100
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["max_logit_difference"] is None and told["max_logit"] is None
