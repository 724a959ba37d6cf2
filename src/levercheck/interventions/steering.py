"""A treatment in force around anybody's call of the model: `generate`, a forward pass, another library's loop.

    with steered(lm, treatment) as hooks:
        lm.model.generate(...)
        receipts = hooks.receipts()

Where a pass stands is read off the decoder's own arguments: the attention mask marks padding, an empty cache a new
prompt, a filled one the next generated token. Without a cache every pass is a new prompt, so scopes other than `all`
need one. Chunked prefill and speculative decoding feed several tokens behind a filled cache; they are refused. Beams
are steered alike, but change places, so that receipts are of places and not of answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from levercheck.errors import UsageError
from levercheck.interventions.hooks import Hooks
from levercheck.interventions.spec import Treatment
from levercheck.interventions.steps import Steps
from levercheck.lm.model import LanguageModel


@contextmanager
def steered(lm: LanguageModel, treatment: Treatment) -> Iterator[Hooks]:
    """Put one treatment in force for every row of every pass inside the block."""
    with Hooks(lm, [treatment]) as hooks:
        follower = _Follower(hooks)
        modules = dict.fromkeys((lm.model, lm.decoder))  # a multimodal model hands its decoder ready-made masks
        handles = [m.register_forward_pre_hook(follower, with_kwargs=True) for m in modules]
        try:
            yield hooks
        finally:
            for handle in handles:
                handle.remove()


class _Follower:
    """Tells the hooks where each pass stands."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        self.number = 1
        self.told = False  # by the whole model, about the pass that its decoder is about to begin

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if module is self.hooks.lm.decoder and self.told:
            self.told = False
            return
        self.told = module is not self.hooks.lm.decoder
        tokens = kwargs.get("input_ids")
        if tokens is None:
            tokens = args[0] if args else kwargs["inputs_embeds"]
        rows, fed = tokens.shape[:2]
        cache = kwargs.get("past_key_values", kwargs.get("cache"))
        held = 0 if cache is None else cache.get_seq_length()
        if held == 0:
            self.hooks.assign([0] * rows)
            self.number = 1
            self.hooks.at(Steps(table=_prompt_table(rows, fed, kwargs.get("attention_mask"), tokens.device)))
            return
        if fed != 1 or rows != len(self.hooks.present):
            raise UsageError(
                f"a pass of {fed} tokens x {rows} rows behind {held} cached ones: expected one token per row (chunked "
                "prefill and speculative decoding are not supported)"
            )
        self.number += 1
        self.hooks.at(Steps.generated(self.number))


def _prompt_table(rows: int, length: int, mask: Any, device: torch.device) -> torch.Tensor:
    """Steps of prompts padded on either side, from a mask [rows, positions] (None: nothing is padded)."""
    if isinstance(mask, dict):
        raise UsageError("a ready-made attention mask was passed: give the 2-d padding mask, so that padding is seen")
    real = torch.ones(rows, length, dtype=torch.bool, device=device) if mask is None else mask.bool()
    last = length - 1 - real.flip(1).int().argmax(1)
    place = torch.arange(length, device=device)[None]
    return torch.where(real, (place == last[:, None]).long(), -1)
