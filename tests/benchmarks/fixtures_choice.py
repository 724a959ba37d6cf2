"""Self-made files in the formats of FaithEval, TruthfulQA, FalseQA and SimpleQA, about embedded facts."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from levercheck.benchmarks.facts import Fact, load_facts

LABELS = ("A", "B", "C", "D", "E")


def facts(count: int) -> list[tuple[Fact, list[str]]]:
    """Facts of mixed categories, each with four wrong answers of its category."""
    pools = [load_facts((name,)) for name in ("capital", "continent", "symbol", "currency")]
    mixed = itertools.chain.from_iterable(zip(*pools, strict=False))
    answers = {pool[0].category: list(dict.fromkeys(fact.answer for fact in pool)) for pool in pools}
    made = []
    for number, fact in enumerate(itertools.islice(mixed, count)):
        others = [answer for answer in answers[fact.category] if answer not in fact.aliases]
        made.append((fact, [others[(number + step) % len(others)] for step in range(4)]))
    return made


def faitheval_rows(count: int = 40) -> list[dict[str, object]]:
    """Three to five options; every tenth item has numbers for labels. The passage supports a wrong option."""
    rows: list[dict[str, object]] = []
    for number, (fact, wrong) in enumerate(facts(count)):
        texts = [*wrong[: 2 + number % 3], fact.answer]
        texts = texts[number % len(texts) :] + texts[: number % len(texts)]
        labels = [str(at + 1) for at in range(len(texts))] if number % 10 == 9 else list(LABELS[: len(texts)])
        claim = fact.statement.format(wrong[0])
        rows.append(
            {
                "id": f"Garden_{number + 1}",
                "question": fact.question,
                "answer": wrong[0],
                "answerKey": labels[texts.index(wrong[0])],
                "choices": {"label": labels, "text": texts},
                "context": f"A school almanac says so on its first page. {claim} Every pupil there learns it by heart.",
                "num of options": len(texts),
            }
        )
    return rows


def write_faitheval(folder: Path, count: int = 40) -> Path:
    """Parquet with the columns of the hub's test split."""
    path = folder / "faitheval.parquet"
    pl.DataFrame(faitheval_rows(count)).write_parquet(path)
    return path


TRUTHFULQA_HEADER = ("Type", "Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers", "Source")


def truthfulqa_rows(count: int = 40) -> list[dict[str, str]]:
    """Two correct answers and one to three incorrect ones; the best is not always listed first."""
    rows = []
    for number, (fact, wrong) in enumerate(facts(count)):
        correct = [fact.statement.format(fact.answer).removesuffix("."), f"It is {fact.answer}"]
        incorrect = [fact.statement.format(name).removesuffix(".") for name in wrong[: 1 + number % 3]]
        rows.append(
            {
                "Type": ("Adversarial", "Non-Adversarial")[number % 2],
                "Category": fact.category.title(),
                "Question": fact.question,
                "Best Answer": correct[number % 2],
                "Best Incorrect Answer": incorrect[0],
                "Correct Answers": "; ".join(correct),
                "Incorrect Answers": "; ".join(incorrect),
                "Source": "an almanac",
            }
        )
    return rows


def write_truthfulqa(folder: Path, count: int = 40) -> Path:
    """The columns of the 2025 release, with a byte-order mark."""
    header = (*TRUTHFULQA_HEADER[:4], "Best Incorrect Answer", *TRUTHFULQA_HEADER[4:])
    return write_csv(folder / "truthfulqa.csv", header, truthfulqa_rows(count), encoding="utf-8-sig")


def falseqa_rows(count: int = 40) -> list[dict[str, str]]:
    """`count` false premises, then as many true ones, as in the published file."""
    false, true = [], []
    for fact, wrong in facts(count):
        claim = fact.statement.format(wrong[0]).removesuffix(".")
        claim = f"the {claim[4:]}" if claim.startswith("The ") else claim
        rebuttals = [fact.statement.format(fact.answer), f"It isn't so that {claim}."]
        false.append(
            {"question": f"In which year was it decided that {claim}?", "answer": str(rebuttals), "label": "1"}
        )
        true.append({"question": fact.question, "answer": fact.statement.format(fact.answer), "label": "0"})
    return [*false, *true]


def write_falseqa(folder: Path, count: int = 40) -> Path:
    """The three columns of the published test file."""
    return write_csv(folder / "falseqa.csv", ("question", "answer", "label"), falseqa_rows(count))


SIMPLEQA_HEADER = (
    "original_index", "problem", "answer", "topic", "answer_type", "multi_step", "requires_reasoning", "urls"
)  # fmt: skip


def simpleqa_rows(count: int = 40) -> list[dict[str, str]]:
    """Every fifth answer is a number with the range that is tolerated."""
    numbers = load_facts(("atomic_number",))
    rows = []
    for at, (fact, _) in enumerate(facts(count)):
        asked = numbers[at] if at % 5 == 4 else fact
        answer = asked.answer
        if at % 5 == 4:
            answer += f" (acceptable range: anything between {int(answer) - 1} and {int(answer) + 1})"
        rows.append(
            {
                "original_index": str(3 * at + 5),
                "problem": asked.question,
                "answer": answer,
                "topic": "Geography" if at % 2 else "Other",
                "answer_type": "Number" if at % 5 == 4 else "Place",
                "multi_step": "False",
                "requires_reasoning": "False",
                "urls": "an almanac,another almanac",
            }
        )
    return rows


def write_simpleqa(folder: Path, count: int = 40) -> Path:
    """The columns of simpleqa_verified.csv."""
    return write_csv(folder / "simpleqa.csv", SIMPLEQA_HEADER, simpleqa_rows(count))


def write_original_simpleqa(folder: Path, count: int = 40) -> Path:
    """The columns of simple_qa_test_set.csv: no index, and what else is known in one text."""
    rows = [
        {"metadata": str({"topic": row["topic"], "answer_type": row["answer_type"], "urls": [row["urls"]]}), **row}
        for row in simpleqa_rows(count)
    ]
    return write_csv(folder / "simple_qa_test_set.csv", ("metadata", "problem", "answer"), rows)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[dict[str, str]], encoding: str = "utf-8") -> Path:
    """A comma-separated file with these columns of the rows."""
    with path.open("w", encoding=encoding, newline="") as handle:
        table = csv.DictWriter(handle, header, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    return path
