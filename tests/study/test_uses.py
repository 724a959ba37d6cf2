"""Settings of benchmarks and declared readouts in a study file."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from levercheck.benchmarks.data import Use
from levercheck.errors import UsageError
from levercheck.study.spec import Readout, StudySpec, read_study
from levercheck.study.uses import benchmark_of, check_ready, check_source, use_of, uses_of

STUDY: dict[str, Any] = {
    "study": "uses",
    "model": "embedded:smollm2-135m",
    "readouts": {"h": {"family": "neurons"}},
    "interventions": {"scale": {"readout": "h", "doses": [0, 2]}},
    "benchmarks": ["faitheval/standard", "faitheval/anti-compliance", "simpleqa", "jailbreak"],
}


def study(folder: Path, **changes: Any) -> StudySpec:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({**copy.deepcopy(STUDY), **changes}))
    return read_study(path)


def refused(folder: Path, message: str, **changes: Any) -> None:
    with pytest.raises(UsageError) as caught:
        study(folder, **changes)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_without_settings_a_benchmark_is_used_as_it_declares(tmp_path: Path) -> None:
    uses = uses_of(study(tmp_path), tmp_path)
    assert uses == [Use(name) for name in STUDY["benchmarks"]]  # in the order of the study


def test_settings_of_the_name_with_the_style_come_before_those_of_the_family(tmp_path: Path) -> None:
    spec = study(
        tmp_path,
        settings={
            "faitheval": {"max_new_tokens": 9, "split": "test"},
            "faitheval/standard": {"chat": False},
            "jailbreak": {"replicates": 2},
        },
    )
    standard, other, simple, jailbreak = uses_of(spec, tmp_path)
    assert other == Use("faitheval/anti-compliance", max_new_tokens=9, split="test")
    assert standard == Use("faitheval/standard", chat=False)  # whole: nothing of the family's is mixed in
    assert (simple, jailbreak) == (Use("simpleqa"), Use("jailbreak", replicates=2))
    assert benchmark_of(spec, tmp_path, "faitheval/anti-compliance").policy.max_new_tokens == 9
    assert benchmark_of(spec, tmp_path, "faitheval/standard").style_name == "standard+plain"


def test_every_setting_reaches_its_use(tmp_path: Path) -> None:
    settings = {
        "data": "data/own.csv", "split": "test", "revision": "sha256:00", "prompt_file": "own.txt", "chat": True,
        "manifest": "manifests/own.json", "shares": {"tune": 0.25, "confirm": 0.75}, "max_new_tokens": 7,
        "replicates": 3,
    }  # fmt: skip
    spec = study(tmp_path, settings={"simpleqa": settings})
    base = tmp_path.resolve()
    assert use_of(spec, tmp_path, "simpleqa") == Use(
        "simpleqa", base / "data" / "own.csv", "test", "sha256:00", base / "own.txt", True,
        base / "manifests" / "own.json", (("confirm", 0.75), ("tune", 0.25)), 7, 3,
    )  # fmt: skip


@pytest.mark.parametrize("key", ["data", "prompt_file", "manifest"])
@pytest.mark.parametrize("path", ["../up.csv", "in/../../up.csv", "/etc/hosts"])
def test_paths_stay_inside_the_folder_of_the_study(tmp_path: Path, key: str, path: str) -> None:
    spec = study(tmp_path, settings={"simpleqa": {key: path}})
    with pytest.raises(UsageError) as caught:
        uses_of(spec, tmp_path)
    assert str(caught.value).startswith(f"path '{path}' leaves the study's folder")
    inner = study(tmp_path, settings={"simpleqa": {key: "in/../own.csv"}})
    assert getattr(use_of(inner, tmp_path, "simpleqa"), key) == tmp_path.resolve() / "own.csv"


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "outside.csv").write_text("x")
    (home / "own.csv").symlink_to(tmp_path / "outside.csv")
    with pytest.raises(UsageError, match="leaves the study's folder"):
        use_of(study(home, settings={"simpleqa": {"data": "own.csv"}}), home, "simpleqa")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"simpleqa": {"dta": "x"}}, "unknown key 'dta' in settings.simpleqa (did you mean 'data'?)"),
        ({"simpleqa": {"prompt": "x"}}, "unknown key 'prompt' in settings.simpleqa (did you mean 'prompt_file'?)"),
        ({"simple-qa": {}}, "settings are of 'simple-qa' (did you mean 'simpleqa'?)"),
        ({"faitheval/standart": {}}, "settings are of 'faitheval/standart' (did you mean 'faitheval/standard'?)"),
        ({"falseqa": {}}, "settings are of 'falseqa' ("),
        ({"simpleqa": {"max_new_tokens": 0}}, "settings.simpleqa.max_new_tokens is 0"),
        ({"simpleqa": {"replicates": 0}}, "settings.simpleqa.replicates is 0"),
        ({"simpleqa": {"chat": "perhaps"}}, "settings.simpleqa.chat is 'perhaps'"),
        ({"simpleqa": {"shares": {"tuna": 1.0}}}, "unknown role 'tuna' (did you mean 'tune'?)"),
        ({"simpleqa": {"shares": {"tune": 0.5, "confirm": 0.4}}}, "shares of the roles must not be negative and sum"),
        ({"simpleqa": {"shares": {"tune": 1.5, "confirm": -0.5}}}, "shares of the roles must not be negative and sum"),
    ],
)
def test_mistakes_in_settings_are_one_line(tmp_path: Path, settings: Any, message: str) -> None:
    refused(tmp_path, message, settings=settings)


def test_an_empty_table_of_shares_is_refused(tmp_path: Path) -> None:
    refused(tmp_path, "shares of the roles must not be negative and sum", settings={"simpleqa": {"shares": {}}})


def test_benchmarks_that_do_not_exist_are_told_with_the_nearest(tmp_path: Path) -> None:
    for name, message in (
        ("simpleqq", r"unknown benchmark 'simpleqq' \(did you mean 'simpleqa'\?\)"),
        ("faitheval/standart", r"benchmark 'faitheval' has no style 'standart' \(did you mean 'standard'\?\)"),
    ):
        spec = study(tmp_path, benchmarks=[name])
        with pytest.raises(UsageError, match=message):
            benchmark_of(spec, tmp_path, name)


NEURONS = {"samples": 10, "mode": "3-vs-1", "split": "train"}
CONTRAST = {"position": "mean", "shuffled": 3, "form": "chat"}


@pytest.mark.parametrize(
    "declared",
    [
        {"family": "neurons", "source": "triviaqa", "limit": 9, "C": 0.5, **NEURONS},
        {"family": "direction", "source": "contrast.jsonl", "limit": 9, "C": 0.5, **CONTRAST},
        {"family": "heads", "source": "truthfulqa-mc2", **CONTRAST},
    ],
)
def test_a_readout_is_declared_with_the_fields_of_its_family(tmp_path: Path, declared: Any) -> None:
    found = study(tmp_path, readouts={"h": declared, "saved": "readouts/saved"}).readouts
    assert {name: getattr(found["h"], name) for name in declared} == declared
    assert found["saved"] == Readout(folder="readouts/saved") and found["h"].folder is None
    assert Readout(family=declared["family"]).source == "facts"


@pytest.mark.parametrize(
    ("family", "source", "message"),
    [
        ("neurons", "triviaqq", "made from 'triviaqq' (did you mean 'triviaqa'?)"),
        ("neurons", "jsonl:own/none.jsonl", "made from 'own/none.jsonl', which is not there"),
        ("neurons", "none.jsonl", "made from 'none.jsonl', which is not there"),
        ("direction", "fact", "made from 'fact' (did you mean 'facts'?)"),
        ("direction", "simpleqa", "made from 'simpleqa' ("),  # no labels: no contrast data
        ("heads", "truthfulqa-mc3", "made from 'truthfulqa-mc3' (did you mean 'truthfulqa-mc"),
        ("heads", "none.csv", "made from 'none.csv', which is not there"),
        ("heads", "../own.csv", "path '../own.csv' leaves the study's folder"),
    ],
)
def test_what_a_readout_is_made_from_is_checked_before_anything_is_computed(
    tmp_path: Path, family: str, source: str, message: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    spec = study(home, readouts={"h": {"family": family, "source": source}})
    for check in (lambda: check_source("h", spec.readouts["h"], home), lambda: check_ready(spec, home)):
        with pytest.raises(UsageError) as caught:
            check()
        assert message in str(caught.value) and "\n" not in str(caught.value) and str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "source"),
    [
        ("neurons", "facts:capital"), ("neurons", "triviaqa"), ("neurons", "jsonl:own.jsonl"), ("neurons", "own.jsonl"),
        ("direction", "facts"), ("direction", "own.jsonl"), ("heads", "truthfulqa-mc2/chat"), ("heads", "jailbreak"),
    ],
)  # fmt: skip
def test_what_a_readout_can_be_made_from(tmp_path: Path, family: str, source: str) -> None:
    (tmp_path / "own.jsonl").write_text("")
    check_ready(study(tmp_path, readouts={"h": {"family": family, "source": source}}), tmp_path)


def test_what_a_run_would_miss_late_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("{question}")
    file, plain = {"prompt_file": "short.txt"}, {"chat": False}
    for changes, message in (
        ({"readouts": {"h": "readouts/h"}}, "readout 'h': no folder 'readouts/h' beside the study: fit it"),
        ({"settings": {"jailbreak": {"manifest": "own.json"}}}, "manifest own.json cannot be read"),
        ({"settings": {"jailbreak": {"prompt_file": "none.txt"}}}, "prompt_file none.txt cannot be read"),
        ({"settings": {"faitheval": file}}, "'faitheval/standard' and 'faitheval/anti-compliance' are the same bench"),
        ({"benchmarks": ["simpleqa", "simpleqa/escape-hatch"]}, "'simpleqa' and 'simpleqa/escape-hatch' are the same"),
    ):
        with pytest.raises(UsageError) as caught:
            check_ready(study(tmp_path, **changes), tmp_path)
        assert message in str(caught.value) and "\n" not in str(caught.value)
    (tmp_path / "readouts" / "h").mkdir(parents=True)
    check_ready(study(tmp_path, readouts={"h": "readouts/h"}, settings={"faitheval/standard": file}), tmp_path)
    twice = {"simpleqa/escape-hatch": plain}  # asked in two ways
    check_ready(study(tmp_path, benchmarks=["simpleqa", "simpleqa/escape-hatch"], settings=twice), tmp_path)


def test_a_text_alone_is_the_folder_of_a_readout(tmp_path: Path) -> None:
    short, long = (study(tmp_path, readouts={"h": value}) for value in ("readouts/h", {"folder": "readouts/h"}))
    assert short == long and short.fingerprint == long.fingerprint
    assert study(tmp_path).fingerprint != short.fingerprint


def test_settings_may_be_of_what_a_readout_is_made_from(tmp_path: Path) -> None:
    heads = {"h": {"family": "heads", "source": "truthfulqa-mc2"}}
    settings = {"truthfulqa-mc2": {"data": "own.csv", "chat": True}}
    use = use_of(study(tmp_path, readouts=heads, settings=settings), tmp_path, "truthfulqa-mc2")
    assert use == Use("truthfulqa-mc2", data=tmp_path.resolve() / "own.csv", chat=True)
    styled = {"h": {"family": "heads", "source": "truthfulqa-mc2/chat"}}
    for name in ("truthfulqa-mc2", "truthfulqa-mc2/chat"):
        spec = study(tmp_path, readouts=styled, settings={name: {"data": "own.csv"}})
        assert use_of(spec, tmp_path, "truthfulqa-mc2/chat").data == tmp_path.resolve() / "own.csv"
    refused(tmp_path, "settings are of 'truthfulqa-mc1' (did you mean 'truthfulqa-mc2'?)", readouts=heads,
            settings={"truthfulqa-mc1": {}})  # fmt: skip


WRONG = [
    *(({"family": "neurons", name: value}, f"family neurons has no '{name}'") for name, value in CONTRAST.items()),
    *(({"family": "heads", name: value}, f"family heads has no '{name}'") for name, value in NEURONS.items()),
    *(({"family": "direction", name: value}, f"family direction has no '{name}'") for name, value in NEURONS.items()),
    ({"family": "neurons", "limit": 0}, "greater than or equal to 1"),
    ({"family": "neurons", "samples": 0}, "greater than or equal to 1"),
    ({"family": "neurons", "C": 0}, "greater than 0"),
    ({"family": "neurons", "mode": "2-vs-1"}, "'1-vs-1' or '3-vs-1'"),
    ({"family": "heads", "position": "first"}, "'last' or 'mean'"),
    ({"family": "heads", "shuffled": -1}, "greater than or equal to 0"),
    ({"family": "heads", "form": "text"}, "'plain' or 'chat'"),
    ({"family": "neuron"}, "'neurons', 'direction' or 'heads'"),
    *(
        ({"folder": "readouts/h", name: value}, f"in a folder has no '{name}'")
        for name, value in {**NEURONS, **CONTRAST, "limit": 9, "C": 0.5}.items()
    ),
    ({"folder": "readouts/h", "family": "heads"}, "needs either a folder or a family"),
    ({"source": "facts"}, "needs either a folder or a family (neurons, direction, heads) to make one of"),
    ({}, "needs either a folder or a family"),
]


@pytest.mark.parametrize(("declared", "message"), WRONG)
def test_a_readout_that_does_not_fit_is_refused(tmp_path: Path, declared: Any, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Readout.model_validate(declared)
    assert len(caught.value.errors()) == 1 and message in caught.value.errors()[0]["msg"]
    refused(tmp_path, "'study.yaml': readouts.h", readouts={"h": declared})


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        *WRONG,
        ({"family": "neurons", "sampels": 3}, "unknown key 'sampels' in readouts.h (did you mean 'samples'?)"),
        (["readouts/h"], "readouts.h is ['readouts/h']"),
        (3, "readouts.h is 3"),
    ],
)
def test_a_mistake_in_a_readout_is_told_with_its_key(tmp_path: Path, declared: Any, message: str) -> None:
    refused(tmp_path, message, readouts={"h": declared})
