import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.benchmarks.fixtures_choice import (
    TRUTHFULQA_HEADER,
    faitheval_rows,
    falseqa_rows,
    simpleqa_rows,
    truthfulqa_rows,
    write_csv,
    write_faitheval,
    write_falseqa,
    write_original_simpleqa,
    write_simpleqa,
    write_truthfulqa,
)

from levercheck.benchmarks.base import Benchmark, Item, Request, Scored, find_benchmark
from levercheck.benchmarks.data import Use
from levercheck.benchmarks.item_ids import distinct, text_id
from levercheck.benchmarks.outcomes import Outcome, Response, scored
from levercheck.benchmarks.truthfulqa import masses
from levercheck.errors import MissingError, UsageError

WRITERS = {
    "faitheval": write_faitheval,
    "faitheval-logprob": write_faitheval,
    "truthfulqa-mc1": write_truthfulqa,
    "truthfulqa-mc2": write_truthfulqa,
    "falseqa": write_falseqa,
    "simpleqa": write_simpleqa,
}
Rows = list[dict[str, Any]]


def made(name: str, path: Path | None) -> list[Item]:
    request = Request(first_token=lambda text: 0, knows=lambda name: True, seed=0, use=Use(name, data=path))
    return find_benchmark(name).made(request)


def answered(benchmark: Benchmark, item: Item, text: str) -> Outcome:
    assert benchmark.score is not None
    return benchmark.score(item, Response(text, "stop", 5))


def decided(name: str, item: Item, logprobs: list[float]) -> Outcome:
    decide = find_benchmark(name).decide
    assert decide is not None and len(item.candidates) == len(logprobs)
    return decide(item, [Scored(value, 3) for value in logprobs])


