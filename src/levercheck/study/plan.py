"""What a study will cost and can show, from its file alone: no model is loaded and nothing is measured.

Counts are upper bounds. Where a benchmark's data are not on this machine, the number of its items is what the published
data set has; where items depend on what the model knows, as if it knew everything. The smallest effect that can be
detected is that of a two-sided McNemar test at 5 % with 80 % power, for three shares of items that change at all,
because that share is not known before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from levercheck.benchmarks.base import Benchmark, Item, Request, benchmark_names, find_benchmark, item_of, used
from levercheck.benchmarks.data import Use, data_folder, found
from levercheck.benchmarks.manifests import read_manifest
from levercheck.benchmarks.roles import entity_roles, listed_ids
from levercheck.evidence.splits import spread
from levercheck.stats import attainable_p, mde_paired_proportion
from levercheck.study.spec import Intervention, Readout, StudySpec, inside
from levercheck.study.uses import use_of, uses_of

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
    items: Mapping[str, int]
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
    calibration_cells: int  # K x dose
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
    cells = 0 if spec.calibrate is None else len(spec.calibrate.ks or (None,)) * len(spec.calibrate.doses)
    counts, missing = _counts(spec, base)
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
        spec.study, spec.model, points, arms, surfaces, cells, controls, primary,
        tuple(dict.fromkeys([*missing, *_readouts(spec, base)])), tuple(notes),
    )  # fmt: skip


def _points(lever: Intervention) -> int:
    if lever.is_prompt:
        return 1
    if lever.efforts:
        return len(lever.efforts)
    noop = NOOP.get(lever.operator or "")
    return sum(dose != noop for dose in lever.doses or ())


def _counts(spec: StudySpec, base: Path) -> tuple[dict[str, tuple[bool, dict[str, int]]], list[str]]:
    """Items by role of every benchmark, and whether they were counted from data; what is missing, in words."""
    uses = {use.name: use for use in uses_of(spec, base)}
    benchmarks = {name: used(use) for name, use in uses.items()}
    undrawn = [use for use in uses.values() if use.manifest is not None and not use.manifest.is_file()]
    uses |= {use.name: replace(use, manifest=None) for use in undrawn}
    here = {name: _is_here(benchmarks[name], use) for name, use in uses.items()}
    present = [use for name, use in uses.items() if here[name]]
    roles = entity_roles(present, spec.items.shares, spec.seed, _stand_in)
    counts: dict[str, tuple[bool, dict[str, int]]] = {}
    missing = [
        f"{u.name}: draw its manifest into {spec_path(spec, u.name)} ('levercheck benchmarks manifest')"
        for u in undrawn
    ]
    for name, use in uses.items():
        if here[name]:
            counts[name] = True, _counted(spec, benchmarks[name], use, roles)
        else:
            counts[name] = False, _published(spec, benchmarks[name], use)
            missing.append(_to_get(benchmarks[name]))
    return counts, missing


def spec_path(spec: StudySpec, name: str) -> str:
    """Where the study file says that a benchmark's manifest is."""
    found = spec.settings.get(name) or spec.settings[name.partition("/")[0]]
    return found.manifest or ""


def _is_here(benchmark: Benchmark, use: Use) -> bool:
    return benchmark.source is None or found(benchmark.source, use) is not None


def _counted(spec: StudySpec, benchmark: Benchmark, use: Use, roles: Mapping[str, str]) -> dict[str, int]:
    items = benchmark.made(Request(_stand_in, lambda _: True, spec.seed, use))
    listed = listed_ids(use)
    if listed is not None:
        items = [item for item in items if item_of(item.id) in listed]
    return {role: _limited(spec, [i for i in items if roles.get(i.cluster) == role]) for role in ("tune", "confirm")}


def _limited(spec: StudySpec, items: list[Item]) -> int:
    limit = spec.items.limit or len(items)
    return len(spread(items, lambda i: (i.id, i.cluster), limit, spec.items.per_entity, spec.seed))


def _published(spec: StudySpec, benchmark: Benchmark, use: Use) -> dict[str, int]:
    """Items by role of data that are not here: by the manifest, or by the shares of what was published."""
    if use.manifest is not None:
        roles = read_manifest(use.manifest).roles
        sizes = {role: len(roles.get(role, ())) for role in ("tune", "confirm")}
    else:
        total, shares = benchmark.published or 0, dict(use.shares or spec.items.shares)
        sizes = {role: math.ceil(total * shares.get(role, 0.0) - 1e-9) for role in ("tune", "confirm")}
    sizes = {role: size * benchmark.policy.replicates for role, size in sizes.items()}
    return {role: min(size, spec.items.limit or size) for role, size in sizes.items()}


def _to_get(benchmark: Benchmark) -> str:
    source = benchmark.source
    assert source is not None
    return (
        f"{benchmark.id}: get {source.get} and save it as {source.name}.{'/'.join(source.endings)} in the data folder"
    )


def _surface(spec: StudySpec, base: Path, name: str, counted: tuple[bool, dict[str, int]], arms: int) -> Surface:
    benchmark, (here, items) = used(use_of(spec, base, name)), counted
    turns = 2 if benchmark.style.then else 1
    rows = {role: count * (arms + REFERENCES) for role, count in items.items()}
    cap = benchmark.policy.max_new_tokens * turns if benchmark.kind == "answer" else 0
    return Surface(
        name, benchmark.kind, benchmark.style_name, here, items, rows, {role: n * cap for role, n in rows.items()}
    )


def _primary(spec: StudySpec, surface: Surface, notes: list[str]) -> dict[str, Any]:
    """The smallest effects that the primary comparison can detect, by role, in pp, beside the margin."""
    assert spec.primary is not None
    detectable: dict[str, dict[str, float | None]] = {}
    for role, n in surface.items.items():
        table = {f"{share:g}": mde_paired_proportion(n, share) if n else None for share in DISCORDANCE}
        detectable[role] = table
    hardest = [value for value in detectable["confirm"].values() if value is not None]
    if not hardest:
        notes.append("the primary comparison has too few confirm items to detect anything")
    elif min(hardest) > 100 * max(DISCORDANCE):
        notes.append("the primary comparison can detect no effect that such shares of changed items allow")
    return {**spec.primary.model_dump(mode="json"), "detectable_pp": detectable}


def _readouts(spec: StudySpec, base: Path) -> list[str]:
    """Folders of readouts that are named and not there, and data that declared ones are made from."""
    missing = []
    for name, declared in spec.readouts.items():
        if isinstance(declared, str) and not inside(base, declared).is_dir():
            missing.append(f"readout {name}: fit it, or import it, into {declared}")
        elif isinstance(declared, Readout) and (line := _source(base, declared.source)):
            missing.append(f"readout {name}: {line}")
    return missing


def _source(base: Path, source: str) -> str | None:
    """What is missing of a declared readout's data, in words; None where it is there or shipped."""
    name, _, argument = source.partition(":")
    if argument and ("/" in argument or "." in argument):
        return None if inside(base, argument).exists() else f"no file {argument}"
    if "." in name:
        return None if inside(base, name).exists() else f"no file {name}"
    if name in SHIPPED:
        return None
    if name in benchmark_names() and (data := find_benchmark(name).source) is not None:
        return None if found(data, Use(name)) else f"get {data.get}; save it as {data.name}.{data.endings[0]}"
    if any(data_folder().glob(f"{name}*")):
        return None
    return f"its source '{name}' is not in the data folder, so the hub will be asked"


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


def _stand_in(answer: str) -> int:
    """First tokens as they would be if a token were a word."""
    return int.from_bytes(answer.partition(" ")[0].encode()[:6], "big")
