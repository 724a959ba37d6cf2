"""Stage 6: the confounds of a readout laid open, on the test role, clusters = the split's groups.

Needs no model: it reads the rows of the stages before it, refits the probe on the store (`refits`, `components`) and
derives everything else from rows, under `probes/<name>/audit`.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from levercheck.audit.baselines import CLUSTER, ITEMS, baselines, matched, shown, unseen_answers, wrong_of
from levercheck.audit.classification import classification, confusion
from levercheck.audit.heaviest import RULES, heaviest, ranked
from levercheck.audit.incremental import incremental
from levercheck.audit.refitted import left_out_categories, selectivity, without_component
from levercheck.audit.selection import selection
from levercheck.audit.stability import path_stability, positive, refit_stability
from levercheck.detect.components import components
from levercheck.detect.probe import Items, ProbeSpec, Training, checked_name
from levercheck.detect.refits import MIN_PER_CLASS, Refitter, refit
from levercheck.detect.stored import open_store
from levercheck.detect.transferred import transferred
from levercheck.detect.workspace import Workspace
from levercheck.errors import UsageError

METHOD = "detector-audit/v2"


def audit_readout(
    ws: Workspace, name: str = "default", *, refits: int = 50, seed: int = 0, transfer: Workspace | None = None
) -> dict[str, Any]:
    """Audit a finished probe; returns what stands in its `results.json`.

    `refits` bootstraps are drawn for stability (0: none). With `transfer`, the test items that another workspace has
    captured are scored too; that is a unit of its own, and its results are returned under `transferred`. An interrupted
    audit continues; a finished one is read. Raises MissingError without the probe, UsageError for an imported probe,
    for other settings than an earlier audit's, or for a workspace of another model.
    """
    if refits < 0 or seed < 0:
        raise UsageError(f"refits = {refits} and seed = {seed}: neither can be negative")
    folder = f"probes/{checked_name(name)}"
    found, settings = ws.results(folder), ws.settings(folder)
    if "imported" in settings:
        raise UsageError(
            f"probe '{name}' was not fitted here, so that it cannot be refitted: audit-readout needs a probe made by "
            "'levercheck probe'"
        )
    spec = ProbeSpec(**settings)
    c = float(found["c"])
    path = ws.rows(f"{folder}/path")
    rows = item_rows(ws, folder, c)
    store = open_store(ws)
    training = Training(store, spec)
    split = ws.rows("split")
    parts = {role: split.filter(pl.col("role") == role).sort("item_id") for role in ("train", "test")}
    train, test = (Items.of(parts[role], store) for role in ("train", "test"))
    selected = ranked(path, c)
    refitter = Refitter(
        training,
        train,
        test,
        train_categories=tuple(parts["train"]["category"].to_list()),
        test_categories=tuple(parts["test"]["category"].to_list()),
        train_answers=tuple(parts["train"]["answer"].fill_null("").to_list()),
        test_answers=tuple(parts["test"]["answer"].fill_null("").to_list()),
        c=c,
        seed=seed,
        heaviest=selected[0][0] if selected else None,
    )
    refitted = refit(ws, name, refitter, refits)
    single = components(ws, name, training, train, test, path, c)
    spans = ws.rows("spans")
    total = store.array.shape[2] * store.array.shape[3]
    in_sample = found["train"]["auroc"]
    units = ["questions", "spans", "split", folder, f"{folder}/path", f"{folder}/refits", f"{folder}/components"]
    ws.compute(
        f"{folder}/audit",
        {"method": METHOD, "refits": refits, "seed": seed},
        units,
        ITEMS,
        ["role", "item_id"],
        title=f"audit probe {name}",
        batches=[None],
        rows=len(rows),
        work=lambda _: rows.to_dicts(),
        summarise=lambda items: results(items, path, refitted, single, spans, split, c, total, in_sample, seed),
    )
    written = ws.results(f"{folder}/audit")
    if transfer is not None:
        written["transferred"] = transferred(ws, name, spec.channel(), transfer, seed)
    return written


LENGTH_CHECK = "moved more by truth than by length"


def with_length(found: dict[str, Any], verbosity: dict[str, Any]) -> dict[str, Any]:
    """Audit results with the designed comparison of length and truth as one more check (mean over the response).

    Shown when truth moves the score more than length does and in the right direction: false answers score more "wrong".
    """
    score = verbosity["effects"].get("mean", {}).get("score", {})
    dominance = score.get("dominance", {"absent": "the score's effects are not estimable"})
    turned = dict(dominance)
    for name, other in (("value", "value"), ("low", "high"), ("high", "low")):
        if dominance.get(other) is not None:
            turned[name] = -dominance[other]
    word = shown(turned, 0.0)
    if word == "shown" and shown(score["truth"], 0.0) != "shown":
        word = "not shown"
        turned["note"] = "truth moves the score, but false answers do not clearly score more wrong than true ones"
    return {**found, "truth_over_length": turned, "checks": {**found["checks"], LENGTH_CHECK: word}}


def repeated(ws: Workspace, name: str) -> dict[str, Any]:
    """The results of a finished audit, made again from the rows of its units."""
    folder = f"probes/{name}"
    found, layers = ws.results(folder), ws.settings("capture")["shape"]
    return results(
        ws.rows(f"{folder}/audit"),
        ws.rows(f"{folder}/path"),
        ws.rows(f"{folder}/refits"),
        ws.rows(f"{folder}/components"),
        ws.rows("spans"),
        ws.rows("split"),
        float(found["c"]),
        int(layers[0]) * int(layers[1]),
        found["train"]["auroc"],
        int(ws.settings(f"{folder}/audit")["seed"]),
    )


def item_rows(ws: Workspace, folder: str, c: float) -> pl.DataFrame:
    """ITEMS rows of a probe at its chosen C."""
    scores = ws.rows(folder).filter((pl.col("purpose") == "test") | ((pl.col("purpose") == "cv") & (pl.col("c") == c)))
    spans = ws.rows("spans").select(
        "item_id",
        "mean_logprob",
        "agreement",
        (pl.col("stop") - pl.col("start")).alias("answer_tokens"),
        pl.col("tokens").list.len().cast(pl.Int64).alias("response_tokens"),
    )
    questions = ws.rows("questions").select(
        "item_id", pl.col("question").str.len_chars().cast(pl.Int64).alias("question_characters")
    )
    rows = (
        ws.rows("split")
        .filter(pl.col("role").is_in(["train", "test"]))
        .join(scores.select("item_id", "score"), on="item_id", validate="1:1")
        .join(spans, on="item_id", how="left", validate="1:1")
        .join(questions, on="item_id", how="left", validate="1:1")
    )
    return rows.select(ITEMS.keys()).sort("role", "item_id")


def results(
    items: pl.DataFrame,
    path: pl.DataFrame,
    refits: pl.DataFrame,
    components: pl.DataFrame,
    spans: pl.DataFrame,
    split: pl.DataFrame,
    c: float,
    total: int,
    in_sample: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """All audits of a readout from rows: ITEMS, PATH, REFITS, COMPONENTS, SPANS and SPLIT.

    `total`: components of the model; `in_sample`: the probe's AUROC on its own training items.
    """
    test = items.filter(pl.col("role") == "test")
    score, wrong = test["score"].to_numpy(), wrong_of(test)
    detector = classification(score, wrong, test["group"].to_numpy(), cluster_unit=CLUSTER, seed=seed)
    readout = positive(path.filter((pl.col("c") == c) & pl.col("layer").is_not_null()))
    table = heaviest(path, c, refits, components, items)
    top = {**table[0], "without": without_component(refits, items)} if table else {"absent": "no positive weight"}
    found: dict[str, Any] = {
        "c": c,
        "cluster_unit": CLUSTER,
        "detector": {k: e.to_dict() for k, e in detector.items()} | {"confusion": confusion(score, wrong)},
        "baselines": baselines(items),
        "matched": matched(items, seed),
        "incremental": incremental(items),
        "selectivity": selectivity(refits, items, in_sample, seed),
        "transfer": {
            "answers": unseen_answers(items),
            "categories": left_out_categories(refits, items, MIN_PER_CLASS),
        },
        "stability": {
            "components": total,
            "path": path_stability(path, c),
            "bootstrap": refit_stability(refits, "bootstrap", items, readout, total, seed),
            "half": refit_stability(refits, "half", items, readout, total, seed),
        },
        "top_component": top,
        "components": {"rules": RULES, "heaviest": table},
        "selection": selection(spans, split, items, seed),
    }
    found["not_applicable"] = not_applicable(found)
    return {**found, "checks": checks(found)}


def not_applicable(found: dict[str, Any]) -> dict[str, str]:
    """The checks that could not fail on these items, each with the reason."""
    new = "every test answer is new: no training item has it"
    reasons = {}
    if found["transfer"]["answers"]["disjoint"]:
        reasons["detects on unseen answers"] = new
    if not found["selectivity"]["seen_answers"]:
        reasons["selective"] = f"{new}, so that no control task can be learnt"
    for name, entry in found["baselines"].items():
        if entry.get("constant"):
            unseen = name == "answer_prior" and found["transfer"]["answers"]["disjoint"]
            reasons[f"beats {name}"] = new if unseen else "the baseline is the same for every test item"
    return reasons


def checks(found: dict[str, Any]) -> dict[str, str]:
    """What the audits show in one word each: "shown" when the whole interval lies above chance (or above zero)."""
    words = {
        "detects": shown(found["detector"]["auroc"], 0.5),
        "detects at equal confidence": shown(found["matched"]["confidence"], 0.5),
        "detects at equal answer length": shown(found["matched"]["answer_tokens"], 0.5),
        "detects at equal response length": shown(found["matched"]["response_tokens"], 0.5),
        "detects within categories": shown(found["matched"]["category"], 0.5),
        "detects on unseen answers": shown(found["transfer"]["answers"]["unseen"], 0.5),
        "adds to all baselines": shown(found["incremental"].get("log_loss_gain", {}), 0.0),
        "selective": shown(found["selectivity"].get("selectivity", {}), 0.0),
    }
    for name, entry in found["baselines"].items():
        words[f"beats {name}"] = shown(entry.get("probe_minus_baseline", entry), 0.0)
    words["heaviest component"] = found["top_component"].get("verdict", "not estimable")
    return words | dict.fromkeys(found["not_applicable"], "not applicable")