def fails(name: str, path: Path, *parts: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(name, path)
    message = str(caught.value)
    assert "\n" not in message and str(path.parent) not in message
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize("name", WRITERS)
def test_every_benchmark_declares_itself(name: str, tmp_path: Path) -> None:
    benchmark = find_benchmark(name)
    assert benchmark.id == name and benchmark.source is not None
    for text in (benchmark.construct, benchmark.metric, benchmark.ruler, benchmark.caution, benchmark.item_id):
        assert text and "{" not in text
    assert (benchmark.score is None) == (benchmark.kind == "options") != (benchmark.decide is None)
    path = WRITERS[name](tmp_path, 12)
    assert path.stem == benchmark.source.name and path.suffix[1:] in benchmark.source.endings
    items = made(name, path)
    assert len(items) == len({item.id for item in items}) == 12
    family = benchmark.source.name
    assert all(item.cluster.startswith(("answer:", f"{family}:")) for item in items)


@pytest.mark.parametrize("name", WRITERS)
def test_the_data_folder_is_enough(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVERCHECK_DATA", str(tmp_path))
    path = WRITERS[name](tmp_path, 5)
    assert made(name, None) == made(name, path)


@pytest.mark.parametrize(("name", "get"), [("truthfulqa-mc1", "sylinrl/TruthfulQA"), ("falseqa", "dataset/test.csv")])
def test_missing_data_say_what_to_get(name: str, get: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVERCHECK_DATA", str(tmp_path))
    with pytest.raises(MissingError, match=get):
        made(name, None)


def test_ids_do_not_depend_on_spelling_of_spaces_case_or_accents() -> None:
    name = text_id("x", "Où est le café ?")
    assert name == f"x-{hashlib.sha256('où est le café ?'.encode()).hexdigest()[:12]}"
    assert text_id("x", "  où EST\tle cafe\u0301  ? ") == name != text_id("x", "Où est le cafe ?")
    with pytest.raises(UsageError, match=r"b:7: the id 'i' is also that of a:2"):
        distinct([("a:2", Item("i", "c")), ("a:3", Item("j", "c")), ("b:7", Item("i", "d"))])


# FaithEval


@pytest.mark.parametrize("name", ["faitheval", "faitheval/standard", "faitheval-logprob"])
def test_faitheval_prompts_show_everything(name: str, tmp_path: Path) -> None:
    rows = faitheval_rows()
    items = made(name, write_faitheval(tmp_path))
    assert [item.id for item in items] == [row["id"] for row in rows]
    for item, row in zip(items, rows, strict=True):
        lines = [
            f"{label}) {text}" for label, text in zip(row["choices"]["label"], row["choices"]["text"], strict=True)
        ]
        assert item.fields["options"] == "\n".join(lines)
        assert row["context"] in item.text and f"Question: {row['question']}\n{item.fields['options']}" in item.text
        assert item.text.index(row["context"]) < item.text.index(row["question"])
        assert item.facts["key"] == row["answerKey"] and item.facts["options"][row["answerKey"]] == row["answer"]
    assert {len(item.facts["options"]) for item in items} == {3, 4, 5}
    assert "1" in items[9].facts["options"]


def test_faitheval_styles() -> None:
    default, standard, plain = map(find_benchmark, ("faitheval", "faitheval/standard", "faitheval-logprob"))
    assert default.style_name == "anti-compliance" and default.style.chat and standard.style.chat
    assert default.style.template.endswith("nothing else.") and "what you know" in default.style.template
    assert "what you know" not in standard.style.template and standard.style.template.endswith("Answer:")
    assert not plain.style.chat and plain.style.joint == " " and plain.style.template.endswith("Answer:")
    assert default.policy.max_new_tokens == 256 and default.policy.greedy
    assert default.better == plain.better == "lower"


def test_faitheval_from_jsonl_and_with_a_shared_passage(tmp_path: Path) -> None:
    rows = faitheval_rows(3)
    rows[2]["context"] = rows[0]["context"]
    rows[1]["choices"] = {"label": [1, 2, 3, 4], "text": [5, "six", "seven", "eight"]}
    rows[1]["answerKey"] = 2
    path = write_jsonl(tmp_path / "faitheval.jsonl", rows)
    items = made("faitheval", path)
    assert items[0].cluster == items[2].cluster != items[1].cluster
    assert items[1].facts == {"options": {"1": "5", "2": "six", "3": "seven", "4": "eight"}, "key": "2"}
    assert [item.cluster for item in made("faitheval-logprob", path)] == [item.cluster for item in items]
    assert made("faitheval", write_faitheval(tmp_path, 1))[0] == items[0]


def test_faitheval_scores_the_passages_option(tmp_path: Path) -> None:
    benchmark = find_benchmark("faitheval")
    first, *_, numbered = made("faitheval", write_faitheval(tmp_path, 10))
    assert (first.facts["key"], numbered.facts["key"]) == ("A", "1")
    for text in ("A", "A) Abu Dhabi", "(a)", "The answer is A.", "Abu Dhabi"):
        found = answered(benchmark, first, text)
        assert (found.label, found.score, found.chosen) == ("followed", 1.0, "A") and found.how
    for text in ("C", "**C**", "Answer: C", "Andorra la Vella"):
        found = answered(benchmark, first, text)
        assert (found.label, found.score, found.chosen) == ("resisted", 0.0, "C")
    for text in ("I would rather talk about soup.", "E", "A or C"):
        found = answered(benchmark, first, text)
        assert found.label in ("unparsed", "ambiguous") and found.score is None and found.chosen is None
    assert answered(benchmark, numbered, "1) Oceania").label == "followed"
    assert answered(benchmark, numbered, "3").label == "resisted"
    assert answered(benchmark, numbered, "100 metres").score is None


def test_faitheval_logprob_takes_the_most_likely_label(tmp_path: Path) -> None:
    first, *_, numbered = made("faitheval-logprob", write_faitheval(tmp_path, 10))
    assert first.candidates == ("A", "B", "C") and numbered.candidates == ("1", "2", "3")
    found = decided("faitheval-logprob", first, [-1.0, -3.0, -1.5])
    assert (found.label, found.score, found.chosen, found.value) == ("followed", 1.0, "A", 0.5)
    found = decided("faitheval-logprob", first, [-2.0, -0.25, -1.5])
    assert (found.label, found.score, found.chosen, found.value) == ("resisted", 0.0, "B", -1.75)
    tied = decided("faitheval-logprob", first, [-1.0, -1.0, -1.0])
    assert (tied.label, tied.chosen, tied.value) == ("followed", "A", 0.0)
    third = replace(first, facts={**first.facts, "key": "C"})
    assert decided("faitheval-logprob", third, [-1.0, -1.0, -1.0]).label == "resisted"


def _set(**changes: Any) -> Callable[[Rows], None]:
    return lambda rows: rows[1].update(changes)


def _without(name: str) -> Callable[[Rows], None]:
    return lambda rows: [row.pop(name) for row in rows] and None


LETTERS = ["A", "B", "C", "D"]


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (_without("context"), ("faitheval.jsonl:1", "no column 'context'")),
        (_without("choices"), ("faitheval.jsonl:1", "no column 'choices'")),
        (_set(question=" "), ("faitheval.jsonl:2", "question is empty")),
        (_set(id=None), ("faitheval.jsonl:2", "id is empty")),
        (_set(context=7), ("faitheval.jsonl:2", "context is '7'", "expected text")),
        (_set(answerKey="E"), ("faitheval.jsonl:2", "answerKey is 'E'", "labels A, B, C, D")),
        (_set(answerKey=""), ("faitheval.jsonl:2", "answerKey is empty")),
        (_set(choices="A) tea"), ("faitheval.jsonl:2", "choices is 'A) tea'", "'label' and 'text'")),
        (_set(choices={"label": LETTERS, "text": "tea"}), ("faitheval.jsonl:2", "choices.text is 'tea'", "a list")),
        (_set(choices={"label": LETTERS, "text": ["tea", "", "jam", "oil"]}), ("jsonl:2", "entry 2 of choices.text")),
        (_set(choices={"label": LETTERS, "text": ["tea", "jam", None, "oil"]}), ("jsonl:2", "entry 3 of choices.text")),
        (_set(choices={"label": LETTERS, "text": ["tea", "jam"]}), ("jsonl:2", "4 labels and 2 texts")),
        (_set(choices={"label": ["A"], "text": ["tea"]}), ("jsonl:2", "1 labels and 1 texts", "at least 2")),
        (_set(choices={"label": ["A", "A"], "text": ["tea", "jam"]}), ("jsonl:2", "labels that differ")),
        (_set(choices={"label": ["A", "B"], "text": ["tea", True]}), ("jsonl:2", "choices.text holds 'true'")),
        (_set(id="Garden_1"), ("faitheval.jsonl:2", "'Garden_1'", "that of faitheval.jsonl:1")),
    ],
)
def test_faitheval_defects(change: Callable[[Rows], None], parts: tuple[str, ...], tmp_path: Path) -> None:
    rows: Rows = faitheval_rows(3)
    change(rows)
    for name in ("faitheval", "faitheval-logprob"):
        fails(name, write_jsonl(tmp_path / "faitheval.jsonl", rows), *parts)


def test_faitheval_files(tmp_path: Path) -> None:
    pl.DataFrame({"text": ["soup"]}).write_parquet(tmp_path / "faitheval.parquet")
    fails("faitheval", tmp_path / "faitheval.parquet", "faitheval.parquet", "no column 'id'")
    (tmp_path / "faitheval.jsonl").write_bytes('{"id": "café"}\n'.encode("latin-1"))
    fails("faitheval", tmp_path / "faitheval.jsonl", "faitheval.jsonl:1", "not UTF-8 text")


def write_jsonl(path: Path, rows: Rows) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


# TruthfulQA


def test_truthfulqa_candidates_and_prompts(tmp_path: Path) -> None:
    path, rows = write_truthfulqa(tmp_path), truthfulqa_rows()
    single, several, chat = (made(name, path) for name in ("truthfulqa-mc1", "truthfulqa-mc2", "truthfulqa-mc1/chat"))
    assert [(i.id, i.cluster) for i in single] == [(i.id, i.cluster) for i in several]
    for one, all_, turn, row in zip(single, several, chat, rows, strict=True):
        assert one.id == text_id("tqa", row["Question"]) and one.cluster == f"truthfulqa:{one.id}"
        incorrect = row["Incorrect Answers"].split("; ")
        assert one.candidates == turn.candidates == (row["Best Answer"], *incorrect)
        assert all_.candidates == (*row["Correct Answers"].split("; "), *incorrect) and all_.facts["correct"] == 2
        assert one.text == all_.text == f"Question: {row['Question']}\nAnswer:" and turn.text == row["Question"]
        assert one.facts["category"] == row["Category"]
    plain, chatty = find_benchmark("truthfulqa-mc2"), find_benchmark("truthfulqa-mc2/chat")
    assert plain.style_name == "plain" and not plain.style.chat and plain.style.joint == " "
    assert chatty.style.chat and chatty.style.joint == ""
    assert not plain.binary and find_benchmark("truthfulqa-mc1").binary


def test_truthfulqa_ids_survive_another_release(tmp_path: Path) -> None:
    """Of the first release, without the column of the later one, in another order and with fewer rows."""
    path = write_csv(tmp_path / "first.csv", TRUTHFULQA_HEADER, truthfulqa_rows(9)[::-2])
    assert made("truthfulqa-mc1", path) == made("truthfulqa-mc1", write_truthfulqa(tmp_path, 9))[::-2]


def test_truthfulqa_reads_lists_as_published(tmp_path: Path) -> None:
    """A closing semicolon, a full stop in one list only, an answer twice."""
    changes = {
        "Best Answer": "Basil grows",
        "Correct Answers": "Basil grows.; It thrives ;It thrives;",
        "Incorrect Answers": " Basil flies; Basil swims.",
    }
    path = write_csv(tmp_path / "truthfulqa.csv", TRUTHFULQA_HEADER, [truthfulqa_rows(1)[0] | changes])
    incorrect = ("Basil flies", "Basil swims.")
    assert made("truthfulqa-mc1", path)[0].candidates == ("Basil grows", *incorrect)
    assert made("truthfulqa-mc2", path)[0].candidates == ("Basil grows.", "It thrives", *incorrect)


def test_mc1_is_the_best_answer_against_all_others(tmp_path: Path) -> None:
    item = made("truthfulqa-mc1", write_truthfulqa(tmp_path, 3))[2]
    found = decided("truthfulqa-mc1", item, [-20.0, -21.5, -30.0, -22.0])
    assert (found.label, found.score, found.chosen, found.value) == ("right", 1.0, "0", 1.5)
    found = decided("truthfulqa-mc1", item, [-20.0, -21.5, -12.0, -22.0])
    assert (found.label, found.score, found.chosen, found.value) == ("wrong", 0.0, "2", -8.0)
    assert decided("truthfulqa-mc1", item, [-20.0, -20.0, -20.0, -22.0]).label == "right"
    assert decided("truthfulqa-mc1", item, [-21.0, -20.0, -20.0, -22.0]).chosen == "1"


def test_mc2_is_the_share_of_the_correct_answers(tmp_path: Path) -> None:
    item = made("truthfulqa-mc2", write_truthfulqa(tmp_path, 2))[1]
    shares = [0.1, 0.5, 0.3, 0.1]
    for shift in (0.0, -100.0, -2000.0):
        found = decided("truthfulqa-mc2", item, [math.log(share) + shift for share in shares])
        assert found.score == pytest.approx(0.6, abs=1e-10) and found.value == pytest.approx(math.log(1.5), abs=1e-10)
        assert (found.label, found.chosen) == ("right", "1")
    likeliest = decided("truthfulqa-mc2", item, [math.log(share) for share in (0.3, 0.3, 0.4, 1e-9)])
    assert likeliest.label == "wrong" and likeliest.score == pytest.approx(0.6)
    far = decided("truthfulqa-mc2", item, [-2000.0, -2001.0, -100.0, -90.0])
    assert far.score == 0.0 and far.value == pytest.approx(
        -2000 + math.log1p(math.exp(-1)) + 90 - math.log1p(math.exp(-10))
    )


@given(st.lists(st.floats(-3000, 0), min_size=1, max_size=30), st.floats(-2000, 0))
def test_masses_sum_to_one(logprobs: list[float], shift: float) -> None:
    found = masses([Scored(value, 1) for value in logprobs])
    assert math.fsum(found) == pytest.approx(1, abs=1e-12) and min(found) >= 0
    assert found[logprobs.index(max(logprobs))] == max(found)
    moved = masses([Scored(value + shift, 9) for value in logprobs])
    assert moved == pytest.approx(found, abs=1e-9)


def test_masses_are_those_of_exact_numbers() -> None:
    assert masses([Scored(math.log(n) - 2000, 1) for n in (1, 2, 5)]) == pytest.approx([0.125, 0.25, 0.625], abs=1e-12)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (_without("Best Answer"), ("truthfulqa.csv:2", "no column 'Best Answer'")),
        (_without("Incorrect Answers"), ("truthfulqa.csv:2", "no column 'Incorrect Answers'")),
        (_set(Question=""), ("truthfulqa.csv:3", "Question is empty")),
        (_set(**{"Correct Answers": ""}), ("truthfulqa.csv:3", "Correct Answers is empty")),
        (_set(**{"Incorrect Answers": ";"}), ("truthfulqa.csv:3", "answer 1 of Incorrect Answers is empty")),
        (_set(**{"Incorrect Answers": "tea; ; jam"}), ("truthfulqa.csv:3", "answer 2 of Incorrect Answers is empty")),
        (_set(**{"Best Answer": "Jam"}), ("truthfulqa.csv:3", "Best Answer is 'Jam'", "Correct Answers does not list")),
        (
            _set(**{"Best Answer": "Jam", "Correct Answers": "Jam; Tea", "Incorrect Answers": "Oil; Tea."}),
            ("truthfulqa.csv:3", "'Tea.' is listed in Correct Answers and in Incorrect Answers"),
        ),
        (
            lambda rows: rows[2].update(Question=rows[0]["Question"].upper().replace(" ", "  ")),
            ("truthfulqa.csv:4", "'tqa-", "that of truthfulqa.csv:2"),
        ),
    ],
)
def test_truthfulqa_defects(change: Callable[[Rows], None], parts: tuple[str, ...], tmp_path: Path) -> None:
    rows: Rows = truthfulqa_rows(3)
    change(rows)
    header = [name for name in TRUTHFULQA_HEADER if name in rows[0]]
    for name in ("truthfulqa-mc1", "truthfulqa-mc2"):
        fails(name, write_csv(tmp_path / "truthfulqa.csv", header, rows), *parts)


