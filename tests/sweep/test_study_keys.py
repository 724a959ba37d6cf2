"""What decides the rows of a study is in the names of its units: a run goes on only in its own configuration."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.benchmarks.base import Item, find_benchmark
from levercheck.evidence.rows import read_part
from levercheck.study.spec import StudySpec
from levercheck.sweep import lever_sets, study
from levercheck.sweep.effort import Found
from levercheck.sweep.lever_sets import Lever
from levercheck.sweep.study import StudyRun

MODEL = SimpleNamespace(
    identity={"name": "none"}, shape=(4, 8), start_ids=[], encode=lambda text: [len(text)], answer_token=len
)


class Silent:
    def stage(self, title, total, unit):
        return nullcontext(lambda done: None)


def run_of(root: Path, name: str = "push") -> StudyRun:
    spec = StudySpec.model_validate(
        {
            "study": "keys",
            "model": "none",
            "readouts": {"d": "d"},
            "interventions": {name: {"readout": "d", "efforts": [0.1]}},
            "benchmarks": ["bare-facts"],
        }
    )
    run = StudyRun(spec, root, root, MODEL, Silent())
    run._items["bare-facts", "tune"] = [Item(f"i{n}", f"c{n}", "text", ("a", "b"), (1, 2)) for n in range(5)]
    return run


@pytest.fixture
def searches(monkeypatch):
    found = []

    def find(lm, prefix, prompts, wanted, layer, **_):
        found.append(len(wanted))
        return [Found(1.5, None) for _ in wanted]

    monkeypatch.setattr(lever_sets, "find_doses", find)
    return found


def lever(name: str) -> Lever:
    edit = SimpleNamespace(site="L1.resid.post", arrays={})
    return Lever(name, SimpleNamespace(fingerprint="same", edits=[edit]))


def test_a_renamed_lever_keeps_no_rows_of_its_old_name(tmp_path, searches):
    for name in ("push", "push", "shove"):
        run = run_of(tmp_path, name)
        assert lever_sets._efforts(run, [lever(name)]) == {(name, None, None, 0.1): 1.5}
        assert set(read_part(tmp_path / run.units["efforts"])["lever"]) == {name}
        lever_sets._write_down(run, [lever(name)], [[*lever(name).key, "same"]])
    assert searches == [1, 1]  # the second run only read
    written = [read_part(folder)["lever"].to_list() for folder in sorted((tmp_path / "levers").iterdir())]
    assert sorted(written) == [["push"], ["shove"]]


BARE = find_benchmark("bare-facts")
CHANGES = [
    {"styles": {"few-shot": replace(BARE.style, prefix="Q")}},
    {"styles": {"few-shot": replace(BARE.style, chat=True)}},
    {"styles": {"other": BARE.style}},
    {"policy": replace(BARE.policy, max_new_tokens=9)},
    {"policy": replace(BARE.policy, stop="!")},
    {"policy": replace(BARE.policy, greedy=False)},
    {"ruler": "other/v2"},
]


@pytest.mark.parametrize("change", CHANGES)
def test_another_way_to_ask_or_judge_is_another_cell(tmp_path, monkeypatch, change):
    run = run_of(tmp_path)
    before = run.asked("bare-facts", "tune")
    other = replace(BARE, **change)
    monkeypatch.setattr(study, "benchmark_of", lambda *_: other)
    after = run.asked("bare-facts", "tune")
    assert before["items"] == after["items"] and before != after


def test_another_text_under_the_same_id_is_another_cell(tmp_path):
    run = run_of(tmp_path)
    before = run.asked("bare-facts", "tune")
    run._items["bare-facts", "tune"][0] = replace(run._items["bare-facts", "tune"][0], text="other")
    assert run.asked("bare-facts", "tune")["digest"] != before["digest"]


def test_roles_that_a_benchmark_shifts_are_in_the_key(tmp_path, monkeypatch):
    plain = run_of(tmp_path).key
    monkeypatch.setattr(study, "own_items", lambda names: ["plug-in"])
    keys = set()
    for role in ("tune", "confirm"):
        monkeypatch.setattr(study, "entity_roles", lambda *_, role=role: {"country:Chad": role})
        keys.add(run_of(tmp_path).key)
    assert len(keys) == 2 and plain not in keys
