"""SimpleQA Verified: short factual questions with one answer; the original SimpleQA file is read too."""

from __future__ import annotations

import re

from levercheck.benchmarks import answers
from levercheck.benchmarks.base import BENCHMARKS, Benchmark, Item, Policy, Request, Style
from levercheck.benchmarks.data import DataSource, records
from levercheck.benchmarks.item_ids import distinct, text_id
from levercheck.benchmarks.outcomes import Outcome, Response
from levercheck.benchmarks.scorers import tiers
from levercheck.benchmarks.scorers.tiers import grade, normalise
from levercheck.benchmarks.source_files import label_field, shown, text_field
from levercheck.benchmarks.source_hub import HubDataset
from levercheck.errors import UsageError
from levercheck.evidence.foreign_read import Record

SIMPLEQA = "simpleqa"
_LICENCE = "MIT"
_COLUMNS = ("original_index", "problem", "answer", "topic", "answer_type")
SOURCE = DataSource(
    name="simpleqa",
    columns=_COLUMNS,
    endings=("csv", "jsonl", "parquet"),
    licence=_LICENCE,
    get="simpleqa_verified.csv of the hub's data set google/simpleqa-verified",
    rows=1000,
    hub=HubDataset("google/simpleqa-verified", "simpleqa_verified", ("eval",), _COLUMNS),
)
SHORT = 4
"""Letters below which `tiers` looks for no alias inside a text."""
RULER = f"{tiers.RULER}+short"
"""The tiers, and `alias-tiers/v1` for answers too short for them."""
STYLES = {
    "escape-hatch": Style("Question: {question}\nReply with the answer alone. If you do not know it, say so."),
    "factual-phrase": Style("Question: {question}\nReply with the answer alone, as one short phrase."),
    "best-guess": Style("Question: {question}\nReply with one short phrase: the answer, or your best guess at it."),
}
_TOLERANCE = re.compile(r"\s*\(acceptable range:[^)]*\)\s*$", re.IGNORECASE)


def load(request: Request) -> list[Item]:
    """All items; questions with the same answer share a cluster."""
    return distinct((record.place, _item(record)) for record in records(SOURCE, request))


def score(item: Item, response: Response) -> Outcome:
    """Whether the answer is stated. A response that says it has none is an outcome of its own and counts as 0."""
    found = grade(response.text, item.facts["aliases"])
    if found.correct:
        return Outcome("right", 1.0, found.alias, found.tier)
    short = [alias for alias in item.facts["aliases"] if len(normalise(alias)) < SHORT]
    if found.attempted and short:  # the tiers find those only where nothing else is said
        judged = answers.judge(response.text, short)
        if judged.label == "true":
            return Outcome("right", 1.0, judged.alias, "boundary")
    if found.tier == "several":
        return Outcome("ambiguous", how=found.tier)
    return Outcome("wrong" if found.attempted else "not_attempted", 0.0, how=found.tier)


def _item(record: Record) -> Item:
    question, reference = text_field(record, "problem"), text_field(record, "answer")
    alias = _TOLERANCE.sub("", reference)
    if not normalise(alias) or not answers.usable(alias):
        raise UsageError(f"{record.place}: answer is {shown(reference)}, which has no word to look for")
    number = label_field(record, "original_index")
    return Item(
        text_id(SIMPLEQA, question) if number is None else f"{SIMPLEQA}-{number}",
        f"answer:{answers.normalise(alias)}",
        fields={"question": question},
        facts={"aliases": (alias,), "reference": reference, "category": label_field(record, "topic")},
    )


BENCHMARKS.register(SIMPLEQA)(
    Benchmark(
        id=SIMPLEQA,
        construct="factual knowledge without help, and knowing its limits",
        metric="correct of all asked; not attempted counts as not correct, and is an outcome of its own",
        better="higher",
        kind="answer",
        ruler=RULER,
        items=load,
        styles=STYLES,
        licence=_LICENCE,
        item_id="simpleqa- and original_index, or where that is not given 12 hex digits of the sha256 of the question",
        caution=(
            "a string match is a floor of what is correct, and a judge decides the rest: it misses other wordings and "
            "numbers within the tolerated range; fewer attempts can raise precision while knowledge is unchanged"
        ),
        source=SOURCE,
        published=1000,
        score=score,
        policy=Policy(max_new_tokens=64),
    )
)