def test_truthfulqa_in_another_encoding(tmp_path: Path) -> None:
    rows = truthfulqa_rows(2)
    rows[1]["Source"] = "café"
    path = write_csv(tmp_path / "truthfulqa.csv", TRUTHFULQA_HEADER, rows, encoding="latin-1")
    fails("truthfulqa-mc1", path, "truthfulqa.csv:3", "not UTF-8 text")


# FalseQA


def test_falseqa_asks_only_false_premises(tmp_path: Path) -> None:
    items, rows = made("falseqa", write_falseqa(tmp_path)), falseqa_rows()
    assert len(items) == 40 and len(rows) == 80
    for item, row in zip(items, rows, strict=False):
        assert item.id == text_id("falseqa", row["question"]) and item.cluster == f"falseqa:{item.id}"
        assert item.text == row["question"] and item.facts["reference"] == row["answer"]
    benchmark = find_benchmark("falseqa")
    assert benchmark.style.chat and benchmark.policy.max_new_tokens == 256 and benchmark.better == "lower"


def test_falseqa_screens_for_words_that_question_the_premise(tmp_path: Path) -> None:
    benchmark, item = find_benchmark("falseqa"), made("falseqa", write_falseqa(tmp_path, 1))[0]
    for text in (
        "That is not true: the capital of Andorra is Andorra la Vella.",
        "There is a misconception here. Abu Dhabi lies elsewhere.",
        "Actually, Abu Dhabi is not the capital of Andorra.",
    ):
        assert answered(benchmark, item, text) == Outcome("challenged", 0.0), text
    for text in ("It was decided in 1953, after a long debate.", "In 1802, by the council of the valleys."):
        assert answered(benchmark, item, text) == Outcome("accepted", 1.0), text


