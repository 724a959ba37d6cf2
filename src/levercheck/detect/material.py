"""Everything a report about a readout needs, gathered from the finished units of a workspace as plain data."""

from __future__ import annotations

from typing import Any

from levercheck.detect.audit import with_length
from levercheck.detect.neurons import ranked
from levercheck.detect.workspace import Workspace

PARTS = ("audit", "verbosity", "neurons")
STAGES = ("questions", "answers", "spans", "split", "capture")


def material(ws: Workspace, name: str) -> dict[str, Any]:
    """Results and settings of every stage behind the probe `name`; parts that were not computed are None or empty."""
    folder = f"probes/{name}"
    overlaps = sorted(p.parent.name for p in (ws.root / folder).glob("overlap-*/provenance.json"))
    transfers = sorted(p.parent.name for p in (ws.root / folder).glob("transfer-*/provenance.json"))
    settings = {stage: ws.settings(stage) for stage in STAGES}
    inside = {part: ws.settings(f"{folder}/{part}") for part in PARTS if ws.has(f"{folder}/{part}")}
    audit = ws.results(f"{folder}/audit")
    for unit in transfers:
        audit = {**audit, "transferred": ws.results(f"{folder}/{unit}")}
    verbosity = ws.results(f"{folder}/verbosity") if ws.has(f"{folder}/verbosity") else None
    if verbosity is not None:
        audit = with_length(audit, verbosity)
    return {
        "title": f"{name} readout",
        "model": settings["capture"].get("model") or {},
        "source": settings["questions"].get("source", {}),
        "collect": ws.results("answers"),
        "spans": ws.results("spans"),
        "split": ws.results("split"),
        "probe": ws.results(folder),
        "path": ws.results(f"{folder}/path"),
        "audit": audit,
        "verbosity": verbosity,
        "overlap": [ws.results(f"{folder}/{unit}") for unit in overlaps if ws.has(f"{folder}/{unit}")],
        "neurons": ranked(ws.rows(f"{folder}/neurons")) if ws.has(f"{folder}/neurons") else None,
        "settings": {
            **settings,
            "probe": ws.settings(folder),
            **inside,
            "software": ws.sidecar(folder)["environment"],
        },
    }
