"""What a capture stores, and how later stages open it without a model runtime."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from levercheck.detect.workspace import Workspace
from levercheck.evidence.unit import read_array
from levercheck.readouts.store import Channel, FeatureStore

STORE = "features.npy"
RegionName = Literal["answer", "other", "prompt", "output"]
"""answer: the answer's tokens; prompt: the question's; output: the response's; other: prompt and output without answer.
What opens every sequence alike (start tokens, solved examples, the head of a chat template) belongs to none; nor does
the end-of-turn token."""


class CaptureSpec(BaseModel):
    """What is stored per item: regions x measures x reductions, one channel each."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    regions: tuple[RegionName, ...] = ("answer", "other")
    measures: tuple[Literal["cett", "abs"], ...] = ("cett",)
    reduces: tuple[Literal["mean", "max"], ...] = ("mean",)
    dtype: Literal["float32", "float16"] = "float32"
    batch_tokens: int = Field(1024, gt=0)  # padded size of a batch; larger suits GPUs

    @property
    def channels(self) -> list[Channel]:
        """Every channel, in the order of the store."""
        product = itertools.product(self.regions, self.measures, self.reduces)
        return [Channel(region, measure, reduce) for region, measure, reduce in product]


def open_store(ws: Workspace) -> FeatureStore:
    """The finished store of a workspace."""
    settings = ws.settings("capture")
    rows = ws.rows("capture").sort("index")
    spec = CaptureSpec(**{name: settings[name] for name in CaptureSpec.model_fields if name in settings})
    array = read_array(ws.root / "capture" / STORE)
    return FeatureStore(array, tuple(c.name for c in spec.channels), tuple(rows["item_id"].to_list()))


def features(store: FeatureStore, channel: str, item_ids: Sequence[str]) -> np.ndarray[Any, Any]:
    """Features of the named items in their order, [items, layers, neurons], in memory."""
    found: np.ndarray[Any, Any] = store.channel(channel)[store.positions(item_ids)]
    return found