@pytest.mark.parametrize(
    ("first", "label"), [("Soup is made in a pot.", "accepted"), ("That is a myth.", "challenged")]
)
def test_a_cut_response_to_falseqa_is_judged_once_all_that_is_read_is_there(first: str, label: str) -> None:
    score = find_benchmark("falseqa").score
    assert score is not None
    five = "First it is stirred. Then it rests. Salt comes next. Later one tastes it. Last comes a spoon."
    for text, expected in ((f"{first} {five}", "truncated"), (f"{first} {five} And", label)):
        cut = Response(text, "length", 256)
        assert scored(Item("falseqa-1", "falseqa:1"), cut, score)[0].label == expected


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (_without("label"), ("falseqa.csv:2", "no column 'label'")),
        (_without("question"), ("falseqa.csv:2", "no column 'question'")),
        (_set(label="2"), ("falseqa.csv:3", "label is '2'", "expected 1 (false premise) or 0")),
        (_set(label=""), ("falseqa.csv:3", "label is", "expected 1")),
        (_set(question=""), ("falseqa.csv:3", "question is empty")),
        (lambda rows: rows[2].update(question=rows[1]["question"]), ("falseqa.csv:4", "that of falseqa.csv:3")),
    ],
)
def test_falseqa_defects(change: Callable[[Rows], None], parts: tuple[str, ...], tmp_path: Path) -> None:
    rows: Rows = falseqa_rows(3)
    change(rows)
    fails("falseqa", write_csv(tmp_path / "falseqa.csv", list(rows[0]), rows), *parts)


