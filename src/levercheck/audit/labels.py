"""Consistency labels: what a model's repeated answers to one question say about it (Gao et al., arXiv 2512.01797)."""

from __future__ import annotations

import polars as pl


def consistency(answers: pl.DataFrame) -> pl.DataFrame:
    """One row per item from the ANSWERS rows of all its samples, sorted by item id.

    `label` is right (all samples correct), wrong (none) or mixed. `text`, `tokens`, `mean_logprob` are those of the
    representative answer: the most frequent text, the first seen among equals. `agreement` is its share of the samples.
    `usable` is False for mixed items and for an empty representative answer, which has no tokens to read.
    """
    ordered = answers.sort("item_id", "sample")
    texts = representative(ordered.drop("correct"))
    counts = ordered.group_by("item_id").agg(pl.len().alias("samples"), pl.col("correct").sum().alias("right"))
    label = (
        pl.when(pl.col("right") == pl.col("samples"))
        .then(pl.lit("right"))
        .when(pl.col("right") == 0)
        .then(pl.lit("wrong"))
        .otherwise(pl.lit("mixed"))
    )
    return (
        texts.join(counts, on="item_id", validate="1:1")
        .with_columns(
            label.alias("label"),
            (pl.col("votes") / pl.col("samples")).alias("agreement"),
            pl.col("tokens").list.len().cast(pl.Int64).alias("length"),
        )
        .with_columns(((pl.col("label") != "mixed") & (pl.col("length") > 0)).alias("usable"))
        .select(
            "item_id",
            "category",
            "entity",
            "role",
            "label",
            "usable",
            "text",
            "tokens",
            "length",
            "mean_logprob",
            "first_logprob",
            "agreement",
            "right",
            "samples",
        )
        .sort("item_id")
    )


def representative(answers: pl.DataFrame) -> pl.DataFrame:
    """Each item's most frequent `text` with its `votes`, the first sample's among equals; other columns are its own."""
    return (
        answers.sort("item_id", "sample")
        .group_by("item_id", "text", maintain_order=True)
        .agg(pl.len().alias("votes"), pl.all().exclude("text").first())
        .sort("item_id", "votes", "sample", descending=[False, True, False])
        .group_by("item_id", maintain_order=True)
        .first()
    )


def judged_labels(samples: pl.DataFrame, expected: int) -> pl.DataFrame:
    """One row per item from its SAMPLES rows, sorted by item id.

    `label` is right (every sample judged true), wrong (every one false), mixed (both), uncertain (a sample gave no
    answer), error (a sample could not be judged) or incomplete (not `expected` samples); the later ones win. The other
    columns are those of the representative answer, with `agreement`, its share of the samples, and `right`, the number
    judged true.
    """
    verdict = pl.col("verdict")
    counts = samples.group_by("item_id").agg(
        pl.len().alias("samples"),
        (verdict == "true").sum().cast(pl.Int64).alias("right"),
        (verdict == "uncertain").sum().alias("uncertain"),
        ((verdict == "error") | verdict.is_null()).sum().alias("errors"),
    )
    label = (
        pl.when(pl.col("samples") != expected)
        .then(pl.lit("incomplete"))
        .when(pl.col("errors") > 0)
        .then(pl.lit("error"))
        .when(pl.col("uncertain") > 0)
        .then(pl.lit("uncertain"))
        .when(pl.col("right") == pl.col("samples"))
        .then(pl.lit("right"))
        .when(pl.col("right") == 0)
        .then(pl.lit("wrong"))
        .otherwise(pl.lit("mixed"))
    )
    return (
        representative(samples)
        .join(counts, on="item_id", validate="1:1")
        .with_columns(label.alias("label"), (pl.col("votes") / pl.col("samples")).alias("agreement"))
        .drop("votes", "sample", "uncertain", "errors")
        .sort("item_id")
    )
