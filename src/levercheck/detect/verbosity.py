"""Is it length that the readout reads? Four fixed responses per test item: {short, long} x {true, false}.

Nothing is generated. Short is an answer alone, long the same answer inside a sentence; true is an accepted answer,
false the accepted answer of another item. The model is made to read each response after the item's prompt, and the
readout's components are measured over the whole response, so that length and truth vary apart from each other by
design. False answers come from the test items themselves where they can, so that the same names stand on both sides and
none of them was seen in training more than another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levercheck.audit.verbosity import verbosity_effects
from levercheck.benchmarks.answers import normalise
from levercheck.benchmarks.facts import Fact, load_facts
from levercheck.detect.capture import check_model
from levercheck.detect.prompting import Prompting, from_identity
from levercheck.detect.workspace import Workspace
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence import schema
from levercheck.evidence.splits import shuffled
from levercheck.evidence.unit import Row
from levercheck.lm.batches import TOKENS_PER_BATCH, SharedPrefix, token_batches
from levercheck.lm.model import LanguageModel
from levercheck.readouts.cett import Region, capture_batch
from levercheck.readouts.readout import Readout
from levercheck.readouts.store import Channel
from levercheck.stats import mean

METHOD = "verbosity-2x2/v1"
TEMPLATE = 'The answer to the question "{question}" is {answer}, as far as is known.'
MIN_ITEMS = 2

Reduce = Literal["mean", "max"]
REDUCES: tuple[Reduce, ...] = ("mean", "max")


class VerbositySpec(BaseModel):
    """How many test items are drawn, and by which seed; the seed also draws the false answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    items: int = Field(100, ge=MIN_ITEMS)
    seed: int = Field(0, ge=0)
    batch_tokens: int = Field(TOKENS_PER_BATCH, gt=0)


@dataclass(frozen=True)
class Design:
    """One item with its two answers and the sentence that makes them long."""

    item_id: str
    cluster: str
    question: str
    true: str
    false: str
    fact: Fact | None = None
    borrowed: bool = False  # the false answer belongs to no test item

    def text(self, length: Literal["short", "long"], truth: bool) -> str:
        """One of the four responses."""
        answer = self.true if truth else self.false
        if length == "short":
            return answer
        return sentence(self.question, answer, self.fact)


@dataclass(frozen=True)
class _Response:
    design: Design
    length: Literal["short", "long"]
    truth: bool
    prompt: list[int]
    tokens: list[int]


def sentence(question: str, answer: str, fact: Fact | None = None) -> str:
    """`answer` inside a full sentence: the fact's own statement, or one that repeats the question."""
    if fact is not None and fact.statement.count("{}") == 1:
        return fact.assertion(answer)
    return TEMPLATE.format(question=question.strip(), answer=answer)


def designs(
    test: pl.DataFrame, pool: pl.DataFrame, lm: LanguageModel, spec: VerbositySpec
) -> tuple[list[Design], dict[str, int]]:
    """The items of the design, at most `spec.items` by a seeded draw, and why others were left out.

    `test` has item_id, group, question, aliases, category and answerable; `pool` all questions. A false answer is
    another item's first alias, of the same category or, without one, of as many words; no name of that other item may
    be an alias of this one, and it may not stand in the question. Answers of test items go before those of the pool;
    among them the ones nearest to the true answer in tokens are kept, and the seed draws one.
    """
    own_pool, whole_pool = _candidates(test), _candidates(pool)
    sizes: dict[str, int] = {}
    facts = {fact.id: fact for fact in load_facts()}
    records = {record["item_id"]: record for record in test.to_dicts()}
    found: list[Design] = []
    skipped: Counter[str] = Counter()
    for item in shuffled(list(records), spec.seed, "verbosity"):
        if len(found) == spec.items:
            break
        record = records[item]
        reason = _usable(record)
        if reason is not None:
            skipped[reason] += 1
            continue
        true, own = record["aliases"][0].strip(), _names(record["aliases"])

        def fits(other: _Candidate, record: dict[str, Any] = record, own: frozenset[str] = own) -> bool:
            return (
                other.item_id != record["item_id"]
                and other.category == record["category"]
                and (other.category is not None or other.words == len(record["aliases"][0].split()))
                and not other.names & own
                and f" {other.normal} " not in f" {normalise(record['question'])} "
            )

        options = sorted({c.answer for c in own_pool if fits(c)})
        borrowed = not options
        options = options or sorted({c.answer for c in whole_pool if fits(c)})
        if not options:
            skipped["no other item offers a false answer"] += 1
            continue
        for answer in (true, *options):
            if answer not in sizes:
                sizes[answer] = len(lm.encode(" " + answer))
        nearest = min(abs(sizes[answer] - sizes[true]) for answer in options)
        near = [answer for answer in options if abs(sizes[answer] - sizes[true]) == nearest]
        false = shuffled(near, spec.seed, f"false answer of {item}")[0]
        fact = facts.get(item)
        own_fact = fact if fact is not None and fact.question == record["question"] else None
        found.append(Design(item, record["group"], record["question"], true, false, own_fact, borrowed))
    return sorted(found, key=lambda design: design.item_id), dict(sorted(skipped.items()))


