"""The options of a question as a response may name them: their labels, found as tokens, and their texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from levercheck.benchmarks.scorers import letter_phrases as phrases
from levercheck.benchmarks.scorers.letter_phrases import plain
from levercheck.benchmarks.scorers.tiers import normalise

Grade = Literal["clear", "topic", "loose", "faint"]

# How far from a label its phrase may reach, in characters.
REACH = 160

_BETWEEN = re.compile(r"[ \t]*[.:\-,)\]\"(=]{0,3}[ \t]*")
# An "a" that is no article: normalising would lose it.
_LABEL_A = re.compile(r"(?is)\W*a[ \t]*[).:\]]|.*\ba\W*$")
_NEXT_WORD = re.compile(r"[ \t]+([^\W\d_][\w'-]*)")
_LAST_WORD = re.compile(r"([\w'-]+)[ \t]+$")


@dataclass(frozen=True)
class Sheet:
    """Options by folded label, and what finds their labels and texts. A body is text folded by `plain`."""

    keys: tuple[str, ...]
    texts: dict[str, str]  # plain
    exact: dict[str, frozenset[str]]
    folded: tuple[dict[str, frozenset[str]], ...]
    longest: int
    scanner: re.Pattern[str]
    names: re.Pattern[str] | None  # option texts with a letter in them that could be a label

    def matching(self, body: str) -> frozenset[str]:
        """The options whose text is `body`, by the strictest fold that finds any."""
        if len(body) <= 2 * self.longest + REACH:
            for fold, found in zip(_folds(body), self.folded, strict=True):
                if fold in found:
                    return found[fold]
        return frozenset()

    def identical(self, text: str) -> frozenset[str]:
        """The options whose text is `text`, spaces aside; else those that match it."""
        return self.exact.get(" ".join(text.split())) or self.matching(plain(text))

    def begins(self, body: str, start: int) -> tuple[str, int] | None:
        """The option whose text goes from `start` to the line's end or a pause, and where it ends; the longest."""
        end = body.find("\n", start)
        segment = body[start : min(len(body) if end < 0 else end, start + 2 * self.longest + REACH)]
        for at in (len(segment), *(cut.start() for cut in reversed(list(phrases.CUT.finditer(segment))))):
            if len(hits := self.matching(segment[:at])) == 1:
                return min(hits), start + at
        return None

    def after_own_text(self, body: str, start: int, key: str) -> int | None:
        """Where the text of option `key` ends if it follows at `start`."""
        text, gap = self.texts.get(key, ""), _BETWEEN.match(body, start)
        assert gap is not None
        end = gap.end() + len(text)
        if not text or body[gap.end() : end].casefold() != text.casefold() or body[end : end + 1].isalnum():
            return None
        return end


def _folds(body: str) -> Iterator[str]:
    yield " ".join(body.casefold().split()).rstrip(" .")
    yield "" if _LABEL_A.match(body) else normalise(body)


