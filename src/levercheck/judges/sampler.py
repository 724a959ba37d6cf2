"""Answers sampled from an endpoint: one request per (item, sample), its seed fixed by the item's key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from levercheck.judges.client import ChatClient, Message


class SamplingSettings(Protocol):
    """How answers are drawn; `levercheck.lm.sample.Sampling` is one, and `ChatSampling` needs no model runtime."""

    @property
    def samples(self) -> int:
        """Answers per item."""

    @property
    def temperature(self) -> float:
        """Divides the logits before the draw."""

    @property
    def top_k(self) -> int:
        """Most likely tokens to draw from; 0 leaves the choice out of the request."""

    @property
    def top_p(self) -> float:
        """Probability mass to draw from."""

    @property
    def max_new_tokens(self) -> int:
        """Tokens after which an answer is cut."""


@dataclass(frozen=True)
class ChatSampling:
    """Settings of Gao et al. (arXiv 2512.01797). OpenAI's own service knows no top-k: give 0 there."""

    samples: int = 10
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.9
    max_new_tokens: int = 50


@dataclass(frozen=True)
class EndpointAnswer:
    """One sampled answer; natural log-probabilities over the tokens as the server reports them, None without."""

    text: str
    finish: str | None  # `stop`, `length` when max_new_tokens cut it, or the server's own word
    mean_logprob: float | None
    first_logprob: float | None


def endpoint_answers(
    client: ChatClient,
    prompts: Sequence[Sequence[Message]],
    keys: Sequence[str],
    sampling: SamplingSettings,
    seed: int,
) -> list[list[EndpointAnswer]]:
    """Draw `sampling.samples` answers for each prompt; returns them per item, in order.

    `keys` are stable item ids. Raises what `ChatClient.chat` raises; use `stream_answers` to keep what was finished.
    """
    found = dict(stream_answers(client, prompts, keys, sampling, seed))
    return [found[i] for i in range(len(prompts))]


def stream_answers(
    client: ChatClient,
    prompts: Sequence[Sequence[Message]],
    keys: Sequence[str],
    sampling: SamplingSettings,
    seed: int,
) -> Iterator[tuple[int, list[EndpointAnswer]]]:
    """Yield (item, its answers) as items are completed, so that a caller can store each before the next."""
    if len(keys) != len(prompts) or len(set(keys)) != len(keys):
        raise ValueError("expected one distinct key per prompt: equal keys would give equal draws")
    pairs = [(item, sample) for item in range(len(prompts)) for sample in range(sampling.samples)]

    def ask(pair: tuple[int, int]) -> EndpointAnswer:
        item, sample = pair
        reply = client.chat(
            prompts[item],
            temperature=sampling.temperature,
            max_tokens=sampling.max_new_tokens,
            top_p=sampling.top_p,
            top_k=sampling.top_k or None,
            seed=request_seed(seed, keys[item], sample),
            logprobs=True,
        )
        steps = reply.logprobs
        mean = sum(steps) / len(steps) if steps else None
        return EndpointAnswer(reply.text.strip(), reply.finish, mean, steps[0] if steps else None)

    answers: dict[int, dict[int, EndpointAnswer]] = {}
    for number, answer in client.map(ask, pairs):
        item, sample = pairs[number]
        group = answers.setdefault(item, {})
        group[sample] = answer
        if len(group) == sampling.samples:
            yield item, [group[s] for s in range(sampling.samples)]
            del answers[item]


def request_seed(seed: int, key: str, sample: int) -> int:
    """The 31-bit seed of one request: a digest, so that neither order nor the number of samples shifts it."""
    name = hashlib.sha256(f"{seed}\x00{key}\x00{sample}".encode()).digest()
    return int.from_bytes(name[:4], "big") & 0x7FFFFFFF
