"""`levercheck run`: from a study file to rows, in a folder that a kill cannot spoil."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.errors import UsageError
from levercheck.evidence import schema
from levercheck.evidence.files import read_json, write_json
from levercheck.evidence.ledger import note
from levercheck.evidence.reporter import Reporter
from levercheck.interventions.spec import Treatment
from levercheck.lm.model import LanguageModel
from levercheck.study.spec import StudySpec
from levercheck.sweep.cells import BASE, NOOP, LeverArm, cell_work
from levercheck.sweep.lever_sets import arms_of, levers_of
from levercheck.sweep.outlook import outlook
from levercheck.sweep.study import StudyRun

STUDY = "study.json"
SCHEMA = "levercheck.study/v1"
EXPLORED = "tune"
ORDER = ["lever", "control", "draw", "dose", "item_id"]


def open_study(spec: StudySpec, base: Path, root: Path, lm: LanguageModel, reporter: Reporter) -> StudyRun:
    """Write `study.json` before the first row, or check that a continued run still means the same."""
    run = StudyRun(spec, base, root, lm, reporter)
    path = root / STUDY
    told = {"spec": spec.model_dump(mode="json"), "surfaces": surfaces_of(run)}
    body = {"schema": SCHEMA, "key": run.key, **told, **run.upstream}
    if not path.exists():
        write_json(path, body)
        note(root, "planned", key=run.key)
        return run
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("schema") != SCHEMA:
        raise UsageError(f"'{root}' holds another kind of run: give --out a new or empty directory")
    changed = [name for name in ("key", "model", "instrument") if stored.get(name) != body[name]]
    if changed:
        raise UsageError(
            f"'{root}' was started with another {' and '.join(changed)} (see its {STUDY}): give another --out, or go "
            "back to what it was started with"
        )
    if any(stored.get(name) != body[name] for name in told):  # more to run: finished units keep their keys
        write_json(path, body)
        note(root, "planned", key=run.key, spec=spec.fingerprint)
    return run


def surfaces_of(run: StudyRun) -> dict[str, dict[str, Any]]:
    """What a reader must know to read each benchmark's numbers, and what grading rests on."""
    parts = ("id", "construct", "metric", "better", "binary", "kind", "caution", "ruler", "licence", "value_unit")
    found = {name: run.benchmark(name) for name in run.spec.benchmarks}
    return {
        name: {
            **{part: getattr(one, part) for part in parts},
            "style": one.style_name,
            "chat": one.style.chat,
            "policy": asdict(one.policy) if one.kind == "answer" else None,
            "data": run.data(name),
        }
        for name, one in found.items()
    }


def run_cells(run: StudyRun, role: str, arms: Sequence[LeverArm], folder: str = "cells") -> list[str]:
    """Every arm on every benchmark; returns the names of the units in the order of the study."""
    plain = [arm for arm in arms if arm.instruction is None]
    groups: dict[str, list[LeverArm]] = {BASE: [LeverArm(BASE)]}
    if plain:
        groups[NOOP] = [LeverArm(NOOP, treatment=_noop(plain))]
    for arm in arms:
        groups.setdefault(arm.condition, []).append(arm)
    names = []
    for benchmark in run.spec.benchmarks:
        for condition, members in groups.items():
            names.append(run_cell(run, benchmark, condition, members, role, folder))
    return names


def _noop(arms: Sequence[LeverArm]) -> Treatment:
    """Every lever at its no-op dose, one after the other. Dictionaries in full replacement have no such dose."""
    first = {arm.lever: arm.treatment.parts[0][0] for arm in arms if arm.control is None}
    return Treatment(tuple((i, i.noop) for i in first.values() if i.operator != "sae_full"))


def run_cell(run: StudyRun, name: str, condition: str, arms: Sequence[LeverArm], role: str, folder: str) -> str:
    """Some arms, which share their instruction, on one benchmark; returns the name of the unit."""
    benchmark, items = run.benchmark(name), run.items(name, role)
    engine, work = cell_work(run.lm, benchmark, items, arms, role, run.spec.seed)
    upstream = [
        name, run.asked(name, role), arms[0].instruction,
        [[arm.lever, arm.control, arm.draw, arm.dose, arm.effort, arm.treatment.fingerprint] for arm in arms],
    ]  # fmt: skip
    unit = run.unit(f"{folder}/{name}/{condition}-{run.digest_of(upstream)}", schema.LEVERS, ORDER, upstream)
    run.compute(unit, f"{condition} on {name}", engine.blocks(), len(items) * len(arms), work)
    return unit.name


def read_cells(root: Path, names: Sequence[str]) -> pl.DataFrame:
    """LEVERS rows of finished units, one table."""
    from levercheck.evidence.rows import read_part

    return pl.concat([read_part(root / name) for name in names])


@contextmanager
def noted(run: StudyRun, role: str) -> Iterator[None]:
    """Write into the ledger how a run began and ended."""
    note(run.root, "started", key=run.key, role=role)
    clock = time.monotonic()
    try:
        yield
    except BaseException as error:
        kind = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        note(run.root, kind, error=type(error).__name__, seconds=round(time.monotonic() - clock, 1))
        raise
    note(run.root, "finished", key=run.key, role=role, seconds=round(time.monotonic() - clock, 1))


def run_study(
    spec: StudySpec,
    base: Path,
    root: Path,
    lm: LanguageModel,
    reporter: Reporter,
    notify: Callable[[str], None] = lambda line: None,
) -> tuple[StudyRun, list[str]]:
    """The exploratory run: the declared levers, controls and doses on the tune items."""
    run = open_study(spec, base, root, lm, reporter)
    with noted(run, EXPLORED):
        arms = arms_of(run, levers_of(run))
        for line in outlook(run, arms, EXPLORED, spec.benchmarks).lines:
            notify(line)
        names = run_cells(run, EXPLORED, arms)
    return run, names
