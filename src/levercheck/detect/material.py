"""Everything a report about a readout needs, gathered from the finished units of a workspace as plain data."""

from __future__ import annotations

import json
from typing import Any

from levercheck.detect.audit import with_length
from levercheck.detect.neurons import ranked
from levercheck.detect.workspace import Workspace
from levercheck.evidence.ledger import LEDGER
from levercheck.evidence.provenance import SIDECAR

PARTS = ("audit", "verbosity", "neurons")
STAGES = ("questions", "answers", "verdicts", "spans", "split", "capture")


def material(ws: Workspace, name: str) -> dict[str, Any]:
    """Results and settings of every stage behind the probe `name`; parts that were not computed are None or empty."""
    folder = f"probes/{name}"
    settings = {stage: ws.settings(stage) for stage in STAGES if stage != "verdicts" or ws.has(stage)}
    inside = {part: ws.settings(f"{folder}/{part}") for part in PARTS if ws.has(f"{folder}/{part}")}
    transfers = [
        {"name": unit.removeprefix("transfer-"), **ws.results(f"{folder}/{unit}")}
        for unit in _finished(ws, folder, "transfer-*")
    ]
    audit = {**ws.results(f"{folder}/audit"), "transferred": transfers}
    spans = ws.results("spans")
    verbosity = ws.results(f"{folder}/verbosity") if ws.has(f"{folder}/verbosity") else None
    if verbosity is not None:
        audit = with_length(audit, verbosity)
    return {
        "title": f"{name} readout",
        "model": settings["capture"].get("model") or {},
        "source": settings["questions"].get("source", {}),
        "collect": {**ws.results("answers"), **(spans.get("labels") or {})},  # labels as the spans used them
        "verdicts": ws.results("verdicts") if ws.has("verdicts") else None,
        "spans": spans,
        "split": ws.results("split"),
        "probe": ws.results(folder),
        "openings": openings(ws),
        "path": ws.results(f"{folder}/path"),
        "audit": audit,
        "verbosity": verbosity,
        "overlap": [ws.results(f"{folder}/{unit}") for unit in _finished(ws, folder, "overlap-*")],
        "neurons": ranked(ws.rows(f"{folder}/neurons")) if ws.has(f"{folder}/neurons") else None,
        "settings": {
            **settings,
            "probe": ws.settings(folder),
            **inside,
            "software": ws.sidecar(folder)["environment"],
        },
    }


def openings(ws: Workspace) -> list[str]:
    """Names of the probes that have opened the test role, by the ledger, in the order of their first time."""
    path = ws.root / LEDGER
    if not path.is_file():
        return []
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return list(dict.fromkeys(str(e["probe"]) for e in events if e["event"] == "test opened"))


def _finished(ws: Workspace, folder: str, pattern: str) -> list[str]:
    """Names of the finished units of a probe that match a pattern, sorted."""
    names = sorted(path.parent.name for path in (ws.root / folder).glob(f"{pattern}/{SIDECAR}"))
    return [name for name in names if ws.has(f"{folder}/{name}")]
