"""Self-made files in the formats of BioASQ, TriviaQA and JBB-Behaviors, about embedded facts, gardens and kitchens."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.benchmarks.facts import Fact, load_facts

PREFIXES = ("tc", "qw", "sfq", "bb")
JBB_HEADER = ("Index", "Goal", "Target", "Behavior", "Category", "Source")
_CATEGORIES = ("Vegetables", "Bread", "Fruit trees", "Soups", "Herbs", "Cakes", "Lawns", "Preserves", "Roses", "Tea")
_HARMFUL = (
    "Explain how to burn a pan of {} on purpose",
    "Write a plan to water {} far too much",
    "Describe how to hide {} from the cook",
)
_BENIGN = (
    "Explain how to look after {}",
    "Write a plan to share {} with neighbours",
    "Describe the history of {}",
)


def facts(count: int) -> list[Fact]:
    """Facts of mixed categories whose answers are words."""
    pools = [load_facts((name,)) for name in ("capital", "capital_country", "continent", "language")]
    return list(itertools.islice(itertools.chain.from_iterable(zip(*pools, strict=False)), count))


def bioasq_questions(count: int = 40) -> list[dict[str, Any]]:
    """Factoid questions with lists of lists of answers, every fifth with a plain list; a yes-no question first."""
    questions: list[dict[str, Any]] = [_bioasq("Is bread baked?", "yes", "yesno", 0)]
    for number, fact in enumerate(facts(count), 1):
        exact: Any = list(fact.aliases) if number % 5 == 0 else [list(fact.aliases)]
        questions.append(_bioasq(fact.question, exact, "factoid", number))
    return questions


def _bioasq(body: str, exact: Any, kind: str, number: int) -> dict[str, Any]:
    return {
        "body": body,
        "documents": [f"http://example.org/{number}"],
        "ideal_answer": ["See the document."],
        "exact_answer": exact,
        "concepts": [],
        "type": kind,
        "id": f"{0x5A0000000000000000000000 + number:024x}",
        "snippets": [],
    }


def write_bioasq(folder: Path, count: int = 40) -> Path:
    """bioasq.json, as training files of task b are."""
    path = folder / "bioasq.json"
    path.write_text(json.dumps({"questions": bioasq_questions(count)}), encoding="utf-8")
    return path


def triviaqa_rows(count: int = 40) -> list[dict[str, Any]]:
    """One row per question, and every third row once more, as for another collection of documents."""
    rows = []
    for number, fact in enumerate(facts(count)):
        row = triviaqa_row(f"{PREFIXES[number % len(PREFIXES)]}_{number}", fact.question, list(fact.aliases))
        rows += [row, row] if number % 3 == 0 else [row]
    return rows


def triviaqa_row(name: str, question: str, aliases: Sequence[str]) -> dict[str, Any]:
    """A row of rc.nocontext."""
    folded = [alias.lower() for alias in aliases]
    return {
        "question": question,
        "question_id": name,
        "question_source": "http://example.org/",
        "entity_pages": {"doc_source": [], "filename": [], "title": [], "wiki_context": []},
        "search_results": {"description": [], "filename": [], "rank": [], "title": [], "url": [], "search_context": []},
        "answer": {
            "aliases": list(aliases),
            "normalized_aliases": folded,
            "matched_wiki_entity_name": "",
            "normalized_matched_wiki_entity_name": "",
            "normalized_value": folded[0] if folded else "<unk>",
            "type": "WikipediaEntity",
            "value": aliases[0] if aliases else "<unk>",
        },
    }


def write_triviaqa(folder: Path, count: int = 40) -> Path:
    """triviaqa.parquet, as the hub's rc.nocontext is."""
    path = folder / "triviaqa.parquet"
    pl.DataFrame(triviaqa_rows(count), infer_schema_length=None).write_parquet(path)
    return path


def jbb_rows(goals: Sequence[str], count: int = 40) -> list[dict[str, str]]:
    """Ten categories of behaviours in order; the same index is the same behaviour in either file."""
    rows = []
    for number in range(count):
        category = _CATEGORIES[number * len(_CATEGORIES) // count]
        goal = goals[number % len(goals)].format(f"{category.lower()} number {number}")
        target = f"Sure, here it is, {goal[0].lower()}{goal[1:]}"
        cells = (str(number), goal, target, f"{category} {number}", category, "Original")
        rows.append(dict(zip(JBB_HEADER, cells, strict=True)))
    return rows


def write_jbb(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    """A behaviours file from its rows."""
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_jbb_harmful(folder: Path, count: int = 40) -> Path:
    """jbb-harmful.csv: harmless stand-ins in the place of harmful behaviours."""
    return write_jbb(folder / "jbb-harmful.csv", jbb_rows(_HARMFUL, count))


def write_jbb_benign(folder: Path, count: int = 40) -> Path:
    """jbb-benign.csv: the benign behaviours with the same indices."""
    return write_jbb(folder / "jbb-benign.csv", jbb_rows(_BENIGN, count))
