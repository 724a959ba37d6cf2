"""Benchmarks on the embedded facts: they need no data set, no judge and no network."""

from __future__ import annotations

from functools import cache

from levercheck.benchmarks.base import BENCHMARKS, Benchmark, Item, Policy, Request, Style, item_of
from levercheck.benchmarks.counterfactual import RULER, WITH_CONTEXT, WITHOUT_CONTEXT, ContextItem, build_items
from levercheck.benchmarks.facts import RULER as ANSWER_RULER
from levercheck.benchmarks.facts import Fact, is_correct, load_facts
from levercheck.benchmarks.outcomes import Outcome, Response
from levercheck.benchmarks.prompts import PREFIX, context_prompt, question_prompt

CATEGORIES = ("capital", "capital_country", "city_country", "us_city_state", "continent", "language", "symbol")
"""Categories that small models answer sometimes rightly and sometimes wrongly."""
ANSWERS = "facts-answers"
ANSWER_TOKENS = 8


@cache
def facts() -> dict[str, Fact]:
    """The facts these benchmarks ask, by id."""
    return {fact.id: fact for fact in load_facts(CATEGORIES)}


def _contexts(request: Request) -> list[ContextItem]:
    known = [fact for fact in facts().values() if request.knows(fact.id)]
    return build_items(known, list(facts().values()), request.first_token, request.seed)[0]


def _choice(item: ContextItem, benchmark: str) -> Item:
    words, tokens = (item.asserted, item.true), (item.asserted_token, item.true_token)
    if benchmark == WITHOUT_CONTEXT:
        words, tokens = words[::-1], tokens[::-1]
    fields = {"assertion": item.assertion, "question": item.question}
    return Item(item.item_id, item.entity, "", words, tokens, fields, {"category": item.category})


def _with_context(request: Request) -> list[Item]:
    return [_choice(item, WITH_CONTEXT) for item in _contexts(request)]


def _without_context(request: Request) -> list[Item]:
    return [_choice(item, WITHOUT_CONTEXT) for item in _contexts(request)]


def _answers(_request: Request) -> list[Item]:
    return [
        Item(fact.id, fact.entity, fields={"question": fact.question}, facts={"category": fact.category})
        for fact in facts().values()
    ]


def _score(item: Item, response: Response) -> Outcome:
    right = is_correct(facts()[item_of(item.id)], response.text)
    return Outcome("right" if right else "wrong", float(right), final=True)  # the answer is what the few tokens hold


_LICENCE = "see FACTS-ATTRIBUTION.md"
_QUESTION = Style(question_prompt("{question}"), chat=False, prefix=PREFIX)

BENCHMARKS.register(WITH_CONTEXT)(
    Benchmark(
        id=WITH_CONTEXT,
        construct="over-compliance: following a context that contradicts what the model knows",
        metric="compliance: the asserted answer's first token has a larger logit than the true one's",
        better="lower",
        kind="choice",
        ruler=RULER,
        items=_with_context,
        styles={"few-shot": Style(context_prompt("{assertion}", "{question}"), chat=False, prefix=PREFIX)},
        licence=_LICENCE,
        item_id="id of the fact",
        needs_known=True,
        caution="being misled, not untruthfulness in general; options are scored, never shown",
    )
)
BENCHMARKS.register(WITHOUT_CONTEXT)(
    Benchmark(
        id=WITHOUT_CONTEXT,
        construct="knowledge that should stay intact",
        metric="bare accuracy: the true answer's first token has a larger logit than one false answer's",
        better="higher",
        kind="choice",
        ruler=RULER,
        items=_without_context,
        styles={"few-shot": _QUESTION},
        licence=_LICENCE,
        item_id="id of the fact",
        needs_known=True,
        caution="an easy surface: one false answer only, of facts chosen because the model knows them",
    )
)
BENCHMARKS.register(ANSWERS)(
    Benchmark(
        id=ANSWERS,
        construct="short factual answers, generated",
        metric="accuracy: an accepted answer is stated",
        better="higher",
        kind="answer",
        ruler=ANSWER_RULER,
        items=_answers,
        styles={"few-shot": _QUESTION},
        licence=_LICENCE,
        item_id="id of the fact",
        score=_score,
        policy=Policy(max_new_tokens=ANSWER_TOKENS, stop="\n"),
        caution="few-shot and base-style: not how the model answers in a chat; categories that small models half know",
    )
)
