"""Freezing a study, and the one run of its confirm items under that lock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levercheck.errors import IntegrityError, NotEnoughDataError, UsageError
from levercheck.evidence.canonical import digest
from levercheck.evidence.files import read_json
from levercheck.evidence.provenance import code, environment, read_sidecar
from levercheck.evidence.reporter import Reporter
from levercheck.interventions.spec import Intervention
from levercheck.lm.model import LanguageModel
from levercheck.study.lock import (
    CALIBRATION,
    CODE,
    Lock,
    check_locked,
    check_opening,
    chosen_spec,
    finish_opening,
    first_difference,
    make_lock,
    open_confirm,
    read_lock,
    write_lock,
)
from levercheck.study.spec import StudySpec
from levercheck.study.used import CONFIRM, items_record, readout_items, refuse_used, units_used
from levercheck.sweep.calibrate import asked_of, calibrated, grid
from levercheck.sweep.cells import BASE, NOOP, LeverArm
from levercheck.sweep.lever_sets import Lever, arms_of, levers_of
from levercheck.sweep.outlook import outlook
from levercheck.sweep.run_study import noted, open_study, run_cells
from levercheck.sweep.study import StudyRun

ROLE = "confirm"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Choice:
    """The cell of the calibrated grid that is deployed; `reason` is there where a person overrode the rule."""

    k: int | None
    dose: float
    reason: str | None = None


def lock_study(
    spec: StudySpec,
    base: Path,
    root: Path,
    lm: LanguageModel,
    reporter: Reporter,
    *,
    override: Choice | None = None,
    replace_old: bool = False,
    notify: Say = lambda line: None,
) -> tuple[Lock, bool]:
    """Freeze the study into `lock.json`; returns the lock and whether it is new.

    A study with a calibrate section needs its calibration; `override` names another calibrated pair, with a reason.
    """
    run = open_study(spec, base, root, lm, reporter)
    chosen = _chosen(run, override)
    frozen, arms = freeze(run, chosen)
    for line in _outlook(run, arms):
        notify(line)
    _refuse_stale(run)
    lock = make_lock(frozen)
    for name in unknown_items(lock):
        notify(f"readout '{name}' does not list its items: whether they are among the confirm items is unknown")
    return lock, write_lock(root, lock, replace=replace_old)


def run_confirm(
    spec: StudySpec,
    base: Path,
    root: Path,
    lm: LanguageModel,
    reporter: Reporter,
    notify: Say = lambda line: None,
) -> tuple[StudyRun, list[str]]:
    """The locked levers, controls and doses on the confirm items, once; returns the run and the names of its units.

    Refused without a lock, where anything differs from what was locked, where items were used before, and where
    another lock opened the items. The same lock continues an opening that was interrupted; of a finished one rows are
    only read.
    """
    lock = read_lock(root)
    opened = check_opening(root, lock)
    check_locked(root, spec)
    _same(lock, "model", _plain(lm.identity))
    run = open_study(spec, base, root, lm, reporter)
    frozen, arms = freeze(run, lock.frozen["chosen"])
    for name in frozen:
        if name != CODE:
            _same(lock, name, frozen[name])
    changed = first_difference(lock.frozen[CODE], _plain(frozen[CODE]))
    if changed:
        notify(f"other code than when it was locked: {changed}")
    if opened is None or "finished_at" not in opened:
        _refuse_stale(run)
    else:
        _refuse_incomplete(run, opened["units"])
    for name in unknown_items(lock):
        notify(f"readout '{name}' does not list its items: whether they are among the confirm items is unknown")
    locked = _locked_run(run, lock.frozen["chosen"])
    if opened is not None and "finished_at" in opened:
        return locked, run_cells(locked, ROLE, arms, folder=CONFIRM)
    for line in _outlook(run, arms):
        notify(line)
    open_confirm(root, lock, code=_plain(frozen[CODE]), code_changed=changed)
    with noted(locked, ROLE):
        units = run_cells(locked, ROLE, arms, folder=CONFIRM)
        finish_opening(root, units)
    return locked, units


def freeze(run: StudyRun, chosen: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[LeverArm]]:
    """Everything that decides the confirm rows, as plain data, in the order in which differences are named; the arms.

    Levers, every control draw, doses of equal effort and items are made anew from the study's files and the model.
    """
    locked = _locked_run(run, chosen)
    levers = levers_of(locked)
    arms = arms_of(locked, levers)
    frozen = {
        "study": run.spec.study,
        "spec": run.spec.model_dump(mode="json"),
        "chosen": chosen,
        "resolved": locked.spec.model_dump(mode="json"),
        "model": run.lm.identity,
        "instrument": run.upstream["instrument"],
        "key": run.key,
        "readouts": {name: _readout(run, name, levers) for name in run.spec.readouts},
        "scopes": {lever.name: str(lever.intervention.scope) for lever in levers if lever.control is None},
        "interventions": {_label(*lever.key): lever.intervention.fingerprint for lever in levers},
        "arms": _arms(arms),
        "unreached": _unreached(locked, levers, arms),
        "benchmarks": {name: run.asked(name, ROLE) for name in run.spec.benchmarks},
        "primary": None if run.spec.primary is None else run.spec.primary.model_dump(mode="json"),
        CODE: {**code(), "versions": environment()["packages"]},
    }
    return frozen, arms


def unknown_items(lock: Lock) -> list[str]:
    """Readouts whose items nobody listed."""
    return [name for name, facts in lock.frozen["readouts"].items() if facts["items"]["status"] == "unknown"]


def _chosen(run: StudyRun, override: Choice | None) -> dict[str, Any] | None:
    """The cell to deploy: of the calibration, or of a person with a reason; None for a study without a grid."""
    spec = run.spec.calibrate
    if spec is None:
        if override is not None:
            raise UsageError("--k and --dose choose from a calibrated grid, and the study has no calibrate section")
        return None
    path = run.root / CALIBRATION
    if not path.is_file():
        raise UsageError(f"'{run.root}' has no {CALIBRATION}: run 'levercheck calibrate' before the lock")
    found = read_json(path)
    _same_calibration(run, found)
    fresh = _plain(calibrated(run, spec, grid(run)))
    fresh["warnings"] = found.get("warnings")  # they also tell of files beside the readouts
    difference = first_difference(found, fresh, CALIBRATION)
    if difference:
        raise IntegrityError(
            f"{difference.replace(', locked ', ', recorded ')}: {CALIBRATION} is not what its rows give: calibrate "
            "again"
        )
    pairs = [(c["k"], c["dose"]) for c in found["candidates"]]
    common = {"intervention": spec.intervention, "calibration": digest(found), "status": found["status"]}
    if override is None:
        if found["selected"] is None:
            raise NotEnoughDataError(
                "the calibration is poisoned: no cell of its shortlist passes the gate. Change the grid, or lock a "
                "calibrated pair with --k, --dose and --reason"
            )
        return {**common, **found["selected"], "by": "rule", "reason": None, "auto": found["selected"]}
    if not override.reason or not override.reason.strip():
        raise UsageError("--k and --dose override the rule's choice: say why with --reason")
    if (override.k, override.dose) not in pairs:
        shown = ", ".join(f"dose {d:g}" if k is None else f"K {k} dose {d:g}" for k, d in pairs)
        raise UsageError(f"K {override.k} dose {override.dose:g} was not calibrated, expected one of: {shown}")
    told = {"k": override.k, "dose": override.dose, "by": "override", "reason": override.reason.strip()}
    return {**common, **told, "auto": found["selected"]}


def _same_calibration(run: StudyRun, found: Mapping[str, Any]) -> None:
    """UsageError where the calibration is of other settings, another scope or another lever than the study now has."""
    for name, value in asked_of(run, grid(run)).items():
        difference = first_difference(found.get(name), _plain(value), name)
        if difference:
            raise UsageError(
                f"the study is no longer what was calibrated: {difference.replace(', locked ', ', calibrated ')}. "
                "Calibrate again, or restore the study"
            )


def _locked_run(run: StudyRun, chosen: Mapping[str, Any] | None) -> StudyRun:
    return run if chosen is None else run.with_levers(chosen_spec(run.spec, chosen["k"], chosen["dose"]))


def _readout(run: StudyRun, name: str, levers: Sequence[Lever]) -> dict[str, Any]:
    """Fingerprint of a readout as its levers state it, and the items it was made from."""
    folder = run.readout_folder(name)
    used = items_record(readout_items(folder))
    turning = [n for n, declared in run.spec.interventions.items() if declared.readout == name]
    made = next((lever.intervention for lever in levers if lever.control is None and lever.name in turning), None)
    return {"fingerprint": None if made is None else _source(made), "items": used}


def _source(made: Intervention) -> str:
    """The readout's fingerprint; of a saved intervention its own."""
    return str(made.facts.get("readout", made.fingerprint))


