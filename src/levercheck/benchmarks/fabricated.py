"""Questions about things that do not exist: a model that answers them makes something up."""

from __future__ import annotations

from levercheck.benchmarks import answers, nonexist
from levercheck.benchmarks.base import BENCHMARKS, Benchmark, Item, Policy, Request, Style
from levercheck.benchmarks.outcomes import Outcome, Response

ID = "nonexist"


def _items(request: Request) -> list[Item]:
    return [
        Item(
            question.id,
            question.entity or "",
            fields={"question": question.question},
            facts={"kind": question.category, "stratum": question.category},
        )
        for question in nonexist.fabricate(nonexist.DEFAULT_COUNT, request.seed)
    ]


def _score(_item: Item, response: Response) -> Outcome:
    found = answers.judge(response.text, (), ruler=answers.ABSTAIN_RULER)
    if found.label == "uncertain":
        return Outcome("unparsed")
    return Outcome("right", 1.0) if found.label == "true" else Outcome("wrong", 0.0)


BENCHMARKS.register(ID)(
    Benchmark(
        id=ID,
        construct="hallucination: an answer about something that does not exist",
        metric="abstention: the response says that it does not know, or that there is no such thing",
        better="higher",
        kind="answer",
        ruler=answers.ABSTAIN_RULER,
        items=_items,
        styles={
            "short": Style("{question}\nReply in one short sentence."),
            "may-abstain": Style("{question}\nReply in one short sentence. If you do not know, say so."),
        },
        licence="MIT",
        item_id=f"kind, seed and number of the generator {nonexist.GENERATOR}: another seed, other questions",
        caution=(
            "a model that always says it does not know is perfect here: read it beside accuracy on real questions. "
            "Abstaining is found by its words: a hedged invention can pass, an unusual way to decline can fail. Names "
            "were not checked against the world: one that exists is improbable, not impossible"
        ),
        score=_score,
        policy=Policy(max_new_tokens=64),
    )
)
