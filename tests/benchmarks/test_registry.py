"""Every registered benchmark declares itself; styles, plug-ins, and what a study may change in how one is used."""

import hashlib
import json
import re
import sys
import types
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.fixtures_answers import write_bioasq, write_jbb_benign, write_jbb_harmful, write_triviaqa
from tests.benchmarks.fixtures_choice import write_faitheval, write_falseqa, write_simpleqa, write_truthfulqa

from levercheck.benchmarks.base import (
    BENCHMARKS,
    ROLES,
    Benchmark,
    Item,
    Policy,
    Request,
    Style,
    benchmark_names,
    find_benchmark,
    instructed,
    item_of,
    used,
)
from levercheck.benchmarks.data import FOLDER_VARIABLE, Use
from levercheck.benchmarks.outcomes import Outcome
from levercheck.errors import UsageError

NAMES = benchmark_names()
STYLED = [f"{name}/{style}" for name in NAMES for style in find_benchmark(name).styles]
ENDINGS = {"csv", "json", "jsonl", "parquet"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every data file a benchmark looks for, self-made."""
    folder = tmp_path_factory.mktemp("data")
    for write in (write_bioasq, write_triviaqa, write_jbb_harmful, write_jbb_benign, write_faitheval,
                  write_truthfulqa, write_falseqa, write_simpleqa):  # fmt: skip
        write(folder, 12)
    return folder


@pytest.fixture
def data(files: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Those files are the data folder."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(files))
    return files


def request(use: Use) -> Request:
    return Request(lambda answer: int.from_bytes(answer[:6].encode(), "big"), lambda _: True, 0, use)


def made(use: Use) -> list[Item]:
    return used(use).made(request(use))


def refused(message: str, name: str, **settings: Any) -> None:
    with pytest.raises(UsageError) as caught:
        used(Use(name, **settings))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_shipped() -> None:
    assert set(NAMES) >= {
        "bare-facts", "bioasq", "capability-instructions", "capability-knowledge", "capability-text",
        "counterfactual-context", "facts-answers", "faitheval", "faitheval-logprob", "falseqa", "jailbreak",
        "jailbreak-benign", "nonexist", "simpleqa", "sycophancy", "triviaqa-bridge", "truthfulqa-mc1",
        "truthfulqa-mc2",
    }  # fmt: skip
    assert sorted(set(NAMES)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_declares_itself(name: str) -> None:
    found = find_benchmark(name)
    assert found.id == name and "/" not in name and found.better in {"higher", "lower", None}
    for text in (found.construct, found.metric, found.ruler, found.licence, found.item_id, found.caution):
        assert text.strip() == text != ""
    assert found.styles and found.style_name == next(iter(found.styles)) and not found.chosen
    assert all("/" not in style and style.strip() for style in found.styles)
    assert {"tune", "confirm"} <= set(found.roles) <= set(ROLES)
    scorers = {"score": found.score is not None, "decide": found.decide is not None}
    assert scorers == {"score": found.kind == "answer", "decide": found.kind == "options"}
    assert found.kind in {"choice", "options", "answer"} and found.policy.max_new_tokens >= 1
    assert found.policy.greedy or (found.policy.temperature > 0 and 0 < found.policy.top_p <= 1)
    assert (found.published is None) == (found.source is None)
    if found.source is not None:
        assert found.source.get and found.source.columns and set(found.source.endings) <= ENDINGS
        assert found.source.licence == found.licence


@pytest.mark.parametrize("name", STYLED)
def test_every_style_has_a_name_and_renders(name: str, data: Path) -> None:
    family, _, style = name.partition("/")
    found, plain = find_benchmark(name), find_benchmark(family)
    assert (found.id, found.style_name, found.style) == (name, style, plain.styles[style])
    if family in {"bare-facts", "counterfactual-context"}:
        return  # slow to make, and of one style
    items = made(Use(name))
    assert items and all(item.text for item in items)
    assert len({item.id for item in items}) == len(items) and all(item.cluster for item in items)
    named = re.findall(r"\{(\w+)\}", found.style.template)
    assert named and all(item.fields[field] in item.text for item in items for field in named)
    if found.kind == "options":
        assert all(item.candidates for item in items)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_ruler_knows_of_an_item_is_plain(name: str, data: Path) -> None:
    """It is part of what is locked: a set would be written in another order by the next process."""
    for item in find_benchmark(name).items(request(Use(name)))[:20]:
        assert json.loads(json.dumps(dict(item.facts), allow_nan=False)) == {
            key: list(value) if isinstance(value, tuple) else value for key, value in item.facts.items()
        }


def test_a_choice_has_first_tokens_that_differ(data: Path) -> None:
    for item in made(Use("bare-facts"))[:50]:
        assert len(item.candidates) == len(item.tokens) == 2 and item.tokens[0] != item.tokens[1]


def test_unknown_names_have_the_nearest_beside_them() -> None:
    refused("unknown benchmark 'faithevel' (did you mean 'faitheval'?)", "faithevel")
    refused("unknown benchmark 'simple-qa' (did you mean 'simpleqa'?)", "simple-qa/best-guess")
    refused("benchmark 'faitheval' has no style 'standart' (did you mean 'standard'?)", "faitheval/standart")
    refused("benchmark 'faitheval' has no style '' (valid: anti-compliance, standard)", "faitheval/")
    with pytest.raises(ValueError, match="the benchmark 'faitheval' is registered twice"):
        BENCHMARKS.register("faitheval")(find_benchmark("faitheval"))


LOAVES = Benchmark(
    id="loaves",
    construct="bread",
    metric="bread",
    better=None,
    kind="answer",
    ruler="bread/v1",
    items=lambda _: [
        Item("rye", "loaf:rye", fields={"loaf": "rye"}),
        Item("oats", "loaf:oats", "as it stands {loaf}", fields={"loaf": "oats"}),
    ],
    styles={"short": Style("Bake {loaf}."), "long": Style("Please bake {loaf}.")},
    licence="MIT",
    item_id="name of the loaf",
    score=lambda item, response: Outcome("right", 1.0),
    policy=Policy(greedy=False),
)


def texts(benchmark: Benchmark) -> Mapping[str, str]:
    return {item.id: item.text for item in benchmark.made(request(Use("loaves")))}


def test_items_are_rendered_in_the_style_in_use() -> None:
    own = {"oats": "as it stands {loaf}"}  # a text of its own is no template
    assert texts(LOAVES) == {"rye": "Bake rye.", **own}
    assert texts(replace(LOAVES, chosen="long")) == {"rye": "Please bake rye.", **own}
    with pytest.raises(UsageError, match=r"benchmark 'loaves': the prompt names \{laof\} \(did you mean 'loaf'\?\)"):
        texts(replace(LOAVES, styles={"short": Style("Bake {laof}.")}))


def test_replicates_are_rows_of_their_own() -> None:
    thrice = replace(LOAVES, policy=replace(LOAVES.policy, replicates=3))
    found = thrice.made(request(Use("loaves")))
    assert [item.id for item in found] == ["rye", "rye~2", "rye~3", "oats", "oats~2", "oats~3"]
    assert {(item.cluster, item.text) for item in found[:3]} == {("loaf:rye", "Bake rye.")}


def test_the_mark_of_replicates_is_not_in_an_id() -> None:
    assert [item_of(name) for name in ("rye", "rye~2", "rye~13")] == ["rye"] * 3
    marked = replace(LOAVES, items=lambda _: [Item("rye~2", "a", "x")])
    with pytest.raises(UsageError, match="benchmark 'loaves' has the item id 'rye~2': '~' is for replicates"):
        marked.made(request(Use("loaves")))


def test_an_id_that_comes_twice_is_refused() -> None:
    twice = replace(LOAVES, items=lambda _: [Item("rye", "a", "x"), Item("oats", "b", "y"), Item("rye", "c", "z")])
    with pytest.raises(UsageError, match="benchmark 'loaves' has the item id 'rye' twice: ids must differ"):
        twice.made(request(Use("loaves")))


def test_an_instruction_stands_before_the_item() -> None:
    item = Item("rye", "loaf:rye", "Bake rye.")
    assert (instructed(item, None), instructed(item, "Slowly.")) == ("Bake rye.", "Slowly.\nBake rye.")


def test_a_plug_in_adds_a_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BENCHMARKS, "_found", dict(BENCHMARKS._found))
    points = metadata.EntryPoints(
        [
            metadata.EntryPoint("loaves", "plug_in_of_a_test:loaves", BENCHMARKS.group),
            metadata.EntryPoint("crumbs", "no_such_module_of_a_test", BENCHMARKS.group),
        ]
    )
    monkeypatch.setattr(metadata, "entry_points", lambda **wanted: points.select(**wanted))

    class Module(types.ModuleType):
        """Registers when its attribute is first asked for, as a module would when it is imported."""

        def __getattr__(self, name: str) -> Benchmark:
            if name != "loaves":
                raise AttributeError(name)
            return BENCHMARKS.register("loaves")(LOAVES)

    monkeypatch.setitem(sys.modules, "plug_in_of_a_test", Module("plug_in_of_a_test"))
    assert BENCHMARKS.group == "levercheck.benchmarks"
    assert set(benchmark_names()) == {*NAMES, "loaves", "crumbs"}
    assert "loaves" not in BENCHMARKS._found
    assert find_benchmark("loaves/long").style.template == "Please bake {loaf}."
    assert [item.id for item in made(Use("loaves", replicates=2))] == ["rye", "rye~2", "oats", "oats~2"]
    refused("unknown benchmark 'loavse' (did you mean 'loaves'?)", "loavse")
    refused("the plug-in 'no_such_module_of_a_test' of the benchmark 'crumbs' cannot be loaded", "crumbs")


def test_a_prompt_file_replaces_the_template_alone(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Tell me: {question}\n")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    plain, found = find_benchmark("bare-facts"), used(Use("bare-facts", prompt_file=path))
    assert found.style_name == f"file:mine.txt@{digest[:12]}"
    assert found.style == replace(plain.style, template="Tell me: {question}")
    for item in made(Use("simpleqa/best-guess", prompt_file=path)):
        assert item.text == f"Tell me: {item.fields['question']}"
    assert find_benchmark("bare-facts").style_name == "few-shot"  # what is registered stays
    path.write_text("Tell me: {qestion}")
    assert used(Use("simpleqa", prompt_file=path)).style_name != found.style_name
    with pytest.raises(UsageError, match=r"benchmark 'simpleqa': the prompt names \{qestion\}.*'question'"):
        made(Use("simpleqa", prompt_file=path))
    path.write_text("Tell me.")
    refused("mine.txt names no field in braces", "simpleqa", prompt_file=path)


def test_a_prompt_can_be_put_in_a_chat_or_plainly() -> None:
    plain = find_benchmark("simpleqa/best-guess")
    assert plain.style.chat
    off = used(Use("simpleqa/best-guess", chat=False))
    assert (off.style, off.style_name) == (replace(plain.style, chat=False, joint=" "), "best-guess+plain")
    same = used(Use("simpleqa/best-guess", chat=True))
    assert (same.style, same.style_name) == (plain.style, "best-guess")
    on = used(Use("facts-answers", chat=True))
    assert on.style == replace(find_benchmark("facts-answers").style, chat=True, joint="")
    assert on.style_name == "few-shot+chat"


def test_what_stands_before_a_candidate_follows_the_chat() -> None:
    """A chat's answer begins on its own; a plain text goes on behind a space. Both styles are there to compare with."""
    plain, chat = find_benchmark("truthfulqa-mc1/plain").style, find_benchmark("truthfulqa-mc1/chat").style
    assert (plain.joint, chat.joint) == (" ", "")
    assert used(Use("truthfulqa-mc1/plain", chat=True)).style == replace(plain, chat=True, joint=chat.joint)
    assert used(Use("truthfulqa-mc1/chat", chat=False)).style == replace(chat, chat=False, joint=plain.joint)
    assert used(Use("truthfulqa-mc1/plain", chat=False)).style == plain


def test_a_prompt_file_that_is_put_another_way_says_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Tell me: {question}")
    name = f"file:mine.txt@{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    for benchmark, chat, expected in (
        ("simpleqa", None, name),
        ("simpleqa", True, name),
        ("simpleqa", False, f"{name}+plain"),
        ("truthfulqa-mc1", True, f"{name}+chat"),
    ):
        found = used(Use(benchmark, prompt_file=path, chat=chat))
        assert found.style_name == expected and found.style.template == "Tell me: {question}"
        assert found.style.chat is (find_benchmark(benchmark).style.chat if chat is None else chat)


