"""Contrast data: what is refused before anything is computed, and what the split promises."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.readouts.contrast import (
    FIT,
    HELD_OUT,
    Example,
    audit,
    data_digest,
    split,
    tokenise,
)
from levercheck.readouts.contrast_files import read_examples


def pairs(count=40, role=None):
    """Prompts with one answer of each label, each prompt a group."""
    return [
        Example(f"{i}:{label}", f"prompt {i}", f"answer {label} {i}", label, f"g{i}", role)
        for i in range(count)
        for label in (0, 1)
    ]


def singles(count=60):
    """Prompts without answers, each its own group, alternating labels."""
    return [Example(str(i), f"text {i}", None, i % 2, f"g:{i}") for i in range(count)]


@pytest.mark.parametrize("make", [pairs, singles])
def test_groups_never_stand_on_both_sides_and_every_fold_has_both_labels(make):
    examples = make()
    parts = split(examples, held_out=0.3, folds=4, seed=3)
    sides = {}
    for example, fit, fold in zip(examples, parts.fit, parts.folds, strict=True):
        assert sides.setdefault(example.group, (fit, fold)) == (fit, fold)
        assert (fold >= 0) == fit
    assert abs(parts.fit.mean() - 0.7) < 0.06
    for fold in range(4):
        assert {e.label for e, f in zip(examples, parts.folds, strict=True) if f == fold} == {0, 1}
    again = split(list(reversed(examples)), held_out=0.3, folds=4, seed=3)
    assert (again.fit[::-1] == parts.fit).all()
    assert (split(examples, held_out=0.3, folds=4, seed=4).fit != parts.fit).any()


def test_given_roles_are_kept_and_audited():
    examples = [replace(e, role=FIT if int(e.group[1:]) < 25 else HELD_OUT) for e in pairs()]
    parts = split(examples)
    assert parts.fit.tolist() == [e.role == FIT for e in examples]
    assert parts.facts["audit"]["shared_groups"] == 0
    torn = [replace(e, role=HELD_OUT) if e.id == "0:1" else e for e in examples]
    with pytest.raises(UsageError, match="leakage: 1 held-out examples share their group"):
        split(torn)
    copied = [*examples, Example("copy", "PROMPT  0", "answer 0 0", 0, "elsewhere", HELD_OUT)]
    with pytest.raises(UsageError, match=r"leakage: 1 held-out examples share their text .*'copy' with '0:0'"):
        split(copied)
    with pytest.raises(UsageError, match="on every row, or on none"):
        split([replace(examples[0], role=None), *examples[1:]])


def test_audit_counts_what_may_be_shared():
    examples = [Example("a", "p", "x", 1, "1"), Example("b", "p", "y", 0, "2"), Example("c", "q", "x", 0, "3")]
    counted = audit(examples, np.array([True, False, False]))
    assert counted == {"shared_groups": 0, "shared_texts": 0, "shared_prompts": 1, "shared_answers": 1}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda e: [*e, e[0]], UsageError, "given twice"),
        (lambda e: [*e, replace(e[0], id="x", label=1)], UsageError, "one text and both labels"),
        (lambda e: [replace(x, label=1, answer=x.id) for x in e], NotEnoughDataError, "label 0"),
        (lambda e: e[:20], NotEnoughDataError, "held_out part has"),
        (lambda e: [replace(e[0], label=2), *e[1:]], UsageError, "expected 0 or 1"),
        (lambda e: [replace(x, group="one" if x.label else x.group) for x in e], NotEnoughDataError, "label 1"),
    ],
)
def test_data_that_cannot_be_used_are_one_line(change, error, words):
    with pytest.raises(error, match=words) as raised:
        split(change(pairs()))
    assert "\n" not in str(raised.value)


def test_folds_of_the_data_may_not_tear_a_group():
    examples = [replace(e, role=FIT if int(e.group[1:]) < 25 else HELD_OUT, fold=int(e.group[1:]) % 3) for e in pairs()]
    assert split(examples).count == 3
    torn = [replace(e, fold=e.label) for e in examples]
    with pytest.raises(UsageError, match="one group into several folds"):
        split(torn)


def test_digest_follows_content_not_order():
    examples = pairs(6)
    assert data_digest(examples) == data_digest(list(reversed(examples)))
    assert data_digest(examples) != data_digest([replace(examples[0], answer="other"), *examples[1:]])


ROWS = [
    {"id": "a", "prompt": "p1", "answer": "x", "label": "harmful", "group": "g1"},
    {"id": "b", "prompt": "p2", "answer": "y", "label": "benign", "group": "g2"},
]


def test_every_file_form_reads_alike(tmp_path):
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in ROWS))
    pl.DataFrame(ROWS).write_csv(tmp_path / "d.csv")
    pl.DataFrame(ROWS).write_parquet(tmp_path / "d.parquet")
    found = [read_examples(tmp_path / f"d.{form}", positive="harmful") for form in ("jsonl", "csv", "parquet")]
    assert found[0] == found[1] == found[2]
    assert found[0] == [Example("a", "p1", "x", 1, "g1"), Example("b", "p2", "y", 0, "g2")]


def test_numbers_are_labels_and_prompts_are_groups_by_default(tmp_path):
    lines = [
        {"prompt": "One  Prompt", "answer": "x", "label": 1},
        {"prompt": "one prompt", "answer": "y", "label": False},
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    first, second = read_examples(tmp_path / "d.jsonl")
    assert (first.label, second.label) == (1, 0)
    assert first.group == second.group == "one prompt"
    assert (first.id, second.id) == ("row 1", "row 2")


@pytest.mark.parametrize(
    ("lines", "positive", "words"),
    [
        ([{"prompt": "p", "label": "a"}, {"prompt": "q", "label": "b"}], None, "--positive"),
        ([{"prompt": "p", "label": "a"}, {"prompt": "q", "label": "b"}], "c", "no row has the label 'c'"),
        ([{"prompt": "p", "label": x} for x in "abc"], "a", "3 different labels"),
        ([{"prompt": "p", "label": 0.5}], None, "d.jsonl:1: label"),
        ([{"prompt": " ", "label": 1}], None, "d.jsonl:1: prompt"),
        ([{"promt": "x", "label": 1}], None, "did you mean 'promt'"),
        ([{"prompt": "x", "label": 1, "group": "g"}, {"prompt": "y", "label": 0}], None, "d.jsonl:2: no group"),
        ([{"prompt": "x", "label": 1, "role": "dev"}], None, "d.jsonl:1: role is 'dev'"),
        ([], None, "no rows"),
    ],
)
def test_bad_files_are_one_line(tmp_path, lines, positive, words):
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    with pytest.raises((UsageError, NotEnoughDataError), match=words):
        read_examples(tmp_path / "d.jsonl", positive=positive)


def test_torn_files_and_other_forms_are_refused(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"prompt": "x", "lab')
    with pytest.raises(UsageError, match=r"d\.jsonl:1: torn"):
        read_examples(tmp_path / "d.jsonl")
    (tmp_path / "d.txt").write_text("x")
    with pytest.raises(UsageError, match="expected a file that ends in"):
        read_examples(tmp_path / "d.txt")
    with pytest.raises(UsageError, match="no file"):
        read_examples(tmp_path / "absent.csv")


def test_the_answer_region_is_the_answer(smollm):
    examples = [Example("a", "The capital of France is", "Paris", 1, "a"), Example("b", "1 + 1 =", "three", 0, "b")]
    for form in ("plain", "chat"):
        found = tokenise(smollm, examples, form, "mean")
        for example, ids, (start, stop) in zip(examples, found.sequences, found.regions, strict=True):
            assert smollm.decode(ids[start:stop]).strip() == example.answer
            assert stop == len(ids)
        last = tokenise(smollm, examples, form, "last")
        assert last.regions == [(len(s) - 1, len(s)) for s in last.sequences]
    plain = tokenise(smollm, examples, "plain", "last").sequences[0]
    assert plain == smollm.start_ids + smollm.encode("The capital of France is Paris")


def test_chat_form_is_the_form_of_generation(smollm):
    asked = [Example("a", "Hello", None, 1, "a")]
    found = tokenise(smollm, asked, "chat", "last")
    assert found.sequences[0] == smollm.chat([{"role": "user", "content": "Hello"}])
    assert found.facts["form"] == "chat"
    assert found.facts["read_at"] == "prompt"


def test_positions_that_would_tell_the_label_are_refused(smollm):
    mixed = [Example("a", "p", "x", 1, "a"), Example("b", "q", None, 0, "b")]
    with pytest.raises(UsageError, match="1 of 2 examples have no answer"):
        tokenise(smollm, mixed, "plain", "last")
    with pytest.raises(UsageError, match="position mean"):
        tokenise(smollm, mixed[1:], "plain", "mean")
