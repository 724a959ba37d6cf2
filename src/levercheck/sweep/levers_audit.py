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
from levercheck.benchmarks.base import Benchmark
from levercheck.benchmarks.outcomes import NO_VERDICT
from levercheck.benchmarks.scorers import tiers
from levercheck.evidence.canonical import digest
from levercheck.evidence.files import write_atomic, write_json
from levercheck.evidence.provenance import now, write_sidecar
from levercheck.evidence.rows import read_part
from levercheck.publish.lever_report import write_lever_report
from levercheck.sweep.cells import NOOP
from levercheck.sweep.run_study import read_cells
from levercheck.sweep.study import StudyRun

FLIPS = "flips.jsonl"
TO_AUDIT = "to_audit.jsonl"


def audit_study(run: StudyRun, names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Audit the cells `names`; writes `levers.json`, the flips, the report and a sidecar under `folder`.

    Returns the audit. `flips.jsonl` is a worksheet: every item whose score moved, both responses, and how it was lost.
    `to_audit.jsonl`, where a benchmark is graded by tiers, lists responses for a person or a judge to check.

    Without the drawing packages the report has no figures and says so.
    """
    started = now()
    spec = run.spec.model_dump(mode="json")
    meanings = {name: _meaning(run.benchmark(name)) for name in run.spec.benchmarks}
    rows = read_cells(run.root, names)
    audit = lever_effects(rows, spec, meanings)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / LEVERS, audit)
    moved = [flip for name in run.spec.benchmarks for flip in flips(rows, name)]
    _write_lines(folder / FLIPS, moved)
    sheets = [folder / FLIPS]
    tiered = [name for name in run.spec.benchmarks if run.benchmark(name).ruler == tiers.RULER]
    if tiered:
        _write_lines(folder / TO_AUDIT, [row for name in tiered for row in to_audit(run, rows, name)])
        sheets.append(folder / TO_AUDIT)
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
        "started": started,
        "ended": now(),
    }
    write_sidecar(folder, run.root, body, [folder / LEVERS, *sheets, *written], "complete")
    return audit


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


def _meaning(benchmark: Benchmark) -> dict[str, Any]:
    """What a reader must know to read the benchmark's numbers."""
    parts = ("id", "construct", "metric", "better", "binary", "kind", "caution", "ruler", "licence", "value_unit")
    return {**{part: getattr(benchmark, part) for part in parts}, "style": benchmark.style_name}
