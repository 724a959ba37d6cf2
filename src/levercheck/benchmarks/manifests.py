"""Manifests: which items of a data set have which role, drawn once by a seed and kept in a file.

    {"schema": "levercheck.manifest/v1", "source": "truthfulqa", "data": {...}, "seed": 42,
     "roles": {"tune": [ids], "confirm": [ids]}, "fingerprints": {"tune": "16 hex", "confirm": "16 hex"}}

A study that names a manifest asks the items it lists and no other. Items of one cluster have one role.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levercheck.benchmarks.base import ROLES, Benchmark, Item, item_of
from levercheck.benchmarks.source_files import shown
from levercheck.errors import NotEnoughDataError, UsageError, nearest
from levercheck.evidence.splits import shuffled

SCHEMA = "levercheck.manifest/v1"
VALIDATION = 5
"""Of the items that a fold leaves to make a readout from, one in so many chooses its settings."""


@dataclass(frozen=True)
class Manifest:
    """Roles of items by id; `data` identifies what they were drawn from."""

    source: str
    data: Mapping[str, Any]
    seed: int
    roles: Mapping[str, tuple[str, ...]]

    @property
    def role_of(self) -> dict[str, str]:
        """Role of every listed id."""
        return {name: role for role, names in self.roles.items() for name in names}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {
            "schema": SCHEMA,
            "source": self.source,
            "data": dict(self.data),
            "seed": self.seed,
            "roles": {role: list(names) for role, names in self.roles.items()},
            "fingerprints": {role: fingerprint(names) for role, names in self.roles.items()},
        }


def source_name(benchmark: Benchmark) -> str:
    """What a manifest's ids belong to: benchmarks of one data set share manifests."""
    return benchmark.source.name if benchmark.source is not None else benchmark.id.partition("/")[0]


def fingerprint(names: Iterable[str]) -> str:
    """16 hexadecimal digits of the SHA-256 of the sorted ids."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()[:16]


def draw(
    items: Sequence[Item], sizes: Mapping[str, int], seed: int, *, source: str, data: Mapping[str, Any]
) -> Manifest:
    """Draw `sizes[role]` items per role, in proportion to the strata that items name (`facts["stratum"]`).

    Whole clusters go to one role, so a role may get fewer items than asked for where clusters are large; a role that
    gets none, or sizes beyond the items there are, is a NotEnoughDataError.
    """
    _check_roles(sizes, "sizes")
    if sum(sizes.values()) > len(items):
        raise NotEnoughDataError(
            f"{sum(sizes.values())} items are asked for and '{source}' has {len(items)}: ask for fewer"
        )
    members: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        members[item.cluster].append(item)
    strata: dict[str, list[str]] = defaultdict(list)
    order = shuffled(sorted(members), seed, f"manifest:{source}")
    for cluster in order:
        strata[str(members[cluster][0].facts.get("stratum", ""))].append(cluster)
    roles: dict[str, list[str]] = {role: [] for role in sizes}

    def take(role: str, clusters: Iterable[str], most: int) -> None:
        """Give `role` whole clusters of at most `most` items together."""
        for cluster in list(clusters):
            if cluster in free and len(members[cluster]) <= most:
                free.remove(cluster)
                roles[role] += [item.id for item in members[cluster]]
                most -= len(members[cluster])

    free = set(members)
    for role, size in sizes.items():
        counts = {name: sum(len(members[c]) for c in own if c in free) for name, own in strata.items()}
        for name, quota in _quotas(size, counts).items():
            take(role, strata[name], quota)
        take(role, order, size - len(roles[role]))  # what whole clusters left of the quotas
        if not roles[role]:
            raise NotEnoughDataError(f"role {role} gets no item of '{source}': clusters are larger than its share")
    return Manifest(source, data, seed, {role: tuple(sorted(names)) for role, names in roles.items()})


def folds(
    items: Sequence[Item], seed: int, *, source: str, data: Mapping[str, Any], count: int = 2, calibration: float = 0.1
) -> list[Manifest]:
    """Cross-fitting: every cluster is in the confirm role of one manifest exactly, save those of the tune role.

    A share `calibration` of clusters has the tune role in all of them. What a fold does not confirm makes the readout,
    one in VALIDATION of it in the select role. Needs at least two folds.
    """
    if count < 2:
        raise UsageError(f"{count} folds: expected at least 2")
    members: dict[str, list[str]] = defaultdict(list)
    for item in items:
        members[item.cluster].append(item.id)
    order = shuffled(sorted(members), seed, f"folds:{source}")
    held = round(calibration * len(order))
    tune, rest = order[:held], order[held:]
    if len(rest) < count * 2:
        raise NotEnoughDataError(f"'{source}' has {len(order)} clusters, too few for {count} folds")
    made = []
    for number in range(count):
        confirm = rest[number::count]
        others = shuffled([c for c in rest if c not in set(confirm)], seed, f"fold:{number}")
        select = others[: max(1, len(others) // VALIDATION)]
        parts = {"readout": others[len(select) :], "select": select, "tune": tune, "confirm": confirm}
        roles = {
            role: tuple(sorted(i for c in clusters for i in members[c])) for role, clusters in parts.items() if clusters
        }
        made.append(Manifest(source, data, seed, roles))
    return made


def read_manifest(path: Path) -> Manifest:
    """Read a manifest; anything it should not hold is a UsageError that names the file, the role and the id."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"manifest {path.name} cannot be read ({error.strerror}): draw it with 'levercheck benchmarks manifest'"
        ) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path.name}: not JSON in UTF-8 ({str(error).splitlines()[0]})") from None
    if not isinstance(body, dict) or body.get("schema") != SCHEMA or not isinstance(body.get("roles"), dict):
        raise UsageError(f"{path.name}: not a manifest ({SCHEMA}): make one with 'levercheck benchmarks manifest'")
    kinds = {"source": str, "data": dict, "seed": int, "fingerprints": dict}
    for key, kind in kinds.items():
        if not isinstance(body.get(key), kind) or isinstance(body[key], bool):
            raise UsageError(f"{path.name}: {key} is {shown(body.get(key))}, no manifest's: restore the file")
    files = body["data"].get("files", [])
    if not isinstance(files, list) or not all(isinstance(f, dict) and {"name", "sha256"} <= set(f) for f in files):
        raise UsageError(f"{path.name}: data.files is {shown(files)}, no manifest's: restore the file")
    roles: dict[str, tuple[str, ...]] = {}
    seen: dict[str, str] = {}
    _check_roles(body["roles"], path.name)
    for role, names in body["roles"].items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UsageError(f"{path.name}: roles.{role} is no list of ids")
        for name in names:
            if name in seen:
                raise UsageError(f"{path.name}: roles.{role} has the id '{name}', which {seen[name]} has too")
            seen[name] = role
        if body["fingerprints"].get(role) != fingerprint(names):
            raise UsageError(f"{path.name}: the ids of role {role} are not those it was made with: restore the file")
        roles[role] = tuple(names)
    return Manifest(body["source"], body["data"], body["seed"], roles)


