"""Sampled answers as rows: where the model's words meet the ruler."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from levercheck.benchmarks.facts import Fact, is_correct
from levercheck.lm.sample import Answer


def answer_rows(fact: Fact, role: str | None, answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """ANSWERS rows of one question."""
    return [
        {
            "item_id": fact.id,
            "category": fact.category,
            "entity": fact.entity,
            "role": role,
            "sample": number,
            "text": answer.text,
            "tokens": list(answer.tokens),
            "correct": is_correct(fact, answer.text),
            "mean_logprob": answer.mean_logprob,
            "first_logprob": answer.first_logprob,
            "stopped": answer.stopped,
        }
        for number, answer in enumerate(answers)
    ]
