"""Make every estimate of an analysis from a directory of rows, store the results, and check stored results again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from levercheck.audit.verify import differences
from levercheck.errors import IntegrityError, LevercheckError, UsageError, nearest
from levercheck.evidence.canonical import digest
from levercheck.evidence.files import read_json, write_atomic, write_json
from levercheck.evidence.provenance import SIDECAR, now, write_sidecar
from levercheck.evidence.unit import RESULTS, check_outputs
from levercheck.reanalysis import classify, controls, curves, groups, pairs, paths, rates
from levercheck.reanalysis.registry import Parts, find, make
from levercheck.reanalysis.selection import Selection
from levercheck.reanalysis.spec import Analysis, EstimateSpec, read_analysis
from levercheck.reanalysis.tables import Tables
from levercheck.stats import Estimate

SCHEMA = "levercheck.reanalysis/v1"
COPY = "analysis.yaml"
ARCHIVE = "archive"
_FAMILIES = (classify, controls, curves, groups, pairs, paths, rates)
_OURS = {RESULTS, COPY, SIDECAR, ARCHIVE}


def reanalyze(
    analysis_path: Path | str, rows_dir: Path | str, tick: Callable[[int], None] = lambda done: None
) -> dict[str, Any]:
    """Results of the analysis file over the tables in `rows_dir`; `tick` hears of every finished estimate."""
    return evaluate(read_analysis(Path(analysis_path)), Tables(Path(rows_dir)), tick)


def evaluate(analysis: Analysis, tables: Tables, tick: Callable[[int], None] = lambda done: None) -> dict[str, Any]:
    """Results of a checked analysis; parts of one computation are computed once."""
    for spec in analysis.estimates:
        find(spec.estimator, f"estimate '{spec.id}'")
    made: dict[str, Parts] = {}
    entries: dict[str, dict[str, Any]] = {}
    for spec in analysis.estimates:
        key = digest(spec.settings())
        if key not in made:
            made[key] = make(Selection(spec, tables))
        entries[spec.id] = _pick(spec, made[key]).to_dict()
        tick(1)
    return {
        "schema": SCHEMA,
        "analysis": analysis.analysis,
        "analysis_sha256": digest(analysis.model_dump(mode="json")),
        "tables": tables.used(),
        "entries": entries,
        "not_expressible": dict(sorted(analysis.not_expressible.items())),
    }


def _pick(spec: EstimateSpec, parts: Parts) -> Estimate:
    """The part that the spec names, or the first."""
    name = next(iter(parts)) if spec.part is None else spec.part
    if name not in parts:
        raise UsageError(f"estimate '{spec.id}': {spec.estimator} has no part '{name}'{nearest(name, parts)}")
    found = parts[name]
    notes = [text for text in (found.note, spec.mixed and f"mixed rulers: {spec.mixed}", spec.note) if text]
    return replace(found, note="; ".join(notes) or None)


def write(results: dict[str, Any], analysis_path: Path, out: Path, started: str, archive: bool = False) -> None:
    """Write results, a copy of the analysis and the sidecar to `out`.

    A directory that holds other results is refused, unless `archive` moves them to `out/archive/` first; one that
    holds anything else is refused always.
    """
    foreign = sorted(p.name for p in out.iterdir() if p.name not in _OURS) if out.is_dir() else []
    if foreign:
        raise UsageError(f"'{out}' holds {len(foreign)} other files ({', '.join(foreign[:5])}): use another directory")
    old = out / RESULTS
    if old.is_file() and (before := read_json(old)) != results:
        if not archive:
            raise UsageError(f"'{out}' holds other results: use another directory, or --archive to keep them")
        _archive(out, digest(before)[:12])
    write_atomic(out / COPY, analysis_path.read_bytes())
    write_json(old, results)
    facts = {"unit": "reanalysis", "analysis_sha256": results["analysis_sha256"], "inputs": results["tables"]}
    write_sidecar(out, out, {**facts, "started": started, "ended": now()}, [out / COPY, old], "complete")


def _archive(out: Path, name: str) -> None:
    place = out / ARCHIVE / name
    number = 1
    while place.exists():
        number += 1
        place = out / ARCHIVE / f"{name}-{number}"
    place.mkdir(parents=True)
    for file in (RESULTS, COPY, SIDECAR):
        if (out / file).exists():
            (out / file).replace(place / file)


def is_reanalysis(folder: Path) -> bool:
    """Whether `folder` holds the output of a reanalysis."""
    path = folder / RESULTS
    if not path.is_file():
        return False
    stored = read_json(path)
    return isinstance(stored, dict) and stored.get("schema") == SCHEMA


def verify(folder: Path, rows_dir: Path, tick: Callable[[int], None] = lambda done: None) -> list[str]:
    """Every difference between a reanalysis directory and what its analysis gives on the rows; empty when all agree."""
    problems = []
    try:
        sidecar = read_json(folder / SIDECAR)
        check_outputs(folder, sidecar)
        if sidecar.get("status") != "complete":
            problems.append(f"{SIDECAR} is {sidecar.get('status')}, expected complete")
    except FileNotFoundError:
        problems.append(f"{SIDECAR} is missing")
    except IntegrityError as error:
        problems.append(str(error))
    except (KeyError, TypeError, AttributeError) as error:
        problems.append(f"{SIDECAR} lacks {error}: it is not a provenance sidecar")
    stored = read_json(folder / RESULTS)
    tables = Tables(rows_dir)
    try:
        problems += differences(stored, evaluate(read_analysis(folder / COPY), tables, tick))
    except LevercheckError as error:
        problems.append(str(error))
    return list(dict.fromkeys(problems))
