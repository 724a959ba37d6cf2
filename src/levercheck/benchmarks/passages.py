"""The embedded facts as running text, for training and checking dictionaries without any download."""

from __future__ import annotations

from levercheck.benchmarks.facts import load_facts
from levercheck.benchmarks.prompts import question_prompt
from levercheck.evidence.splits import shuffled

QUESTIONS, STATEMENTS = 4, 6


def fact_passages(seed: int = 0) -> list[str]:
    """Passages of solved questions and passages of statements; every fact stands once in one of either kind.

    Questions follow each other as they do before a question that is put to a model.
    """
    facts = {fact.id: fact for fact in load_facts()}
    order = [facts[name] for name in shuffled(list(facts), seed, "passages")]
    solved = [f"{question_prompt(fact.question)} {fact.answer}" for fact in order]
    stated = [fact.assertion(fact.answer) for fact in order]
    passages = ["\n\n".join(solved[i : i + QUESTIONS]) for i in range(0, len(solved), QUESTIONS)]
    return passages + [" ".join(stated[i : i + STATEMENTS]) for i in range(0, len(stated), STATEMENTS)]
