"""Roles of entities in a study: a function of its seed, shares, manifests and benchmarks, of no model's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from levercheck.benchmarks.base import Benchmark, Item, Request, find_benchmark, item_of, used
from levercheck.benchmarks.data import Use, identity
from levercheck.benchmarks.embedded import ANSWERS
from levercheck.benchmarks.manifests import check, read_manifest
from levercheck.errors import UsageError
from levercheck.evidence.splits import roles_by_entity


def entity_roles(
    uses: Sequence[Use], shares: Mapping[str, float], seed: int, first_token: Callable[[str], int]
) -> dict[str, str]:
    """The role of every entity of the embedded facts and of the benchmarks that bring items of their own.

    What a manifest lists has the role it says; the rest of that benchmark's entities have none. A benchmark with shares
    of its own is divided by them. An entity that would get two roles is a UsageError.
    """
    everything = find_benchmark(ANSWERS).items(Request(lambda _: 0, lambda _: True, seed))
    clusters = [item.cluster for item in everything]
    listed: dict[str, tuple[str, str]] = {}  # entity: (role, who says so)
    for use in own_items(uses):
        benchmark = used(use)
        items = benchmark.made(Request(first_token, lambda _: True, seed, use))
        found: Mapping[str, str]
        if use.manifest is not None:
            found = _listed(use, benchmark, items)
        elif use.shares is not None:
            new = [item.cluster for item in items if item.cluster not in listed]
            found = roles_by_entity(new, dict(use.shares), seed)
        else:
            clusters += [item.cluster for item in items]
            continue
        for cluster, role in found.items():
            before = listed.setdefault(cluster, (role, use.name))
            if before[0] != role:
                raise UsageError(
                    f"'{cluster}' has role {before[0]} by the settings of '{before[1]}' and role {role} by those of "
                    f"'{use.name}': an entity has one role in a study"
                )
    roles = roles_by_entity([name for name in clusters if name not in listed], shares, seed)
    return {**roles, **{cluster: role for cluster, (role, _) in listed.items()}}


def _listed(use: Use, benchmark: Benchmark, items: Sequence[Item]) -> dict[str, str]:
    """Role of every entity that a manifest lists items of."""
    assert use.manifest is not None
    manifest = read_manifest(use.manifest)
    data = {} if benchmark.source is None else identity(benchmark.source, use)
    check(manifest, use.manifest, benchmark, items, data)
    roles, found = manifest.role_of, dict[str, str]()
    for item in items:
        role = roles.get(item_of(item.id))
        if role is not None and found.setdefault(item.cluster, role) != role:
            raise UsageError(
                f"{use.manifest.name}: '{item.cluster}' has items in the roles {found[item.cluster]} and {role}: an "
                "entity has one role in a study"
            )
    return found


def listed_ids(use: Use) -> frozenset[str] | None:
    """Ids that the manifest of a use lists; None without one: all items count."""
    return None if use.manifest is None else frozenset(read_manifest(use.manifest).role_of)


def own_items(uses: Sequence[Use]) -> list[Use]:
    """Benchmarks that are not made of the embedded facts: which items they have can depend on a tokenizer or a file."""
    return [use for use in uses if use.name != ANSWERS and not used(use).needs_known]
