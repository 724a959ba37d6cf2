"""Stage 2: where in the consistent answers the answer itself stands, as token positions.

The span must be found in the same way for right and for wrong answers, or how it was found would tell the label. So
a short response is trimmed to its content whatever it says (`whole`); a longer one goes to a language model that quotes
the answer (`extracted`), where one is given. Looking for an accepted alias (`alias`) comes last and only on request:
right answers alone can have one, so long right answers would enter and long wrong ones would not. The method is a
column, and its share per label stands in the results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from levercheck.audit.labels import judged_labels
from levercheck.benchmarks.answers import normalise
from levercheck.detect.labelling import judged_samples, label_sources, span_results
from levercheck.detect.prompting import Prompting, from_identity
from levercheck.detect.workspace import Workspace
from levercheck.errors import NotEnoughDataError
from levercheck.evidence import schema
from levercheck.evidence.identity import check_same_model
from levercheck.evidence.unit import Row
from levercheck.lm.model import LanguageModel
from levercheck.lm.offsets import token_offsets, token_span

METHOD = "answer-span/v1"
WHOLE_WORDS = 8
"""Longest trimmed response that is its own answer."""

Found = tuple[int, int] | str
"""A character span, or the reason why there is none."""

Extract = Callable[[Sequence[tuple[str, str]]], list[Found]]
"""(question, response) pairs to spans."""

_LEAD = re.compile(
    r"\s*(?:(?:the|my)\s+(?:correct\s+|final\s+)?answer\s*(?:is|:)|answer\s*:|it\s+is|it's|it’s|that\s+is)\s*:?\s*",
    re.IGNORECASE,
)
_EDGE = " \t\r\n\"'`*_#.,;:!?()[]{}<>“”‘’«»…"


def trimmed(text: str) -> tuple[int, int]:
    """Characters of a response without lead-in ("The answer is"), marks and markdown; (0, 0) when nothing is left."""
    line = text if "\n" not in text.strip() else text.strip().split("\n")[0]
    offset = text.index(line) if line else 0
    lead = _LEAD.match(line)
    start = lead.end() if lead and lead.end() < len(line.rstrip(_EDGE)) else 0
    stop = len(line)
    while start < stop and line[start] in _EDGE:
        start += 1
    while stop > start and line[stop - 1] in _EDGE:
        if line[stop - 1] in ")]" and line.count("(", start, stop) + line.count("[", start, stop):
            break  # "Paris (France)" keeps its bracket
        stop -= 1
    return (offset + start, offset + stop) if stop > start else (0, 0)


def find_alias(text: str, aliases: Sequence[str]) -> tuple[int, int] | None:
    """Characters of the first whole-word mention of an alias, longest alias first; None when there is none."""
    for alias in sorted({a.strip() for a in aliases if a.strip()}, key=lambda a: (-len(a), a)):
        words = [re.escape(w) for w in re.split(r"\s+", alias)]
        pattern = r"(?<!\w)" + re.sub("['’]", "['’]", r"\s+".join(words)) + r"(?!\w)"
        if found := re.search(pattern, text, re.IGNORECASE):
            return found.span()
    return None


def whole(text: str) -> Found:
    """The trimmed response when it is one short line, else the reason why it is not its own answer."""
    start, stop = trimmed(text)
    if start == stop:
        return "the response states nothing"
    if "\n" in text.strip() or len(text[start:stop].split()) > WHOLE_WORDS:
        return f"longer than {WHOLE_WORDS} words and no extractor given"
    return start, stop


def spans(
    ws: Workspace,
    lm: LanguageModel,
    *,
    extract: Extract | None = None,
    identity: dict[str, Any] | None = None,
    aliases: bool = False,
) -> pl.DataFrame:
    """SPANS rows of every consistent item, those without a span with their reason.

    `lm` gives the tokenizer; another model than the one that wrote the answers is a UsageError. `identity` records what
    `extract` is. `aliases` lets an accepted alias mark the answer where nothing else did. Raises NotEnoughDataError
    without right or without wrong answers.
    """
    answers = ws.settings("answers")
    if answers.get("model") is not None:
        check_same_model(answers["model"], lm.identity, "the answers")
    prompting = from_identity(answers["prompting"])
    expected = answers["sampling"]["samples"]
    samples = judged_samples(ws)
    labels = judged_labels(samples, expected)
    consistent = labels.filter(pl.col("label").is_in(["right", "wrong"]))
    for label in ("right", "wrong"):
        if not (consistent["label"] == label).any():
            raise NotEnoughDataError(
                f"no question is consistently {label} among {len(labels)}: ask more or other questions, or use "
                "another model"
            )
    records = consistent.join(ws.rows("questions").select("item_id", "question", "aliases"), on="item_id").to_dicts()
    finder = _Finder(lm, prompting, extract, aliases)
    size = 64
    return ws.compute(
        "spans",
        {
            "method": METHOD,
            "extractor": identity,
            "aliases": aliases,
            "tokenizer": lm.identity["tokenizer"],
            "whole_words": WHOLE_WORDS,
        },
        label_sources(ws),
        schema.SPANS,
        ["item_id"],
        title="find answer spans",
        batches=[records[i : i + size] for i in range(0, len(records), size)],
        rows=len(records),
        work=lambda batch: [_row(lm, record, *found) for record, found in zip(batch, finder(batch), strict=True)],
        summarise=lambda rows: span_results(rows, samples, expected),
    )


@dataclass(frozen=True)
class _Finder:
    """Tokens, method and span of responses."""

    lm: LanguageModel
    prompting: Prompting
    extract: Extract | None
    aliases: bool

    def __call__(self, records: Sequence[dict[str, Any]]) -> list[tuple[list[int], str, Found]]:
        tokens = [
            self.prompting.response(self.lm, r["question"], r["text"]) if r["tokens"] is None else list(r["tokens"])
            for r in records
        ]
        texts = [self.lm.decode(t) for t in tokens]
        found: list[tuple[str, Found]] = [("whole", whole(text)) for text in texts]
        long = [i for i, (_, span) in enumerate(found) if isinstance(span, str) and trimmed(texts[i]) != (0, 0)]
        if self.extract is not None and long:
            pairs = [(records[i]["question"], texts[i]) for i in long]
            for i, span in zip(long, self.extract(pairs), strict=True):
                found[i] = ("extracted", span)
        for i in long:
            if self.aliases and isinstance(found[i][1], str):
                alias = find_alias(texts[i], records[i]["aliases"] or [])
                found[i] = found[i] if alias is None else ("alias", alias)
        return [(t, method, span) for t, (method, span) in zip(tokens, found, strict=True)]


def _row(lm: LanguageModel, record: Mapping[str, Any], tokens: list[int], method: str, found: Found) -> Row:
    raw = lm.decode(tokens)
    row: Row = {
        "item_id": record["item_id"],
        "label": record["label"],
        "text": raw,
        "tokens": tokens,
        "reencoded": record["tokens"] is None,
        "mean_logprob": record["mean_logprob"],
        "agreement": record["agreement"],
    }
    if isinstance(found, str):
        return {**row, "reason": found}
    start, stop = found
    try:
        first, last = token_span(token_offsets(lm.decode, tokens), start, stop)
    except ValueError as error:
        return {**row, "reason": str(error)}
    answer = raw[start:stop]
    mentions = len(re.findall(r"(?<!\w)" + re.escape(answer) + r"(?!\w)", raw, re.IGNORECASE))
    return {
        **row,
        "start": first,
        "stop": last,
        "char_start": start,
        "char_stop": stop,
        "answer": normalise(answer) or answer.casefold(),
        "method": method,
        "mentions": max(mentions, 1),
        "reason": None,
    }
