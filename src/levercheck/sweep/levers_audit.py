"""From the rows of a study to its audit and report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.audit.lever_effects import lever_effects
from levercheck.audit.lever_responses import flips
from levercheck.audit.lever_verify import LEVERS
from levercheck.benchmarks.outcomes import NO_VERDICT
from levercheck.benchmarks.scorers import tiers
from levercheck.evidence.canonical import digest
from levercheck.evidence.files import write_atomic, write_json
from levercheck.evidence.provenance import now, write_sidecar
from levercheck.evidence.rows import read_part
from levercheck.publish.lever_report import write_lever_report
from levercheck.sweep.cells import NOOP
from levercheck.sweep.run_study import read_cells, surfaces_of
from levercheck.sweep.study import StudyRun

FLIPS = "flips.jsonl"
TO_AUDIT, AUDIT_KEY = "to_audit.jsonl", "to_audit_key.jsonl"
BLIND = ("id", "question", "accepted", "response", "label")
"""What a person who checks a response sees; what it was taken for is in the key."""


def audit_study(run: StudyRun, names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Audit the cells `names`; writes `levers.json`, the flips, the report and a sidecar under `folder`.

    Returns the audit. `flips.jsonl` is a worksheet: every item whose score moved, both responses, and how it was lost.
    `to_audit.jsonl`, where a benchmark is graded by tiers, lists responses for a person or a judge to check blindly;
    `to_audit_key.jsonl` says what they were taken for.

    Without the drawing packages the report has no figures and says so.
    """
    started = now()
    spec = run.spec.model_dump(mode="json")
    meanings = surfaces_of(run)
    rows = read_cells(run.root, names)
    audit = lever_effects(rows, spec, meanings)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / LEVERS, audit)
    moved = [flip for name in run.spec.benchmarks for flip in flips(rows, name, run.benchmark(name).better)]
    _write_lines(folder / FLIPS, moved)
    sheets = [folder / FLIPS]
    tiered = [name for name in run.spec.benchmarks if run.benchmark(name).ruler.startswith(tiers.RULER)]
    if tiered:
        listed = [row for name in tiered for row in to_audit(run, rows, name)]
        _write_lines(folder / TO_AUDIT, [{part: row[part] for part in BLIND} for row in listed])
        _write_lines(folder / AUDIT_KEY, [{part: row[part] for part in row if part not in BLIND[1:]} for row in listed])
        sheets += [folder / TO_AUDIT, folder / AUDIT_KEY]
    tables = {kind: read_part(run.root / name) for kind, name in run.units.items()}
    material = {
        "spec": spec,
        "audit": audit,
        "model": run.lm.identity,
        "efforts": _rows(tables.get("efforts")),
        "balance": _rows(tables.get("balance")),
    }
    written = write_lever_report(folder, material)
    body = {
        "unit": "levers",
        "key": run.key,
        "cells": list(names),
        "units": run.units,
        "readouts": made_readouts(run),
        "started": started,
        "ended": now(),
    }
    write_sidecar(folder, run.root, body, [folder / LEVERS, *sheets, *written], "complete")
    return audit


def made_readouts(run: StudyRun) -> list[str]:
    """Folders of the readouts that the run made, relative to it: of a probe, the workspace it is in."""
    made = [run.readout_folder(name) for name, declared in run.spec.readouts.items() if declared.folder is None]
    return ["/".join(folder.relative_to(run.root).parts[:2]) for folder in made]


def to_audit(run: StudyRun, rows: pl.DataFrame, name: str) -> list[dict[str, Any]]:
    """A sample of every tier of the own arms' responses, in an order that tells nothing; see `tiers.audit_sample`."""
    items = {item.id: item for role in rows["role"].unique() for item in run.items(name, role)}
    own = rows.filter((pl.col("benchmark") == name) & pl.col("control").is_null() & (pl.col("lever") != NOOP))
    judged = {
        f"{row['lever']}|{row['effort'] if row['dose'] is None else row['dose']}|{row['item_id']}": row
        for row in own.filter(pl.col("how").is_not_null()).iter_rows(named=True)
        if row["outcome"] not in NO_VERDICT or row["outcome"] == "ambiguous"
    }
    chosen = tiers.audit_sample([(key, row["how"]) for key, row in judged.items()], seed=run.spec.seed)
    return [
        {
            "id": digest([run.key, key])[:16],
            "question": items[judged[key]["item_id"]].text,
            "accepted": list(items[judged[key]["item_id"]].facts.get("aliases", ())),
            "response": judged[key]["text"],
            "label": None,
            **{part: judged[key][part] for part in ("item_id", "lever", "dose", "effort", "outcome", "how", "chosen")},
        }
        for key in chosen
    ]


def _write_lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    lines = [json.dumps(record, ensure_ascii=False, allow_nan=False) for record in records]
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())


def _rows(frame: pl.DataFrame | None) -> list[dict[str, Any]]:
    return [] if frame is None else frame.to_dicts()
