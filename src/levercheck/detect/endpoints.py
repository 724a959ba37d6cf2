"""What stages do through an OpenAI-compatible endpoint: sample answers, judge them, quote the answer in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from levercheck.benchmarks.questions import QuestionSet
from levercheck.detect.collect import answer_rows, ask
from levercheck.detect.labelling import agreement, funnel
from levercheck.detect.prompting import Prompting
from levercheck.detect.spans import Extract
from levercheck.detect.workspace import Workspace
from levercheck.evidence import schema
from levercheck.evidence.unit import Row
from levercheck.judges.client import ChatClient
from levercheck.judges.extract import extract_answer
from levercheck.judges.sampler import SamplingSettings, endpoint_answers
from levercheck.judges.verdict import judge_identity, judge_response

BATCH = 8
"""Questions per acknowledged batch: what a kill can lose."""


JUDGED = 64
"""Distinct answers per acknowledged batch of a judge."""


def collect_from(
    ws: Workspace,
    client: ChatClient,
    questions: QuestionSet,
    *,
    prompting: Prompting,
    sampling: SamplingSettings,
    seed: int = 0,
    ruler: str | None = None,
) -> pl.DataFrame:
    """Sample every question from an endpoint; returns SAMPLES rows without token ids."""
    items = ask(ws, questions)
    messages = [prompting.messages(q.question) for q in items]

    def work(batch: list[int]) -> list[Row]:
        keys = [items[i].id for i in batch]
        drawn = endpoint_answers(client, [messages[i] for i in batch], keys, sampling, seed)
        return [
            row
            for i, answers in zip(batch, drawn, strict=True)
            for row in answer_rows(questions, items[i], answers, ruler)
        ]

    indices = list(range(len(items)))
    return ws.compute(
        "answers",
        {
            "endpoint": without_address(client.endpoint.identity()),
            "prompting": prompting.identity(),
            "sampling": vars(sampling),
            "seed": seed,
            "ruler": ruler or questions.ruler,
        },
        ["questions"],
        schema.SAMPLES,
        ["item_id", "sample"],
        title="collect answers",
        batches=[indices[i : i + BATCH] for i in range(0, len(indices), BATCH)],
        rows=len(items) * sampling.samples,
        work=work,
        summarise=lambda rows: funnel(rows, sampling.samples),
    )


def without_address(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for a run to continue: a local server may come back on another port."""
    return {name: value for name, value in identity.items() if name != "url_sha256"}


def judge_answers(ws: Workspace, client: ChatClient) -> pl.DataFrame:
    """Let a language model judge every distinct answer of every question; returns VERDICTS rows.

    Answers to questions nobody can answer keep the ruler's verdict: there is no accepted answer to judge by. The
    model's verdicts replace the ruler's in later stages; how far the two agree stands in the results.
    """
    samples = ws.rows("answers")
    distinct = (
        samples.sort("item_id", "sample")
        .group_by("item_id", "text", maintain_order=True)
        .agg(pl.col("verdict").first().alias("ruled"), pl.col("ruler").first())
        .sort("item_id", "text")
    )
    asked = ws.rows("questions").select("item_id", "question", "aliases", "answerable")
    records = distinct.join(asked, on="item_id", validate="m:1").to_dicts()

    def work(batch: list[dict[str, Any]]) -> list[Row]:
        def judged(record: Mapping[str, Any]) -> tuple[str, str]:
            if not record["answerable"]:
                return record["ruled"], record["ruler"]
            verdict = judge_response(client, record["question"], record["aliases"] or [], record["text"])
            return verdict, client.endpoint.label

        verdicts = dict(client.map(judged, batch))
        return [
            {"item_id": r["item_id"], "text": r["text"], "verdict": verdicts[i][0], "judge": verdicts[i][1]}
            for i, r in enumerate(batch)
        ]

    return ws.compute(
        "verdicts",
        without_address(judge_identity(client.endpoint)),
        ["questions", "answers"],
        schema.VERDICTS,
        ["item_id", "text"],
        title="judge answers",
        batches=[records[i : i + JUDGED] for i in range(0, len(records), JUDGED)],
        rows=len(records),
        work=work,
        summarise=lambda rows: agreement(rows, samples),
    )


def extractor(client: ChatClient) -> Extract:
    """An `Extract` that asks the endpoint to quote the answers."""
    reasons = {
        "none": "the extractor saw no answer",
        "absent": "the extractor quoted words that are not in the response",
        "error": "the extractor's reply was unusable",
    }

    def one(pair: tuple[str, str]) -> tuple[int, int] | str:
        found = extract_answer(client, *pair)
        if found.status == "found" and found.start is not None and found.end is not None:
            return found.start, found.end
        return reasons[found.status]

    def extract(pairs: Sequence[tuple[str, str]]) -> list[tuple[int, int] | str]:
        found = dict(client.map(one, pairs))
        return [found[i] for i in range(len(pairs))]

    return extract
