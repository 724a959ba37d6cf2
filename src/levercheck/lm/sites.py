"""Named places in a decoder: where its layers are, and where each MLP writes into the residual stream."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from levercheck.errors import UsageError

DOWN_PROJ_INPUT = "mlp.down_proj.input"
"""Canonical name of the site every neuron readout uses: the activations that the last MLP matrix writes out."""

_LAYER_LISTS = ("layers", "h", "blocks")
_DOWN_PROJ = ("mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "mlp.fc2", "feed_forward.w2", "fc2")


@dataclass(frozen=True)
class MlpSite:
    """The down-projection of one layer; `write` is its matrix seen as one column per neuron."""

    layer: int
    path: str  # module path inside the decoder, e.g. layers.3.mlp.down_proj
    module: nn.Module

    @property
    def write(self) -> torch.Tensor:
        """Write vectors, float [hidden, neurons]; a view of the weights (GPT-2's Conv1D stores the transpose)."""
        weight: torch.Tensor = self.module.get_parameter("weight")
        if isinstance(self.module, nn.Linear):
            return weight
        transposed: torch.Tensor = weight.transpose(0, 1)
        return transposed

    @property
    def neurons(self) -> int:
        """Width of the MLP."""
        return int(self.write.shape[1])

    def write_norms(self) -> torch.Tensor:
        """‖W[:, j]‖₂ per neuron, float32 [neurons]."""
        norms: torch.Tensor = self.write.detach().float().norm(dim=0)
        return norms


def decoder_layers(decoder: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and list of the decoder's layers; a decoder without one is a UsageError."""
    for name in _LAYER_LISTS:
        layers = getattr(decoder, name, None)
        if isinstance(layers, nn.ModuleList):
            return name, layers
    raise UsageError(f"{type(decoder).__name__} has none of {_LAYER_LISTS}: levercheck needs a list of decoder layers")


def mlp_sites(decoder: nn.Module) -> tuple[MlpSite, ...]:
    """Find the down-projection of every layer; a decoder without one dense MLP per layer is a UsageError."""
    name, layers = decoder_layers(decoder)
    found = []
    for index, layer in enumerate(layers):
        path = next((p for p in _DOWN_PROJ if _has(layer, p)), None)
        if path is None:
            raise UsageError(
                f"layer {index} of {type(decoder).__name__} has no dense down-projection (looked for "
                f"{', '.join(_DOWN_PROJ)}): mixture-of-experts and attention-only layers are not supported"
            )
        found.append(MlpSite(index, f"{name}.{index}.{path}", layer.get_submodule(path)))
    widths = {site.neurons for site in found}
    if len(widths) != 1:
        raise UsageError(f"layers have different MLP widths {sorted(widths)}, expected one width: not supported")
    return tuple(found)


def _has(layer: nn.Module, path: str) -> bool:
    try:
        module = layer.get_submodule(path)
    except AttributeError:
        return False
    weight = getattr(module, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.ndim == 2
