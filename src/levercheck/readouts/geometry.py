"""Where a set of neurons writes: its write vectors against a direction of the residual stream, beside random sets.

Neuron j of layer l adds z_j · W_l[:, j] to its MLP's output. Most decoders add that output to the residual stream as it
is. Gemma 2 and 3, OLMo 2 and their kin put a norm between the two; its gain (1 + w, or w) then multiplies every write
vector coordinate by coordinate. The factor 1/rms of that norm depends on the token and changes no direction, so it is
left out. All arithmetic here is float64.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from levercheck.errors import UsageError
from levercheck.lm.model import LanguageModel
from levercheck.stats import attainable_p, monte_carlo_p, percentile_bounds, proportion

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]
Components = Sequence[tuple[int, int]]
"""(layer, index) of neurons."""

MIN_SETS = 100
"""Fewest control sets: a percentile from fewer is too coarse to be read."""

POST_MLP_NORMS = ("post_feedforward_layernorm", "post_mlp_layernorm")


@dataclass(frozen=True)
class NormGain:
    """The part of a norm that does not depend on its input: x -> gain · (x, less its mean where `centred`)."""

    gain: torch.Tensor  # float64 [hidden]
    centred: bool

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        """Apply to float64 [..., hidden]."""
        moved = vectors - vectors.mean(-1, keepdim=True) if self.centred else vectors
        return moved * self.gain


def norm_gain(module: nn.Module, hidden: int) -> NormGain:
    """Measure a norm's gain by passing vectors through a float32 copy of it.

    This asks no class for its convention: RMS norms that multiply by w or by 1 + w and layer norms, with or without a
    bias, all answer. A module that is no such norm is a UsageError.
    """
    norm = copy.deepcopy(module).float().cpu()
    signs = torch.ones(hidden)
    signs[1::2] = -1
    if hidden % 2:
        signs[-1] = 0
    signs /= signs.square().mean().sqrt()
    probes = torch.stack([signs, signs.roll(1)])
    large = 1e3  # beside which the norm's epsilon is nothing
    with torch.inference_mode():
        up, down = norm(large * probes), norm(-large * probes)
        level = norm(torch.full((hidden,), large)) - (up[0] + down[0]) / 2
    odd = (up - down) / 2  # a bias cancels
    gain = torch.where(probes[0] != 0, odd[0] / probes[0], odd[1] / probes[1])
    centred = bool(level.abs().max() < 1e-3 * gain.abs().max())
    if not torch.isfinite(gain).all() or (not centred and not torch.allclose(level, gain, rtol=1e-3, atol=1e-5)):
        raise UsageError(f"{type(module).__name__} is neither an RMS norm nor a layer norm: not supported")
    return NormGain(gain.double(), centred)


def post_mlp_norm(lm: LanguageModel, layer: int) -> tuple[str, nn.Module] | None:
    """Name and module of the norm between a layer's MLP and the residual stream; None where there is none."""
    stack = lm.decoder.get_submodule(lm.sites[layer].path.partition(".")[0])
    block = stack.get_submodule(str(layer))
    for name in POST_MLP_NORMS:
        module = getattr(block, name, None)
        if isinstance(module, nn.Module):
            return name, module
    return None


def basis_note(lm: LanguageModel) -> str:
    """In which basis write vectors are given, in words for a report."""
    found = post_mlp_norm(lm, 0)
    if found is None:
        return "columns of the down-projection, which are added to the residual stream as they are"
    return f"columns of the down-projection times the gain of {found[0]}, without its input-dependent scale"


def write_vectors(lm: LanguageModel, components: Components) -> Floats:
    """What one unit of each neuron's activation adds to the residual stream, float64 [components, hidden]."""
    hidden = int(lm.sites[0].write.shape[0])
    out = np.empty((len(components), hidden))
    layers = np.array([layer for layer, _ in components], dtype=np.int64)
    for layer in np.unique(layers):
        at = np.flatnonzero(layers == layer).tolist()
        columns = torch.tensor([components[i][1] for i in at])
        write = lm.sites[int(layer)].write.detach()
        vectors = write[:, columns.to(write.device)].T.cpu().double()
        norm = post_mlp_norm(lm, int(layer))
        out[at] = (vectors if norm is None else norm_gain(norm[1], hidden)(vectors)).numpy()
    return out


