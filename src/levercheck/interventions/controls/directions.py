"""Random directions that imitate one target direction per layer. Plain numpy.

A target that points the same way in several layers adds up through them; independent random vectors would not. So one
draw is random as a whole: the isotropic draw is a random rotation of all of the target's directions together, which
keeps every angle between layers, and the covariance-matched draw takes the same random combination of the same tokens'
activations in every layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from levercheck.errors import NotEnoughDataError, UsageError

Floats = np.ndarray[Any, np.dtype[np.float64]]
MIN_TOKENS = 32
"""Fewest activations that a covariance is drawn from."""


def isotropic(
    target: Mapping[Any, np.ndarray[Any, Any]], *, draws: int, seed: int, orthogonal: bool = False
) -> list[dict[Any, Floats]]:
    """Uniformly random rotations of unit target directions [width] per layer: float64 [width] of length 1 per layer.

    Keys may be layers or sites. With one layer this is a uniformly random direction. With `orthogonal`, no draw has a
    component along any of the target's directions.
    """
    layers, matrix = _units(target)
    width = matrix.shape[1]
    left, sizes, span = np.linalg.svd(matrix, full_matrices=False)
    rank = int((sizes > 1e-9 * sizes[0]).sum())
    coefficients, span = left[:, :rank] * sizes[:rank], span[:rank]  # matrix = coefficients @ span
    if orthogonal and width < 2 * rank:
        raise NotEnoughDataError(
            f"directions that span {rank} of {width} dimensions leave no room for orthogonal ones: leave orthogonal out"
        )
    found = []
    for draw in range(draws):
        frame = np.random.default_rng([seed, draw]).normal(size=(width, rank))
        if orthogonal:
            frame -= span.T @ (span @ frame)
        basis, upper = np.linalg.qr(frame)
        basis *= np.sign(np.diag(upper))  # makes the frame uniform (Mezzadri 2007)
        found.append(dict(zip(layers, coefficients @ basis.T, strict=True)))
    return found


def covariance_matched(
    target: Mapping[int, np.ndarray[Any, Any]],
    activations: Mapping[int, np.ndarray[Any, Any]],
    *,
    draws: int,
    seed: int,
    orthogonal: bool = False,
    factors: bool = False,
) -> list[dict[int, Floats]]:
    """Directions drawn from the covariance of the activations, float64 [width] of length 1 per layer.

    `activations` float [tokens, width] per layer of the target, the same tokens in every layer; they are centred here.
    With `factors` they are factors F of the covariance, FᵀF = Σ, and are taken as they are. Before it is brought to
    length 1, a draw Fᵀg with g standard normal has covariance Σ.
    """
    layers, matrix = _units(target)
    missing = [layer for layer in layers if layer not in activations]
    if missing:
        raise UsageError(f"layer {missing[0]} of the target has no activations: measure them at the target's layers")
    tables = []
    for layer in layers:
        table = np.asarray(activations[layer], np.float64)
        if table.ndim != 2 or table.shape[1] != matrix.shape[1] or not np.isfinite(table).all():
            raise UsageError(
                f"activations of layer {layer} have shape {list(table.shape)}, expected finite [tokens, "
                f"{matrix.shape[1]}] as the direction has"
            )
        if not factors and len(table) < MIN_TOKENS:
            raise NotEnoughDataError(
                f"{len(table)} activations of layer {layer}, expected at least {MIN_TOKENS} to draw directions from"
            )
        tables.append(table if factors else (table - table.mean(axis=0)) / np.sqrt(len(table) - 1))
    if len({len(table) for table in tables}) != 1:
        raise UsageError("layers have different numbers of activations, expected the same tokens in each")
    found = []
    for draw in range(draws):
        g = np.random.default_rng([seed, draw]).normal(size=len(tables[0]))
        vectors = {}
        for layer, table, own in zip(layers, tables, matrix, strict=True):
            vector = g @ table
            if orthogonal:
                vector -= (vector @ own) * own
            length = float(np.linalg.norm(vector))
            if length < 1e-12:
                raise NotEnoughDataError(f"activations of layer {layer} do not vary: no direction can be drawn")
            vectors[layer] = vector / length
        found.append(vectors)
    return found


def _units(target: Mapping[Any, np.ndarray[Any, Any]]) -> tuple[list[Any], Floats]:
    layers = sorted(target)
    if not layers:
        raise UsageError("the target has no direction: there is nothing to imitate")
    matrix = np.stack([np.asarray(target[layer], np.float64) for layer in layers])
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not np.isfinite(matrix).all() or (lengths < 1e-12).any():
        raise UsageError("a direction of the target has no length: it points nowhere")
    unit: Floats = matrix / lengths
    return layers, unit