@dataclass(frozen=True)
class _Candidate:
    item_id: str
    category: str | None
    answer: str
    normal: str
    words: int
    names: frozenset[str]


def _candidates(questions: pl.DataFrame) -> list[_Candidate]:
    found = []
    for record in questions.sort("item_id").to_dicts():
        if _usable(record) is None:
            answer = record["aliases"][0].strip()
            names = _names(record["aliases"])
            words = len(answer.split())
            found.append(_Candidate(record["item_id"], record["category"], answer, normalise(answer), words, names))
    return found


def _usable(record: dict[str, Any]) -> str | None:
    """None, or why an item can have no true answer."""
    if record["answerable"] is False:
        return "the question has no answer"
    aliases = record["aliases"] or []
    if not aliases or not normalise(aliases[0]):
        return "no accepted answer is recorded"
    return None


def _names(aliases: Sequence[str]) -> frozenset[str]:
    return frozenset(normalise(alias) for alias in aliases) - {""}


def verbosity(
    ws: Workspace, lm: LanguageModel, readout: Readout, name: str, spec: VerbositySpec | None = None
) -> pl.DataFrame:
    """VERBOSITY rows of a readout in `probes/<name>/verbosity`, for the test items of the workspace.

    Per response and reduction: every component's value and, with null layer and index, the readout's score; the score
    over the maximum uses the weights that were fitted on the mean. `entity` is the split's group. `results.json` holds
    the effects (`levercheck.audit.verbosity`), the design and how many items were left out for which reason.
    Raises NotEnoughDataError when fewer than two items can be used, UsageError for another model's readout.
    """
    spec = spec or VerbositySpec()
    check_model(ws, lm)
    if readout.shape != lm.shape:
        raise UsageError(
            f"the readout is of a model with {readout.shape[0]} layers x {readout.shape[1]} neurons, {lm.name} has "
            f"{lm.shape[0]} x {lm.shape[1]}: load the model it was fitted on"
        )
    questions = ws.rows("questions").filter(pl.col("skipped").is_null())
    test = (
        ws.rows("split")
        .filter(pl.col("role") == "test")
        .select("item_id", "group")
        .join(questions.drop("skipped"), on="item_id", validate="1:1")
    )
    chosen, skipped = designs(test, questions, lm, spec)
    if len(chosen) < MIN_ITEMS:
        why = "; ".join(f"{count} x {reason}" for reason, count in skipped.items()) or "the split has no test items"
        raise NotEnoughDataError(
            f"{len(chosen)} of {len(test)} test items can be given a true and a false answer ({why}), expected at "
            f"least {MIN_ITEMS}: give questions with accepted answers"
        )
    prompting = from_identity(ws.settings("answers")["prompting"])
    responses = _responses(lm, prompting, chosen)
    sequences = [[*r.prompt, *r.tokens] for r in responses]
    prefix = SharedPrefix(lm, prompting.shared(lm))
    measure = _measure(readout)
    channels = [Channel("response", measure, reduce) for reduce in REDUCES]

    def work(batch: list[int]) -> list[Row]:
        regions: list[dict[str, Region]] = [
            {"response": [(len(responses[i].prompt), len(sequences[i]))]} for i in batch
        ]
        values = capture_batch(lm, prefix, [sequences[i] for i in batch], regions, channels).numpy()
        rows: list[Row] = []
        for reduce, features in zip(REDUCES, values, strict=True):
            selected = readout.select(features)
            scores = readout.score(selected)
            for at, i in enumerate(batch):
                rows += _rows(responses[i], reduce, readout, selected[at], float(scores[at]))
        return rows

    return ws.compute(
        f"probes/{name}/verbosity",
        {
            **spec.model_dump(mode="json"),
            "method": METHOD,
            "measure": measure,
            "readout": readout.fingerprint,
            "model": lm.identity,
        },
        ["questions", "answers", "split"],
        schema.VERBOSITY,
        ["item_id", "length", "truth", "reduce", "layer", "index"],
        title="length against truth",
        batches=token_batches(sequences, spec.batch_tokens),
        rows=len(responses) * len(REDUCES) * (1 + len(readout.components)),
        work=work,
        summarise=lambda rows: summary(rows, chosen, skipped, len(test)),
    )


