"""What a study will cost and can show, from its file alone: no model is loaded and nothing is measured.

Counts are upper bounds. Where a benchmark's data are not on this machine, the number of its items is what the published
data set has; where items depend on what the model knows, as if it knew everything. The smallest effect that can be
detected is that of a two-sided McNemar test at 5 % with 80 % power, for three shares of items that change at all,
because that share is not known before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from levercheck.benchmarks.base import benchmark_names, find_benchmark, used
from levercheck.benchmarks.data import ENDINGS, found, local_file
from levercheck.stats import attainable_p, mde_paired_proportion
from levercheck.study.counting import Count, counted
from levercheck.study.spec import Intervention, Readout, StudySpec, inside
from levercheck.study.uses import check_source, use_of

DISCORDANCE = (0.05, 0.1, 0.2)
"""Shares of items whose outcome changes, for which the smallest detectable effect is stated."""
NOOP = {"scale": 1.0, "sae_delta": 1.0, "replace": 0.0, "shift": 0.0, "add": 0.0, "ablate": 0.0}
SHIPPED = ("facts", "nonexist")
"""Sources of readouts that need no file."""
REFERENCES = 2
"""The baseline, and every hook at its no-op dose."""


@dataclass(frozen=True)
class Surface:
    """One benchmark of a plan. `items` by role; `here`: whether they were counted from data on this machine."""

    benchmark: str
    kind: str
    style: str
    here: bool
    items: Mapping[str, int]  # with replicates
    entities: Mapping[str, int]
    rows: Mapping[str, int]
    generated_tokens: Mapping[str, int]  # at most


@dataclass(frozen=True)
class Plan:
    """The plan of one study."""

    study: str
    model: str
    points: Mapping[str, int]  # of each lever's curve
    arms: int  # points of all levers and of all draws of their controls
    surfaces: tuple[Surface, ...]
    calibration_rows: int  # of the grid K x dose and its baseline
    controls: Mapping[str, Mapping[str, Any]]
    primary: Mapping[str, Any] | None
    to_get: tuple[str, ...]  # what is not on this machine
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def plan(spec: StudySpec, base: Path) -> Plan:
    """Plan a study. Errors of the file, of data that are there and of manifests are raised as a run would."""
    points = {name: _points(lever) for name, lever in spec.interventions.items()}
    drawn = sum(
        control.draws * points[lever] for name, control in spec.controls.items() for lever in spec.controlled(name)
    )
    arms = sum(points.values()) + drawn
    counts, missing = counted(spec, base)
    surfaces = tuple(_surface(spec, base, name, counts[name], arms) for name in spec.benchmarks)
    notes = list(_notes(spec, base))
    primary = None
    if spec.primary is not None:
        primary = _primary(spec, next(s for s in surfaces if s.benchmark == spec.primary.benchmark), notes)
    controls: dict[str, dict[str, Any]] = {
        name: {
            "of": list(spec.controlled(name)),
            "draws": control.draws,
            "smallest_p_two_sided": attainable_p(control.draws, "two-sided"),
        }
        for name, control in spec.controls.items()
    }
    for name, one in controls.items():
        if one["smallest_p_two_sided"] > 0.05:
            notes.append(
                f"control {name}: {one['draws']} draws reach no rank p below {one['smallest_p_two_sided']:.2g}"
            )
    return Plan(
        spec.study, spec.model, points, arms, surfaces, _calibration(spec, surfaces), controls, primary,
        tuple(dict.fromkeys([*missing, *_readouts(spec, base)])), tuple(notes),
    )  # fmt: skip


def _points(lever: Intervention) -> int:
    if lever.is_prompt:
        return 1
    if lever.efforts:
        return len(lever.efforts)
    noop = NOOP.get(lever.operator or "")
    return sum(dose != noop for dose in lever.doses or ())


def _surface(spec: StudySpec, base: Path, name: str, count: Count, arms: int) -> Surface:
    benchmark = used(use_of(spec, base, name))
    turns = 2 if benchmark.style.then else 1
    rows = {role: items * (arms + REFERENCES) for role, items in count.items.items()}
    cap = benchmark.policy.max_new_tokens * turns if benchmark.kind == "answer" else 0
    tokens = {role: n * cap for role, n in rows.items()}
    return Surface(name, benchmark.kind, benchmark.style_name, count.here, count.items, count.entities, rows, tokens)


def _calibration(spec: StudySpec, surfaces: Sequence[Surface]) -> int:
    """Rows of the grid and its baseline on the tune items of the surfaces that it looks at."""
    if spec.calibrate is None:
        return 0
    looked_at = {spec.calibrate.objective, spec.calibrate.secondary, "bare-facts"}
    looked_at |= set(spec.externality.surfaces) if spec.externality else set()
    items = sum(s.items["tune"] for s in surfaces if s.benchmark in looked_at or s.kind == "answer")
    return items * (len(spec.calibrate.ks or (None,)) * len(spec.calibrate.doses) + 1)


def _primary(spec: StudySpec, surface: Surface, notes: list[str]) -> dict[str, Any]:
    """The smallest effects that the primary comparison can detect, by role, in pp, beside the margin.

    Entities are counted, as if their items said one thing: items of one entity add less than others do.
    """
    assert spec.primary is not None
    detectable = {
        role: {f"{share:g}": mde_paired_proportion(n, share) if n else None for share in DISCORDANCE}
        for role, n in surface.entities.items()
    }
    if all(value is None for value in detectable["confirm"].values()):
        notes.append("the primary comparison has too few confirm items to detect anything")
    return {**spec.primary.model_dump(mode="json"), "detectable_pp": detectable}


def _readouts(spec: StudySpec, base: Path) -> list[str]:
    """Folders of readouts that are named and not there, and data that declared ones are made from."""
    missing = []
    for name, declared in spec.readouts.items():
        if declared.folder is not None:
            if not inside(base, declared.folder).is_dir():
                missing.append(f"readout {name}: fit it, or import it, into {declared.folder}")
            continue
        check_source(name, declared, base)
        if line := _source(spec, base, declared):
            missing.append(f"readout {name}: {line}")
    return missing


def _source(spec: StudySpec, base: Path, declared: Readout) -> str | None:
    """What is missing of a declared readout's data, in words; None where it is there or shipped."""
    source = declared.source
    name, colon, _ = source.partition(":")
    family = name.partition("/")[0]
    if colon or "." in name or name in SHIPPED:
        return None
    if family in benchmark_names() and (data := find_benchmark(family).source) is not None:
        there = found(data, use_of(spec, base, source))
        return None if there else f"get {data.get}; save it as {data.name}.{data.endings[0]}"
    if local_file(name, ENDINGS, declared.split) is not None:
        return None
    part = f" (split {declared.split})" if declared.split else ""
    return f"its source '{name}'{part} is not in the data folder, so the hub will be asked"


def _notes(spec: StudySpec, base: Path) -> list[str]:
    notes = []
    if spec.primary is None:
        notes.append("no primary comparison is declared: nothing will be graded on the control gate")
    if not spec.controls:
        notes.append("no control is declared: the control gate will be missing")
    if spec.externality is None:
        notes.append("no externality surface is declared: that gate will be missing")
    for name in spec.benchmarks:
        benchmark = used(use_of(spec, base, name))
        if benchmark.caution:
            notes.append(f"{name}: {benchmark.caution}")
    return notes
