"""How many items a study will ask, from data that are here or from what was published."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from levercheck.benchmarks.base import Benchmark, Request, item_of, used
from levercheck.benchmarks.data import Use, found
from levercheck.benchmarks.manifests import read_manifest
from levercheck.benchmarks.roles import asked_items, entity_roles, listed_ids
from levercheck.study.spec import StudySpec
from levercheck.study.uses import settings_of, uses_of

COUNTED = ("tune", "confirm")
"""Roles that rows are made of."""


@dataclass(frozen=True)
class Count:
    """Items, replicates included, and entities by role; `here`: counted from data on this machine."""

    here: bool
    items: Mapping[str, int]
    entities: Mapping[str, int]


def counted(spec: StudySpec, base: Path) -> tuple[dict[str, Count], list[str]]:
    """Counts of every benchmark, and in words what is missing on this machine."""
    uses = {use.name: use for use in uses_of(spec, base)}
    benchmarks = {name: used(use) for name, use in uses.items()}
    undrawn = {name for name, use in uses.items() if use.manifest is not None and not use.manifest.is_file()}
    uses = {name: replace(use, manifest=None) if name in undrawn else use for name, use in uses.items()}
    here = {name: benchmarks[name].source is None or _file(benchmarks[name], use) for name, use in uses.items()}
    roles = entity_roles([use for name, use in uses.items() if here[name]], spec.items.shares, spec.seed, stand_in)
    counts: dict[str, Count] = {}
    missing = []
    for name, use in uses.items():
        benchmark = benchmarks[name]
        if name in undrawn:
            path = settings_of(spec, name).manifest
            missing.append(f"{name}: draw its manifest into {path} ('levercheck benchmarks manifest')")
        if not here[name] and (source := benchmark.source) is not None:
            file = source.name if use.split is None else f"{source.name}-{use.split}"
            missing.append(f"{name}: get {source.get}; save it as {file}.{'/'.join(source.endings)} in the data folder")
        if here[name] and name not in undrawn:
            counts[name] = _present(spec, benchmark, use, roles)
        else:
            counts[name] = _published(spec, benchmark, use, bool(here[name]), name in undrawn)
    return counts, missing


def stand_in(answer: str) -> int:
    """First tokens as they would be if a token were a word."""
    return int.from_bytes(answer.partition(" ")[0].encode()[:6], "big")


def _file(benchmark: Benchmark, use: Use) -> bool:
    return benchmark.source is not None and found(benchmark.source, use) is not None


def _present(spec: StudySpec, benchmark: Benchmark, use: Use, roles: Mapping[str, str]) -> Count:
    items, listed = benchmark.made(Request(stand_in, lambda _: True, spec.seed, use)), listed_ids(use)
    sizes, entities = {}, {}
    for role in COUNTED:
        own = [i for i in items if roles.get(i.cluster) == role and (listed is None or item_of(i.id) in listed)]
        chosen = asked_items(own, spec.items.limit, _per_entity(spec, benchmark), spec.seed)
        sizes[role], entities[role] = len(chosen), len({item.cluster for item in chosen})
    return Count(True, sizes, entities)


def _published(spec: StudySpec, benchmark: Benchmark, use: Use, here: bool, undrawn: bool) -> Count:
    """By the manifest, or by the shares of what was published; all of it where the manifest is not drawn yet."""
    total = benchmark.published or 0
    if benchmark.source is None:
        total = len(benchmark.items(Request(stand_in, lambda _: True, spec.seed, use)))
    if use.manifest is not None:
        roles = read_manifest(use.manifest).roles
        sizes = {role: len(roles.get(role, ())) for role in COUNTED}
    elif undrawn:
        sizes = dict.fromkeys(COUNTED, total)
    else:
        shares = dict(use.shares or spec.items.shares)
        sizes = {role: math.ceil(total * shares.get(role, 0.0) - 1e-9) for role in COUNTED}
    sizes = {role: min(size, spec.items.limit or size) for role, size in sizes.items()}
    entities = {role: math.ceil(size / benchmark.per_entity) for role, size in sizes.items()}
    return Count(here, {role: size * benchmark.policy.replicates for role, size in sizes.items()}, entities)


def _per_entity(spec: StudySpec, benchmark: Benchmark) -> int:
    return max(spec.items.per_entity, benchmark.per_entity)
