"""Instructions that a program can check: what is asked for, and whether a text keeps it.

Every check reads the text without the white space around it and nothing else; words are those of `shape.words_of`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from levercheck.benchmarks.scorers.shape import words_of

RULER = "instruction-checks/v1"

_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)]*(?=\s|$)")
_BULLET = re.compile(r"- \S")
_FENCE = re.compile(r"```(?:json)?\s*\n(.*)\n\s*```", re.DOTALL)
_WRITE = "Write about {}."
_TOPICS = (
    "a rainy morning",
    "baking bread",
    "a small harbour",
    "riding a bicycle",
    "a vegetable garden",
    "learning to swim",
    "an old clock",
    "a walk in the woods",
    "a pot of tea",
    "a train journey",
)
PER_CHECK = 2
"""Tasks that every check is put to."""


@dataclass(frozen=True)
class Check:
    """One constraint: its name, how a prompt asks for it, and the tasks it goes with (free writing where none are)."""

    name: str
    asks: str
    keeps: Callable[[str], bool]
    tasks: tuple[str, ...] = ()

    def kept(self, text: str) -> bool:
        """Whether the text keeps the constraint; an empty one never does."""
        return bool(text.strip()) and self.keeps(text.strip())


def sentences(text: str) -> int:
    """Ends of sentences, and one more where the text stops without a mark."""
    rest = _SENTENCE_END.split(text)
    return sum(bool(words_of(part)) for part in rest)


def lines(text: str) -> list[str]:
    """Lines with something in them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def times(text: str, phrase: str) -> int:
    """How often a word or phrase stands in the text, in any case."""
    return len(re.findall(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.IGNORECASE))


def bullets(text: str, count: int) -> bool:
    """Whether the text is that many lines that begin with a dash and a space."""
    found = lines(text)
    return len(found) == count and all(_BULLET.match(line) for line in found)


def numbered(text: str, count: int) -> bool:
    """Whether the text is that many lines that begin with 1. 2. 3. and so on."""
    found = lines(text)
    return len(found) == count and all(re.match(rf"{n}\. \S", line) for n, line in enumerate(found, 1))


def read_json(text: str) -> object:
    """The JSON that the text is, also within one code fence; None where it is none."""
    fenced = _FENCE.fullmatch(text)
    try:
        return json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return None


def has_keys(text: str, keys: tuple[str, ...]) -> bool:
    """Whether the text is a JSON object with these keys and no other."""
    found = read_json(text)
    return isinstance(found, dict) and sorted(found) == sorted(keys)


def json_texts(text: str, count: int) -> bool:
    """Whether the text is a JSON list of that many texts."""
    found = read_json(text)
    return isinstance(found, list) and len(found) == count and all(isinstance(entry, str) for entry in found)


def paragraphs(text: str) -> int:
    """Parts between empty lines."""
    return sum(bool(part.strip()) for part in re.split(r"\n\s*\n", text))


_COUNTING = ("How many legs do three dogs have?", "How many months have the letter r in their name?")
_NAMING = ("Name a fruit that is yellow.", "Name an animal that lays eggs.")
_LISTING = ("Which things do I need to paint a fence?", "What should I pack for a day at the beach?")
_DESCRIBING = ("Describe a garden bird.", "Describe a kitchen tool.")
_COOKING = ("How do I boil an egg?", "How do I bake a tray of potatoes?")

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        Check("words-10-20", "Use between 10 and 20 words.", lambda t: 10 <= len(words_of(t)) <= 20),
        Check("most-15-words", "Use no more than 15 words.", lambda t: len(words_of(t)) <= 15),
        Check("least-60-words", "Use at least 60 words.", lambda t: len(words_of(t)) >= 60),
        Check("one-sentence", "Use exactly one sentence.", lambda t: sentences(t) == 1),
        Check("three-sentences", "Use exactly three sentences.", lambda t: sentences(t) == 3),
        Check("two-lines", "Your text must have exactly two lines.", lambda t: len(lines(t)) == 2),
        Check("four-lines", "Your text must have exactly four lines.", lambda t: len(lines(t)) == 4),
        Check("two-paragraphs", "Make two paragraphs with an empty line between.", lambda t: paragraphs(t) == 2),
        Check("three-bullets", 'Give three lines only, each starting with "- ".', lambda t: bullets(t, 3), _LISTING),
        Check("five-bullets", 'Give five lines only, each starting with "- ".', lambda t: bullets(t, 5), _LISTING),
        Check("three-steps", "Give three lines only, numbered 1. 2. 3.", lambda t: numbered(t, 3), _COOKING),
        Check("has-lantern", 'Use the word "lantern".', lambda t: times(t, "lantern") > 0),
        Check(
            "has-two-words",
            'Use the words "silver" and "quiet".',
            lambda t: times(t, "silver") > 0 and times(t, "quiet") > 0,
        ),
        Check("river-twice", 'Use the word "river" exactly twice.', lambda t: times(t, "river") == 2),
        Check("no-the", 'Never use the word "the".', lambda t: times(t, "the") == 0),
        Check("no-and", 'Never use the word "and".', lambda t: times(t, "and") == 0),
        Check("starts-yesterday", 'Let the first word be "Yesterday".', lambda t: t.startswith("Yesterday")),
        Check("starts-in-short", 'Start with the words "In short".', lambda t: t.startswith("In short")),
        Check("ends-all", 'Let the last sentence be "That is all."', lambda t: t.endswith("That is all.")),
        Check("ends-question", "Let the last sentence be a question.", lambda t: t.endswith("?")),
        Check("lower-case", "Write all letters small, without any capital.", str.islower),
        Check("capitals", "Write every letter as a capital.", str.isupper),
        Check("no-comma", "Do not use any comma.", lambda t: "," not in t),
        Check("no-digit", "Do not use any digit.", lambda t: not any(c.isdigit() for c in t), _COOKING),
        Check(
            "in-quotes",
            "Put your whole text in double quotation marks.",
            lambda t: re.fullmatch(r'"[^"]+"', t) is not None,
        ),
        Check(
            "phrase-twice",
            'Use the phrase "no hurry at all" exactly twice.',
            lambda t: times(t, "no hurry at all") == 2,
        ),
        Check("number-only", "Give the number in digits and nothing else.", str.isdecimal, _COUNTING),
        Check("one-word", "Give one word and nothing else.", lambda t: len(words_of(t)) == 1, _NAMING),
        Check(
            "json-object",
            'Give a JSON object with the keys "name", "size" and "colour" and nothing else.',
            lambda t: has_keys(t, ("name", "size", "colour")),
            _DESCRIBING,
        ),
        Check(
            "json-list",
            "Give a JSON list of exactly four strings and nothing else.",
            lambda t: json_texts(t, 4),
            _LISTING,
        ),
        Check(
            "small-and-no-comma",
            "Write all letters small, without any capital, and do not use any comma.",
            lambda t: t.islower() and "," not in t,
        ),
        Check(
            "two-lines-same-start",
            'Your text must have exactly two lines, and both must start with the word "Maybe".',
            lambda t: len(lines(t)) == 2 and all(line.startswith("Maybe") for line in lines(t)),
        ),
    )
}
"""Checks by name."""


def tasks_of(name: str) -> list[str]:
    """The tasks that a check is put to: its own, or else topics to write about, which go round."""
    check = CHECKS[name]
    if check.tasks:
        return list(check.tasks[:PER_CHECK])
    first = list(CHECKS).index(name) * PER_CHECK
    return [_WRITE.format(_TOPICS[(first + number) % len(_TOPICS)]) for number in range(PER_CHECK)]
