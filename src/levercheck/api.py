"""The demo's path as plain functions in memory, for notebooks: no directories, no resume, the same batches and rows.

Rows are polars frames with the columns of `levercheck.evidence.schema`; items are embedded facts by id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from levercheck.benchmarks.counterfactual import WITH_CONTEXT, ContextItem, build_items
from levercheck.benchmarks.facts import Fact, load_facts
from levercheck.benchmarks.prompts import PREFIX, question_prompt
from levercheck.evidence import schema
from levercheck.evidence.splits import roles_by_entity
from levercheck.lm.batches import SharedPrefix, equal_batches, token_batches
from levercheck.lm.model import LanguageModel
from levercheck.lm.sample import Sampling, sample_batch
from levercheck.readouts.attribution import ATTRIBUTION_TOKENS, attribution_batch
from levercheck.readouts.cett import cett_batch
from levercheck.sweep.answers import answer_rows

Features = np.ndarray[Any, np.dtype[np.float32]]


def sample_answers(lm: LanguageModel, facts: Sequence[Fact], *, samples: int = 5, seed: int = 0) -> pl.DataFrame:
    """Sample every question `samples` times and score each answer: ANSWERS rows, sorted by item and sample."""
    prompts = [lm.encode(question_prompt(fact.question)) for fact in facts]
    prefix, sampling = _prefix(lm), Sampling(samples=samples)
    rows: list[dict[str, Any]] = []
    for batch in equal_batches(prompts, len, 64):
        drawn = sample_batch(lm, prefix, [prompts[i] for i in batch], [facts[i].id for i in batch], sampling, seed)
        for i, answers in zip(batch, drawn, strict=True):
            rows += answer_rows(facts[i], None, answers)
    return pl.DataFrame(rows, schema=schema.ANSWERS, orient="row").sort("item_id", "sample")


def split_by_entity(labels: pl.DataFrame, shares: Mapping[str, float], *, seed: int = 0) -> list[pl.DataFrame]:
    """Split the usable rows of `consistency(...)` so that no entity is in two parts; parts in the order of `shares`."""
    usable = labels.filter("usable")
    roles = roles_by_entity(usable["entity"].to_list(), shares, seed)
    usable = usable.with_columns(pl.col("entity").replace_strict(roles, return_dtype=pl.String).alias("role"))
    return [usable.filter(pl.col("role") == role) for role in shares]


def capture_cett(lm: LanguageModel, labels: pl.DataFrame) -> Features:
    """Mean CETT over the answer tokens of each labelled item, float32 [items, layers, neurons]."""
    facts = {fact.id: fact for fact in load_facts()}
    prompts = [lm.encode(question_prompt(facts[i].question)) for i in labels["item_id"]]
    sequences = [[*p, *tokens] for p, tokens in zip(prompts, labels["tokens"].to_list(), strict=True)]
    features = np.empty((len(sequences), *lm.shape), dtype=np.float32)
    prefix = _prefix(lm)
    for batch in token_batches(sequences):
        spans = [(len(prompts[i]), len(sequences[i])) for i in batch]
        features[batch] = cett_batch(lm, prefix, [sequences[i] for i in batch], spans).numpy()
    return features


def counterfactual_items(lm: LanguageModel, labels: pl.DataFrame, *, seed: int = 0) -> list[ContextItem]:
    """Counterfactual-context items from the facts that `labels` marks as right."""
    facts = {fact.id: fact for fact in load_facts()}
    known = [facts[i] for i in labels.filter(pl.col("label") == "right")["item_id"]]
    pool = load_facts(sorted({fact.category for fact in known}))
    return build_items(known, pool, lm.answer_token, seed)[0]


def attribution(lm: LanguageModel, items: Sequence[ContextItem]) -> Features:
    """First-order effect of every neuron on logit(asserted) - logit(true), float32 [items, layers, neurons]."""
    start = lm.start_ids + lm.encode(PREFIX)
    sequences = [start + lm.encode(item.prompt(WITH_CONTEXT)) for item in items]
    effects = np.empty((len(items), *lm.shape), dtype=np.float32)
    for batch in token_batches(sequences, ATTRIBUTION_TOKENS):
        pairs = [(items[i].asserted_token, items[i].true_token) for i in batch]
        effects[batch] = attribution_batch(lm, [sequences[i] for i in batch], pairs).numpy()
    return effects


def _prefix(lm: LanguageModel) -> SharedPrefix:
    return SharedPrefix(lm, lm.start_ids + lm.encode(PREFIX))
