"""A readout from the coefficients of somebody else's classifier, with its scores where the workspace has features."""

from __future__ import annotations

from typing import Any

import polars as pl

from levercheck.audit.classification import classification, confusion
from levercheck.detect.stored import open_store
from levercheck.detect.workspace import Workspace
from levercheck.errors import UsageError
from levercheck.evidence import schema
from levercheck.evidence.ledger import note
from levercheck.evidence.unit import Row
from levercheck.interop.h_neurons_formats import Floats
from levercheck.readouts.readout import TENSORS, Readout, from_coefficients, save_readout
from levercheck.readouts.store import FeatureStore

NAME = "imported"


def import_readout(
    ws: Workspace,
    fitted: tuple[Floats, float],
    shape: tuple[int, int] | None,
    channel: str,
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Write `probes/imported`; its rows are the scores of train and test items where the store has the channel."""
    captured = ws.has("capture")
    if captured:
        theirs = tuple(ws.settings("capture")["shape"])
        if shape is not None and shape != theirs:
            raise UsageError(f"--shape is {shape[0]}x{shape[1]}, the captured features are {theirs[0]}x{theirs[1]}")
        shape = (int(theirs[0]), int(theirs[1]))
        facts = {**facts, "model": facts["model"] or ws.settings("capture").get("model")}
    coefficients, intercept = fitted
    if shape is None:
        raise UsageError(
            f"the classifier has {len(coefficients)} coefficients, which do not say how many layers there are: give "
            "--shape LAYERSxNEURONS"
        )
    readout = from_coefficients(coefficients, intercept, shape, {"channel": channel, "mode": None, **facts})
    folder = ws.root / "probes" / NAME
    store = open_store(ws) if captured and ws.has("split") else None
    if store is not None and channel not in store.channels:
        store = None
    split = ws.rows("split") if store is not None else None

    def work(_: None) -> list[Row]:
        folder.mkdir(parents=True, exist_ok=True)
        save_readout(readout, folder)
        if store is None or split is None:
            return []
        note(ws.root, "test opened", probe=NAME, c=None, items=int((split["role"] == "test").sum()))
        return _scores(readout, store, split, channel)

    frame = ws.compute(
        f"probes/{NAME}",
        {"imported": facts["imported"], "channel": channel, "shape": list(shape), "model": facts["model"]},
        ["split", "capture"] if store is not None else [],
        schema.PROBE_SCORES,
        ["purpose", "item_id"],
        title="import readout",
        batches=[None],
        rows=0 if split is None else int(split["role"].is_in(["train", "test"]).sum()),
        work=work,
        array=folder / TENSORS,
        summarise=lambda rows: _results(rows, split),
    )
    found = ws.results(f"probes/{NAME}")
    return {
        "components": len(readout.components),
        "h_neurons": len(readout.neurons),
        "fingerprint": readout.fingerprint,
        "scores": len(frame),
        **{role: found[role]["auroc"] for role in ("train", "test") if "auroc" in found.get(role, {})},
    }


def _scores(readout: Readout, store: FeatureStore, split: pl.DataFrame, channel: str) -> list[Row]:
    rows: list[Row] = []
    scores = readout.score(readout.select(store.channel(channel)))
    for role in ("train", "test"):
        ids = split.filter(pl.col("role") == role)["item_id"].sort().to_list()
        rows += [
            {"item_id": item, "purpose": role, "c": None, "fold": -1, "score": float(scores[at])}
            for item, at in zip(ids, store.positions(ids), strict=True)
        ]
    return rows


def _results(rows: pl.DataFrame, split: pl.DataFrame | None) -> dict[str, Any]:
    """Performance per role; empty where there are no scores."""
    found: dict[str, Any] = {}
    if split is None:
        return found
    labelled = rows.join(split.select("item_id", "label", "group"), on="item_id").sort("item_id")
    for role in rows["purpose"].unique().sort():
        part = labelled.filter(pl.col("purpose") == role)
        wrong, score = (part["label"] == "wrong").to_numpy(), part["score"].to_numpy()
        estimates = classification(score, wrong, part["group"].to_numpy(), seed=0)
        found[role] = {name: e.to_dict() for name, e in estimates.items()}
        found[role]["confusion"] = confusion(score, wrong)
    return found
