"""Plain few-shot prompts: a base-style prefix works for small instruct models and for base models alike."""

from __future__ import annotations

FEW_SHOT = (
    ("What is the tallest mountain in the world?", "Mount Everest"),
    ("What is the chemical formula of water?", "H2O"),
    ("What is the currency of Japan?", "Yen"),
    ("How many legs does a spider have?", "8"),
)
"""Solved examples; no embedded fact asks any of them."""

PREFIX = "".join(f"Question: {question}\nAnswer: {answer}\n\n" for question, answer in FEW_SHOT)


def question_prompt(question: str) -> str:
    """What follows PREFIX to ask a question."""
    return f"Question: {question}\nAnswer:"


def context_prompt(assertion: str, question: str) -> str:
    """What follows PREFIX to ask a question after a context that asserts an answer."""
    return f"Context: {assertion}\nQuestion: {question}\nAnswer:"
