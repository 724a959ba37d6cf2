"""How often a whole verdict would come out as hoped, by simulating studies under a stated truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Bools, Ints, finite
from levercheck.stats.estimate import Estimate
from levercheck.stats.proportions import proportion

Data = TypeVar("Data")
Verdict = TypeVar("Verdict", bound=Hashable)


def verdict_power(
    simulate: Callable[[np.random.Generator], Data],
    decide: Callable[[Data], Verdict],
    runs: int = 500,
    seed: int = 0,
    level: float = 0.95,
) -> dict[Verdict, Estimate]:
    """Share of simulated studies that end in each verdict, most frequent first, with Wilson intervals.

    ``simulate`` draws one study's data from a generator, ``decide`` is the very rule that will judge the
    real one. Run r uses ``default_rng([seed, r])``, so more runs extend fewer ones. Verdicts that never
    occurred are absent.
    """
    if runs < 1:
        raise ValueError(f"{runs} runs")
    counts: Counter[Verdict] = Counter()
    for run in range(runs):
        counts[decide(simulate(np.random.default_rng([seed, run])))] += 1
    result = {}
    for verdict, count in counts.most_common():
        rate = proportion(count, runs, level)
        result[verdict] = Estimate(
            rate.value,
            rate.low,
            rate.high,
            level,
            "fraction",
            runs,
            "simulation_wilson",
            seed=seed,
            resamples=runs,
        )
    return result


def simulate_doses(
    rng: np.random.Generator,
    items: int,
    doses: npt.ArrayLike,
    up: float,
    down: float,
    base: float = 0.5,
    cluster_size: int = 1,
    together: float = 0.0,
) -> tuple[Bools, Ints]:
    """Yes/no outcomes ``bool [items, doses]`` of a planned study, and cluster numbers ``int64 [items]``.

    A share ``up`` of items changes once from no to yes at a random step between doses, ``down`` from yes to
    no; the others keep an outcome that is yes with probability ``base``. Clusters hold ``cluster_size``
    items; with probability ``together`` an item follows its cluster's common draw instead of its own.
    """
    grid = finite(doses, "doses", 1)
    for name, share in (
        ("up", up),
        ("down", down),
        ("up + down", up + down),
        ("base", base),
        ("together", together),
    ):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}: it must lie in 0..1")
    if items < 1 or cluster_size < 1 or len(grid) < 2:
        raise ValueError(f"cannot plan {items} items in clusters of {cluster_size} at {len(grid)} doses")
    cluster = np.arange(items) // cluster_size
    count = int(cluster[-1]) + 1
    common = rng.random(items) < together

    def draw() -> npt.NDArray[np.float64]:
        own, shared = rng.random(items), rng.random(count)
        return np.where(common, shared[cluster], own)

    fate, level, step = draw(), draw() < base, 1 + np.floor(draw() * (len(grid) - 1)).astype(np.int64)
    rises, falls = fate < up, (fate >= up) & (fate < up + down)
    order = np.empty(len(grid), dtype=np.int64)
    order[np.argsort(grid, kind="stable")] = np.arange(len(grid))
    late = order[None, :] >= step[:, None]
    start = np.where(rises, False, np.where(falls, True, level))[:, None]
    return start ^ (late & (rises | falls)[:, None]), cluster
