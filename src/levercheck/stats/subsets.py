"""Sums over random subsets that take a fixed number of members from each stratum: the reference for a chosen subset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, finite


def stratified_subset_sums(
    values: npt.ArrayLike,
    counts: Mapping[int, int],
    draws: int,
    seed: int,
    eligible: npt.ArrayLike | None = None,
) -> Floats:
    """Sums of ``values`` over ``draws`` random subsets, ``float64 [draws]``.

    ``values`` is ``float64 [strata, members]``; every subset takes ``counts[s]`` distinct members of stratum ``s``
    (uniformly, among those ``eligible`` when a boolean table of the same shape is given). ``ValueError`` when a stratum
    has too few eligible members.
    """
    table = finite(values, "values", 2)
    allowed = np.ones(table.shape, dtype=bool) if eligible is None else np.asarray(eligible, dtype=bool)
    rng = np.random.default_rng(seed)
    total = np.zeros(draws)
    for stratum in sorted(counts):
        size = counts[stratum]
        pool = table[stratum, allowed[stratum]]
        if len(pool) < size:
            raise ValueError(f"stratum {stratum} has {len(pool)} eligible members, {size} are needed")
        total += pool[_distinct(rng, len(pool), draws, size)].sum(axis=1)
    return total


def _distinct(rng: np.random.Generator, members: int, draws: int, size: int) -> npt.NDArray[np.int64]:
    """``int64 [draws, size]``, each row without repeats: whole rows are drawn again until none repeats."""
    if size > members // 8:
        return np.argsort(rng.random((draws, members)), axis=1)[:, :size].astype(np.int64)
    picks = rng.integers(0, members, (draws, size))
    while True:
        ordered = np.sort(picks, axis=1)
        repeated = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
        if not len(repeated):
            return picks
        picks[repeated] = rng.integers(0, members, (len(repeated), size))
