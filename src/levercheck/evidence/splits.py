"""Seeded splits by entity: what one role has seen, no other role may be judged on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Thing = TypeVar("Thing")


def _order(seed: int, purpose: str, name: str) -> str:
    return hashlib.sha256(f"{seed}\x00{purpose}\x00{name}".encode()).hexdigest()


def shuffled(names: Sequence[str], seed: int, purpose: str) -> list[str]:
    """`names` in an order that depends on each name, the seed and the purpose only, not on the other names."""
    return sorted(names, key=lambda name: _order(seed, purpose, name))


def roles_by_entity(entities: Sequence[str], shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Give every entity one role so that, within each kind of entity, roles get their share of the items.

    `entities` has one entry per item (`kind:name`; repeated for entities with several items). `shares` sum to 1.
    """
    if abs(sum(shares.values()) - 1) > 1e-9 or min(shares.values()) < 0:
        raise ValueError(f"role shares must be non-negative and sum to 1, got {dict(shares)}")
    counts: dict[str, int] = {}
    for entity in entities:
        counts[entity] = counts.get(entity, 0) + 1
    roles: dict[str, str] = {}
    for kind in sorted({entity.partition(":")[0] for entity in counts}):
        members = [entity for entity in counts if entity.partition(":")[0] == kind]
        filled = dict.fromkeys(shares, 0)
        total = sum(counts[entity] for entity in members)
        for entity in shuffled(members, seed, "role"):
            role = max(shares, key=lambda name: shares[name] * total - filled[name])
            roles[entity] = role
            filled[role] += counts[entity]
    return roles


def folds_by_entity(entities: Sequence[str], folds: int, seed: int) -> dict[str, int]:
    """Give every entity one of `folds` folds of nearly equal item counts."""
    counts: dict[str, int] = {}
    for entity in entities:
        counts[entity] = counts.get(entity, 0) + 1
    filled = [0] * folds
    assigned: dict[str, int] = {}
    for entity in shuffled(list(counts), seed, "fold"):
        fold = filled.index(min(filled))
        assigned[entity] = fold
        filled[fold] += counts[entity]
    return assigned


def spread(
    things: Sequence[Thing], names: Callable[[Thing], tuple[str, str]], limit: int, per_entity: int, seed: int
) -> list[Thing]:
    """At most `limit` things, one of every entity before a second of any: more clusters, tighter intervals.

    `names` gives a thing's id and entity; the result is sorted by id and depends on ids, entities and seed only.
    """
    by_id = {names(thing)[0]: thing for thing in things}
    seen: dict[str, int] = {}
    ranked = []
    for place, name in enumerate(shuffled(list(by_id), seed, "item")):
        entity = names(by_id[name])[1]
        ranked.append((seen.get(entity, 0), place, name))
        seen[entity] = seen.get(entity, 0) + 1
    kept = [name for turn, _, name in sorted(ranked) if turn < per_entity][:limit]
    return [by_id[name] for name in sorted(kept)]
