"""Rows of one unit of work: an append-only journal while it runs, one Parquet part when it is done.

A journal line is one finished batch: a CRC-32, then `{"batch": id, "rows": [...]}`. It is written with a single
unbuffered write and fsynced before the batch is acknowledged, so a kill loses at most the batch that was being
computed. A torn last line is cut off when the journal is opened again. `finish` compacts to Parquet (temporary file,
fsync, rename) and only then removes the journal.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.errors import IntegrityError
from levercheck.evidence.canonical import canonical
from levercheck.evidence.files import sync_folder, write_atomic

Schema = Mapping[str, Any]


class RowStore:
    """Rows under `folder/rows`, keyed by the digest of everything upstream."""

    def __init__(self, folder: Path, key: str, schema: Schema) -> None:
        self.folder = folder / "rows"
        self.key = key
        self.schema = dict(schema)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._journal = self.folder / "journal-0.jsonl"
        self._handle: io.FileIO | None = None

    @property
    def part(self) -> Path | None:
        """The compacted Parquet part, or None while the unit is unfinished."""
        parts = sorted(self.folder.glob("part-*.parquet"))
        if len(parts) > 1:
            raise IntegrityError(f"{self.folder.parent.name} holds {len(parts)} parts, expected one: remove the folder")
        return parts[0] if parts else None

    def batches(self) -> dict[str, list[dict[str, Any]]]:
        """Acknowledged batches in the order they were written; cuts a torn tail, refuses any other damage."""
        if not self._journal.exists():
            return {}
        found: dict[str, list[dict[str, Any]]] = {}
        good = 0
        data = self._journal.read_bytes()
        lines = data.splitlines(keepends=True)
        for number, line in enumerate(lines):
            record = _parse(line)
            if record is None:
                if number != len(lines) - 1 or line.endswith(b"\n"):  # a kill can only leave a line without its end
                    raise IntegrityError(
                        f"{self._journal.name} in {self.folder.parent.name} is damaged at line {number + 1}, "
                        "expected a finished batch: remove the folder and run again"
                    )
                break
            if number == 0:
                if record.get("key") != self.key:
                    raise IntegrityError(
                        f"{self.folder.parent.name} was started with other settings: use another output directory"
                    )
            else:
                found[record["batch"]] = record["rows"]
            good += len(line)
        if good < len(data):
            with self._journal.open("rb+") as handle:
                handle.truncate(good)
                os.fsync(handle.fileno())
        return found

    def append(self, batch: str, rows: list[dict[str, Any]]) -> None:
        """Acknowledge one finished batch; it survives a kill from here on."""
        if self._handle is None:
            self.batches()  # cuts a torn tail, so that the new line does not grow out of it
            fresh = not self._journal.exists() or self._journal.stat().st_size == 0
            self._handle = self._journal.open("ab", buffering=0)
            if fresh:
                self._write({"journal": 1, "key": self.key})
                sync_folder(self.folder)
        self._write({"batch": batch, "rows": rows})
        os.fsync(self._handle.fileno())

    def _write(self, record: dict[str, Any]) -> None:
        assert self._handle is not None
        body = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        line = memoryview(f"{zlib.crc32(body.encode()):08x} {body}\n".encode())
        while line:  # an unbuffered write may be short; the rest must follow before anything is acknowledged
            line = line[self._handle.write(line) :]

    def discard_journal(self) -> None:
        """Remove the journal of a compacted unit (a kill may have come between the two)."""
        self.close()
        self._journal.unlink(missing_ok=True)

    def finish(self, order: Iterable[str]) -> Path:
        """Compact the journal to one Parquet part sorted by `order`; running it again is harmless."""
        rows = [row for batch in self.batches().values() for row in batch]
        frame = pl.DataFrame(rows, schema=self.schema, orient="row").sort(list(order))
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd")
        part = self.folder / f"part-{content_digest(frame)[:12]}.parquet"
        write_atomic(part, buffer.getvalue())
        self.discard_journal()
        return part

    def close(self) -> None:
        """Close the journal; safe to call twice."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None


def _parse(line: bytes) -> dict[str, Any] | None:
    """A journal line's record, or None when the line is torn or its checksum is wrong."""
    if not line.endswith(b"\n") or len(line) < 10:
        return None
    checksum, body = line[:8], line[9:-1]
    if checksum != f"{zlib.crc32(body):08x}".encode():
        return None
    record: dict[str, Any] = json.loads(body)
    return record


def read_part(folder: Path) -> pl.DataFrame:
    """The rows of a finished unit; a missing or unreadable part is an IntegrityError."""
    parts = sorted((folder / "rows").glob("part-*.parquet"))
    if len(parts) != 1:
        raise IntegrityError(f"{folder.name} has {len(parts)} row files, expected one: run the audit again to fill it")
    try:
        return pl.read_parquet(parts[0])
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise IntegrityError(f"{folder.name}/rows/{parts[0].name} cannot be read ({reason}): restore it") from None


def has_rows(folder: Path) -> bool:
    """True when a unit holds anything acknowledged: a part, or a journal that was begun."""
    rows = folder / "rows"
    return any(rows.glob("part-*.parquet")) or any(p.stat().st_size for p in rows.glob("journal-*.jsonl"))


def content_digest(frame: pl.DataFrame) -> str:
    """SHA-256 over the canonical JSON of each row in order: independent of Parquet versions and compression."""
    total = hashlib.sha256()
    for row in _plain(frame):
        total.update(canonical(row))
        total.update(b"\n")
    return total.hexdigest()


def _plain(frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    for row in frame.iter_rows(named=True):
        yield {name: _finite(value) for name, value in row.items()}


def _finite(value: Any) -> Any:
    """RFC 8785 has no NaN: spell it, so that a missing number and a not-a-number stay different."""
    return "NaN" if isinstance(value, float) and value != value else value
