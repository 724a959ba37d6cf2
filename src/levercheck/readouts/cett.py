"""CETT: how much of an MLP's output each neuron carries (Zhang et al. 2024; used by Gao et al., arXiv 2512.01797).

For layer l, token t and neuron j, with z the input of the down-projection W and h = W z (+ bias) its output:

    CETT[l, t, j] = |z[l, t, j]| · ‖W_l[:, j]‖₂ / (‖h[l, t]‖₂ + 1e-8)

One pass through the trunk gives it for several regions of a sequence at once; the language-model head is not computed.
Arithmetic is float32 whatever the model's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from levercheck.errors import UsageError
from levercheck.lm.batches import SharedPrefix, left_padded, right_padded
from levercheck.lm.model import LanguageModel
from levercheck.readouts.store import Channel

EPSILON = 1e-8

Region = Sequence[tuple[int, int]]
"""Half-open pieces of a sequence's positions."""


@torch.inference_mode()
def capture_batch(
    lm: LanguageModel,
    prefix: SharedPrefix,
    sequences: Sequence[Sequence[int]],
    regions: Sequence[dict[str, Region]],
    channels: Sequence[Channel],
    *,
    padding: Literal["right", "left"] = "right",
) -> torch.Tensor:
    """Every channel of a batch of sequences, float32 [channels, sequences, layers, neurons] on the CPU.

    `regions` maps, for every sequence, region names to pieces of its positions (positions of the prefix excluded).
    """
    names = list(dict.fromkeys(channel.region for channel in channels))
    before = len(prefix.ids) if padding == "left" else 0
    longest = before + max(len(s) for s in sequences)
    masks = torch.zeros(len(names), len(sequences), longest, dtype=torch.bool)
    for row, (sequence, pieces) in enumerate(zip(sequences, regions, strict=True)):
        shift = longest - len(sequence) if padding == "left" else 0
        for at, name in enumerate(names):
            for start, stop in pieces[name]:
                if not 0 <= start <= stop <= len(sequence):
                    raise UsageError(
                        f"region {name} ({start}, {stop}) of {len(sequence)} tokens: expected 0 <= start <= stop "
                        "<= length"
                    )
                masks[at, row, start + shift : stop + shift] = True
            if not masks[at, row].any():
                raise UsageError(f"region {name} of sequence {row} is empty: expected at least one token")
    recorder = _Recorder(channels, names, masks.to(lm.device), lm.shape, len(sequences))
    handles = [
        site.module.register_forward_hook(recorder.hook(site.layer, lm.write_norms[site.layer])) for site in lm.sites
    ]
    try:
        if padding == "left":
            lm.decoder(**left_padded(lm, [[*prefix.ids, *s] for s in sequences]), use_cache=False)
        else:
            ids, _ = right_padded(lm, sequences)
            lm.decoder(input_ids=ids, use_cache=bool(prefix.ids), **prefix.cache(len(sequences)))
    finally:
        for handle in handles:
            handle.remove()
    return recorder.out.cpu()


class _Recorder:
    """Reduces each layer's activations as they pass, so that only one layer's are ever held."""

    def __init__(
        self,
        channels: Sequence[Channel],
        names: list[str],
        masks: torch.Tensor,
        shape: tuple[int, int],
        sequences: int,
    ) -> None:
        self.masks = masks  # [regions, sequences, tokens]
        share = masks.float() / masks.sum(-1, keepdim=True)
        at = [names.index(channel.region) for channel in channels]
        kinds = [(channel.measure, channel.reduce) for channel in channels]
        self.means = [i for i, (_, reduce) in enumerate(kinds) if reduce == "mean"]
        self.maxima = [(i, at[i], kinds[i][0]) for i in range(len(kinds)) if kinds[i][1] == "max"]
        self.shares = share[[at[i] for i in self.means]].transpose(0, 1)  # [sequences, mean channels, tokens]
        cett = torch.tensor([kinds[i][0] == "cett" for i in self.means], device=masks.device)
        self.mean_is_cett = cett[None, :, None]
        self.out = torch.empty(len(channels), sequences, *shape, device=masks.device)

    def hook(self, layer: int, norms: torch.Tensor) -> Any:
        """A forward hook of one layer's down-projection."""

        def record(_module: Any, args: tuple[Any, ...], output: torch.Tensor) -> None:
            size = args[0].abs().float()  # [sequences, tokens, neurons]
            scale = 1 / (output.float().norm(dim=-1) + EPSILON)  # [sequences, tokens]
            if self.means:
                weights = torch.where(self.mean_is_cett, self.shares * scale[:, None], self.shares)
                means = torch.bmm(weights, size)
                means = torch.where(self.mean_is_cett, means * norms, means)
                self.out[self.means, :, layer] = means.transpose(0, 1)
            for index, region, measure in self.maxima:
                values = size * scale[..., None] if measure == "cett" else size
                largest = values.masked_fill(~self.masks[region][..., None], 0).amax(1)
                self.out[index, :, layer] = largest * norms if measure == "cett" else largest

        return record


def cett_batch(
    lm: LanguageModel, prefix: SharedPrefix, sequences: Sequence[Sequence[int]], spans: Sequence[tuple[int, int]]
) -> torch.Tensor:
    """Mean CETT over each sequence's span of tokens, float32 [sequences, layers, neurons] on the CPU."""
    regions: list[dict[str, Region]] = [{"span": [span]} for span in spans]
    return capture_batch(lm, prefix, sequences, regions, [Channel("span")])[0]
