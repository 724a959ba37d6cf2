"""First-order causal effects of every component at once: gradients at all sites from one backward pass.

What is explained is the logit of one next token minus that of another, D. The derivative of D by the dose of an
intervention, at its no-op dose, is a sum over the positions t in its scope:

    scale neuron j          Σ_t z_j(t) · ∂D/∂z_j(t)
    scale head h            Σ_t z_h(t) · ∂D/∂z_h(t)            (dot product over the head)
    shift head h along d    d · Σ_t ∂D/∂z_h(t)
    add d to the residual   d · Σ_t ∂D/∂h(t),                  relative unit: d · Σ_t ‖h(t)‖ ∂D/∂h(t)
    scale latent i          Σ_t f_i(t) · W_dec[i] · ∂D/∂x(t) / scale

The sums of gradients are kept as vectors, so a direction more costs one dot product. Sums over components of one family
predict the initial slope of the set's dose-response curve. Source: attribution patching (Nanda 2023; Syed et al. 2023,
arXiv 2310.10348).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch

from levercheck.errors import UsageError, nearest
from levercheck.lm.batches import last_logits
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import O_PROJ_INPUT, RESID_POST, Place, Site, head_shape, place
from levercheck.lm.saes.sae import Sae
from levercheck.lm.sites import DOWN_PROJ_INPUT

ATTRIBUTION_TOKENS = 512
"""Token budget of a batch: the backward pass keeps every activation."""

Reach = Literal["all", "last"]
"""Positions that an intervention would touch: every one, or the last alone."""
FAMILIES = ("neurons", "heads", "directions")
_SITES = {"neurons": DOWN_PROJ_INPUT, "heads": O_PROJ_INPUT, "directions": RESID_POST}


@dataclass(frozen=True)
class Attributions:
    """Derivatives of each sequence's D, float32 on the CPU; None for families that were not asked for.

    `neurons` [sequences, layers, neurons]; `heads` [sequences, layers, heads]: scaled; `head_gradients` [sequences,
    layers, heads, head width]: to be multiplied by directions; `residual` and `residual_relative` [sequences, layers,
    hidden] at `resid.post`, for the units absolute and relative; `latents` [sequences, latents] per dictionary, in the
    order given.
    """

    neurons: torch.Tensor | None = None
    heads: torch.Tensor | None = None
    head_gradients: torch.Tensor | None = None
    residual: torch.Tensor | None = None
    residual_relative: torch.Tensor | None = None
    latents: tuple[torch.Tensor, ...] = ()


@dataclass
class _Seen:
    """The activations of a pass that gradients are taken by."""

    tensors: dict[Site, torch.Tensor] = field(default_factory=dict)

    def take(self, site: Site, x: torch.Tensor) -> torch.Tensor:
        """Note an activation; the graph starts at activations that nothing differentiable has gone into yet."""
        x = x if x.requires_grad else x.detach().requires_grad_(True)
        self.tensors[site] = x
        return x


def attribute(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    pairs: Sequence[tuple[int, int]],
    *,
    families: Sequence[str] = FAMILIES,
    saes: Sequence[Sae] = (),
    reach: Reach = "all",
) -> Attributions:
    """Effects of every component on logit(pair[0]) - logit(pair[1]) at the end of each sequence.

    Sequences are whole: the positions of a prefix count too. All families share one forward and one backward pass,
    whose memory grows with the tokens of the batch (`ATTRIBUTION_TOKENS`); no parameter gets a gradient.
    """
    for name in families:
        if name not in _SITES:
            raise UsageError(f"family '{name}' cannot be attributed{nearest(name, _SITES)}")
    if reach not in get_args(Reach):
        raise UsageError(f"reach '{reach}' is unknown, expected {' or '.join(get_args(Reach))}")
    if not families and not saes:
        raise UsageError("no family and no dictionary to attribute to: name at least one")
    layers = range(lm.shape[0])
    wanted = [Site(layer, _SITES[name]) for name in families for layer in layers] + [sae.site for sae in saes]
    gradients = _gradients(lm, sequences, pairs, list(dict.fromkeys(wanted)))
    rows = torch.arange(len(sequences), device=lm.device)
    last = torch.tensor([len(s) - 1 for s in sequences], device=lm.device)

    def at(site: Site) -> tuple[torch.Tensor, torch.Tensor]:
        """Activation and gradient float32 [sequences, positions in reach, width]; padding has gradient 0."""
        z, g = gradients[site]
        if reach == "last":
            z, g = z[rows, last][:, None], g[rows, last][:, None]
        return z.float(), g.float()

    def stacked(name: str, reduce: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        return torch.stack([reduce(*at(Site(layer, _SITES[name]))).cpu() for layer in layers], dim=1)

    found: dict[str, Any] = {}
    with torch.no_grad():
        if "neurons" in families:
            found["neurons"] = stacked("neurons", lambda z, g: (z * g).sum(1))
        if "heads" in families:
            _, heads, width = head_shape(lm)
            scaled = stacked("heads", lambda z, g: (z * g).sum(1))
            split = (*scaled.shape[:2], heads, width)
            found["heads"] = scaled.view(split).sum(-1)
            found["head_gradients"] = stacked("heads", lambda _, g: g.sum(1)).view(split)
        if "directions" in families:
            found["residual"] = stacked("directions", lambda _, g: g.sum(1))
            found["residual_relative"] = stacked("directions", lambda z, g: (z.norm(dim=-1, keepdim=True) * g).sum(1))
        found["latents"] = tuple(_latents(sae, *at(sae.site)) for sae in saes)
    return Attributions(**found)


def attribution_batch(
    lm: LanguageModel, sequences: Sequence[Sequence[int]], pairs: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """d(logit of pair[0] - logit of pair[1]) / d(dose) of scaling each neuron, at the no-op dose.

    Returns float32 [sequences, layers, neurons]; see `attribute`.
    """
    effects = attribute(lm, sequences, pairs, families=("neurons",)).neurons
    assert effects is not None
    return effects


def _gradients(
    lm: LanguageModel, sequences: Sequence[Sequence[int]], pairs: Sequence[tuple[int, int]], sites: Sequence[Site]
) -> dict[Site, tuple[torch.Tensor, torch.Tensor]]:
    """Activation and gradient of the summed logit differences, [sequences, positions, width] each, at every site."""
    seen = _Seen()
    with ExitStack() as stack:
        for site in sites:
            stack.callback(_watch(place(lm, site), seen).remove)
        with torch.enable_grad():
            logits = last_logits(lm, sequences, use_cache=False)
            picked = logits.gather(1, torch.tensor([list(p) for p in pairs], device=lm.device))
            difference = (picked[:, 0] - picked[:, 1]).sum()
            found = torch.autograd.grad(difference, [seen.tensors[site] for site in sites])
    return {site: (seen.tensors[site].detach(), g) for site, g in zip(sites, found, strict=True)}


def _watch(where: Place, seen: _Seen) -> Any:
    if where.side == "input":

        def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args:
                return (seen.take(where.site, args[0]), *args[1:]), kwargs
            return args, {**kwargs, "hidden_states": seen.take(where.site, kwargs["hidden_states"])}

        return where.module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_module: Any, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (seen.take(where.site, output[0]), *output[1:])
        return seen.take(where.site, output)

    return where.module.register_forward_hook(after)


def _latents(sae: Sae, x: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """Σ_t f_i(t) · (W_dec[i] · gradient(t)) / scale, float32 [sequences, latents]; one sequence at a time."""
    w_dec = sae.on(x.device)["w_dec"]
    return torch.stack(
        [(sae.encode(z) * (g @ w_dec.T)).sum(0) / sae.scale for z, g in zip(x, gradient, strict=True)]
    ).cpu()