def _label(lever: str, control: str | None, draw: int | None) -> str:
    return lever if control is None else f"{lever}.{control}-{draw}"


def _arms(arms: Sequence[LeverArm]) -> dict[str, Any]:
    found = {}
    for arm in arms:
        at = arm.effort if arm.effort is not None else arm.dose
        kind = "effort" if arm.effort is not None else "dose"
        name = _label(arm.lever, arm.control, arm.draw)
        label = name if arm.instruction is not None else f"{name} at {kind} {at!r}"
        found[label] = {
            "dose": arm.dose,
            "effort": arm.effort,
            "instruction": arm.instruction,
            "treatment": arm.treatment.fingerprint,
        }
    return found


def _unreached(run: StudyRun, levers: Sequence[Lever], arms: Sequence[LeverArm]) -> list[str]:
    """Declared efforts for which no dose was found: those arms are missing, and stay so."""
    there = {(arm.lever, arm.control, arm.draw, arm.effort) for arm in arms}
    return [
        f"{_label(*lever.key)} at effort {effort!r}"
        for lever in levers
        for effort in run.spec.interventions[lever.name].efforts or ()
        if (*lever.key, effort) not in there
    ]


def _refuse_stale(run: StudyRun) -> None:
    """UsageError where a confirm item, or its entity, was used by rows of this run or to make a readout."""
    listed = [readout_items(run.readout_folder(name)) for name in run.spec.readouts]
    used = [*units_used(run.root), *(one for one in listed if one is not None)]
    for name in run.spec.benchmarks:
        refuse_used(((item.id, item.cluster) for item in run.items(name, ROLE)), used, name)


def _refuse_incomplete(run: StudyRun, units: Sequence[str]) -> None:
    """IntegrityError where a unit of a finished confirm run is gone: its rows are not computed a second time."""
    for name in units:
        sidecar = read_sidecar(run.root / name)
        if sidecar is None or sidecar.get("status") != "complete":
            raise IntegrityError(f"'{name}' is gone, but the confirm run was finished with it: restore the folder")


def _same(lock: Lock, name: str, found: Any) -> None:
    difference = first_difference(lock.frozen[name], _plain(found), name)
    if difference:
        raise UsageError(
            f"the study is not what lock {lock.short} froze: {difference}. Restore it, or lock a new run (--out)"
        )


def _plain(value: Any) -> Any:
    return make_lock({"value": value}).frozen["value"]


def _outlook(run: StudyRun, arms: Sequence[LeverArm]) -> list[str]:
    noop = [LeverArm(NOOP)] if any(arm.instruction is None for arm in arms) else []
    return outlook(run, [LeverArm(BASE), *noop, *arms], ROLE, run.spec.benchmarks).lines
