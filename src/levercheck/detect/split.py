"""Stage 3: balanced, seeded roles that share no question, no entity and no stated answer."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levercheck.benchmarks.answers import normalise
from levercheck.detect.duplicates import components, near_duplicates
from levercheck.detect.workspace import Workspace
from levercheck.errors import NotEnoughDataError
from levercheck.evidence import schema
from levercheck.evidence.splits import folds_by_entity, roles_by_entity, shuffled
from levercheck.evidence.unit import Row

MIN_PER_CLASS = 10


class SplitSpec(BaseModel):
    """How items are divided. `disjoint` names the widest thing that train and test may not share."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = 0
    test_share: float = Field(0.3, gt=0, lt=1)
    per_class: int | None = Field(None, ge=MIN_PER_CLASS)  # most training items per label; None: as many as there are
    disjoint: Literal["question", "entity", "answer"] = "answer"
    balance: Literal["label", "category"] = "label"  # equal right and wrong overall, or within every category
    folds: int = Field(5, ge=2)
    near_duplicate: float = Field(0.8, gt=0, le=1)


def split(ws: Workspace, spec: SplitSpec) -> pl.DataFrame:
    """SPLIT rows of every item with a span."""
    items = (
        ws.rows("spans")
        .filter(pl.col("reason").is_null())
        .select("item_id", "label", "answer")
        .join(ws.rows("questions").select("item_id", "question", "aliases", "category", "entity"), on="item_id")
        .sort("item_id")
    )
    return ws.compute(
        "split",
        spec.model_dump(mode="json"),
        ["questions", "spans"],
        schema.SPLIT,
        ["item_id"],
        title="split",
        batches=[None],
        rows=len(items),
        work=lambda _: assign(items, spec),
        summarise=lambda rows: leakage(rows.join(items.select("item_id", "question", "entity"), on="item_id"), spec),
    )


def assign(items: pl.DataFrame, spec: SplitSpec) -> list[Row]:
    """Give every item its group, role and fold; items that cannot be used are in reserve with their reason."""
    ids, labels, answers = (items[c].to_list() for c in ("item_id", "label", "answer"))
    groups = _groups(items, spec)
    shares = {"train": 1 - spec.test_share, "test": spec.test_share}
    role_of = roles_by_entity(groups, shares, spec.seed)
    role: dict[str, str] = {item: role_of[group] for item, group in zip(ids, groups, strict=True)}
    reason: dict[str, str] = {}
    if spec.disjoint == "answer":
        owner = _owners(answers, [role[i] for i in ids], shares)
        for item, answer in zip(ids, answers, strict=True):
            if owner[answer] != role[item]:
                reason[item] = f"its answer belongs to {owner[answer]}"
    categories = dict(zip(ids, items["category"].to_list(), strict=True))
    label_of = dict(zip(ids, labels, strict=True))
    for name in shares:
        members = [i for i in ids if role[i] == name and i not in reason]
        kept = _balanced(members, label_of, categories, spec, spec.per_class if name == "train" else None)
        reason |= {i: "more than the other label has" for i in members if i not in kept}
        for label in ("right", "wrong"):
            count = sum(label_of[i] == label for i in kept)
            if count < MIN_PER_CLASS:
                raise NotEnoughDataError(
                    f"the {name} role has {count} {label} answers, expected at least {MIN_PER_CLASS}: collect more "
                    "questions, or let roles share more ('--disjoint entity')"
                )
    training = {i: g for i, g in zip(ids, groups, strict=True) if role[i] == "train" and i not in reason}
    folds = folds_by_entity(list(training.values()), spec.folds, spec.seed)
    return [
        {
            "item_id": item,
            "label": label,
            "category": categories[item],
            "answer": answer,
            "group": group,
            "role": "reserve" if item in reason else role[item],
            "fold": folds[group] if item in training else None,
            "reason": reason.get(item),
        }
        for item, label, answer, group in zip(ids, labels, answers, groups, strict=True)
    ]


