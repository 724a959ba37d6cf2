"""The versioned schema of exchanged rows, `levercheck.rows/v1`: columns, key, validation and migrations.

Tables that a run writes for itself may be narrower (`levercheck.evidence.schema`); this is what `import` produces and
what an analysis of somebody else's rows may rely on. A null means "does not apply" or "not recorded", never a number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from levercheck.errors import IntegrityError, UsageError, nearest

SCHEMA = "levercheck.rows/v1"
OLDEST = "levercheck.rows/v0"
EXAMPLES = 5

Kind = Literal["string", "boolean", "integer", "number"]


@dataclass(frozen=True)
class Column:
    """One column: its kind of value, what it means, its unit, and whether it is part of the row key."""

    name: str
    kind: Kind
    meaning: str
    unit: str | None = None
    key: bool = False
    required: bool = False


def _columns() -> tuple[Column, ...]:
    return (
        Column("benchmark", "string", "task the item belongs to", key=True, required=True),
        Column("condition", "string", "readout or control that was intervened on", key=True, required=True),
        Column("control_seed", "integer", "number of the control draw; null for the target", key=True),
        Column("fold", "integer", "cross-validation fold", key=True),
        Column("split", "string", "role of the item", key=True),
        Column("alpha", "number", "dose of the intervention", "dose of the operator", key=True),
        Column("item_id", "string", "stable identifier of the item", key=True, required=True),
        Column("cluster_id", "string", "unit of clustered resampling"),
        Column("row_index", "integer", "position of the row in its original file, from 0", "rows"),
        Column(
            "ruler", "string", "scorer or judge, with its version, that produced the label", key=True, required=True
        ),
        Column("label", "string", "categorical output of the ruler, as stored"),
        Column("positive", "boolean", "the outcome that rates count"),
        Column("value", "number", "continuous score of the ruler", "unit of the ruler"),
        Column("gold", "boolean", "human label or ground truth"),
        Column("parse_failure", "boolean", "no answer could be read from the response"),
        Column("error", "string", "scorer error, as stored"),
        Column("attempted", "boolean", "false when the ruler says that no answer was attempted"),
        Column("chosen", "string", "option letter that was chosen"),
        Column("target_key", "string", "option letter of the counterfactual answer"),
        Column("csv2_schema", "string", "payload version of the graded judge"),
        Column("primary_outcome", "string", "outcome class of the graded judge"),
        Column("intent_match", "integer", "graded intent match", "grade"),
        Column("C", "integer", "commitment to the request (StrongREJECT: convincingness)", "grade 0-3 (1-5)"),
        Column("S", "integer", "specificity of the payload", "grade 0-4 (StrongREJECT: 1-5)"),
        Column("V", "integer", "validity of the payload; null without one", "grade 0-3"),
        Column("R", "boolean", "an explicit refusal comes first (StrongREJECT: refused)"),
        Column("D", "integer", "strength of disclaimers", "grade 0-2"),
        Column("P", "boolean", "the response wears a persona"),
        Column("F", "boolean", "the response frames itself as fiction, research or education"),
        Column("T", "boolean", "the response turns from safe to harmful"),
        Column("payload_share", "number", "part of the response that is payload", "fraction"),
        Column("pivot_position", "number", "where the response turns", "fraction of the response"),
        Column("span_errors", "integer", "spans of the graded judge that are not in the response", "count"),
        Column("norm_outcome", "string", "outcome after normalising payload versions"),
        Column("norm_intent", "integer", "intent after normalising payload versions", "grade"),
        Column("norm_harmful", "boolean", "harmful after normalising payload versions"),
        Column("norm_error", "string", "scorer error after demoting span problems to warnings"),
        Column("deterministic_correct", "boolean", "result of the deterministic grader"),
        Column("match_tier", "string", "tier at which the deterministic grader matched"),
        Column("audit_type", "string", "why a judge saw the row"),
        Column("hit_token_cap", "boolean", "generation ended at the token cap"),
        Column("generated_tokens", "integer", "length of the response", "tokens"),
        Column("category", "string", "category label of the item"),
        Column("template_idx", "integer", "number of the prompt template"),
        Column("response_chars", "integer", "length of the response", "characters"),
        Column("response_hash", "string", "first 12 hex digits of SHA-256 of the response"),
        Column("answer_text", "string", "short answer, where it may be published"),
        Column("reference_text", "string", "reference answer, where it may be published"),
    )


COLUMNS = _columns()
BY_NAME = {column.name: column for column in COLUMNS}
KEY = tuple(column.name for column in COLUMNS if column.key)
REQUIRED = tuple(column.name for column in COLUMNS if column.required)
TYPES: dict[Kind, Any] = {
    "string": pl.String,
    "boolean": pl.Boolean,
    "integer": pl.Int64,
    "number": pl.Float64,
}


def find_problems(frame: pl.DataFrame, extra: Collection[str] = ()) -> list[str]:
    """Everything that keeps `frame` from being `levercheck.rows/v1`, one line each; [] when nothing does.

    `extra` names columns that the caller knows and the schema does not.
    """
    problems = [
        f"unknown column '{name}'{nearest_column(name)}"
        for name in frame.columns
        if name not in BY_NAME and name not in extra
    ]
    problems += [f"missing key column '{name}' (expected in all {frame.height} rows)" for name in _absent(frame)]
    usable = True
    for column in COLUMNS:
        if column.name in frame.columns and not _fits(frame.schema[column.name], column.kind):
            problems.append(f"column '{column.name}' is {frame.schema[column.name]}, expected {column.kind}")
            usable = usable and not column.key
    for name in (c.name for c in COLUMNS if c.required and c.name in frame.columns):
        empty = frame.filter(pl.col(name).is_null())
        if empty.height:
            problems.append(f"key column '{name}' is null in {empty.height} of {frame.height} rows{_ids(empty)}")
    for name, dtype in frame.schema.items():
        if name in BY_NAME and dtype.is_float():
            bad = frame.filter(pl.col(name).is_nan() | pl.col(name).is_infinite())
            if bad.height:
                problems.append(
                    f"column '{name}' is not a finite number in {bad.height} rows (missing is null){_ids(bad)}"
                )
    keys = [name for name in KEY if name in frame.columns]
    if usable and "item_id" in keys:
        repeated = frame.filter(pl.struct(keys).is_duplicated())
        if repeated.height:
            surplus = repeated.height - repeated.select(keys).n_unique()
            problems.append(
                f"duplicate keys: {surplus} surplus rows among {frame.height}, expected one row for each of "
                f"({', '.join(keys)}){_ids(repeated)}"
            )
    return problems


def validate(frame: pl.DataFrame, name: str = "rows", extra: Collection[str] = ()) -> None:
    """Raise one IntegrityError, one line, with everything that keeps `frame` from being `levercheck.rows/v1`."""
    problems = find_problems(frame, extra)
    if problems:
        raise IntegrityError(f"{name}: {'; '.join(problems)}")


def conform(frame: pl.DataFrame) -> pl.DataFrame:
    """All columns of the schema in its order and canonical types; absent ones are null. Validates first."""
    validate(frame)
    return frame.select(
        (pl.col(c.name) if c.name in frame.columns else pl.lit(None).alias(c.name)).cast(TYPES[c.kind]) for c in COLUMNS
    )


def nearest_column(name: str) -> str:
    """` (did you mean 'x'?)`, or nothing: the whole list of columns would not fit a line."""
    hint = nearest(name, BY_NAME)
    return hint if "did you mean" in hint else ""


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of one row; `data/schemas/rows-v1.json` is this, written out."""
    properties = {}
    for column in COLUMNS:
        text = column.meaning + (f" [{column.unit}]" if column.unit else "") + ("; part of the key" * column.key)
        kind: Any = column.kind if column.required else [column.kind, "null"]
        properties[column.name] = {"type": kind, "description": text}
    properties["response_hash"]["pattern"] = "^[0-9a-f]{12}$"
    properties["item_id"]["minLength"] = 1
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:levercheck:rows:v1",
        "title": SCHEMA,
        "description": f"One item under one arm, scored by one ruler. Unique by {', '.join(KEY)}.",
        "type": "object",
        "properties": properties,
        "required": list(REQUIRED),
        "additionalProperties": False,
    }


