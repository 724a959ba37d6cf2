"""Contrast data: texts with a label 0 or 1, divided by group into a part to fit on and a part to be judged on.

Everything that would let the held-out part give itself away is refused here, before anything is computed or written: an
id given twice, a text with both labels, a group or a text that stands on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence.canonical import digest
from levercheck.evidence.splits import folds_by_entity, roles_by_entity
from levercheck.lm.model import LanguageModel

Form = Literal["plain", "chat"]
Position = Literal["last", "mean"]
FIT, HELD_OUT = "fit", "held_out"
MIN_PER_CLASS = 5
"""Fewest examples of each label, in either part."""
Bools = np.ndarray[Any, np.dtype[np.bool_]]
Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Example:
    """One text. `answer` follows the prompt where there is one; `role` and `fold` are set where the data fix them."""

    id: str
    prompt: str
    answer: str | None
    label: int  # 0 or 1; directions point to 1
    group: str  # examples of one group never stand on both sides
    role: str | None = None
    fold: int | None = None

    @property
    def text(self) -> str:
        """Prompt and answer in lower case with single spaces: what must not stand on both sides."""
        return " ".join(f"{self.prompt} {self.answer or ''}".casefold().split())


@dataclass(frozen=True)
class Split:
    """Sides and folds of examples, in their order."""

    fit: Bools  # bool [examples]; False: held out
    folds: Ints  # int64 [examples], of the fit part; -1 for what is held out
    facts: dict[str, Any]

    @property
    def count(self) -> int:
        """Folds that the fit part has."""
        return int(self.folds.max()) + 1


@dataclass(frozen=True)
class Tokens:
    """Token sequences of examples, and the half-open positions that an activation is averaged over."""

    sequences: list[list[int]]
    regions: list[tuple[int, int]]
    facts: dict[str, Any]


def labels_of(examples: Sequence[Example]) -> Bools:
    """bool [examples]."""
    return np.array([example.label == 1 for example in examples])


def groups_of(examples: Sequence[Example]) -> list[str]:
    """The unit of clustered intervals, per example."""
    return [example.group for example in examples]


def data_digest(examples: Sequence[Example]) -> str:
    """Digest of every example, whatever their order."""
    return digest([asdict(example) for example in sorted(examples, key=lambda e: e.id)])


def split(examples: Sequence[Example], *, held_out: float = 0.3, folds: int = 5, seed: int = 0) -> Split:
    """Divide examples by group, audited; sides and folds that the data fix are kept.

    Groups are drawn within their kind (only label 0, only label 1, both), so that every side and fold has both labels.
    Raises UsageError for leakage and for data that contradict themselves, NotEnoughDataError where a side or a fold
    would lack a label.
    """
    if not 0 < held_out < 1:
        raise UsageError(f"held-out share {held_out}: expected a number between 0 and 1, e.g. 0.3")
    if folds < 2:
        raise UsageError(f"{folds} folds: expected at least 2")
    examples = list(examples)
    _consistent(examples)
    kinds = _kinds(examples)
    roles = [example.role for example in examples]
    if all(role is None for role in roles):
        drawn = roles_by_entity([kinds[e.group] for e in examples], {FIT: 1 - held_out, HELD_OUT: held_out}, seed)
        roles = [drawn[kinds[e.group]] for e in examples]
    elif any(role not in (FIT, HELD_OUT) for role in roles):
        bad = next(e for e in examples if e.role not in (FIT, HELD_OUT))
        raise UsageError(
            f"example '{bad.id}' has role {bad.role!r}, expected {FIT} or {HELD_OUT} on every row, or on none"
        )
    fit = np.array([role == FIT for role in roles])
    leakage = audit(examples, fit)
    for side, chosen in ((FIT, fit), (HELD_OUT, ~fit)):
        _both_labels(examples, chosen, side)
    number = _folds(examples, fit, kinds, folds, seed)
    for fold in range(int(number.max()) + 1):
        for label in (0, 1):
            if not any(e.label == label for e, f in zip(examples, number, strict=True) if f == fold):
                raise NotEnoughDataError(
                    f"fold {fold} of the fit part has no example of label {label}: give more groups, or fewer folds"
                )
    facts = {"seed": seed, "folds": int(number.max()) + 1, "audit": leakage}
    facts |= {side: _side(examples, chosen) for side, chosen in ((FIT, fit), (HELD_OUT, ~fit))}
    return Split(fit, number, facts)


def audit(examples: Sequence[Example], fit: Bools) -> dict[str, int]:
    """What both sides share; a shared group or text is a UsageError that names it.

    Prompts alone may be shared where groups allow it, and answers always may: both are only counted.
    """
    inside = [e for e, chosen in zip(examples, fit, strict=True) if chosen]
    outside = [e for e, chosen in zip(examples, fit, strict=True) if not chosen]
    for what in ("group", "text"):
        seen = {getattr(e, what): e.id for e in inside}
        both = [(seen[getattr(e, what)], e.id) for e in outside if getattr(e, what) in seen]
        if both:
            raise UsageError(
                f"leakage: {len(both)} held-out examples share their {what} with one to fit on (e.g. '{both[0][1]}' "
                f"with '{both[0][0]}'): give examples that belong together one group, and every group one role"
            )
    return {
        "shared_groups": 0,
        "shared_texts": 0,
        "shared_prompts": len({e.prompt for e in inside} & {e.prompt for e in outside}),
        "shared_answers": len({e.answer for e in inside if e.answer} & {e.answer for e in outside if e.answer}),
    }


def tokenise(lm: LanguageModel, examples: Sequence[Example], form: Form, position: Position) -> Tokens:
    """Sequences in the form in which the model will be used, start tokens included once.

    plain: start tokens, prompt, and the answer as text goes on; chat: the prompt as a user turn with the generation
    prompt, then the answer. Position last is the last token of the answer (of the prompt where there is none), mean the
    whole answer.
    """
    if form == "chat" and getattr(lm.tokenizer, "chat_template", None) is None:
        raise UsageError(f"'{lm.name}' has no chat template, which form chat needs: use form plain")
    with_answer = answered(examples)
    if position == "mean" and not with_answer:
        raise UsageError("position mean averages over answers, and the examples have none: use position last")
    sequences, regions = [], []
    for example in examples:
        ids, start = prompt_and_answer(lm, example.prompt, example.answer, form)
        if not ids or start >= len(ids):
            raise UsageError(f"example '{example.id}' has no token to read: give it a text")
        sequences.append(ids)
        regions.append((start, len(ids)) if position == "mean" else (len(ids) - 1, len(ids)))
    starts = lm.start_ids
    facts = {
        "form": form,
        "position": position,
        "read_at": "answer" if with_answer else "prompt",
        "start_ids": starts,
        "opens_with_start_ids": bool(starts) and all(s[: len(starts)] == starts for s in sequences),
    }
    return Tokens(sequences, regions, facts)


def answered(examples: Sequence[Example]) -> bool:
    """Whether the examples have answers; some with and some without would be told apart by position alone."""
    without = [example.id for example in examples if not example.answer]
    if without and len(without) < len(examples):
        raise UsageError(
            f"{len(without)} of {len(examples)} examples have no answer (e.g. '{without[0]}'): give all of them one, "
            "or none"
        )
    return not without


def prompt_and_answer(lm: LanguageModel, prompt: str, answer: str | None, form: Form) -> tuple[list[int], int]:
    """Token ids of prompt and answer, and where the answer starts (the last prompt token where there is none)."""
    if form == "chat":
        ids = lm.chat([{"role": "user", "content": prompt}])
        return (ids + lm.encode(answer), len(ids)) if answer else (ids, len(ids) - 1)
    stem = lm.start_ids + lm.encode(prompt)
    if not answer:
        return stem, len(stem) - 1
    gap = "" if prompt[-1:].isspace() or answer[:1].isspace() else " "
    whole = lm.start_ids + lm.encode(prompt + gap + answer)
    shared = next((i for i, (a, b) in enumerate(zip(stem, whole, strict=False)) if a != b), min(len(stem), len(whole)))
    return whole, shared


def grouped_by_prompt(examples: Sequence[Example]) -> list[Example]:
    """Examples whose group is their prompt: the answers to one prompt stay together."""
    return [replace(example, group=" ".join(example.prompt.casefold().split())) for example in examples]


def _consistent(examples: Sequence[Example]) -> None:
    seen: set[str] = set()
    labels: dict[str, tuple[int, str]] = {}
    for example in examples:
        if example.id in seen:
            raise UsageError(f"example '{example.id}' is given twice: ids must differ")
        seen.add(example.id)
        if example.label not in (0, 1):
            raise UsageError(f"example '{example.id}' has label {example.label}, expected 0 or 1")
        label, other = labels.setdefault(example.text, (example.label, example.id))
        if label != example.label:
            raise UsageError(f"examples '{other}' and '{example.id}' have one text and both labels: remove one of them")
    for label in (0, 1):
        if not any(example.label == label for example in examples):
            raise NotEnoughDataError(
                f"none of {len(examples)} examples has label {label}: a contrast needs both labels"
            )


def _kinds(examples: Sequence[Example]) -> dict[str, str]:
    """Each group's name behind its kind, as `evidence.splits` reads it."""
    found: dict[str, set[int]] = {}
    for example in examples:
        found.setdefault(example.group, set()).add(example.label)
    return {group: f"{'both' if len(labels) == 2 else min(labels)}:{group}" for group, labels in found.items()}