def _groups(items: pl.DataFrame, spec: SplitSpec) -> list[str]:
    """Each item's group, what must stay in one role: its kind and the id of its first item."""
    questions = items["question"].to_list()
    edges = [(i, j) for i, j, _ in near_duplicates(questions, spec.near_duplicate)]
    keys: list[set[str]] = [{f"question {normalise(q)}"} for q in questions]
    entities = items["entity"].to_list()
    if spec.disjoint != "question":
        for own, entity, aliases in zip(keys, entities, items["aliases"].to_list(), strict=True):
            own |= {f"entity {entity}"} if entity else {f"gold {normalise(a)}" for a in (aliases or [])[:1]}
    first: dict[str, int] = {}
    for i, own in enumerate(keys):
        edges += [(first.setdefault(key, i), i) for key in own]
    ids, categories = items["item_id"].to_list(), items["category"].to_list()
    kinds = [(e or f"{c or 'question'}:").partition(":")[0] for e, c in zip(entities, categories, strict=True)]
    return [f"{kinds[root]}:{ids[root]}" for root in components(len(ids), edges)]


def _owners(answers: Sequence[str], roles: Sequence[str], shares: Mapping[str, float]) -> dict[str, str]:
    """The role that keeps each stated answer: the one with most of its items for that role's size."""
    counts: dict[str, Counter[str]] = {}
    for answer, role in zip(answers, roles, strict=True):
        counts.setdefault(answer, Counter())[role] += 1
    return {answer: max(shares, key=lambda role: found[role] / shares[role]) for answer, found in counts.items()}


def _balanced(
    members: Sequence[str],
    labels: dict[str, str],
    categories: dict[str, str | None],
    spec: SplitSpec,
    limit: int | None,
) -> set[str]:
    """As many right as wrong items, overall or per category, drawn by the seed."""
    strata: dict[str | None, dict[str, list[str]]] = {}
    for item in shuffled(members, spec.seed, "balance"):
        stratum = categories[item] if spec.balance == "category" else None
        strata.setdefault(stratum, {"right": [], "wrong": []})[labels[item]].append(item)
    pairs = []
    for stratum in sorted(strata, key=str):
        pairs += list(zip(strata[stratum]["right"], strata[stratum]["wrong"], strict=False))
    if limit is not None and len(pairs) > limit:
        chosen = set(shuffled([right for right, _ in pairs], spec.seed, "limit")[:limit])
        pairs = [pair for pair in pairs if pair[0] in chosen]
    return {item for pair in pairs for item in pair}


def leakage(rows: pl.DataFrame, spec: SplitSpec) -> dict[str, Any]:
    """What train and test share (0 where the split promised it), counts and fingerprints of the roles.

    `rows`: every item of the split, reserve too: how rare a word is, and so what a near-duplicate is, depends on all.
    """
    train, test = (rows.filter(pl.col("role") == role) for role in ("train", "test"))
    roles = rows["role"].to_list()
    pairs = near_duplicates(rows["question"].to_list(), spec.near_duplicate)
    crossing = [pair for pair in pairs if {roles[pair[0]], roles[pair[1]]} == {"train", "test"}]
    return {
        "roles": {
            role: {
                "right": int((part["label"] == "right").sum()),
                "wrong": int((part["label"] == "wrong").sum()),
                "groups": part["group"].n_unique(),
                "answers": part["answer"].n_unique(),
                "sha256": hashlib.sha256("\n".join(sorted(part["item_id"])).encode()).hexdigest(),
            }
            for role, part in (("train", train), ("test", test))
        },
        "reserve": dict(rows.filter(pl.col("reason").is_not_null()).group_by("reason").len().sort("reason").rows()),
        "shared": {
            "questions": _shared(train, test, "question"),
            "near_duplicate_pairs": len(crossing),
            "groups": _shared(train, test, "group"),
            "entities": _shared(train, test, "entity"),
            "answers": _shared(train, test, "answer"),
        },
        "test_items_with_an_answer_seen_in_training": int(test["answer"].is_in(train["answer"].to_list()).sum()),
    }


def _shared(train: pl.DataFrame, test: pl.DataFrame, column: str) -> int:
    first, second = (set(frame[column].drop_nulls().to_list()) for frame in (train, test))
    return len(first & second)
