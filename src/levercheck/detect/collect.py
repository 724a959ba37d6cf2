"""Stage 1: ask every question several times and judge every answer.

The draw of (item, sample, position) is fixed by the seed, so order, batch size and resume change nothing but rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import polars as pl

from levercheck.benchmarks.answers import ABSTAIN_RULER
from levercheck.benchmarks.questions import Question, QuestionSet
from levercheck.detect.labelling import funnel
from levercheck.detect.prompting import Prompting, common_prefix
from levercheck.detect.workspace import Workspace
from levercheck.evidence import schema
from levercheck.evidence.unit import Row
from levercheck.judges.sampler import EndpointAnswer
from levercheck.lm.batches import SharedPrefix, equal_batches
from levercheck.lm.model import LanguageModel
from levercheck.lm.sample import Answer, Sampling, sample_batch

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
    head = prompting.shared(lm)
    sequences = [[*head, *prompting.own(lm, q.question)] for q in items]
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
