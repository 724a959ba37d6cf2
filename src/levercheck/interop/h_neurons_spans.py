"""Where the answer stands in a response whose tokens are known as strings only.

Such strings lost something: decoders strip the space of a lone token, some files keep the vocabulary's own marks (`▁`,
`Ġ`), and a token that holds part of a character decodes to nothing readable. The strings are therefore laid along the
response, and what was found is given in characters, which any tokenizer can use.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from levercheck.benchmarks.answers import normalise
from levercheck.evidence.unit import Row
from levercheck.interop.h_neurons_formats import Tokened
from levercheck.lm.model import LanguageModel
from levercheck.lm.offsets import REPLACEMENT, token_offsets, token_span

METHOD = "extracted"
NO_TOKENS = "the file gives no answer tokens"
NOT_FOUND = "the answer tokens are not among those of the response"
NOT_SPELLED = "the token strings do not spell the response"
OTHER_TEXT = "the tokenizer does not give the response back"

_EDGE = " \t\r\n\"'`*_.,;:!?“”‘’«»…"
_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
Offsets = list[tuple[int, int]]


@dataclass(frozen=True)
class Located:
    """An answer inside a response: token positions, characters, and whether the tokens stood there side by side."""

    start: int
    stop: int
    char_start: int
    char_stop: int
    contiguous: bool


def locate(strings: Sequence[str], answer: Sequence[str], text: str) -> Located | str:
    """The answer's place in `text`, or the reason why there is none."""
    if not answer or not strings:
        return NO_TOKENS
    found = _run(strings, answer)
    if found is None:
        return NOT_FOUND
    offsets = string_offsets(strings, text)
    if offsets is None:
        return NOT_SPELLED
    start, stop, contiguous = found
    first, last = offsets[start][0], offsets[stop - 1][1]
    content = text[first:last].strip(_EDGE) or text[first:last].strip()
    if not content:
        return "the answer tokens state nothing"
    first = text.index(content, first)
    return Located(start, stop, first, first + len(content), contiguous)


def string_offsets(strings: Sequence[str], text: str) -> Offsets | None:
    """Half-open characters of every token string in `text`; None when they do not spell it."""
    readings: tuple[Callable[[Sequence[str], str], Offsets | None], ...] = (_walk, _byte_level, _marked)
    return next((offsets for reading in readings if (offsets := reading(strings, text)) is not None), None)


def _marked(strings: Sequence[str], text: str) -> Offsets | None:
    return _walk([_unmarked(s) for s in strings], text)


def _unmarked(string: str) -> str:
    plain = string.replace("▁", " ").replace("Ġ", " ").replace("Ċ", "\n")
    return _BYTE.sub(REPLACEMENT, plain)


def _walk(strings: Sequence[str], text: str) -> Offsets | None:
    """Lay the strings along the text. Spaces may be lost; unreadable strings take what is between their neighbours."""
    offsets: Offsets = []
    at = 0
    unreadable: list[str] = []
    for string in strings:
        if REPLACEMENT in string and not text.startswith(string, at):
            unreadable.append(string)
            continue
        place = _after(text, string, at, unreadable) if unreadable else _next(text, string, at)
        if place is None:
            return None
        offsets += [(at, place[0])] * len(unreadable)
        unreadable = []
        offsets.append(place)
        at = place[1]
    if unreadable:
        offsets += [(at, len(text))] * len(unreadable)
        at = len(text)
    return offsets if not text[at:].strip() else None


def _after(text: str, string: str, at: int, unreadable: Sequence[str]) -> tuple[int, int] | None:
    """Where `string` follows pieces of characters: the nearest place that leaves at most a character per piece."""
    parts = re.split(f"({REPLACEMENT}+)", "".join(unreadable))
    pattern = "".join(f".{{1,{len(p)}}}?" if p.startswith(REPLACEMENT) else _loose(p) for p in parts)
    found = re.compile(f"{pattern}({_loose(string)})", re.DOTALL).match(text, at)
    return found.span(1) if found else None


def _loose(string: str) -> str:
    """Pattern of a string whose leading spaces may be lost."""
    content = string.lstrip()
    return (r"\s*" if content else re.escape(string)) + re.escape(content) if string else ""


def _next(text: str, string: str, at: int) -> tuple[int, int] | None:
    if text.startswith(string, at):
        return at, at + len(string)
    content = string.lstrip()
    if not content:
        return at, at  # a space that the response does not have
    gap = at + len(text[at:]) - len(text[at:].lstrip())
    return (gap, gap + len(content)) if text.startswith(content, gap) else None


