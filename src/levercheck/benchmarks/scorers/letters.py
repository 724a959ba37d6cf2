"""Which option a free-text response to a multiple-choice question chooses: the same text always gets the same label."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from levercheck.benchmarks.scorers.letter_claims import Named, named_in
from levercheck.benchmarks.scorers.letter_phrases import OPPOSED_WORDS, PLAIN_WORDS, plain
from levercheck.benchmarks.scorers.letter_tokens import REACH, Sheet, begun_by, sheet_of
from levercheck.benchmarks.scorers.tiers import normalise
from levercheck.errors import UsageError

RULER = "mc-letter/v1"

How = Literal["letter", "stated", "text", "numeric_prefix", "none"]

# Of a longer response, the first and the last half of this many characters are read.
LONGEST = 1 << 15
# Words that a sentence may have beside the option's text that it states.
FURTHER_WORDS = 8
SENTENCE_WORDS = 20

_THOUGHT = re.compile(r"(?is)^.*</(?:think|thinking|reasoning|scratchpad)>(?=.*\w)")
_NEXT_QUESTION = re.compile(r"\n\s*(?:Question|Q\d*)\b[^\n:]{0,20}:")


@dataclass(frozen=True)
class Choice:
    """The label of the chosen option as given, how it was found, and what became of the response.

    `letter`: the label itself; `stated`: a phrase that says which label is the answer; `text`: the option's text;
    `numeric_prefix`: the number that the option's text begins with. `ambiguous`: options are named, but not one of
    them as the answer. `unparsed`: no option is named. `empty`: no letter or digit. These three have no label.
    """

    label: str | None
    how: How
    outcome: Literal["chosen", "ambiguous", "unparsed", "empty"]


_AMBIGUOUS = Choice(None, "none", "ambiguous")
_UNPARSED = Choice(None, "none", "unparsed")


def read_choice(response: str, options: Mapping[str, str]) -> Choice:
    """Read the choice of `response` among `options` (label: text), as pinned by `RULER`.

    Phrases are read in English. Labels compare without regard to case and width; markdown, LaTeX and brackets around
    them do not matter, nor does what stands in a closed `<think>` part or after the start of a next question. In this
    order:

    1. No letter or digit: `empty`.
    2. The whole response is one option's text (identical, else equal after `tiers.normalise`), one label, a label with
       its text, or a number that only one option's text begins with. Where label and text are those of two options:
       `ambiguous`.
    3. Claims: a phrase states a label or an option's exact text ("the answer is C", "Correct: B", "I choose (b)", "so
       D", "B is correct", a boxed label); a line begins with a label and a delimiter, or is an option's text; the
       response begins with an option's text and a pause. One option claimed is the choice. Several are ambiguous,
       unless the last claim revises the earlier ones ("actually", "final", "therefore", "not A but C").
    4. Labels elsewhere, when nothing is claimed. Exactly one is the choice.
    5. When no label is named, a response with the text of one option and of no other, where no option's text holds
       another's: beside at most 8 words, all of them function words ("it is oxygen"), or as the subject or predicate
       of "is" in one sentence of at most 20 further words without denial or alternative ("the gas is called oxygen").

    What is no choice: a denied label ("not A", "A and B are wrong"); an option supposed ("if A, then") or discussed
    ("option A says"); a list of options in their order, but for the only one of them all that is not denied, unless
    it is the last. An option asked about or held possible is no claim ("could it be A?"). A response that denies an
    answer and then only mentions another ("the answer is not A, it is C") is ambiguous. A label that is followed by
    the exact text of another option counts for both.

    What is no label: the first letter of a word; a bare letter with a noun at its side ("A plant", "vitamin C"); "I"
    as a pronoun; a small letter or a number, unless it is stated, bracketed, delimited or alone; part of a decimal or
    a quantity ("1.5 g", "3 apples"); a letter within an option's text.

    `UsageError` when there are no options, or labels are blank or alike.
    """
    labels = {_key(label): label for label in options}
    if not labels or "" in labels or len(labels) < len(options):
        raise UsageError(f"the labels are {', '.join(map(repr, options)) or 'none'}: expected labels that differ")
    sheet = sheet_of(tuple(labels), tuple(options.values()))
    text = response.strip()
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    text = _THOUGHT.sub("", text, count=1).strip()
    following = _NEXT_QUESTION.search(text)
    choice = _read(text[: following.start()], sheet) if following else _UNPARSED
    if choice.label is None:
        choice = _read(text, sheet)
    return choice if choice.label is None else replace(choice, label=labels[choice.label])


def _key(label: str) -> str:
    return unicodedata.normalize("NFKC", label).strip().casefold()


def _read(text: str, sheet: Sheet) -> Choice:
    body = plain(text)
    if not any(character.isalnum() for character in body) and not sheet.identical(text):
        return Choice(None, "none", "empty")
    return _whole(text, body, sheet) or _decide(body, sheet, named_in(body, sheet))


def _whole(text: str, body: str, sheet: Sheet) -> Choice | None:
    """The choice of a response that is nothing but one option's text, label or both."""
    hits = sheet.identical(text)
    label = sheet.scanner.match(body.lstrip(" \t\n'\":"))
    token = label["label"].casefold() if label and not re.search(r"\w", label.string[label.end() :]) else None
    if token in sheet.keys and label is not None:
        if label["noun"] or label["close"]:
            return Choice(token, "stated" if label["noun"] else "letter", "chosen")
        hits |= {token}
        hits |= begun_by(body, sheet)
        return _chosen(hits, "letter")
    if hits:
        return _chosen(hits, "text")
    for key in sheet.keys:
        line = re.match(rf"\W{{0,3}}{re.escape(key)}(?:[ \t]*[).\]:,=]+|[ \t]+-(?=\s))?\s*", body, re.IGNORECASE)
        if line and key in sheet.matching(body[line.end() :]):
            return Choice(key, "letter", "chosen")
    hits = begun_by(body, sheet)
    return _chosen(hits, "numeric_prefix") if hits else None


