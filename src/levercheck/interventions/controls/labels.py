"""Shuffled labels: the same fit on labels that mean nothing. Plain numpy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from levercheck.errors import NotEnoughDataError, UsageError

Fitted = TypeVar("Fitted")
Labels = np.ndarray[Any, Any]


def permuted(
    labels: Sequence[Any] | Labels, *, groups: Sequence[Any] | Labels | None = None, draws: int, seed: int
) -> list[Labels]:
    """Permutations of `labels` [items]; within `groups` [items] (e.g. the category) where they are given.

    Every group keeps its number of each label, so that a fit cannot tell a draw from the truth by group. Labels that
    admit fewer different arrangements than `draws` are a NotEnoughDataError.
    """
    plain = np.asarray(labels)
    group = np.zeros(len(plain), np.int64) if groups is None else np.asarray(groups)
    if plain.ndim != 1 or len(group) != len(plain):
        raise UsageError(f"{plain.size} labels and {len(group)} groups, expected one group per label")
    if draws < 1:
        raise UsageError(f"{draws} control draws, expected at least 1")
    members = [np.flatnonzero(group == name) for name in np.unique(group)]
    possible = math.prod(_arrangements(plain[at]) for at in members)
    if possible <= draws:
        raise NotEnoughDataError(
            f"labels can be arranged in {possible} ways within their groups, expected more than {draws} for as many "
            "draws: use larger groups or fewer draws"
        )
    found = []
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        shuffled = plain.copy()
        for at in members:
            shuffled[at] = rng.permutation(plain[at])
        found.append(shuffled)
    return found


def shuffled_refits(
    fit: Callable[[Labels], Fitted],
    labels: Sequence[Any] | Labels,
    *,
    groups: Sequence[Any] | Labels | None = None,
    draws: int,
    seed: int,
) -> list[Fitted]:
    """What `fit(labels)` finds (components, vectors, a readout) on each of `draws` permutations; see `permuted`."""
    return [fit(shuffled) for shuffled in permuted(labels, groups=groups, draws=draws, seed=seed)]


def _arrangements(labels: Labels) -> int:
    left, ways = len(labels), 1
    for count in Counter(labels.tolist()).values():
        ways *= math.comb(left, count)
        left -= count
    return ways
