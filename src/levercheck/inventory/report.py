"""Read a messy results folder and say what is in it, what is broken, and which printed numbers rest on data."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.inventory.arms import Arm, find_arms
from levercheck.inventory.claims import find_claims
from levercheck.inventory.grade import GRADES, Graded, Names, grade
from levercheck.inventory.jsonl import JsonLines, load_json, parse_jsonl
from levercheck.inventory.rederive import Derivations, Derived, from_jsonl, from_table
from levercheck.inventory.sidecars import Sidecar, read_record
from levercheck.inventory.values import Index, csv_frame, json_leaves, table_leaves
from levercheck.inventory.walk import File, Limits, Tree, walk
from levercheck.inventory.words import counted

SCHEMA = "levercheck.inventory/v1"
_MAX_ROWS = 20_000_000


@dataclass(frozen=True)
class Inventory:
    """Everything found below a folder; paths are relative to it."""

    files: tuple[File, ...]
    jsonl: tuple[JsonLines, ...]
    arms: tuple[Arm, ...]
    sidecars: tuple[Sidecar, ...]
    claims: tuple[Graded, ...]
    set_aside: dict[str, int]
    notes: tuple[str, ...]
    todo: tuple[str, ...]

    @property
    def grades(self) -> dict[str, int]:
        """How many claims have each grade, best first."""
        counts = Counter(one.grade for one in self.claims)
        return {name: counts[name] for name in GRADES}

    @property
    def kinds(self) -> dict[str, tuple[int, int]]:
        """Files and bytes of each kind."""
        found: dict[str, tuple[int, int]] = {}
        for file in self.files:
            count, size = found.get(file.kind, (0, 0))
            found[file.kind] = (count + 1, size + file.bytes)
        return dict(sorted(found.items()))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "schema": SCHEMA,
            "kinds": {name: {"files": n, "bytes": size} for name, (n, size) in self.kinds.items()},
            "files": [dataclasses.asdict(file) for file in self.files],
            "jsonl": [dataclasses.asdict(one) for one in self.jsonl],
            "arms": [dataclasses.asdict(arm) | {"whole": arm.whole} for arm in self.arms],
            "sidecars": [dataclasses.asdict(one) for one in self.sidecars],
            "grades": self.grades,
            "claims": [_claim_dict(one) for one in self.claims],
            "set_aside": self.set_aside,
            "notes": list(self.notes),
            "todo": list(self.todo),
        }


def inventory(root: Path, limits: Limits | None = None) -> Inventory:
    """Read everything below `root`; writes nothing, follows no link, and no file's content can make it fail."""
    limits = limits or Limits()
    tree = walk(root, limits)
    notes = list(tree.left_out)
    parsed = {file.path: parse_jsonl(file.path, tree.read(file)) for file in tree.of_kind("jsonl")}
    index, derived, sidecars = Index(), list(from_jsonl(parsed)), []
    first_copy: dict[str | None, str] = {}
    for file in tree.of_kind("json", "csv", "parquet"):
        copy_of = first_copy.setdefault(file.sha256, file.path)
        if copy_of != file.path:
            notes.append(f"{file.path}: the same bytes as {copy_of}, its values are counted once")
        record = _read_values(tree, file, index if copy_of == file.path else None, derived, limits, notes)
        if record is not None:
            sidecars.append(record)
    index.seal()
    names = Names({file.path: first_copy.get(file.sha256, file.path) for file in tree.files})
    claims, aside = _claims(tree, index, Derivations(derived), names, limits, notes)
    arms = find_arms(parsed)
    facts = tuple(one.facts for one in parsed.values())
    return Inventory(
        files=tuple(tree.files),
        jsonl=facts,
        arms=tuple(arms),
        sidecars=tuple(sidecars),
        claims=tuple(claims),
        set_aside=dict(sorted(aside.items())),
        notes=tuple(notes + index.notes),
        todo=tuple(_todo(tree.files, facts, arms, sidecars, claims)),
    )


def _read_values(
    tree: Tree, file: File, index: Index | None, derived: list[Derived], limits: Limits, notes: list[str]
) -> Sidecar | None:
    """Add a file's numbers to the index (None: a copy, already counted); a provenance record is returned instead."""
    data = tree.read(file)
    if file.kind == "json":
        try:
            body = load_json(data)
        except ValueError:
            notes.append(f"{file.path}: not valid JSON")
            return None
        record = read_record(file.path, body)
        if record is None and index is not None:
            index.add(json_leaves(file.path, body), limits.leaves)
        return record
    if index is None:
        return None
    frame = csv_frame(data) if file.kind == "csv" else _parquet(data)
    if frame is None:
        notes.append(f"{file.path}: not a readable {file.kind} table")
        return None
    try:
        derived.extend(from_table(file.path, frame))
        index.add(table_leaves(file.path, frame, limits, notes), limits.leaves)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        notes.append(f"{file.path}: a table that cannot be counted ({str(error).splitlines()[0][:80]})")
    return None


