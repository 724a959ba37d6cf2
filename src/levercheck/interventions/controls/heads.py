"""What random heads are moved along, and how far: the dose budget of the target, spent elsewhere. Plain numpy.

Random heads scaled by standard deviations of their own would get another total dose than the target's, a flaw of
published controls; here Σ_h σ_h is the same in every draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from levercheck.errors import UsageError

Floats = np.ndarray[Any, np.dtype[np.float64]]


def random_vectors(count: int, width: int, rng: np.random.Generator) -> Floats:
    """Independent uniformly random unit vectors, float64 [count, width]."""
    vectors = rng.normal(size=(count, width))
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def own_vectors(heads: Sequence[tuple[int, int]], directions: np.ndarray[Any, Any]) -> Floats:
    """The heads' own fitted directions, float64 [heads, width] of length 1, from float [layers, heads, width]."""
    found = np.stack([np.asarray(directions[layer, head], np.float64) for layer, head in heads])
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if not np.isfinite(found).all() or (lengths < 1e-12).any():
        raise UsageError("a head of the pool has no direction: fit one for every head, or leave directions out")
    unit: Floats = found / lengths
    return unit


def budgeted(target: Floats, rng: np.random.Generator, own: np.ndarray[Any, Any] | None = None) -> Floats:
    """How far each control head moves per unit of dose, float64 [heads], with the sum of `target` float64 [heads].

    `own` float [heads] are the control heads' own standard deviations, brought to that sum; without them the target's
    are handed out in random order.
    """
    if own is None:
        return rng.permutation(target)
    own = np.asarray(own, np.float64)
    if not np.isfinite(own).all() or (own <= 0).any():
        raise UsageError("standard deviations of the pool's heads must be positive numbers: measure them again")
    sized: Floats = own * (target.sum() / own.sum())
    return sized
