"""Re-derive a study's levers from its rows: digests of every file, and every number of `levers.json`. No torch."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from levercheck.audit.lever_effects import SCHEMA, lever_effects
from levercheck.audit.verify import differences, digests
from levercheck.errors import LevercheckError, UsageError
from levercheck.evidence.files import read_json
from levercheck.evidence.provenance import SIDECAR
from levercheck.evidence.rows import read_part

FOLDERS = ("explored", "confirmed")
LEVERS = "levers.json"


def is_lever_study(root: Path) -> bool:
    """Whether `root` is the folder of `levercheck run`."""
    return any((root / folder / LEVERS).is_file() for folder in FOLDERS)


def verify_levers(root: Path) -> list[str]:
    """Differences between what a study's folder states and what its rows give, one line each.

    Raises UsageError when `root` is not the output of `levercheck run`.
    """
    if not is_lever_study(root):
        raise UsageError(f"'{root}' has no {' or '.join(f'{f}/{LEVERS}' for f in FOLDERS)}: run the study first")
    problems = digests(root, apart="readouts")  # those that the run made
    for folder in FOLDERS:
        if not (root / folder / LEVERS).is_file():
            continue
        try:
            stored, cells = read_json(root / folder / LEVERS), read_json(root / folder / SIDECAR)["cells"]
            if stored["schema"] != SCHEMA:
                problems.append(f"{folder}/{LEVERS} is of {stored['schema']}, expected {SCHEMA}")
                continue
            fresh = lever_effects(
                pl.concat([read_part(root / cell) for cell in cells]), stored["spec"], stored["benchmarks"]
            )
            problems += [f"{folder}/{LEVERS}: {line}" for line in differences(stored, fresh)]
        except LevercheckError as error:
            problems.append(str(error))
        except (KeyError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
            reason = str(error).splitlines()[0]
            problems.append(f"{folder}: not of the expected form: {type(error).__name__}: {reason}")
    return list(dict.fromkeys(problems))