def check(manifest: Manifest, path: Path, benchmark: Benchmark, items: Sequence[Item], data: Mapping[str, Any]) -> None:
    """UsageError where a manifest is of other data than the items, or names an id that is none of them."""
    name = source_name(benchmark)
    if manifest.source != name:
        raise UsageError(f"{path.name} is of '{manifest.source}', and '{benchmark.id}' asks items of '{name}'")
    ids = {item_of(item.id) for item in items}
    for role, names in manifest.roles.items():
        for item in names:
            if item not in ids:
                raise UsageError(
                    f"{path.name}: roles.{role} names '{item}', no item of '{benchmark.id}'{nearest(item, ids)}"
                )
    if manifest.data and data and _pinned(manifest.data) != _pinned(data):
        raise UsageError(
            f"{path.name} was drawn from another revision of the data ({_shown(manifest.data)}, found {_shown(data)}): "
            "get that one, or draw again"
        )


def _pinned(data: Mapping[str, Any]) -> Any:
    """What must agree: the bytes of files, whatever they are called, or data set, split and commit."""
    files = data.get("files")
    return [file["sha256"] for file in files] if files else {k: v for k, v in data.items() if k != "files"}


def _shown(data: Mapping[str, Any]) -> str:
    files = data.get("files")
    if files:
        return ", ".join(f"{file['name']} {file['sha256'][:12]}" for file in files)
    return f"{data.get('dataset')} {str(data.get('revision'))[:12]}"


def _check_roles(roles: Iterable[str], where: str) -> None:
    for role in roles:
        if role not in ROLES:
            raise UsageError(f"{where}: unknown role '{role}'{nearest(role, ROLES)}")


def _quotas(size: int, counts: Mapping[str, int]) -> dict[str, int]:
    """Items per stratum in proportion to `counts`: rounded down, the rest to the largest remainders."""
    total = sum(counts.values())
    exact = {name: size * count / total for name, count in counts.items()}
    found = {name: int(value) for name, value in exact.items()}
    order = sorted(exact, key=lambda name: (found[name] - exact[name], name))
    for name in order[: size - sum(found.values())]:
        found[name] += 1
    return found
