"""Every benchmark end to end on a real model, from data in its real format."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.benchmarks.base import Request, Scored, benchmark_names, find_benchmark, used
from levercheck.benchmarks.data import FOLDER_VARIABLE, Use
from levercheck.benchmarks.outcomes import NO_VERDICT
from levercheck.benchmarks.truthfulqa import masses
from levercheck.interventions.build import scale_neurons
from levercheck.interventions.scopes import parse_scope
from levercheck.interventions.spec import Treatment
from levercheck.sweep import engine as engine_module
from levercheck.sweep.cells import BASE, NOOP, LeverArm, cell_work

ITEMS = 3
TOKENS = 4
SAME = ("outcome", "chosen", "how", "text", "first", "first_stop_reason", "stop_reason", "prompt_positions",
        "decode_positions")  # fmt: skip


def ways_to_ask():
    """Every benchmark in every style, but one alone of those that differ in their words only."""
    found = {}
    for name in benchmark_names():
        for style, declared in find_benchmark(name).styles.items():
            found.setdefault((name, replace(declared, template="")), f"{name}/{style}")
    return list(found.values())


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory, data_files):
    """Every data file a benchmark looks for, self-made."""
    folder = tmp_path_factory.mktemp("data")
    choice, answers = data_files("fixtures_choice"), data_files("fixtures_answers")
    for write in (choice.write_faitheval, choice.write_truthfulqa, choice.write_falseqa, choice.write_simpleqa,
                  answers.write_bioasq, answers.write_triviaqa, answers.write_jbb_harmful,
                  answers.write_jbb_benign):  # fmt: skip
        write(folder, 40)
    return folder


@pytest.fixture
def data(data_folder, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(data_folder))
    return data_folder


@pytest.fixture(scope="session")
def first_token(smollm):
    """First tokens of answers, cut once: two benchmarks ask for those of every fact."""
    return cache(smollm.answer_token)


def rows_of(lm, benchmark, items, arms):
    engine, work = cell_work(lm, benchmark, items, arms, "tune", 0)
    found = [row for block in engine.blocks() for row in work(block)]
    return {(row["item_id"], row["dose"]): row for row in found}


def asked(name, first_token):
    """The benchmark with a small cap, and some of its items."""
    declared = find_benchmark(name)
    use = Use(name, max_new_tokens=min(declared.policy.max_new_tokens, TOKENS) if declared.kind == "answer" else None)
    benchmark = used(use)
    items = benchmark.made(Request(first_token, lambda _: True, 0, use))
    step = max(1, len(items) // ITEMS)
    return benchmark, items[::step][:ITEMS]


@pytest.mark.parametrize("name", ways_to_ask())
def test_rows_of_every_benchmark_do_not_depend_on_the_batch(smollm, first_token, data, name, monkeypatch):
    benchmark, items = asked(name, first_token)
    lever = scale_neurons(smollm, [(20, 3), (25, 700), (28, 1000)])
    arms = [LeverArm(BASE), LeverArm("push", dose=30.0, treatment=Treatment(((lever, 30.0),)))]
    whole = rows_of(smollm, benchmark, items, arms)
    assert len(whole) == len(items) * len(arms) == 2 * ITEMS
    monkeypatch.setattr(engine_module, "BATCH_TOKENS", 1)
    monkeypatch.setattr(engine_module.Engine.__init__, "__kwdefaults__",
                        {**engine_module.Engine.__init__.__kwdefaults__, "batch_tokens": 1})  # fmt: skip
    single = rows_of(smollm, benchmark, items, arms)
    assert single.keys() == whole.keys()
    for key, row in whole.items():
        other = single[key]
        for column in SAME:
            assert row.get(column) == other.get(column), (key, column)
        assert (row["score"] is None) == (row["outcome"] in NO_VERDICT)
        assert (row.get("first_stop_reason") is None) == (benchmark.style.then is None)
        if row["score"] is not None:
            assert 0.0 <= row["score"] <= 1.0
            assert row["score"] == pytest.approx(other["score"], abs=2e-4)
        for column in ("value", "mass", "mean_logprob"):
            if row.get(column) is not None:
                assert row[column] == pytest.approx(other[column], abs=5e-4)
        if row.get("option_logprobs") is not None:
            assert np.allclose(row["option_logprobs"], other["option_logprobs"], atol=5e-4)
        assert row["style"] == name.partition("/")[2]
        assert (row["lever"] == BASE) == (row["relative_dose"] is None)
    if name.startswith("truthfulqa-mc2"):
        check_masses(items, whole)


def test_hooks_at_their_noop_change_no_bit_of_a_second_turn(smollm, first_token, data):
    """The second turn is a prompt of its own, in which a decode-scoped hook edits nothing but what comes after it."""
    benchmark, items = asked("sycophancy", first_token)
    lever = scale_neurons(smollm, [(20, 3), (25, 700), (28, 1000)], scope=parse_scope("decode"))
    treatment = Treatment(((lever, lever.noop),))
    plain = rows_of(smollm, benchmark, items, [LeverArm(BASE)])
    found = rows_of(smollm, benchmark, items, [LeverArm(NOOP, treatment=treatment)])
    assert len(found) == ITEMS and found.keys() == plain.keys()
    for key, row in found.items():
        assert row["decode_positions"] > 0 == plain[key]["decode_positions"]
        for column in (*SAME[:-2], "score", "mean_logprob", "tokens", "words"):
            assert row[column] == plain[key][column], (key, column)


def check_masses(items, rows):
    for item in items:
        row = rows[item.id, None]
        shares = masses([Scored(value, 1) for value in row["option_logprobs"]])
        assert sum(shares) == pytest.approx(1.0, abs=1e-12)
        assert row["score"] == pytest.approx(sum(shares[: item.facts["correct"]]), abs=1e-12)
        assert row["positive"] is None  # a continuous score is no yes or no
