"""What became of the questions: results of the collect and spans stages, from their rows."""

from __future__ import annotations

from typing import Any

import polars as pl

from levercheck.audit.labels import judged_labels
from levercheck.detect.workspace import Workspace
from levercheck.errors import NotEnoughDataError
from levercheck.evidence.provenance import SIDECAR
from levercheck.stats import Estimate, cohen_kappa, mean, proportion


def judged_samples(ws: Workspace) -> pl.DataFrame:
    """SAMPLES rows with the verdicts that count: a language-model judge's where there is one, else the ruler's.

    A judge that was started and not finished is a MissingError: half its verdicts would be nobody's.
    """
    samples = ws.rows("answers")
    if "verdicts" not in label_sources(ws):
        return samples
    judged = ws.rows("verdicts").select("item_id", "text", "verdict")
    return samples.drop("verdict").join(judged, on=["item_id", "text"], how="left", validate="m:1")


def label_sources(ws: Workspace) -> list[str]:
    """Units that labels come from."""
    begun = (ws.root / "verdicts" / SIDECAR).is_file()
    return ["questions", "answers", *(["verdicts"] if begun else [])]


def funnel(samples: pl.DataFrame, expected: int) -> dict[str, Any]:
    """What became of the questions: shares of every label, of cut answers and of substring-only matches."""
    if samples.is_empty():
        raise NotEnoughDataError("no question was answered: give a source with usable questions")
    labels = judged_labels(samples, expected)
    n = len(labels)
    shares = {
        label: proportion(int((labels["label"] == label).sum()), n)
        for label in ("right", "wrong", "mixed", "uncertain", "error", "incomplete")
    }
    distinct = samples.group_by("item_id").agg(pl.col("text").n_unique())["text"].to_numpy().astype(float)
    extra: dict[str, Estimate] = {"distinct_answers": mean(distinct, unit="answers per question")}
    for name, event in (
        ("cut_by_token_cap", ~pl.col("stopped")),
        ("substring_only_matches", pl.col("match") == "substring"),
    ):
        shares_of_items = samples.group_by("item_id", maintain_order=True).agg(event.mean().alias("share"))["share"]
        if shares_of_items.null_count() == 0:  # other programs record neither
            extra[name] = mean(shares_of_items.to_numpy().astype(float), unit="share of samples")
    return {"questions": n, "labels": _dict(shares), "answers": _dict(extra)}


def _dict(estimates: dict[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_dict() for name, estimate in estimates.items()}


def span_results(rows: pl.DataFrame, samples: pl.DataFrame, expected: int) -> dict[str, Any]:
    """Results of the spans stage: how spans were found, and the labels that counted."""
    return {**span_summary(rows), "labels": funnel(samples, expected)}


def span_summary(rows: pl.DataFrame) -> dict[str, Any]:
    """Shares of spans found, and of every method, per label: a difference would let the method tell the label."""
    found: dict[str, Any] = {}
    for label in ("right", "wrong"):
        part = rows.filter(pl.col("label") == label)
        counts = {"found": int(part["reason"].is_null().sum())}
        counts |= {method: int((part["method"] == method).sum()) for method in ("whole", "extracted", "alias")}
        found[label] = {name: proportion(k, len(part)).to_dict() for name, k in counts.items()}
    reasons = rows.filter(pl.col("reason").is_not_null()).group_by("reason").len().sort("reason")
    return {"per_label": found, "reasons": dict(reasons.rows())}


def agreement(verdicts: pl.DataFrame, samples: pl.DataFrame) -> dict[str, Any]:
    """How far the judge's verdicts agree with the ruler's, over distinct answers: Cohen's kappa and a table."""
    ruled = samples.group_by("item_id", "text").agg(pl.col("verdict").first().alias("ruler_verdict"))
    both = verdicts.join(ruled, on=["item_id", "text"], validate="1:1")
    table = both.group_by("verdict", "ruler_verdict").len().sort("verdict", "ruler_verdict")
    first, second = both["verdict"].to_list(), both["ruler_verdict"].to_list()
    kappa = cohen_kappa(first, second, clusters=both["item_id"].to_list(), cluster_unit="question")
    return {
        "distinct_answers": len(both),
        "kappa_with_ruler": kappa.to_dict(),
        "table": [{"judge": j, "ruler": r, "answers": n} for j, r, n in table.rows()],
    }