@pytest.mark.parametrize("name", [name for name in NAMES if find_benchmark(name).source is None])
def test_what_ships_with_its_items_has_no_data_to_name(name: str, tmp_path: Path) -> None:
    for key, value in (("data", tmp_path / "own.csv"), ("split", "test"), ("revision", "sha256:00")):
        refused(f"'{name}' ships with its items: leave out '{key}'", name, **{key: value})


def test_a_benchmark_that_writes_its_prompts_takes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file would be read, and its digest recorded, and another text would be asked."""
    (tmp_path / "mine.txt").write_text("Bake {loaf} well.")
    monkeypatch.setattr(BENCHMARKS, "_found", {**BENCHMARKS._found, "loaves": LOAVES})
    with pytest.raises(UsageError, match="benchmark 'loaves' writes its prompts itself: leave out prompt_file"):
        made(Use("loaves", prompt_file=tmp_path / "mine.txt"))
    rye = replace(LOAVES, items=lambda asked: LOAVES.items(asked)[:1])  # written from the template
    monkeypatch.setitem(BENCHMARKS._found, "loaves", rye)
    assert [item.text for item in made(Use("loaves", prompt_file=tmp_path / "mine.txt"))] == ["Bake rye well."]


def test_items_that_belong_together_are_asked_together(data: Path) -> None:
    """As many of every entity as it has framings, so that no framing is left out of any."""
    declared = {name: find_benchmark(name).per_entity for name in NAMES if find_benchmark(name).per_entity > 1}
    assert declared == {"jailbreak": 5, "jailbreak-benign": 5, "capability-instructions": 2}
    for name, count in declared.items():
        assert set(Counter(item.cluster for item in made(Use(name))).values()) == {count}


def test_caps_and_replicates(data: Path) -> None:
    plain = find_benchmark("jailbreak")
    found = used(Use("jailbreak", max_new_tokens=9, replicates=3))
    assert found.policy == replace(plain.policy, max_new_tokens=9, replicates=3)
    assert (found.style_name, found.style) == (plain.style_name, plain.style)
    single, items = made(Use("jailbreak")), made(Use("jailbreak", replicates=3))
    assert Counter(item.id.partition("~")[2] for item in items) == dict.fromkeys(("", "2", "3"), len(single))
    assert [item.id for item in items if "~" not in item.id] == [item.id for item in single]
    refused("'simpleqa' is answered greedily: replicates would all be alike", "simpleqa", replicates=2)
    refused(
        "'truthfulqa-mc1' generates nothing: leave out max_new_tokens and replicates", "truthfulqa-mc1", replicates=2
    )
    refused("'bare-facts' generates nothing", "bare-facts", max_new_tokens=5)
    assert used(Use("simpleqa", replicates=1)).policy == find_benchmark("simpleqa").policy
    assert used(Use("simpleqa")) == find_benchmark("simpleqa")
