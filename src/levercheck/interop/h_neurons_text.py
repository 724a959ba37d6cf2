"""Questions, answers and spans of a workspace from consistency samples and answer tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from levercheck.audit.labels import judged_labels
from levercheck.detect.labelling import label_sources, span_summary
from levercheck.detect.prompting import Prompting
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence import schema
from levercheck.evidence.unit import Row
from levercheck.interop.h_neurons_context import Context
from levercheck.interop.h_neurons_formats import LABEL_OF, Sampled, Tokened
from levercheck.interop.h_neurons_spans import span_row
from levercheck.stats import proportion

RULER = "imported"
NO_RESPONSES = "the file has no responses"
_LABELS = ("right", "wrong", "mixed", "uncertain", "error", "incomplete")
_ROWS_AT_ONCE, _SPANS_AT_ONCE = 1000, 64
_SHARED_WORDS = 4


def import_samples(ctx: Context, samples: Sequence[Sampled]) -> None:
    """Questions and answers, every verdict kept as it is."""
    questions: list[Row] = [
        {
            "item_id": s.qid,
            "question": ctx.options.bare(s.question),
            "aliases": None if s.truth is None else list(s.truth),
            "answerable": True if s.truth else None,
            "skipped": None if s.responses else NO_RESPONSES,
        }
        for s in samples
    ]
    answers: list[Row] = [
        {"item_id": s.qid, "sample": i, "text": text, "verdict": verdict, "ruler": RULER}
        for s in samples
        for i, (text, verdict) in enumerate(zip(s.responses, s.verdicts, strict=True))
    ]
    if not answers:
        raise NotEnoughDataError("the samples hold no response at all: give the file that has them")
    lacking = [s for s in samples if s.lacking]
    if lacking:
        ctx.report.notes.append(
            f"{sum(s.lacking for s in lacking)} verdicts or responses of {len(lacking)} questions are missing (first "
            f"'{lacking[0].qid}'): such verdicts stand as error"
        )
    _hint(ctx, [s.question for s in samples])
    _questions(ctx, questions, ["samples"])
    _answers(ctx, answers, ["samples"], max(len(s.responses) for s in samples))


def import_responses(ctx: Context, tokens: Sequence[Tokened], labels: Mapping[str, str]) -> None:
    """Questions and answers from answer tokens alone: each item's one known response; `labels` are those of the ids."""
    _hint(ctx, [t.question for t in tokens])
    word = {label: verdict for verdict, label in LABEL_OF.items()}
    if not ctx.ws.has("questions"):
        asked: list[Row] = [{"item_id": t.qid, "question": ctx.options.bare(t.question)} for t in tokens]
        _questions(ctx, asked, ["answer_tokens"])
    if not ctx.ws.has("answers"):
        known = {t.qid: t.judge or word.get(labels.get(t.qid, "")) for t in tokens}
        answers: list[Row] = [
            {"item_id": t.qid, "sample": 0, "text": t.response, "verdict": known[t.qid], "ruler": RULER} for t in tokens
        ]
        used = ["train_ids", "test_ids"] if any(t.judge is None for t in tokens) else []
        _answers(ctx, answers, ["answer_tokens", *used], 1, only_representative=True)


def _questions(ctx: Context, rows: Sequence[Row], sources: Sequence[str]) -> None:
    frame = ctx.ws.compute(
        "questions",
        {"imported": ctx.files.identity(*sources), "instruction": ctx.options.instruction},
        [],
        schema.QUESTIONS,
        ["item_id"],
        title="import questions",
        batches=_cut(rows, _ROWS_AT_ONCE),
        rows=len(rows),
        work=list,
    )
    ctx.report.parts["questions"] = {"rows": len(frame)}