def _parquet(data: bytes) -> pl.DataFrame | None:
    try:
        if pl.scan_parquet(io.BytesIO(data)).select(pl.len()).collect().item() > _MAX_ROWS:
            return None
        frame = pl.read_parquet(io.BytesIO(data))
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError):
        return None
    return frame


def _claims(
    tree: Tree, index: Index, derived: Derivations, names: Names, limits: Limits, notes: list[str]
) -> tuple[list[Graded], Counter[str]]:
    aside: Counter[str] = Counter()
    graded: list[Graded] = []
    for file in tree.of_kind("markdown"):
        found, skipped = find_claims(file.path, tree.read(file).decode("utf-8", "replace").replace("\r\n", "\n"))
        aside += skipped
        room = limits.claims - len(graded)
        if len(found) > room:
            notes.append(f"{file.path}: {len(found) - room} numbers not graded, more than {limits.claims} in all")
        graded += [grade(claim, index, derived, names) for claim in found[:room]]
    return graded, aside


def _todo(
    files: list[File], jsonl: tuple[JsonLines, ...], arms: list[Arm], sidecars: list[Sidecar], claims: list[Graded]
) -> Iterator[str]:
    """What a person would have to do, worst first: damaged rows, incomplete arms, runs, records, numbers."""
    for one in jsonl:
        if one.torn:
            yield f"{one.path}: the last line is torn: run the missing rows again"
        if one.damaged:
            lines = counted(len(one.damaged), "damaged line")
            yield f"{one.path}: {lines} (first: line {one.damaged[0]}): restore them"
        if one.duplicate_ids:
            examples = ", ".join(one.duplicate_examples)
            yield f"{one.path}: {counted(one.duplicate_ids, 'duplicate id')} ({examples}): keep one row each"
    for arm in arms:
        yield from _arm_todo(arm)
    for record in sidecars:
        if not record.terminal:
            status = record.status or "not stated"
            yield f"{record.path}: status '{status}' cannot back a claim: finish or discard the run"
    exposing = [r for r in sidecars if r.absolute_paths or r.machine_fields]
    if exposing:
        records = counted(len(exposing), "provenance record")
        yield f"{records} with absolute paths, host or user names: remove them before sharing"
    unhashed = [r for r in sidecars if not r.content_hashes]
    if unhashed:
        records = counted(len(unhashed), "provenance record")
        yield f"{records} without any content hash: nothing ties them to the files they describe"
    for name, advice in (("unbound", "bind or remove them"), ("cited-only", "store the value the citation gives")):
        count = sum(one.grade == name for one in claims)
        if count:
            yield f"{counted(count, f'{name} number')} in Markdown: {advice}"
    unread = sum(file.skipped is not None and file.kind not in ("binary", "link", "special") for file in files)
    if unread:
        yield f"{counted(unread, 'file')} not read (see 'skipped' in --json)"


def _arm_todo(arm: Arm) -> Iterator[str]:
    if arm.missing_doses:
        yield f"{arm.folder}: doses {_list(arm.missing_doses)} are missing, sibling arms have them"
    for gap in arm.id_gaps:
        yield f"{gap.path}: {counted(gap.missing, 'item')} of the other doses missing ({', '.join(gap.examples)})"
    for names in arm.same_dose:
        yield f"{arm.folder}: {len(names)} files mean one dose ({', '.join(n.rsplit('/', 1)[-1] for n in names)})"
    for path in arm.not_numeric:
        yield f"{path}: the dose in the name is not a number"
    if arm.items_of_siblings_missing:
        yield f"{arm.folder}: {counted(arm.items_of_siblings_missing, 'item')} of its sibling arms missing"


def _list(doses: tuple[float, ...]) -> str:
    return ", ".join(f"{dose!r}" for dose in doses)


def _claim_dict(one: Graded) -> dict[str, Any]:
    claim = one.claim
    return {
        "file": claim.path,
        "line": claim.line,
        "text": claim.text,
        "context": claim.context,
        "value": claim.value,
        "unit": claim.unit,
        "decimals": claim.decimals,
        "grade": one.grade,
        "evidence": list(one.evidence),
        "note": one.note,
    }
