"""First-order causal effect of every neuron: gradient times activation, one backward pass for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from levercheck.lm.batches import last_logits
from levercheck.lm.model import LanguageModel

ATTRIBUTION_TOKENS = 512
"""Token budget of a batch: the backward pass keeps every activation."""


def attribution_batch(
    lm: LanguageModel, sequences: Sequence[Sequence[int]], pairs: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """d(logit of pair[0] - logit of pair[1]) / d(dose) of each neuron at the no-op dose.

    Returns float32 [sequences, layers, neurons]. Scaling neuron j by α multiplies z_j at every position, so the
    derivative at α = 1 is Σ_t z_j(t) · ∂/∂z_j(t): the sum over a set of neurons predicts the initial slope of the set's
    dose-response curve. Sequences are whole: the positions of a prefix count too.
    """
    inputs: list[torch.Tensor] = []

    def watch(_module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        z = args[0] if inputs else args[0].detach().requires_grad_(True)  # the graph starts at the first site
        inputs.append(z)
        return (z, *args[1:])

    handles = [site.module.register_forward_pre_hook(watch) for site in lm.sites]
    try:
        with torch.enable_grad():
            logits = last_logits(lm, sequences, use_cache=False)
            picked = logits.gather(1, torch.tensor([list(p) for p in pairs], device=lm.device))
            gradients = torch.autograd.grad((picked[:, 0] - picked[:, 1]).sum(), inputs)
    finally:
        for handle in handles:
            handle.remove()
    effects = [(g.float() * z.detach().float()).sum(1).cpu() for g, z in zip(gradients, inputs, strict=True)]
    return torch.stack(effects, dim=1)