def _measure(readout: Readout) -> Literal["cett", "abs"]:
    """What the readout was fitted on; CETT where it does not say."""
    return "abs" if ".abs." in str(readout.facts.get("channel", "")) else "cett"


def _responses(lm: LanguageModel, prompting: Prompting, chosen: Sequence[Design]) -> list[_Response]:
    found = []
    lengths: tuple[Literal["short", "long"], ...] = ("short", "long")
    for design in chosen:
        prompt = prompting.own(lm, design.question)
        for length in lengths:
            for truth in (True, False):
                tokens = prompting.response(lm, design.question, design.text(length, truth))
                found.append(_Response(design, length, truth, prompt, tokens))
    return found


def _rows(
    response: _Response,
    reduce: Reduce,
    readout: Readout,
    values: np.ndarray[Any, np.dtype[np.float64]],
    score: float,
) -> list[Row]:
    shared = {
        "item_id": response.design.item_id,
        "entity": response.design.cluster,
        "length": response.length,
        "truth": response.truth,
        "reduce": reduce,
        "tokens": len(response.tokens),
    }
    if not np.isfinite(score) or not np.isfinite(values).all():
        raise UsageError(
            f"item '{response.design.item_id}' has activations that are not finite: load the model in float32 or "
            "bfloat16; what was measured before is kept"
        )
    rows: list[Row] = [{**shared, "layer": None, "index": None, "value": score}]
    for (layer, index), value in zip(readout.components, values.tolist(), strict=True):
        rows.append({**shared, "layer": layer, "index": index, "value": value})
    return rows


def summary(rows: pl.DataFrame, chosen: Sequence[Design], skipped: dict[str, int], test: int) -> dict[str, Any]:
    """Effects of length and truth, how long the responses were, and the answers that were put in."""
    by_item = rows.group_by("item_id", "entity", "length", "truth").agg(pl.col("tokens").first()).sort("item_id")
    tokens = {}
    for (length, truth), part in by_item.group_by("length", "truth"):
        values = part.sort("item_id")
        key = f"{length}.{'true' if truth else 'false'}"
        tokens[key] = mean(
            values["tokens"].to_numpy().astype(float),
            clusters=values["entity"].to_numpy(),
            unit="tokens per response",
            cluster_unit="group",
        ).to_dict()
    return {
        "items": len(chosen),
        "test_items": test,
        "skipped": skipped,
        "false_answers": dict(Counter("of other questions" if d.borrowed else "of test items" for d in chosen)),
        "sentences": dict(Counter("template" if d.fact is None else "statement" for d in chosen)),
        "tokens": tokens,
        "effects": verbosity_effects(rows),
        "design": [{"item_id": d.item_id, "true": d.true, "false": d.false} for d in chosen],
    }
