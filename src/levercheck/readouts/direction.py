"""Residual directions: the difference of the two labels' mean activations, per layer, and how well it separates.

d = normalise(mean(h | 1) − mean(h | 0)) at `resid.post`, σ the population standard deviation of h · d over the examples
that d was fitted on (Arditi et al. 2024, arXiv 2406.11717, section 2.3). The best layer is chosen by cross-validation
on the fit part alone; the held-out part is read once per layer, for the report.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from levercheck import stats
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence.splits import folds_by_entity
from levercheck.lm.activations import pooled
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import RESID_POST, Site
from levercheck.readouts.artifact import Artifact
from levercheck.readouts.contrast import Bools, Ints, Split, Tokens
from levercheck.readouts.separation import accuracy, area, areas, clusters_of
from levercheck.stats import Estimate

Floats = np.ndarray[Any, np.dtype[np.float64]]
Features = np.ndarray[Any, np.dtype[np.float32]]
NOWHERE = 1e-6
"""A difference of means below this share of the mean activation's length is rounding, not a direction."""
DRAWS = 200
HALVES = 20


@dataclass(frozen=True)
class MassMean:
    """Directions of one or many sites. `directions` float64 [..., width] of length 1; the rest float64 [...]."""

    directions: Floats
    sigma: Floats
    low: Floats  # mean projection of label 0
    high: Floats  # of label 1

    @property
    def threshold(self) -> Floats:
        """The midpoint of both labels' mean projections."""
        return (self.low + self.high) / 2

    def project(self, features: np.ndarray[Any, Any]) -> Floats:
        """Projections float64 [items, ...] of features [items, ..., width]."""
        width = features.shape[-1]
        flat, vectors = features.reshape(len(features), -1, width), self.directions.reshape(-1, width)
        columns = [flat[:, site].astype(np.float64) @ vectors[site] for site in range(len(vectors))]
        return np.stack(columns, axis=1).reshape(features.shape[:-1])


@dataclass(frozen=True)
class DirectionFit:
    """Directions of all layers with what was measured of them; estimates are of the held-out part."""

    mass: MassMean
    cv: Floats  # mean AUROC over the fit part's folds, float64 [layers]
    best: int
    auroc: list[Estimate]
    accuracy: list[Estimate]
    stability: list[Estimate]  # cosine between directions of two halves of the fit part
    references: dict[str, Any]


def residuals(lm: LanguageModel, tokens: Tokens, tick: Callable[[int], None] = lambda rows: None) -> Features:
    """Activations at `resid.post` of every layer, float32 [examples, layers, hidden], from one pass per batch."""
    sites = [Site(layer, RESID_POST) for layer in range(lm.shape[0])]
    found = pooled(lm, tokens.sequences, sites, tokens.regions, tick=tick)
    out: Features = np.stack([found[site].numpy() for site in sites], axis=1)
    check_finite(out, "layer")
    return out


def check_finite(features: np.ndarray[Any, Any], what: str) -> None:
    """UsageError that names the first item and site (second axis) with a number that is not finite."""
    if np.isfinite(features).all():
        return
    item, site = (int(i) for i in np.argwhere(~np.isfinite(features))[0][:2])
    raise UsageError(
        f"activations of example {item} at {what} {site} are not finite: load the model in float32 or bfloat16"
    )


def mass_mean(features: np.ndarray[Any, Any], labels: Bools) -> MassMean:
    """Mass-mean directions of features [items, ..., width]; they point to label 1.

    A site where both labels have one mean (up to rounding) gets the direction 0, which `refuse_nowhere` reports. One
    label only is a NotEnoughDataError.
    """
    if labels.all() or not labels.any():
        raise NotEnoughDataError("a difference of means needs examples of both labels")
    one, zero = (features[side].mean(0, dtype=np.float64) for side in (labels, ~labels))
    length = np.linalg.norm(one - zero, axis=-1)
    size = np.maximum(np.linalg.norm(one, axis=-1), np.linalg.norm(zero, axis=-1))
    nowhere = length <= NOWHERE * np.maximum(size, 1e-30)
    directions = np.where(nowhere[..., None], 0.0, (one - zero) / np.where(nowhere, 1.0, length)[..., None])
    low, high = ((mean * directions).sum(-1) for mean in (zero, one))
    unscaled = MassMean(directions, np.ones_like(low), low, high)
    return replace(unscaled, sigma=unscaled.project(features).std(0))


