"""An audit that somebody made again from the same rows, by other words than were declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from levercheck.audit.lever_effects import lever_effects
from levercheck.audit.lever_verify import LEVERS
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import read_json, write_json
from levercheck.evidence.provenance import SIDECAR
from levercheck.sweep.run_study import read_cells


def audited_again(root: Path, folder: str, **changes: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the audit in `folder` anew with `spec` or `benchmarks` changed, and its sidecar: every digest fits.

    Returns what stood there, and what stands there now.
    """
    place = root / folder
    stored, sidecar = read_json(place / LEVERS), read_json(place / SIDECAR)
    spec, benchmarks = ({**stored[name], **changes.get(name, {})} for name in ("spec", "benchmarks"))
    audit = lever_effects(read_cells(root, sidecar["cells"]), spec, benchmarks)
    write_json(place / LEVERS, audit)
    for output in sidecar["outputs"]:
        output |= {"bytes": (root / output["path"]).stat().st_size, "sha256": file_digest(root / output["path"])}
    write_json(place / SIDECAR, sidecar)
    return stored, audit
