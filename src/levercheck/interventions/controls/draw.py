"""Control interventions: the target's operator, scope, unit and number of components, with other components.

A runner treats them like the target. `facts` of each says which draw it is and which target components had no match.
What there is to draw from is a `Pool` of plain arrays; a pool without the arrays that a spec needs is a UsageError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from levercheck.errors import UsageError
from levercheck.interventions.controls import components as sets
from levercheck.interventions.controls import directions, heads, matching
from levercheck.interventions.controls.components import Component, Set
from levercheck.interventions.controls.matching import Miss
from levercheck.interventions.controls.spec import ControlSpec
from levercheck.interventions.spec import Edit, Intervention
from levercheck.lm.places import O_PROJ_INPUT, Site
from levercheck.lm.sites import DOWN_PROJ_INPUT

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Pool:
    """What control draws can be made of, in one model.

    `shape`: (layers, components per layer) of neurons or heads. `head_width`: of heads. `covariates`: float64 [layers,
    components, covariates] to match neurons or heads on; for latents a mapping from each dictionary's site to
    [latents, covariates]. `values`: float [layers, neurons] for `replace`. `head_directions` float [layers, heads,
    head width] and `head_sigmas` float [layers, heads]: of every head; without them control heads get random
    directions and the target's standard deviations. `activations`: float [tokens, width] per layer, the same tokens in
    each, for covariance-matched directions (where one direction stands at several kinds of sites: those of the lowest
    layer given).
    """

    shape: tuple[int, int] | None = None
    head_width: int | None = None
    covariates: Array | Mapping[Site, Array] | None = field(default=None, repr=False)
    values: Array | None = field(default=None, repr=False)
    head_directions: Array | None = field(default=None, repr=False)
    head_sigmas: Array | None = field(default=None, repr=False)
    activations: Mapping[int, Array] | None = field(default=None, repr=False)


def family_of(intervention: Intervention) -> str:
    """neurons, heads, sae or direction: what an intervention acts on."""
    names = {edit.site.name for edit in intervention.edits}
    if all(edit.sae is not None for edit in intervention.edits):
        return "sae"
    if all("direction" in edit.arrays for edit in intervention.edits):
        return "direction"
    if names == {DOWN_PROJ_INPUT}:
        return "neurons"
    if names == {O_PROJ_INPUT}:
        return "heads"
    raise UsageError(
        f"controls of {intervention.operator} at {', '.join(sorted(names))} are not known, expected neurons, heads, "
        "latents or directions"
    )


def components_of(intervention: Intervention, head_width: int | None = None) -> Set:
    """(layer, index) of the neurons, heads or latents of an intervention, sorted; heads need their width."""
    family, found = family_of(intervention), []
    for edit in intervention.edits:
        if family == "direction":
            raise UsageError("a direction has no components: compare its vectors")
        if family == "heads":
            found += [(edit.site.layer, head) for head in _heads_of(edit, head_width)]
        else:
            name = "latents" if family == "sae" else "indices"
            found += [(edit.site.layer, int(i)) for i in edit.arrays[name]]
    return tuple(sorted(found))


def draw_controls(
    target: Intervention, spec: ControlSpec, pool: Pool, *, exclude: Iterable[Component] = ()
) -> list[Intervention]:
    """`spec.draws` interventions like `target`; `exclude` names components that may not be drawn.

    Exclude every component of non-zero weight: a random set must not hold what the readout holds. The target's own are
    always excluded. Too small pools are a NotEnoughDataError before anything runs.
    """
    family, barred = family_of(target), tuple(exclude)
    if spec.kind == "shuffled":
        raise UsageError("shuffled controls refit the readout on permuted labels: use shuffled_refits with the fit")
    if spec.kind == "directions" and family not in ("heads", "direction"):
        raise UsageError(f"controls of kind directions are for heads and directions, not for {family}: use random")
    draw = {"neurons": _neurons, "heads": _heads, "sae": _latents, "direction": _directions}[family]
    edits, misses = draw(target, spec, pool, barred)
    missed = [[m.component[0], m.component[1], m.distance] for m in misses]
    common = {"control": spec.kind, "match": spec.match, "seed": spec.seed, "of": spec.of, "misses": missed}
    return [
        Intervention(target.operator, tuple(one), target.scope, target.unit, {**common, "draw": number})
        for number, one in enumerate(edits)
    ]


Drawn = tuple[list[list[Edit]], Sequence[Miss]]


def _component_sets(
    target: Set,
    widths: Sequence[int],
    covariates: Sequence[Array] | None,
    spec: ControlSpec,
    barred: Sequence[Component],
) -> tuple[Sequence[Set], Sequence[Miss]]:
    common: dict[str, Any] = {"exclude": barred, "draws": spec.draws, "seed": spec.seed}
    if spec.match == "none":
        return sets.unconstrained(target, widths, **common), ()
    if spec.match == "layer":
        return sets.layer_matched(target, widths, distinct=True, **common), ()
    if covariates is None:
        raise UsageError("match activation needs statistics of the components: measure them, or match layer")
    found = matching.matched(target, covariates, nearest=spec.nearest, caliper=spec.caliper, **common)
    return found.sets, found.misses


def _neurons(target: Intervention, spec: ControlSpec, pool: Pool, barred: Sequence[Component]) -> Drawn:
    own = components_of(target)
    chosen, misses = _component_sets(own, _widths(pool, "neurons"), _table(pool), spec, barred)
    fill: Callable[[int, Array], dict[str, Array]]
    if target.operator == "replace":
        zero = not any(edit.arrays["values"].any() for edit in target.edits)
        if pool.values is None and not zero:
            raise UsageError("controls of replace need the values of every neuron: give the pool its values")
        values = np.zeros(pool.shape or (0, 0)) if pool.values is None or zero else pool.values

        def fill(layer: int, indices: Array) -> dict[str, Array]:
            return {"indices": indices, "values": values[layer, indices].astype(np.float32)}

    elif target.operator == "scale":

        def fill(layer: int, indices: Array) -> dict[str, Array]:
            return {"indices": indices}

    else:
        raise UsageError(f"controls of {target.operator} on neurons are not known, expected scale or replace")
    return [
        [Edit(Site(layer, DOWN_PROJ_INPUT), fill(layer, at)) for layer, at in _per_layer(one).items()] for one in chosen
    ], misses


def _latents(target: Intervention, spec: ControlSpec, pool: Pool, barred: Sequence[Component]) -> Drawn:
    """Dictionaries stand for layers; a latent excluded in a layer is excluded in each of its dictionaries."""
    edits = sorted(target.edits, key=lambda e: e.site)
    saes = [edit.sae for edit in edits if edit.sae is not None]
    own = tuple((number, int(i)) for number, edit in enumerate(edits) for i in edit.arrays["latents"])
    kept = [(number, i) for number, edit in enumerate(edits) for layer, i in barred if layer == edit.site.layer]
    covariates = None
    if isinstance(pool.covariates, Mapping):
        absent = [str(edit.site) for edit in edits if edit.site not in pool.covariates]
        if absent:
            raise UsageError(f"no statistics of the dictionary at {absent[0]}: measure them there")
        covariates = [pool.covariates[edit.site] for edit in edits]
    chosen, misses = _component_sets(own, [sae.latents for sae in saes], covariates, spec, kept)
    named = [Miss((edits[m.component[0]].site.layer, m.component[1]), m.distance) for m in misses]
    return [
        [Edit(edits[number].site, {"latents": at}, saes[number]) for number, at in _per_layer(one).items()]
        for one in chosen
    ], named


def _heads(target: Intervention, spec: ControlSpec, pool: Pool, barred: Sequence[Component]) -> Drawn:
    width = pool.head_width
    own = components_of(target, width)
    assert width is not None
    if spec.kind == "directions":
        chosen: Sequence[Set] = [own] * spec.draws
        misses: Sequence[Miss] = ()
    else:
        chosen, misses = _component_sets(own, _widths(pool, "heads"), _table(pool), spec, barred)
    if target.operator == "scale":
        if spec.kind == "directions":
            raise UsageError("scaled heads have no directions: use controls of kind random")
        return [[_head_edit(layer, at, width, {}) for layer, at in _per_layer(one).items()] for one in chosen], misses
    if target.operator != "shift":
        raise UsageError(f"controls of {target.operator} on heads are not known, expected shift or scale")
    lengths, sigmas = _dose_of_heads(target, width)
    found = []
    for draw, one in enumerate(chosen):
        rng = np.random.default_rng([spec.seed, draw, 1])  # beside the stream that chose the heads
        same = spec.kind == "directions"
        if same or pool.head_directions is None:
            vectors = heads.random_vectors(len(one), width, rng)
        else:
            vectors = heads.own_vectors(one, pool.head_directions)
        measured = None
        if pool.head_sigmas is not None and not same:
            measured = np.array([pool.head_sigmas[layer, head] for layer, head in one])
        if target.unit == "sigma":
            size, reach = lengths, sigmas if same else heads.budgeted(sigmas, rng, measured)
        else:
            size, reach = lengths if same else heads.budgeted(lengths, rng, measured), None
        edits = []
        for layer, at in _per_layer(one).items():
            rows = [number for number, head in enumerate(one) if head[0] == layer]
            arrays = {"values": (vectors[rows] * size[rows, None]).ravel().astype(np.float32)}
            if reach is not None:
                arrays["sigma"] = np.repeat(reach[rows], width).astype(np.float32)
            edits.append(_head_edit(layer, at, width, arrays))
        found.append(edits)
    return found, misses


def _directions(target: Intervention, spec: ControlSpec, pool: Pool, _barred: Sequence[Component]) -> Drawn:
    own = {edit.site: edit.arrays["direction"] for edit in target.edits}
    options: dict[str, Any] = {"draws": spec.draws, "seed": spec.seed, "orthogonal": spec.orthogonal}
    vectors: list[dict[Site, Array]]
    if spec.match != "activation":
        vectors = directions.isotropic(own, **options)
    elif not pool.activations:
        raise UsageError("match activation needs activations at the target's layers: measure them, or match none")
    elif len({site.name for site in own}) == 1:
        by_layer = directions.covariance_matched({s.layer: v for s, v in own.items()}, pool.activations, **options)
        vectors = [{site: one[site.layer] for site in own} for one in by_layer]
    else:
        first = next(iter(own.values()))
        if not all(np.allclose(vector, first, atol=1e-6) for vector in own.values()):
            raise UsageError("a target with different directions at several kinds of sites: match none, or split it")
        layer = min(pool.activations)
        drawn = directions.covariance_matched({layer: first}, pool.activations, **options)
        vectors = [dict.fromkeys(own, one[layer]) for one in drawn]
    found = []
    for one in vectors:
        edits = []
        for edit in target.edits:
            length = float(np.linalg.norm(edit.arrays["direction"].astype(np.float64)))
            arrays = {**edit.arrays, "direction": (length * one[edit.site]).astype(np.float32)}
            edits.append(Edit(edit.site, arrays))
        found.append(edits)
    return found, ()


def _dose_of_heads(target: Intervention, width: int) -> tuple[Array, Array]:
    """Lengths of the target's vectors and their standard deviations, float64 [heads] in (layer, head) order."""
    lengths: list[float] = []
    sigmas: list[float] = []
    for edit in sorted(target.edits, key=lambda e: e.site):
        table = edit.arrays["values"].astype(np.float64).reshape(-1, width)
        lengths += np.linalg.norm(table, axis=1).tolist()
        sigma = edit.arrays.get("sigma")
        sigmas += [1.0] * len(table) if sigma is None else sigma.astype(np.float64).reshape(-1, width)[:, 0].tolist()
    return np.array(lengths), np.array(sigmas)