def read_direction(path: Path, hidden: int, layers: int) -> Floats:
    """Unit directions, float64 [1, hidden] (one for all layers) or [layers, hidden], from .safetensors or .npy.

    The file holds one array, [hidden] or [layers, hidden]; pickled content is refused. Any other shape, a number that
    is not finite and a vector of length zero are UsageErrors.
    """
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
        elif path.suffix == ".safetensors":
            tensors = load(path.read_bytes())
            if len(tensors) != 1:
                raise UsageError(f"'{path.name}' holds {len(tensors)} tensors, expected one: keep the direction alone")
            (tensor,) = tensors.values()
            array = (tensor.double() if tensor.is_floating_point() else tensor).numpy()
        else:
            raise UsageError(f"'{path.name}' is neither .safetensors nor .npy: save the direction as one of them")
    except (OSError, ValueError, EOFError, KeyError, TypeError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(f"'{path.name}' cannot be read as an array ({reason}): give an existing array file") from None
    if array.shape not in ((hidden,), (1, hidden), (layers, hidden)):
        raise UsageError(
            f"'{path.name}' has shape {list(array.shape)}, expected [{hidden}] or [{layers}, {hidden}] as the model has"
        )
    if array.dtype.kind not in "fiu":
        raise UsageError(f"'{path.name}' holds {array.dtype}, expected real numbers")
    direction = np.atleast_2d(array).astype(np.float64)
    if not np.isfinite(direction).all():
        raise UsageError(f"'{path.name}' has numbers that are not finite: compute the direction again")
    norms = np.linalg.norm(direction, axis=1, keepdims=True)
    if (norms == 0).any():
        raise UsageError(f"'{path.name}' has a direction of length zero: it points nowhere")
    unit: Floats = direction / norms
    return unit


def signed_cosine(vectors: Floats, layers: Ints | Sequence[int], direction: Floats) -> float:
    """Cosine of the sum of `vectors` [components, hidden] with the direction; 0 when they cancel to nothing.

    With one direction [1, hidden] all vectors are summed in the residual stream they share. With one per layer
    [layers, hidden] the sums of the layers are laid end to end, and so are the directions of those layers.
    """
    at = np.asarray(layers, dtype=np.int64)
    used = np.unique(at)
    if len(direction) == 1:
        sums, along = vectors.sum(0, keepdims=True), direction
    else:
        sums, along = np.stack([vectors[at == layer].sum(0) for layer in used]), direction[used]
    size = float(np.linalg.norm(sums) * np.linalg.norm(along))
    return float((sums * along).sum() / size) if size > 0 else 0.0


def subspace_fraction(vectors: Floats, layers: Ints | Sequence[int], direction: Floats) -> float:
    """‖P d‖² of a unit direction d, P projecting onto the span of the write vectors: 0 to 1, whatever the weights.

    With one direction per layer: the mean over the layers that have vectors, each with its own span. Randomly oriented
    vectors give rank / hidden on average.
    """
    at = np.asarray(layers, dtype=np.int64)
    if len(direction) == 1:
        return _projected(vectors, direction[0])
    return float(np.mean([_projected(vectors[at == layer], direction[layer]) for layer in np.unique(at)]))


def _projected(vectors: Floats, direction: Floats) -> float:
    lengths = np.linalg.norm(vectors, axis=1)
    kept = vectors[lengths > 0] / lengths[lengths > 0, None]
    if not len(kept):
        return 0.0
    solution, *_ = np.linalg.lstsq(kept.T, direction, rcond=1e-10)
    return float(min(1.0, np.square(solution @ kept).sum()))


def mean_activations(lm: LanguageModel, sequences: Sequence[Sequence[int]]) -> Floats:
    """Mean signed activation z of every neuron at the last token of each sequence, float64 [layers, neurons].

    This is what scaling a neuron multiplies, at the place where a response would begin. One pass per sequence.
    """
    total = torch.zeros(lm.shape, dtype=torch.float64)

    def hook(layer: int) -> Any:
        def record(_module: Any, args: tuple[Any, ...], _output: Any) -> None:
            total[layer] += args[0][0, -1].double().cpu()

        return record

    handles = [site.module.register_forward_hook(hook(site.layer)) for site in lm.sites]
    try:
        with torch.inference_mode():
            for sequence in sequences:
                lm.decoder(input_ids=torch.tensor([list(sequence)], device=lm.device), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return (total / max(len(sequences), 1)).numpy()


def overlap(
    lm: LanguageModel,
    target: Components,
    direction: Floats,
    controls: Sequence[Components],
    *,
    weights: Sequence[float] | Floats | None = None,
    activation: Floats | None = None,
) -> dict[str, Any]:
    """Does the target write along the direction more than matched random sets do? Plain data.

    `controls`: at least MIN_SETS sets with the target's number of neurons in every layer
    (`levercheck.interventions.controls.layer_matched`). Every vector is multiplied by its neuron's `activation`
    [layers, neurons] (signed mean, see `mean_activations`) and by `weights` [components], which a control set takes
    over in layer order. Neither changes the subspace fraction.

    For the signed cosine and for the fraction: the target's value, the controls' mean, sd and central 95 %, the share
    of controls below the target with its interval, and a two-sided Monte-Carlo p. `layers` says what each layer adds to
    the target's projection and what is left without it, against the same controls without it; the layer that adds most
    in size is `dominant_layer`, and without it the fraction is given too.
    """
    _check_sets(target, controls)
    order = sorted(range(len(target)), key=lambda i: tuple(target[i]))
    factors = np.ones(len(target)) if weights is None else np.asarray(weights, dtype=np.float64)[order]
    sets = [[target[i] for i in order], *(sorted(one) for one in controls)]
    layers = np.array([layer for layer, _ in sets[0]], dtype=np.int64)

    def vectors_of(one: Components) -> Floats:
        size = np.ones(len(one)) if activation is None else np.array([activation[layer, i] for layer, i in one])
        vectors: Floats = write_vectors(lm, one) * (factors * size)[:, None]
        return vectors

    tables = [vectors_of(one) for one in sets]
    along = direction[np.zeros_like(layers) if len(direction) == 1 else layers]
    pull = (tables[0] * along).sum(1)
    parts = {int(layer): float(pull[layers == layer].sum()) for layer in np.unique(layers)}
    dominant = max(parts, key=lambda layer: abs(parts[layer]))
    without = []
    for layer, part in parts.items():
        kept = layers != layer
        if not kept.any():
            continue
        cosines = [signed_cosine(table[kept], layers[kept], direction) for table in tables]
        entry = {"layer": layer, "neurons": int((~kept).sum()), "projection": part, "cosine_without": _ranked(cosines)}
        if layer == dominant:
            fractions = [subspace_fraction(table[kept], layers[kept], direction) for table in tables]
            entry["fraction_without"] = _ranked(fractions)
        without.append(entry)
    rank = int(np.linalg.matrix_rank(tables[0]))
    return {
        "neurons": len(target),
        "controls": len(controls),
        "hidden": int(direction.shape[1]),
        "rank": rank,
        "space": "one residual stream" if len(direction) == 1 else "one direction per layer",
        "basis": basis_note(lm),
        "weighted_by": [n for n, given in (("weight", weights), ("activation", activation)) if given is not None],
        "cosine": _ranked([signed_cosine(table, layers, direction) for table in tables]),
        "fraction": _ranked([subspace_fraction(table, layers, direction) for table in tables]),
        "dominant_layer": dominant,
        "layers": without,
    }


def _check_sets(target: Components, controls: Sequence[Components]) -> None:
    if not target:
        raise UsageError("the readout has no component of positive weight: there is nothing to compare")
    if len(controls) < MIN_SETS:
        raise UsageError(f"{len(controls)} control sets, expected at least {MIN_SETS}: draw more")
    wanted = Counter(layer for layer, _ in target)
    for number, one in enumerate(controls):
        if Counter(layer for layer, _ in one) != wanted:
            raise UsageError(f"control set {number} has other numbers of neurons per layer than the target has")


def _ranked(values: Sequence[float]) -> dict[str, Any]:
    """The first value against the others."""
    own, null = values[0], np.asarray(values[1:], dtype=np.float64)
    low, high = percentile_bounds(null, 0.95)
    return {
        "value": own,
        "controls": {"mean": float(null.mean()), "sd": float(null.std(ddof=1)), "low": low, "high": high},
        "below": proportion(int((null < own).sum()), len(null)).to_dict(),
        "p": monte_carlo_p(own, null, "two-sided"),
        "attainable_p": attainable_p(len(null), "two-sided"),
        "sets": len(null),
    }
