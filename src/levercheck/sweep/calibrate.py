"""`levercheck calibrate`: the K x dose grid of a study on its tune items, and the cell that the rule picks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.audit.calibration import CURSE, Candidate, Rule, Selection, optimism, poison_reasons, select
from levercheck.benchmarks.base import find_benchmark
from levercheck.benchmarks.counterfactual import WITHOUT_CONTEXT
from levercheck.benchmarks.embedded import facts
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence import schema
from levercheck.evidence.canonical import digest
from levercheck.evidence.files import read_json, write_json
from levercheck.evidence.ledger import note
from levercheck.evidence.reporter import Reporter
from levercheck.evidence.splits import spread
from levercheck.interventions.spec import Intervention, Treatment
from levercheck.lm.model import LanguageModel
from levercheck.study.lock import ARCHIVE, CALIBRATION, LOCK, chosen_spec
from levercheck.study.spec import Calibrate, StudySpec
from levercheck.study.used import readout_items
from levercheck.sweep.cells import BASE, LeverArm
from levercheck.sweep.grid import Measured, candidate_of, changes_of, harm_of_baseline
from levercheck.sweep.lever_sets import target_of
from levercheck.sweep.outlook import outlook
from levercheck.sweep.perplexity import Statement, statement_work
from levercheck.sweep.run_study import noted, open_study, read_cells, run_cell
from levercheck.sweep.study import MIN_ITEMS, StudyRun

SCHEMA = "levercheck.calibration/v1"
FOLDER = "calibrate"
ROLE = "tune"
STATEMENTS = 64
"""Statements whose perplexity is measured, at most."""


@dataclass(frozen=True)
class Column:
    """One K of the grid: the lever it makes and the doses it is turned to, the no-op left out."""

    k: int | None
    intervention: Intervention
    arms: tuple[LeverArm, ...]

    @property
    def condition(self) -> str:
        """Name of its units."""
        return self.arms[0].lever


def calibrate(
    spec: StudySpec,
    base: Path,
    root: Path,
    lm: LanguageModel,
    reporter: Reporter,
    notify: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Measure the grid, choose, and write `calibration.json`; returns its content.

    Finished units are kept and read again. `notify` hears what the run will cost before it starts. A grid that was
    calibrated before in this folder with other settings is archived, or a UsageError where a lock rests on it.
    """
    declared = spec.calibrate
    if declared is None:
        raise UsageError("the study has no calibrate section: add one with intervention, doses and objective")
    run = open_study(spec, base, root, lm, reporter)
    with noted(run, FOLDER):
        columns = grid(run)
        arms = [LeverArm(BASE), *(arm for column in columns for arm in column.arms)]
        for line in outlook(run, arms, ROLE, surfaces_of(spec)).lines:
            notify(line)
        _refuse_locked(root, digest(asked_of(run, columns)))
        body = calibrated(run, declared, columns)
        _put(root, body)
    note(root, "analysed", what=CALIBRATION, status=body["status"])
    return body


def calibrated(run: StudyRun, declared: Calibrate, columns: list[Column]) -> dict[str, Any]:
    """What `calibration.json` holds, from the rows of the grid: finished units are read, others are measured."""
    asked = asked_of(run, columns)
    units, measured = _measure(run, columns, surfaces_of(run.spec))
    return {
        "schema": SCHEMA, "key": digest(asked), **asked, "units": units, **_choose(run, declared, columns, measured),
    }  # fmt: skip


def grid(run: StudyRun) -> list[Column]:
    """Every K with its doses. Two K that make the same lever are a UsageError, and so is a grid of no-op doses."""
    declared = run.spec.calibrate
    assert declared is not None
    name, columns = declared.intervention, []
    made: dict[str, int | None] = {}
    for k in declared.ks or (None,):
        chosen = run.with_levers(chosen_spec(run.spec, k, 0.0))
        lever = target_of(chosen, name)
        if lever.fingerprint in made:
            raise UsageError(
                f"K = {k} of '{name}' makes the same lever as K = {made[lever.fingerprint]}: leave one out"
            )
        made[lever.fingerprint] = k
        label = name if k is None else f"{name}-k{k}"
        reconstructs = lever.operator == "sae_full"  # whose no-op dose is a reconstruction
        doses = [dose for dose in declared.doses if dose != lever.noop or reconstructs]
        if not doses:
            raise UsageError(f"calibrate.doses holds nothing but the no-op dose of '{name}' ({lever.noop:g})")
        columns.append(
            Column(k, lever, tuple(LeverArm(label, dose=dose, treatment=Treatment(((lever, dose),))) for dose in doses))
        )
    return columns


