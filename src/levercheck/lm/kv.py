"""Keys and values of many rows: full-length caches that grow without copying and can be repeated, cut and shifted.

Every layer keeps every position, also where attention slides (the window's mask still applies), so that rows can be
realigned without a window losing its oldest tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 32
"""Positions allocated ahead: a decoding step then writes one position instead of copying all of them."""


class RoomyLayer(DynamicLayer):  # type: ignore[misc]  # untyped in transformers
    """A cache layer whose `keys` and `values` are views of a buffer with room at its end."""

    keys: torch.Tensor
    values: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append positions; returns all of them, [rows, heads, positions, width]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = self._grown("keys", self.keys, key_states)
        self.values = self._grown("values", self.values, value_states)
        return self.keys, self.values

    def _grown(self, name: str, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        held = 0 if old.numel() == 0 else old.shape[2]
        needed = held + new.shape[2]
        buffer: torch.Tensor | None = self.__dict__.get(f"_{name}_buffer")
        if buffer is None or buffer.data_ptr() != old.data_ptr() or buffer.shape[2] < needed:
            rows, heads, _, width = new.shape
            buffer = new.new_empty(rows, heads, needed + ROOM, width)
            if held:
                buffer[:, :, :held] = old
            self.__dict__[f"_{name}_buffer"] = buffer
        buffer[:, :, held:needed] = new
        return buffer[:, :, :needed]


def new_cache() -> Any:
    """An empty cache."""
    return Cache(layer_class_to_replicate=RoomyLayer)


def selected(cache: Any, rows: torch.Tensor) -> Any:
    """A new cache with the given rows (repeats allowed); the old one is left as it is."""
    copy = new_cache()
    for number, layer in enumerate(cache.layers):
        if layer.is_initialized:
            _put(copy, number, layer.keys[rows], layer.values[rows])
    return copy


def take_below(cache: Any, source: Any, first: int, rows: torch.Tensor) -> None:
    """Give the layers below `first` of `cache` the rows of `source`."""
    for number in range(first):
        layer = source.layers[number]
        _put(cache, number, layer.keys[rows], layer.values[rows])


def right_aligned(cache: Any, gaps: Sequence[int]) -> None:
    """Move every row `gaps[row]` positions to the right, over the filling at its end: rows then end together."""
    if not any(gaps):
        return
    for layer in cache.layers:
        length = layer.keys.shape[2]
        shift = torch.tensor(list(gaps), device=layer.keys.device)[:, None]
        index = (torch.arange(length, device=layer.keys.device)[None] - shift).clamp_min(0)[:, None, :, None]
        layer.keys = layer.keys.gather(2, index.expand_as(layer.keys))
        layer.values = layer.values.gather(2, index.expand_as(layer.values))


def keep_rows(cache: Any, rows: torch.Tensor) -> None:
    """Drop the other rows, in place."""
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[rows], layer.values[rows]


def _put(cache: Any, number: int, keys: torch.Tensor, values: torch.Tensor) -> None:
    while len(cache.layers) <= number:
        cache.layers.append(RoomyLayer())
    layer = cache.layers[number]
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values
