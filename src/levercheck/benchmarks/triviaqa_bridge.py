"""TriviaQA without documents, graded in tiers: the bridge between short facts and free answers.

Only questions that the tiers can grade safely are asked: see `eligible`.
"""

from __future__ import annotations

from dataclasses import replace

from levercheck.benchmarks.base import BENCHMARKS, Benchmark, Item, Policy, Request, Style
from levercheck.benchmarks.data import DataSource, records
from levercheck.benchmarks.outcomes import Outcome, Response
from levercheck.benchmarks.questions import Question
from levercheck.benchmarks.scorers import tiers
from levercheck.benchmarks.sources import TRIVIAQA, triviaqa_question, usable_questions

ID = "triviaqa-bridge"
SOURCE = DataSource(
    name="triviaqa",
    columns=TRIVIAQA.columns,
    endings=("parquet", "jsonl"),
    licence="not stated by its authors",
    get="rc.nocontext/validation-00000-of-00001.parquet of the Hugging Face data set mandarjoshi/trivia_qa",
    rows=17_944,
    hub=replace(TRIVIAQA, splits=("validation", "train"), revision="0f7faf33a3908546c6fd5b73a660e0f8ff173c2f"),
)
SHORT_ALIAS = 2  # characters
MOST_ALIASES = 10
MOST_WORDS = 5


def load(request: Request) -> list[Question]:
    """The questions of the data with an alias to look for. The file repeats a question for each set of documents."""
    return usable_questions(records(SOURCE, request), triviaqa_question)


def eligible(question: Question) -> bool:
    """Whether the tiers grade answers to the question safely.

    Not so where every alias has at most 2 characters once normalised (found anywhere by accident), where more than 10
    aliases differ once normalised (a broad answer), or where the first alias has more than 5 words (a sentence).
    """
    names = _names(question)
    longest = max((len(name) for name in names), default=0)
    return longest > SHORT_ALIAS and len(names) <= MOST_ALIASES and len(question.aliases[0].split()) <= MOST_WORDS


def stratum(question: Question) -> str:
    """What a manifest keeps in proportion: origin (prefix of the id), words of the first alias, number of aliases."""
    words, count = len(question.aliases[0].split()), len(_names(question))
    size = "3+" if words > 2 else str(words)
    several = next((name for most, name in ((3, "1-3"), (6, "4-6"), (MOST_ALIASES, "7-10")) if count <= most), "11+")
    return f"{question.id.partition('_')[0]}/{size}/{several}"


def _names(question: Question) -> set[str]:
    return {name for alias in question.aliases if (name := tiers.normalise(alias))}


def item_of(question: Question) -> Item:
    """A question as an item; questions with the same first answer share a cluster."""
    facts = {"aliases": question.aliases, "stratum": stratum(question)}
    return Item(question.id, question.entity or "", fields={"question": question.question}, facts=facts)


def _items(request: Request) -> list[Item]:
    return [item_of(question) for question in load(request) if eligible(question)]


def _score(item: Item, response: Response) -> Outcome:
    grade = tiers.grade(response.text, item.facts["aliases"])
    if grade.correct:
        return Outcome("right", 1.0, grade.alias, grade.tier)
    if grade.tier == "several":
        return Outcome("ambiguous", how=grade.tier)
    return Outcome("wrong" if grade.attempted else "not_attempted", 0.0, how=grade.tier)


BENCHMARKS.register(ID)(
    Benchmark(
        id=ID,
        construct="general knowledge: the short phrase that answers a trivia question",
        metric="accuracy by tiers of matching: a floor, because no other wording is credited",
        better="higher",
        kind="answer",
        ruler=tiers.RULER,
        items=_items,
        styles={"factual-phrase": Style("Question: {question}\nState the fact in one short phrase and add nothing.")},
        licence=SOURCE.licence,
        item_id="question_id; questions the tiers cannot grade safely are left out",
        caution=(
            "a floor: wordings that are not listed count as wrong, and 'or' between two answers leaves no verdict; "
            "report not-attempted answers beside accuracy, which falls when a model declines more. Every credited tier "
            "needs checking on a sample, the weak ones (alias_simplified, numeric, containment) most. A detector that "
            "was made from TriviaQA may have seen these questions"
        ),
        source=SOURCE,
        published=5086,
        score=_score,
        policy=Policy(max_new_tokens=64),
    )
)