def surfaces_of(spec: StudySpec) -> list[str]:
    """Benchmarks of a calibration: objective, secondary, bare surfaces, and every one that generates answers."""
    assert spec.calibrate is not None
    wanted = {spec.calibrate.objective, spec.calibrate.secondary, *bare_surfaces(spec)}
    return [name for name in spec.benchmarks if name in wanted or find_benchmark(name).kind == "answer"]


def bare_surfaces(spec: StudySpec) -> list[str]:
    """Where a loss of bare accuracy shows: bare-facts, or else the externality surfaces."""
    if WITHOUT_CONTEXT in spec.benchmarks:
        return [WITHOUT_CONTEXT]
    return list(spec.externality.surfaces) if spec.externality else []


def statements_of(run: StudyRun) -> list[Statement]:
    """True statements of tune-role facts, one per entity before a second of any."""
    own = [fact for fact in facts().values() if run.roles.get(fact.entity) == ROLE]
    limit = min(STATEMENTS, run.spec.items.limit or STATEMENTS)
    chosen = spread(own, lambda f: (f.id, f.entity), limit, run.spec.items.per_entity, run.spec.seed)
    if len(chosen) < MIN_ITEMS:
        raise NotEnoughDataError(
            f"{len(chosen)} facts have role {ROLE}, expected at least {MIN_ITEMS} for the perplexity: raise its share"
        )
    return [Statement(fact.id, fact.entity, fact.assertion(fact.answer)) for fact in chosen]


def _measure(run: StudyRun, columns: Sequence[Column], surfaces: Sequence[str]) -> tuple[list[str], Measured]:
    """Rows of the unhooked model once and of every K with all its doses, per benchmark; names of the units."""
    groups = [(BASE, (LeverArm(BASE),)), *((column.condition, column.arms) for column in columns)]
    cells = [run_cell(run, name, label, arms, ROLE, FOLDER) for name in surfaces for label, arms in groups]
    statements = statements_of(run)
    tables, names = [], []
    for label, arms in groups:
        upstream = [[s.id for s in statements], [[arm.lever, arm.dose, arm.treatment.fingerprint] for arm in arms]]
        name = f"{FOLDER}/perplexity/{label}-{run.digest_of(upstream)}"
        unit = run.unit(name, schema.STATEMENTS, ["lever", "dose", "item_id"], upstream)
        engine, work = statement_work(run.lm, statements, arms, ROLE)
        rows = run.compute(unit, f"{label}, perplexity", engine.blocks(), len(statements) * len(arms), work)
        names.append(unit.name)
        tables.append(rows)
    return [*cells, *names], Measured(read_cells(run.root, cells), pl.concat(tables))


