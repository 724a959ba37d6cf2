"""Re-derive a study's levers from its rows: digests of every file, and every number of `levers.json`. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.audit.lever_effects import SCHEMA, lever_effects
from levercheck.audit.verify import differences, digests
from levercheck.errors import LevercheckError, UsageError
from levercheck.evidence.canonical import digest
from levercheck.evidence.files import read_json
from levercheck.evidence.provenance import SIDECAR
from levercheck.evidence.rows import read_part

CONFIRMED = "confirmed"
FOLDERS = ("explored", CONFIRMED)
READOUTS = "readouts"
STUDY, LOCK = "study.json", "lock.json"
LEVERS = "levers.json"


def is_lever_study(root: Path) -> bool:
    """Whether `root` is the folder of `levercheck run`."""
    return any((root / folder / LEVERS).is_file() for folder in FOLDERS)


def _declared(root: Path, folder: str, stored: Mapping[str, Any]) -> list[str]:
    """Whether an audit grades by what was declared: `study.json` of a run, and the lock of a confirm run."""
    study = read_json(root / STUDY)
    spec = study["spec"]
    if folder == CONFIRMED:
        lock = read_json(root / LOCK)
        spec = lock["frozen"]["resolved"]
        if digest(lock["frozen"]) != lock["digest"]:
            return [f"{LOCK} was changed after it was written (its digest does not match)"]
    found = {"spec": spec, "benchmarks": study["surfaces"]}
    return [
        f"{folder}/{LEVERS}: {name} is not what was declared: {line}"
        for name, declared in found.items()
        for line in differences(declared, stored[name])
    ]


def verify_levers(root: Path) -> list[str]:
    """Differences between what a study's folder states and what its rows give, one line each.

    Raises UsageError when `root` is not the output of `levercheck run`.
    """
    if not is_lever_study(root):
        raise UsageError(f"'{root}' has no {' or '.join(f'{f}/{LEVERS}' for f in FOLDERS)}: run the study first")
    problems = digests(root, apart=READOUTS)
    for folder in FOLDERS:
        if not (root / folder / LEVERS).is_file():
            continue
        try:
            stored, sidecar = read_json(root / folder / LEVERS), read_json(root / folder / SIDECAR)
            cells = sidecar["cells"]
            for readout in sidecar["readouts"]:  # folders of their own; what else is there was left over
                problems += [f"{readout}: {line}" for line in digests(root / readout)]
            if stored["schema"] != SCHEMA:
                problems.append(f"{folder}/{LEVERS} is of {stored['schema']}, expected {SCHEMA}")
                continue
            problems += _declared(root, folder, stored)
            fresh = lever_effects(
                pl.concat([read_part(root / cell) for cell in cells]), stored["spec"], stored["benchmarks"]
            )
            problems += [f"{folder}/{LEVERS}: {line}" for line in differences(stored, fresh)]
        except LevercheckError as error:
            problems.append(str(error))
        except (KeyError, ValueError, TypeError, OSError, pl.exceptions.PolarsError) as error:
            reason = str(error).splitlines()[0]
            problems.append(f"{folder}: not of the expected form: {type(error).__name__}: {reason}")
    return list(dict.fromkeys(problems))
