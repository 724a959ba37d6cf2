"""Contrast data from a file: rows with `prompt` and `label`, and `id`, `answer`, `group` and `role` if wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from levercheck.errors import IntegrityError, NotEnoughDataError, UsageError, nearest
from levercheck.evidence.foreign_read import Record, read_records
from levercheck.readouts.contrast import FIT, HELD_OUT, Example, grouped_by_prompt

FORMS = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet"}
COLUMNS = ("id", "prompt", "answer", "label", "group", "role")
_ROLES = {FIT: FIT, "train": FIT, HELD_OUT: HELD_OUT, "test": HELD_OUT}
_NUMBERS = {"0": 0, "1": 1, "false": 0, "true": 1}


def read_examples(path: Path, *, positive: str | None = None) -> list[Example]:
    """Examples of a .jsonl, .csv or .parquet file.

    Labels are 0 and 1, false and true, or two words, of which `positive` names the one that is 1. Without ids, rows are
    numbered; without groups, the answers to one prompt form one. Errors name file and row.
    """
    if path.suffix.lower() not in FORMS:
        raise UsageError(f"'{path.name}' is no contrast data, expected a file that ends in {', '.join(FORMS)}")
    if not path.is_file():
        raise UsageError(f"no file at '{path}', expected rows with prompt and label")
    try:
        records = list(read_records(path, path.name, FORMS[path.suffix.lower()]))
    except (IntegrityError, UnicodeDecodeError) as error:
        raise UsageError(str(error)) from None
    if not records:
        raise NotEnoughDataError(f"'{path.name}' has no rows: expected some with prompt and label")
    ones = _labels(records, positive)
    examples = []
    for number, (record, label) in enumerate(zip(records, ones, strict=True), 1):
        role = _optional(record, "role")
        if role is not None and role not in _ROLES:
            raise UsageError(f"{record.place}: role is '{role}'{nearest(role, _ROLES)}")
        examples.append(
            Example(
                _optional(record, "id") or f"row {number}",
                _text(record, "prompt"),
                _optional(record, "answer"),
                label,
                _optional(record, "group") or "",
                None if role is None else _ROLES[role],
            )
        )
    named = sum(bool(example.group) for example in examples)
    if named == 0:
        return grouped_by_prompt(examples)
    if named < len(examples):
        without = next(r for r, e in zip(records, examples, strict=True) if not e.group)
        raise UsageError(f"{without.place}: no group, where {named} other rows have one: give every row one, or none")
    return examples


def _labels(records: list[Record], positive: str | None) -> list[int]:
    words = [_text(record, "label", numbers=True) for record in records]
    found = sorted(set(words))
    if positive is None:
        if set(map(str.lower, found)) <= set(_NUMBERS):
            return [_NUMBERS[word.lower()] for word in words]
        if len(found) == 2:
            raise UsageError(f"the labels are '{found[0]}' and '{found[1]}': name the one that is 1 with --positive")
        raise UsageError(f"labels are {', '.join(repr(w) for w in found[:4])}: expected 0 and 1, or two words")
    if positive not in found:
        raise UsageError(f"no row has the label '{positive}'{nearest(positive, found[:20])}")
    if len(found) > 2:
        raise UsageError(f"{len(found)} different labels ({', '.join(found[:4])}, ...): expected two")
    return [int(word == positive) for word in words]


def _text(record: Record, name: str, *, numbers: bool = False) -> str:
    if name not in record.fields:
        raise UsageError(f"{record.place}: no column '{name}'{nearest(name, [str(k) for k in record.fields][:40])}")
    value: Any = record.fields[name]
    if numbers and isinstance(value, bool | int | float) and value in (0, 1):
        value = str(int(value))
    if not isinstance(value, str) or not value.strip():
        raise UsageError(
            f"{record.place}: {name} is {str(value)[:40]!r}, expected {'0 or 1 or a word' if numbers else 'text'}"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{record.place}: {name} holds half a surrogate pair, which is no text") from None
    return value.strip() if numbers else value


def _optional(record: Record, name: str) -> str | None:
    value = record.fields.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(record, name)
