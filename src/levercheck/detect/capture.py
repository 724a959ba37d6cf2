"""Stage 4: CETT of every neuron over regions of question and answer, one pass per item, in one memory-mapped store."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch

from levercheck.detect.prompting import from_identity
from levercheck.detect.stored import STORE, CaptureSpec, open_store
from levercheck.detect.workspace import Workspace
from levercheck.errors import MissingError, UsageError
from levercheck.evidence import schema
from levercheck.evidence.identity import check_same_model
from levercheck.evidence.unit import Row, open_array
from levercheck.lm.batches import SharedPrefix, token_batches
from levercheck.lm.model import LanguageModel
from levercheck.readouts.cett import Region, capture_batch
from levercheck.readouts.store import FeatureStore


@dataclass(frozen=True)
class Plan:
    """What a capture will read and write."""

    items: int
    tokens: int
    batches: int
    channels: tuple[str, ...]
    shape: tuple[int, int]
    bytes: int
    free: int

    def line(self) -> str:
        """One line for a person."""
        layers, neurons = self.shape
        return (
            f"capture {self.items} items, {self.tokens} tokens in {self.batches} batches; {len(self.channels)} "
            f"channels of {layers} x {neurons} neurons: {self.bytes / 2**30:.2f} GiB, "
            f"{self.free / 2**30:.1f} GiB free"
        )


def regions_of(prompt: int, span: tuple[int, int], tokens: int) -> dict[str, Region]:
    """Pieces of every region: `prompt` prompt tokens, then `tokens` response tokens with the answer at `span`."""
    start, stop = prompt + span[0], prompt + span[1]
    end = prompt + tokens
    return {
        "answer": [(start, stop)],
        "other": [(0, start), (stop, end)],
        "prompt": [(0, prompt)],
        "output": [(prompt, end)],
    }


def check_model(ws: Workspace, lm: LanguageModel) -> None:
    """Refuse a model that did not make the answers, or another tokenizer than the spans were found with."""
    recorded = ws.settings("answers").get("model")
    if recorded is not None:  # endpoints and other programs record none
        check_same_model(recorded, lm.identity, "the answers")
    tokenizer = ws.settings("spans").get("tokenizer") if ws.has("spans") else None
    if tokenizer is not None and tokenizer != lm.identity.get("tokenizer"):
        name = lm.identity.get("name")
        raise UsageError(
            f"the spans were found with another tokenizer than that of {name}: load the model they are for"
        )


def plan(ws: Workspace, lm: LanguageModel, spec: CaptureSpec) -> Plan:
    """Size of the work, before any of it is done."""
    work = _Work.of(ws, lm, spec)
    size = len(spec.channels) * len(work.ids) * lm.shape[0] * lm.shape[1] * np.dtype(spec.dtype).itemsize
    total = sum(len(s) for s in work.sequences)
    names = tuple(c.name for c in spec.channels)
    return Plan(len(work.ids), total, len(work.batches), names, lm.shape, size, shutil.disk_usage(ws.root).free)


def capture(ws: Workspace, lm: LanguageModel, spec: CaptureSpec) -> FeatureStore:
    """Fill the store for the items of the split's train and test roles; returns it opened for reading."""
    work = _Work.of(ws, lm, spec)
    path = ws.root / "capture" / STORE
    shape = (len(spec.channels), len(work.ids), *lm.shape)
    if not path.exists():
        planned = plan(ws, lm, spec)
        if planned.bytes > planned.free:
            raise MissingError(
                f"the store needs {planned.bytes / 2**30:.1f} GiB, {planned.free / 2**30:.1f} GiB are free: free "
                "space, capture fewer channels, or use --dtype float16"
            )
    prefix = SharedPrefix(lm, work.shared)

    def compute(batch: list[int]) -> list[Row]:
        values = capture_batch(
            lm, prefix, [work.sequences[i] for i in batch], [work.regions[i] for i in batch], spec.channels
        )
        stored = values.to(torch.float16 if spec.dtype == "float16" else torch.float32)
        _finite(stored, [work.ids[i] for i in batch], spec.dtype)
        array = open_array(path, shape, spec.dtype)
        array[:, batch] = stored.numpy()
        array.flush()
        longest = max(len(work.sequences[i]) for i in batch)
        return [work.row(i, len(batch), longest) for i in batch]

    ws.compute(
        "capture",
        {**spec.model_dump(mode="json"), "model": lm.identity, "shape": list(lm.shape)},
        ["questions", "answers", "spans", "split"],
        schema.CAPTURED_REGIONS,
        ["index"],
        title="capture CETT",
        batches=work.batches,
        rows=len(work.ids),
        work=compute,
        array=path,
    )
    return open_store(ws)


@dataclass(frozen=True)
class _Work:
    ids: list[str]
    sequences: list[list[int]]
    regions: list[dict[str, Region]]
    batches: list[list[int]]
    shared: list[int]

    @classmethod
    def of(cls, ws: Workspace, lm: LanguageModel, spec: CaptureSpec) -> _Work:
        check_model(ws, lm)
        prompting = from_identity(ws.settings("answers")["prompting"])
        used = ws.rows("split").filter(pl.col("role").is_in(["train", "test"])).select("item_id")
        items = (
            used.join(ws.rows("spans"), on="item_id", validate="1:1")
            .join(ws.rows("questions").select("item_id", "question"), on="item_id", validate="1:1")
            .sort("item_id")
            .to_dicts()
        )
        prompts = [prompting.own(lm, item["question"]) for item in items]
        sequences = [[*p, *item["tokens"]] for p, item in zip(prompts, items, strict=True)]
        regions = [
            regions_of(len(p), (item["start"], item["stop"]), len(item["tokens"]))
            for p, item in zip(prompts, items, strict=True)
        ]
        batches = token_batches(sequences, spec.batch_tokens)
        return cls([item["item_id"] for item in items], sequences, regions, batches, prompting.shared(lm))

    def row(self, index: int, rows: int, longest: int) -> Row:
        counts = {
            f"{name}_tokens": sum(stop - start for start, stop in pieces)
            for name, pieces in self.regions[index].items()
        }
        return {
            "item_id": self.ids[index],
            "index": index,
            "tokens": len(self.shared) + len(self.sequences[index]),
            **counts,
            "batch_rows": rows,
            "batch_tokens": longest,
        }


def _finite(values: torch.Tensor, ids: Sequence[str], dtype: str) -> None:
    good = torch.isfinite(values)
    if not good.all():
        _, item, layer, _ = (int(v) for v in (~good).nonzero()[0])
        raise UsageError(
            f"item '{ids[item]}' has activations that are not finite in layer {layer} (store {dtype}): load the model "
            "in float32 or bfloat16, or store float32; what was captured before is kept"
        )
