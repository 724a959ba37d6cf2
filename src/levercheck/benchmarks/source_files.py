"""Files of questions: finding them, reading their records, and checking one field; errors name file, row and field."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.benchmarks.questions import Request
from levercheck.errors import IntegrityError, UsageError, nearest
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.foreign_read import Record, read_records

_SHARD = re.compile(r"-\d+-of-\d+$")
_SPLITS = frozenset({"train", "validation", "valid", "dev", "eval", "test"})
_BOOLEANS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


def find_files(request: Request, endings: Sequence[str]) -> list[Path]:
    """The file that a request names, or the parquet files of its folder in the order of their names.

    Of a folder with several splits one has to be chosen. `UsageError` when nothing fits.
    """
    given = request.argument or ""
    path = Path(given).expanduser()
    if path.is_dir() and "parquet" in endings:
        return _of_folder(path, given, request)
    if not path.is_file():
        raise UsageError(f"{given}: no such file (source '{request.name}')")
    if path.suffix.lower().lstrip(".") not in endings:
        allowed = " or ".join(f".{ending}" for ending in endings)
        raise UsageError(f"{given}: the source '{request.name}' reads {allowed}")
    if request.split is not None:
        raise UsageError(f"split '{request.split}' was asked of the file {path.name}: name a folder, or leave it out")
    return [path]


def _of_folder(folder: Path, given: str, request: Request) -> list[Path]:
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise UsageError(f"{given}: no parquet file in this folder (source '{request.name}')")
    splits = sorted({_SHARD.sub("", path.stem) for path in files})
    if request.split is None:
        if len(splits) > 1 and _SPLITS.intersection(splits):
            raise UsageError(
                f"{given}: holds the splits {', '.join(splits)}: name one of them (split: of the settings, or --split)"
            )
        return files
    if request.split not in splits:
        raise UsageError(f"{given}: no split '{request.split}'{nearest(request.split, splits)}")
    return [path for path in files if _SHARD.sub("", path.stem) == request.split]


def file_identity(files: Sequence[Path]) -> list[dict[str, str]]:
    """Name and sha256 of each file, without its folder."""
    return [{"name": path.name, "sha256": file_digest(path)} for path in files]


def read_text(path: Path) -> str:
    """A file as text; `UsageError` with the line that is not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path.name}: cannot be read ({error.strerror})") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path.name}:{line}: not UTF-8 text (byte {data[error.start]:#04x})") from None


def records_of(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """The records of a .jsonl, .csv or .parquet file; of parquet only the named columns are read."""
    form = path.suffix.lower().lstrip(".")
    if form == "parquet":
        yield from _parquet(path, columns)
        return
    read_text(path)
    try:
        yield from read_records(path, path.name, form)
    except IntegrityError as error:
        raise UsageError(str(error)) from None


def _parquet(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    try:
        present = pl.read_parquet_schema(path)
        wanted = [name for name in present if name in columns]
        if not wanted:
            raise UsageError(f"{path.name}: no column '{columns[0]}'{nearest(columns[0], list(present)[:40])}")
        frame = pl.read_parquet(path, columns=wanted)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(f"{path.name}: not a readable parquet file ({str(error).splitlines()[0]})") from None
    for number, fields in enumerate(frame.iter_rows(named=True), 1):
        yield Record(f"{path.name}:row {number}", fields)


def field(record: Record, name: str) -> Any:
    """A field that has to be there (it may be null)."""
    if name not in record.fields:
        raise UsageError(f"{record.place}: no column '{name}'{nearest(name, [str(k) for k in record.fields][:40])}")
    return plain(record.fields[name])


def plain(value: Any) -> Any:
    """The value, with None for NaN, which is how a missing cell is written by way of pandas."""
    return None if isinstance(value, float) and math.isnan(value) else value


def text_field(record: Record, name: str) -> str:
    """A field that holds text; `UsageError` when it is absent, empty or something else."""
    value = field(record, name)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UsageError(f"{record.place}: {name} is empty")
    if not isinstance(value, str):
        raise UsageError(f"{record.place}: {name} is {shown(value)}, expected text")
    return _encodable(value.strip(), record.place, name)


def label_field(record: Record, name: str) -> str | None:
    """An optional field with a name in it: text or a whole number; None when absent or empty."""
    value = plain(record.fields.get(name))
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_field(record, name)


def boolean_field(record: Record, name: str, default: bool) -> bool:
    """An optional field that is true or false; `UsageError` for another word."""
    value = plain(record.fields.get(name))
    if value is None or value == "":
        return default
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in _BOOLEANS:
        raise UsageError(f"{record.place}: {name} is {shown(value)}, expected true or false")
    return _BOOLEANS[word]


def texts_of(value: Any, place: str, name: str, *, semicolons: bool = False) -> list[str]:
    """The texts of a field: a list, a JSON list in a text, one text, or with `semicolons` several in one text.

    Numbers are taken as they are written; nulls are dropped; `UsageError` for anything else.
    """
    value = plain(value)
    if isinstance(value, str):
        stripped = value.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            try:
                value = json.loads(stripped)
            except (ValueError, RecursionError):
                raise UsageError(f"{place}: {name} is {shown(value)}, which is no JSON list of texts") from None
        else:
            value = value.split(";") if semicolons else [value]
    if value is None:
        return []
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list | tuple):
        raise UsageError(f"{place}: {name} is {shown(value)}, expected texts")
    texts = []
    for entry in value:
        if plain(entry) is None:
            continue
        if isinstance(entry, int | float) and not isinstance(entry, bool):
            entry = json.dumps(entry)
        if not isinstance(entry, str):
            raise UsageError(f"{place}: {name} holds {shown(entry)}, expected texts")
        texts.append(_encodable(entry.strip(), place, name))
    return [text for text in texts if text]


def _encodable(text: str, place: str, name: str) -> str:
    """JSON can spell half a surrogate pair, which is no text."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{place}: {name} holds half a surrogate pair, which is no text") from None
    return text


def shown(value: Any) -> str:
    """A value as errors show it, in at most 40 characters."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return repr(text if len(text) <= 40 else text[:37] + "...")
