"""Roles of entities in a study: a function of its seed, its shares and its benchmarks, never of a model's answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from levercheck.benchmarks.base import Request, find_benchmark
from levercheck.benchmarks.embedded import ANSWERS
from levercheck.evidence.splits import roles_by_entity


def entity_roles(
    benchmarks: Sequence[str], shares: Mapping[str, float], seed: int, first_token: Callable[[str], int]
) -> dict[str, str]:
    """The role of every entity of the embedded facts and of the benchmarks that bring items of their own."""
    everything = find_benchmark(ANSWERS).items(Request(lambda _: 0, lambda _: True, seed))
    clusters = [item.cluster for item in everything]
    for name in own_items(benchmarks):
        clusters += [item.cluster for item in find_benchmark(name).items(Request(first_token, lambda _: True, seed))]
    return roles_by_entity(clusters, shares, seed)


def own_items(benchmarks: Sequence[str]) -> list[str]:
    """Benchmarks that are not made of the embedded facts: which items they have can depend on a tokenizer."""
    return [name for name in benchmarks if name != ANSWERS and not find_benchmark(name).needs_known]
