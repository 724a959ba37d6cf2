"""A small battery that needs no data set: did a lever damage what the model could do before?

Three slices, all of our own making and the same in every study: facts it may know, instructions a program can check,
and running text. They find damage; they do not rank models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources

from levercheck.benchmarks.base import BENCHMARKS, Benchmark, Item, Policy, Request, Scored, Style
from levercheck.benchmarks.facts import CATEGORIES, Fact, load_facts, normalise
from levercheck.benchmarks.outcomes import Outcome, Response
from levercheck.benchmarks.prompts import PREFIX, question_prompt
from levercheck.benchmarks.scorers import checks
from levercheck.evidence.splits import shuffled

KNOWLEDGE = "capability-knowledge"
INSTRUCTIONS = "capability-instructions"
TEXT = "capability-text"
KNOWLEDGE_RULER = "largest-logprob/v1"
TEXT_RULER = "next-token/v1"
PER_CATEGORY = 8
"""Facts of each category that are asked."""
WRONG = 3
"""Wrong answers that stand beside the right one."""
_SEED = 20_250  # of the draw of facts and wrong answers; another seed is another battery
_FEW = "too few items to see a small loss: report the interval, not only the rate"


def wrong_answers(fact: Fact) -> list[str]:
    """Answers of other facts of the category that are wrong for this one, drawn by the fact's id."""
    accepted = {normalise(alias) for alias in fact.aliases}
    others = {normalise(other.answer): other.answer for other in load_facts([fact.category])}
    wrong = [name for key, name in others.items() if key not in accepted]
    return shuffled(sorted(wrong), _SEED, f"wrong:{fact.id}")[:WRONG]


@cache
def _facts() -> tuple[Fact, ...]:
    found: list[Fact] = []
    for category in CATEGORIES:
        pool = {fact.id: fact for fact in load_facts([category])}
        entities: dict[str, Fact] = {}
        for name in shuffled(sorted(pool), _SEED, f"{KNOWLEDGE}:{category}"):
            entities.setdefault(pool[name].entity, pool[name])
        found += list(entities.values())[:PER_CATEGORY]
    return tuple(found)


def _knowledge(_request: Request) -> list[Item]:
    return [
        Item(
            fact.id,
            fact.entity,
            candidates=(fact.answer, *wrong_answers(fact)),
            fields={"question": fact.question},
            facts={"category": fact.category, "stratum": fact.category},
        )
        for fact in _facts()
    ]


def _decide_knowledge(item: Item, found: Sequence[Scored]) -> Outcome:
    best = max(range(1, len(found)), key=lambda number: found[number].logprob)
    margin = found[0].logprob - found[best].logprob
    if margin > 0:
        return Outcome("right", 1.0, item.candidates[0], value=margin)
    return Outcome("wrong", 0.0, item.candidates[best], value=margin)


def _instructions(_request: Request) -> list[Item]:
    return [
        Item(
            f"{name}-{number}",
            f"instruction:{name}",
            fields={"task": task, "constraint": check.asks},
            facts={"check": name},
        )
        for name, check in checks.CHECKS.items()
        for number, task in enumerate(checks.tasks_of(name), 1)
    ]


def _score_instruction(item: Item, response: Response) -> Outcome:
    name = item.facts["check"]
    kept = checks.CHECKS[name].kept(response.text)
    return Outcome("right" if kept else "wrong", float(kept), how=name)


def _text(_request: Request) -> list[Item]:
    file = resources.files("levercheck").joinpath("data", "capability", "passages.jsonl")
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [
        Item(
            row["id"],
            f"passage:{row['id']}",
            candidates=(row["rest"],),
            fields={"opening": row["opening"]},
            facts={"register": row["register"]},
        )
        for row in rows
    ]


def _decide_text(_item: Item, found: Sequence[Scored]) -> Outcome:
    """Share of the passage's tokens that were the most probable ones; `value` is its loss in nats per token."""
    (passage,) = found
    return Outcome("answered", passage.top / passage.tokens, value=-passage.logprob / passage.tokens)


BENCHMARKS.register(KNOWLEDGE)(
    Benchmark(
        id=KNOWLEDGE,
        construct="knowledge that should stay intact: short facts among wrong answers of the same kind",
        metric="accuracy: the right answer has the largest summed log-probability of four",
        better="higher",
        kind="options",
        ruler=KNOWLEDGE_RULER,
        items=_knowledge,
        styles={"few-shot": Style(question_prompt("{question}"), chat=False, prefix=PREFIX)},
        licence="see FACTS-ATTRIBUTION.md",
        item_id="id of the fact",
        decide=_decide_knowledge,
        value_unit="nat",
        caution=(
            f"{_FEW}; answers of more tokens are at a disadvantage, so the level says little and the change is what "
            "counts. Value is the margin over the best wrong answer in nats. The facts are of the kinds that readouts "
            "are made from: roles keep entities apart, but not kinds"
        ),
    )
)
BENCHMARKS.register(INSTRUCTIONS)(
    Benchmark(
        id=INSTRUCTIONS,
        construct="instruction following that should stay intact: constraints on form",
        metric="kept: the response keeps the constraint, as a program checks it",
        better="higher",
        kind="answer",
        ruler=checks.RULER,
        items=_instructions,
        styles={"direct": Style("{task} {constraint}")},
        licence="MIT",
        item_id="name of the check and number of the task",
        score=_score_instruction,
        per_entity=2,
        policy=Policy(max_new_tokens=256),
        caution=(
            f"{_FEW}; form alone is checked: a response can keep it and be nonsense, and some constraints (no comma, "
            "few words) are kept by saying little. Tasks of one check share a cluster, because they fail together"
        ),
    )
)
BENCHMARKS.register(TEXT)(
    Benchmark(
        id=TEXT,
        construct="language modelling that should stay intact: prose the model has not seen",
        metric="next-token accuracy: share of a passage's tokens that the model ranks first, behind its first sentence",
        better="higher",
        kind="options",
        ruler=TEXT_RULER,
        items=_text,
        styles={"prose": Style("{opening}", chat=False)},
        licence="MIT",
        item_id="register and number of the passage",
        decide=_decide_text,
        value_unit="nats/token",
        binary=False,
        caution=(
            f"{_FEW}; value is the loss in nats per token. Tokens are the model's own: models with other tokenizers "
            "cannot be compared. Passages are short and published: a model trained later may have seen them"
        ),
    )
)
