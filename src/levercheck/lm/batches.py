"""Batches without padding: every batch holds sequences of one length, so no mask, no position arithmetic, no pad token.

That makes a batched result equal to the single-sequence result for any architecture (learned positions, sliding
windows, attention sinks), up to the rounding of the matrix products.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import torch

from levercheck.lm.model import LanguageModel

Item = TypeVar("Item")


def equal_batches(items: Sequence[Item], size: Callable[[Item], Hashable], limit: int) -> list[list[int]]:
    """Indices of `items` in batches of at most `limit`, all of one `size`, in a fixed order.

    The partition depends on the items only, never on what has been computed before, so that a resumed run repeats the
    arithmetic of an uninterrupted one.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(size(item), []).append(index)
    return [group[i : i + limit] for group in groups.values() for i in range(0, len(group), limit)]


class SharedPrefix:
    """Keys and values of a prompt prefix that many sequences share, computed once under the hooks then in force."""

    def __init__(self, lm: LanguageModel, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self._cache: Any = None
        if self.ids:
            with torch.inference_mode():
                tokens = torch.tensor([self.ids], device=lm.device)
                self._cache = lm.decoder(input_ids=tokens, use_cache=True).past_key_values

    def cache(self, rows: int) -> Any:
        """A fresh cache for `rows` continuations (None when the prefix is empty)."""
        if self._cache is None:
            return None
        cache = copy.deepcopy(self._cache)
        cache.batch_repeat_interleave(rows)
        return cache
