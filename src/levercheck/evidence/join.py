"""Rows and their labels, joined by item id and response hash: a label never lands on a text it has not seen."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.row_schema import EXAMPLES, KEY

HASH_DIGITS = 12


def response_hash(text: str) -> str:
    """The first 12 hex digits of SHA-256 of the response (UTF-8): for equality tests only."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_DIGITS]


def with_hash(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """`frame` with `response_hash`; computed from `response` where that is there, and checked where both are."""
    if "response" in frame.columns:
        computed = pl.Series("_hash", [None if t is None else response_hash(t) for t in frame["response"]], pl.String)
        frame = frame.with_columns(computed)
        if "response_hash" in frame.columns:
            wrong = frame.filter(pl.col("response_hash").is_not_null() & (pl.col("response_hash") != pl.col("_hash")))
            if wrong.height:
                raise IntegrityError(
                    f"{name}: {wrong.height} of {frame.height} rows have a response_hash that is not the hash of their "
                    f"response{_examples(wrong)}"
                )
        frame = frame.with_columns(pl.col("_hash").alias("response_hash")).drop("_hash")
    elif "response_hash" not in frame.columns:
        raise UsageError(f"{name} have neither 'response' nor 'response_hash': labels cannot be matched to texts")
    missing = frame.filter(pl.col("response_hash").is_null() | pl.col("item_id").is_null())
    if missing.height:
        raise IntegrityError(
            f"{name}: {missing.height} of {frame.height} rows have no item_id or response_hash{_examples(missing)}"
        )
    return frame


def join(
    rows: pl.DataFrame,
    labels: pl.DataFrame,
    *,
    rulers: str | Sequence[str] | None = None,
    on: Sequence[str] = (),
) -> pl.DataFrame:
    """Give every row its label; refuses duplicates, mismatched responses and unmatched rows, with their counts.

    Both tables need `item_id` and `response_hash` (or `response`), the labels also `ruler`. One text at two doses is
    one label; `on` names arm columns (`alpha`, `condition`) when the labels were made per arm. Labels of more than
    one ruler are refused unless `rulers` names the ones wanted; naming several gives one row per row and ruler.
    """
    for name, frame, needed in (("rows", rows, ("item_id", *on)), ("labels", labels, ("item_id", "ruler", *on))):
        absent = [c for c in needed if c not in frame.columns]
        if absent:
            raise UsageError(f"{name} have no column {', '.join(absent)} (found: {', '.join(frame.columns)})")
    labels = with_hash(_of_rulers(labels, rulers), "labels").drop("response", strict=False)
    rows = with_hash(rows, "rows")
    keys = list(dict.fromkeys(["item_id", "response_hash", *on]))
    if "ruler" in rows.columns and rows["ruler"].null_count() == rows.height:
        rows = rows.drop("ruler")
    both = sorted(set(rows.columns) & set(labels.columns) - set(keys))
    if both:
        raise UsageError(f"rows and labels both have {', '.join(both)}: rename or drop one, a join must not choose")
    _refuse_duplicates(labels, [*keys, "ruler"], "labels")
    _refuse_duplicates(rows, [c for c in (*KEY, "sample", "response_hash") if c in rows.columns], "rows")
    _refuse_mismatches(rows, labels, keys)
    wanted = labels.select("ruler").unique()
    complete = rows.join(wanted, how="cross", maintain_order="left").join(
        labels.with_columns(pl.lit(True).alias("_found")),
        on=[*keys, "ruler"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )
    unmatched = complete.filter(pl.col("_found").is_null())
    if unmatched.height:
        raise IntegrityError(
            f"{unmatched.height} of {complete.height} row-ruler pairs have no label{_examples(unmatched)}"
        )
    return complete.drop("_found")


def _of_rulers(labels: pl.DataFrame, rulers: str | Sequence[str] | None) -> pl.DataFrame:
    if labels["ruler"].null_count():
        raise IntegrityError(f"labels: {labels['ruler'].null_count()} of {labels.height} rows name no ruler")
    counts = {str(name): int(rows) for name, rows in labels.group_by("ruler").len().sort("ruler").iter_rows()}
    held = ", ".join(f"{name}: {rows} rows" for name, rows in counts.items()) or "no rows"
    if rulers is None:
        if len(counts) > 1:
            raise UsageError(f"labels hold {len(counts)} rulers ({held}): name the ruler to join, they are not mixed")
        return labels
    asked = [rulers] if isinstance(rulers, str) else list(rulers)
    absent = [name for name in asked if name not in counts]
    if absent or not asked:
        raise UsageError(f"labels have no ruler {', '.join(absent) or '(none was named)'} (they hold {held})")
    return labels.filter(pl.col("ruler").is_in(asked))


def _refuse_duplicates(frame: pl.DataFrame, keys: list[str], name: str) -> None:
    repeated = frame.filter(pl.struct(keys).is_duplicated())
    if repeated.height:
        surplus = repeated.height - repeated.select(keys).n_unique()
        raise IntegrityError(
            f"{name}: {surplus} duplicates among {frame.height} rows (same {', '.join(keys)}){_examples(repeated)}"
        )


def _refuse_mismatches(rows: pl.DataFrame, labels: pl.DataFrame, keys: list[str]) -> None:
    """Say which of three things is wrong: an unknown item, an unlabelled item, or a label of another response."""
    without_hash = [key for key in keys if key != "response_hash"]
    unlabelled = rows.join(labels, on=without_hash, how="anti", nulls_equal=True)
    unknown = labels.join(rows, on=without_hash, how="anti", nulls_equal=True)
    other_rows = rows.join(labels, on=keys, how="anti", nulls_equal=True).height - unlabelled.height
    strangers = labels.join(rows, on=keys, how="anti", nulls_equal=True)
    other_labels = strangers.height - unknown.height
    problems = []
    if unlabelled.height:
        problems.append(f"{unlabelled.height} of {rows.height} rows have no label{_examples(unlabelled)}")
    if unknown.height:
        problems.append(f"{unknown.height} of {labels.height} labels are for no row{_examples(unknown)}")
    if other_rows or other_labels:
        known = strangers.join(unknown, on=without_hash, how="anti", nulls_equal=True)
        lost = rows.join(labels, on=keys, how="anti", nulls_equal=True)
        known = known if known.height else lost.join(unlabelled, on=without_hash, how="anti", nulls_equal=True)
        problems.append(
            f"{other_rows} rows and {other_labels} labels share an item id but not the response hash"
            f"{_examples(known)}: the labels were made for other responses"
        )
    if problems:
        raise IntegrityError("; ".join(problems))


def _examples(frame: pl.DataFrame) -> str:
    if "item_id" not in frame.columns:
        return ""
    ids = frame["item_id"].drop_nulls().unique(maintain_order=True).head(EXAMPLES).to_list()
    return f", e.g. {', '.join(str(i)[:60] for i in ids)}" if ids else ""
