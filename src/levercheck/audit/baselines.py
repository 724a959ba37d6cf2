"""Everything that predicts a wrong answer without a probe, beside the probe on the same test items.

A baseline that an item lacks (an endpoint without log-probabilities) is not filled in: it is judged on the items that
have it, or it is absent with a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.classification import Bools, Floats
from levercheck.evidence.schema import Columns
from levercheck.stats import Estimate, auroc, auroc_difference, matched_auroc, within_auroc

ITEMS: Columns = {
    "item_id": pl.String,
    "role": pl.String,  # train or test
    "label": pl.String,  # right or wrong
    "group": pl.String,
    "category": pl.String,
    "answer": pl.String,
    "fold": pl.Int64,
    "score": pl.Float64,  # log-odds of "wrong": out-of-fold for training items, of the final probe for test items
    "mean_logprob": pl.Float64,
    "agreement": pl.Float64,
    "answer_tokens": pl.Int64,
    "response_tokens": pl.Int64,
    "question_characters": pl.Int64,
}
"""One row per item of the train and test roles: all that the audits of a detector read."""

CALIPER = 0.1
"""Nats per token: answers whose mean log-probabilities differ by at most this are equally confident."""

PRIOR_WEIGHT = 2.0
"""Items' worth of the overall share in a smoothed prior."""

CLUSTER = "group"
LENGTHS = ("answer_tokens", "response_tokens", "question_characters")
BASELINES = {
    "neg_logprob": "minus the mean log-probability of the response's tokens (nats)",
    "disagreement": "share of the samples that gave another response",
    "answer_tokens": "length of the answer in tokens",
    "response_tokens": "length of the response in tokens",
    "question_characters": "length of the question in characters",
    "category_prior": "log-odds of wrong in the category, from training items",
    "answer_prior": "log-odds of wrong for the answer string, from training items",
}


def surface(items: pl.DataFrame) -> pl.DataFrame:
    """Every baseline of every ITEMS row, in their order, larger meaning "wrong"; null where an item lacks it.

    Lengths point the way they point on the training items. Priors of a training item are learnt on the other folds.
    """
    train = items.filter(pl.col("role") == "train")
    found = items.select(
        "item_id",
        (-pl.col("mean_logprob")).alias("neg_logprob"),
        (1 - pl.col("agreement")).alias("disagreement"),
        *(pl.col(name).cast(pl.Float64) * _direction(train, name) for name in LENGTHS),
    )
    return found.with_columns(
        pl.Series("category_prior", _prior(items, "category"), dtype=pl.Float64),
        pl.Series("answer_prior", _prior(items, "answer"), dtype=pl.Float64),
    )


def baselines(items: pl.DataFrame) -> dict[str, Any]:
    """Per baseline its test AUROC and the paired difference "probe minus baseline", from ITEMS rows."""
    test = items.filter(pl.col("role") == "test")
    train = items.filter(pl.col("role") == "train")
    columns = surface(items).filter(items["role"] == "test")
    found: dict[str, Any] = {}
    for name, description in BASELINES.items():
        have = columns[name].is_not_null()
        if not have.any():
            found[name] = {"description": description, "absent": f"no test item has {_source(name)}"}
            continue
        part, values = test.filter(have), columns[name].drop_nulls().to_numpy()
        wrong, groups = wrong_of(part), part["group"].to_numpy()
        found[name] = {
            "description": description,
            "missing": int((~have).sum()),
            "constant": len(np.unique(values)) < 2,  # it cannot rank these items, so that beating it says nothing
            "auroc": auroc(values, wrong, clusters=groups, cluster_unit=CLUSTER).to_dict(),
            "probe_minus_baseline": auroc_difference(
                part["score"].to_numpy(), values, wrong, clusters=groups, cluster_unit=CLUSTER
            ).to_dict(),
        }
        if name in LENGTHS:
            found[name]["wrong_when"] = "longer" if _direction(train, name) > 0 else "shorter"
    return found


