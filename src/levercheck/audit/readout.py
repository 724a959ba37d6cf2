"""Localization: does the readout predict the label on entities it has not seen, beyond what comes for free?"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.choice import choose_c, fold_aurocs
from levercheck.audit.spec import AuditSpec
from levercheck.audit.tables import Floats
from levercheck.stats import Estimate, auroc, auroc_difference, matched_auroc, proportion, within_auroc

UNIT = "AUROC"


def label_estimates(labels: pl.DataFrame) -> dict[str, Estimate]:
    """How the questions were answered, as shares of questions."""
    n = len(labels)
    found = {
        f"labels.{label}": proportion(int((labels["label"] == label).sum()), n) for label in ("right", "wrong", "mixed")
    }
    wrong = labels.filter(pl.col("label") == "wrong")
    found["labels.wrong_agreeing"] = proportion(int((wrong["agreement"] >= 0.8).sum()), len(wrong))
    right = labels.filter(pl.col("label") == "right")
    found["labels.right_agreeing"] = proportion(int((right["agreement"] >= 0.8).sum()), len(right))
    return found


def probe_estimates(train: pl.DataFrame, test: pl.DataFrame, spec: AuditSpec) -> dict[str, Estimate]:
    """AUROC on the test items of the probe (`score` column) and of everything that needs no probe."""
    y = (test["label"] == "wrong").to_numpy()
    entity = test["entity"].to_numpy()
    score = test["score"].to_numpy()
    confidence = test["mean_logprob"].to_numpy()
    rivals = {
        "neg_logprob": -confidence,
        "length": test["length"].cast(pl.Float64).to_numpy(),
        "category_prior": _prior(train, test, "category"),
        "answer_prior": _prior(train, test, "text"),
        "disagreement": -test["agreement"].to_numpy(),
    }

    def matched(values: Floats) -> Estimate:
        return matched_auroc(
            values,
            y,
            confidence,
            spec.caliper,
            clusters=entity,
            seed=spec.seed,
            level=spec.level,
            cluster_unit="entity",
        )

    def area(values: Floats) -> Estimate:
        return auroc(values, y, clusters=entity, level=spec.level, cluster_unit="entity")

    found = {"probe.auroc": area(score), "probe.auroc.matched": matched(score)}
    found["probe.auroc.within_category"] = within_auroc(
        score, y, test["category"].to_numpy(), clusters=entity, seed=spec.seed, level=spec.level, cluster_unit="entity"
    )
    for name, values in rivals.items():
        found[f"baseline.{name}.auroc"] = area(values)
    found["baseline.neg_logprob.auroc.matched"] = matched(rivals["neg_logprob"])
    found["probe.minus_neg_logprob"] = auroc_difference(
        score, rivals["neg_logprob"], y, clusters=entity, level=spec.level, cluster_unit="entity"
    )
    correct = int(((score > 0) == y).sum())
    found["probe.accuracy"] = proportion(correct, len(y), level=spec.level)
    return found


def _prior(train: pl.DataFrame, test: pl.DataFrame, column: str) -> Floats:
    """Smoothed log-odds of "wrong" given the column's value, learnt on the training items."""
    overall = float((train["label"] == "wrong").mean())  # type: ignore[arg-type]
    table = train.group_by(column).agg((((pl.col("label") == "wrong").sum() + 2 * overall) / (pl.len() + 2)).alias("p"))
    p = test.select(column).join(table, on=column, how="left", maintain_order="left")["p"].fill_null(overall).to_numpy()
    odds: Floats = np.log(p / (1 - p))
    return odds


def choice(scores: pl.DataFrame, readout: pl.DataFrame, train: pl.DataFrame) -> dict[str, Any]:
    """Repeat the choice of C from the out-of-fold rows and describe the probe."""
    cv = scores.filter(pl.col("purpose") == "cv").join(train.select("item_id", "label"), on="item_id")
    cs = sorted(cv["c"].unique().to_list())
    by_c = [cv.filter(pl.col("c") == c).sort("item_id") for c in cs]
    y = (by_c[0]["label"] == "wrong").to_numpy()
    folds = by_c[0]["fold"].to_numpy()
    areas = fold_aurocs(np.stack([f["score"].to_numpy() for f in by_c]), y, folds)
    weights = readout.filter(pl.col("layer").is_not_null())
    positive = weights.filter(pl.col("weight") > 0)
    layers = positive.group_by("layer").len().sort("layer")
    return {
        "c": choose_c(cs, areas),
        "c_used": float(readout["c"][0]),
        "c_grid": [
            {"c": c, "mean_fold_auroc": float(row.mean()), "folds": len(row), "sd": float(row.std(ddof=1))}
            for c, row in zip(cs, areas, strict=True)
        ],
        "train_items": len(y),
        "train_wrong": int(y.sum()),
        "nonzero": len(weights),
        "h_neurons": len(positive),
        "layers": {str(layer): count for layer, count in layers.rows()},
    }
