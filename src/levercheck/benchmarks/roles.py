"""Roles of entities in a study: a function of its seed, shares, manifests and benchmarks, of no model's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from levercheck.benchmarks.base import Benchmark, Item, Request, find_benchmark, item_of, used
from levercheck.benchmarks.data import Use, identity
from levercheck.benchmarks.embedded import ANSWERS
from levercheck.benchmarks.manifests import check, read_manifest
from levercheck.errors import UsageError
from levercheck.evidence.splits import roles_by_entity, spread


def entity_roles(
    uses: Sequence[Use], shares: Mapping[str, float], seed: int, first_token: Callable[[str], int]
) -> dict[str, str]:
    """The role of every entity of the embedded facts and of the benchmarks that bring items of their own.

    What a manifest lists has the role it says; the rest of that benchmark's entities have none. A benchmark with shares
    of its own is divided by them. An entity that would get two roles is a UsageError.
    """
    everything = find_benchmark(ANSWERS).items(Request(lambda _: 0, lambda _: True, seed))
    clusters = [item.cluster for item in everything]
    listed: dict[str, tuple[str, Use]] = {}  # entity: (role, whose settings say so)
    for use in sorted(own_items(uses), key=lambda use: use.manifest is None):  # manifests rule, whatever the order
        benchmark = used(use)
        items = benchmark.made(Request(first_token, lambda _: True, seed, use))
        if use.manifest is not None:
            _agree(listed, use, _listed(use, benchmark, items))
        elif use.shares is not None:
            _refuse_other_shares(listed, use, items)
            new = [item.cluster for item in items if item.cluster not in listed]
            _agree(listed, use, roles_by_entity(new, dict(use.shares), seed))
        else:
            clusters += [item.cluster for item in items]
    roles = roles_by_entity([name for name in clusters if name not in listed], shares, seed)
    return {**roles, **{cluster: role for cluster, (role, _) in listed.items()}}


def _agree(listed: dict[str, tuple[str, Use]], use: Use, found: Mapping[str, str]) -> None:
    for cluster, role in found.items():
        before = listed.setdefault(cluster, (role, use))
        if before[0] != role:
            raise UsageError(
                f"'{cluster}' has role {before[0]} by the settings of '{before[1].name}' and role {role} by those of "
                f"'{use.name}': an entity has one role in a study"
            )


def _refuse_other_shares(listed: Mapping[str, tuple[str, Use]], use: Use, items: Sequence[Item]) -> None:
    """UsageError where a benchmark that shares entities was divided by other shares."""
    for item in items:
        before = listed.get(item.cluster)
        if before is not None and before[1].shares not in (None, use.shares):
            raise UsageError(
                f"'{use.name}' and '{before[1].name}' ask the same entities, such as '{item.cluster}', and have other "
                "shares: give both the same"
            )


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


def asked_items(items: Sequence[Item], limit: int | None, per_entity: int, seed: int) -> list[Item]:
    """At most `limit` items, one of every entity before a second of any, each with all of its replicates."""
    first = [item for item in items if item_of(item.id) == item.id]
    chosen = spread(first, lambda item: (item.id, item.cluster), limit or len(first), per_entity, seed)
    kept = {item.id for item in chosen}
    return sorted((item for item in items if item_of(item.id) in kept), key=lambda item: item.id)


def own_items(uses: Sequence[Use]) -> list[Use]:
    """Benchmarks that are not made of the embedded facts: which items they have can depend on a tokenizer or a file.

    The roles of embedded facts are those of the study: a manifest or shares for them are a UsageError.
    """
    own = []
    for use in uses:
        benchmark = used(use)
        if use.name.partition("/")[0] != ANSWERS and not benchmark.needs_known:
            own.append(use)
        elif use.manifest is not None or use.shares is not None:
            raise UsageError(
                f"'{use.name}' asks embedded facts, whose roles are those of items.shares: leave out its own shares or "
                "manifest"
            )
    return own