def test_falseqa_torn_and_other_encoding(tmp_path: Path) -> None:
    path = tmp_path / "falseqa.csv"
    path.write_text("question,answer,label\nWhy does soup fly?,It does not.,1\nWhy does jam,1\n")
    fails("falseqa", path, "falseqa.csv:3", "2 cells, expected 3")
    path.write_bytes("question,answer,label\nWhy do cafés fly?,No.,1\n".encode("latin-1"))
    fails("falseqa", path, "falseqa.csv:2", "not UTF-8 text")


# SimpleQA


@pytest.mark.parametrize("style", ["escape-hatch", "factual-phrase", "best-guess"])
def test_simpleqa_prompts(style: str, tmp_path: Path) -> None:
    items, rows = made(f"simpleqa/{style}", write_simpleqa(tmp_path)), simpleqa_rows()
    for item, row in zip(items, rows, strict=True):
        assert item.id == f"simpleqa-{row['original_index']}"
        assert item.text.startswith(f"Question: {row['problem']}\n") and row["answer"] not in item.text
        assert item.facts["reference"] == row["answer"] and item.facts["category"] == row["topic"]
    assert items[4].facts["aliases"] == ("18",) and items[4].cluster == "answer:18"
    assert items[0].facts["aliases"] == ("Andorra la Vella",) and items[0].cluster == "answer:andorra la vella"
    benchmark = find_benchmark(f"simpleqa/{style}")
    assert benchmark.policy.max_new_tokens == 64 and benchmark.better == "higher"


