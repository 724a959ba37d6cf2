"""Control sets of components drawn at random: neurons, heads or dictionary latents, each a (layer, index) pair.

A layer here is a pool of components that are numbered from 0: an MLP, the heads of an attention, a dictionary.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from levercheck.errors import NotEnoughDataError, UsageError

Component = tuple[int, int]
Set = tuple[Component, ...]
_ATTEMPTS = 1000


def unconstrained(
    target: Sequence[Component], widths: Sequence[int], *, exclude: Iterable[Component], draws: int, seed: int
) -> list[Set]:
    """Draw sets of the target's size anywhere among layers of `widths` components each, never twice the same set."""
    barred = barred_of(target, exclude)
    pools = [pool_of(width, barred.get(layer, ())) for layer, width in enumerate(widths)]
    ends = np.cumsum([len(pool) for pool in pools])
    count, size = int(ends[-1]) if len(ends) else 0, len(target)
    if count < size:
        raise NotEnoughDataError(f"{count} components are left to draw from, expected at least {size}: exclude fewer")
    _check_possible(math.comb(count, size), draws)

    def one(rng: np.random.Generator) -> Set:
        chosen = np.sort(rng.choice(count, size, replace=False))
        layers = np.searchsorted(ends, chosen, side="right")
        starts = ends - [len(pool) for pool in pools]
        return tuple((int(at), int(pools[at][i - starts[at]])) for at, i in zip(layers, chosen, strict=True))

    return drawn(one, draws, seed)


def layer_matched(
    target: Sequence[Component],
    width: int | Sequence[int],
    *,
    exclude: Iterable[Component],
    draws: int,
    seed: int,
    distinct: bool = False,
) -> list[Set]:
    """Draw sets with the target's number of components in each layer, without replacement inside a set.

    `exclude` names components that may not be drawn (the readout's non-zero weights; the target itself never is).
    Without `distinct` two draws may be the same set, as independent draws from a small pool sometimes are.
    """
    barred, counts = barred_of(target, exclude), Counter(layer for layer, _ in target)
    pools = {}
    for layer in sorted(counts):
        pools[layer] = pool_of(_width(width, layer), barred[layer])
        if len(pools[layer]) < counts[layer]:
            raise NotEnoughDataError(
                f"layer {layer} has {len(pools[layer])} components left to draw from, expected at least {counts[layer]}"
            )
    if distinct:
        _check_possible(math.prod(math.comb(len(pools[at]), counts[at]) for at in pools), draws)

    def one(rng: np.random.Generator) -> Set:
        chosen: list[Component] = []
        for layer in sorted(counts):
            chosen += [(layer, int(i)) for i in np.sort(rng.choice(pools[layer], counts[layer], replace=False))]
        return tuple(chosen)

    return drawn(one, draws, seed, distinct=distinct)


def drawn(one: Callable[[np.random.Generator], Set], draws: int, seed: int, *, distinct: bool = True) -> list[Set]:
    """Call `one` with a stream of its own per draw; with `distinct`, again from that stream while a set is a repeat."""
    if draws < 1:
        raise UsageError(f"{draws} control draws, expected at least 1")
    sets: list[Set] = []
    seen: set[Set] = set()
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        found = one(rng)
        for _ in range(_ATTEMPTS if distinct else 0):
            if found not in seen:
                break
            found = one(rng)
        if distinct and found in seen:
            raise NotEnoughDataError(
                f"draw {draw + 1} of {draws} repeats earlier ones: the pool holds too few different sets; ask for "
                "fewer draws, a wider caliper or a weaker match"
            )
        seen.add(found)
        sets.append(found)
    return sets


def _check_possible(possible: int, draws: int) -> None:
    if possible < draws:
        raise NotEnoughDataError(
            f"the pool holds {possible} different sets, expected at least {draws} for as many draws: ask for fewer"
        )


def barred_of(target: Sequence[Component], exclude: Iterable[Component]) -> dict[int, set[int]]:
    """Indices per layer that may not be drawn; an empty target or one that repeats itself is a UsageError."""
    if not target:
        raise UsageError("the target has no component: there is nothing to imitate")
    if len(set(target)) != len(target):
        raise UsageError("the target names a component twice: give each once")
    barred: dict[int, set[int]] = {}
    for layer, index in [*exclude, *target]:
        barred.setdefault(layer, set()).add(index)
    return barred


def pool_of(width: int, barred: Iterable[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """What is left of a layer, int64, sorted."""
    return np.setdiff1d(np.arange(width), np.array(sorted(barred), np.int64))


def _width(width: int | Sequence[int], layer: int) -> int:
    if isinstance(width, int):
        return width
    if not 0 <= layer < len(width):
        raise UsageError(f"layer {layer} of the target is outside the pool's {len(width)} layers")
    return int(width[layer])
