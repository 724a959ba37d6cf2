"""Attention heads as a readout: a probe and a mass-mean direction per head, at the input of the output projection.

Inference-time intervention (Li et al. 2023, arXiv 2306.03341, section 3): heads are ranked by how well a logistic probe
on their output tells the labels apart, and moved along the difference of means by α·σ. Ranks rest on cross-validation
within the fit part (or on gradients there); the held-out part is only reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from levercheck import stats
from levercheck.errors import UsageError
from levercheck.lm.activations import pooled
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import O_PROJ_INPUT, Site, head_shape
from levercheck.readouts.artifact import Artifact
from levercheck.readouts.contrast import Bools, Example, Form, Ints, Split, Tokens, prompt_and_answer
from levercheck.readouts.direction import Floats, MassMean, check_finite, mass_mean, nowhere
from levercheck.readouts.head_gradients import Continuation, Effects
from levercheck.readouts.logistic import Probes, fit_probes
from levercheck.readouts.separation import accuracy, area, areas, balanced, clusters_of
from levercheck.stats import Estimate

Features = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class HeadsFit:
    """One entry per kept head, in (layer, head) order; estimates and `direction_auroc` are of the held-out part."""

    heads: list[tuple[int, int]]
    left_out: list[tuple[int, int]]  # both labels have one mean there: no direction
    mass: MassMean
    cv_auroc: Floats  # out of fold, in the fit part
    cv_balanced_accuracy: Floats
    auroc: list[Estimate]
    balanced_accuracy: list[Estimate]
    direction_auroc: Floats


def head_activations(lm: LanguageModel, tokens: Tokens, tick: Callable[[int], None] = lambda rows: None) -> Features:
    """Each head's part of the o_proj input, float32 [examples, layers, heads, head width], one pass per batch."""
    layers, heads, width = head_shape(lm)
    sites = [Site(layer, O_PROJ_INPUT) for layer in range(layers)]
    found = pooled(lm, tokens.sequences, sites, tokens.regions, tick=tick)
    flat = np.stack([found[site].numpy() for site in sites], axis=1)
    check_finite(flat, "layer")
    out: Features = flat.reshape(len(flat), layers, heads, width)
    return out


def fit_heads(
    features: Features,
    labels: Bools,
    groups: Sequence[str],
    parts: Split,
    *,
    c: float = 1.0,
    device: torch.device | None = None,
    tick: Callable[[int], None] = lambda fits: None,
) -> HeadsFit:
    """Probes and directions of features [examples, layers, heads, head width]; `tick` advances per fold and refit.
    A CUDA `device` solves the probes there.

    A head in which both labels have one mean is left out and named; UsageError when that is so of all heads,
    NotEnoughDataError where a part or a fold lacks a label.
    """
    layers, count, width = features.shape[1:]
    everything = [(layer, head) for layer in range(layers) for head in range(count)]
    flat = features.reshape(len(features), layers * count, width)
    fit, held = parts.fit, ~parts.fit
    own, truth = labels[fit], labels[held]
    gone = {int(at) for (at,) in nowhere(mass_mean(flat[fit], own))}
    if len(gone) == len(everything):
        raise UsageError("both labels have the same mean in every head: there is nothing to fit (do the texts differ?)")
    kept = [i for i in range(len(everything)) if i not in gone]
    flat = flat if not gone else flat[:, kept]
    mass = mass_mean(flat[fit], own)
    whole = fit_probes(flat[fit], own, c=c, device=device)
    tick(1)
    scores = whole.scores(flat[held])
    cv_auroc, cv_balanced = _cross_validated(flat[fit], own, parts.folds[fit], c, device, whole, tick)
    clusters = clusters_of([group for group, chosen in zip(groups, held, strict=True) if chosen])
    right = (scores > 0) == truth[:, None]
    return HeadsFit(
        [everything[i] for i in kept],
        [everything[i] for i in sorted(gone)],
        mass,
        cv_auroc,
        cv_balanced,
        [area(scores[:, i], truth, clusters) for i in range(len(kept))],
        [accuracy(right[:, i], clusters, labels=truth) for i in range(len(kept))],
        areas(mass.project(flat[held]), truth),
    )


def _cross_validated(
    features: np.ndarray[Any, Any],
    labels: Bools,
    folds: Ints,
    c: float,
    device: torch.device | None,
    start: Probes,
    tick: Callable[[int], None],
) -> tuple[Floats, Floats]:
    """Mean over folds of AUROC and balanced accuracy of probes fitted on the other folds, float64 [sites] each."""
    found: tuple[list[Floats], list[Floats]] = ([], [])
    for fold in np.unique(folds):
        held = folds == fold
        probes = fit_probes(features[~held], labels[~held], c=c, device=device, start=start)
        scores = probes.scores(features[held])
        found[0].append(areas(scores, labels[held]))
        found[1].append(balanced((scores > 0) == labels[held][:, None], labels[held]))
        tick(1)
    return np.mean(found[0], axis=0), np.mean(found[1], axis=0)


def continuations(lm: LanguageModel, examples: Sequence[Example], form: Form, fit: Bools) -> list[Continuation]:
    """What the gradient ranking compares: the answers of the fit part, good where their label is 1."""
    found = []
    for example, inside in zip(examples, fit, strict=True):
        if inside and example.answer:
            tokens, start = prompt_and_answer(lm, example.prompt, example.answer, form)
            if start < 1:
                raise UsageError(f"example '{example.id}' has a prompt without a token: give it a text")
            found.append(Continuation(example.prompt, example.group, tokens, start, example.label == 1))
    return found


def heads_artifact(found: HeadsFit, facts: dict[str, Any], effects: Effects | None = None) -> Artifact:
    """The readout of a fit; `facts` must hold the model's identity under "model". `effects` make gradient ranks."""
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "layers": np.array([layer for layer, _ in found.heads], np.int64),
        "heads": np.array([head for _, head in found.heads], np.int64),
        "directions": found.mass.directions.astype(np.float32),
        "sigma": found.mass.sigma.astype(np.float32),
        "threshold": found.mass.threshold,
        "cv_auroc": found.cv_auroc,
        "cv_balanced_accuracy": found.cv_balanced_accuracy,
        "direction_auroc": found.direction_auroc,
    }
    estimates: dict[str, list[Estimate]] = {"auroc": found.auroc, "balanced_accuracy": found.balanced_accuracy}
    if effects is not None:
        clusters = clusters_of(effects.groups)
        columns = [effects.values[:, layer, head] for layer, head in found.heads]
        cluster = None if clusters is None else "group"
        estimates["gradient"] = [stats.mean(c, clusters, unit="nat/token", cluster_unit=cluster) for c in columns]
        of = effects.preference
        facts = {
            **facts,
            "objective": {
                "prompts": len(of),
                "mean": float(of.mean()),
                "sd": float(of.std()),
                "min": float(of.min()),
                "max": float(of.max()),
                "positive": float((of > 0).mean()),
            },
        }
    for name, column in estimates.items():
        for end, part in (("", "value"), ("_low", "low"), ("_high", "high")):
            numbers = [getattr(e, part) for e in column]
            arrays[name + end] = np.array([np.nan if n is None else n for n in numbers], np.float64)
    judged = {
        name: {"n": column[0].n, "clusters": column[0].clusters, "unit": column[0].unit, "level": column[0].level}
        for name, column in estimates.items()
    }
    return Artifact(
        "heads", arrays, {**facts, "estimates": judged, "left_out": [list(head) for head in found.left_out]}
    )
