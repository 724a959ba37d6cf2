"""Sampling: the seed fixes every draw, whatever the batch; the distribution is the one transformers would draw from."""

from __future__ import annotations

import collections

import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from types import SimpleNamespace  # noqa: E402

from levercheck.errors import UsageError  # noqa: E402
from levercheck.lm.batches import SharedPrefix, equal_batches  # noqa: E402
from levercheck.lm.sample import Sampling, sample_batch  # noqa: E402

QUESTIONS = [
    "the capital of France",
    "the capital of Peru",
    "the river in London",
    "the largest city of Texas",
    "the symbol for iron",
    "the official language of Chad",
    "the continent of Egypt",
    "the capital of Laos",
]


def drawn(lm, order, limit, sampling, seed=0):
    prefix = SharedPrefix(lm, lm.encode("Question: What is the currency of Japan?\nAnswer: Yen\n\n"))
    prompts = [lm.encode(f"Question: What is {q}?\nAnswer:") for q in QUESTIONS]
    found = {}
    for batch in equal_batches([prompts[i] for i in order], len, limit):
        ids = [order[i] for i in batch]
        answers = sample_batch(lm, prefix, [prompts[i] for i in ids], [QUESTIONS[i] for i in ids], sampling, seed)
        found.update(zip(ids, answers, strict=True))
    return found


def test_batch_size_and_order_change_nothing(smollm):
    sampling = Sampling(samples=4, max_new_tokens=6)
    together = drawn(smollm, list(range(8)), 8, sampling)
    alone = drawn(smollm, [5, 2, 7, 0, 1, 3, 6, 4], 1, sampling)
    for i in range(8):
        assert [a.tokens for a in together[i]] == [a.tokens for a in alone[i]]
        for one, other in zip(together[i], alone[i], strict=True):
            assert one.mean_logprob == pytest.approx(other.mean_logprob, abs=1e-4)


def test_fewer_samples_are_a_prefix_of_more(smollm):
    few = drawn(smollm, [0, 1, 2], 4, Sampling(samples=2, max_new_tokens=5))
    more = drawn(smollm, [0, 1, 2], 4, Sampling(samples=5, max_new_tokens=5))
    assert all(few[i] == more[i][:2] or [a.tokens for a in few[i]] == [a.tokens for a in more[i][:2]] for i in few)


def test_seeds_differ(smollm):
    sampling = Sampling(samples=5, max_new_tokens=6)
    one, other = drawn(smollm, list(range(8)), 8, sampling, seed=0), drawn(smollm, list(range(8)), 8, sampling, seed=1)
    assert any([a.tokens for a in one[i]] != [a.tokens for a in other[i]] for i in one)


def test_shared_rows_equal_separate_decoding(smollm):
    """Each sample's log-probabilities equal those of a plain forward pass over its own tokens."""
    lm, sampling = smollm, Sampling(samples=3, max_new_tokens=6)
    answers = drawn(lm, [0, 3], 4, sampling)
    start = lm.encode("Question: What is the currency of Japan?\nAnswer: Yen\n\n")
    for i, group in answers.items():
        prompt = start + lm.encode(f"Question: What is {QUESTIONS[i]}?\nAnswer:")
        for answer in group:
            if not answer.tokens:
                continue
            with torch.inference_mode():
                logits = lm.model(torch.tensor([[*prompt, *answer.tokens]])).logits[0]
            steps = logits[len(prompt) - 1 : -1].float().log_softmax(-1)
            own = steps[torch.arange(len(answer.tokens)), torch.tensor(answer.tokens)]
            assert answer.mean_logprob == pytest.approx(float(own.mean()), abs=1e-4)
            assert answer.first_logprob == pytest.approx(float(own[0]), abs=1e-4)


def test_first_token_follows_the_truncated_distribution(smollm):
    """2,000 draws of one token against the top-k, top-p distribution of transformers' own warpers."""
    from transformers.generation import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    lm, n = smollm, 2000
    prompt = lm.encode("Question: Which city is it?\nAnswer:")
    sampling = Sampling(samples=n, max_new_tokens=1, temperature=1.3, top_k=12, top_p=0.8)
    answers = sample_batch(lm, SharedPrefix(lm, []), [prompt], ["x"], sampling, 0)[0]
    counts = collections.Counter(a.tokens[0] if a.tokens else None for a in answers)
    with torch.inference_mode():
        scores = lm.model(torch.tensor([prompt])).logits[:, -1].float()
    for warp in (TemperatureLogitsWarper(1.3), TopKLogitsWarper(12), TopPLogitsWarper(0.8)):
        scores = warp(None, scores)
    wanted = scores.softmax(-1)[0]
    assert set(counts) - {None} <= set(torch.nonzero(wanted).flatten().tolist())
    for token, count in counts.items():
        if token is not None:
            p = float(wanted[token])
            assert abs(count / n - p) < 5 * (p * (1 - p) / n) ** 0.5 + 1e-3


def test_answers_end_at_the_stop_text(smollm):
    for group in drawn(smollm, list(range(8)), 8, Sampling(samples=4, max_new_tokens=8)).values():
        for answer in group:
            assert "\n" not in smollm.decode(answer.tokens)
            assert len(answer.tokens) <= 8
            assert answer.stopped or len(answer.tokens) == 8


class Scripted:
    """A model that gives one position of the logits it was made with, whatever it reads."""

    end_ids = frozenset({0})
    cache_name = "cache"
    device = torch.device("cpu")

    def __init__(self, *rows):
        self.logits = torch.tensor(rows, dtype=torch.float16)[:, None]

    def model(self, **_):
        return SimpleNamespace(logits=self.logits, cache=None)

    def decode(self, ids):
        return " ".join(map(str, ids))


def once(lm, keys, **settings):
    prefix = SimpleNamespace(cache=lambda rows: {})
    sampling = Sampling(samples=2, max_new_tokens=1, **settings)
    return sample_batch(lm, prefix, [[1]] * len(keys), keys, sampling, 0)


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_logits_that_are_not_finite_name_the_item(bad):
    with pytest.raises(UsageError, match=r"item 'second' has logits that are not finite: .*float32 or bfloat16"):
        once(Scripted([0.0, 1.0, 2.0], [0.0, bad, 2.0]), ["first", "second"])


def test_single_tokens_may_be_ruled_out():
    (answers,) = once(Scripted([0.0, float("-inf"), 2.0]), ["one"])
    assert {a.tokens for a in answers} <= {(), (2,)}


def test_a_loaded_model_needs_a_top_k():
    with pytest.raises(UsageError, match="top_k = 0: expected at least 1"):
        once(Scripted([0.0, 1.0]), ["one"], top_k=0)
