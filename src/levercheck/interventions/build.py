"""Interventions of every family from plain arrays, checked against the model they are for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from levercheck.errors import UsageError
from levercheck.interventions.scopes import ALL, Scope
from levercheck.interventions.spec import Edit, Intervention, Unit
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import O_PROJ_INPUT, RESID_POST, Site, head_shape, place
from levercheck.lm.saes.sae import Sae
from levercheck.lm.sites import DOWN_PROJ_INPUT

Array = np.ndarray[Any, Any]
Components = Sequence[tuple[int, int]]
"""(layer, index) pairs: neurons, or heads."""


def scale_neurons(lm: LanguageModel, neurons: Components, scope: Scope = ALL) -> Intervention:
    """Multiply the down-projection input of each (layer, index) by the dose (no-op 1)."""
    edits = [Edit(site, {"indices": indices}) for site, indices in _by_site(lm, neurons, DOWN_PROJ_INPUT).items()]
    return Intervention("scale", tuple(edits), scope)


def replace_neurons(
    lm: LanguageModel, neurons: Components, means: Array | None = None, scope: Scope = ALL
) -> Intervention:
    """Move each neuron's activation towards its value in `means` float [layers, neurons] (None: 0); 1 replaces it."""
    if means is not None and np.shape(means) != lm.shape:
        raise UsageError(f"means of neurons have shape {list(np.shape(means))}, expected {list(lm.shape)}")
    edits = []
    for site, indices in _by_site(lm, neurons, DOWN_PROJ_INPUT).items():
        values = np.zeros(len(indices)) if means is None else means[site.layer, indices]
        edits.append(Edit(site, {"indices": indices, "values": values.astype(np.float32)}))
    return Intervention("replace", tuple(edits), scope)


def add_direction(
    lm: LanguageModel,
    directions: Mapping[int, Array],
    *,
    sigma: Mapping[int, float] | None = None,
    unit: Unit = "absolute",
    scope: Scope = ALL,
    site: str = RESID_POST,
) -> Intervention:
    """Add the dose times a unit direction per layer (no-op 0); `sigma` per layer where doses count σ."""
    edits = []
    for layer, vector in sorted(directions.items()):
        arrays = {"direction": _unit(lm, Site(layer, site), vector)}
        if sigma is not None and layer in sigma:
            arrays["sigma"] = np.array([sigma[layer]], np.float32)
        edits.append(Edit(Site(layer, site), arrays))
    return Intervention("add", tuple(edits), scope, unit)


def ablate_direction(
    lm: LanguageModel, directions: Mapping[int, Array], *, scope: Scope = ALL, site: str = RESID_POST
) -> Intervention:
    """Remove the dose's share of each layer's component along its direction (no-op 0, 1 removes it)."""
    edits = [
        Edit(Site(layer, site), {"direction": _unit(lm, Site(layer, site), vector)})
        for layer, vector in sorted(directions.items())
    ]
    return Intervention("ablate", tuple(edits), scope)


def shift_heads(
    lm: LanguageModel,
    heads: Components,
    directions: Array,
    sigmas: Sequence[float],
    *,
    unit: Unit = "sigma",
    scope: Scope = ALL,
) -> Intervention:
    """Move the output of each (layer, head) along its unit direction, float [heads, head width] (no-op 0).

    In unit sigma, the dose counts the standard deviations `sigmas` of the head's projections (Li et al. 2023).
    """
    layers, count, width = head_shape(lm)
    if np.shape(directions) != (len(heads), width):
        raise UsageError(f"head directions have shape {list(np.shape(directions))}, expected [{len(heads)}, {width}]")
    if len(sigmas) != len(heads):
        raise UsageError(f"{len(sigmas)} standard deviations for {len(heads)} heads, expected one per head")
    by_layer: dict[int, list[tuple[int, Array, float]]] = {}
    for (layer, head), vector, sigma in zip(heads, directions, sigmas, strict=True):
        if not (0 <= layer < layers and 0 <= head < count):
            raise UsageError(f"head ({layer}, {head}) is outside the model's {layers} layers of {count} heads")
        by_layer.setdefault(layer, []).append((head, _normal(vector, f"head ({layer}, {head})"), float(sigma)))
    edits = []
    for layer, found in sorted(by_layer.items()):
        found.sort(key=lambda entry: entry[0])
        if len({head for head, _, _ in found}) != len(found):
            raise UsageError(f"a head of layer {layer} is named twice")
        indices = np.concatenate([np.arange(head * width, (head + 1) * width) for head, _, _ in found])
        arrays: dict[str, Array] = {
            "indices": indices.astype(np.int64),
            "values": np.concatenate([vector for _, vector, _ in found]).astype(np.float32),
            "sigma": np.repeat([sigma for _, _, sigma in found], width).astype(np.float32),
        }
        edits.append(Edit(Site(layer, O_PROJ_INPUT), arrays))
    return Intervention("shift", tuple(edits), scope, unit)


def scale_latents(
    lm: LanguageModel, chosen: Sequence[tuple[Sae, Sequence[int]]], *, full: bool = False, scope: Scope = ALL
) -> Intervention:
    """Multiply latents of one dictionary per site by the dose (no-op 1), delta-only or by full replacement."""
    edits = []
    for sae, latents in chosen:
        width = place(lm, sae.site).width
        if sae.width != width:
            raise UsageError(f"the dictionary at {sae.site} is {sae.width} wide, expected {width} as the model's site")
        unique = np.unique(np.asarray(latents, np.int64))
        if not len(unique) or unique[0] < 0 or unique[-1] >= sae.latents:
            raise UsageError(f"latents of the dictionary at {sae.site}: expected some of 0 to {sae.latents - 1}")
        edits.append(Edit(sae.site, {"latents": unique}, sae))
    return Intervention("sae_full" if full else "sae_delta", tuple(edits), scope)


def _by_site(lm: LanguageModel, neurons: Components, name: str) -> dict[Site, Array]:
    layers, width = lm.shape
    found: dict[int, set[int]] = {}
    for layer, index in neurons:
        if not (0 <= layer < layers and 0 <= index < width):
            raise UsageError(f"neuron ({layer}, {index}) is outside the model's {layers} layers of {width} neurons")
        found.setdefault(int(layer), set()).add(int(index))
    return {Site(layer, name): np.array(sorted(found[layer]), np.int64) for layer in sorted(found)}


def _unit(lm: LanguageModel, site: Site, vector: Array) -> Array:
    width = place(lm, site).width
    if np.shape(vector) != (width,):
        raise UsageError(f"the direction at {site} has shape {list(np.shape(vector))}, expected [{width}]")
    return _normal(vector, f"the direction at {site}").astype(np.float32)


def _normal(vector: Array, what: str) -> Array:
    length = float(np.linalg.norm(np.asarray(vector, np.float64)))
    if not np.isfinite(length) or length < 1e-12:
        raise UsageError(f"{what} has length {length:g}: it points nowhere")
    unit: Array = np.asarray(vector, np.float64) / length
    return unit
