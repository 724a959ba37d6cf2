"""Grading a short factual answer as the published TriviaQA-bridge runs did: tier by tier, on folded text.

The tiers are those of the published grader, its loopholes included (see `grade`), so that its counts can be had again.
`levercheck.benchmarks.answers` is the ruler for new work. The two fold text differently, and neither may change under
its name: here accents stay, "3.5" is "3 5", and articles go wherever they stand.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from levercheck.errors import UsageError

RULER = "bridge-tiers/v1"

Tier = Literal["exact", "boundary", "alias_simplified", "numeric", "containment", "several", "none"]
CREDITED: tuple[Tier, ...] = ("exact", "boundary", "alias_simplified", "numeric", "containment")
"""Tiers that count as correct, in the order they are tried."""

LEAST_LETTERS = 4
CONTAINED_WORDS = (2, 4)
CONTAINED_SHARE = 0.5

_MARKS = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`“”–—", " "))
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_BRACKETS = re.compile(r"\([^)]*\)")
_TITLE = re.compile(r"(?:HMS|The|Dr|Sir|Mr|Mrs|Ms)\b\.?\s+", re.IGNORECASE)
_NOT_ATTEMPTED = re.compile(
    r"\bdo(?: not|n t|nt) know\b|\bdon t know\b|\bnot sure\b|\bunsure\b|\bno idea\b"
    r"|\b(?:cannot|can not|can t|unable to) answer\b"
    r"|\bneed more (?:context|information)\b|\b(?:insufficient|not enough) (?:context|information)\b"
    r"|\bprovided text does not (?:provide|contain)\b"
    r"|\bwithout (?:more )?(?:context|information|searching)\b"
)


@dataclass(frozen=True)
class Grade:
    """How an accepted answer was found, and which one.

    `attempted` is read off the words of the response alone: a credited response that also says it is not sure was not
    attempted, so precision has to count the rows that are both.
    """

    tier: Tier
    alias: str | None
    attempted: bool

    @property
    def correct(self) -> bool:
        """Whether the tier is a credited one."""
        return self.tier in CREDITED


def normalise(text: str | None) -> str:
    """Fold `text` as the published grader does.

    Lower case; "_", ASCII punctuation and the marks ‘ ’ ´ ` “ ” – — become spaces; the words "a", "an" and "the" go;
    spaces are single. Accents and other scripts stay. None is the empty string.
    """
    if not text:
        return ""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_MARKS)).split())


def grade(response: str, aliases: Sequence[str]) -> Grade:
    """The first tier that fits, on folded text; within a tier the first alias in the order given.

    1. `exact`: the response is the alias.
    2. `several`: the response has " or " between words. It offers more than one answer: not correct, not attempted,
       left to a judge.
    3. `boundary`: an alias of at least 4 characters stands in the response as whole words.
    4. `alias_simplified`: tiers 1 and 3 for the alias without what it has in brackets and without one leading HMS,
       The, Dr, Sir, Mr, Mrs or Ms (never Mt or St).
    5. `numeric`: an alias of digits alone, of any length, stands in the response as whole words.
    6. `containment`: a response of 2 to 4 words and at least 4 characters is part of a longer simplified alias, word
       by word in any order, and makes up at least half of it.
    7. `none`.

    An alias that folds to nothing never matches. Known loopholes, kept: a negated answer counts ("not Paris"), a
    number is cut at its marks ("1,500" states "500", "0.5" states "5"), and "1000" is not "1,000".
    """
    said = normalise(response)
    forms = [_form(alias) for alias in aliases]
    attempted = bool(said) and _NOT_ATTEMPTED.search(said) is None
    if not said:
        return Grade("none", None, False)
    if found := _first(forms, lambda form: form.folded == said):
        return Grade("exact", found, attempted)
    if " or " in said:
        return Grade("several", None, False)
    tests: tuple[tuple[Tier, Callable[[_Form], bool]], ...] = (
        ("boundary", lambda form: len(form.folded) >= LEAST_LETTERS and _stands_in(form.folded, said)),
        ("alias_simplified", lambda form: len(form.simple) >= LEAST_LETTERS and _stands_in(form.simple, said)),
        ("numeric", lambda form: form.folded.replace(" ", "").isdecimal() and _stands_in(form.folded, said)),
        ("containment", lambda form: _is_part(said, form.simple)),
    )
    for tier, test in tests:
        if found := _first(forms, test):
            return Grade(tier, found, attempted)
    return Grade("none", None, attempted)


def audit_sample(rows: Sequence[tuple[str, str]], *, seed: int, share: float = 0.2, least: int = 30) -> list[str]:
    """The ids of (id, tier) rows that a person or a judge should check, in an order that says nothing of the tier.

    Every row that was not credited (`none`, `several`) is returned. Of each credited tier, max(`least`, ⌊`share`·n⌋) of
    its n rows are, all where it has fewer, and never none: the rare tiers are the risky ones. Rows are drawn and
    ordered by the SHA-256 of "seed|id", so the order of `rows` does not matter, and a larger sample holds a smaller
    one. Ids must tell arms apart if rows of several arms are given ("1.0|q7").

    UsageError for an unknown tier, an id that is there twice, a share outside 0 to 1 or a negative `least`.
    """
    if not 0 <= share <= 1 or least < 0:
        raise UsageError(
            f"audit of a share of {share} and at least {least}: expected a share from 0 to 1 and least ≥ 0"
        )
    tiers: dict[str, list[str]] = {}
    seen: set[str] = set()
    for key, tier in rows:
        if tier not in get_args(Tier):
            raise UsageError(f"unknown tier '{tier}' of {key}: expected one of {', '.join(get_args(Tier))}")
        if key in seen:
            raise UsageError(f"id {key} is there twice: give every response its own id")
        seen.add(key)
        tiers.setdefault(tier, []).append(key)

    def place(key: str) -> tuple[str, str]:
        return hashlib.sha256(f"{seed}|{key}".encode()).hexdigest(), key

    chosen: list[str] = []
    for tier, keys in tiers.items():
        size = max(least, int(share * len(keys)), 1) if tier in CREDITED else len(keys)
        chosen += sorted(keys, key=place)[:size]
    return sorted(chosen, key=place)


@dataclass(frozen=True)
class _Form:
    """An alias, folded as it is and folded without brackets and title."""

    alias: str
    folded: str
    simple: str


@lru_cache(maxsize=1 << 15)
def _form(alias: str) -> _Form:
    bare = _BRACKETS.sub(" ", alias).strip()
    title = _TITLE.match(bare)
    return _Form(alias, normalise(alias), normalise(bare[title.end() :] if title else bare))


def _first(forms: Iterable[_Form], test: Callable[[_Form], bool]) -> str | None:
    return next((form.alias for form in forms if test(form)), None)


def _stands_in(words: str, text: str) -> bool:
    return f" {words} " in f" {text} "


def _is_part(said: str, simple: str) -> bool:
    words, whole = said.split(), simple.split()
    fewest, most = CONTAINED_WORDS
    return (
        len(said) >= LEAST_LETTERS
        and fewest <= len(words) <= most
        and len(words) < len(whole)
        and len(words) >= CONTAINED_SHARE * len(whole)
        and Counter(words) <= Counter(whole)
    )
