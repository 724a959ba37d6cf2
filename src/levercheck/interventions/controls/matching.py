"""Control sets whose members resemble the target's, one for one: nearest neighbours within a caliper, then balanced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.interventions.controls.components import Component, Set, barred_of, drawn, pool_of

Floats = np.ndarray[Any, np.dtype[np.float64]]
_RIDGE, _STEPS = 0.01, 50


@dataclass(frozen=True)
class Miss:
    """A target component without a counterpart inside the caliper, in every draw or, others having taken it, in some.

    `distance` is the largest difference in any covariate, in standard deviations of the layer, to its nearest candidate
    or, where others were in the way, to the farthest one that stood in.
    """

    component: Component
    distance: float


@dataclass(frozen=True)
class Matched:
    """Control sets, and the target components that had no counterpart inside the caliper."""

    sets: tuple[Set, ...]
    misses: tuple[Miss, ...]


@dataclass(frozen=True)
class _Candidates:
    """Candidates of one target component, nearest first: `indices` int64 [n], `gaps` float64 [n, covariates]."""

    indices: np.ndarray[Any, np.dtype[np.int64]]
    gaps: Floats  # candidate minus target, in standard deviations of the layer
    within: np.ndarray[Any, np.dtype[np.bool_]]


def matched(
    target: Sequence[Component],
    covariates: Sequence[np.ndarray[Any, Any]],
    *,
    exclude: Iterable[Component],
    draws: int,
    seed: int,
    nearest: int = 20,
    caliper: float = 0.5,
) -> Matched:
    """Draw sets in which every target component is replaced by one of its layer that resembles it.

    `covariates` holds float [components, covariates] per layer (or one array [layers, components, covariates]), finite;
    see `log_scale` for skewed ones. They are standardised over the layer. Each target component, in random order, gets
    one of its `nearest` candidates that are still free, among those within `caliper` standard deviations on every
    covariate (Rosenbaum and Rubin 1985). Where there is none, the nearest free ones stand in and the component is
    reported as a miss.

    A target at the end of a distribution has more candidates towards the middle, so a uniform choice would be biased
    there. Candidates are therefore chosen with probability proportional to exp(-λ · gap), with the one λ that makes the
    expected difference over all matched components zero where that is possible (entropy balancing, Hainmueller
    2012).
    """
    barred, counts = barred_of(target, exclude), Counter(layer for layer, _ in target)
    found: dict[Component, _Candidates] = {}
    misses = []
    for layer in sorted(counts):
        table = _standardised(covariates, layer)
        pool = pool_of(len(table), barred[layer])
        if len(pool) < counts[layer]:
            raise NotEnoughDataError(
                f"layer {layer} has {len(pool)} components left to match with, expected at least {counts[layer]}"
            )
        # so many that `nearest` are free however the layer's other targets chose
        kept = min(len(pool), nearest + counts[layer] - 1)
        for component in sorted(c for c in target if c[0] == layer):
            gaps = table[pool] - table[component[1]]
            order = np.argsort(np.square(gaps).sum(axis=1), kind="stable")[:kept]
            size = np.abs(gaps[order]).max(axis=1)
            within = size <= caliper
            if not within.any():
                misses.append(Miss(component, float(size[0])))
            found[component] = _Candidates(pool[order], gaps[order], within)
    matches = [c.gaps[c.within] for c in found.values() if c.within.any()]
    tilt = _tilt(matches) if matches else None
    crowded: dict[Component, float] = {}

    def one(rng: np.random.Generator) -> Set:
        taken: set[Component] = set()
        for at in rng.permutation(len(ordered)):
            component = ordered[int(at)]
            layer, candidates = component[0], found[component]
            free = np.array([(layer, int(i)) not in taken for i in candidates.indices])
            near = np.flatnonzero(free)[:nearest]
            fitting = near[candidates.within[near]]
            share = None
            if len(fitting) and tilt is not None:
                share = _shares(candidates.gaps[fitting], tilt)
            picked = rng.choice(fitting if len(fitting) else near, p=share)
            taken.add((layer, int(candidates.indices[picked])))
            if not len(fitting) and candidates.within.any():
                crowded[component] = max(crowded.get(component, 0.0), float(np.abs(candidates.gaps[picked]).max()))
        return tuple(sorted(taken))

    ordered = sorted(found)
    found_sets = tuple(drawn(one, draws, seed))
    return Matched(found_sets, (*misses, *(Miss(*entry) for entry in sorted(crowded.items()))))


def log_scale(values: np.ndarray[Any, Any]) -> Floats:
    """Natural log of numbers of at least 0, float64; zeros count as the smallest positive one (all zero: 0)."""
    values = np.asarray(values, np.float64)
    positive = values[values > 0]
    if not len(positive):
        return np.zeros(values.shape)
    logged: Floats = np.log(np.maximum(values, positive.min()))
    return logged


def _standardised(covariates: Sequence[np.ndarray[Any, Any]], layer: int) -> Floats:
    if not 0 <= layer < len(covariates):
        raise UsageError(f"layer {layer} of the target has no covariates, expected some for {len(covariates)} layers")
    table = np.asarray(covariates[layer], np.float64)
    if not np.isfinite(table).all():
        raise UsageError(f"covariates of layer {layer} have numbers that are not finite: measure them again")
    spread = table.std(axis=0)
    standard: Floats = (table - table.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return standard


def _shares(gaps: Floats, tilt: Floats) -> Floats:
    exponents = -gaps @ tilt
    weights = np.exp(exponents - exponents.max())
    shares: Floats = weights / weights.sum()
    return shares


def _tilt(gaps: Sequence[Floats]) -> Floats:
    """λ, float64 [covariates]: minimises Σ_t log Σ_i exp(-λ · gap_ti) with a small ridge, by damped Newton steps."""
    tilt, ridge = np.zeros(gaps[0].shape[1]), _RIDGE * len(gaps)

    def value(at: Floats) -> float:
        exponents = [-g @ at for g in gaps]
        return float(sum(np.logaddexp.reduce(e) for e in exponents) + ridge / 2 * at @ at)

    for _ in range(_STEPS):
        shares = [_shares(g, tilt) for g in gaps]
        means = [s @ g for s, g in zip(shares, gaps, strict=True)]
        slope = ridge * tilt - np.sum(means, axis=0)
        curvature = sum((s[:, None] * g).T @ g - np.outer(m, m) for s, g, m in zip(shares, gaps, means, strict=True))
        step = np.linalg.solve(curvature + ridge * np.eye(len(tilt)), slope)
        if float(np.abs(step).max()) < 1e-9:
            break
        size, here = 1.0, value(tilt)
        while value(tilt - size * step) > here and size > 1e-6:
            size /= 2
        tilt = tilt - size * step
    return tilt
