"""Batches that cannot change results.

Where a cache is decoded from, a batch holds sequences of one length (`equal_batches`): no mask, no position arithmetic,
no pad token. Where one pass is enough, shorter sequences are filled up on the right (`token_batches`, `right_padded`):
causal attention never looks to the right, so what stands there is never read. Both are exact for any decoder (learned
positions, sliding windows, attention sinks), up to the rounding of the matrix products.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

from levercheck.lm.model import LanguageModel

Item = TypeVar("Item")
TOKENS_PER_BATCH = 1024
"""Small enough that padding stays cheap, large enough that reading the weights is shared by many tokens."""
BUSY = 256
SLACK = 1.15


def equal_batches(items: Sequence[Item], size: Callable[[Item], Hashable], limit: int) -> list[list[int]]:
    """Indices of `items` in batches of at most `limit`, all of one `size`, in a fixed order.

    The partition depends on the items only, never on what has been computed before, so that a resumed run repeats the
    arithmetic of an uninterrupted one.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(size(item), []).append(index)
    return [group[i : i + limit] for group in groups.values() for i in range(0, len(group), limit)]


def token_batches(sequences: Sequence[Sequence[int]], budget: int = TOKENS_PER_BATCH) -> list[list[int]]:
    """Indices in batches of similar length whose padded size is at most `budget` tokens (or one sequence).

    A batch that already keeps the processor busy is closed early rather than padded by more than SLACK.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(sequences)), key=lambda i: (len(sequences[i]), i)):
        if batches:
            size = len(sequences[index])
            padded = (len(batches[-1]) + 1) * size
            shortest = len(sequences[batches[-1][0]])
            if padded <= budget and (padded - size < BUSY or size <= SLACK * shortest):
                batches[-1].append(index)
                continue
        batches.append([index])
    return batches


def right_padded(lm: LanguageModel, sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [sequences, longest] filled up on the right, and each sequence's last position [sequences]."""
    longest = max(len(s) for s in sequences)
    lm.check_length(longest)
    rows = [[*s, *[s[-1]] * (longest - len(s))] for s in sequences]
    last = torch.tensor([len(s) - 1 for s in sequences], device=lm.device)
    return torch.tensor(rows, device=lm.device), last


def left_padded(lm: LanguageModel, sequences: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Inputs of the trunk for whole sequences filled up on the left.

    A mask hides the filling and positions count from each sequence's own start. There is no cached prefix: filling
    between a prefix and its continuation would take up places of a sliding window.
    """
    longest = max(len(s) for s in sequences)
    gaps = torch.tensor([longest - len(s) for s in sequences], device=lm.device)[:, None]
    ids = torch.tensor([[s[0]] * (longest - len(s)) + list(s) for s in sequences], device=lm.device)
    places = torch.arange(longest, device=lm.device)[None] - gaps
    return {"input_ids": ids, "attention_mask": (places >= 0).long(), "position_ids": places.clamp(min=0)}


@contextmanager
def head_at(lm: LanguageModel, positions: torch.Tensor, rows: torch.Tensor | None = None) -> Iterator[None]:
    """Within the block, the head sees some positions only: logits are [chosen, 1, vocabulary].

    One position of every row (int64 [rows]), or the pairs (rows, positions), where `rows` may repeat.
    """

    def pick(_module: Any, _args: Any, output: Any) -> Any:
        hidden = output.last_hidden_state
        at = torch.arange(len(hidden), device=hidden.device) if rows is None else rows
        output["last_hidden_state"] = hidden[at, positions][:, None]
        return output

    handle = lm.decoder.register_forward_hook(pick)
    try:
        yield
    finally:
        handle.remove()


def last_logits(lm: LanguageModel, sequences: Sequence[Sequence[int]], **options: Any) -> torch.Tensor:
    """Next-token logits at the end of every sequence, float32 [sequences, vocabulary]; the head sees nothing else."""
    ids, last = right_padded(lm, sequences)
    with head_at(lm, last):
        logits: torch.Tensor = lm.model(input_ids=ids, **options).logits
    return logits[:, 0].float()


class SharedPrefix:
    """Keys and values of a prompt prefix that many sequences share, computed once under the hooks then in force."""

    def __init__(self, lm: LanguageModel, ids: Sequence[int]) -> None:
        self.ids, self._name = list(ids), lm.cache_name
        self._cache: Any = None
        if self.ids:
            with torch.inference_mode():
                tokens = torch.tensor([self.ids], device=lm.device)
                self._cache = getattr(lm.decoder(input_ids=tokens, use_cache=True), self._name)

    def cache(self, rows: int) -> dict[str, Any]:
        """A fresh cache for `rows` continuations, as the model's argument ({} when the prefix is empty)."""
        if self._cache is None:
            return {}
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(rows)
        return {self._name: cache}