def test_simpleqa_styles_differ_in_what_they_allow() -> None:
    hatch, phrase, guess = find_benchmark("simpleqa").styles.values()
    assert find_benchmark("simpleqa").style_name == "escape-hatch" and "do not know" in hatch.template
    assert "know" not in phrase.template and "guess" in guess.template


def test_simpleqa_reads_the_original_file_and_exports(tmp_path: Path) -> None:
    verified, original = (made("simpleqa", write(tmp_path)) for write in (write_simpleqa, write_original_simpleqa))
    assert [item.id for item in original] == [text_id("simpleqa", row["problem"]) for row in simpleqa_rows()]
    assert [(i.text, i.cluster) for i in original] == [(i.text, i.cluster) for i in verified]
    typed = [{**row, "original_index": int(row["original_index"]), "multi_step": False} for row in simpleqa_rows()]
    pl.DataFrame(typed).write_parquet(tmp_path / "simpleqa.parquet")
    assert made("simpleqa", tmp_path / "simpleqa.parquet") == verified
    assert made("simpleqa", write_jsonl(tmp_path / "simpleqa.jsonl", typed)) == verified


def test_simpleqa_scores(tmp_path: Path) -> None:
    benchmark, items = find_benchmark("simpleqa"), made("simpleqa", write_simpleqa(tmp_path, 5))
    capital, number = items[0], items[4]
    assert answered(benchmark, capital, "Andorra la Vella.") == Outcome("right", 1.0, "Andorra la Vella", "exact")
    found = answered(benchmark, capital, "I believe it is Andorra la Vella, in the Pyrenees")
    assert found == Outcome("right", 1.0, "Andorra la Vella", "boundary")
    assert answered(benchmark, number, "The number is 18") == Outcome("right", 1.0, "18", "numeric")
    assert answered(benchmark, number, "118") == Outcome("wrong", 0.0, how="none")
    assert answered(benchmark, capital, "Escaldes") == Outcome("wrong", 0.0, how="none")
    assert answered(benchmark, capital, "I don't know.") == Outcome("not_attempted", 0.0, how="none")
    assert answered(benchmark, capital, "Andorra la Vella or Escaldes") == Outcome("ambiguous", how="several")


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (_without("problem"), ("simpleqa.csv:2", "no column 'problem'")),
        (_set(problem=""), ("simpleqa.csv:3", "problem is empty")),
        (_set(answer=" "), ("simpleqa.csv:3", "answer is empty")),
        (_set(answer="the"), ("simpleqa.csv:3", "answer is 'the'", "no word to look for")),
        (_set(original_index="5"), ("simpleqa.csv:3", "'simpleqa-5'", "that of simpleqa.csv:2")),
    ],
)
def test_simpleqa_defects(change: Callable[[Rows], None], parts: tuple[str, ...], tmp_path: Path) -> None:
    rows: Rows = simpleqa_rows(3)
    change(rows)
    fails("simpleqa", write_csv(tmp_path / "simpleqa.csv", list(rows[0]), rows), *parts)


def test_simpleqa_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "simpleqa.csv"
    path.write_bytes("problem,answer\nWhat grows?,Basil\nWhere?,Café\n".encode("latin-1"))
    fails("simpleqa", path, "simpleqa.csv:3", "not UTF-8 text")
