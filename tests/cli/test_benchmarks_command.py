"""`levercheck benchmarks`: the list, real items with their prompts, manifests, and mistakes in one line."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.fixtures_answers import write_jbb_harmful, write_triviaqa
from tests.benchmarks.fixtures_choice import write_faitheval, write_simpleqa, write_truthfulqa

from levercheck.benchmarks.base import Item, Request, benchmark_names, find_benchmark, used
from levercheck.benchmarks.data import FOLDER_VARIABLE, Use
from levercheck.benchmarks.manifests import read_manifest
from levercheck.cli.app import main


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some data files, self-made; TriviaQA as a folder with a split."""
    folder = tmp_path_factory.mktemp("data")
    for write in (write_faitheval, write_simpleqa, write_truthfulqa, write_jbb_harmful):
        write(folder)
    (folder / "triviaqa").mkdir()
    write_triviaqa(folder).rename(folder / "triviaqa" / "validation-00000-of-00001.parquet")
    return folder


@pytest.fixture(autouse=True)
def data(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Those files are the data folder, and the hub is out of reach."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(files))
    monkeypatch.setitem(sys.modules, "datasets", None)
    return files


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder is empty."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "none"))
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command: its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["benchmarks", *map(str, arguments)])
        assert isinstance(stopped.value.code, int)
        shown = capsys.readouterr()
        return stopped.value.code, shown.out, shown.err

    return run


def made(use: Use) -> dict[str, Item]:
    items = used(use).made(Request(lambda _: 0, lambda _: True, 0, use))
    return {item.id: item for item in items}


def shown_ids(out: str) -> list[str]:
    return re.findall(r"^(\S+) -{5,}$", out, re.MULTILINE)


def test_the_list_names_every_benchmark_and_where_its_data_are(call: Any) -> None:
    code, out, err = call()
    assert (code, err) == (0, "")
    cells = [[cell.strip() for cell in line.split("│")] for line in out.splitlines() if line.count("│") == 4]
    rows = {cell[0]: cell[1:] for cell in cells if cell[0]}
    assert list(rows) == benchmark_names()
    assert rows["faitheval"] == ["lower", "answer", "anti-compliance, standard", "here"]
    assert rows["bioasq"] == ["higher", "answer", "answer-alone", "missing"]
    assert (rows["bare-facts"][-1], rows["triviaqa-bridge"][-1]) == ("shipped", "here")
    for name in benchmark_names():
        assert f"\n{name}: {find_benchmark(name).construct}\n" in out


def test_the_list_as_json(call: Any, empty: Path) -> None:
    code, out, _ = call("--json")
    rows = {row["id"]: row for row in json.loads(out)}
    assert code == 0 and list(rows) == benchmark_names()
    for name, row in rows.items():
        benchmark = find_benchmark(name)
        for field in ("construct", "metric", "better", "caution", "kind", "ruler", "item_id", "licence"):
            assert row[field] == getattr(benchmark, field)
        assert (row["styles"], row["roles"]) == (list(benchmark.styles), list(benchmark.roles))
        source = benchmark.source
        assert row["data"] == ("shipped" if source is None else f"to get: {source.get}")
    assert rows["faitheval"]["dataset"] == "Salesforce/FaithEval-counterfactual-v1.0"
    assert rows["jailbreak"]["revision"] == "886acc352a31533ffbcf4ef22c744658688086fc"
    assert rows["bioasq"]["dataset"] is None


def test_items_are_shown_as_a_model_reads_them(call: Any) -> None:
    code, out, err = call("show", "faitheval/standard", "-n", "2")
    items, found = made(Use("faitheval/standard")), shown_ids(out)
    assert (code, err) == (0, "") and len(set(found)) == 2 and set(found) <= set(items)
    for name in found:
        assert f"\n{items[name].text}\n" in out and f"cluster {items[name].cluster};" in out
    benchmark = find_benchmark("faitheval")
    for part in (benchmark.metric, benchmark.caution, benchmark.licence, "standard (chat)", "at most 256 tokens"):
        assert part in out
    assert re.search(r"^items +40$", out, re.MULTILINE) and re.search(r"^data +here$", out, re.MULTILINE)
    assert shown_ids(call("show", "faitheval/standard", "-n", "2")[1]) == found
    assert shown_ids(call("show", "faitheval/standard", "-n", "2", "--seed", "9")[1]) != found
    assert len(shown_ids(call("show", "faitheval")[1])) == 3


