"""The rule that turns intervals into standings, and the labels the audit starts from."""

from __future__ import annotations

import polars as pl
import pytest

from levercheck.audit.choice import choose_c, fold_aurocs
from levercheck.audit.derive import audit_rows
from levercheck.audit.gates import GATES, Gate, compare, judge
from levercheck.audit.labels import consistency
from levercheck.audit.spec import Margins
from levercheck.audit.verdict import verdict
from levercheck.errors import NotEnoughDataError
from levercheck.evidence import schema
from levercheck.stats import Estimate


def interval(low, high):
    return Estimate((low + high) / 2, low, high, 0.95, "pp", 50, "test")


@pytest.mark.parametrize(
    ("low", "high", "relation", "outcome"),
    [
        (2.1, 4, ">", "met"),
        (1.9, 4, ">", "undecided"),
        (-1, 1.9, ">", "violated"),
        (0.1, 1.9, ">", "violated"),
        (2.0, 4, ">", "undecided"),
        (0, 1.9, "<", "met"),
        (1, 3, "<", "undecided"),
        (2.1, 3, "<", "violated"),
    ],
)
def test_the_whole_interval_decides(low, high, relation, outcome):
    assert compare("c", "t", {"x": interval(low, high)}, "x", relation, 2.0).outcome == outcome


def test_an_interval_that_only_excludes_zero_does_not_pass():
    criterion = compare("c", "t", {"x": interval(0.2, 1.4)}, "x", ">", 2.0)
    assert judge("control", "claim", [criterion]).standing == "contradicted"


def test_no_estimate_is_missing_not_failed():
    nothing = Estimate(None, None, None, 0.95, "pp", 0, "test", note="empty")
    for estimates in ({}, {"x": nothing}):
        assert compare("c", "t", estimates, "x", ">", 2.0).outcome == "missing"


def criteria(*outcomes):
    return [
        compare(
            str(i),
            "t",
            {"x": {"m": interval(3, 4), "v": interval(0, 1), "u": interval(1, 3)}.get(o)} if o != "-" else {},
            "x",
            ">",
            2.0,
        )
        for i, o in enumerate(outcomes)
    ]


@pytest.mark.parametrize(
    ("outcomes", "standing"),
    [
        ("mm", "supported"),
        ("mu", "inconclusive"),
        ("mv", "contradicted"),
        ("uv", "contradicted"),
        ("m-", "missing"),
        ("v-", "missing"),
        ("", "not_graded"),
    ],
)
def test_standings(outcomes, standing):
    assert judge("control", "claim", criteria(*outcomes)).standing == standing


@pytest.mark.parametrize(
    ("outcomes", "standing"), [("mv", "uninformative"), ("mu", "uninformative"), ("mm", "supported"), ("m-", "missing")]
)
def test_a_blind_assay_licenses_no_negative(outcomes, standing):
    assert judge("control", "claim", criteria(*outcomes), blind="no sensitivity").standing == standing


def test_every_pair_of_standings_has_a_sentence():
    words = ("supported", "contradicted", "inconclusive", "uninformative", "not_graded", "missing")
    for localization in words:
        for control in words:
            standings = dict(zip(GATES, ("supported", localization, control, "inconclusive"), strict=True))
            text = verdict([Gate(n, "c", s, "r", ()) for n, s in standings.items()], {}, Margins())["sentence"]
            assert text.startswith("The H-neurons are ")
            if localization != "supported" or control != "supported":
                assert "are a lever:" not in text


def test_no_rows_give_four_missing_gates():
    report = audit_rows()
    assert {g["name"]: g["standing"] for g in report["gates"]} == dict.fromkeys(GATES, "missing")
    assert report["estimates"] == {}


def answers(**texts):
    rows = [
        {
            "item_id": item,
            "category": "c",
            "entity": f"e:{item}",
            "role": "readout",
            "sample": n,
            "text": text,
            "tokens": [ord(c) for c in text],
            "correct": correct,
            "mean_logprob": -float(n),
            "first_logprob": -1.0,
            "stopped": True,
        }
        for item, samples in texts.items()
        for n, (text, correct) in enumerate(samples)
    ]
    return pl.DataFrame(rows, schema=schema.ANSWERS, orient="row")


def test_consistency_labels():
    table = consistency(
        answers(
            a=[("Paris", True), ("Paris!", True), ("Paris", True)],
            b=[("x", False), ("y", False), ("z", False)],
            c=[("x", False), ("Paris", True), ("x", False)],
            d=[("", False), ("", False), ("y", False)],
        )
    )
    found = {row["item_id"]: row for row in table.to_dicts()}
    assert [found[i]["label"] for i in "abcd"] == ["right", "wrong", "mixed", "wrong"]
    assert [found[i]["usable"] for i in "abcd"] == [True, True, False, False]
    assert found["a"]["text"] == "Paris" and found["a"]["agreement"] == pytest.approx(2 / 3)
    assert found["b"]["text"] == "x"  # the first seen among equals
    assert found["a"]["mean_logprob"] == 0.0  # of the first sample with that text
    assert found["d"]["length"] == 0


def test_labels_do_not_depend_on_row_order():
    rows = answers(a=[("x", False), ("y", False)], b=[("q", True), ("q", True)])
    assert consistency(rows).equals(consistency(rows.reverse()))


def test_choice_of_c():
    import numpy as np

    y = np.array([0, 1] * 6)
    folds = np.repeat([0, 1, 2], 4)
    perfect, noise = y.astype(float), np.zeros(12)
    areas = fold_aurocs(np.stack([noise, perfect, perfect]), y, folds)
    assert choose_c([0.1, 0.2, 0.3], areas) == 0.2
    with pytest.raises(NotEnoughDataError, match="folds hold both classes"):
        fold_aurocs(noise[None], np.zeros(12), folds)
