"""Prompts with two continuations to tell apart: what attribution explains."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levercheck.benchmarks.counterfactual import WITH_CONTEXT, build_items
from levercheck.benchmarks.embedded import CATEGORIES
from levercheck.benchmarks.facts import Fact, load_facts
from levercheck.benchmarks.prompts import PREFIX, question_prompt
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence.splits import shuffled
from levercheck.interventions.spec import BASELINE
from levercheck.lm.model import LanguageModel
from levercheck.sweep.engine import Engine

MIN_ITEMS = 5
_LOOK = 4  # facts asked for every item wanted, before giving up


@dataclass(frozen=True)
class PairItem:
    """D is logit(`better`) - logit(`worse`) after `tokens`; `cluster` groups items that are not independent."""

    id: str
    tokens: tuple[int, ...]
    better: int
    worse: int
    cluster: str


def read_pairs(lm: LanguageModel, path: Path, *, chat: bool = False) -> list[PairItem]:
    """Items from JSONL lines {"id", "prompt", "better", "worse"} and optionally "cluster".

    D compares the first tokens of the two continuations as the tokenizer writes them after the prompt, so a space
    between belongs to the continuation. With `chat` the prompt is a user's turn. Anything that cannot be compared is a
    UsageError naming the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UsageError(f"'{path.name}' cannot be read ({reason}): give a JSONL file of items") from None
    items = [_pair(lm, line, f"line {n} of '{path.name}'", chat) for n, line in enumerate(lines, 1) if line.strip()]
    ids = [item.id for item in items]
    repeated = next((name for name in ids if ids.count(name) > 1), None)
    if repeated is not None:
        raise UsageError(f"'{path.name}' has the id '{repeated}' twice: give every item its own")
    if len(items) < MIN_ITEMS:
        raise NotEnoughDataError(f"'{path.name}' holds {len(items)} items, expected at least {MIN_ITEMS}: add more")
    return items


def _pair(lm: LanguageModel, line: str, where: str, chat: bool) -> PairItem:
    try:
        row: Any = json.loads(line)
    except ValueError:
        raise UsageError(f"{where} is not JSON: write one object per line") from None
    needed = ("id", "prompt", "better", "worse")
    bad = [name for name in needed if not isinstance(row, dict) or not isinstance(row.get(name), str) or not row[name]]
    if bad:
        raise UsageError(f"{where} has no text under '{bad[0]}', expected {', '.join(needed)}")
    if chat:
        start = lm.chat([{"role": "user", "content": row["prompt"]}])
        tokens = [start, *([*start, *lm.encode(row[name])] for name in ("better", "worse"))]
    else:
        texts = (row["prompt"], row["prompt"] + row["better"], row["prompt"] + row["worse"])
        tokens = [lm.start_ids + lm.encode(text) for text in texts]
    stem = tokens[0]
    for name, whole in zip(("better", "worse"), tokens[1:], strict=True):
        if whole[: len(stem)] != stem or len(whole) == len(stem):
            raise UsageError(
                f"{where}: with '{name}' behind it the prompt is read as other tokens: move the space between them to "
                "the continuation"
            )
    better, worse = (whole[len(stem)] for whole in tokens[1:])
    if better == worse:
        raise UsageError(f"{where}: 'better' and 'worse' start with the same token: choose others")
    return PairItem(row["id"], tuple(stem), better, worse, str(row.get("cluster", row["id"])))


def embedded_pairs(
    lm: LanguageModel, limit: int, seed: int, *, tick: Callable[[int], None] = lambda facts: None
) -> list[PairItem]:
    """Counterfactual-context items of embedded facts: D is logit(asserted answer) - logit(true answer).

    Only facts that the model knows count: without a context, the true answer's first token has the largest logit among
    those of all answers of its category. One fact per entity, in a seeded order.
    """
    pool = load_facts(CATEGORIES)
    firsts: dict[str, int] = {answer: lm.answer_token(answer) for answer in sorted({fact.answer for fact in pool})}
    rivals = {name: sorted({firsts[f.answer] for f in pool if f.category == name}) for name in CATEGORIES}
    by_id, entities = {fact.id: fact for fact in pool}, set()
    candidates: list[Fact] = []
    for name in shuffled(list(by_id), seed, "pairs"):
        if by_id[name].entity not in entities:
            entities.add(by_id[name].entity)
            candidates.append(by_id[name])
    known: list[Fact] = []
    prefix = lm.start_ids + lm.encode(PREFIX)
    for start in range(0, min(len(candidates), _LOOK * limit), limit):
        some = candidates[start : start + limit]
        known += _known(lm, prefix, some, [rivals[fact.category] for fact in some], firsts)
        tick(len(some))
        if len(known) >= limit:
            break
    items = build_items(known[:limit], pool, firsts.__getitem__, seed)[0]
    if len(items) < MIN_ITEMS:
        raise NotEnoughDataError(
            f"the model knows {len(items)} of the embedded facts it was asked, expected at least {MIN_ITEMS}: give "
            "--items of your own"
        )
    return [
        PairItem(
            item.item_id,
            (*prefix, *lm.encode(item.prompt(WITH_CONTEXT))),
            item.asserted_token,
            item.true_token,
            item.entity,
        )
        for item in items
    ]


def _known(
    lm: LanguageModel,
    prefix: Sequence[int],
    facts: Sequence[Fact],
    rivals: Sequence[Sequence[int]],
    firsts: dict[str, int],
) -> list[Fact]:
    prompts = [lm.encode(question_prompt(fact.question)) for fact in facts]
    engine = Engine(lm, prefix, prompts, [BASELINE])
    right = set()
    for block in engine.blocks():
        for at, scored in zip(block.prompts, engine.score(block, rivals), strict=True):
            best = max(range(len(rivals[at])), key=lambda i: scored[0].logits[i])
            if scored[0].finite and rivals[at][best] == firsts[facts[at].answer]:
                right.add(at)
    return [fact for at, fact in enumerate(facts) if at in right]
