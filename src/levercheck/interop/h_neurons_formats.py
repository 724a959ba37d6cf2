"""What the files of an H-neurons run hold, checked line by line.

    consistency samples  {qid: {question, responses[], judges[], ground_truth[]}}             JSONL, one object per line
    answer tokens        {qid: {question, response, tokenized_response[], answer_tokens[], judge}}  JSONL
    ids                  {"t": [qid, ...], "f": [qid, ...]}                                   JSON
    activations          <root>/<location>/act_<qid>.npy, float32 [layers, neurons]; <root>/metadata.json
    coefficients         {"coef": [[...]], "intercept": [...]} as JSON, or the two arrays as .npz

Nothing is repaired: a torn line, a repeated id, an unknown verdict is an error that names file and line. Files that run
code when they are read (pickle, joblib) are refused.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from levercheck.errors import IntegrityError, UsageError, nearest

FORMAT = "h-neurons/v1"
VERDICTS = ("true", "false", "uncertain", "error")
LABEL_OF = {"true": "right", "false": "wrong"}
EXACT = "levercheck"
"""Key under which `h_neurons_write` adds what decoded strings cannot hold; other programs ignore it."""

REGION_OF = {"answer_tokens": "answer", "all_except_answer_tokens": "other", "input": "prompt", "output": "output"}
"""Folder of the activations to region of a channel, in the order of a store."""

METADATA = "metadata.json"
_PICKLES = (".pkl", ".pickle", ".joblib", ".sav")

Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Sampled:
    """One question with its sampled answers. `verdicts` has one entry per response."""

    qid: str
    question: str
    responses: tuple[str, ...]
    verdicts: tuple[str, ...]
    truth: tuple[str, ...] | None
    lacking: int  # verdicts that the file does not have


class Exact(BaseModel):
    """What an exported answer-token line adds, so that the same rows come back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token_ids: tuple[NonNegativeInt, ...] | None  # None: they were made from the text afterwards
    span: tuple[NonNegativeInt, NonNegativeInt]
    chars: tuple[NonNegativeInt, NonNegativeInt]
    method: str
    mentions: NonNegativeInt
    mean_logprob: float | None


@dataclass(frozen=True)
class Tokened:
    """One response with the strings of its tokens and of those that state the answer."""

    qid: str
    question: str
    response: str
    strings: tuple[str, ...]
    answer: tuple[str, ...]
    judge: str | None
    exact: Exact | None


@dataclass(frozen=True)
class Ids:
    """Items of one role: consistently right and consistently wrong."""

    right: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        """Label of every id."""
        return dict.fromkeys(self.right, "right") | dict.fromkeys(self.wrong, "wrong")


def file_name(qid: str, place: str) -> str:
    """`act_<qid>.npy`; a qid that could leave its folder, or be no file name, is a UsageError."""
    bad = qid in ("", ".", "..") or any(c in "/\\" or not c.isprintable() for c in qid) or len(qid.encode()) > 240
    if bad:
        shown = qid if len(qid) <= 60 else qid[:57] + "..."
        raise UsageError(
            f"{place}: qid {shown!r} cannot be part of a file name (a path separator, '..', a control character, or "
            "longer than 240 bytes): rename it in every file"
        )
    return f"act_{qid}.npy"


def read_samples(path: Path) -> list[Sampled]:
    """Every question of a consistency-samples file."""
    return [_sampled(qid, record, place) for place, qid, record in _lines(path)]


def read_tokens(path: Path) -> list[Tokened]:
    """Every response of an answer-token file."""
    return [_tokened(qid, record, place) for place, qid, record in _lines(path)]


def read_ids(path: Path) -> Ids:
    """An id file; an id that stands twice is an IntegrityError."""
    body = load_json(path)
    if not isinstance(body, dict) or not {"t", "f"} <= body.keys():
        raise IntegrityError(f'{path.name} is no id file: expected {{"t": [...], "f": [...]}}')
    right, wrong = (_strings(body[name], path.name, name) for name in ("t", "f"))
    both = [*right, *wrong]
    repeated = sorted(qid for qid, count in Counter(both).items() if count > 1)
    if repeated:
        raise IntegrityError(f"{path.name} names '{repeated[0]}' twice ({len(repeated)} such ids), expected once")
    for qid in both:
        file_name(qid, path.name)
    return Ids(tuple(right), tuple(wrong))


def read_coefficients(path: Path) -> tuple[Floats, float]:
    """Flat coefficients and the intercept of a two-class linear classifier, from JSON or .npz."""
    _exists(path)
    if path.suffix.lower() in _PICKLES:
        raise UsageError(
            f"{path.name} is a pickle, which can run any code when it is read: export it where you trust it with "
            f"'import joblib, numpy; m = joblib.load({path.name!r})' and "
            f"'numpy.savez({path.stem + '.npz'!r}, coef=m.coef_, intercept=m.intercept_)', then give that file"
        )
    if path.suffix.lower() == ".npz":
        found = _arrays(path)
    else:
        found = load_json(path)
        if not isinstance(found, dict):
            raise IntegrityError(f"{path.name} holds no object, expected coef and intercept")
    coefficients, intercept = (_number_array(found, name, path.name) for name in ("coef", "intercept"))
    if coefficients.ndim > 2 or (coefficients.ndim == 2 and coefficients.shape[0] != 1) or intercept.size != 1:
        raise UsageError(
            f"{path.name} has coef {coefficients.shape} and intercept {intercept.shape}, expected one row and one "
            "number: a classifier of two classes"
        )
    return coefficients.ravel(), float(intercept.ravel()[0])


