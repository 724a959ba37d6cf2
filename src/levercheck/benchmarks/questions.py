"""Questions to collect answers for: what one is, where a set comes from, and how a source is named.

    facts                     the embedded facts          facts:capital,continent   some of their categories
    nonexist                  fabricated entities         nonexist:500              that many of them
    triviaqa:PATH             rc.nocontext parquet        triviaqa                  the same from the hub
    nq-open:PATH              JSON lines or parquet       nq-open                   the same from the hub
    bioasq:PATH               a training file (JSON)
    jsonl:PATH  csv:PATH  parquet:PATH                    or only a path with that ending

A plug-in adds a source with `@source(name)` in a module named by an entry point `name` of "levercheck.sources".
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import Any

from levercheck.benchmarks import answers, facts
from levercheck.benchmarks.answers import Verdict
from levercheck.errors import NotEnoughDataError, UsageError, nearest
from levercheck.evidence.splits import shuffled
from levercheck.registry import Registry

BARE_ENDINGS = ("jsonl", "csv", "parquet")
NO_ALIAS = "no usable alias"


@dataclass(frozen=True)
class Question:
    """One question with its accepted answers; `entity` is the split group, `kind:name`.

    `answerable=False` marks a question nobody can answer: the right behaviour is to say so.
    """

    id: str
    question: str
    aliases: tuple[str, ...]
    category: str | None = None
    entity: str | None = None
    answerable: bool = True


@dataclass(frozen=True)
class QuestionSet:
    """The usable questions of one source, sorted by id, and what pins them.

    `skipped` are (id, reason) of items that cannot be asked or judged. `identity` is plain JSON data: the source, its
    files with their sha256 (names only, never a folder) or the dataset with its revision, seed, limit, and the digest
    of all usable questions before the limit.
    """

    name: str
    questions: tuple[Question, ...]
    skipped: tuple[tuple[str, str], ...]
    ruler: str
    identity: dict[str, Any]

    def judge(self, question: Question, response: str, *, ruler: str | None = None) -> Verdict:
        """Label a response to one of the questions, by the source's own ruler unless another is named.

        A question that is not answerable is judged by `abstains/v1` unless a ruler is named. `UsageError` when the
        ruler is unknown or cannot judge this question.
        """
        own = _source(self.name)
        if ruler is None:
            ruler = self.ruler if question.answerable else answers.ABSTAIN_RULER
        if own.judge is not None and ruler == own.ruler:
            return own.judge(question, response)
        if ruler not in answers.RULERS:
            hint = nearest(ruler, {*answers.RULERS, own.ruler})
            raise UsageError(f"the ruler '{ruler}' cannot judge the source '{self.name}'{hint}")
        try:
            return answers.judge(response, question.aliases, ruler=ruler)
        except ValueError:
            raise UsageError(
                f"the question '{question.id}' has no alias that the ruler '{ruler}' can look for: "
                f"leave it out or name another ruler"
            ) from None


@dataclass(frozen=True)
class Request:
    """What a source is asked for: the text after the colon (None without one), the seed and the split."""

    name: str
    argument: str | None
    seed: int
    split: str | None

    def no_split(self) -> None:
        """Raise `UsageError` when a split is asked of a source that has none."""
        if self.split is not None:
            raise UsageError(f"the source '{self.name}' has no splits: leave out split '{self.split}'")


@dataclass(frozen=True)
class Draft:
    """What a source returns: questions in any order and with any aliases, what it skipped, its part of the identity."""

    questions: Sequence[Question]
    skipped: Sequence[tuple[str, str]]
    identity: dict[str, Any]


Reader = Callable[[Request], Draft]
Judge = Callable[[Question, str], Verdict]


@dataclass(frozen=True)
class Source:
    """A registered source with its default ruler; `judge` is needed when that is none of the general rulers."""

    name: str
    read: Reader
    ruler: str
    judge: Judge | None


SOURCES: Registry[Source] = Registry("question source", "levercheck.sources")


def source(name: str, *, ruler: str = answers.RULER, judge: Judge | None = None) -> Callable[[Reader], Reader]:
    """Register a function that reads questions under the name that specs use; `ValueError` when the name is taken."""

    def register(read: Reader) -> Reader:
        SOURCES.register(name)(Source(name, read, ruler, judge))
        return read

    return register


def source_names() -> list[str]:
    """Every source that can be named, those of plug-ins included."""
    import_module("levercheck.benchmarks.sources")
    return SOURCES.names()


def _source(name: str) -> Source:
    source_names()
    return SOURCES.find(name)


def _parse(spec: str) -> tuple[str, str | None]:
    """The source and its argument. A path with a known ending may stand alone, also one with a drive letter."""
    name, colon, argument = spec.partition(":")
    if name not in source_names():
        ending = spec.lower().rpartition(".")[2]
        if ending in BARE_ENDINGS and (not colon or len(name) == 1):
            return ending, spec
        if not colon and ("/" in spec or "." in spec):
            raise UsageError(
                f"{spec}: no source has files with this ending: use .jsonl, .csv or .parquet, or name the source "
                f"(for example 'bioasq:{spec}')"
            )
    return name, argument if colon else None


def load_questions(spec: str, *, limit: int | None = None, seed: int = 0, split: str | None = None) -> QuestionSet:
    """Read the questions that `spec` names; the grammar is at the top of this module.

    `limit` draws that many usable questions; which ones depends on the ids and the seed only, so a larger limit keeps
    them. `split` names a split of the hub, or of a folder of parquet files.

    Raises `UsageError` (an unknown source, no such file, a missing column, a bad field, a repeated id), `MissingError`
    (what has to be installed or downloaded) and `NotEnoughDataError` (no usable question), each in one line.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}, expected at least 1")
    if not 0 <= seed < 2**53:
        raise UsageError(f"seed is {seed}, expected a whole number from 0 to 2**53 - 1")
    name, argument = _parse(spec.strip())
    if argument == "":
        raise UsageError(f"'{spec}': nothing after the colon")
    own = _source(name)
    draft = own.read(Request(name, argument, seed, split))
    usable, skipped = _usable(draft)
    if not usable:
        first = f" (first: {skipped[0][0]}, {skipped[0][1]})" if skipped else ""
        raise NotEnoughDataError(f"{_shown(draft, name)}: none of {len(skipped)} questions can be used{first}")
    pinned = hashlib.sha256()
    for question in usable:
        pinned.update(json.dumps([question.id, question.question, question.aliases, question.answerable]).encode())
    chosen = usable
    if limit is not None:
        wanted = set(shuffled([question.id for question in usable], seed, "questions")[:limit])
        chosen = [question for question in usable if question.id in wanted]
    identity = {
        "source": name,
        "split": split,
        **draft.identity,
        "seed": seed,
        "limit": limit,
        "usable": len(usable),
        "skipped": len(skipped),
        "ruler": own.ruler,
        "questions_sha256": pinned.hexdigest(),
    }
    return QuestionSet(name, tuple(chosen), tuple(skipped), own.ruler, identity)


