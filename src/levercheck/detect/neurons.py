"""The components of a readout one by one: what each predicts alone, where it stands and what it writes."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from levercheck.detect.stored import features, open_store
from levercheck.detect.workspace import Workspace
from levercheck.errors import MissingError, NotEnoughDataError, UsageError, nearest
from levercheck.evidence.identity import check_same_model
from levercheck.evidence.unit import Row
from levercheck.readouts.readout import FACTS, Readout
from levercheck.stats import auroc

if TYPE_CHECKING:
    from levercheck.lm.model import LanguageModel

METHOD = "neurons/v1"
TOKENS = 20
"""Tokens kept per side; a table shows as many of them as it is asked for."""
CHANNEL = "answer.cett.mean"

NEURONS: dict[str, Any] = {
    "layer": pl.Int64,
    "index": pl.Int64,
    "weight": pl.Float64,  # log-odds per deviation of the component
    "mean": pl.Float64,  # centring and scale that the readout uses; 0 and 1 where it reads raw features
    "deviation": pl.Float64,
    "auroc": pl.Float64,  # of the component alone, wrong against right, on test items
    "auroc_low": pl.Float64,
    "auroc_high": pl.Float64,
    "auroc_note": pl.String,  # why there is no value or no interval
    "n": pl.Int64,  # test items
    "clusters": pl.Int64,  # split groups among them
    "feature_right": pl.Float64,  # mean feature among right and among wrong test items
    "feature_wrong": pl.Float64,
    "write_norm": pl.Float64,  # ‖W[:, j]‖₂ of the down-projection
    "promoted": pl.List(pl.String),  # per unit of positive activation, strongest first
    "promoted_effects": pl.List(pl.Float64),  # logits per unit of activation
    "suppressed": pl.List(pl.String),
    "suppressed_effects": pl.List(pl.Float64),
}


def probe_name(root: Path, name: str | None) -> str:
    """The readout that is meant: the named one, or the only one there is."""
    folder = root / "probes"
    found = sorted(p.name for p in folder.iterdir() if (p / FACTS).is_file()) if folder.is_dir() else []
    if not found:
        raise MissingError(f"'{root}' has no readout: run 'levercheck probe' on it first")
    if name is None:
        if len(found) > 1:
            raise UsageError(f"'{root}' has {len(found)} readouts ({', '.join(found)}): choose one with --name")
        return found[0]
    if name not in found:
        raise UsageError(f"'{root}' has no readout '{name}'{nearest(name, found)}")
    return name


def neurons(ws: Workspace, readout: Readout, name: str, load: Callable[[], LanguageModel]) -> pl.DataFrame:
    """NEURONS rows of a readout in `probes/<name>/neurons`, sorted by layer and index.

    `load` is called only when rows are missing; it must give the model that was captured (UsageError for another one),
    and its identity is what the unit records. The single-component AUROC takes the component's raw feature as the score
    of "wrong" on the test items that the readout was not fitted on, with intervals clustered by the split's groups.
    """
    components = readout.components
    if not components:
        raise NotEnoughDataError(f"readout '{name}' has no component of non-zero weight: fit it with a larger C")
    ws.settings("capture")  # before a model is loaded
    channel = str(readout.facts.get("channel") or CHANNEL)
    unit = f"probes/{name}/neurons"
    if ws.has(unit):
        identity = ws.settings(unit)["model"]
    else:  # everything that can be wrong is found before the unit is started
        lm = load()
        check_same(ws, lm, readout)
        measured = single_components(ws, readout, channel)
        identity = lm.identity

    def work(_: None) -> list[Row]:
        from levercheck.readouts.unembed import words

        spoken = words(lm, components, TOKENS)
        norms = {layer: lm.sites[layer].write_norms().cpu().numpy() for layer in {c[0] for c in components}}
        rows: list[Row] = []
        for at, (layer, index) in enumerate(components):
            row = {
                "layer": layer,
                "index": index,
                "weight": float(readout.weights[at]),
                "mean": float(readout.mean[at]),
                "deviation": float(readout.deviation[at]),
                "write_norm": float(norms[layer][index]),
                **measured[at],
            }
            for side in ("promoted", "suppressed"):
                tokens = getattr(spoken[at], side)
                row[side] = [token.text for token in tokens]
                row[f"{side}_effects"] = [token.effect for token in tokens]
            rows.append(row)
        return rows

    return ws.compute(
        unit,
        {
            "method": METHOD,
            "readout": readout.fingerprint,
            "channel": channel,
            "tokens": TOKENS,
            "model": identity,
        },
        ["split", "capture"],
        NEURONS,
        ["layer", "index"],
        title="describe neurons",
        batches=[None],
        rows=len(components),
        work=work,
        summarise=summary,
    )


def single_components(ws: Workspace, readout: Readout, channel: str) -> list[Row]:
    """What each component's feature says alone on the test items, in the readout's order."""
    test = ws.rows("split").filter(pl.col("role") == "test").sort("item_id")
    if test.is_empty():
        raise NotEnoughDataError("the split has no test items: split again with a larger test share")
    selected = readout.select(features(open_store(ws), channel, test["item_id"].to_list()))
    wrong = (test["label"] == "wrong").to_numpy()
    groups = test["group"].to_list()
    rows: list[Row] = []
    for values in selected.T:
        area = auroc(values, wrong, clusters=groups, cluster_unit="group")
        rows.append(
            {
                "auroc": area.value,
                "auroc_low": area.low,
                "auroc_high": area.high,
                "auroc_note": area.note,
                "n": area.n,
                "clusters": area.clusters,
                "feature_right": _mean(values[~wrong]),
                "feature_wrong": _mean(values[wrong]),
            }
        )
    return rows


def summary(rows: pl.DataFrame) -> dict[str, Any]:
    """Counts of components by sign and layer, and how the single AUROCs were made."""
    positive = rows.filter(pl.col("weight") > 0)
    layers = Counter(positive["layer"].to_list())
    return {
        "components": len(rows),
        "positive": len(positive),
        "positive_per_layer": {str(layer): layers[layer] for layer in sorted(layers)},
        "layers_with_positive": len(layers),
        "auroc": {"unit": "AUROC", "level": 0.95, "method": "obuchowski_logit", "cluster_unit": "group"},
        "tokens": "logits per unit of positive activation through the final norm's gain and the unembedding",
    }


def ranked(rows: pl.DataFrame) -> list[Row]:
    """Rows as plain data, largest weight first; equal weights in layer order."""
    return rows.sort([-pl.col("weight"), "layer", "index"]).to_dicts()


def as_csv(rows: list[Row], tokens: int) -> str:
    """The rows as CSV with a header; token lists as one quoted field of the first `tokens` tokens."""
    from levercheck.readouts.unembed import quoted

    buffer = io.StringIO()
    names = [name for name in NEURONS if not name.endswith("_effects")]
    writer = csv.DictWriter(buffer, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, **{side: quoted(row[side][:tokens]) for side in ("promoted", "suppressed")}})
    return buffer.getvalue()


def _mean(values: np.ndarray[Any, Any]) -> float | None:
    return float(values.mean()) if len(values) else None


def check_same(ws: Workspace, lm: LanguageModel, readout: Readout) -> None:
    """Refuse a model that was not captured, or has another shape than the readout.

    Captures of other programs may name no model; then only the shape can be compared.
    """
    recorded = ws.settings("capture").get("model")
    if recorded is not None:
        check_same_model(recorded, lm.identity, "the activations")
    if readout.shape != lm.shape:
        raise UsageError(
            f"the readout has shape {readout.shape}, the model {lm.shape}: load the model it was fitted on"
        )
