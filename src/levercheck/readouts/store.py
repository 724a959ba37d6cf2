"""Captured features of many items in one memory-mapped file, float32 or float16 [channels, items, layers, neurons]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from levercheck.errors import UsageError, nearest


@dataclass(frozen=True)
class Channel:
    """One number per neuron: a measure of its activation, reduced over the tokens of a region."""

    region: str
    measure: Literal["cett", "abs"] = "cett"  # abs: |z|, without the write vector and the output's length
    reduce: Literal["mean", "max"] = "mean"

    @property
    def name(self) -> str:
        """As stores and readouts call it, e.g. `answer.cett.mean`."""
        return f"{self.region}.{self.measure}.{self.reduce}"


@dataclass(frozen=True)
class FeatureStore:
    """An opened store and what its first two axes are."""

    array: np.ndarray[Any, Any]
    channels: tuple[str, ...]
    item_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        expected = (len(self.channels), len(self.item_ids))
        if self.array.ndim != 4 or self.array.shape[:2] != expected:
            raise UsageError(f"the store has shape {self.array.shape}, expected {expected} channels and items first")

    def channel(self, name: str) -> np.ndarray[Any, Any]:
        """Features of one channel, [items, layers, neurons], not read into memory."""
        if name not in self.channels:
            raise UsageError(f"the store has no channel '{name}'{nearest(name, self.channels)}: capture it first")
        view: np.ndarray[Any, Any] = self.array[self.channels.index(name)]
        return view

    def positions(self, item_ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Rows of the named items; an item that was not captured is a UsageError."""
        at = {item: i for i, item in enumerate(self.item_ids)}
        absent = [item for item in item_ids if item not in at]
        if absent:
            raise UsageError(f"item '{absent[0]}' ({len(absent)} in all) is not in the store: capture it first")
        return np.array([at[item] for item in item_ids], dtype=np.int64)
