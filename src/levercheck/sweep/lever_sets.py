"""The levers of a study: every readout turned as declared, with all the draws of its controls, and their doses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levercheck.audit.balance import BalanceRow
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence import schema
from levercheck.evidence.unit import Row
from levercheck.interventions.controls import ControlSpec
from levercheck.interventions.scopes import parse_scope
from levercheck.interventions.spec import Intervention, Treatment
from levercheck.readouts.component_statistics import ComponentStatistics, component_statistics
from levercheck.readouts.component_store import FACTS, load_statistics, save_statistics
from levercheck.study.spec import Intervention as Declared
from levercheck.sweep.cells import LeverArm
from levercheck.sweep.control_pools import excluded, pool_of
from levercheck.sweep.control_preview import preview
from levercheck.sweep.effort import Found, find_doses
from levercheck.sweep.levers import intervention_of
from levercheck.sweep.study import StudyRun

STATISTICS_PROMPTS = 64


@dataclass(frozen=True)
class Lever:
    """One set of components to turn: the declared one, or a draw of a control."""

    name: str
    intervention: Intervention
    control: str | None = None
    draw: int | None = None

    @property
    def key(self) -> tuple[str, str | None, int | None]:
        """What names it in rows."""
        return self.name, self.control, self.draw


def levers_of(run: StudyRun) -> list[Lever]:
    """Every lever of the study that turns something, each followed by its controls.

    Components and the balance of every control are written down as units before anything is turned.
    """
    targets = {name: target_of(run, name) for name, declared in run.spec.interventions.items() if declared.readout}
    wanted = [
        (name, control) for name in targets for control in run.spec.controls if name in run.spec.controlled(control)
    ]
    material = _material(run, targets) if wanted else None
    levers, balance = [], []
    for name, target in targets.items():
        levers.append(Lever(name, target))
        for control in (c for n, c in wanted if n == name):
            assert material is not None
            drawn, rows = _draws(run, name, target, control, material)
            levers += [Lever(name, one, control, number) for number, one in enumerate(drawn)]
            balance += [{"lever": name, "control": control, **row} for row in rows]
    named = [[*lever.key, lever.intervention.fingerprint] for lever in levers]
    _write_down(run, levers, named)
    rests = [named, run.asked(run.spec.benchmarks[0], "tune")["digest"] if wanted else None]
    unit = run.unit(f"balance/{run.digest_of(rests)}", schema.BALANCE, ["lever", "control", "covariate"], rests)
    run.compute(unit, "balance of controls", [None], len(balance), lambda _: balance)
    run.units["balance"] = unit.name
    return levers


def target_of(run: StudyRun, name: str) -> Intervention:
    """The declared lever itself, of an intervention that turns a readout."""
    declared = run.spec.interventions[name]
    return _turned(run, run.readout_folder(declared.readout or ""), declared)


def _turned(run: StudyRun, folder: Path, declared: Declared) -> Intervention:
    options: dict[str, Any] = {"operator": declared.operator, "unit": declared.unit, "k": declared.k}
    options |= {"layers": declared.layers, "scope": parse_scope(declared.scope)}
    options |= {"by": declared.by} if declared.by else {}
    return intervention_of(run.lm, folder, **{k: v for k, v in options.items() if v is not None})


@dataclass(frozen=True)
class _Material:
    """What controls are made from and compared on: prompts where levers will act, every component measured there."""

    sequences: list[list[int]]
    statistics: ComponentStatistics


def _material(run: StudyRun, targets: Mapping[str, Intervention]) -> _Material:
    name = run.spec.benchmarks[0]
    prefix, prompts = run.encoded(name, run.items(name, "tune")[:STATISTICS_PROMPTS])  # and no confirm item
    sequences = [prefix + prompt for prompt in prompts]
    dictionaries = {
        edit.sae.fingerprint: edit.sae for target in targets.values() for edit in target.edits if edit.sae is not None
    }
    folder = run.root / "components" / run.digest_of([run.key, sequences, sorted(dictionaries)])
    if not (folder / FACTS).is_file():  # kept, so that the same draws come out wherever the run continues
        with run.reporter.stage("measure components", len(sequences), "prompts") as tick:
            found = component_statistics(run.lm, sequences, saes=list(dictionaries.values()), tick=tick)
            save_statistics(found, folder)
    return _Material(sequences, load_statistics(folder))


def _draws(
    run: StudyRun, name: str, target: Intervention, control: str, material: _Material
) -> tuple[Sequence[Intervention], list[Row]]:
    """The draws of one control of one lever, and their BALANCE rows (none for refits, which are not matched)."""
    declared, spec = run.spec.interventions[name], run.spec.controls[control]
    folder = run.readout_folder(declared.readout or "")
    if spec.kind == "shuffled":
        refits = sorted(p.parent for p in (folder / "shuffled").glob("*/readout.json"))[: spec.draws]
        if len(refits) < spec.draws:
            raise NotEnoughDataError(
                f"'{folder.name}' holds {len(refits)} refits on shuffled labels, expected {spec.draws}: fit the "
                f"readout with --shuffled {spec.draws}"
            )
        return [_turned(run, refit, declared) for refit in refits], []
    asked = ControlSpec(spec.kind, spec.match, spec.draws, spec.seed, of=name, orthogonal=spec.orthogonal)
    measured = material.statistics
    pool = pool_of(run.lm, target, folder, statistics=measured, sequences=material.sequences, seed=spec.seed)
    found = preview(target, asked, pool, measured, exclude=excluded(folder, target))
    return found.draws, [_balance_row(row) for row in found.rows]


def _balance_row(row: BalanceRow) -> Row:
    plain = {name: getattr(row, name) for name in ("covariate", "kind", "target", "smd", "rank", "of", "p", "flagged")}
    mean = row.controls
    return {**plain, "mean": mean.value, "low": mean.low, "high": mean.high, "unit": mean.unit}


def _write_down(run: StudyRun, levers: Sequence[Lever], named: Sequence[Sequence[Any]]) -> None:
    """COMPONENTS rows of every lever and draw."""
    rows: list[Row] = [
        {"lever": lever.name, "control": lever.control, "draw": lever.draw, "site": str(edit.site), "index": index,
         "fingerprint": lever.intervention.fingerprint}
        for lever in levers
        for edit in lever.intervention.edits
        for index in _indices(edit)
    ]  # fmt: skip
    order = ["lever", "control", "draw", "site", "index"]
    unit = run.unit(f"levers/{run.digest_of(named)}", schema.COMPONENTS, order, named)
    run.compute(unit, "choose levers", [None], len(rows), lambda _: rows)


def _indices(edit: Any) -> list[int | None]:
    for name in ("indices", "latents"):
        if name in edit.arrays:
            return [int(i) for i in edit.arrays[name]]
    return [None]


def arms_of(run: StudyRun, levers: Sequence[Lever]) -> list[LeverArm]:
    """Every lever and draw at every dose, the no-op left out; doses of declared efforts are measured first."""
    arms = [
        LeverArm(name, instruction=declared.instruction)
        for name, declared in run.spec.interventions.items()
        if declared.is_prompt
    ]
    by_effort = _efforts(run, [lever for lever in levers if run.spec.interventions[lever.name].efforts])
    for lever in levers:
        declared = run.spec.interventions[lever.name]
        doses: list[tuple[float, float | None]]
        if declared.efforts:
            found = [(by_effort[(*lever.key, effort)], effort) for effort in declared.efforts]
            doses = [(dose, effort) for dose, effort in found if dose is not None]
        else:
            identity = lever.intervention.operator != "sae_full"  # whose no-op dose is a reconstruction
            doses = [(d, None) for d in declared.doses or () if d != lever.intervention.noop or not identity]
        for dose, effort in doses:
            treatment = Treatment(((lever.intervention, dose),))
            arms.append(LeverArm(lever.name, lever.control, lever.draw, dose, effort, treatment))
    return arms


def _efforts(run: StudyRun, levers: Sequence[Lever]) -> dict[tuple[Any, ...], float | None]:
    """Doses of the declared efforts by (lever, control, draw, effort)."""
    if not levers:
        return {}
    spec = run.spec.effort
    layer = run.lm.shape[0] - 1 if spec.layer is None else spec.layer
    if not 0 <= layer < run.lm.shape[0]:
        raise UsageError(f"effort.layer is {layer}, expected 0 to {run.lm.shape[0] - 1}")
    name = run.spec.benchmarks[0]
    prefix, prompts = run.encoded(name, run.items(name, "tune")[: spec.prompts])
    wanted = [(lever, effort) for lever in levers for effort in run.spec.interventions[lever.name].efforts or ()]
    upstream = [
        spec.model_dump(mode="json"), name, run.asked(name, "tune")["digest"],
        [[*lever.key, lever.intervention.fingerprint, effort] for lever, effort in wanted],
    ]  # fmt: skip
    order = ["lever", "control", "draw", "target"]
    unit = run.unit(f"efforts/{run.digest_of(upstream)}", schema.EFFORTS, order, upstream)

    def work(batch: list[tuple[Lever, float]]) -> list[Row]:
        found = find_doses(
            run.lm, prefix, prompts, [(lever.intervention, effort) for lever, effort in batch], layer,
            tolerance=spec.tolerance, largest=spec.largest,
        )  # fmt: skip
        return [_effort_row(lever, effort, one) for (lever, effort), one in zip(batch, found, strict=True)]

    rows = run.compute(unit, "equal efforts", list(_chunks(wanted, 64)), len(wanted), work)
    run.units["efforts"] = unit.name
    keys = rows.select("lever", "control", "draw", "target", "dose").iter_rows()
    return {(lever, control, draw, target): dose for lever, control, draw, target, dose in keys}


def _effort_row(lever: Lever, effort: float, found: Found) -> Row:
    measured = found.measured
    estimate = None if measured is None else measured.estimate
    return {
        "lever": lever.name,
        "control": lever.control,
        "draw": lever.draw,
        "target": effort,
        "dose": found.dose,
        "effort": None if estimate is None else estimate.value,
        "low": None if estimate is None else estimate.low,
        "high": None if estimate is None else estimate.high,
        "prompts": 0 if measured is None else len(measured.efforts),
        "relative_dose": None if measured is None else measured.relative_dose,
        "reason": found.reason,
    }


def _chunks(values: Sequence[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
