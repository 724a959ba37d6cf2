"""What a response says about each option it names: claimed as the answer, mentioned, discussed or denied."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from levercheck.benchmarks.scorers import letter_phrases as phrases
from levercheck.benchmarks.scorers.letter_tokens import REACH, Sheet, Token, tokens_of

Kind = Literal["claim", "line", "mention", "topic", "denied"]

_DELIMITER = re.compile(r"[ \t]*(?:[).\]:]|-[ \t]|\n|\Z)[ \t]*")
_CAPITAL_DELIMITER = re.compile(r"[ \t]*(?:[).\]:=,;!]|-[ \t]|\n|\Z|(?:because|since|as|for|due)\b)")
_LINE_END = re.compile(r"[\W_]*?(?:\n|\Z)")
_PAUSE = re.compile(r"[ \t,:-]*")
_PREDICATE = re.compile(r"\s+(?:is|are|was|were|seems?|looks?|sounds?|appears?|would|could|might|may|has|does|can)\b")
_SINGULAR = re.compile(r"\s+(?:is|was|isn't|would|must|should)\b")
_OTHERS = re.compile(r"\b(?:others?|rest|why\s+not)\b", re.IGNORECASE)
_ANSWER = re.compile(r"\b(?:answer|choice|option)\b", re.IGNORECASE)

UNSURE = ""
"""Stands among the options of a claim whose label may be an article."""


@dataclass(frozen=True)
class Named:
    """Options that a stretch of the text names by label or text.

    `claim`: a phrase makes them the answer; `line`: they begin a line with a delimiter, or are all of it; `mention`:
    neither; `topic`: something else is said about them; `denied`.
    """

    start: int
    end: int
    keys: frozenset[str]  # folded labels; those of no option and `UNSURE` may be among them
    kind: Kind
    how: Literal["letter", "stated", "text"]
    item: bool = False  # one option, written as the options of a list are
    aside: bool = False  # supposed, or held possible
    revises: bool = False
    answer: bool = False  # denied as the answer


def named_in(body: str, sheet: Sheet) -> list[Named]:
    """What `body` names, in order. Options that are listed in their order are topics, whatever their form."""
    found = list(_by_text(body, sheet))
    groups = list(_groups(body, tokens_of(body, sheet)))
    last: Named | None = None
    for at, group in enumerate(groups):
        limit = groups[at + 1][0].start if at + 1 < len(groups) else len(body)
        if named := _by_label(body, sheet, group, limit, last):
            found.append(named)
            last = named
    return _without_lists(body, sorted(found, key=lambda named: named.start), sheet)


def _groups(body: str, tokens: Iterator[Token]) -> Iterator[list[Token]]:
    """Labels joined by "and", "or", a comma or the like."""
    group: list[Token] = []
    for token in tokens:
        if group:
            gap = body[group[-1].end : token.start]
            joined = len(gap) < REACH and phrases.CONNECTIVE.fullmatch(gap)
            if not joined or (gap.strip() == "," and _SINGULAR.match(body, token.end)):
                yield group
                group = []
        group.append(token)
    if group:
        yield group


def _by_label(body: str, sheet: Sheet, group: Sequence[Token], limit: int, last: Named | None) -> Named | None:
    """What the text around a group of labels makes of them. `last` is what was named before, `limit` where the next
    group begins. None: nothing, so that the group may as well be words.
    """
    first, final = group[0], group[-1]
    line = body.rfind("\n", 0, first.start) + 1
    edge = last.end if last else 0
    before = body[max(line, edge, first.start - REACH) : first.start]
    after = body[final.end : min(limit, final.end + REACH)].partition("\n")[0]
    between = body[max(edge, first.start - REACH) : first.start]
    ends_line = _LINE_END.match(body, final.end) is not None
    named = Named(
        start=first.start,
        end=final.end,
        keys=frozenset(token.key for token in group),
        kind="mention",
        how="stated" if first.noun else "letter",
        item=len(group) == 1 and ((first.whole and not first.noun) or first.start == line),
        revises=phrases.REVISED.search(between) is not None,
    )
    if phrases.DENIED_BEFORE.search(before) or phrases.DENIED_AFTER.search(after):
        return replace(named, kind="denied", answer=_ANSWER.search(before) is not None)
    if last and (last.kind == "denied" or last.aside) and phrases.CONTRASTED.search(between):
        return replace(named, kind="claim", how="stated", item=False, revises=True)
    if phrases.SUPPOSED.search(before):
        return replace(named, kind="topic", item=False, aside=True)
    named = replace(named, keys=named.keys | _rivals(body, sheet, group))
    asked, hedged = phrases.ASKED.search(after), phrases.HEDGED.search(before)
    if not asked and not hedged:
        stated = phrases.STATED.search(before) is not None
        said = stated or (phrases.HEADING.search(before) and edge <= line and ends_line)
        said = said or _said(before, after, last)
        unclear = len(group) == 1 and first.word
        if said and unclear and first.key in {"a", "i"}:
            return replace(named, kind="claim", keys=named.keys | {UNSURE})
        if phrases.AFFIRMED_AFTER.search(after):
            return replace(named, kind="claim", how="stated", item=named.item and not said)
        if stated or (said and not unclear):
            return replace(named, kind="claim", how="stated", item=False)
    delimiter = _DELIMITER if first.grade == "faint" else _CAPITAL_DELIMITER
    if first.noun and first.start and (first.own or after.lstrip()[:1] == ":") and not ends_line:
        return replace(named, kind="topic")
    if first.start == line and not asked and (first.whole or len(group) > 1 or delimiter.match(body, final.end)):
        return replace(named, kind="line")
    grades = {token.grade for token in group}
    if "clear" in grades:
        return replace(named, aside=hedged is not None)
    return replace(named, kind="topic", item=False) if "topic" in grades else None


def _said(before: str, after: str, last: Named | None) -> bool:
    if not phrases.SAID.search(before) or _PREDICATE.match(after):
        return False
    return not (last and last.answer and phrases.PRONOUN.search(before))


def _rivals(body: str, sheet: Sheet, group: Sequence[Token]) -> frozenset[str]:
    """Other options that a single label names as well: its own sign is their text, or their text or label follows."""
    token = group[0]
    if len(group) > 1 or token.own:
        return frozenset()
    if not token.whole and _LINE_END.match(body, token.end):
        return sheet.matching(token.key)
    delimiter = _DELIMITER.match(body, token.end)
    if not (delimiter or token.whole):
        return frozenset()
    start = delimiter.end() if delimiter else token.end
    if (label := sheet.scanner.match(body, start)) and _LINE_END.match(body, label.end()):
        return frozenset({label["label"].casefold()})
    text = sheet.begins(body, start)
    return frozenset({text[0]} if text else ())


def _by_text(body: str, sheet: Sheet) -> Iterator[Named]:
    """Options named by their exact text: as a line, at the start of the response, or announced by a phrase."""
    begun = sheet.begins(body, 0)
    for line in re.finditer(r"[^\n]+", body):
        keys = frozenset[str]() if sheet.scanner.fullmatch(line.group()) else sheet.matching(line.group())
        if len(keys) == 1:
            begun = begun if line.start() else None
            yield Named(line.start(), line.end(), keys, "line", "text", item=True)
    if begun:
        yield Named(0, 0, _with_label(body, sheet, *begun), "line", "text", item=True)
    for phrase in phrases.OPENS_TEXT.finditer(body):
        filled = phrases.FILLED.match(body, phrase.end())
        text = sheet.begins(body, phrase.end()) or (filled and sheet.begins(body, filled.end()))
        label = sheet.scanner.match(phrase.group()) or sheet.scanner.match(body, phrase.end())
        labelled = label and (label["noun"] or label["close"])
        if text and not labelled and not phrases.DENIED_BEFORE.search(phrase.group()):
            revises = phrases.REVISED.search(body[max(0, phrase.start() - REACH) : phrase.end()]) is not None
            keys = _with_label(body, sheet, *text)
            yield Named(phrase.start(), phrase.end(), keys, "claim", "text", revises=revises)


def _with_label(body: str, sheet: Sheet, key: str, end: int) -> frozenset[str]:
    """The option whose text ends at `end`, and the one whose label follows: "oxygen (A)"."""
    pause = _PAUSE.match(body, end)
    label = sheet.scanner.match(body, pause.end() if pause else end)
    return frozenset({key, label["label"].casefold()} if label and (label["noun"] or label["close"]) else {key})


def _without_lists(body: str, found: Sequence[Named], sheet: Sheet) -> list[Named]:
    """`found`, where a list in the order of the options claims none, but for the only undenied one of all.

    A list of the others after an option does not begin with it.
    """
    runs: list[list[int]] = []
    highest = len(sheet.keys)
    for at, named in enumerate(found):
        if named.item and (key := min(named.keys)) in sheet.keys:
            place = sheet.keys.index(key)
            if place <= highest or (len(runs[-1]) == 1 and _OTHERS.search(body, found[runs[-1][0]].end, named.start)):
                runs.append([])
            runs[-1].append(at)
            highest = place
    listed: set[int] = set()
    for run in runs:
        left = [at for at in run if found[at].kind != "denied"]
        if len(run) > 1 and (len(left) > 1 or len(run) < len(sheet.keys) or left == run[-1:]):
            listed.update(at for at in left if found[at].kind != "claim")
    return [replace(named, kind="topic") if at in listed else named for at, named in enumerate(found)]
