"""Roles that id files give: checked for overlap, with groups and folds as the split of a workspace has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.benchmarks.answers import normalise
from levercheck.detect.duplicates import components, near_duplicates
from levercheck.detect.split import SplitSpec, leakage
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence.splits import folds_by_entity
from levercheck.evidence.unit import Row
from levercheck.interop.h_neurons_formats import Ids, read_ids

NEAR_DUPLICATE = 0.8
NO_ROLE = "in neither id file"

_ITEMS = {
    "item_id": pl.String,
    "label": pl.String,
    "role": pl.String,  # null: in neither file
    "answer": pl.String,
    "question": pl.String,
    "gold": pl.String,
    "category": pl.String,
    "entity": pl.String,
    "has_span": pl.Boolean,
}


@dataclass(frozen=True)
class Roles:
    """Items of the train and of the test role."""

    train: Ids
    test: Ids

    @classmethod
    def read(cls, train: Path | None, test: Path | None) -> Roles:
        """Both files; an id that stands in both is a UsageError."""
        found = cls(read_ids(train) if train else Ids(), read_ids(test) if test else Ids())
        shared = sorted(found.train.labels.keys() & found.test.labels.keys())
        if shared and train and test:
            raise UsageError(
                f"{len(shared)} ids stand in both {train.name} and {test.name} (first '{shared[0]}'), expected none: a "
                "test on training items says nothing; remove them from one of the files"
            )
        if not found.label_of:
            raise UsageError("the id files name no item: give those that do")
        return found

    @property
    def label_of(self) -> dict[str, str]:
        """Label of every item of either role."""
        return self.train.labels | self.test.labels

    def check_missing(self, missing: Mapping[str, Sequence[str]], limit: float) -> dict[str, int]:
        """Items without activations per role; more than `limit` of a role is a UsageError."""
        lost: dict[str, int] = {}
        for role, ids in (("train", self.train), ("test", self.test)):
            absent = [qid for qid in ids.labels if qid in missing]
            lost[role] = len(absent)
            if len(absent) > limit * len(ids.labels):
                where = sorted({name for qid in absent for name in missing[qid]})
                raise UsageError(
                    f"{len(absent)} of {len(ids.labels)} {role} items have no activations of {', '.join(where)} (first "
                    f"'{absent[0]}'), expected at most {limit:.0%}: extract them, add their folder with another "
                    "--activations, leave a location out with --locations, or raise --max-missing"
                )
        return lost

    def items(self, questions: pl.DataFrame | None, spans: pl.DataFrame | None) -> pl.DataFrame:
        """What is known of every item of either role, and of items with a span that have none."""
        asked = {r["item_id"]: r for r in questions.iter_rows(named=True)} if questions is not None else {}
        found = spans.filter(pl.col("reason").is_null()).iter_rows(named=True) if spans is not None else ()
        spanned = {r["item_id"]: r for r in found}
        role = dict.fromkeys(self.train.labels, "train") | dict.fromkeys(self.test.labels, "test")
        label = {qid: r["label"] for qid, r in spanned.items()} | self.label_of
        rows = []
        for qid in sorted(label):
            about, span = asked.get(qid, {}), spanned.get(qid, {})
            golds = sorted(filter(None, (normalise(a) for a in about.get("aliases") or [])))
            rows.append(
                {
                    "item_id": qid,
                    "label": label[qid],
                    "role": role.get(qid),
                    "answer": span.get("answer"),
                    "question": about.get("question"),
                    "gold": golds[0] if golds else None,
                    "category": about.get("category"),
                    "entity": about.get("entity"),
                    "has_span": qid in spanned,
                }
            )
        return pl.DataFrame(rows, schema=_ITEMS)


def assign(items: pl.DataFrame, reasons: Mapping[str, str], *, folds: int, seed: int) -> list[Row]:
    """SPLIT rows: the files' roles, or reserve with a reason; folds keep groups together."""
    group = dict(zip(items["item_id"], _groups(items), strict=True))
    rows: list[Row] = []
    for item in items.iter_rows(named=True):
        reason = NO_ROLE if item["role"] is None else reasons.get(item["item_id"])
        kept = {name: item[name] for name in ("item_id", "label", "category", "answer", "role")}
        rows.append(kept | {"group": group[item["item_id"]], "fold": None, "reason": reason})
    for role in ("train", "test"):
        given = [row for row in rows if row["role"] == role]
        left = {row["label"] for row in given if row["reason"] is None}
        if given and left != {"right", "wrong"}:
            raise NotEnoughDataError(
                f"the {role} role has usable items of {' and '.join(sorted(left)) or 'neither label'} only, expected "
                "right and wrong: give ids of both, and what their items need"
            )
    training = [row for row in rows if row["role"] == "train" and row["reason"] is None]
    fold_of = folds_by_entity([row["group"] for row in training], folds, seed)
    for row in training:
        row["fold"] = fold_of[row["group"]]
    return [row if row["reason"] is None else {**row, "role": "reserve"} for row in rows]


def leaked(rows: pl.DataFrame, items: pl.DataFrame) -> dict[str, Any]:
    """What train and test share, as `detect.split` reports it; null where nothing can be said."""
    # Questions are compared as normalised; one that is not known stands for itself alone.
    known = items.with_columns(
        pl.when(pl.col("question").is_null())
        .then(pl.format("unknown {}", "item_id"))
        .otherwise(pl.col("question").fill_null("").map_elements(normalise, return_dtype=pl.String))
        .alias("question")
    )
    found = leakage(
        rows.join(known.select("item_id", "question", "entity"), on="item_id"),
        SplitSpec.model_validate({"near_duplicate": NEAR_DUPLICATE}),
    )
    if items["question"].is_null().any():
        found["shared"] |= {"questions": None, "near_duplicate_pairs": None, "groups": None}
    for column, name in (("entity", "entities"), ("answer", "answers")):
        if items[column].is_null().all():
            found["shared"][name] = None
    return found


def _groups(items: pl.DataFrame) -> list[str]:
    """Items with one entity or accepted answer, or nearly one question, are of one group, named after its first."""
    keys = items.select("entity", "gold", "question").rows()
    first: dict[str, int] = {}
    edges = []
    for i, (entity, gold, question) in enumerate(keys):
        named = f"entity {entity}" if entity else f"gold {gold}" if gold else None
        for key in filter(None, (named, f"question {normalise(question)}" if question else None)):
            edges.append((first.setdefault(key, i), i))
    asked = [i for i, (_, _, question) in enumerate(keys) if question]
    pairs = near_duplicates([keys[i][2] for i in asked], NEAR_DUPLICATE)
    edges += [(asked[i], asked[j]) for i, j, _ in pairs]
    ids = items["item_id"].to_list()
    return [f"question:{ids[root]}" for root in components(len(ids), edges)]
