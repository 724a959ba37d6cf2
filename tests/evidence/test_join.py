"""Rows and labels meet only where item and response agree."""

from __future__ import annotations

import hashlib

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.join import join, response_hash

ROWS = pl.DataFrame(
    {
        "item_id": ["a", "a", "b", "b"],
        "alpha": [0.0, 1.0, 0.0, 1.0],
        "response": ["yes", "no", "same", "same"],
    }
)
LABELS = pl.DataFrame(
    {"item_id": ["b", "a", "a"], "response": ["same", "no", "yes"], "ruler": ["r1"] * 3, "label": ["B", "A1", "A0"]}
)


def test_the_hash_is_twelve_digits_of_sha256():
    assert response_hash("é") == hashlib.sha256("é".encode()).hexdigest()[:12]


def test_every_row_gets_the_label_of_its_own_text():
    joined = join(ROWS, LABELS)
    assert joined["label"].to_list() == ["A0", "A1", "B", "B"]
    assert joined["ruler"].to_list() == ["r1"] * 4
    assert joined.select("item_id", "alpha", "response").equals(ROWS)


@given(order=st.permutations(range(3)))
def test_the_order_of_labels_does_not_matter(order):
    assert join(ROWS, LABELS[list(order)]).equals(join(ROWS, LABELS))


def changed(frame, row, **values):
    records = frame.to_dicts()
    records[row] |= values
    return pl.DataFrame(records, schema=frame.schema)


@pytest.mark.parametrize(
    ("rows", "labels", "words"),
    [
        (ROWS, changed(LABELS, 2, response="maybe"), "1 rows and 1 labels share an item id but not the response hash"),
        (ROWS, LABELS[1:], "2 of 4 rows have no label, e.g. b"),
        (ROWS[:2], LABELS, "1 of 3 labels are for no row, e.g. b"),
        (ROWS, LABELS[[0, 1]], "1 rows and 0 labels share an item id"),
        (ROWS, pl.concat([LABELS, LABELS[:1]]), "labels: 1 duplicates among 4 rows"),
        (ROWS[[0, 0, 1, 2]], LABELS, "rows: 1 duplicates among 4 rows"),
        (changed(ROWS, 0, response=None), LABELS, "rows: 1 of 4 rows have no item_id or response_hash, e.g. a"),
        (ROWS, changed(LABELS, 0, ruler=None), "1 of 3 rows name no ruler"),
        (ROWS.with_columns(response_hash=pl.lit("0" * 12)), LABELS, "4 of 4 rows have a response_hash that is not"),
    ],
)
def test_disagreement_is_refused_with_counts(rows, labels, words):
    with pytest.raises(IntegrityError, match=words) as error:
        join(rows, labels)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "labels", "words"),
    [
        (ROWS.drop("response"), LABELS, "neither 'response' nor 'response_hash'"),
        (ROWS, LABELS.drop("ruler"), "labels have no column ruler"),
        (ROWS.with_columns(label=pl.lit("x")), LABELS, "both have label"),
        (ROWS.with_columns(ruler=pl.lit("old")), LABELS, "both have ruler"),
    ],
)
def test_wrong_tables_are_refused(rows, labels, words):
    with pytest.raises(UsageError, match=words):
        join(rows, labels)


BOTH = pl.concat([LABELS, LABELS.with_columns(ruler=pl.lit("r2"), label=pl.col("label").str.to_lowercase())])


def test_rulers_never_mix_silently():
    with pytest.raises(UsageError, match=r"labels hold 2 rulers \(r1: 3 rows, r2: 3 rows\)"):
        join(ROWS, BOTH)
    assert join(ROWS, BOTH, rulers="r2")["label"].to_list() == ["a0", "a1", "b", "b"]
    both = join(ROWS, BOTH, rulers=["r1", "r2"])
    assert both.height == 8
    assert both.filter(ruler="r1")["label"].to_list() == ["A0", "A1", "B", "B"]
    with pytest.raises(UsageError, match=r"no ruler r3"):
        join(ROWS, BOTH, rulers="r3")
    with pytest.raises(IntegrityError, match="2 of 8 row-ruler pairs have no label, e"):
        join(ROWS, BOTH[:3].vstack(BOTH[4:]), rulers=["r1", "r2"])


def test_labels_of_an_arm_are_joined_within_the_arm():
    labels = ROWS.with_columns(ruler=pl.lit("r1"), label=pl.Series(["w", "x", "y", "z"]))
    with pytest.raises(UsageError, match="both have alpha"):
        join(ROWS, labels)
    assert join(ROWS, labels, on=["alpha"])["label"].to_list() == ["w", "x", "y", "z"]


def test_an_empty_ruler_column_is_no_ruler():
    assert join(ROWS.with_columns(ruler=pl.lit(None, pl.String)), LABELS)["ruler"].to_list() == ["r1"] * 4
