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
from levercheck.evidence.files import write_atomic, write_json
from levercheck.evidence.provenance import now, write_sidecar
from levercheck.evidence.rows import read_part
from levercheck.publish.lever_report import write_lever_report
from levercheck.sweep.run_study import read_cells
from levercheck.sweep.study import StudyRun

FLIPS = "flips.jsonl"


def audit_study(run: StudyRun, names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Audit the cells `names`; writes `levers.json`, the flips, the report and a sidecar under `folder`.

    Returns the audit. `flips.jsonl` is a worksheet: every item whose score moved, both responses, and how it was lost.

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
    lines = [json.dumps(flip, ensure_ascii=False, allow_nan=False) for flip in moved]
    write_atomic(folder / FLIPS, "".join(f"{line}\n" for line in lines).encode())
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
    write_sidecar(folder, run.root, body, [folder / LEVERS, folder / FLIPS, *written], "complete")
    return audit


def _rows(frame: pl.DataFrame | None) -> list[dict[str, Any]]:
    return [] if frame is None else frame.to_dicts()


def _meaning(benchmark: Benchmark) -> dict[str, Any]:
    """What a reader must know to read the benchmark's numbers."""
    parts = ("id", "construct", "metric", "better", "binary", "kind", "caution", "ruler", "licence", "value_unit")
    return {**{part: getattr(benchmark, part) for part in parts}, "style": benchmark.style_name}
