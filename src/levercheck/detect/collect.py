"""Stage 1: ask every question several times and judge every answer.

The draw of (item, sample, position) is fixed by the seed, so order, batch size and resume change nothing but rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import polars as pl

from levercheck.audit.labels import judged_labels
from levercheck.benchmarks.answers import ABSTAIN_RULER
from levercheck.benchmarks.questions import Question, QuestionSet
from levercheck.detect.prompting import Prompting, common_prefix
from levercheck.detect.workspace import Workspace
from levercheck.errors import NotEnoughDataError
from levercheck.evidence import schema
from levercheck.evidence.unit import Row
from levercheck.judges.sampler import EndpointAnswer
from levercheck.lm.batches import SharedPrefix, equal_batches
from levercheck.lm.model import LanguageModel
from levercheck.lm.sample import Answer, Sampling, sample_batch
from levercheck.stats import Estimate, mean, proportion

BATCH = 64
"""Questions per batch; their samples share the prompt's keys and values, and rows while they agree."""


def ask(ws: Workspace, questions: QuestionSet) -> list[Question]:
    """Write the questions, skipped ones with their reason, and return those to ask, sorted by id."""
    asked: list[Row] = [
        {
            "item_id": q.id,
            "question": q.question,
            "aliases": list(q.aliases),
            "category": q.category,
            "entity": q.entity,
            "answerable": q.answerable,
            "skipped": None,
        }
        for q in questions.questions
    ]
    skipped: list[Row] = [{"item_id": item, "skipped": reason} for item, reason in questions.skipped]
    ws.compute(
        "questions",
        {"source": questions.identity},
        [],
        schema.QUESTIONS,
        ["item_id"],
        title="read questions",
        batches=[None],
        rows=len(asked) + len(skipped),
        work=lambda _: asked + skipped,
    )
    return sorted(questions.questions, key=lambda q: q.id)


def collect(
    ws: Workspace,
    lm: LanguageModel,
    questions: QuestionSet,
    *,
    prompting: Prompting,
    sampling: Sampling,
    seed: int = 0,
    ruler: str | None = None,
    batch: int = BATCH,
) -> pl.DataFrame:
    """Sample every question with a loaded model; returns SAMPLES rows."""
    items = ask(ws, questions)
    sequences = [[*prompting.shared(lm), *prompting.own(lm, q.question)] for q in items]
    shared = common_prefix(sequences)
    prompts = [s[shared:] for s in sequences]
    prefix = SharedPrefix(lm, sequences[0][:shared])

    def work(indices: list[int]) -> list[Row]:
        keys = [items[i].id for i in indices]
        drawn = sample_batch(lm, prefix, [prompts[i] for i in indices], keys, sampling, seed)
        return list(
            itertools.chain.from_iterable(
                answer_rows(questions, items[i], answers, ruler) for i, answers in zip(indices, drawn, strict=True)
            )
        )

    return ws.compute(
        "answers",
        {
            "model": lm.identity,
            "prompting": prompting.identity(),
            "sampling": vars(sampling),
            "seed": seed,
            "ruler": ruler or questions.ruler,
            "batch": batch,
        },
        ["questions"],
        schema.SAMPLES,
        ["item_id", "sample"],
        title="collect answers",
        batches=equal_batches(prompts, len, batch),
        rows=len(items) * sampling.samples,
        work=work,
        summarise=lambda rows: funnel(rows, sampling.samples),
    )


def answer_rows(
    questions: QuestionSet, item: Question, answers: Sequence[Answer | EndpointAnswer], ruler: str | None
) -> list[Row]:
    """SAMPLES rows of one question, judged by the source's own ruler unless another is named."""
    own = ruler or (questions.ruler if item.answerable else ABSTAIN_RULER)
    rows: list[Row] = []
    for number, answer in enumerate(answers):
        verdict = questions.judge(item, answer.text, ruler=own)
        tokens, stopped = (
            (list(answer.tokens), answer.stopped) if isinstance(answer, Answer) else (None, answer.finish != "length")
        )
        rows.append(
            {
                "item_id": item.id,
                "sample": number,
                "text": answer.text,
                "tokens": tokens,
                "verdict": verdict.label,
                "match": verdict.match,
                "ruler": own,
                "mean_logprob": answer.mean_logprob,
                "first_logprob": answer.first_logprob,
                "stopped": stopped,
            }
        )
    return rows


def funnel(samples: pl.DataFrame, expected: int) -> dict[str, Any]:
    """What became of the questions: shares of every label, of cut answers and of substring-only matches."""
    if samples.is_empty():
        raise NotEnoughDataError("no question was answered: give a source with usable questions")
    labels = judged_labels(samples, expected)
    n = len(labels)
    shares = {
        label: proportion(int((labels["label"] == label).sum()), n)
        for label in ("right", "wrong", "mixed", "uncertain", "error", "incomplete")
    }
    distinct = samples.group_by("item_id").agg(pl.col("text").n_unique())["text"].to_numpy().astype(float)
    by_item = samples.group_by("item_id", maintain_order=True).agg(
        (~pl.col("stopped")).mean().alias("cut"), (pl.col("match") == "substring").mean().alias("substring")
    )
    extra: dict[str, Estimate] = {
        "distinct_answers": mean(distinct, unit="answers per question"),
        "cut_by_token_cap": mean(by_item["cut"].to_numpy().astype(float), unit="share of samples"),
        "substring_only_matches": mean(by_item["substring"].fill_null(0.0).to_numpy(), unit="share of samples"),
    }
    return {"questions": n, "labels": _dict(shares), "answers": _dict(extra)}


def _dict(estimates: dict[str, Estimate]) -> dict[str, Any]:
    return {name: estimate.to_dict() for name, estimate in estimates.items()}
