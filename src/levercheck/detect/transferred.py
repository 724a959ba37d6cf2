"""A readout on the test items of another workspace: same model, other questions."""

from __future__ import annotations

from typing import Any

import polars as pl

from levercheck.audit.baselines import CLUSTER, area, wrong_of
from levercheck.audit.classification import classification, confusion
from levercheck.benchmarks.answers import normalise
from levercheck.detect.duplicates import near_duplicates
from levercheck.detect.probe import Items
from levercheck.detect.split import SplitSpec
from levercheck.detect.stored import open_store
from levercheck.detect.workspace import Workspace
from levercheck.errors import UsageError
from levercheck.evidence import schema
from levercheck.evidence.canonical import digest
from levercheck.evidence.identity import first_difference
from levercheck.evidence.unit import Row
from levercheck.readouts.readout import load_readout

METHOD = "transfer/v2"
NEAR_DUPLICATE = float(SplitSpec.model_fields["near_duplicate"].default)


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
    source = {unit: other.state(unit) for unit in ("questions", "split", "capture")}
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
        {"method": METHOD, "source": source, "channel": channel, "readout": readout.fingerprint, "seed": seed},
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
    """Item ids of the other test role that have something in common with a training item here, by what it is.

    `questions`: the same normalised words; `near_duplicates`: nearly the same, as in the split, over both sets;
    `accepted_answers`: any accepted answer; `answers`: the stated answer; `items`: any of these.
    """
    train = ws.rows("split").filter(pl.col("role") == "train")
    ours, theirs = _about(ws, train), _about(other, test)
    found: dict[str, set[str]] = {}
    for name, things in theirs.items():
        known = set().union(*ours[name].values())
        found[name] = {item for item, own in things.items() if own & known}
    mine, asked = list(ours["questions"].items()), list(theirs["questions"].items())
    pairs = near_duplicates([" ".join(own) for _, own in (*mine, *asked)], NEAR_DUPLICATE)
    found["near_duplicates"] = {asked[j - len(mine)][0] for i, j, _ in pairs if i < len(mine) <= j}
    ids = {name: sorted(part) for name, part in found.items()}
    return {**ids, "items": sorted(set().union(*found.values()))}


def _about(ws: Workspace, part: pl.DataFrame) -> dict[str, dict[str, set[str]]]:
    """Per kind of thing what each item of a part of the split has of it; what is not known is nothing."""
    rows = part.select("item_id", "answer").join(ws.rows("questions"), on="item_id", how="left").sort("item_id")
    found: dict[str, dict[str, set[str]]] = {
        name: {} for name in ("ids", "questions", "entities", "accepted_answers", "answers")
    }
    for row in rows.iter_rows(named=True):
        item = row["item_id"]
        found["ids"][item] = {item}
        found["questions"][item] = {normalise(row["question"] or "")} - {""}
        found["entities"][item] = {row["entity"]} - {None}
        found["accepted_answers"][item] = {normalise(alias) for alias in row["aliases"] or []} - {""}
        found["answers"][item] = {row["answer"]} - {None}
    return found


def _same_model(ws: Workspace, other: Workspace) -> None:
    ours, theirs = (w.settings("capture").get("model") or {} for w in (ws, other))
    name = first_difference(ours, theirs)
    if name is not None:
        raise UsageError(
            f"the other workspace's model differs in {name} from the readout's: capture both with the same model"
        )