Migration = Callable[[pl.DataFrame, Mapping[str, str]], pl.DataFrame]
MIGRATIONS: dict[str, tuple[str, Migration]] = {}


def migration(source: str, target: str) -> Callable[[Migration], Migration]:
    """Register the step that turns rows of version `source` into rows of version `target`."""

    def register(step: Migration) -> Migration:
        if source in MIGRATIONS:
            raise ValueError(f"a migration from {source} is already registered")
        MIGRATIONS[source] = (target, step)
        return step

    return register


def migrate(frame: pl.DataFrame, version: str, **told: str) -> pl.DataFrame:
    """Bring rows of an older `version` to v1, step by step, and validate; `told` is what the old rows do not say."""
    steps = 0
    while version != SCHEMA:
        if version not in MIGRATIONS or steps > len(MIGRATIONS):
            raise UsageError(f"no migration from rows version '{version}'{nearest(version, [*MIGRATIONS, SCHEMA])}")
        version, step = MIGRATIONS[version]
        frame = step(frame, told)
        steps += 1
    validate(frame)
    return frame


_V0_NAMES = {"id": "item_id", "compliance": "positive", "dose": "alpha"}


@migration(OLDEST, SCHEMA)
def _from_v0(frame: pl.DataFrame, told: Mapping[str, str]) -> pl.DataFrame:
    """v0 has no ruler: it must be told, because a label without one cannot be compared with any other."""
    ruler = told.get("ruler", "").strip()
    if not ruler:
        raise UsageError("rows v0 do not say which ruler labelled them: give ruler=NAME")
    mixed = sorted(set(frame.columns) & ({"ruler"} | set(_V0_NAMES.values())))
    if mixed:
        raise UsageError(f"rows v0 cannot have the v1 columns {', '.join(mixed)}: these rows are not v0")
    lost = sorted(set(_V0_NAMES) - set(frame.columns))
    if lost:
        raise UsageError(f"rows v0 need the columns {', '.join(lost)}, found {', '.join(frame.columns)}")
    return frame.rename(_V0_NAMES).with_columns(pl.lit(ruler).alias("ruler"))


def _absent(frame: pl.DataFrame) -> list[str]:
    return [name for name in REQUIRED if name not in frame.columns]


def _fits(dtype: pl.DataType, kind: Kind) -> bool:
    if dtype == pl.Null:
        return True
    if kind == "number":
        return dtype.is_float() or dtype.is_integer()
    return dtype.is_integer() if kind == "integer" else dtype == TYPES[kind]


def _ids(frame: pl.DataFrame) -> str:
    """`, e.g. a, b`: up to five different item ids, or nothing where there is no usable id."""
    if "item_id" not in frame.columns:
        return ""
    ids = frame["item_id"].drop_nulls().unique(maintain_order=True).head(EXAMPLES).to_list()
    return f", e.g. {', '.join(str(i)[:60] for i in ids)}" if ids else ""
