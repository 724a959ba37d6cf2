"""Which items were used before: by rows of the run outside its confirm folder, or by whoever made a readout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.canonical import digest
from levercheck.evidence.files import read_json, write_json

ITEMS = "items.json"
CONFIRM = "confirm"
"""Folder of the rows of the confirm run."""
SCREEN = "known"
"""Role of the rows that say which facts the unhooked model knows: a condition for being asked, under no lever."""


@dataclass(frozen=True)
class Used:
    """Ids and clusters (entities) of items, and in words what used them."""

    by: str
    ids: frozenset[str]
    clusters: frozenset[str]
    roles: frozenset[str] = field(default=frozenset())

    def overlap(self, items: Iterable[tuple[str, str]]) -> str | None:
        """The first (id, cluster) that was used, in words, or None."""
        for name, cluster in items:
            if name in self.ids:
                return f"item '{name}' was used by {self.by}"
            if cluster in self.clusters:
                return f"item '{name}' is of '{cluster}', which was used by {self.by}"
        return None


def readout_items(folder: Path) -> Used | None:
    """Items that a readout was made from, as its `items.json` lists them; None where it has none: unknown."""
    path = folder / ITEMS
    if not path.is_file():
        return None
    body = read_json(path)
    found: dict[str, frozenset[str]] = {}
    for name in ("ids", "clusters"):
        listed = body.get(name) if isinstance(body, dict) else None
        if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
            raise IntegrityError(f"{ITEMS} in '{folder.name}' has no list of texts '{name}': restore it")
        found[name] = frozenset(listed)
    return Used(f"the readout in '{folder.name}'", found["ids"], found["clusters"])


def write_items(folder: Path, ids: Iterable[str], clusters: Iterable[str | None]) -> Path:
    """Write the `items.json` of a readout: what it was made from, its held-out part included; returns the path."""
    body = {"ids": sorted(set(ids)), "clusters": sorted({cluster for cluster in clusters if cluster is not None})}
    write_json(folder / ITEMS, body)
    return folder / ITEMS


def items_record(used: Used | None) -> dict[str, Any]:
    """What a lock says about a readout's items."""
    if used is None:
        return {"status": "unknown"}
    listed = {"ids": sorted(used.ids), "clusters": sorted(used.clusters)}
    return {"status": "listed", "ids": len(used.ids), "clusters": len(used.clusters), "digest": digest(listed)}


def units_used(root: Path) -> list[Used]:
    """Items of every unit of a run outside its confirm folder, unfinished ones included; the screen does not count."""
    found = []
    for rows in sorted(root.rglob("rows")):
        unit = rows.parent.relative_to(root)
        if unit.parts[0] == CONFIRM or not rows.is_dir():
            continue
        table = [record for record in _records(rows) if record["role"] != SCREEN]
        if table:
            ids, clusters = ({r[name] for r in table if r[name]} for name in ("item_id", "cluster_id"))
            roles = frozenset(str(r["role"]) for r in table)
            by = f"{unit.as_posix()} in role {', '.join(sorted(roles))}"
            found.append(Used(by, frozenset(ids), frozenset(clusters), roles))
    return found


def _records(rows: Path) -> Iterator[Mapping[str, Any]]:
    columns = ["item_id", "cluster_id", "role"]
    for part in rows.glob("part-*.parquet"):
        try:
            if set(columns) <= set(pl.read_parquet_schema(part)):
                yield from pl.read_parquet(part, columns=columns).unique().iter_rows(named=True)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise IntegrityError(f"{part.name} cannot be read ({str(error).splitlines()[0]}): restore it") from None
    for journal in rows.glob("journal-*.jsonl"):
        for line in journal.read_bytes().splitlines():
            try:
                record = json.loads(line[9:])  # behind the checksum
            except ValueError:
                continue  # the torn tail of a kill: nothing was acknowledged
            for row in record.get("rows", []) if isinstance(record, dict) else []:
                if set(columns) <= set(row):
                    yield row


def refuse_used(items: Iterable[tuple[str, str]], used: Iterable[Used], benchmark: str) -> None:
    """UsageError for the first confirm item that anything used before."""
    listed = list(items)
    for one in used:
        found = one.overlap(listed)
        if found:
            raise UsageError(
                f"the confirm items of {benchmark} are not fresh: {found}. Make readouts from other items (levercheck "
                "items --role readout), or start a new run with another seed"
            )
