"""The question sources that are shipped; `questions.py` says how they are named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from levercheck.benchmarks import answers, facts, nonexist
from levercheck.benchmarks.questions import Draft, Question, Request, judge_fact, source
from levercheck.benchmarks.source_files import (
    boolean_field,
    field,
    file_identity,
    find_files,
    label_field,
    read_text,
    records_of,
    shown,
    text_field,
    texts_of,
)
from levercheck.benchmarks.source_hub import HubDataset, fetch
from levercheck.errors import NotEnoughDataError, UsageError, nearest
from levercheck.evidence.foreign_read import Record

_ANSWER_COLUMNS = ("answer", "answers", "aliases")
_OTHER_COLUMNS = ("id", "category", "entity", "answerable")
TRIVIAQA = HubDataset(
    "mandarjoshi/trivia_qa", "rc.nocontext", ("train", "validation"), ("question_id", "question", "answer")
)
_NQ_OPEN = HubDataset("google-research-datasets/nq_open", "nq_open", ("train", "validation"), ("question", "answer"))
FACTOID = "factoid"
_NQ_LICENCE = "CC-BY-SA-3.0"


@source("facts", ruler=facts.RULER, judge=judge_fact)
def read_facts(request: Request) -> Draft:
    """The embedded facts, all of them or those of the categories named."""
    request.no_split()
    wanted = None if request.argument is None else [name.strip() for name in request.argument.split(",")]
    questions = [
        Question(fact.id, fact.question, fact.aliases, fact.category, fact.entity) for fact in facts.load_facts(wanted)
    ]
    identity = {
        "files": [{"name": "facts.jsonl", "sha256": facts.facts_digest()}],
        "categories": sorted(set(wanted)) if wanted else list(facts.CATEGORIES),
        "licence": "see FACTS-ATTRIBUTION.md",
    }
    return Draft(questions, [], identity)


@source("nonexist", ruler=answers.ABSTAIN_RULER)
def read_nonexist(request: Request) -> Draft:
    """Questions about fabricated entities; the argument is how many."""
    request.no_split()
    count = nonexist.DEFAULT_COUNT
    if request.argument is not None:
        try:
            count = int(request.argument)
        except ValueError:
            raise UsageError(f"'nonexist:{request.argument}': expected a number of questions") from None
    identity = {"generator": nonexist.GENERATOR, "count": count, "licence": "MIT"}
    return Draft(nonexist.fabricate(count, request.seed), [], identity)


@source("triviaqa")
def read_triviaqa(request: Request) -> Draft:
    """TriviaQA, configuration rc.nocontext: parquet or JSON lines with `question_id`, `question` and `answer`.

    The file lists a question once for each collection of documents it was asked of; those rows become one question.
    """
    rows, identity = _corpus(request, TRIVIAQA, ("parquet", "jsonl"))
    return _merged([triviaqa_question(record) for record in rows], [], {**identity, "licence": None})


def triviaqa_question(record: Record) -> Question:
    """The question of one row of TriviaQA, with the aliases as they are written and as they are normalised."""
    answer = field(record, "answer")
    if not isinstance(answer, dict) or "aliases" not in answer:
        raise UsageError(f"{record.place}: answer is {shown(answer)}, expected an object with 'aliases'")
    aliases = [
        text
        for name in ("aliases", "normalized_aliases")
        for text in texts_of(answer.get(name), record.place, f"answer.{name}")
    ]
    return Question(text_field(record, "question_id"), text_field(record, "question"), tuple(aliases))


@source("nq-open")
def read_nq_open(request: Request) -> Draft:
    """NQ-open: JSON lines or parquet with `question` and a list `answer`."""
    rows, identity = _corpus(request, _NQ_OPEN, ("jsonl", "parquet"))
    questions = []
    for record in rows:
        text = text_field(record, "question")
        aliases = texts_of(field(record, "answer"), record.place, "answer")
        questions.append(Question(_text_id(text, record.place), text, tuple(aliases)))
    return _merged(questions, [], {**identity, "licence": _NQ_LICENCE})


@source("bioasq")
def read_bioasq(request: Request) -> Draft:
    """BioASQ task b training files: the factoid questions; the others are skipped with the reason."""
    request.no_split()
    if request.argument is None:
        raise UsageError("'bioasq' needs the training file, which is given to registered users: 'bioasq:PATH.json'")
    (path,) = find_files(request, ("json",))
    questions = []
    skipped = []
    for record in bioasq_records(path):
        name = text_field(record, "id")
        kind = text_field(record, "type")
        if kind.lower() != FACTOID:
            skipped.append((name, f"type '{kind}' is not factoid"))
            continue
        questions.append(bioasq_question(record))
    identity = {"files": file_identity([path]), "columns": ["id", "body", "exact_answer"], "licence": None}
    return _merged(questions, skipped, identity)


def bioasq_question(record: Record) -> Question:
    """A factoid question; `exact_answer` is a list of names, or a list of lists of them."""
    exact = record.fields.get("exact_answer")
    groups = exact if isinstance(exact, list) else [exact]
    aliases = [text for group in groups for text in texts_of(group, record.place, "exact_answer")]
    return Question(text_field(record, "id"), text_field(record, "body"), tuple(aliases))


def bioasq_records(path: Path) -> Iterator[Record]:
    """The questions of a training file, of every type."""
    text = read_text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path.name}:{error.lineno}: not JSON ({error.msg})") from None
    except ValueError as error:  # a number of thousands of digits
        raise UsageError(f"{path.name}: not JSON that can be read ({str(error).splitlines()[0]})") from None
    except RecursionError:
        raise UsageError(f"{path.name}: not JSON that can be read (nested too deeply)") from None
    items = content.get("questions") if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise UsageError(f"{path.name}: expected an object with a list 'questions'")
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise UsageError(f"{path.name}: questions[{number}] is {shown(item)}, expected an object")
        yield Record(f"{path.name}: questions[{number}]", item)


@source("jsonl")
def read_jsonl(request: Request) -> Draft:
    """JSON lines with our column names."""
    return _table(request, "jsonl")


@source("csv")
def read_csv(request: Request) -> Draft:
    """CSV with our column names; several answers in one cell are separated by semicolons or are a JSON list."""
    return _table(request, "csv")


@source("parquet")
def read_parquet(request: Request) -> Draft:
    """Parquet with our column names, a file or a folder."""
    return _table(request, "parquet")


def _table(request: Request, form: str) -> Draft:
    if request.argument is None:
        raise UsageError(f"'{request.name}' needs a file: '{request.name}:PATH.{form}'")
    files = find_files(request, (form,))
    columns = ("question", *_ANSWER_COLUMNS, *_OTHER_COLUMNS)
    questions: dict[str, Question] = {}
    places: dict[str, str] = {}
    used: set[str] = set()
    for record in chain.from_iterable(records_of(path, columns) for path in files):
        question = _of_row(record, form)
        if question.id in questions:
            what = f"the id '{question.id}'" if "id" in record.fields else "the question"
            raise UsageError(f"{record.place}: {what} was given before, in {places[question.id]}: ids must be unique")
        questions[question.id], places[question.id] = question, record.place
        used.update(name for name in columns if name in record.fields)
    identity = {"files": file_identity(files), "columns": sorted(used), "licence": None}
    return Draft(list(questions.values()), [], identity)


def _of_row(record: Record, form: str) -> Question:
    text = text_field(record, "question")
    answerable = boolean_field(record, "answerable", True)
    given = [name for name in _ANSWER_COLUMNS if name in record.fields]
    if not given and answerable:
        hint = nearest("aliases", [str(name) for name in record.fields][:40])
        raise UsageError(f"{record.place}: no column 'aliases', 'answer' or 'answers'{hint}")
    aliases: list[str] = []
    for name in given:
        if isinstance(record.fields[name], dict):
            raise UsageError(f"{record.place}: {name} is an object: name the source, for example 'triviaqa:PATH'")
        aliases += texts_of(record.fields[name], record.place, name, semicolons=form == "csv")
    own = label_field(record, "id")
    if own is None and "id" in record.fields:
        raise UsageError(f"{record.place}: id is empty")
    return Question(
        own or _text_id(text, record.place),
        text,
        tuple(aliases),
        label_field(record, "category"),
        label_field(record, "entity"),
        answerable,
    )


def _corpus(request: Request, dataset: HubDataset, endings: tuple[str, ...]) -> tuple[Iterable[Record], dict[str, Any]]:
    """The records of a published corpus, from the path that is named or else from the hub."""
    columns: dict[str, Any] = {"columns": list(dataset.columns)}
    if request.argument is None:
        rows, identity = fetch(request, dataset)
        return rows, identity | columns
    files = find_files(request, endings)
    rows = chain.from_iterable(records_of(path, dataset.columns) for path in files)
    return rows, {"files": file_identity(files)} | columns


def _text_id(text: str, place: str) -> str:
    """The id of a question without one: a digest of its normalised text."""
    key = answers.normalise(text)
    if not key:
        raise UsageError(f"{place}: question is {shown(text)}, which has no letter or digit")
    return f"q-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def _merged(questions: list[Question], skipped: list[tuple[str, str]], identity: dict[str, Any]) -> Draft:
    """Rows of one id and question become one question with the aliases of all; another question under it is skipped.

    Two questions with the same first answer could give each other away: they share an entity.
    """
    kept: dict[str, Question] = {}
    aliases: dict[str, list[str]] = {}
    repeats = 0
    for question in questions:
        first = kept.setdefault(question.id, question)
        repeated = first is not question
        same = first.question == question.question
        if not same and answers.normalise(first.question) != answers.normalise(question.question):
            skipped.append((question.id, "its id belongs to another question"))
            continue
        repeats += repeated
        aliases.setdefault(question.id, []).extend(question.aliases)
    merged = [
        replace(question, aliases=tuple(dict.fromkeys(aliases[name])), entity=_entity(aliases[name]))
        for name, question in kept.items()
    ]
    return Draft(merged, skipped, {**identity, "repeated_rows": repeats})


def _entity(aliases: list[str]) -> str | None:
    first = next((alias for alias in aliases if answers.usable(alias)), None)
    return None if first is None else f"answer:{answers.normalise(first)}"


def usable_questions(rows: Iterable[Record], read: Callable[[Record], Question]) -> list[Question]:
    """The questions of some rows that have an alias to look for; rows that repeat a question become one.

    Raises `UsageError` where two questions have one id, and `NotEnoughDataError` where no question is left.
    """
    seen: dict[str, tuple[str, str]] = {}
    questions = []
    for record in rows:
        question = read(record)
        if not question.aliases:
            raise UsageError(f"{record.place}: no accepted answer is given, expected one or more")
        key = answers.normalise(question.question)
        first, place = seen.setdefault(question.id, (key, record.place))
        if first != key:
            raise UsageError(
                f"{record.place}: the id '{question.id}' is another question's in {place}: make ids unique"
            )
        questions.append(question)
    usable = [
        replace(question, aliases=tuple(alias for alias in question.aliases if answers.usable(alias)))
        for question in _merged(questions, [], {}).questions
        if question.entity is not None
    ]
    if not usable:
        raise NotEnoughDataError(f"none of {len(questions)} questions has an answer to look for: get other data")
    return usable