def _usable(draft: Draft) -> tuple[list[Question], list[tuple[str, str]]]:
    """Questions sorted by id with repeated and unusable aliases dropped, and those that are left out."""
    repeated = [name for name, count in Counter(q.id for q in draft.questions).items() if count > 1]
    if repeated:
        raise UsageError(f"the id '{repeated[0]}' is given to several questions: make ids unique")
    usable: list[Question] = []
    skipped = list(draft.skipped)
    for question in draft.questions:
        aliases = tuple(dict.fromkeys(alias.strip() for alias in question.aliases if answers.usable(alias)))
        if aliases or not question.answerable:
            usable.append(replace(question, aliases=aliases))
        else:
            skipped.append((question.id, NO_ALIAS))
    return sorted(usable, key=lambda question: question.id), sorted(skipped)


def _shown(draft: Draft, name: str) -> str:
    files = draft.identity.get("files")
    return ", ".join(file["name"] for file in files[:3]) if files else name


@lru_cache(maxsize=1)
def _facts_by_id() -> dict[str, facts.Fact]:
    return {fact.id: fact for fact in facts.load_facts()}


def judge_fact(question: Question, response: str) -> Verdict:
    """Label an answer to an embedded fact: `is_correct` decides; an abstention that it does not accept is `uncertain`.

    Raises `UsageError` when the question is no embedded fact.
    """
    fact = _facts_by_id().get(question.id)
    if fact is None:
        raise UsageError(f"the ruler '{facts.RULER}' judges embedded facts only, and '{question.id}' is none")
    found = answers.judge(response, fact.aliases)
    right = facts.is_correct(fact, response)
    if found.label == "uncertain" and not (right and found.match == "exact"):
        return found
    if right and found.match in {"none", "substring"}:
        return Verdict("true", "boundary", fact.answer)
    return replace(found, label="true" if right else "false")