@lru_cache(maxsize=1 << 12)
def sheet_of(keys: tuple[str, ...], texts: tuple[str, ...]) -> Sheet:
    """The sheet of options with these folded labels and texts."""
    plains = {key: plain(text) for key, text in zip(keys, texts, strict=True)}
    exact: dict[str, frozenset[str]] = {}
    folded: tuple[dict[str, frozenset[str]], ...] = ({}, {})
    for key, text in zip(keys, texts, strict=True):
        for fold, found in zip((" ".join(text.split()), *_folds(plains[key])), (exact, *folded), strict=True):
            if fold:
                found[fold] = found.get(fold, frozenset()) | {key}
    plains = {key: text.rstrip(".") for key, text in plains.items()}
    kinds = [re.escape(key) for key in sorted(keys, key=len, reverse=True) if len(key) > 1 and not key.isdecimal()]
    kinds += [r"[^\W\d_]"] * any(len(key) == 1 and key.isalpha() for key in keys)
    kinds += [r"\d{1,3}"] * any(key.isdecimal() for key in keys)
    kinds += [re.escape(key) for key in keys if len(key) == 1 and not key.isalnum()]
    scanner = re.compile(
        r"(?<![\w'$])(?<!\w[.\-])(?<!\d[,/])(?<!\bn/)"
        r"(?P<noun>(?:option|choice|answer|ans|letter|number|alternative)[ \t]+)?+"
        rf"(?:[(\[]{{1,3}}+[ \t]?)?+(?P<label>{'|'.join(kinds)})"
        r"(?![ \t]*[+*×/=<>^][ \t]*\d)(?:(?P<close>[ \t]?[)\]]{1,3})|(?![\w'+#%°]|[.\-]\w|[,/]\d))",
        re.IGNORECASE,
    )
    named = [
        text
        for text in sorted(plains.values(), key=len, reverse=True)
        if any(found.group().strip() != text for found in scanner.finditer(text))
    ]
    names = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, named))})(?!\w)", re.IGNORECASE) if named else None
    return Sheet(keys, plains, exact, folded, max(map(len, texts)), scanner, names)


@dataclass(frozen=True)
class Token:
    """A label in the text.

    `grade`: a label and nothing else (`clear`); called an option, with more said about it (`topic`); a capital with a
    noun at its side (`loose`); a small letter or a number (`faint`).
    """

    start: int
    end: int  # of the option's text, where that follows
    key: str
    grade: Grade
    noun: bool  # called an option, a choice or the like
    own: bool  # followed by the option's text
    whole: bool  # that, bracketed or closed by a bracket
    word: bool  # followed by a word that makes an article or a name of it


def tokens_of(body: str, sheet: Sheet) -> Iterator[Token]:
    """The labels in `body`, also those of no option, without articles, pronouns and letters within options' texts."""
    names = [match.span() for match in sheet.names.finditer(body)] if sheet.names else []
    done, name = 0, 0
    for match in sheet.scanner.finditer(body):
        start, end = match.span()
        while name < len(names) and names[name][1] <= start:
            name += 1
        if start < done or (name < len(names) and names[name][0] <= start):
            continue
        key, capital = match["label"].casefold(), len(match["label"]) == 1 and match["label"].isupper()
        closed = match["close"] is not None
        own = sheet.after_own_text(body, end, key)
        if own is not None and (closed or capital or body[end : end + 3].strip(" \t")[:1] in set(".:-(=")):
            end = done = own
        else:
            own = None
        whole = closed or own is not None
        following = _NEXT_WORD.match(body, end)
        after = following[1].lower() if following else ""
        if key == "i" and not whole and after not in {"", "is", "because"}:
            continue
        followers = phrases.FOLLOWERS_OF_A if key == "a" else phrases.FOLLOWERS
        noun = match["noun"] is not None
        word = not whole and len(after) > 1 and after not in followers
        preceding = None if noun else _LAST_WORD.search(body[max(0, start - 40) : start].rpartition("\n")[2])
        before = preceding[1].lower() if preceding else ""
        alone = not word and (before in phrases.LEADERS or before.endswith("ly") or len(before) < 2)
        if not whole and not capital and word:
            continue
        if key not in sheet.keys and not capital:
            continue
        grade: Grade
        if noun and word:
            grade = "topic"
        elif whole or noun or (capital and alone):
            grade = "clear"
        else:
            grade = "loose" if capital else "faint"
        yield Token(start, end, key, grade, noun, own is not None, whole, word)


def begun_by(body: str, sheet: Sheet) -> frozenset[str]:
    """The option whose text begins with the number that `body` is, if it is one and there is one."""
    number = normalise(body)
    if not number.isdigit():
        return frozenset()
    hits = [key for key, text in sheet.texts.items() if normalise(text).split()[:1] == [number]]
    return frozenset(hits) if len(hits) == 1 else frozenset()
