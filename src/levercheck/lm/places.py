"""Sites by name: where in a decoder an activation can be read or changed, for every architecture alike.

A `Site` is a name and a layer; a `Place` is that site in one loaded model: the module whose input or output it is. The
canonical spelling is `L14.resid.post`; TransformerLens (`blocks.14.hook_resid_post`) and nnterp (`layers_output[14]`)
spellings are accepted.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from levercheck.errors import UsageError, nearest
from levercheck.lm.sites import DOWN_PROJ_INPUT, decoder_layers

if TYPE_CHECKING:
    from levercheck.lm.model import LanguageModel

RESID_PRE = "resid.pre"
RESID_POST = "resid.post"
MLP_OUT = "mlp.out"
ATTN_OUT = "attn.out"
O_PROJ_INPUT = "attn.o_proj.input"
SITES = (RESID_PRE, RESID_POST, MLP_OUT, ATTN_OUT, O_PROJ_INPUT, DOWN_PROJ_INPUT)
"""`mlp.out` and `attn.out` are what is added to the residual stream: behind the post-norm where a layer has one."""

_ALIASES = {
    "hook_resid_pre": RESID_PRE,
    "hook_resid_post": RESID_POST,
    "hook_mlp_out": MLP_OUT,
    "hook_attn_out": ATTN_OUT,
    "attn.hook_z": O_PROJ_INPUT,
    "mlp.hook_post": DOWN_PROJ_INPUT,
    "layers_input": RESID_PRE,
    "layers_output": RESID_POST,
    "mlps_output": MLP_OUT,
    "attentions_output": ATTN_OUT,
}
_FORMS = (r"L(?P<layer>\d+)\.(?P<name>[\w.]+)", r"blocks\.(?P<layer>\d+)\.(?P<name>[\w.]+)")
_ACCESSOR = r"(?P<name>\w+)\[(?P<layer>\d+)\]"

_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_O_PROJ = ("o_proj", "c_proj", "dense", "out_proj", "wo")
_POST_MLP_NORMS = ("post_feedforward_layernorm", "post_mlp_layernorm")


@dataclass(frozen=True, order=True)
class Site:
    """A named place in one layer, whatever the model."""

    layer: int
    name: str

    def __post_init__(self) -> None:
        if self.name not in SITES:
            raise UsageError(f"site '{self.name}' is unknown{nearest(self.name, SITES)}")

    def __str__(self) -> str:
        return f"L{self.layer}.{self.name}"


def parse_site(text: str) -> Site:
    """A site from its canonical, TransformerLens or nnterp spelling; any other spelling is a UsageError."""
    for form in (*_FORMS, _ACCESSOR):
        found = re.fullmatch(form, text.strip())
        if found:
            name = _ALIASES.get(found["name"], found["name"])
            return Site(int(found["layer"]), name)
    raise UsageError(
        f"site '{text}' is not understood, expected e.g. L14.resid.post, blocks.14.hook_resid_post or layers_output[14]"
    )


@dataclass(frozen=True)
class Place:
    """A site in one model. `side` says whether the activation is the module's input or its output."""

    site: Site
    module: nn.Module
    side: Literal["input", "output"]
    path: str  # inside the decoder
    width: int

    @property
    def write(self) -> torch.Tensor | None:
        """The matrix that carries an input site on, float [out, width]; None for outputs. A view of the weights."""
        if self.side == "output" or not hasattr(self.module, "weight") or self.module.weight is None:
            return None
        weight: torch.Tensor = self.module.get_parameter("weight")
        if weight.ndim != 2:
            return None
        return weight if isinstance(self.module, nn.Linear) else weight.transpose(0, 1)


def place(lm: LanguageModel, site: Site) -> Place:
    """Find a site in a model; a layer that is not there, or an architecture without the site, is a UsageError."""
    name, layers = decoder_layers(lm.decoder)
    if not 0 <= site.layer < len(layers):
        raise UsageError(f"{site} is outside the model's {len(layers)} layers (0 to {len(layers) - 1})")
    layer, path = layers[site.layer], f"{name}.{site.layer}"
    hidden = int(lm.sites[0].write.shape[0])
    if site.name == DOWN_PROJ_INPUT:
        mlp = lm.sites[site.layer]
        return Place(site, mlp.module, "input", mlp.path, mlp.neurons)
    if site.name == RESID_POST:
        return Place(site, layer, "output", path, hidden)
    if site.name == RESID_PRE:
        return Place(site, layer, "input", path, hidden)
    if site.name == O_PROJ_INPUT:
        attention, projection = _output_projection(layer, site)
        module = layer.get_submodule(f"{attention}.{projection}")
        weight = module.get_parameter("weight")
        width = weight.shape[1] if isinstance(module, nn.Linear) else weight.shape[0]
        return Place(site, module, "input", f"{path}.{attention}.{projection}", int(width))
    if site.name == MLP_OUT:
        down = lm.sites[site.layer].path.removeprefix(f"{path}.")
        block = next((n for n in _POST_MLP_NORMS if hasattr(layer, n)), down.rpartition(".")[0] or down)
        return Place(site, layer.get_submodule(block), "output", f"{path}.{block}", hidden)
    block = _output_projection(layer, site)[0]
    if hasattr(layer, "post_self_attn_layernorm"):  # GLM-4
        block = "post_self_attn_layernorm"
    # Llama gives this name to the norm before its MLP; only layers with this witness have it behind the attention
    elif hasattr(layer, "post_attention_layernorm") and (
        hasattr(layer, "pre_feedforward_layernorm") or not hasattr(layer, "input_layernorm")
    ):
        block = "post_attention_layernorm"
    return Place(site, layer.get_submodule(block), "output", f"{path}.{block}", hidden)


def _output_projection(layer: nn.Module, site: Site) -> tuple[str, str]:
    for attention in _ATTENTION:
        block = getattr(layer, attention, None)
        if isinstance(block, nn.Module):
            for projection in _O_PROJ:
                if isinstance(getattr(block, projection, None), nn.Module):
                    return attention, projection
    raise UsageError(
        f"layer {site.layer} ({type(layer).__name__}) has no attention output projection (looked for "
        f"{'/'.join(_ATTENTION)} with {'/'.join(_O_PROJ)}): head interventions are not supported there"
    )


def head_shape(lm: LanguageModel) -> tuple[int, int, int]:
    """(layers, query heads, head width). The o_proj input of a layer is its heads side by side, also under GQA."""
    config = lm.model.config.get_text_config()
    heads = int(config.num_attention_heads)
    width = place(lm, Site(0, O_PROJ_INPUT)).width
    if width % heads:
        raise UsageError(f"an o_proj input of {width} does not divide into {heads} heads: heads are not supported")
    return lm.shape[0], heads, width // heads
