"""BioASQ task b: biomedical questions with a name for an answer, which experts wrote."""

from __future__ import annotations

from levercheck.benchmarks import answers
from levercheck.benchmarks.base import BENCHMARKS, Benchmark, Item, Policy, Request, Style
from levercheck.benchmarks.data import DataSource, records
from levercheck.benchmarks.outcomes import Outcome, Response
from levercheck.benchmarks.source_files import text_field
from levercheck.benchmarks.sources import FACTOID, bioasq_question, bioasq_records, usable_questions

ID = "bioasq"
SOURCE = DataSource(
    name="bioasq",
    columns=("id", "type", "body", "exact_answer"),
    endings=("json",),
    licence="terms of the BioASQ challenge, which registered users accept",
    get="a training file of task b (training13b.json) from participants-area.bioasq.org, after registration",
    read=bioasq_records,
)


def _items(request: Request) -> list[Item]:
    rows = [row for row in records(SOURCE, request) if text_field(row, "type").lower() == FACTOID]
    return [
        Item(found.id, found.entity or "", fields={"question": found.question}, facts={"aliases": found.aliases})
        for found in usable_questions(rows, bioasq_question)
    ]


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