def _both_labels(examples: Sequence[Example], chosen: Bools, side: str) -> None:
    for label in (0, 1):
        count = sum(e.label == label for e, inside in zip(examples, chosen, strict=True) if inside)
        if count < MIN_PER_CLASS:
            raise NotEnoughDataError(
                f"the {side} part has {count} examples of label {label}, expected at least {MIN_PER_CLASS}: give more "
                "examples in more groups, or another held-out share"
            )


def _folds(examples: Sequence[Example], fit: Bools, kinds: dict[str, str], folds: int, seed: int) -> Ints:
    number = np.full(len(examples), -1, np.int64)
    inside = np.flatnonzero(fit).tolist()
    given = [examples[i].fold for i in inside]
    if all(fold is not None for fold in given):
        _, codes = np.unique(np.array(given, np.int64), return_inverse=True)
        number[inside] = codes
        if codes.max() < 1:
            raise UsageError("the data put all examples to fit on into one fold: expected at least 2")
        if len({(examples[i].group, int(number[i])) for i in inside}) > len({examples[i].group for i in inside}):
            raise UsageError("leakage: the data put one group into several folds: give every group one fold")
        return number
    for kind in sorted({kinds[examples[i].group].partition(":")[0] for i in inside}):
        members = [i for i in inside if kinds[examples[i].group].partition(":")[0] == kind]
        drawn = folds_by_entity([examples[i].group for i in members], folds, seed)
        number[members] = [drawn[examples[i].group] for i in members]
    return number


def _side(examples: Sequence[Example], chosen: Bools) -> dict[str, Any]:
    members = [e for e, inside in zip(examples, chosen, strict=True) if inside]
    return {
        "label_0": sum(e.label == 0 for e in members),
        "label_1": sum(e.label == 1 for e in members),
        "groups": len({e.group for e in members}),
        "ids_sha256": digest(sorted(e.id for e in members)),
    }
