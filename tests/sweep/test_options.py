"""Log-likelihood of options against the formula: one option at a time, the whole sequence in one pass, no cache."""

from __future__ import annotations

import dataclasses
import importlib.util
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError  # noqa: E402
from levercheck.interventions.spec import BASELINE, Treatment  # noqa: E402
from levercheck.sweep import options as module  # noqa: E402
from levercheck.sweep.engine import Block, Engine  # noqa: E402
from levercheck.sweep.options import score_options  # noqa: E402


def _sibling(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


engine_tests = _sibling("engine_tests", Path(__file__).with_name("test_engine.py"))
formulas = engine_tests.formulas
PREFIX, PROMPTS, CASES = engine_tests.PREFIX, engine_tests.PROMPTS, engine_tests.CASES
OPTIONS = [[[4], [9, 3, 17], [8, 8]], [[60, 2, 71, 5, 11], [12]], [[5], [6]], [[31, 32], [31, 33], [31], [40, 41, 42]]]


@pytest.fixture
def lm(tiny):
    return dataclasses.replace(tiny, tokenizer=engine_tests.Words())


@torch.inference_mode()
def logits_by_hand(lm, prompt, option, edits, scope):
    """Logits that `option`'s tokens are drawn from after `prompt`, [tokens, vocabulary]."""
    ids = [*prompt, *option[:-1]]
    with ExitStack() as stack:
        for manager in edits(formulas.inside(scope, len(prompt), len(ids))):
            stack.enter_context(manager)
        logits = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
    return logits[len(prompt) - 1 :]


def by_formula(lm, prompt, option, edits, scope):
    """Summed log-probability of `option` after `prompt`, float64."""
    logprobs = logits_by_hand(lm, prompt, option, edits, scope).log_softmax(-1)
    return float(sum(logprobs[i, token].double() for i, token in enumerate(option)))


def scores(lm, treatments, options=OPTIONS, **settings):
    engine = Engine(lm, PREFIX, PROMPTS, treatments, **settings)
    found = {}
    for block in engine.blocks():
        for prompt, row in zip(block.prompts, score_options(engine, block, options), strict=True):
            found |= {(prompt, t): one for t, one in zip(block.treatments, row, strict=True)}
    return found


@pytest.mark.parametrize(("name", "scope", "dose"), CASES)
def test_options_equal_the_formula_whatever_the_batch(lm, name, scope, dose, monkeypatch):
    intervention, by_hand = engine_tests.case(lm, name, scope, dose)
    treatments = [Treatment(((intervention, dose),)), BASELINE, Treatment(((intervention, intervention.noop),))]
    found = scores(lm, treatments)
    moved = 0.0
    for number, prompt in enumerate(PROMPTS):
        for at, option in enumerate(OPTIONS[number]):
            wanted = by_formula(lm, PREFIX + prompt, option, by_hand, scope)
            plain = by_formula(lm, PREFIX + prompt, option, lambda _: [], scope)
            assert found[number, 0].options[at].logprob == pytest.approx(wanted, abs=2e-4, rel=2e-5)
            assert found[number, 1].options[at].logprob == pytest.approx(plain, abs=2e-5)
            assert found[number, 0].options[at].tokens == len(option) >= found[number, 0].options[at].top >= 0
            moved = max(moved, abs(wanted - plain))
    if not name.endswith("full"):  # a no-op dose, run the way the baseline is run, keeps every bit
        plain, noop = (scores(lm, [treatment], share_prompt=False) for treatment in treatments[1:])
        assert {k: one.options for k, one in plain.items()} == {k: one.options for k, one in noop.items()}
    assert moved > 1e-2, "the intervention moved no score: equality would prove nothing"
    monkeypatch.setattr(module, "CACHED", 1)
    for settings in ({"batch_tokens": 1}, {"batch_tokens": 12}, {"share_trunk": False, "share_prompt": False}):
        for key, one in scores(lm, treatments, **settings).items():
            other = found[key]
            assert np.allclose(
                [o.logprob for o in one.options], [o.logprob for o in other.options], atol=2e-4, rtol=2e-5
            )
            assert (one.receipt.prompt, one.receipt.decode) == (other.receipt.prompt, other.receipt.decode)


def likeliest(lm, prompt, edits, scope, count=3):
    """The tokens that are the most probable ones, each behind those before it."""
    option = []
    for _ in range(count):
        option.append(int(logits_by_hand(lm, prompt, [*option, 0], edits, scope)[-1].argmax()))
    return option


def test_top_counts_the_tokens_that_are_the_most_probable_at_their_place(lm):
    intervention, by_hand = engine_tests.case(lm, "scale", "decode", 4.0)
    treatments = [Treatment(((intervention, 4.0),)), BASELINE]
    hooks = [by_hand, lambda _: []]
    options = []
    for prompt in PROMPTS:
        own, plain = (likeliest(lm, PREFIX + prompt, edits, "decode") for edits in hooks)
        options.append([own, plain, [own[0], (own[1] + 1) % 97, own[2]], [(plain[0] + 1) % 97], plain[:1], [4, 9, 3]])
    told = []
    for settings in ({}, {"batch_tokens": 1}):
        for (number, treatment), one in scores(lm, treatments, options, **settings).items():
            for option, found in zip(options[number], one.options, strict=True):
                logits = logits_by_hand(lm, PREFIX + PROMPTS[number], option, hooks[treatment], "decode")
                first, second = logits.topk(2, dim=-1).values.unbind(-1)
                assert (first - second).min() > 1e-4, "a tie: another batch may rank the tokens otherwise"
                assert found.top == int((logits.argmax(-1) == torch.tensor(option)).sum())
                told.append((found.top, found.tokens))
            assert one.options[treatment].top == 3, "every token of the own likeliest text is ranked first"
    assert {(0, 1), (1, 1), (3, 3)} <= set(told) and any(0 < top < tokens for top, tokens in told)


def test_receipts_count_the_tokens_of_options(lm):
    intervention, _ = engine_tests.case(lm, "scale", "decode", 4.0)
    found = scores(lm, [Treatment(((intervention, 4.0),))])
    for number, some in enumerate(OPTIONS):
        receipt = found[number, 0].receipt
        assert (receipt.prompt, receipt.decode) == (1, sum(len(option) - 1 for option in some))


def test_out_of_memory_halves_and_changes_nothing(lm, monkeypatch):
    intervention, _ = engine_tests.case(lm, "scale", "all", 4.0)
    treatments = [BASELINE, Treatment(((intervention, 4.0),))]
    wanted, whole = scores(lm, treatments), module._continue

    def scarce(engine, hooks, state, part, count):
        if len(part.rows) > 3:
            raise RuntimeError("CUDA out of memory")
        return whole(engine, hooks, state, part, count)

    monkeypatch.setattr(module, "_continue", scarce)
    for key, one in scores(lm, treatments).items():
        assert np.allclose([o.logprob for o in one.options], [o.logprob for o in wanted[key].options], atol=2e-4)


def test_an_option_without_a_token_is_refused(lm):
    engine = Engine(lm, PREFIX, PROMPTS, [BASELINE])
    with pytest.raises(UsageError, match="an option has no token"):
        score_options(engine, Block((0,), (0,)), [[[3], []], [], [], []])


def test_broken_numbers_are_marked(lm):
    intervention, _ = engine_tests.case(lm, "scale", "all", 1.0)
    found = scores(lm, [Treatment(((intervention, 3e38), (intervention, 3e38))), BASELINE])
    assert any(not option.finite for (_, t), one in found.items() if t == 0 for option in one.options)
    assert all(option.finite for (_, t), one in found.items() if t == 1 for option in one.options)
