"""From the rows of a study to its audit and report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.audit.lever_effects import lever_effects
from levercheck.audit.lever_verify import LEVERS
from levercheck.benchmarks.base import find_benchmark
from levercheck.evidence.files import write_json
from levercheck.evidence.provenance import now, write_sidecar
from levercheck.evidence.rows import read_part
from levercheck.publish.lever_report import write_lever_report
from levercheck.sweep.run_study import read_cells
from levercheck.sweep.study import StudyRun


def audit_study(run: StudyRun, names: Sequence[str], folder: Path) -> dict[str, Any]:
    """Audit the cells `names`; writes `levers.json`, the report and a sidecar under `folder`, and returns the audit.

    Without the drawing packages the report has no figures and says so.
    """
    started = now()
    spec = run.spec.model_dump(mode="json")
    audit = lever_effects(read_cells(run.root, names), spec)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / LEVERS, audit)
    tables = {kind: read_part(run.root / name) for kind, name in run.units.items()}
    material = {
        "spec": spec,
        "audit": audit,
        "model": run.lm.identity,
        "efforts": _rows(tables.get("efforts")),
        "balance": _rows(tables.get("balance")),
        "benchmarks": [_meaning(name) for name in run.spec.benchmarks],
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
    write_sidecar(folder, run.root, body, [folder / LEVERS, *written], "complete")
    return audit


def _rows(frame: pl.DataFrame | None) -> list[dict[str, Any]]:
    return [] if frame is None else frame.to_dicts()


def _meaning(name: str) -> dict[str, str]:
    benchmark = find_benchmark(name)
    return {part: getattr(benchmark, part) for part in ("id", "construct", "metric", "caution")}
