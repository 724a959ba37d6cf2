"""Forced-choice scores: the next-token logits of two candidate tokens, one forward pass, no generation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from levercheck.lm.batches import SharedPrefix, last_logits
from levercheck.lm.model import LanguageModel


@torch.inference_mode()
def next_token_logits(lm: LanguageModel, prefix: SharedPrefix, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Next-token logits after each prompt, float32 [prompts, vocabulary]."""
    return last_logits(lm, prompts, past_key_values=prefix.cache(len(prompts)), use_cache=bool(prefix.ids))


def choice_scores(
    lm: LanguageModel, prefix: SharedPrefix, prompts: Sequence[Sequence[int]], pairs: Sequence[tuple[int, int]]
) -> tuple[list[float], list[float]]:
    """logit(first) - logit(second) of each prompt's pair of candidate tokens, and the pair's joint probability."""
    logits = next_token_logits(lm, prefix, prompts)
    index = torch.tensor([list(p) for p in pairs], device=lm.device)
    picked = logits.gather(1, index)
    mass = (picked - logits.logsumexp(-1, keepdim=True)).exp().sum(-1)
    return (picked[:, 0] - picked[:, 1]).double().tolist(), mass.double().tolist()