def matched(items: pl.DataFrame, seed: int = 0) -> dict[str, Any]:
    """AUROC over pairs of a wrong and a right test answer that are equal in confidence, category or length.

    `neg_logprob` at equal confidence is the check: it should be near 0.5, or the caliper is too wide.
    """
    test = items.filter(pl.col("role") == "test")
    found: dict[str, Any] = {
        "caliper": CALIPER,
        "confidence": _pairs(test, "mean_logprob", CALIPER, seed),
        "confidence_check": _pairs(
            test, "mean_logprob", CALIPER, seed, lambda frame: -frame["mean_logprob"].to_numpy()
        ),
        "answer_tokens": _pairs(test, "answer_tokens", 0, seed),
        "response_tokens": _pairs(test, "response_tokens", 0, seed),
    }
    part = test.filter(pl.col("category").is_not_null())
    if part.is_empty():
        found["category"] = {"absent": "no test item has a category"}
    else:
        found["category"] = within_auroc(
            part["score"].to_numpy(),
            wrong_of(part),
            part["category"].to_numpy(),
            clusters=part["group"].to_numpy(),
            seed=seed,
            cluster_unit=CLUSTER,
        ).to_dict()
    return found


def unseen_answers(items: pl.DataFrame) -> dict[str, Any]:
    """The probe on test items whose stated answer no training item has, and on the others."""
    test = items.filter(pl.col("role") == "test")
    known = set(items.filter(pl.col("role") == "train")["answer"].drop_nulls().to_list())
    seen = test["answer"].is_in(list(known)).fill_null(False)
    return {
        "disjoint": not seen.any(),  # the split kept answers apart: every test item is unseen
        "unseen": area(test.filter(~seen)).to_dict(),
        "seen": area(test.filter(seen)).to_dict(),
    }


def area(part: pl.DataFrame, values: Floats | None = None) -> Estimate:
    """AUROC of `values` (default: the probe's scores) on ITEMS rows, clusters by group."""
    scores = part["score"].to_numpy() if values is None else values
    return auroc(scores, wrong_of(part), clusters=part["group"].to_numpy(), cluster_unit=CLUSTER)


def wrong_of(part: pl.DataFrame) -> Bools:
    """True where the label is wrong, bool [items]."""
    wrong: Bools = (part["label"] == "wrong").to_numpy()
    return wrong


def shown(estimate: dict[str, Any], reference: float) -> str:
    """Whether an interval lies above the reference: shown, not shown, or not estimable."""
    if "absent" in estimate or estimate.get("low") is None:
        return "not estimable"
    return "shown" if estimate["low"] > reference else "not shown"


def _pairs(
    test: pl.DataFrame,
    column: str,
    caliper: float,
    seed: int,
    values: Callable[[pl.DataFrame], Floats] = lambda frame: frame["score"].to_numpy(),
) -> dict[str, Any]:
    part = test.filter(pl.col(column).is_not_null())
    if part.is_empty():
        return {"absent": f"no test item has {column}"}
    return matched_auroc(
        values(part),
        wrong_of(part),
        part[column].cast(pl.Float64).to_numpy(),
        caliper,
        clusters=part["group"].to_numpy(),
        seed=seed,
        cluster_unit=CLUSTER,
    ).to_dict()


def _direction(train: pl.DataFrame, column: str) -> int:
    """1 when larger values go with "wrong" on the training items, -1 when smaller ones do."""
    part = train.filter(pl.col(column).is_not_null())
    value = auroc(part[column].cast(pl.Float64).to_numpy(), wrong_of(part)).value
    return -1 if value is not None and value < 0.5 else 1


def _prior(items: pl.DataFrame, column: str) -> list[float | None]:
    """Smoothed log-odds of "wrong" given the column's value, learnt on training items of other folds."""
    train = items.filter(pl.col("role") == "train")
    share = float(np.clip(wrong_of(train).mean(), 1e-3, 1 - 1e-3)) if len(train) else 0.5
    rows = train.select(column, "fold", "label").rows()
    count = Counter(value for value, _, _ in rows)
    wrong = Counter(value for value, _, label in rows if label == "wrong")
    own = Counter((value, fold) for value, fold, _ in rows)
    own_wrong = Counter((value, fold) for value, fold, label in rows if label == "wrong")
    found: list[float | None] = []
    for value, fold, role in items.select(column, "fold", "role").rows():
        if value is None:
            found.append(None)
            continue
        n, k = count[value], wrong[value]
        if role == "train":
            n, k = n - own[value, fold], k - own_wrong[value, fold]
        p = (k + PRIOR_WEIGHT * share) / (n + PRIOR_WEIGHT)
        found.append(float(np.log(p / (1 - p))))
    return found


def _source(name: str) -> str:
    return {
        "neg_logprob": "log-probabilities",
        "disagreement": "an agreement of samples",
        "category_prior": "a category",
        "answer_prior": "a stated answer",
    }.get(name, name)
