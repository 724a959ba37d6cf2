"""Re-derive a finished run from its rows: digests, the probe's scores, and every number of audit.json. No torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.cells import cell_results
from levercheck.audit.derive import derive
from levercheck.audit.tables import STUDY
from levercheck.errors import IntegrityError, LevercheckError, UsageError
from levercheck.evidence.canonical import digest
from levercheck.evidence.files import read_json
from levercheck.evidence.provenance import SIDECAR
from levercheck.evidence.rows import content_digest, read_part
from levercheck.evidence.unit import RESULTS, check_outputs, read_array

AUDIT = "audit.json"
TOLERANCE = 1e-9
"""Relative difference that other versions of numpy or other processors may cause in a recomputed number."""


def verify(root: Path) -> list[str]:
    """Every difference found between a run directory's files and what its rows give; an empty list when all agree.

    Raises UsageError when `root` is not the output of a run.
    """
    if not (root / AUDIT).is_file() or not (root / STUDY).is_file():
        raise UsageError(f"'{root}' has no {AUDIT} and {STUDY}: expected the output directory of a finished run")
    problems = digests(root, results=True)
    try:
        problems += _key(root)
        problems += _probe_scores(root)
        stored, fresh = read_json(root / AUDIT), derive(root)
        problems += [f"{AUDIT}: {line}" for line in differences(stored, fresh)]
    except LevercheckError as error:
        problems.append(str(error))
    except (KeyError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
        problems.append(f"the rows do not have the expected form: {type(error).__name__}: {str(error).splitlines()[0]}")
    return list(dict.fromkeys(problems))


def digests(root: Path, *, results: bool = False, apart: str | None = None) -> list[str]:
    """Files against the SHA-256 in every sidecar, rows against their content digest, folders without a sidecar.

    `results` also makes the results of cells again. What is in the folder `apart` is left out.
    """
    own = [] if apart is None else [root / apart]
    problems: list[str] = []
    sidecars = sorted(path for path in root.rglob(SIDECAR) if not _inside(path, own))
    for path in sidecars:
        try:
            sidecar = read_json(path)
            if sidecar["status"] != "complete":
                problems.append(f"{path.parent.relative_to(root).as_posix()} is {sidecar['status']}, expected complete")
            check_outputs(root, sidecar)
            if "rows_sha256" in sidecar and content_digest(read_part(path.parent)) != sidecar["rows_sha256"]:
                problems.append(f"{sidecar['unit']}: the rows' content is not what its sidecar recorded")
            if results and (path.parent / RESULTS).is_file():
                stored, fresh = read_json(path.parent / RESULTS), cell_results(read_part(path.parent))
                problems += [f"{sidecar['unit']}/{RESULTS}: {line}" for line in differences(stored, fresh)]
        except IntegrityError as error:
            problems.append(str(error))
        except (KeyError, TypeError) as error:
            problems.append(f"{path.relative_to(root).as_posix()} lacks {error}: it is not a provenance sidecar")
    known = {path.parent for path in sidecars}
    for rows in sorted(root.rglob("rows")):
        if rows.is_dir() and rows.parent not in known and not _inside(rows, own):
            problems.append(f"{rows.parent.relative_to(root).as_posix()} has rows but no {SIDECAR}")
    return problems


def _inside(path: Path, folders: list[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def _key(root: Path) -> list[str]:
    """The run's key must be the digest of the settings, model, facts and instrument that study.json states."""
    study = read_json(root / STUDY)
    names = ("spec", "model", "facts", "instrument")
    missing = [name for name in names if not isinstance(study, dict) or name not in study]
    if missing:
        return [f"{STUDY} lacks {', '.join(missing)}"]
    if study.get("key") != digest({name: study[name] for name in names}):
        return [f"{STUDY}: the key is not the digest of its settings: they were edited"]
    return []


def _probe_scores(root: Path) -> list[str]:
    """The stored test scores must follow from the captured activations and the stored weights."""
    readout = read_part(root / "readout")
    weights = readout.filter(pl.col("layer").is_not_null())
    scores = read_part(root / "probe").filter(pl.col("purpose") == "test").sort("item_id")
    index = dict(read_part(root / "capture").select("item_id", "index").iter_rows())
    features = read_array(root / "capture" / "cett.npy")
    rows = np.array([index[item] for item in scores["item_id"]])
    values = features[rows][:, weights["layer"].to_numpy(), weights["index"].to_numpy()].astype(np.float64)
    scaled = (values - weights["mean"].to_numpy()) / weights["deviation"].to_numpy()
    intercept = readout.filter(pl.col("layer").is_null())["weight"].item()
    gap = np.abs(scaled @ weights["weight"].to_numpy() + intercept - scores["score"].to_numpy())
    if gap.max(initial=0) > 1e-6:
        return [f"probe: {int((gap > 1e-6).sum())} test scores do not follow from cett.npy and the stored weights"]
    return []


def differences(stored: Any, fresh: Any, path: str = "") -> list[str]:
    """Where two JSON values differ; numbers agree within TOLERANCE, everything else exactly."""
    if isinstance(stored, dict) and isinstance(fresh, dict):
        found = []
        for key in sorted(stored.keys() | fresh.keys()):
            inner = f"{path}.{key}" if path else key
            if key not in stored:
                found.append(f"{inner} is missing, the rows give {_short(fresh[key])}")
            elif key not in fresh:
                found.append(f"{inner} is {_short(stored[key])}, the rows give nothing")
            else:
                found += differences(stored[key], fresh[key], inner)
        return found
    if isinstance(stored, list) and isinstance(fresh, list) and len(stored) == len(fresh):
        return [
            d for i, (a, b) in enumerate(zip(stored, fresh, strict=True)) for d in differences(a, b, f"{path}[{i}]")
        ]
    if _is_number(stored) and _is_number(fresh) and math.isclose(stored, fresh, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        return []
    if type(stored) is type(fresh) and stored == fresh:
        return []
    return [f"{path} is {_short(stored)}, the rows give {_short(fresh)}"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
