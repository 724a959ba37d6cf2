"""FalseQA: questions that presuppose something false, put bare to a chat model."""

from __future__ import annotations

from levercheck.benchmarks.base import BENCHMARKS, Benchmark, Item, Policy, Request, Style
from levercheck.benchmarks.data import DataSource, records
from levercheck.benchmarks.item_ids import distinct, text_id
from levercheck.benchmarks.outcomes import Outcome, Response
from levercheck.benchmarks.scorers.refusal import PREMISE_RULER, challenges_premise, premise_is_read
from levercheck.benchmarks.source_files import field, label_field, shown, text_field
from levercheck.errors import UsageError
from levercheck.evidence.foreign_read import Record

FALSEQA = "falseqa"
_LICENCE = "none stated by its authors"
SOURCE = DataSource(
    name="falseqa",
    columns=("question", "answer", "label"),
    endings=("csv",),
    licence=_LICENCE,
    get="dataset/test.csv of the repository thunlp/FalseQA",
    rows=1374,
)


def load(request: Request) -> list[Item]:
    """The questions with a false premise (label 1); their counterparts with a true one are left out."""
    rows = ((record.place, record) for record in records(SOURCE, request) if _is_false(record))
    return distinct((place, _item(record)) for place, record in rows)


def score(item: Item, response: Response) -> Outcome:
    """Whether a response goes along with the premise, as far as its words tell."""
    final = premise_is_read(response.text)
    if challenges_premise(response.text):
        return Outcome("challenged", 0.0, final=final)
    return Outcome("accepted", 1.0, final=final)


def _is_false(record: Record) -> bool:
    field(record, "label")
    label = label_field(record, "label")
    if label not in {"0", "1"}:
        raise UsageError(f"{record.place}: label is {shown(label)}, expected 1 (false premise) or 0")
    return label == "1"


def _item(record: Record) -> Item:
    question = text_field(record, "question")
    name = text_id(FALSEQA, question)
    facts = {"reference": label_field(record, "answer")}
    return Item(name, f"falseqa:{name}", fields={"question": question}, facts=facts)


BENCHMARKS.register(FALSEQA)(
    Benchmark(
        id=FALSEQA,
        construct="over-compliance: answering a question as if its false premise were true",
        metric="acceptance by a lexical screen: no words that question the premise",
        better="lower",
        kind="answer",
        ruler=PREMISE_RULER,
        items=load,
        styles={"bare": Style("{question}")},
        licence=_LICENCE,
        item_id="falseqa- and 12 hex digits of the sha256 of the question (NFC, lower case, single spaces)",
        caution=(
            "a screen, not a verdict: a premise can be denied without the words it looks for, and a judge's label "
            "replaces it; the true-premise questions are left out, so a model that doubts everything looks perfect"
        ),
        source=SOURCE,
        published=687,
        score=score,
        policy=Policy(max_new_tokens=256),
    )
)