def _head_edit(layer: int, at: Array, width: int, arrays: Mapping[str, Array]) -> Edit:
    indices = (at[:, None] * width + np.arange(width)).ravel().astype(np.int64)
    return Edit(Site(layer, O_PROJ_INPUT), {"indices": indices, **arrays})


def _heads_of(edit: Edit, width: int | None) -> list[int]:
    if width is None:
        raise UsageError("controls of heads need the head width: give the pool its head_width")
    blocks = edit.arrays["indices"].reshape(-1, width) if len(edit.arrays["indices"]) % width == 0 else None
    if blocks is None or (blocks != (blocks[:, :1] // width) * width + np.arange(width)).any():
        raise UsageError(f"the edit at {edit.site} does not cover whole heads of width {width}")
    return [int(row[0]) // width for row in blocks]


def _widths(pool: Pool, family: str) -> list[int]:
    if pool.shape is None:
        raise UsageError(f"controls of {family} need the model's shape: give the pool its shape")
    return [pool.shape[1]] * pool.shape[0]


def _table(pool: Pool) -> list[Array] | None:
    if pool.covariates is None:
        return None
    if isinstance(pool.covariates, Mapping):
        raise UsageError("covariates per dictionary were given for components of layers: give [layers, components, n]")
    return list(pool.covariates)


def _per_layer(one: Set) -> dict[int, Array]:
    found: dict[int, list[int]] = {}
    for layer, index in one:
        found.setdefault(layer, []).append(index)
    return {layer: np.array(sorted(found[layer]), np.int64) for layer in sorted(found)}
