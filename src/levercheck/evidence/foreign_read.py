"""Reading foreign files record by record; every error names the file and the line, in one line."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.errors import IntegrityError, UsageError, nearest
from levercheck.evidence.row_schema import Kind

LINE_BYTES = 64 << 20


@dataclass(frozen=True)
class Record:
    """One foreign row and where it stands: `place` is `file:line` (or `file:row n` for parquet)."""

    place: str
    fields: dict[str, Any]


def read_records(path: Path, shown: str, form: str) -> Iterator[Record]:
    """The records of one file; `shown` is how the file is called in errors."""
    if form == "jsonl":
        return _jsonl(path, shown)
    return _csv(path, shown) if form == "csv" else _parquet(path, shown)


def _jsonl(path: Path, shown: str) -> Iterator[Record]:
    with path.open("rb") as handle:
        number = 0
        while line := handle.readline(LINE_BYTES):
            number += 1
            place = f"{shown}:{number}"
            if len(line) == LINE_BYTES and not line.endswith(b"\n"):
                raise IntegrityError(f"{place}: the line is longer than {LINE_BYTES >> 20} MiB")
            if not line.strip():
                continue
            try:
                fields = json.loads(line, object_pairs_hook=_no_repeats)
            except RecursionError:
                raise IntegrityError(f"{place}: the line is nested too deeply") from None
            except _RepeatedKey as error:
                raise IntegrityError(f"{place}: the key '{error}' is given twice in one object") from None
            except ValueError:
                torn = not line.endswith(b"\n")
                reason = "torn last line (cut off in the middle of a row)" if torn else "not a JSON object"
                raise IntegrityError(f"{place}: {reason}: repair or remove the line") from None
            if not isinstance(fields, dict):
                raise IntegrityError(f"{place}: expected a JSON object, found {type(fields).__name__}")
            yield Record(place, fields)


class _RepeatedKey(Exception):
    pass


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise _RepeatedKey(next(name for name in names if names.count(name) > 1))
    return fields


def _csv(path: Path, shown: str) -> Iterator[Record]:
    with path.open("r", encoding="utf-8-sig", newline="") as handle:
        reader = csv.reader(handle, strict=True)
        try:
            header = next(reader, None)
            if not header:
                raise IntegrityError(f"{shown}:1: no header line")
            if len(set(header)) != len(header):
                raise IntegrityError(f"{shown}:1: the header names a column twice")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise IntegrityError(
                        f"{shown}:{reader.line_num}: {len(cells)} cells, expected {len(header)} (torn or misquoted row)"
                    )
                values = {name: cell if cell != "" else None for name, cell in zip(header, cells, strict=True)}
                yield Record(f"{shown}:{reader.line_num}", values)
        except csv.Error as error:
            raise IntegrityError(f"{shown}:{reader.line_num}: not valid CSV ({error})") from None
        except UnicodeDecodeError:
            raise IntegrityError(f"{shown}:{reader.line_num + 1}: not UTF-8 text") from None


def _parquet(path: Path, shown: str) -> Iterator[Record]:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise IntegrityError(f"{shown}: not a readable parquet file ({str(error).splitlines()[0]})") from None
    for number, row in enumerate(frame.iter_rows(named=True), 1):
        yield Record(f"{shown}:row {number}", {k: _nan_is_null(v) for k, v in row.items()})


def _nan_is_null(value: Any) -> Any:
    """Parquet written by way of pandas has NaN where a value is missing."""
    return None if isinstance(value, float) and math.isnan(value) else value


def lookup(record: Record, name: str) -> Any:
    """The field `name`, or along dots into objects (`judge.verdict`); an absent field is an error with its place."""
    if name in record.fields:
        return record.fields[name]
    value: Any = record.fields
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            known = value if isinstance(value, dict) and value else record.fields
            raise UsageError(f"{record.place}: no column '{name}'{nearest(part, [str(k) for k in known][:40])}")
        value = value[part]
    return value


def convert(value: Any, kind: Kind, place: str, name: str) -> Any:
    """`value` as our kind of column, or an error with its place; nothing is rounded and nothing is guessed."""
    if value is None:
        return None
    found: Any = None
    if kind == "string":
        found = _text(value) if isinstance(value, str) else _plain_text(value)
    elif kind == "boolean":
        found = _boolean(value)
    elif not isinstance(value, bool):
        number = _number(value)
        if number is not None and kind == "integer":
            whole = isinstance(number, int) or number.is_integer()
            found = int(number) if whole and abs(number) <= 2**53 else None
        elif number is not None:
            found = float(number)
    if found is None:
        raise IntegrityError(f"{place}: {name} is {_shown(value)}, expected {_EXPECTED[kind]}")
    return found


_EXPECTED = {
    "string": "text",
    "boolean": "true or false (translate other words with 'values')",
    "integer": "a whole number up to 2**53",
    "number": "a finite number",
}
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_WORDS = {"true": True, "false": False, "1": True, "0": False}


def _boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def _number(value: Any) -> int | float | None:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = int(value) if value.strip().lstrip("+-").isdigit() and len(value) < 20 else float(value)
    if isinstance(value, int):
        return value if abs(value) < 10**300 else None
    return value if isinstance(value, float) and math.isfinite(value) else None


def _text(value: str) -> str | None:
    """JSON can spell half a surrogate pair, which is no text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _plain_text(value: Any) -> str | None:
    """Numbers serve as ids and labels; a float that is a whole number would be spelled two ways, so it is refused."""
    if isinstance(value, bool | int):
        return json.dumps(value)
    return None


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return repr(text if len(text) <= 40 else text[:37] + "...")


def printed_number(text: str) -> tuple[float, float] | None:
    """A number as printed and half a unit of its last digit: (0.5, 0.05) for "0.5"; None when it is not a number."""
    if not _NUMBER.fullmatch(text):
        return None
    mantissa, _, exponent = text.lower().partition("e")
    digits = len(mantissa.partition(".")[2]) - int(exponent or 0)
    value = float(text)
    return (value + 0.0, 0.5 * 10.0**-digits) if math.isfinite(value) and -300 < digits < 1000 else None
