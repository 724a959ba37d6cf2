"""What control draws of a target are made of in a model: measured statistics and fitted heads as a `Pool`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from levercheck.errors import UsageError
from levercheck.interventions.controls import log_scale
from levercheck.interventions.controls.components import Component
from levercheck.interventions.controls.draw import Pool, family_of
from levercheck.interventions.files import SIDECAR
from levercheck.interventions.spec import Intervention
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import RESID_POST, Site, head_shape
from levercheck.readouts.artifact import family_of as readout_family
from levercheck.readouts.artifact import load_artifact
from levercheck.readouts.component_statistics import ComponentStatistics, activations_at
from levercheck.readouts.readout import load_readout

Array = np.ndarray[Any, Any]
ACTIVATIONS = 1024
"""Tokens whose activations covariance-matched directions are drawn from."""


def pool_of(
    lm: LanguageModel,
    target: Intervention,
    folder: Path | None = None,
    *,
    statistics: ComponentStatistics | None = None,
    sequences: Sequence[Sequence[int]] = (),
    seed: int = 0,
) -> Pool:
    """The pool for any match of any family.

    `folder` is that of a readout, whose heads lend their directions. `statistics` are needed to match neurons, heads
    and latents on activation, `sequences` (whole, of the text where the target will act) to match directions.
    """
    kind = family_of(target)
    if kind == "neurons":
        values = None if statistics is None else statistics.neurons.mean
        return Pool(lm.shape, covariates=covariates(statistics, target), values=values)
    if kind == "heads":
        layers, heads, width = head_shape(lm)
        fitted = _fitted_heads(folder, (layers, heads, width))
        return Pool((layers, heads), width, covariates(statistics, target), None, *fitted)
    if kind == "sae":
        return Pool(covariates=covariates(statistics, target))
    if not sequences:
        return Pool()
    names = {edit.site.name for edit in target.edits}
    if len(names) == 1:
        sites = {edit.site.layer: edit.site for edit in target.edits}
    else:  # one direction at many places: the middle of the stream stands for all of them
        middle = lm.shape[0] // 2
        sites = {middle: Site(middle, RESID_POST)}
    found = activations_at(lm, sequences, list(sites.values()), ACTIVATIONS, seed)
    return Pool(activations={layer: found[site] for layer, site in sites.items()})


def covariates(statistics: ComponentStatistics | None, target: Intervention) -> Any:
    """What components are matched on, float64; None without statistics.

    Neurons: log write norm, log mean |z|, frequency. Heads: logs of mean norm, variance and write norm. Latents, per
    dictionary: logs of firing rate and decoder norm.
    """
    if statistics is None:
        return None
    kind = family_of(target)
    if kind == "neurons":
        n = statistics.neurons
        return np.stack([_logs(n.write_norm), _logs(n.mean_abs), n.frequency.astype(np.float64)], axis=-1)
    if kind == "heads":
        if statistics.heads is None:
            raise UsageError("the statistics hold no heads: measure them on a model whose heads can be told apart")
        h = statistics.heads
        return np.stack([_logs(h.mean_norm), _logs(h.variance), _logs(h.write_norm)], axis=-1)
    found = {}
    for edit in target.edits:
        if edit.sae is not None:
            latents = statistics.latents.get(edit.sae.fingerprint)
            if latents is None:
                raise UsageError(f"the statistics do not cover the dictionary at {edit.site}: measure them with it")
            found[edit.site] = np.stack([log_scale(latents.rate), log_scale(latents.decoder_norm)], axis=-1)
    return found


def excluded(folder: Path, target: Intervention) -> list[Component]:
    """What a readout holds and control draws may not: every neuron or latent of non-zero weight."""
    if (folder / SIDECAR).is_file():
        return []
    family = readout_family(folder)
    if family == "neurons":
        return list(load_readout(folder).components)
    if family == "sae":
        latents = load_artifact(folder).arrays["latents"]
        return [(edit.site.layer, int(i)) for edit in target.edits for i in latents]
    return []


def _logs(table: Array) -> Array:
    """Layer by layer, so that a dead component of one layer does not set the scale of another."""
    return np.stack([log_scale(row) for row in table])


def _fitted_heads(folder: Path | None, shape: tuple[int, int, int]) -> tuple[Array | None, Array | None]:
    if folder is None or (folder / SIDECAR).is_file() or readout_family(folder) != "heads":
        return None, None
    arrays = load_artifact(folder).arrays
    if len(arrays["layers"]) < shape[0] * shape[1]:
        return None, None  # random heads outside the readout have no direction of their own
    directions, sigmas = np.zeros(shape), np.zeros(shape[:2])
    at = (arrays["layers"], arrays["heads"])
    directions[at], sigmas[at] = arrays["directions"], arrays["sigma"]
    return directions, sigmas
