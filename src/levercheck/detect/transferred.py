"""A readout on the test items of another workspace: same model, other questions."""

from __future__ import annotations

from typing import Any

import polars as pl

from levercheck.audit.baselines import CLUSTER, area, wrong_of
from levercheck.audit.classification import classification, confusion
from levercheck.benchmarks.answers import normalise
from levercheck.detect.probe import Items
from levercheck.detect.stored import open_store
from levercheck.detect.workspace import Workspace
from levercheck.errors import UsageError
from levercheck.evidence import schema
from levercheck.evidence.canonical import digest
from levercheck.evidence.unit import Row
from levercheck.readouts.readout import load_readout

IDENTITY = ("tokenizer", "weights", "revision", "architecture", "layers")


def transferred(ws: Workspace, name: str, channel: str, other: Workspace, seed: int = 0) -> dict[str, Any]:
    """Score the other workspace's captured test items; rows and results under `probes/<name>/transfer-<digest>`.

    Raises UsageError when the other store was captured from another model or lacks the readout's channel, MissingError
    when the other workspace has no capture.
    """
    _same_model(ws, other)
    store = open_store(other)
    features = store.channel(channel)
    folder = f"probes/{name}"
    readout = load_readout(ws.root / folder)
    if features.shape[1:] != readout.shape:
        raise UsageError(
            f"the other store has shape {features.shape[1:]}, expected {readout.shape} as the readout's model"
        )
    test = other.rows("split").filter(pl.col("role") == "test").sort("item_id")
    items = Items.of(test, store)
    source = {unit: other.sidecar(unit)["rows_sha256"] for unit in ("questions", "split", "capture")}
    unit = f"{folder}/transfer-{digest([source, channel])[:12]}"
    shared = _shared(ws, other, test)

    def work(_: None) -> list[Row]:
        scores = readout.score(readout.select(features)[items.positions])
        return [
            {"item_id": item, "purpose": "transfer", "c": readout.facts.get("c"), "fold": -1, "score": float(score)}
            for item, score in zip(items.ids, scores, strict=True)
        ]

    ws.compute(
        unit,
        {"source": source, "channel": channel, "readout": readout.fingerprint, "seed": seed},
        ["questions", "split", folder],
        schema.PROBE_SCORES,
        ["item_id"],
        title=f"transfer probe {name}",
        batches=[None],
        rows=len(items.ids),
        work=work,
        summarise=lambda rows: _results(rows, test, shared, seed),
    )
    return ws.results(unit)


def _results(rows: pl.DataFrame, test: pl.DataFrame, shared: dict[str, Any], seed: int) -> dict[str, Any]:
    joined = rows.join(test, on="item_id", validate="1:1").sort("item_id")
    scores, wrong, groups = joined["score"].to_numpy(), wrong_of(joined), joined["group"].to_numpy()
    estimates = classification(scores, wrong, groups, cluster_unit=CLUSTER, seed=seed)
    fresh = joined.filter(~pl.col("item_id").is_in(shared["items"]))
    return {
        "detector": {k: e.to_dict() for k, e in estimates.items()} | {"confusion": confusion(scores, wrong)},
        "shared_with_training": {name: len(ids) for name, ids in shared.items()},
        "auroc_without_shared": area(fresh).to_dict(),
    }


def _shared(ws: Workspace, other: Workspace, test: pl.DataFrame) -> dict[str, list[str]]:
    """Item ids of the other test role whose id, question or answer a training item here has; `items`: any of these."""
    train = ws.rows("split").filter(pl.col("role") == "train")
    ours = _questions(ws).filter(pl.col("item_id").is_in(train["item_id"].to_list()))
    theirs = test.select("item_id", "answer").join(_questions(other), on="item_id", how="left")
    found = {
        "ids": theirs.filter(pl.col("item_id").is_in(train["item_id"].to_list())),
        "questions": theirs.filter(pl.col("words").is_in(ours["words"].to_list())),
        "answers": theirs.filter(pl.col("answer").is_in(train["answer"].drop_nulls().to_list())),
    }
    ids = {name: part["item_id"].sort().to_list() for name, part in found.items()}
    return {**ids, "items": sorted({item for part in ids.values() for item in part})}


def _questions(ws: Workspace) -> pl.DataFrame:
    rows = ws.rows("questions").select("item_id", "question")
    words = [normalise(q) for q in rows["question"].to_list()]
    return rows.with_columns(pl.Series("words", words, dtype=pl.String))


def _same_model(ws: Workspace, other: Workspace) -> None:
    ours, theirs = (w.settings("capture").get("model") or {} for w in (ws, other))
    for name in IDENTITY:
        if ours.get(name) != theirs.get(name):
            raise UsageError(
                f"the other workspace's model differs in {name} from the readout's: capture both with the same model"
            )