def _byte_alphabet() -> dict[str, int]:
    """The printable characters that byte-level vocabularies write for the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


_ALPHABET = _byte_alphabet()


def _byte_level(strings: Sequence[str], text: str) -> Offsets | None:
    """Offsets of a byte-level vocabulary's own spelling; a character belongs to the token that completes it."""
    if not all(c in _ALPHABET for s in strings for c in s):
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    ends, whole = [], ""
    try:
        for string in strings:
            whole += decoder.decode(bytes(_ALPHABET[c] for c in string))
            ends.append(len(whole))
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return None
    if whole.strip() != text.strip():
        return None
    shift = (len(text) - len(text.lstrip())) - (len(whole) - len(whole.lstrip()))
    places = [min(max(end + shift, 0), len(text)) for end in ends]
    return list(zip([0, *places[:-1]], places, strict=True))


def _run(strings: Sequence[str], answer: Sequence[str]) -> tuple[int, int, bool] | None:
    """The first place of the answer's strings among the response's, else the shortest one that has them in order."""
    keys: tuple[Callable[[str], str], ...] = (str, _unmarked, lambda s: _unmarked(s).strip())
    for key in keys:
        hay, needle = [key(s) for s in strings], [key(s) for s in answer]
        for start in range(len(hay) - len(needle) + 1):
            if hay[start : start + len(needle)] == needle:
                return start, start + len(needle), True
    best: tuple[int, int] | None = None
    needle = [word for word in needle if word]
    for start in range(len(hay)):
        stop = _in_order(hay, needle, start)
        if stop is not None and (best is None or stop - start < best[1] - best[0]):
            best = start, stop
    return None if best is None else (*best, False)


def _in_order(hay: Sequence[str], needle: Sequence[str], start: int) -> int | None:
    if not needle or hay[start] != needle[0]:
        return None
    at = start
    for word in needle:
        while at < len(hay) and hay[at] != word:
            at += 1
        if at == len(hay):
            return None
        at += 1
    return at


def span_row(item: Tokened, label: str | None, agreement: float | None, lm: LanguageModel | None) -> Row:
    """SPANS row of one response; token ids and positions need a tokenizer."""
    row: Row = {
        "item_id": item.qid,
        "label": label,
        "text": item.response,
        "mean_logprob": item.exact.mean_logprob if item.exact else None,
        "agreement": agreement,
    }
    exact = item.exact
    if exact is not None and 0 <= exact.chars[0] < exact.chars[1] <= len(item.response):
        found: Located | str = Located(*exact.span, *exact.chars, contiguous=True)
    else:
        found = locate(item.strings, item.answer, item.response)
    if isinstance(found, str):
        return {**row, "reason": found}
    start, stop = found.char_start, found.char_stop
    if lm is not None:
        ids, own = _ids(item, lm)
        text = lm.decode(ids)
        shift = _shift(item.response, text)
        row |= {"text": text, "tokens": ids, "reencoded": not own}
        if shift is None:
            return {**row, "reason": OTHER_TEXT}
        start, stop = start + shift, stop + shift
        if [lm.decode([i]) for i in ids] == list(item.strings):
            first, last = found.start, found.stop
        else:
            try:
                first, last = token_span(token_offsets(lm.decode, ids), start, stop)
            except ValueError as error:
                return {**row, "reason": str(error)}
        row |= {"start": first, "stop": last}
    stated = row["text"][start:stop]
    mentions = len(re.findall(r"(?<!\w)" + re.escape(stated) + r"(?!\w)", row["text"], re.IGNORECASE))
    return {
        **row,
        "char_start": start,
        "char_stop": stop,
        "answer": normalise(stated) or stated.casefold(),
        "method": exact.method if exact else METHOD,
        "mentions": exact.mentions if exact else max(mentions, 1),
        "reason": None,
    }


def _ids(item: Tokened, lm: LanguageModel) -> tuple[list[int], bool]:
    """Token ids of the response, and whether they are the file's own and not made from the text."""
    if item.exact is not None and item.exact.token_ids is not None:
        ids = list(item.exact.token_ids)
        try:
            if [lm.decode([i]) for i in ids] == list(item.strings) and lm.decode(ids) == item.response:
                return ids, True
        except (IndexError, KeyError, OverflowError, TypeError):
            pass  # ids of another tokenizer
    return lm.encode(item.response), False


def _shift(response: str, text: str) -> int | None:
    """How far characters move from the file's response to the tokenizer's; None when it is another text."""
    if response == text:
        return 0
    if response.strip() != text.strip():
        return None
    return (len(text) - len(text.lstrip())) - (len(response) - len(response.lstrip()))
