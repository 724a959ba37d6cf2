"""What decides the rows of a study is in the names of its units: a run goes on only in its own configuration."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.benchmarks.fixtures_answers import write_jbb_benign, write_jbb_harmful
from tests.benchmarks.fixtures_choice import write_truthfulqa

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.benchmarks.base import Item, find_benchmark, item_of
from levercheck.benchmarks.data import FOLDER_VARIABLE
from levercheck.errors import UsageError
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


def run_of(root: Path, name: str = "push", **changes: Any) -> StudyRun:
    spec = StudySpec.model_validate(
        {
            "study": "keys",
            "model": "none",
            "readouts": {"d": "d"},
            "interventions": {name: {"readout": "d", "efforts": [0.1]}},
            "benchmarks": ["bare-facts"],
            **changes,
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
    {"metric": "something else"},
    {"better": "lower"},
    {"binary": False},
]


@pytest.mark.parametrize("change", CHANGES)
def test_another_way_to_ask_or_judge_is_another_cell(tmp_path, monkeypatch, change):
    run = run_of(tmp_path)
    before = run.asked("bare-facts", "tune")
    other = replace(BARE, **change)
    monkeypatch.setattr(study, "benchmark_of", lambda *_: other)
    after = run.asked("bare-facts", "tune")
    assert before["items"] == after["items"] and before != after


@pytest.mark.parametrize("change", [{"text": "other"}, {"facts": {"aliases": ("Oslo",)}}, {"cluster": "c9"}])
def test_another_item_under_the_same_id_is_another_cell(tmp_path, change):
    run = run_of(tmp_path)
    before = run.asked("bare-facts", "tune")
    run._items["bare-facts", "tune"][0] = replace(run._items["bare-facts", "tune"][0], **change)
    assert run.asked("bare-facts", "tune")["digest"] != before["digest"]


def test_roles_that_a_benchmark_shifts_are_in_the_key(tmp_path, monkeypatch):
    plain = run_of(tmp_path).key
    monkeypatch.setattr(study, "own_items", lambda names: ["plug-in"])
    keys = set()
    for role in ("tune", "confirm"):
        monkeypatch.setattr(study, "entity_roles", lambda *_, role=role: {"country:Chad": role})
        keys.add(run_of(tmp_path).key)
    assert len(keys) == 2 and plain not in keys


def made_from(root: Path, monkeypatch, family: str, source: str, *, versions=None, settings=None, **declared) -> str:
    """Name of the folder of a readout that the run makes."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(root / "data"))
    packages = {"levercheck": "1", "torch": "2", "transformers": "5", **(versions or {})}
    monkeypatch.setattr(study, "environment", lambda: {"packages": packages})
    readouts = {"d": {"family": family, "source": source, **declared}}
    folder = run_of(root, readouts=readouts, settings=settings or {}).readout_folder("d")
    return (folder.parents[1] if family == "neurons" else folder).name


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("family", "source", "file", "more"),
    [
        ("direction", "pairs.jsonl", "pairs.jsonl", {}),
        ("heads", "in/pairs.csv", "in/pairs.csv", {}),
        ("neurons", "jsonl:own.jsonl", "own.jsonl", {}),
        ("neurons", "triviaqa", "data/triviaqa.jsonl", {}),
        ("neurons", "triviaqa", "data/triviaqa-train.parquet", {"split": "train"}),
        ("neurons", "triviaqa", "data/triviaqa/train-0.parquet", {"split": "train"}),
        ("heads", "truthfulqa-mc2", "data/truthfulqa.csv", {}),
        ("heads", "truthfulqa-mc2/chat", "data/truthfulqa.csv", {}),
        ("heads", "truthfulqa-mc2", "own.csv", {"settings": {"truthfulqa-mc2": {"data": "own.csv"}}}),
    ],
)
def test_another_source_file_is_another_readout(tmp_path, data, monkeypatch, family, source, file, more):
    """A readout that is there already was made from what the file held then."""
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)

    def name(text: str) -> str:
        path.write_text(text)
        return made_from(tmp_path, monkeypatch, family, source, **more)

    first = name("one")
    assert name("one") == first and name("two") != first
    assert made_from(tmp_path, monkeypatch, family, source, versions={"torch": "3"}, **more) != name("two")
    assert made_from(tmp_path, monkeypatch, family, source, versions={"polars": "9"}, **more) == name("two")


def test_a_source_file_that_is_not_there_is_told(tmp_path, data, monkeypatch):
    for family, source, file in (("neurons", "jsonl:own/q.jsonl", "q.jsonl"), ("heads", "pairs.csv", "pairs.csv")):
        with pytest.raises(UsageError, match=f"readout 'd' is made from {file}, and there is no such file") as caught:
            made_from(tmp_path, monkeypatch, family, source)
        assert str(tmp_path) not in str(caught.value)
    assert made_from(tmp_path, monkeypatch, "neurons", "triviaqa")  # not here: the hub is asked, later


def test_a_source_that_is_put_another_way_is_another_readout(tmp_path, data, monkeypatch):
    """Its form and its prompts follow the style in which the study uses the benchmark."""
    write_truthfulqa(data, 5)
    (tmp_path / "prompt.txt").write_text("Q: {question}\nA:")
    plain, chat = ({"truthfulqa-mc2": settings} for settings in ({"chat": False}, {"chat": True}))
    file = {"truthfulqa-mc2": {"prompt_file": "prompt.txt"}}
    names = [made_from(tmp_path, monkeypatch, "heads", "truthfulqa-mc2", settings=one) for one in (plain, chat, file)]
    names.append(made_from(tmp_path, monkeypatch, "heads", "truthfulqa-mc2/chat"))
    assert len(set(names)) == 4
    assert made_from(tmp_path, monkeypatch, "heads", "truthfulqa-mc2") == names[0]  # it is plain as it is declared
    (tmp_path / "prompt.txt").write_text("{question}\nThe truth is:")
    assert made_from(tmp_path, monkeypatch, "heads", "truthfulqa-mc2", settings=file) != names[2]


def test_a_study_asks_whole_framings_and_all_replicates(tmp_path, data, monkeypatch):
    """Unless it asks for more: fewer items of an entity than belong together would leave some framings out."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(data))
    write_jbb_harmful(data)
    write_jbb_benign(data)
    shares = {"shares": {"tune": 0.5, "confirm": 0.5}}
    settings = {"jailbreak": {**shares, "replicates": 2}, "jailbreak-benign": shares}
    for limit, per_entity, count in ((None, 2, 100), (None, 9, 100), (30, 2, 30)):
        items = {"limit": limit, "per_entity": per_entity}
        run = run_of(tmp_path, benchmarks=["jailbreak", "jailbreak-benign"], settings=settings, items=items)
        twice, once = run.items("jailbreak", "tune"), run.items("jailbreak-benign", "tune")
        assert len(once) == count and {item.id for item in once} == {item_of(item.id) for item in twice}
        assert len(twice) == 2 * count and len({item.cluster for item in once}) == 20
