"""Judging a short free answer against accepted answers, without a model: the same text always gets the same label.

Three rulers, each pinned by its name (a change of behaviour is a new name):

* `alias-tiers/v1` looks for an alias as whole words and says how it was found, so that every label can be audited.
* `alias-substring/gao2025` is the rule published label sets of the field were made with: an alias anywhere counts.
* `abstains/v1` is for questions nobody can answer: declining, or saying that the thing does not exist, is right.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Literal

from levercheck.errors import UsageError, nearest

NORMALISER = "levercheck.normalise/v1"
RULER = "alias-tiers/v1"
SUBSTRING_RULER = "alias-substring/gao2025"
ABSTAIN_RULER = "abstains/v1"
RULERS = (RULER, SUBSTRING_RULER, ABSTAIN_RULER)

# A match deeper in the text than this is one name among many, not the answer.
SHORT_WORDS = 12
WORDS_PER_ALIAS_WORD = 4
SENTENCE_WORDS = 40
LISTED_ITEMS = 4
LISTED_WORDS = 4


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼʻʹ′´`＇‛", "'") | {"−": "-"})
_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
# Accents of Latin, Greek and Cyrillic; optional vowel points of Hebrew and Arabic. Marks of other scripts are letters.
_MARKS = re.compile(r"[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u064b-\u0652\u0670]")
_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?:([,'\u00a0\u2009\u202f])\d{3})(?:\1\d{3})*(?!\d)")
_WORD = re.compile(
    r"(?:(?<![^\s(\[\"'=:~])-)?(?:\d+(?:\.\d+)+|\d(?:[^\W_])*)"  # 1945, 20th, 3.14, 12.05.1990, -5 (not 1914-18)
    r"|[A-Za-z](?:\+\+|#)(?!\w)"  # C++, F#
    r"|(?:[^\W_]|[\u0900-\u0963\u0966-\u0dff\u0e01-\u0e4e\u0e80-\u0ece])+"
)
_CONTRACTED = (
    (re.compile(r"\bcan't\b|\bcannot\b", re.I), "can not"),
    (re.compile(r"\bwon't\b", re.I), "will not"),
    (re.compile(r"(?<=\w)n't\b", re.I), " not"),
)
_NEGATIONS = frozenset({"not", "nor", "never", "neither"})
_REMNANTS = frozenset({"s", "t", "d", "m", "ll", "re", "ve"})
_JOINTS = frozenset({"", "-", "‐", "–", ".", "'", "·"})
_ABBREVIATED = _words("st dr mr mrs ms jr sr mt ft vs no prof gen col capt rev hon etc ca")
_FUNCTION_WORDS = _words(
    "a an and are as at be but by can did do does for from had has have he her here him his how i if in is it its me "
    "my no not of off on or our out she so that their them then there they this to up us was we were what when where "
    "which who whom whose why will with yes you your"
)
_TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
_UNITS = _words("one two three four five six seven eight nine")
_MAGNITUDES = _words("hundred thousand million billion trillion")

_SOFT = r"(?:really |honestly |simply |just |still |currently |actually |unfortunately |also |sorry )*"
_SELF = r"(?:\b(?:i|we) (?:(?:am|m|are|re) )?|^)" + _SOFT
_FIND = r"(?:answer|determine|identif|verif|confirm|say|tell|find|found|provide|specif|know|locat|establish|recall)\w*"
# Part of the rulers: ways to state no answer, over lower-case words without punctuation and without "the".
_ABSTENTIONS = re.compile(
    "|".join(
        (
            r"\b(?:do|did) not (?:\w+ )?(?:know|recall|remember)\b|\bdont know\b",
            _SELF + r"do not (?:\w+ )?have\b",
            r"\b(?:i|we) " + _SOFT + r"(?:can|could) not\b",
            r"\b(?:can not|could not|unable to|not able to|impossible to|not possible to) (?:be )?(?:\w+ly )?" + _FIND,
            _SELF + r"not (?:\w+ly |quite |too |so |very |100 )?(?:sure|certain|aware|familiar|confident)\b",
            r"\bnot (?:been |\w+ly )*(?:provided|specified|mentioned|stated|given|disclosed|available|known)\b"
            r"(?! (?:for|as)\b)",
            r"\b(?:not (?:have )?(?:enough|sufficient)|insufficient|lack of|(?:need|provide|give) (?:me |some )*more) "
            r"(?:\w+ )?(?:information|context|data|details|evidence)\b",
            r"\bno (?:\w+ ){0,2}(?:information|idea|answer|details|knowledge|clue)\b",
            r"\b(?:no one|nobody) (?:really )?knows\b",
            r"\b(?:unsure|uncertain|unclear|undetermined|unanswerable|idk|dunno|beats me)\b",
            r"\b(?:is|are|was|s|remains|currently|still) unknown\b",
            r"^(?:answer )?(?:is )?(?:unknown|n a|not applicable|no answer)$",
        )
    )
)
_DENIALS = re.compile(
    "|".join(
        (
            r"\bthere (?:is|are|was|were|s|has been|have been) (?:\w+ly )?(?:no|not any)\b(?! (?:doubt|question|need))",
            r"\bno (?:such|known|record|records|evidence|mention|reference|\w+ by that name|real)\b",
            r"\bthere (?:do|does|did) not (?:seem|appear) to (?:be|have been)\b",
            r"\bnot (?:\w+ ){0,3}exist\b|\bnever (?:\w+ )?existed\b|\bnon ?existent\b",
            r"\b(?:fictional|fictitious|imaginary|made up|fabricated|hoax)\b",
            r"\bnot (?:a |an )?(?:real|actual|recogni[sz]ed|known|established|genuine|documented|historical)\b"
            r"(?! (?:for|as|to)\b)",
            r"\bnot (?:\w+ )?(?:aware of|familiar with|heard of|come across)\b|\bnever heard of\b",
            r"\bunknown\b",
        )
    )
)
_FIELD_MARKS = str.maketrans(dict.fromkeys(string.punctuation + "‘’´`", " "))
_FIELD_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_FIELD_UNCERTAIN = ("don't know", "cannot", "not provided", "no information")


@dataclass(frozen=True)
class Verdict:
    """A label, how the accepted answer was found, and which one.

    A `boundary` match labelled `false` is one the guards of `judge` refused (negated, listed, deep in a long text).
    """

    label: Literal["true", "false", "uncertain"]
    match: Literal["exact", "boundary", "substring", "none"]
    alias: str | None


def judge(response: str, aliases: Sequence[str], *, ruler: str = RULER) -> Verdict:
    """Label `response` by `ruler`.

    `alias-tiers/v1`, in this order:

    1. A response without a letter or digit states no answer: `uncertain`.
    2. `exact`: the words of the response are the words of an alias, an article aside. `true`, also for an alias that
       reads like an abstention ("Unknown").
    3. A response that says it has no answer is `uncertain`, unless the phrase is part of an alias it states.
    4. `boundary`: the alias is a run of whole words. A hyphen, an apostrophe or the point of an initial may stand
       between words or be left out ("Spider-Man" is "Spiderman"; "J. K. Rowling" is "JK Rowling"). `true` unless

       * it stands directly after "not", "nor", "never", "neither" or "n't";
       * it is part of a longer number ("five" in "twenty-five", "10" in "10 million");
       * the alias is nothing but function words ("It", "The Who", "US") and is not written as a name: neither
         capitalised as in the alias inside a sentence, nor alone between two marks;
       * it is an item, not the first, of a list of at least 4 items of at most 4 words each;
       * the response has more than max(12, 4 per word of the alias) words and the alias is not in its first
         sentence, or that sentence has more than 40 words.

    5. `substring`: the alias occurs inside other words only ("art" in "party"): `false`, flagged.

    `alias-substring/gao2025` reproduces the field's rule to the letter, its errors included; an empty response is
    `false` there. `match` still says how the alias was found. `abstains/v1` ignores the aliases: `true` for an
    abstention or a denial that the thing exists, `uncertain` for an empty response, else `false`.

    The first accepted alias in the order given is reported. Aliases without a letter or digit are ignored; `ValueError`
    when none is left, `UsageError` for an unknown ruler.
    """
    if ruler == RULER:
        return _tiers(response, aliases)
    if ruler == SUBSTRING_RULER:
        return _substring(response, aliases)
    if ruler != ABSTAIN_RULER:
        raise UsageError(f"unknown ruler '{ruler}'{nearest(ruler, RULERS)}")
    if not usable(response):
        return Verdict("uncertain", "none", None)
    return Verdict("true" if abstains(response) or denies_existence(response) else "false", "none", None)


def usable(alias: str) -> bool:
    """Whether an alias has a letter or digit to be found by."""
    plain = any(character.isalnum() and character.isascii() for character in alias)
    return plain or _alias(alias) is not None


def normalise(text: str) -> str:
    """Fold `text` to lower-case words separated by single spaces, as pinned by `NORMALISER`.

    NFKC; accents removed; casefolded; "n't" as " not"; "&" as "and"; digit groups joined ("1,000" is "1000"); decimals
    and a leading minus kept ("3.14", "-5"); other marks are spaces; "the" dropped, "a" and "an" dropped at the start.
    """
    read = _read(text)
    return " ".join(read.words[read.article :])


def abstains(response: str) -> bool:
    """Whether the response says that it has no answer."""
    return _ABSTENTIONS.search(" ".join(_read(response).words)) is not None


def denies_existence(response: str) -> bool:
    """Whether the response says that what it was asked about does not exist or is unknown."""
    return _DENIALS.search(" ".join(_read(response).words)) is not None


@dataclass(frozen=True)
class _Text:
    """Words as compared and as spelled; `gaps[i]` is what stands before word i, the last one what ends the text."""

    words: tuple[str, ...]
    spelled: tuple[str, ...]
    gaps: tuple[str, ...]
    compact: str
    article: int  # 1 when the text begins with "a" or "an", else 0


@lru_cache(maxsize=1 << 15)
def _read(text: str) -> _Text:
    text = text.translate(_APOSTROPHES)
    text = _GROUPED.sub(lambda found: re.sub(r"\D", "", found.group()), text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text))
        text = unicodedata.normalize("NFC", _MARKS.sub("", unicodedata.normalize("NFD", text)))
    for pattern, replacement in _CONTRACTED:
        text = pattern.sub(replacement, text)
    text = re.sub(r"(?<![\d.])\.(?=\d)", "0.", text.replace("&", " and "))
    words: list[str] = []
    spelled: list[str] = []
    gaps: list[str] = []
    gap, end = "", 0
    found = list(_WORD.finditer(text))
    all_articles = all(match.group().casefold() == "the" for match in found)
    for match in found:
        gap += text[end : match.start()]
        end = match.end()
        word = match.group().casefold()
        if word == "the" and not all_articles and text[end : end + 1].isspace():
            continue
        words.append(word.translate(_LETTERS))
        spelled.append(match.group())
        gaps.append(gap)
        gap = ""
    gaps.append(gap + text[end:])
    article = len(words) > 1 and words[0] in {"a", "an"} and gaps[1].isspace()
    return _Text(tuple(words), tuple(spelled), tuple(gaps), "".join(words), int(article))


@dataclass(frozen=True)
class _Alias:
    """An accepted answer: its words, the letters they make, and the offsets at which words meet."""

    alias: str
    words: tuple[str, ...]
    spelled: tuple[str, ...]
    compact: str
    joints: frozenset[int]


@lru_cache(maxsize=1 << 15)
def _alias(alias: str) -> _Alias | None:
    text = _read(alias)
    words = text.words[text.article :]
    joints = frozenset(accumulate(len(word) for word in words[:-1]))
    return _Alias(alias, words, text.spelled[text.article :], "".join(words), joints) if words else None


def _forms(aliases: Sequence[str]) -> list[_Alias]:
    forms = [form for form in map(_alias, aliases) if form is not None]
    if not forms:
        raise ValueError("no alias has a letter or digit")
    return forms


def _runs(text: _Text, form: _Alias) -> Iterator[tuple[int, int]]:
    """Every run of whole words `[start, end)` of `text` that spells the alias, together or apart."""
    if form.compact not in text.compact:
        return
    for start in range(len(text.words)):
        if start and text.gaps[start] == "'" and text.words[start] in _REMNANTS:
            continue
        length = 0
        joints: list[tuple[int, int]] = []
        for end in range(start, len(text.words)):
            if not form.compact.startswith(text.words[end], length):
                break
            length += len(text.words[end])
            if length == len(form.compact):
                if _same_joints(text, form, joints):
                    yield start, end + 1
                break
            joints.append((length, end + 1))


def _same_joints(text: _Text, form: _Alias, joints: list[tuple[int, int]]) -> bool:
    """Whether words that meet in only one of the two spellings may do so: never two digits, nor across a space."""
    for offset in form.joints.symmetric_difference(at for at, _ in joints):
        if form.compact[offset - 1].isdigit() and form.compact[offset].isdigit():
            return False
    for offset, word in joints:
        if offset in form.joints or text.gaps[word] in _JOINTS:
            continue
        initial = text.gaps[word] == ". " and len(text.words[word - 1]) == 1
        quantity = form.compact[offset - 1].isdigit() and text.gaps[word] == " "
        if not (initial or quantity):
            return False
    return True


def _tiers(response: str, aliases: Sequence[str]) -> Verdict:
    forms = _forms(aliases)
    text = _read(response)
    if not text.words:
        return Verdict("uncertain", "none", None)
    counted: str | None = None
    refused: str | None = None
    stated: set[int] = set()
    found = [(form, run) for form in forms for run in _runs(text, form)]
    for form, (start, end) in found:
        if start <= text.article and end == len(text.words):
            return Verdict("true", "exact", form.alias)
    opening = _sentence(text, 0)[1] if found else 0
    for form, (start, end) in found:
        if _counts(text, form, start, end, opening):
            counted = counted or form.alias
            stated.update(range(start, end))
        else:
            refused = refused or form.alias
    rest = " ".join("·" if at in stated else word for at, word in enumerate(text.words))
    match: Literal["boundary", "none"] = "boundary" if counted or refused else "none"
    if _ABSTENTIONS.search(rest):
        return Verdict("uncertain", match, counted or refused)
    if counted or refused:
        return Verdict("true" if counted else "false", match, counted or refused)
    spaced = " ".join(text.words)
    inside = next((form.alias for form in forms if " ".join(form.words) in spaced), None)
    return Verdict("false", "substring" if inside else "none", inside)


def _counts(text: _Text, form: _Alias, start: int, end: int, opening: int) -> bool:
    """Whether a run of whole words states the answer; the refusals are those listed at `judge`.

    The first sentence has `opening` words.
    """
    if _negated(text, start) or _part_of_number(text, start, end):
        return False
    if _FUNCTION_WORDS.issuperset(form.words) and not _written_as_name(text, form, start, end):
        return False
    is_short = len(text.words) <= max(SHORT_WORDS, WORDS_PER_ALIAS_WORD * len(form.words))
    if not is_short and (start >= opening or opening > SENTENCE_WORDS):
        return False
    first, last = _sentence(text, start)
    return not (_listed(text, first, last, start) or _listed(text, 0, len(text.words), start))


def _negated(text: _Text, start: int) -> bool:
    at = start
    while at > 0 and not re.search(r"[,.;:!?\n]", text.gaps[at]):
        if text.words[at - 1] in _NEGATIONS:
            return True
        if text.words[at - 1] not in {"a", "an"}:
            return False
        at -= 1
    return False


def _part_of_number(text: _Text, start: int, end: int) -> bool:
    before = text.words[start - 1] if start and not text.gaps[start].strip(" -") else ""
    after = text.words[end] if end < len(text.words) and not text.gaps[end].strip(" -") else ""
    first, last = text.words[start], text.words[end - 1]
    if last[-1].isdigit() or last in _UNITS | _TENS | _MAGNITUDES:
        if after in _MAGNITUDES or (last in _TENS and after in _UNITS):
            return True
        return first in _UNITS and before in _TENS
    return False


def _written_as_name(text: _Text, form: _Alias, start: int, end: int) -> bool:
    """Whether function words stand alone between marks, or are capitalised as in the alias within a sentence."""
    left = start == 0 or (text.gaps[start].strip() != "" and text.gaps[start] not in _JOINTS)
    right = end == len(text.words) or (text.gaps[end].strip() != "" and text.gaps[end] not in _JOINTS)
    if left and right:
        return True
    spelling = text.spelled[start:end]
    if spelling != form.spelled or not spelling[0][0].isupper() or (spelling[0] in {"I", "A"} and not right):
        return False
    if len(text.words) > 1 and all(word.isupper() for word in text.spelled):
        return False
    shouted = all(len(word) > 1 and word.isupper() for word in spelling)
    return shouted or not (start == 0 or _ends_sentence(text, start))


def _sentence(text: _Text, at: int) -> tuple[int, int]:
    """The sentence `[first, last)` that word `at` is in."""
    first = next((i for i in range(at, 0, -1) if _ends_sentence(text, i)), 0)
    last = next((i for i in range(at + 1, len(text.words)) if _ends_sentence(text, i)), len(text.words))
    return first, last


def _ends_sentence(text: _Text, at: int) -> bool:
    """Whether a sentence ends between the words at-1 and at; not after an initial, an abbreviation or a colon."""
    gap = text.gaps[at]
    if ":" in gap:
        return False
    if re.search(r"[!?。\n]", gap):
        return True
    before = text.words[at - 1]
    return re.search(r"\.[\"')\]]*\s", gap) is not None and len(before) > 1 and before not in _ABBREVIATED


def _listed(text: _Text, first: int, last: int, start: int) -> bool:
    """Whether the word `start` begins in a later item of a list of short items."""
    items = [0]
    own = 0
    for at in range(first, last):
        if text.words[at] in {"or", "and"} or (at > first and re.search(r"[,;/|•*\n]", text.gaps[at])):
            items.append(0)
        items[-1] += text.words[at] not in {"or", "and"}
        if at == start:
            own = len([size for size in items if size])
    sizes = [size for size in items if size]
    return own > 1 and len(sizes) >= LISTED_ITEMS and max(sizes) <= LISTED_WORDS


def _substring(response: str, aliases: Sequence[str]) -> Verdict:
    folded = [(alias, key) for alias in aliases if (key := _field_normalise(alias))]
    if not folded:
        raise ValueError("no alias has a letter or digit")
    if any(phrase in response.lower() for phrase in _FIELD_UNCERTAIN):
        return Verdict("uncertain", "none", None)
    answer = _field_normalise(response)
    for alias, key in folded:
        if answer == key:
            return Verdict("true", "exact", alias)
    for alias, key in folded:
        if f" {key} " in f" {answer} ":
            return Verdict("true", "boundary", alias)
    inside = next((alias for alias, key in folded if key in answer), None)
    return Verdict("true" if inside else "false", "substring" if inside else "none", inside)


def _field_normalise(text: str) -> str:
    plain = text.lower().replace("_", " ").translate(_FIELD_MARKS)
    return " ".join(_FIELD_ARTICLES.sub(" ", plain).split())
