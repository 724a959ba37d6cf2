"""What a JSONL file holds: rows, torn and damaged lines, ids and their repetitions."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ID_FIELDS = ("item_id", "id", "sample_id", "question_id", "qid", "idx", "uid")
EXAMPLES = 5
_WORD = 24
_JOURNAL = re.compile(rb"[0-9a-f]{8} \{")


@dataclass(frozen=True)
class JsonLines:
    """One JSONL file. `damaged` are numbers of lines that are no JSON object, without the torn last one."""

    path: str
    rows: int
    torn: bool
    damaged: tuple[int, ...]
    id_field: str | None
    duplicate_ids: int
    duplicate_examples: tuple[str, ...]
    rows_without_id: int
    journal: bool = False
    unfinished: bool = False  # the last line has no newline but is whole


@dataclass(frozen=True)
class Parsed:
    """The facts about a file, and of each row the fields a rate can be taken of (nested ones as `a.b`)."""

    facts: JsonLines
    rows: tuple[dict[str, bool | str], ...]
    ids: tuple[str, ...]


def parse_jsonl(path: str, data: bytes) -> Parsed:
    """Read what can be read and count what cannot; nothing in the file can make this fail."""
    rows: list[dict[str, Any]] = []
    damaged: list[int] = []
    lines = data.split(b"\n")
    last = next((n for n in range(len(lines), 0, -1) if lines[n - 1].strip()), 0)
    ends_whole = data.endswith(b"\n")
    journal = bool(_JOURNAL.match(data))
    torn = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        found = _journal_rows(line) if journal else _object(line)
        if found is None:
            if number == last and not ends_whole:
                torn = True
            else:
                damaged.append(number)
        else:
            rows += found
    field = _id_field(rows)
    ids = [_id_text(row[field]) for row in rows if field is not None and row.get(field) is not None]
    seen: set[str] = set()
    repeated = [i for i in ids if i in seen or seen.add(i)]  # type: ignore[func-returns-value]
    facts = JsonLines(
        path=path,
        rows=len(rows),
        torn=torn,
        damaged=tuple(damaged),
        id_field=field,
        duplicate_ids=len(repeated),
        duplicate_examples=tuple(dict.fromkeys(repeated))[:EXAMPLES],
        rows_without_id=len(rows) - len(ids),
        journal=journal,
        unfinished=bool(last) and not ends_whole and not torn,
    )
    return Parsed(facts, tuple(_countable(row) for row in rows), tuple(ids))


def load_json(data: bytes | str) -> Any:
    """`json.loads` that answers hostile input with ValueError and nothing else."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _countable(row: dict[str, Any]) -> dict[str, bool | str]:
    """True-or-false fields (0 and 1 included) and short words; ids and texts are left behind."""
    found: dict[str, bool | str] = {}
    for name, value in row.items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for deep, leaf in inner:
            full = f"{name}.{deep}" if deep else name
            if isinstance(leaf, bool) or (isinstance(leaf, int) and leaf in (0, 1)):
                found[full] = bool(leaf)
            elif isinstance(leaf, str) and 0 < len(leaf) <= _WORD and name not in ID_FIELDS:
                found[full] = leaf
    return found


def _object(line: bytes) -> list[dict[str, Any]] | None:
    try:
        value = load_json(line)
    except ValueError:
        return None
    return [value] if isinstance(value, dict) else None


def _journal_rows(line: bytes) -> list[dict[str, Any]] | None:
    """Rows of one batch of a levercheck journal (checksum, space, JSON); [] for its header line."""
    if line[:8] != f"{zlib.crc32(line[9:]):08x}".encode():
        return None
    found = _object(line[9:])
    rows = found[0].get("rows", []) if found else None
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else None


def _id_field(rows: list[dict[str, Any]]) -> str | None:
    """The first usual id column that most rows have."""
    for name in ID_FIELDS:
        if rows and sum(row.get(name) is not None for row in rows) * 2 > len(rows):
            return name
    return None


def _id_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def iter_flat(value: Any, prefix: str = "", depth: int = 0, longest: int | None = None) -> Iterator[tuple[str, Any]]:
    """Leaves of JSON data with their dotted path; what is nested more than 40 deep is left out.

    `longest` leaves out the bare values of longer lists.
    """
    if isinstance(value, dict) and depth < 40:
        for key, inner in value.items():
            yield from iter_flat(inner, f"{prefix}.{key}" if prefix else str(key), depth + 1, longest)
    elif isinstance(value, list) and depth < 40:
        bare = longest is None or len(value) <= longest
        for index, inner in enumerate(value):
            if bare or isinstance(inner, dict | list):
                yield from iter_flat(inner, f"{prefix}[{index}]", depth + 1, longest)
    elif not isinstance(value, dict | list):
        yield prefix, value