def test_candidates_and_second_turns_are_shown(call: Any) -> None:
    _, out, _ = call("show", "truthfulqa-mc1", "-n", "1")
    (name,) = shown_ids(out)
    for number, candidate in enumerate(made(Use("truthfulqa-mc1"))[name].candidates):
        assert f"  candidate {number}: {candidate}\n" in out
    _, out, _ = call("show", "sycophancy", "-n", "1", "--split", "validation")
    assert f"[the model's answer]\n{find_benchmark('sycophancy').style.then}\n" in out
    assert "sampled: T 0.7, top-k 50, top-p 0.95" in out
    _, out, _ = call("show", "facts-answers", "-n", "1")
    assert find_benchmark("facts-answers").style.prefix in out


def test_items_as_json(call: Any) -> None:
    code, out, _ = call("show", "simpleqa", "-n", "4", "--json")
    told, items = json.loads(out), made(Use("simpleqa"))
    assert code == 0 and told["count"] == 40 == len(items) and len(told["items"]) == 4
    for one in told["items"]:
        item = items[one["id"]]
        assert (one["prompt"], one["cluster"]) == (item.text, item.cluster)
        assert one["facts"] == {**item.facts, "aliases": list(item.facts["aliases"])} and one["candidates"] == []
    assert told["id"] == "simpleqa" and told["style"] == "escape-hatch (chat)"
    assert json.loads(call("show", "simpleqa", "-n", "100", "--json")[1])["count"] == 40


def test_a_prompt_file_is_shown_in_use(call: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.txt"
    path.write_text("Tell me: {question}")
    code, out, _ = call("show", "simpleqa", "-n", "1", "--prompt-file", path, "--json")
    told = json.loads(out)
    (one,) = told["items"]
    assert code == 0 and one["prompt"] == f"Tell me: {made(Use('simpleqa'))[one['id']].fields['question']}"
    assert told["style"].startswith(f"file:own.txt@{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}")
    path.write_text("Tell me: {qestion}")
    mistake(call("show", "simpleqa", "--prompt-file", path, "--json"), 2, "{qestion} (did you mean 'question'?)")
    mistake(call("show", "simpleqa", "--prompt-file", tmp_path / "no.txt"), 2, "prompt_file no.txt cannot be read")


def test_the_text_of_an_item_cannot_drive_the_terminal(call: Any, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("original_index,problem,answer\n7,What is [bold]\x1b[31mred\x1b[0m?,beet\x1b]0;x\x07root\n")
    code, out, _ = call("show", "simpleqa", "--data", path)
    assert code == 0 and "What is [bold]" in out and shown_ids(out) == ["simpleqa-7"]
    assert not [character for character in out if not character.isprintable() and character != "\n"]


def mistake(done: tuple[int, str, str], code: int, *words: str) -> None:
    found, _, err = done
    assert found == code and err.startswith("levercheck: ") and err.count("\n") == 1
    assert all(word in err for word in words), err


def test_missing_data_are_one_line_with_what_to_get(call: Any, empty: Path) -> None:
    done = call("show", "truthfulqa-mc1", "--json")
    mistake(done, 3, "no data for 'truthfulqa-mc1'", "get TruthfulQA.csv of", "truthfulqa.csv", FOLDER_VARIABLE)
    assert done[1] == ""
    done = call("show", "simpleqa")
    mistake(done, 3, "no data for 'simpleqa'", "pip install datasets", "simpleqa_verified.csv")
    assert find_benchmark("simpleqa").metric in done[1] and not shown_ids(done[1])
    mistake(call("manifest", "falseqa", "--size", "tune=5", "--out", empty / "m.json"), 3, "no data for 'falseqa'")
    assert not (empty / "m.json").exists()
    code, out, err = call("show", "truthfulqa-mc1", "-n", "0")  # what it measures needs no data
    assert (code, err) == (0, "") and find_benchmark("truthfulqa-mc1").metric in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "faithevel"], "did you mean 'faitheval'"),
        (["show", "faitheval/standart"], "did you mean 'standard'"),
        (["show", "faitheval", "--data", "none.parquet"], "none.parquet: no such file"),
        (["show", "faitheval", "--split", "test"], "split 'test' was asked of the file faitheval.parquet"),
        (["show", "triviaqa-bridge", "--split", "trian"], "no split 'trian'"),
        (["show", "faitheval", "-n", "-1"], "-1"),
        (["show"], "ID"),
    ],
)
def test_mistakes_of_show(call: Any, tmp_path: Path, arguments: list[str], words: str) -> None:
    mistake(call(*arguments), 2, words)