def nowhere(mass: MassMean) -> np.ndarray[Any, Any]:
    """Indices int64 [sites, axes] of directions that are 0."""
    return np.argwhere(~mass.directions.any(-1))


def fold_areas(features: np.ndarray[Any, Any], labels: Bools, folds: Ints) -> Floats:
    """Mean AUROC over folds of mass-mean directions fitted on the other folds, float64 [...]."""
    found = []
    for fold in np.unique(folds):
        held = folds == fold
        mass = mass_mean(features[~held], labels[~held])
        found.append(areas(mass.project(features[held]), labels[held]))
    mean: Floats = np.mean(found, axis=0)
    return mean


def fit_direction(
    features: Features, labels: Bools, groups: Sequence[str], parts: Split, *, seed: int = 0, draws: int = DRAWS
) -> DirectionFit:
    """Fit on the fit part of features [examples, layers, hidden], judge on the held-out part.

    Raises UsageError where the two labels do not differ at a layer, NotEnoughDataError where a part lacks a label.
    """
    fit, held = parts.fit, ~parts.fit
    inside, outside = features[fit], features[held]
    own, truth = labels[fit], labels[held]
    mass = mass_mean(inside, own)
    lost = nowhere(mass)
    if len(lost):
        raise UsageError(
            f"both labels have the same mean activation at layer {lost[0][0]}: there is no direction (do all examples "
            "end in one text?)"
        )
    cv = fold_areas(inside, own, parts.folds[fit])
    best = int(np.argmax(cv))
    clusters = clusters_of([group for group, chosen in zip(groups, held, strict=True) if chosen])
    scores = mass.project(outside)
    right = (scores > mass.threshold) == truth[:, None]
    layers = range(features.shape[1])
    return DirectionFit(
        mass,
        cv,
        best,
        [area(scores[:, layer], truth, clusters) for layer in layers],
        [accuracy(right[:, layer], clusters) for layer in layers],
        half_splits(inside, own, [g for g, chosen in zip(groups, fit, strict=True) if chosen], seed=seed),
        references(inside[:, best], own, outside[:, best], truth, seed=seed, draws=draws),
    )


def half_splits(
    features: np.ndarray[Any, Any], labels: Bools, groups: Sequence[str], *, seed: int, repeats: int = HALVES
) -> list[Estimate]:
    """Cosine per layer between directions of two halves that share no group: mean, 2.5 and 97.5 % over `repeats`."""
    kinds: dict[str, set[bool]] = {}
    for group, label in zip(groups, labels.tolist(), strict=True):
        kinds.setdefault(group, set()).add(label)
    signs = np.zeros((2 * repeats, len(labels)), np.float32)  # weights whose sum is a difference of means
    for repeat in range(repeats):
        half = np.zeros(len(labels), bool)
        for kind in ({True}, {False}, {True, False}):
            members = [i for i, g in enumerate(groups) if kinds[g] == kind]
            drawn = folds_by_entity([groups[i] for i in members], 2, seed * HALVES + repeat)
            half[members] = [drawn[groups[i]] == 0 for i in members]
        for row, side in ((2 * repeat, half), (2 * repeat + 1, ~half)):
            signs[row] = _contrast(side & labels, side & ~labels)
    differences = (signs @ features.reshape(len(features), -1)).reshape(repeats, 2, *features.shape[1:])
    lengths = np.linalg.norm(differences, axis=-1)
    table = (differences[:, 0] * differences[:, 1]).sum(-1) / np.maximum(lengths[:, 0] * lengths[:, 1], 1e-30)
    low, high = np.percentile(table, [2.5, 97.5], axis=0)
    note = "percentiles over halvings: the spread of one refit on half of the data"
    return [
        Estimate(
            float(table[:, layer].mean()),
            float(min(low[layer], table[:, layer].mean())),
            float(max(high[layer], table[:, layer].mean())),
            0.95,
            "cosine",
            len(labels),
            "half_split_percentiles",
            seed=seed,
            resamples=repeats,
            note=note,
        )
        for layer in range(table.shape[1])
    ]


