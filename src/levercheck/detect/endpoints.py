"""What stages do through an OpenAI-compatible endpoint: sample answers, judge them, quote the answer in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from levercheck.benchmarks.questions import QuestionSet
from levercheck.detect.collect import answer_rows, ask
from levercheck.detect.labelling import funnel
from levercheck.detect.prompting import Prompting
from levercheck.detect.spans import Extract
from levercheck.detect.workspace import Workspace
from levercheck.evidence import schema
from levercheck.evidence.unit import Row
from levercheck.judges.client import ChatClient
from levercheck.judges.extract import extract_answer
from levercheck.judges.sampler import SamplingSettings, endpoint_answers
from levercheck.judges.verdict import judge_identity, judge_response
from levercheck.stats import cohen_kappa

BATCH = 32
"""Questions per acknowledged batch: what a kill can lose."""


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

    Its verdicts replace the ruler's in later stages; how far the two agree stands in the results.
    """
    samples = ws.rows("answers")
    distinct = samples.select("item_id", "text").unique().sort("item_id", "text")
    records = distinct.join(ws.rows("questions").select("item_id", "question", "aliases"), on="item_id").to_dicts()

    def work(batch: list[dict[str, Any]]) -> list[Row]:
        def judged(record: Mapping[str, Any]) -> str:
            return judge_response(client, record["question"], record["aliases"] or [], record["text"])

        verdicts = dict(client.map(judged, batch))
        return [
            {"item_id": r["item_id"], "text": r["text"], "verdict": verdicts[i], "judge": client.endpoint.label}
            for i, r in enumerate(batch)
        ]

    return ws.compute(
        "verdicts",
        without_address(judge_identity(client.endpoint)),
        ["questions", "answers"],
        schema.VERDICTS,
        ["item_id", "text"],
        title="judge answers",
        batches=[records[i : i + BATCH] for i in range(0, len(records), BATCH)],
        rows=len(records),
        work=work,
        summarise=lambda rows: agreement(rows, samples),
    )


def agreement(verdicts: pl.DataFrame, samples: pl.DataFrame) -> dict[str, Any]:
    """How far the judge's verdicts agree with the ruler's, over distinct answers: Cohen's kappa and a table."""
    ruled = samples.group_by("item_id", "text").agg(pl.col("verdict").first().alias("ruler_verdict"))
    both = verdicts.join(ruled, on=["item_id", "text"], validate="1:1")
    table = both.group_by("verdict", "ruler_verdict").len().sort("verdict", "ruler_verdict")
    first, second = both["verdict"].to_list(), both["ruler_verdict"].to_list()
    kappa = cohen_kappa(first, second, clusters=both["item_id"].to_list(), cluster_unit="question")
    return {
        "distinct_answers": len(both),
        "kappa_with_ruler": kappa.to_dict(),
        "table": [{"judge": j, "ruler": r, "answers": n} for j, r, n in table.rows()],
    }


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
