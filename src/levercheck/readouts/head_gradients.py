"""First-order causal effect of every attention head on preferring a good over a bad continuation.

For a prompt with continuations, J = mean over good of log p(good)/n − mean over bad of log p(bad)/n, n being a
continuation's tokens. The effect of head h of layer l is Σ_d ∂J/∂z_d · z_d over its part of the o_proj input z: what
scaling its output would do to J, to first order. Length is divided out, so that long continuations do not decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.lm.batches import head_at, right_padded, token_batches
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import O_PROJ_INPUT, Site, head_shape, place

Where = Literal["last_prompt", "all"]
GRADIENT_TOKENS = 512
"""Token budget of a batch: the backward pass keeps every activation."""


@dataclass(frozen=True)
class Continuation:
    """A prompt and what follows it, as token ids. `good` says on which side of the contrast it stands."""

    prompt: str  # names the prompt: continuations of one are compared
    group: str
    tokens: list[int]
    start: int  # where the continuation starts; at least 1
    good: bool


@dataclass(frozen=True)
class Effects:
    """`values` float64 [prompts, layers, heads]; `preference` float64 [prompts], J of each; `groups` [prompts]."""

    values: np.ndarray[Any, np.dtype[np.float64]]
    preference: np.ndarray[Any, np.dtype[np.float64]]
    groups: list[str]


def head_effects(
    lm: LanguageModel,
    continuations: Sequence[Continuation],
    *,
    where: Where = "last_prompt",
    tick: Callable[[int], None] = lambda rows: None,
) -> Effects:
    """Effects per prompt that has good and bad continuations; where: at the last prompt token, or summed over all.

    NotEnoughDataError without such a prompt, UsageError for numbers that are not finite.
    """
    sides: dict[str, set[bool]] = {}
    for one in continuations:
        sides.setdefault(one.prompt, set()).add(one.good)
    used = [one for one in continuations if len(sides[one.prompt]) == 2]
    if not used:
        raise NotEnoughDataError(
            "no prompt has a good and a bad continuation: the gradient ranking needs both labels among the answers to "
            "one prompt"
        )
    layers, heads, _ = head_shape(lm)
    effect, logprob = np.empty((len(used), layers, heads)), np.empty(len(used))
    for batch in token_batches([one.tokens for one in used], GRADIENT_TOKENS):
        effect[batch], logprob[batch] = _batch(lm, [used[i] for i in batch], where, (layers, heads))
        tick(len(batch))
    if not (np.isfinite(effect).all() and np.isfinite(logprob).all()):
        raise UsageError("gradients are not finite: load the model in float32 or bfloat16")
    prompts = list(dict.fromkeys(one.prompt for one in used))
    members = {
        (prompt, good): [i for i, one in enumerate(used) if one.prompt == prompt and one.good == good]
        for prompt in prompts
        for good in (True, False)
    }
    values, preference = (
        np.stack([table[members[p, True]].mean(0) - table[members[p, False]].mean(0) for p in prompts])
        for table in (effect, logprob)
    )
    return Effects(values, preference, [used[members[p, True][0]].group for p in prompts])


def _batch(
    lm: LanguageModel, batch: Sequence[Continuation], where: Where, shape: tuple[int, int]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """∂(mean log p of the continuation)/∂z · z per head [rows, layers, heads], and that mean log p [rows]."""
    inputs: list[torch.Tensor] = []

    def watch(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        z = args[0] if args else kwargs["hidden_states"]
        z = z if inputs else z.detach().requires_grad_(True)  # the graph starts at the first site
        inputs.append(z)
        return ((z, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": z})

    sites = [place(lm, Site(layer, O_PROJ_INPUT)) for layer in range(shape[0])]
    handles = [site.module.register_forward_pre_hook(watch, with_kwargs=True) for site in sites]
    ids, _ = right_padded(lm, [one.tokens for one in batch])
    rows = [row for row, one in enumerate(batch) for _ in one.tokens[one.start :]]
    positions = [at for one in batch for at in range(one.start - 1, len(one.tokens) - 1)]
    row, position = torch.tensor(rows, device=lm.device), torch.tensor(positions, device=lm.device)
    try:
        with torch.enable_grad(), head_at(lm, position, row):
            logits = lm.model(input_ids=ids, use_cache=False).logits[:, 0].float()  # [continuation tokens, vocabulary]
            picked = logits.log_softmax(-1).gather(1, ids[row, position + 1][:, None])[:, 0]
            sizes = torch.tensor([len(one.tokens) - one.start for one in batch], device=lm.device)
            mean = torch.zeros(len(batch), device=lm.device).index_add(0, row, picked) / sizes
            gradients = torch.autograd.grad(mean.sum(), inputs)
    finally:
        for handle in handles:
            handle.remove()
    last = torch.tensor([one.start - 1 for one in batch], device=lm.device)
    effects = []
    for gradient, z in zip(gradients, inputs, strict=True):
        product = (gradient.float() * z.detach().float()).reshape(*z.shape[:2], shape[1], -1).sum(-1)
        effects.append(
            product[torch.arange(len(batch), device=lm.device), last] if where == "last_prompt" else product.sum(1)
        )
    return torch.stack(effects, 1).cpu().double().numpy(), mean.detach().cpu().double().numpy()
