"""Items as token ids: what a model reads under a style, and the continuations that are scored behind it."""

from __future__ import annotations

from collections.abc import Sequence

from levercheck.benchmarks.base import Benchmark, Item, Style, instructed
from levercheck.errors import UsageError
from levercheck.lm.model import LanguageModel

_STEM = "Answer:"


def encoded(
    lm: LanguageModel, benchmark: Benchmark, items: Sequence[Item], instruction: str | None = None
) -> tuple[list[int], list[list[int]]]:
    """Tokens that open every prompt alike, and each item's own behind them."""
    style = benchmark.style
    texts = [instructed(item, instruction) for item in items]
    if not style.chat:
        return lm.start_ids + lm.encode(style.prefix), [lm.encode(text) for text in texts]
    check_chat(lm, benchmark)
    return _split(lm, [lm.chat([{"role": "user", "content": text}]) for text in texts])


def second_turns(
    lm: LanguageModel, benchmark: Benchmark, items: Sequence[Item], instruction: str | None, answers: Sequence[str]
) -> tuple[list[int], list[list[int]]]:
    """Prompts of a style's second turn: each item, the model's own answer to it, and what follows."""
    style = benchmark.style
    if style.then is None:
        raise ValueError(f"the style of '{benchmark.id}' has no second turn")
    pairs = [(instructed(item, instruction), answer.strip()) for item, answer in zip(items, answers, strict=True)]
    if not style.chat:
        own = [lm.encode(f"{text} {answer}\n{style.then}\n{_STEM}") for text, answer in pairs]
        return lm.start_ids + lm.encode(style.prefix), own
    chats = [
        [
            {"role": "user", "content": text},
            {"role": "assistant", "content": answer},
            {"role": "user", "content": style.then},
        ]
        for text, answer in pairs
    ]
    return _split(lm, [lm.chat(turns) for turns in chats])


def continuation(lm: LanguageModel, style: Style, text: str) -> list[int]:
    """Tokens of a candidate behind a prompt.

    They are cut as behind "Answer:", because a text alone begins with a bare space marker in some tokenizers.
    """
    if style.joint:
        stem, whole = lm.encode(_STEM), lm.encode(f"{_STEM}{style.joint}{text}")
        if whole[: len(stem)] == stem and len(whole) > len(stem):
            return whole[len(stem) :]
    return lm.encode(style.joint + text)


def check_chat(lm: LanguageModel, benchmark: Benchmark) -> None:
    """UsageError where a chat is asked of a model without a template."""
    if getattr(lm.tokenizer, "chat_template", None) is None:
        raise UsageError(
            f"'{lm.name}' has no chat template, which '{benchmark.id}' needs: set settings.{benchmark.id}.chat to false"
        )


def _split(lm: LanguageModel, whole: list[list[int]]) -> tuple[list[int], list[list[int]]]:
    head = lm.chat_head
    if any(ids[: len(head)] != head or len(ids) == len(head) for ids in whole):
        head = []  # a template that looks at the whole chat: nothing is shared
    return head, [ids[len(head) :] for ids in whole]
