"""Which heads of a readout to move: the first K of a ranking, or matched random ones beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from levercheck.errors import MissingError, NotEnoughDataError, UsageError, nearest
from levercheck.readouts.artifact import Artifact

RANKINGS = ("auroc", "balanced_accuracy", "gradient")
DRAWN = ("random", "layer_matched_random")
SELECTIONS = (*RANKINGS, *DRAWN)
GRID = (8, 12, 16, 24, 32, 40)
_KEYS = {
    "auroc": ("cv_auroc", "cv_balanced_accuracy"),
    "balanced_accuracy": ("cv_balanced_accuracy", "cv_auroc"),
    "gradient": ("gradient",),
}
Head = tuple[int, int]
"""(layer, head)."""


@dataclass(frozen=True)
class HeadArrays:
    """Chosen heads as `interventions.build.shift_heads` takes them."""

    heads: list[Head]
    directions: np.ndarray[Any, np.dtype[np.float32]]  # float32 [heads, head width], length 1
    sigmas: np.ndarray[Any, np.dtype[np.float32]]  # float32 [heads]


def ranked(artifact: Artifact, by: str) -> list[Head]:
    """All heads, best first. Ties go to the second key of the ranking, then to the lower layer, then the lower head."""
    _heads_only(artifact)
    if by not in RANKINGS:
        raise UsageError(f"ranking '{by}' is unknown{nearest(by, RANKINGS)}")
    absent = [name for name in _KEYS[by] if name not in artifact.arrays]
    if absent:
        raise MissingError(
            f"the readout has no {absent[0]}: it was fitted without it (gradients need answers of both labels to one "
            "prompt)"
        )
    layers, heads = artifact.arrays["layers"], artifact.arrays["heads"]
    keys = [-artifact.arrays[name] for name in _KEYS[by]]
    order = np.lexsort((heads, layers, *reversed(keys)))
    return [(int(layers[i]), int(heads[i])) for i in order]


def select_heads(artifact: Artifact, k: int, by: str = "auroc", seed: int = 0, *, target: str = "auroc") -> list[Head]:
    """K heads. Rankings give their first K; random draws exclude the first K of the ranking `target`.

    random: any other heads; layer_matched_random: as many in every layer as the target has. Raises UsageError for an
    unknown name or K, NotEnoughDataError where too few heads are left to draw from.
    """
    _heads_only(artifact)
    if by not in SELECTIONS:
        raise UsageError(f"selection '{by}' is unknown{nearest(by, SELECTIONS)}")
    total = len(artifact.arrays["layers"])
    if not 1 <= k <= total:
        raise UsageError(f"K = {k}: expected 1 to {total}, the readout's heads")
    if by in RANKINGS:
        return ranked(artifact, by)[:k]
    order = ranked(artifact, target)
    top, rest = order[:k], sorted(order[k:])
    rng = np.random.default_rng([seed, k, DRAWN.index(by)])
    if by == "random":
        return _drawn(rest, k, rng, "the readout")
    found: list[Head] = []
    for layer, count in sorted(Counter(layer for layer, _ in top).items()):
        found += _drawn([head for head in rest if head[0] == layer], count, rng, f"layer {layer}")
    return found


def head_interventions(
    artifact: Artifact,
    heads: Sequence[Head],
    *,
    budget: Sequence[Head] | None = None,
    random_directions: int | None = None,
) -> HeadArrays:
    """Directions and σ of chosen heads.

    `budget`: heads whose total σ these shall have (every σ is multiplied by one factor), so that a random draw moves
    activations as much as its target. `random_directions`: a seed; unit Gaussian vectors stand in for the fitted ones.
    """
    _heads_only(artifact)
    at = _rows(artifact, heads)
    sigma = artifact.arrays["sigma"][at].astype(np.float64)
    if budget is not None:
        own = float(sigma.sum())
        if own <= 0:
            raise UsageError("the chosen heads have σ 0: no factor gives them another total")
        sigma = sigma * float(artifact.arrays["sigma"][_rows(artifact, budget)].sum(dtype=np.float64)) / own
    directions = artifact.arrays["directions"][at].astype(np.float64)
    if random_directions is not None:
        directions = np.random.default_rng(random_directions).normal(size=directions.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return HeadArrays([(int(a), int(b)) for a, b in heads], directions.astype(np.float32), sigma.astype(np.float32))


def k_grid(artifact: Artifact) -> list[int]:
    """The K of published head interventions that this readout can serve."""
    total = len(artifact.arrays["layers"])
    return [k for k in GRID if k <= total] or [total]


def layer_matched_exist(artifact: Artifact, k: int, target: str = "auroc") -> bool:
    """Whether every layer has as many heads outside the first K as inside."""
    order = ranked(artifact, target)
    top, rest = (Counter(layer for layer, _ in part) for part in (order[:k], order[k:]))
    return all(rest[layer] >= count for layer, count in top.items())


def _drawn(pool: list[Head], count: int, rng: np.random.Generator, where: str) -> list[Head]:
    if len(pool) < count:
        raise NotEnoughDataError(
            f"{where} has {len(pool)} heads outside the target, {count} are to be drawn: choose a smaller K"
        )
    return [pool[i] for i in sorted(rng.choice(len(pool), count, replace=False).tolist())]


def _rows(artifact: Artifact, heads: Sequence[Head]) -> list[int]:
    where = {
        (int(layer), int(head)): i
        for i, (layer, head) in enumerate(zip(artifact.arrays["layers"], artifact.arrays["heads"], strict=True))
    }
    lost = [head for head in heads if tuple(head) not in where]
    if lost:
        raise UsageError(f"head {tuple(lost[0])} is not in the readout: expected (layer, head) of one of {len(where)}")
    if len(set(map(tuple, heads))) != len(heads) or not heads:
        raise UsageError("heads to move: expected at least one, each named once")
    return [where[int(layer), int(head)] for layer, head in heads]


def _heads_only(artifact: Artifact) -> None:
    if artifact.family != "heads":
        raise UsageError(f"this is a readout of family {artifact.family}, expected heads (levercheck heads fit)")
