"""Workspaces with planted truths: rows and a store as the stages write them, without a model."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from levercheck.detect.labelling import span_summary
from levercheck.detect.probe import ProbeSpec, probe
from levercheck.detect.split import SplitSpec, split
from levercheck.detect.stored import CaptureSpec
from levercheck.detect.workspace import Workspace
from levercheck.evidence import schema
from levercheck.evidence.unit import open_array, read_array
from levercheck.readouts.store import FeatureStore

LAYERS, NEURONS = 3, 40
MODEL = {"name": "planted", "tokenizer": "t", "weights": "w", "revision": None, "architecture": "a", "layers": LAYERS}


class Silent:
    """Stages without output."""

    @contextmanager
    def stage(self, title, total, unit):
        yield lambda done: None


@dataclass
class Plant:
    """Items with columns that tell nothing, and features that are noise, until a test says otherwise."""

    n: int = 320
    seed: int = 0
    wrong: np.ndarray = field(init=False)
    rng: np.random.Generator = field(init=False)

    def __post_init__(self):
        rng = self.rng = np.random.default_rng([self.seed, 99])
        self.wrong = np.arange(self.n) % 2 == 1
        self.category = [("river", "city", "metal", "song")[k] for k in rng.integers(0, 4, self.n)]
        self.answer = [f"answer {k}" for k in range(self.n)]
        self.method = ["whole"] * self.n
        self.answer_tokens = rng.integers(1, 6, self.n)
        self.response_tokens = self.answer_tokens + rng.integers(1, 6, self.n)
        self.mean_logprob = rng.normal(-1, 0.5, self.n)
        self.agreement = rng.choice([0.6, 0.8, 1.0], self.n)
        self.features = rng.normal(0, 1, (2, self.n, LAYERS, NEURONS)).astype(np.float32)

    def signal(self, layer, index, strength=1.5):
        """Let one neuron tell the label, whatever else is known."""
        self.features[0, :, layer, index] += strength * self.wrong

    def write(self, root, *, name="default", spec=None, split_spec=None, model=MODEL, prefix="q"):
        """All units up to a finished probe; returns the workspace."""
        ws = self.captured(root, split_spec=split_spec, model=model, prefix=prefix)
        spec = spec or ProbeSpec(mode="1-vs-1", cs=(0.02, 0.05, 0.1, 0.3))
        probe(ws, store_of(ws), spec, name)
        return ws

    def captured(self, root, *, split_spec=None, model=MODEL, prefix="q", capture=None):
        """All units up to the capture."""
        root.mkdir(parents=True, exist_ok=True)
        ws = Workspace(root, Silent())
        ids = [f"{prefix}{k:04d}" for k in range(self.n)]
        label = ["wrong" if w else "right" for w in self.wrong]
        questions = [
            {
                "item_id": i,
                "question": " ".join(hashlib.sha256(f"{i}{j}".encode()).hexdigest()[:6] for j in range(5)),
                "category": c,
                "entity": f"{c}:{i}" if c else None,
                "aliases": [f"gold {i}"],
                "answerable": True,
            }
            for i, c in zip(ids, self.category, strict=True)
        ]
        self._unit(ws, "questions", [], schema.QUESTIONS, questions)
        known = {"questions": self.n, "labels": {}}
        order = ["item_id", "sample"]
        self._unit(ws, "answers", ["questions"], schema.SAMPLES, [], {"model": model}, order, lambda _: known)
        spans = [
            {
                "item_id": i,
                "label": label[k],
                "text": "text",
                "tokens": [1] * int(self.response_tokens[k]),
                "start": 0,
                "stop": int(self.answer_tokens[k]),
                "answer": self.answer[k],
                "method": self.method[k],
                "mean_logprob": None if self.mean_logprob is None else float(self.mean_logprob[k]),
                "agreement": float(self.agreement[k]),
                "reason": None if self.method[k] else "no answer found",
            }
            for k, i in enumerate(ids)
        ]
        self._unit(ws, "spans", ["questions", "answers"], schema.SPANS, spans, summarise=span_summary)
        rows = split(ws, split_spec or SplitSpec(test_share=0.4, folds=4))
        used = rows.filter(pl.col("role") != "reserve")["item_id"].sort().to_list()
        at = [ids.index(i) for i in used]
        path = root / "capture" / "features.npy"

        def fill(_):
            array = open_array(path, (2, len(used), *self.features.shape[2:]), "float32")
            array[:] = self.features[:, at]
            array.flush()
            return [{"item_id": i, "index": k, "tokens": 9} for k, i in enumerate(used)]

        ws.compute(
            "capture",
            {
                **(capture or CaptureSpec()).model_dump(mode="json"),
                "model": model,
                "shape": list(self.features.shape[2:]),
            },
            ["questions", "answers", "spans", "split"],
            schema.CAPTURED_REGIONS,
            ["index"],
            title="capture",
            batches=[None],
            rows=len(used),
            work=fill,
            array=path,
        )
        return ws

    def _unit(self, ws, name, upstream, columns, rows, settings=None, order=("item_id",), summarise=None):
        ws.compute(
            name,
            settings or {"planted": self.seed},
            upstream,
            columns,
            list(order),
            title=name,
            batches=[None],
            rows=len(rows),
            work=lambda _: rows,
            summarise=summarise,
        )


def store_of(ws):
    """The workspace's store, opened."""
    rows = ws.rows("capture").sort("index")
    names = tuple(c.name for c in CaptureSpec().channels)
    return FeatureStore(read_array(ws.root / "capture" / "features.npy"), names, tuple(rows["item_id"].to_list()))