def _chosen(keys: frozenset[str], how: How) -> Choice:
    return Choice(min(keys), how, "chosen") if len(keys) == 1 else _AMBIGUOUS


def _decide(body: str, sheet: Sheet, found: list[Named]) -> Choice:
    claims = [named for named in found if named.kind in {"claim", "line"}]
    if claims:
        return _final(claims, sheet)
    open_ = [named for named in found if named.kind in {"mention", "topic"} and not named.keys.isdisjoint(sheet.keys)]
    keys = frozenset[str]().union(*(named.keys for named in open_))
    if not keys:
        return _stated_text(body, sheet) if not found else _UNPARSED
    is_denied = any(named.answer for named in found)
    if len(keys) > 1 or is_denied or all(named.kind == "topic" for named in open_):
        return _AMBIGUOUS
    return _chosen(keys, open_[0].how)


def _final(claims: list[Named], sheet: Sheet) -> Choice:
    """The one option claimed, or claimed since the last revision."""
    revisions = [at for at, claim in enumerate(claims) if claim.revises]
    since = claims[revisions[-1] :] if revisions else claims
    keys = frozenset[str]().union(*(claim.keys for claim in since))
    if len(keys) == 1 and not keys.isdisjoint(sheet.keys):
        return _chosen(keys, next(claim.how for claim in claims if claim.keys == keys))
    named = frozenset[str]().union(*(claim.keys for claim in claims))
    return _UNPARSED if named.isdisjoint(sheet.keys) else _AMBIGUOUS


def _stated_text(body: str, sheet: Sheet) -> Choice:
    """The choice of a response that is one sentence with the text of one option."""
    said = normalise(body)
    if len(said) > sheet.longest + 2 * REACH:
        return _UNPARSED
    texts = {key: normalise(text) for key, text in sheet.texts.items()}
    inside = [key for key, text in texts.items() if text and f" {text} " in f" {said} "]
    if len(inside) != 1:
        return _AMBIGUOUS if inside else _UNPARSED
    text = texts[inside[0]]
    others = re.sub(rf"(?<!\S){re.escape(text)}(?!\S)", "", said).split()
    nested = any(f" {text} " in f" {other} " for key, other in texts.items() if key != inside[0])
    if nested or not (_is_all(others) or _is_subject_or_predicate(body, said, text, others)):
        return _UNPARSED
    return Choice(inside[0], "text", "chosen")


def _is_all(others: list[str]) -> bool:
    return len(others) <= FURTHER_WORDS and PLAIN_WORDS.issuperset(others)


def _is_subject_or_predicate(body: str, said: str, text: str, others: list[str]) -> bool:
    if len(others) > SENTENCE_WORDS or not OPPOSED_WORDS.isdisjoint(others) or re.search(r"[.!?;\n]\s*\w", body):
        return False
    text = re.escape(text)
    return re.search(rf"^{text} (?:is|are|was|were) | (?:is|are|was|were|be|called) {text}$", said) is not None