def load_json(path: Path) -> Any:
    """A JSON file of somebody else; anything that is not one is an IntegrityError."""
    _exists(path)
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path.name} is not valid JSON ({error}): restore it") from None


def _exists(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"there is no file '{path}': check the path")


def _lines(path: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(place, qid, record) of every line that is not blank."""
    _exists(path)
    seen: dict[str, int] = {}
    with path.open("rb") as handle:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            place = f"{path.name} line {number}"
            try:
                found = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError):
                torn = "" if line.endswith(b"\n") else " (it has no end: torn by a kill?)"
                raise IntegrityError(f"{place} is no JSON{torn}: restore the line or remove it") from None
            if not isinstance(found, dict) or len(found) != 1 or not isinstance(next(iter(found.values())), dict):
                raise IntegrityError(f"{place} is not of the form {{qid: {{...}}}}: check that this is the right file")
            qid, record = next(iter(found.items()))
            _encodable(qid, place, "qid")
            file_name(qid, place)
            if qid in seen:
                raise IntegrityError(f"{place}: duplicate qid '{qid}', first at line {seen[qid]}: keep one of them")
            seen[qid] = number
            yield place, qid, record
    if not seen:
        raise IntegrityError(f"{path.name} holds no lines, expected one per question: restore it")


def _sampled(qid: str, record: Mapping[str, Any], place: str) -> Sampled:
    responses = _strings(record.get("responses"), place, "responses")
    judges = record.get("judges")
    if not isinstance(judges, list):
        raise IntegrityError(f"{place}: judges is {_kind(judges)}, expected a list of verdicts")
    unknown = [judge for judge in judges if judge is not None and judge not in VERDICTS]
    if unknown:
        raise IntegrityError(
            f"{place}: verdict {str(unknown[0])[:40]!r} is unknown{nearest(str(unknown[0]), VERDICTS)}"
        )
    lacking = abs(len(responses) - len(judges)) + sum(judge is None for judge in judges)
    if len(judges) > len(responses):
        verdicts = ["error"] * len(responses)  # which response each verdict belongs to is lost
    else:
        verdicts = [judge or "error" for judge in judges] + ["error"] * (len(responses) - len(judges))
    truth = record.get("ground_truth")
    return Sampled(
        qid,
        _text(record.get("question"), place, "question"),
        tuple(responses),
        tuple(verdicts),
        None if truth is None else tuple(_strings(truth, place, "ground_truth")),
        lacking,
    )


def _tokened(qid: str, record: Mapping[str, Any], place: str) -> Tokened:
    judge = record.get("judge")
    if judge is not None and judge not in VERDICTS:
        raise IntegrityError(f"{place}: verdict {str(judge)[:40]!r} is unknown{nearest(str(judge), VERDICTS)}")
    exact = None
    if EXACT in record:
        try:
            exact = Exact.model_validate(record[EXACT])
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise IntegrityError(f"{place}: {EXACT}.{where}: {first['msg']}: restore the line") from None
    return Tokened(
        qid,
        _text(record.get("question"), place, "question"),
        _text(record.get("response"), place, "response"),
        tuple(_strings(record.get("tokenized_response"), place, "tokenized_response")),
        tuple(_strings(record.get("answer_tokens"), place, "answer_tokens")),
        judge,
        exact,
    )


def _strings(value: Any, place: str, name: str) -> list[str]:
    if not isinstance(value, list):
        raise IntegrityError(f"{place}: {name} is {_kind(value)}, expected a list of strings")
    return [_text(entry, place, f"{name}[{i}]") for i, entry in enumerate(value)]


def _text(value: Any, place: str, name: str) -> str:
    if not isinstance(value, str):
        raise IntegrityError(f"{place}: {name} is {_kind(value)}, expected a string")
    return _encodable(value, place, name)


def _encodable(value: str, place: str, name: str) -> str:
    """JSON can spell half a surrogate pair, which is no text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise IntegrityError(f"{place}: {name} holds half of a surrogate pair, which is no text: restore it") from None
    return value


def _kind(value: Any) -> str:
    return "missing" if value is None else type(value).__name__


def _arrays(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name.removesuffix("_") in ("coef", "intercept")}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{path.name} cannot be read as arrays ({str(error)[:80]}): export it again") from None


def _number_array(found: Mapping[str, Any], name: str, place: str) -> Floats:
    key = name if name in found else f"{name}_"
    if key not in found:
        raise IntegrityError(f"{place} has no '{name}' (keys: {', '.join(sorted(map(str, found))[:8])}): add it")
    try:
        array: Floats = np.asarray(found[key]).astype(np.float64, casting="same_kind")
    except (TypeError, ValueError):
        raise IntegrityError(f"{place}: {key} is not an array of numbers: export it again") from None
    if not np.isfinite(array).all():
        raise IntegrityError(f"{place}: {key} has values that are not finite: export it again")
    return array
