"""Seeded sampling: the draw of (item, sample, position) is fixed by the seed, whatever the batch size or order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from levercheck.errors import UsageError
from levercheck.lm.batches import SharedPrefix
from levercheck.lm.model import LanguageModel

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn. Defaults follow Gao et al. (arXiv 2512.01797): T = 1, top-k 50, top-p 0.9."""

    samples: int = 5
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.9
    max_new_tokens: int = 8
    stop: str = "\n"  # an answer ends before the first token whose text contains this ("": nothing), or at an end token


@dataclass(frozen=True)
class Answer:
    """One sampled answer. Log-probabilities are natural, of the untruncated T = 1 distribution."""

    tokens: tuple[int, ...]
    text: str
    mean_logprob: float  # over the answer's tokens; over the stop token for an empty answer
    first_logprob: float
    stopped: bool  # False when max_new_tokens cut it


@torch.inference_mode()
def sample_batch(
    lm: LanguageModel,
    prefix: SharedPrefix,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[str],
    sampling: Sampling,
    seed: int,
) -> list[list[Answer]]:
    """Draw `sampling.samples` answers for each of a batch of equally long prompts.

    Samples of one item that have the same tokens so far share one row of the batch, so agreement costs nothing.
    `keys` (stable item ids) and `seed` fix the draws. Returns one list of answers per prompt. Raises UsageError for
    `top_k` below 1 and, naming the item, for logits that are not finite.
    """
    if sampling.top_k < 1:
        raise UsageError(f"top_k = {sampling.top_k}: expected at least 1; only endpoints can be asked without it")
    is_stop = stop_test(lm, sampling.stop)
    draws = np.stack([uniforms(seed, key, sampling) for key in keys])  # [items, samples, positions]
    output = lm.model(
        input_ids=torch.tensor([list(p) for p in prompts], device=lm.device),
        **prefix.cache(len(prompts)),
        use_cache=True,
        logits_to_keep=1,
    )
    tokens: dict[tuple[int, int], list[int]] = {(i, s): [] for i in range(len(keys)) for s in range(sampling.samples)}
    logprobs: dict[tuple[int, int], list[float]] = {pair: [] for pair in tokens}
    states = [[(i, s) for s in range(sampling.samples)] for i in range(len(keys))]  # samples sharing a row
    stopped = set()
    for position in range(sampling.max_new_tokens):
        logits = output.logits[:, -1].float()
        _finite(logits, [keys[pairs[0][0]] for pairs in states])
        chosen, chosen_logprob = _draw(logits, states, draws[:, :, position], sampling)
        children: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for row, pairs in enumerate(states):
            for pair in pairs:
                token = chosen[pair]
                tokens[pair].append(token)
                logprobs[pair].append(chosen_logprob[pair])
                if is_stop(token):
                    stopped.add(pair)
                else:
                    children.setdefault((row, token), []).append(pair)
        if not children or position == sampling.max_new_tokens - 1:
            break
        kept = getattr(output, lm.cache_name)
        parents = [row for row, _ in children]
        if parents != list(range(len(states))):
            kept.batch_select_indices(torch.tensor(parents, device=lm.device))
        step = torch.tensor([[token] for _, token in children], device=lm.device)
        output = lm.model(input_ids=step, use_cache=True, logits_to_keep=1, **{lm.cache_name: kept})
        states = list(children.values())
    return [
        [_answer(lm, tokens[i, s], logprobs[i, s], (i, s) in stopped) for s in range(sampling.samples)]
        for i in range(len(keys))
    ]


def uniforms(seed: int, key: str, sampling: Sampling) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The uniform draws of one item, float64 [samples, positions], from a counter-based generator keyed by the item."""
    name = hashlib.sha256(f"{seed}\x00{key}".encode()).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(name[:16], "little")))
    return generator.random((sampling.samples, sampling.max_new_tokens))


def _draw(
    logits: torch.Tensor,
    states: Sequence[Sequence[tuple[int, int]]],
    draws: np.ndarray[Any, np.dtype[np.float64]],
    sampling: Sampling,
) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], float]]:
    """Invert the truncated cumulative distribution of each row at each of its samples' draws."""
    cumulative, ids, logprob = truncated(logits, sampling)
    chosen, chosen_logprob = {}, {}
    for row, pairs in enumerate(states):
        for item, sample in pairs:
            rank = invert(cumulative[row], draws[item, sample])
            chosen[item, sample] = int(ids[row, rank])
            chosen_logprob[item, sample] = float(logprob[row, rank])
    return chosen, chosen_logprob


def truncated(logits: torch.Tensor, sampling: Sampling) -> tuple[Floats, np.ndarray[Any, Any], Floats]:
    """Each row's candidates after top-k and top-p, most probable first: cumulative probability, token id and natural
    log-probability under the untruncated T = 1 distribution; float64, int64 and float64 [rows, top_k].
    """
    normaliser = logits.logsumexp(-1)
    top, ids = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1)
    probabilities = (top.double() / sampling.temperature).softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    probabilities = probabilities.masked_fill(before > sampling.top_p, 0.0)
    cumulative = probabilities.cumsum(-1) / probabilities.sum(-1, keepdim=True)
    logprob = (top - normaliser[:, None]).double()
    return cumulative.cpu().numpy(), ids.cpu().numpy(), logprob.cpu().numpy()


def invert(cumulative: Floats, draw: float) -> int:
    """The candidate that a uniform draw falls on."""
    rank = int(np.searchsorted(cumulative, draw, side="right"))
    return min(rank, int(np.count_nonzero(np.diff(cumulative, prepend=0.0))) - 1)


def _finite(logits: torch.Tensor, keys: Sequence[str]) -> None:
    """Refuse rows that are no distribution; single tokens at minus infinity only cannot be drawn."""
    good = logits.logsumexp(-1).isfinite()
    if not good.all():
        key = keys[int((~good).nonzero()[0])]
        raise UsageError(
            f"item '{key}' has logits that are not finite: load the model in float32 or bfloat16, into a new workspace"
        )


def _answer(lm: LanguageModel, tokens: list[int], logprobs: list[float], stopped: bool) -> Answer:
    body = tokens[:-1] if stopped else tokens
    used = logprobs[: max(len(body), 1)]
    return Answer(tuple(body), lm.decode(body).strip(), float(np.mean(used)), logprobs[0], stopped)


def stop_test(lm: LanguageModel, stop: str) -> Callable[[int], bool]:
    """Whether a token ends an answer: an end token, or one whose text contains `stop`."""

    @cache
    def is_stop(token: int) -> bool:
        return token in lm.end_ids or (stop != "" and stop in lm.decode([token]))

    return is_stop