def _choose(run: StudyRun, declared: Calibrate, columns: Sequence[Column], measured: Measured) -> dict[str, Any]:
    """The table of the grid, the selection with its trace, and what a reader must be warned of."""
    bare = {name: run.benchmark(name).better == "lower" for name in bare_surfaces(run.spec)}
    made: list[tuple[Candidate, dict[str, Any]]] = []
    for column in columns:
        for arm in column.arms:
            assert arm.dose is not None
            distance = abs(arm.dose - column.intervention.noop)
            made.append(
                candidate_of(
                    measured, arm.lever, arm.dose, column.k, distance, declared.objective, declared.secondary, bare
                )
            )
    candidates = [candidate for candidate, _ in made]
    limits = {name: float(value) for name, value in declared.poison.model_dump().items()}
    items = len(run.items(declared.objective, ROLE))
    chosen = select(candidates, Rule(declared.direction, declared.tolerance, limits), items)
    records = [
        {**record, "fingerprint": arm.treatment.fingerprint, "poison": poison_reasons(candidate, limits)}
        for (candidate, record), arm in zip(made, (a for c in columns for a in c.arms), strict=True)
    ]
    baseline = harm_of_baseline(measured)
    changes, clusters = changes_of(
        measured, declared.objective, [(c.condition, a.dose) for c in columns for a in c.arms]
    )
    curse: dict[str, Any] = {"sentence": CURSE, "optimism": None}
    if len(clusters) > 1:
        curse["optimism"] = optimism(changes, clusters, declared.direction, seed=run.spec.seed).to_dict()
    return {
        **chosen.to_dict(),
        "candidates": records,
        "baseline": {name: estimate.to_dict() for name, estimate in baseline.items()},
        "winners_curse": curse,
        "warnings": _warnings(run, declared, chosen, candidates, baseline, limits),
    }


def _warnings(
    run: StudyRun,
    declared: Calibrate,
    chosen: Selection,
    candidates: Sequence[Candidate],
    baseline: dict[str, Any],
    limits: dict[str, float],
) -> list[str]:
    found = []
    unmeasured = [name for name in limits if all(name not in c.harms for c in candidates)]
    if "bare_loss" in unmeasured:
        found.append(f"bare accuracy was not measured: add {WITHOUT_CONTEXT} to benchmarks, or externality surfaces")
    if "cap_hits" in unmeasured:
        found.append("cap hits and verdicts were not measured: no benchmark of the study generates answers")
    for name, estimate in baseline.items():
        if estimate.value is not None and name in limits and estimate.value > limits[name]:
            found.append(f"the unhooked model itself exceeds the limit on {name} ({estimate.value:.3g})")
    readout = run.spec.interventions[declared.intervention].readout or ""
    used = readout_items(run.readout_folder(readout))
    if used is None:
        found.append(
            f"the readout '{readout}' does not list the items it was made from: they may be among the tune items"
        )
    else:
        shared = used.overlap((item.id, item.cluster) for item in run.items(declared.objective, ROLE))
        if shared:
            found.append(f"the tune items are not independent of the readout: {shared}")
    if chosen.chosen is not None:
        if not chosen.chosen.objective.excludes(0.0):
            found.append("the interval of the chosen objective includes 0: the lever may not move it at all")
        same = [c for c in candidates if c.k == chosen.chosen.k]
        if len(same) > 1 and chosen.chosen.distance >= max(c.distance for c in same):
            found.append("the chosen dose is the farthest of the grid from the no-op: a better one may lie beyond")
    return found


def asked_of(run: StudyRun, columns: Sequence[Column]) -> dict[str, Any]:
    """What a calibration was asked: its digest is the key, which another model, artifact, grid or item list changes."""
    declared, surfaces = run.spec.calibrate, surfaces_of(run.spec)
    assert declared is not None
    items = {surface: run.asked(surface, ROLE)["digest"] for surface in surfaces}
    return {
        "run": run.key,
        "settings": declared.model_dump(mode="json"),
        "intervention": declared.intervention,
        "operator": columns[0].intervention.operator,
        "scope": str(columns[0].intervention.scope),
        "noop": columns[0].intervention.noop,
        "levers": [{"k": c.k, "fingerprint": c.intervention.fingerprint} for c in columns],
        "items": {"role": ROLE, "digests": items, "n": {s: len(run.items(s, ROLE)) for s in surfaces}},
    }


def _refuse_locked(root: Path, key: str) -> None:
    path = root / CALIBRATION
    if path.exists() and read_json(path).get("key") != key and (root / LOCK).exists():
        raise UsageError(
            f"'{root}' is locked, and its lock rests on another calibration (see {CALIBRATION}): give another --out"
        )


def _put(root: Path, body: dict[str, Any]) -> None:
    path = root / CALIBRATION
    if path.exists():
        old = read_json(path)
        if old == body:
            return
        if old.get("key") != body["key"]:
            write_json(root / ARCHIVE / f"calibration-{digest(old)[:12]}.json", old)
    write_json(path, body)
