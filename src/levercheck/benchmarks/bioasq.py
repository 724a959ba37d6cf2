"""BioASQ task b: biomedical questions with a name for an answer, which experts wrote."""

from __future__ import annotations

from typing import Any

from levercheck.benchmarks import answers
from levercheck.benchmarks.base import BENCHMARKS, Benchmark, Item, Policy, Request, Style
from levercheck.benchmarks.data import DataSource, records
from levercheck.benchmarks.item_ids import distinct
from levercheck.benchmarks.outcomes import Outcome, Response
from levercheck.benchmarks.source_files import field, shown, text_field
from levercheck.benchmarks.sources import FACTOID, bioasq_question, bioasq_records, usable_questions
from levercheck.errors import UsageError
from levercheck.evidence.foreign_read import Record

ID = "bioasq"
KINDS = (FACTOID, "list", "yesno", "summary")
SOURCE = DataSource(
    name="bioasq",
    columns=("id", "type", "body", "exact_answer"),
    endings=("json",),
    licence="terms of the BioASQ challenge, which registered users accept",
    get="a training file of task b (training13b.json) from participants-area.bioasq.org, after registration",
    read=bioasq_records,
)


def _items(request: Request) -> list[Item]:
    rows = [row for row in records(SOURCE, request) if _kind(row) == FACTOID]
    for row in rows:
        if not _answers(field(row, "exact_answer")):
            raise UsageError(
                f"{row.place}: exact_answer is {shown(row.fields['exact_answer'])}, expected a name or more"
            )
    distinct((row.place, Item(text_field(row, "id"), "")) for row in rows)
    return [
        Item(found.id, found.entity or "", fields={"question": found.question}, facts={"aliases": found.aliases})
        for found in usable_questions(rows, bioasq_question)
    ]


def _kind(row: Record) -> str:
    kind = text_field(row, "type").lower()
    if kind not in KINDS:
        raise UsageError(f"{row.place}: type is {shown(kind)}, expected {', '.join(KINDS)}")
    return kind


def _answers(value: Any) -> list[str]:
    """Every text in lists of lists of them."""
    if isinstance(value, list):
        return [text for entry in value for text in _answers(entry)]
    return [value] if isinstance(value, str) and value.strip() else []


def score_aliases(item: Item, response: Response) -> Outcome:
    """Whether an accepted answer is stated, by `alias-tiers/v1`; a response that says it has none is not attempted."""
    found = answers.judge(response.text, item.facts["aliases"])
    if found.label == "uncertain":
        return Outcome("not_attempted", 0.0, found.alias, found.match)
    right = found.label == "true"
    return Outcome("right" if right else "wrong", float(right), found.alias, found.match)


BENCHMARKS.register(ID)(
    Benchmark(
        id=ID,
        construct="biomedical knowledge: the name that answers a question",
        metric="accuracy: an accepted answer is stated as whole words",
        better="higher",
        kind="answer",
        ruler=answers.RULER,
        items=_items,
        styles={"answer-alone": Style("{question}\nReply with the name or term alone, without a sentence around it.")},
        licence=SOURCE.licence,
        item_id="id of the question in the file; questions of other types than factoid are left out",
        caution=(
            "a floor: experts did not list every synonym, so a right answer in other words counts as wrong; small "
            "models answer few, and unchanged accuracy hides changed texts. Published figures mostly use the rule "
            f"{answers.SUBSTRING_RULER}, which credits an alias inside another word and is not this one"
        ),
        source=SOURCE,
        published=1600,
        score=score_aliases,
        policy=Policy(max_new_tokens=128),
    )
)
