"""What became of the questions: results of the collect and spans stages, from their rows."""

from __future__ import annotations

from typing import Any

import polars as pl

from levercheck.audit.labels import judged_labels
from levercheck.errors import NotEnoughDataError
from levercheck.stats import Estimate, mean, proportion


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
    by_item = samples.group_by("item_id", maintain_order=True).agg(
        (~pl.col("stopped")).mean().alias("cut"), (pl.col("match") == "substring").mean().alias("substring")
    )
    extra: dict[str, Estimate] = {
        "distinct_answers": mean(distinct, unit="answers per question"),
        "cut_by_token_cap": mean(by_item["cut"].to_numpy().astype(float), unit="share of samples"),
        "substring_only_matches": mean(by_item["substring"].fill_null(0.0).to_numpy(), unit="share of samples"),
    }
    return {"questions": n, "labels": _dict(shares), "answers": _dict(extra)}


def _dict(estimates: dict[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_dict() for name, estimate in estimates.items()}


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
