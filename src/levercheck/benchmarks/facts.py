"""Embedded fact questions and the deterministic ruler that scores answers to them.

The rows live in `data/facts.jsonl`; where they come from is written in `data/FACTS-ATTRIBUTION.md`.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Literal

from levercheck.errors import UsageError, nearest

RULER = "alias-match/v1"

CATEGORIES: tuple[str, ...] = (
    "atomic_number",
    "capital",
    "capital_country",
    "city_country",
    "continent",
    "currency",
    "element",
    "language",
    "symbol",
    "us_city_state",
)

# Wrong answers that contain a right one and are no fact's own answer.
_RIVALS: dict[str, tuple[str, ...]] = {
    "us_city_state": ("washington d c", "washington dc", "west virginia"),
    "capital_country": ("american samoa", "new mexico", "south georgia"),
}
_SAME_ANSWERS = {"city_country": "capital_country", "capital_country": "city_country"}
_ARTICLES = frozenset({"a", "an", "the"})
_NEGATIONS = frozenset({"not", "nor", "never"})
_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
_SYMBOL_WORDS = frozenset({"Am", "As", "At", "Be", "He", "I", "In", "No"})


@dataclass(frozen=True)
class Fact:
    """One short-answer question with its accepted answers.

    `entity` is the split group: two facts whose subject or answer could give each other away share it.
    `statement` has one `{}` where an answer goes.
    """

    id: str
    category: str
    entity: str
    question: str
    answer: str
    aliases: tuple[str, ...]
    match: Literal["alias", "exact", "number"]
    statement: str
    source: str

    def assertion(self, answer: str) -> str:
        """Return the statement with `answer` (true or not) in its gap, as a full sentence."""
        filled = self.statement.replace("{}", answer, 1)
        return filled.removesuffix("..") + "." if filled.endswith("..") else filled


def _file_bytes() -> bytes:
    return resources.files("levercheck").joinpath("data", "facts.jsonl").read_bytes()


@lru_cache(maxsize=1)
def _all_facts() -> tuple[Fact, ...]:
    records = (json.loads(line) for line in _file_bytes().decode("utf-8").splitlines())
    return tuple(Fact(**{**record, "aliases": tuple(record["aliases"])}) for record in records)


def load_facts(categories: Sequence[str] | None = None) -> list[Fact]:
    """Return the facts of `categories` (all of them for None), ordered by id.

    Raises `UsageError` naming the nearest valid category when one is unknown.
    """
    if categories is None:
        return list(_all_facts())
    wanted = [categories] if isinstance(categories, str) else list(categories)
    for category in wanted:
        if category not in CATEGORIES:
            raise UsageError(f"unknown fact category '{category}'{nearest(category, CATEGORIES)}")
    return [fact for fact in _all_facts() if fact.category in wanted]


def facts_digest() -> str:
    """Return the sha256 of the facts file as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(_file_bytes()).hexdigest()


def normalise(text: str) -> str:
    """Fold `text` to lower-case words separated by single spaces.

    NFKD with accents removed, casefolded, `&` read as "and", "n't" as "not", every other mark turned into a
    space, leading articles dropped. Text without a letter or digit gives the empty string.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold()).translate(_LETTERS)
    folded = re.sub(r"n['’]t\b", " not", folded).replace("&", " and ")
    plain = (c for c in folded if not unicodedata.combining(c))
    words = "".join(c if c.isalnum() and unicodedata.category(c) != "Lm" else " " for c in plain).split()
    while len(words) > 1 and words[0] in _ARTICLES:
        words.pop(0)
    return " ".join(words)


@cache
def _known_answers(category: str) -> frozenset[str]:
    """Every normalised alias a category's answers can have; empty for a category that is not shipped."""
    group = {category, _SAME_ANSWERS.get(category, category)}
    own = {normalise(alias) for fact in _all_facts() if fact.category in group for alias in fact.aliases}
    return frozenset(own.union(*(_RIVALS.get(name, ()) for name in group)))


@cache
def _longest(category: str) -> int:
    return max((answer.count(" ") + 1 for answer in _known_answers(category)), default=0)


@lru_cache(maxsize=8192)
def _normalised(aliases: tuple[str, ...]) -> frozenset[str]:
    return frozenset({normalise(alias) for alias in aliases} - {""})


def _first_stated_is_right(fact: Fact, response: str) -> bool:
    words = normalise(response).split()
    right = _normalised(fact.aliases)
    known = _known_answers(fact.category)
    question = f" {normalise(fact.question)} "
    reach = max([_longest(fact.category), *(alias.count(" ") + 1 for alias in right)], default=0)
    start = 0
    while start < len(words):
        for size in range(min(reach, len(words) - start), 0, -1):
            phrase = " ".join(words[start : start + size])
            if phrase in right or (phrase in known and f" {phrase} " not in question):
                before = [word for word in words[:start] if word not in _ARTICLES]
                if not (before and before[-1] in _NEGATIONS):
                    return phrase in right
                start += size - 1
                break
        start += 1
    return False


def _symbol_is_right(fact: Fact, response: str) -> bool:
    found = re.search(r"[^\W_]+", unicodedata.normalize("NFKC", response))
    if found is None or found.group() not in fact.aliases:
        return False
    rest = found.string[found.end() :]
    stands_alone = re.match(r"\s*(?:$|\n|[^\w\s'’]|(?:is|for)\b)", rest) is not None
    return stands_alone or found.group() not in _SYMBOL_WORDS


def _number_is_right(fact: Fact, response: str) -> bool:
    found = re.search(r"[0-9]+(?:[.,][0-9]+)*", unicodedata.normalize("NFKC", response))
    return found is not None and found.group() in fact.aliases


def is_correct(fact: Fact, response: str) -> bool:
    """Say whether `response` answers `fact`, by the ruler named in `RULER`.

    The label depends only on the arguments and on the shipped facts, so `RULER` and `facts_digest()` pin it.

    * `match="alias"`: the first answer stated decides. Reading from the left, the longest run of whole words
      that is an accepted alias of this fact, or of any other fact of its category, is an answer. So "Oman" is
      not found in "Romania" nor "Guinea" in "Equatorial Guinea"; a rival named before the right answer makes
      the response wrong, one named after it does not. Words that repeat the question are no answer, and
      neither is one directly after "not", "nor", "never" or "n't". Other hedges are not understood.
    * `match="exact"`: the first word, case-sensitive. Symbols that are English words ("I", "No", "In") must
      stand alone or come before a mark, "is" or "for", so that "I don't know" is not iodine.
    * `match="number"`: the first number, which must be whole and in digits ("26." counts, "26.98" does not).

    A response that states no answer, an empty one included, is False.
    """
    if fact.match == "exact":
        return _symbol_is_right(fact, response)
    if fact.match == "number":
        return _number_is_right(fact, response)
    return _first_stated_is_right(fact, response)
