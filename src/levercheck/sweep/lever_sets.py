"""The levers of a study: every readout turned as declared, with all the draws of its controls, and their doses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence import schema
from levercheck.evidence.unit import Row
from levercheck.interventions.controls import ControlSpec
from levercheck.interventions.controls.draw import Pool, draw_controls, family_of
from levercheck.interventions.scopes import parse_scope
from levercheck.interventions.spec import Intervention, Treatment
from levercheck.lm.places import head_shape
from levercheck.readouts.artifact import family_of as readout_family
from levercheck.readouts.artifact import load_artifact
from levercheck.readouts.readout import load_readout
from levercheck.study.spec import Control, inside
from levercheck.study.spec import Intervention as Declared
from levercheck.sweep.cells import LeverArm
from levercheck.sweep.effort import Found, find_doses
from levercheck.sweep.levers import intervention_of
from levercheck.sweep.study import StudyRun


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
    """Every lever of the study that turns something, each followed by its controls; written down as a unit."""
    levers = []
    for name, declared in run.spec.interventions.items():
        if declared.readout is None:
            continue
        target = target_of(run, name)
        levers.append(Lever(name, target))
        for control, spec in run.spec.controls.items():
            if name in run.spec.controlled(control):
                drawn = _draws(run, name, target, spec)
                levers += [Lever(name, one, control, number) for number, one in enumerate(drawn)]
    _write_down(run, levers)
    return levers


def target_of(run: StudyRun, name: str) -> Intervention:
    """The declared lever itself, of an intervention that turns a readout."""
    declared = run.spec.interventions[name]
    return _turned(run, inside(run.base, run.spec.readouts[declared.readout or ""]), declared)


def _turned(run: StudyRun, folder: Path, declared: Declared) -> Intervention:
    options: dict[str, Any] = {"operator": declared.operator, "unit": declared.unit, "k": declared.k}
    options |= {"layers": declared.layers, "scope": parse_scope(declared.scope)}
    options |= {"by": declared.by} if declared.by else {}
    return intervention_of(run.lm, folder, **{k: v for k, v in options.items() if v is not None})


def _draws(run: StudyRun, name: str, target: Intervention, control: Control) -> list[Intervention]:
    declared = run.spec.interventions[name]
    folder = inside(run.base, run.spec.readouts[declared.readout or ""])
    if control.kind == "shuffled":
        refits = sorted(p.parent for p in (folder / "shuffled").glob("*/readout.json"))[: control.draws]
        if len(refits) < control.draws:
            raise NotEnoughDataError(
                f"'{folder.name}' holds {len(refits)} refits on shuffled labels, expected {control.draws}: fit the "
                f"readout with --shuffled {control.draws}"
            )
        return [_turned(run, refit, declared) for refit in refits]
    spec = ControlSpec(control.kind, control.match, control.draws, control.seed, of=name, orthogonal=control.orthogonal)
    family = readout_family(folder) if (folder / "readout.json").is_file() else None
    barred: list[tuple[int, int]] = []
    if family == "neurons":
        barred = list(load_readout(folder).components)
    pool = _pool(run, target, family, folder, control)
    if family == "sae":
        artifact = load_artifact(folder)
        barred = [(edit.site.layer, int(i)) for edit in target.edits for i in artifact.arrays["latents"]]
    return draw_controls(target, spec, pool, exclude=barred)


def _pool(run: StudyRun, target: Intervention, family: str | None, folder: Any, control: Control) -> Pool:
    """What the draws are made of."""
    kind = family_of(target)
    if control.match == "activation":
        from levercheck.sweep.pools import measured_pool

        return measured_pool(run, target, kind)
    if kind == "neurons":
        return Pool(shape=run.lm.shape)
    if kind == "heads":
        layers, heads, width = head_shape(run.lm)
        if family != "heads":
            return Pool(shape=(layers, heads), head_width=width)
        arrays = load_artifact(folder).arrays
        directions = np.zeros((layers, heads, width))
        sigmas = np.zeros((layers, heads))
        at = (arrays["layers"], arrays["heads"])
        directions[at], sigmas[at] = arrays["directions"], arrays["sigma"]
        return Pool((layers, heads), width, head_directions=directions, head_sigmas=sigmas)
    return Pool()


def _write_down(run: StudyRun, levers: Sequence[Lever]) -> None:
    """COMPONENTS rows of every lever and draw."""
    rows = [
        {"lever": lever.name, "control": lever.control, "draw": lever.draw, "site": str(edit.site), "index": index,
         "fingerprint": lever.intervention.fingerprint}
        for lever in levers
        for edit in lever.intervention.edits
        for index in _indices(edit)
    ]  # fmt: skip
    prints = [lever.intervention.fingerprint for lever in levers]
    unit = run.unit(f"levers/{run.digest_of(prints)}", schema.COMPONENTS, ["lever", "control", "draw", "site", "index"])
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
    from levercheck.benchmarks.base import find_benchmark

    benchmark = find_benchmark(run.spec.benchmarks[0])
    items = run.items(benchmark.id, "tune")[: spec.prompts]
    prompts = [run.lm.encode(item.text) for item in items]
    wanted = [(lever, effort) for lever in levers for effort in run.spec.interventions[lever.name].efforts or ()]
    upstream = [
        spec.model_dump(mode="json"), benchmark.id, [item.id for item in items],
        [[lever.intervention.fingerprint, effort] for lever, effort in wanted],
    ]  # fmt: skip
    unit = run.unit(f"efforts/{run.digest_of(upstream)}", schema.EFFORTS, ["lever", "control", "draw", "target"])

    def work(batch: list[tuple[Lever, float]]) -> list[Row]:
        found = find_doses(
            run.lm, run.prefix(benchmark), prompts, [(lever.intervention, effort) for lever, effort in batch], layer,
            tolerance=spec.tolerance, largest=spec.largest,
        )  # fmt: skip
        return [_effort_row(lever, effort, one) for (lever, effort), one in zip(batch, found, strict=True)]

    rows = run.compute(unit, "equal efforts", list(_chunks(wanted, 64)), len(wanted), work)
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


def unreachable(rows: pl.DataFrame) -> pl.DataFrame:
    """Efforts that no dose reached."""
    return rows.filter(pl.col("dose").is_null())
