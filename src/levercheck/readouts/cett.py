"""CETT: how much of an MLP's output each neuron carries (Zhang et al. 2024; used by Gao et al., arXiv 2512.01797).

For layer l, token t and neuron j, with z the input of the down-projection W and h = W z (+ bias) its output:

    CETT[l, t, j] = |z[l, t, j]| · ‖W_l[:, j]‖₂ / (‖h[l, t]‖₂ + 1e-8)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from levercheck.errors import UsageError
from levercheck.lm.batches import SharedPrefix, right_padded
from levercheck.lm.model import LanguageModel

EPSILON = 1e-8


@torch.inference_mode()
def cett_batch(
    lm: LanguageModel, prefix: SharedPrefix, sequences: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """Mean CETT over each sequence's span of tokens, float32 [sequences, layers, neurons] on the CPU.

    Spans are half-open positions inside the sequence. One pass through the trunk: the language-model head is never
    computed.
    """
    for sequence, (start, stop) in zip(sequences, spans, strict=True):
        if not 0 <= start < stop <= len(sequence):
            raise UsageError(f"span ({start}, {stop}) of {len(sequence)} tokens: expected 0 <= start < stop <= length")
    ids, _ = right_padded(lm, sequences)
    positions = torch.arange(ids.shape[1], device=lm.device)
    start_stop = torch.tensor(list(spans), device=lm.device)
    inside = (positions >= start_stop[:, :1]) & (positions < start_stop[:, 1:])
    share = inside.float() / inside.sum(1, keepdim=True)  # [sequences, tokens]
    layers, width = lm.shape
    out = torch.empty(len(sequences), layers, width)
    handles = [_watch(site.layer, site.module, site.write_norms(), share, out) for site in lm.sites]
    try:
        lm.decoder(input_ids=ids, past_key_values=prefix.cache(len(sequences)), use_cache=bool(prefix.ids))
    finally:
        for handle in handles:
            handle.remove()
    return out


def _watch(layer: int, module: torch.nn.Module, norms: torch.Tensor, share: torch.Tensor, out: torch.Tensor) -> Any:
    def hook(_module: Any, args: tuple[Any, ...], output: torch.Tensor) -> None:
        scale = share / (output.float().norm(dim=-1) + EPSILON)
        mean = torch.bmm(scale[:, None, :], args[0].float().abs())[:, 0]
        out[:, layer] = (mean * norms).cpu()

    return module.register_forward_hook(hook)
