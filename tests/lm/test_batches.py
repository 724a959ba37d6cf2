"""Batches of equal length and the shared prefix."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError  # noqa: E402
from levercheck.lm.batches import SharedPrefix, equal_batches, last_logits  # noqa: E402
from levercheck.lm.sites import mlp_sites  # noqa: E402


def test_every_item_once_and_one_length_per_batch():
    items = ["a", "bb", "c", "dd", "e", "f", "ggg"]
    batches = equal_batches(items, len, 2)
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert all(len({len(items[i]) for i in batch}) == 1 and len(batch) <= 2 for batch in batches)


def test_a_prefix_can_be_used_many_times(tiny):
    prefix = SharedPrefix(tiny, [4, 5, 6, 7, 8, 9, 10, 11])  # longer than the sliding window
    prompts = [[20, 21, 22], [30, 31, 32]]
    first, second = (last_logits(tiny, p, **prefix.cache(len(p))) for p in (prompts, prompts[:1]))
    whole = last_logits(tiny, [[*prefix.ids, *p] for p in prompts], use_cache=False)
    assert (first - whole).abs().max() < 2e-5
    assert (first[:1] - second).abs().max() < 2e-5


def test_the_head_sees_the_last_token_of_every_row(tiny):
    prompts = [[5, 6, 7], [8, 9, 10, 11, 12]]
    found = last_logits(tiny, prompts, use_cache=False)
    for row, prompt in enumerate(prompts):
        with torch.inference_mode():
            wanted = tiny.model(torch.tensor([prompt])).logits[0, -1]
        assert (found[row] - wanted).abs().max() < 2e-5


def test_a_model_without_dense_mlps_is_refused():
    with pytest.raises(UsageError, match="list of decoder layers"):
        mlp_sites(torch.nn.Linear(2, 2))
    bare = torch.nn.Module()
    bare.layers = torch.nn.ModuleList([torch.nn.Linear(3, 3)])
    with pytest.raises(UsageError, match="no dense down-projection"):
        mlp_sites(bare)
