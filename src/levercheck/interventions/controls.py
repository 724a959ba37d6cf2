"""Matched negative controls: sets of components drawn at random, as many per layer as the target has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from levercheck.errors import NotEnoughDataError


def layer_matched(
    target: Sequence[tuple[int, int]], width: int, *, exclude: Iterable[tuple[int, int]], draws: int, seed: int
) -> list[tuple[tuple[int, int], ...]]:
    """Draw `draws` neuron sets with the target's number of neurons in each layer, without replacement inside a set.

    `exclude` names neurons that may not be drawn (the readout's non-zero weights, the target itself). Each draw has its
    own seed stream, so asking for more draws later leaves the first ones unchanged.
    """
    barred: dict[int, set[int]] = {}
    for layer, index in [*exclude, *target]:
        barred.setdefault(layer, set()).add(index)
    counts: dict[int, int] = {}
    for layer, _ in target:
        counts[layer] = counts.get(layer, 0) + 1
    sets = []
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])
        chosen: list[tuple[int, int]] = []
        for layer in sorted(counts):
            pool = np.setdiff1d(np.arange(width), sorted(barred[layer]))
            if len(pool) < counts[layer]:
                raise NotEnoughDataError(
                    f"layer {layer} has {len(pool)} neurons left to draw from, expected at least {counts[layer]}"
                )
            chosen += [(layer, int(i)) for i in np.sort(rng.choice(pool, counts[layer], replace=False))]
        sets.append(tuple(chosen))
    return sets
