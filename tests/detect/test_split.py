"""Roles share nothing, whatever the items; balance, determinism and honest reasons."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.detect.duplicates import components, near_duplicates
from levercheck.detect.split import SplitSpec, assign, leakage
from levercheck.errors import NotEnoughDataError


def items(count=400, answers=60, entities=120, seed=0):
    rng = np.random.default_rng(seed)
    answer, entity, gold = rng.integers(answers, size=count), rng.integers(entities, size=count), rng.integers(97)
    return pl.DataFrame(
        {
            "item_id": [f"q{i:04d}" for i in range(count)],
            "label": np.where(rng.random(count) < 0.6, "wrong", "right").tolist(),
            "answer": [f"answer {a}" for a in answer],
            "question": [f"Who made the {'xyz'[i % 3]}{i} of {e}?" for i, e in enumerate(entity)],
            "aliases": [[f"gold {gold}"]] * count,
            "category": ["abc"[i % 3] for i in range(count)],
            "entity": [f"kind{i % 2}:e{e}" for i, e in enumerate(entity)],
        }
    )


def assigned(frame, **settings_):
    spec = SplitSpec(**settings_)
    rows = pl.DataFrame(assign(frame, spec), infer_schema_length=None)
    return rows, leakage(rows.join(frame.select("item_id", "question", "entity"), on="item_id"), spec)


@given(st.integers(0, 1000), st.integers(20, 120), st.integers(30, 200), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_train_and_test_share_nothing(seed, answers, entities, draw):
    rows, report = assigned(items(400, answers, entities, seed), seed=draw)
    assert report["shared"] == {
        "questions": 0,
        "near_duplicate_pairs": 0,
        "groups": 0,
        "entities": 0,
        "answers": 0,
    }
    assert report["test_items_with_an_answer_seen_in_training"] == 0
    for counts in report["roles"].values():
        assert counts["right"] == counts["wrong"] >= 10
    assert rows["reason"].is_null().sum() + len(rows.filter(pl.col("role") == "reserve")) == len(rows)
    assert rows.filter(pl.col("role") == "train")["fold"].null_count() == 0


def test_order_of_the_items_does_not_matter():
    frame = items()
    one, _ = assigned(frame)
    other, _ = assigned(frame.sample(fraction=1.0, shuffle=True, seed=3).sort("item_id"))
    assert one.equals(other)
    different, _ = assigned(frame, seed=1)
    assert not one["role"].equals(different["role"])


def test_looser_splits_keep_more_items_and_report_what_they_share():
    counts, shared = {}, {}
    for disjoint in ("question", "entity", "answer"):
        rows, report = assigned(items(answers=25), disjoint=disjoint)
        counts[disjoint] = int((rows["role"] != "reserve").sum())
        shared[disjoint] = report["shared"]
    assert counts["answer"] < counts["entity"] <= counts["question"] + 40
    assert shared["question"]["entities"] > 0
    assert shared["entity"]["entities"] == 0 < shared["entity"]["answers"]


def test_balance_within_categories():
    rows, _ = assigned(items(), balance="category")
    used = rows.filter(pl.col("role") != "reserve")
    per = used.group_by("role", "category", "label").len().pivot("label", index=["role", "category"], values="len")
    assert per["right"].to_list() == per["wrong"].to_list()


def test_limit_per_class():
    rows, _ = assigned(items(), per_class=20)
    train = rows.filter(pl.col("role") == "train")
    assert train["label"].value_counts().sort("label")["count"].to_list() == [20, 20]


def test_too_few_of_a_class_is_an_error():
    frame = items(60).with_columns(pl.lit("right").alias("label"))
    with pytest.raises(NotEnoughDataError, match="0 right answers, expected at least 10"):
        assigned(frame)


def test_near_duplicates_ignore_templates_and_find_rewordings():
    names = ["France", "Fiji", "Finland", "Gabon", "Ghana", "Greece", "Guyana", "Haiti"]
    questions = [f"What is the capital of {name}?" for name in names]
    assert near_duplicates(questions, 0.8) == []
    more = [*questions, "what is the Capital of fiji", "Which river flows through Vienna?"]
    assert [pair[:2] for pair in near_duplicates(more, 0.8)] == [(1, 8)]


def test_leakage_weighs_words_by_all_items_as_the_grouping_does():
    """A template that only reserve items share makes two questions look alike when those are left out."""
    template = "please tell me what the capital city of this country named {} is"
    words = [*(template.format(f"land{k}") for k in range(60)), *(f"alpha{k} beta{k} gamma{k}" for k in range(30))]
    roles = ["train", "test", *["reserve"] * 58, *["train"] * 30]
    rows = pl.DataFrame(
        {
            "item_id": [f"q{k:02d}" for k in range(90)],
            "question": words,
            "role": roles,
            "reason": ["spare" if role == "reserve" else None for role in roles],
            "label": ["right", "wrong"] * 45,
            "answer": [f"a{k}" for k in range(90)],
            "group": [f"g{k}" for k in range(90)],
            "entity": [None] * 90,
        },
        schema_overrides={"entity": pl.String},
    )
    spec = SplitSpec(near_duplicate=0.75)
    used = rows.filter(pl.col("role") != "reserve")
    assert near_duplicates(words, 0.75) == [] != near_duplicates(used["question"].to_list(), 0.75)
    assert leakage(rows, spec)["shared"]["near_duplicate_pairs"] == 0


def test_components():
    assert components(6, [(0, 1), (4, 3), (1, 2)]) == [0, 0, 0, 3, 3, 5]