def _answers(
    ctx: Context, rows: Sequence[Row], sources: Sequence[str], expected: int, *, only_representative: bool = False
) -> None:
    def summarise(frame: pl.DataFrame) -> dict[str, Any]:
        found = judged_labels(frame, expected)["label"]
        shares = {name: proportion(int((found == name).sum()), len(found)).to_dict() for name in _LABELS}
        return {"questions": len(found), "labels": shares}

    settings = {
        "imported": ctx.files.identity(*sources),
        "model": None,
        "prompting": Prompting("chat", ctx.options.instruction).identity(),
        "sampling": {"samples": expected},
        "ruler": RULER,
        "only_representative": only_representative,
    }
    frame = ctx.ws.compute(
        "answers",
        settings,
        ["questions"],
        schema.SAMPLES,
        ["item_id", "sample"],
        title="import answers",
        batches=_cut(rows, _ROWS_AT_ONCE),
        rows=len(rows),
        work=list,
        summarise=summarise,
    )
    counts = judged_labels(frame, expected)["label"].value_counts().sort("label").rows()
    ctx.report.parts["answers"] = {"rows": len(frame), **dict(counts)}


def import_spans(ctx: Context, tokens: Sequence[Tokened]) -> None:
    """Answer tokens laid along the responses; labels are those of the verdicts."""
    ctx.check_known([t.qid for t in tokens], "answer tokens")
    asked = dict(ctx.ws.rows("questions").select("item_id", "question").iter_rows())
    other = [t.qid for t in tokens if ctx.options.bare(t.question) != asked[t.qid]]
    if other:
        raise UsageError(
            f"{len(other)} answer-token lines ask another question than the workspace (first '{other[0]}'): give the "
            "files of one run, and the same --instruction"
        )
    ctx.check_labels({t.qid: LABEL_OF.get(t.judge or "") for t in tokens}, "judge of the answer tokens")
    shares = _shares(ctx)

    def row(item: Tokened) -> Row:
        label = ctx.labels.get(item.qid, "incomplete")
        made = span_row(item, label, shares.get((item.qid, item.response.strip())), ctx.lm)
        return made if label in ("right", "wrong") else {**made, "reason": f"its samples are labelled {label}"}

    tokenizer = ctx.lm.identity["tokenizer"] if ctx.lm else None
    frame = ctx.ws.compute(
        "spans",
        {"imported": ctx.files.identity("answer_tokens"), "method": RULER, "extractor": None, "tokenizer": tokenizer},
        label_sources(ctx.ws),
        schema.SPANS,
        ["item_id"],
        title="import spans",
        batches=_cut(tokens, _SPANS_AT_ONCE),
        rows=len(tokens),
        work=lambda batch: [row(item) for item in batch],
        summarise=span_summary,
    )
    unfound = frame.filter(pl.col("reason").is_not_null())
    consistent = {qid for qid, label in ctx.labels.items() if label in ("right", "wrong")}
    ctx.report.parts["spans"] = {
        "rows": len(frame),
        "without_span": dict(unfound.group_by("reason").len().sort("reason").rows()),
        "consistent_items_without_line": len(consistent - set(frame["item_id"])),
        "responses_not_among_samples": sum((t.qid, t.response.strip()) not in shares for t in tokens)
        if shares
        else None,
    }


def _shares(ctx: Context) -> dict[tuple[str, str], float]:
    """Share of an item's samples that gave each text; empty where only one response is known."""
    if ctx.ws.settings("answers").get("only_representative"):
        return {}
    votes = ctx.ws.rows("answers").with_columns(pl.col("text").str.strip_chars()).group_by("item_id", "text").len()
    shared = votes.with_columns((pl.col("len") / pl.col("len").sum().over("item_id")).alias("share"))
    return {(item, text): share for item, text, share in shared.select("item_id", "text", "share").iter_rows()}


def _hint(ctx: Context, questions: Sequence[str]) -> None:
    """Questions that all end in the same words carry an instruction."""
    if ctx.options.instruction or len(questions) < 2:
        return
    ends = [question.split()[::-1] for question in questions]
    shared = 0
    while all(len(end) > shared and end[shared] == ends[0][shared] for end in ends):
        shared += 1
    if shared >= _SHARED_WORDS:
        common = " ".join(ends[0][:shared][::-1])
        ctx.report.notes.append(f"every question ends in '{common}': give that text as --instruction to take it off")


def _cut(rows: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [rows[i : i + size] for i in range(0, len(rows), size)]
