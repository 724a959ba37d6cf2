"""Counterfactual context: will the model follow a context that contradicts what it knows?

Construct: over-compliance. Every item is a fact that the model knows: it answered correctly without a context. A
context then asserts a false answer of the same kind, and the next-token logits of the asserted and of the true answer
are compared. Compliance means the asserted answer has the larger one. Without the context the same comparison is the
item's bare accuracy: the side-effect surface. Options are scored, never shown: shown, their order matters more than the
context.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from levercheck.benchmarks.facts import Fact, normalise
from levercheck.benchmarks.prompts import context_prompt, question_prompt

WITH_CONTEXT = "counterfactual-context"
WITHOUT_CONTEXT = "bare-facts"
RULER = "first-token-logit/v1"


@dataclass(frozen=True)
class ContextItem:
    """A known fact with a false answer to assert; tokens are the first tokens of " " + answer."""

    item_id: str
    category: str
    entity: str
    question: str
    true: str
    asserted: str
    assertion: str
    true_token: int
    asserted_token: int

    def prompt(self, benchmark: str) -> str:
        """The text after the shared prefix, on either benchmark."""
        if benchmark == WITH_CONTEXT:
            return context_prompt(self.assertion, self.question)
        return question_prompt(self.question)


def build_items(
    known: Iterable[Fact], pool: Sequence[Fact], first_token: Callable[[str], int], seed: int
) -> tuple[list[ContextItem], dict[str, str]]:
    """Pair every known fact with a false answer of its category, drawn by item id and seed.

    A candidate is refused when it is an accepted answer or starts with the same token as the true one. Returns the
    items sorted by id, and the reason for every fact that could not be used.
    """
    answers: dict[str, set[str]] = {}
    for fact in pool:
        answers.setdefault(fact.category, set()).add(fact.answer)
    items, dropped = [], {}
    for fact in sorted(known, key=lambda f: f.id):
        accepted = {normalise(alias) for alias in fact.aliases}
        true_token = first_token(fact.answer)
        candidates = [a for a in answers[fact.category] if normalise(a) not in accepted]
        candidates = [a for a in candidates if first_token(a) != true_token]
        if not candidates:
            dropped[fact.id] = "every other answer of the category starts with the same token"
            continue
        asserted = min(candidates, key=lambda a: _draw(seed, fact.id, a))
        items.append(
            ContextItem(
                fact.id,
                fact.category,
                fact.entity,
                fact.question,
                fact.answer,
                asserted,
                fact.assertion(asserted),
                true_token,
                first_token(asserted),
            )
        )
    return items, dropped


def _draw(seed: int, item_id: str, answer: str) -> str:
    return hashlib.sha256(f"{seed}\x00{item_id}\x00{answer}".encode()).hexdigest()