def test_a_manifest_by_sizes(call: Any, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "own.json"
    sizes = ["--size", "tune=6", "--size", "confirm=20"]
    code, told, err = call("manifest", "truthfulqa-mc1", *sizes, "--seed", "3", "--out", out)
    assert (code, err, told) == (0, "", f"{out}: 6 tune, 20 confirm\n")
    found = read_manifest(out)
    assert {role: len(names) for role, names in found.roles.items()} == {"tune": 6, "confirm": 20}
    assert set(found.role_of) <= set(made(Use("truthfulqa-mc2"))) and (found.source, found.seed) == ("truthfulqa", 3)
    sha = hashlib.sha256((data / "truthfulqa.csv").read_bytes()).hexdigest()
    assert found.data == {"files": [{"name": "truthfulqa.csv", "sha256": sha}], "split": None}
    again, other = tmp_path / "again.json", tmp_path / "other.json"
    call("manifest", "truthfulqa-mc2/chat", *sizes, "--seed", "3", "--out", again)
    assert again.read_bytes() == out.read_bytes()  # one data set: one draw
    call("manifest", "truthfulqa-mc1", *sizes, "--seed", "4", "--out", other)
    assert read_manifest(other).roles != found.roles


def test_a_manifest_of_a_split_and_of_whole_clusters(call: Any, tmp_path: Path) -> None:
    out = tmp_path / "bridge.json"
    code, _, err = call("manifest", "triviaqa-bridge", "--size", "confirm=9", "--split", "validation", "--out", out)
    assert (code, err) == (0, "") and read_manifest(out).data["split"] == "validation"
    out = tmp_path / "jailbreak.json"
    code, told, _ = call("manifest", "jailbreak", "--size", "tune=50", "--size", "confirm=100", "--out", out)
    assert (code, told) == (0, f"{out}: 50 tune, 100 confirm\n")
    behaviours = {role: Counter(name.split("-")[1] for name in ids) for role, ids in read_manifest(out).roles.items()}
    assert {role: set(framings.values()) for role, framings in behaviours.items()} == {"tune": {5}, "confirm": {5}}
    assert not behaviours["tune"].keys() & behaviours["confirm"].keys()


def test_a_role_that_gets_fewer_items_than_were_asked_for_is_told(call: Any, tmp_path: Path) -> None:
    out = tmp_path / "jailbreak.json"
    code, told, err = call("manifest", "jailbreak", "--size", "tune=48", "--size", "confirm=100", "--out", out)
    note = "role tune has 45 of 48 items: items of an entity stay together"
    assert (code, err, told.splitlines()) == (0, "", [note, f"{out}: 45 tune, 100 confirm"])


def test_data_without_an_item_are_told(call: Any, tmp_path: Path) -> None:
    path = tmp_path / "falseqa.csv"
    path.write_text("question,answer,label\nWhere do trout swim?,In rivers.,0\n")  # a true premise: none is asked
    mistake(call("show", "falseqa", "--data", path, "--json"), 4, "the data of 'falseqa' hold no item")
    out = tmp_path / "own.json"
    mistake(call("manifest", "falseqa", "--data", path, "--size", "tune=1", "--out", out), 4, "hold no item")


def test_a_manifest_of_what_is_shipped(call: Any, tmp_path: Path) -> None:
    out = tmp_path / "text.json"
    assert call("manifest", "capability-text", "--size", "tune=8", "--out", out)[0] == 0
    found = read_manifest(out)
    assert (found.source, found.data, len(found.roles["tune"])) == ("capability-text", {}, 8)


def test_manifests_by_folds(call: Any, tmp_path: Path) -> None:
    out = tmp_path / "folds"
    arguments = ["manifest", "truthfulqa-mc1", "--folds", "2", "--seed", "42", "--out", out]
    code, told, err = call(*arguments)
    assert (code, err) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == ["fold-0.json", "fold-1.json"]
    first, second = (read_manifest(out / f"fold-{number}.json") for number in (0, 1))
    assert told.splitlines() == [f"{out}/fold-{n}.json: 15 readout, 3 select, 4 tune, 18 confirm" for n in (0, 1)]
    assert first.roles["tune"] == second.roles["tune"]
    confirmed = [*first.roles["confirm"], *second.roles["confirm"]]
    assert sorted([*confirmed, *first.roles["tune"]]) == sorted(made(Use("truthfulqa-mc1")))
    none = ["--calibration", "0", "--json", "--out", tmp_path / "none"]
    code, told, _ = call(*arguments[:-2], *none)
    for path, body in json.loads(told).items():
        assert "tune" not in body["roles"] and read_manifest(Path(path)).to_dict() == body


def test_nothing_is_written_over(call: Any, tmp_path: Path) -> None:
    out = tmp_path / "own.json"
    out.write_text("mine")
    mistake(call("manifest", "truthfulqa-mc1", "--size", "tune=6", "--out", out), 2, "own.json' exists")
    mistake(call("manifest", "truthfulqa-mc1", "--folds", "2", "--out", tmp_path), 2, "exists: give another --out")
    assert out.read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["own.json"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--size", "tune"], 2, "--size tune: expected role=items, such as confirm=500"),
        (["--size", "tune="], 2, "--size tune=: expected role=items"),
        (["--size", "tune=0"], 2, "--size tune=0: expected role=items"),
        (["--size", "tune=-3"], 2, "--size tune=-3: expected role=items"),
        (["--size", "tune=many"], 2, "--size tune=many: expected role=items"),
        (["--size", "tune=²"], 2, "--size tune=²: expected role=items"),
        (["--size", "tune=5", "--size", "conform=9"], 2, "unknown role 'conform' (did you mean 'confirm'?)"),
        (["--size", "=5"], 2, "unknown role ''"),
        (["--size", "tune=41"], 4, "41 items are asked for and 'truthfulqa' has 40: ask for fewer"),
        (["--folds", "40"], 4, "'truthfulqa' has 40 clusters, too few for 40 folds"),
        (["--folds", "1"], 2, "1"),
        (["--folds", "2", "--calibration", "1"], 2, "1"),
        (["--folds", "2", "--size", "tune=5"], 2, "expected either --size role=items or --folds"),
        ([], 2, "expected either --size role=items or --folds"),
        (["--size", "tune=5", "--seed", "-1"], 2, "-1"),
    ],
)
def test_mistakes_of_manifest(call: Any, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    mistake(call("manifest", "truthfulqa-mc1", *arguments, "--out", tmp_path / "own.json"), code, words)
    assert not list(tmp_path.iterdir())


def test_a_role_that_is_given_twice_is_refused(call: Any, tmp_path: Path) -> None:
    twice = ["--size", "tune=5", "--size", "tune=9", "--out", tmp_path / "own.json"]
    mistake(call("manifest", "truthfulqa-mc1", *twice), 2, "--size gives role tune twice")