def _contrast(one: Bools, zero: Bools) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Weights float32 [items] whose weighted sum of features is the difference of two means."""
    if not one.any() or not zero.any():
        raise NotEnoughDataError("a difference of means needs examples of both labels")
    weights: np.ndarray[Any, np.dtype[np.float32]] = (one / one.sum() - zero / zero.sum()).astype(np.float32)
    return weights


def references(
    inside: np.ndarray[Any, Any], own: Bools, outside: np.ndarray[Any, Any], truth: Bools, *, seed: int, draws: int
) -> dict[str, Any]:
    """Held-out AUROCs that a direction reaches by chance, for features [items, hidden] of one layer.

    random: isotropic directions, turned to label 1 on the fit part; shuffled: directions fitted on permuted labels of
    the fit part. Mean, 2.5 and 97.5 % of `draws`, and the Monte-Carlo p-value of the fitted direction.
    """
    observed = float(areas(mass_mean(inside, own).project(outside), truth))
    rng = np.random.default_rng([seed, 1])
    vectors = rng.normal(size=(draws, inside.shape[-1]))
    along = inside @ vectors.T
    sign = np.where(along[own].mean(0) >= along[~own].mean(0), 1.0, -1.0)
    random = areas((outside @ vectors.T) * sign, truth)
    permuted = [rng.permutation(own) for _ in range(draws)]
    differences = np.stack([_contrast(labels, ~labels) for labels in permuted]) @ inside
    shuffled = areas(outside @ differences.T, truth)
    return {name: _chance(observed, found, seed) for name, found in (("random", random), ("shuffled", shuffled))}


def _chance(observed: float, found: Floats, seed: int) -> dict[str, Any]:
    low, high = np.percentile(found, [2.5, 97.5])
    return {
        "mean": float(found.mean()),
        "low": float(low),
        "high": float(high),
        "draws": len(found),
        "p": stats.monte_carlo_p(observed, found, "greater"),
        "seed": seed,
    }


def shuffled_artifact(features: Features, labels: Bools, parts: Split, facts: dict[str, Any]) -> Artifact:
    """A direction readout of labels that mean nothing: the same fit and the same choice of a layer, nothing judged."""
    inside, own = features[parts.fit], labels[parts.fit]
    mass, cv = mass_mean(inside, own), fold_areas(inside, own, parts.folds[parts.fit])
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "directions": mass.directions.astype(np.float32),
        "sigma": mass.sigma.astype(np.float32),
        "cv_auroc": cv,
    }
    return Artifact("direction", arrays, {**facts, "best_layer": int(np.argmax(cv)), "labels": "shuffled"})


def direction_artifact(found: DirectionFit, facts: dict[str, Any]) -> Artifact:
    """The readout of a fit; `facts` must hold the model's identity under "model"."""
    mass = found.mass
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "directions": mass.directions.astype(np.float32),
        "sigma": mass.sigma.astype(np.float32),
        "threshold": mass.threshold,
        "cv_auroc": found.cv,
        "auroc": np.array([np.nan if e.value is None else e.value for e in found.auroc]),
    }
    layers = [
        {
            "layer": layer,
            "cv_auroc": float(found.cv[layer]),
            "auroc": found.auroc[layer].to_dict(),
            "accuracy": found.accuracy[layer].to_dict(),
            "stability": found.stability[layer].to_dict(),
            "sigma": float(mass.sigma[layer]),
            "threshold": float(mass.threshold[layer]),
            "gap_in_sigma": float((mass.high - mass.low)[layer] / mass.sigma[layer]),
        }
        for layer in range(len(found.cv))
    ]
    chosen = {"best_layer": found.best, "chosen_by": "mean AUROC over folds of the fit part"}
    return Artifact("direction", arrays, {**facts, **chosen, "references": found.references, "layers": layers})
