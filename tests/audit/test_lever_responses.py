"""Outcomes, options, form and flips from rows with planted truths."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from levercheck.audit.lever_effects import lever_effects
from levercheck.audit.lever_responses import flips, mode, responses
from levercheck.evidence import schema

N = 100
SPEC = {
    "study": "planted",
    "interventions": {"push": {"readout": "d", "doses": [2]}},
    "benchmarks": ["main"],
    "primary": {"benchmark": "main", "direction": "either", "margin": 2.0},
    "externality": {"surfaces": ["main"], "non_inferiority": 5.0},
}


def arm(lever, outcomes, *, dose=None, draw=None, texts=None, chosen=None, **more):
    """Rows of one arm: an outcome per item; right scores 1, wrong and not attempted 0, anything else nothing."""
    scores = {"right": 1.0, "wrong": 0.0, "not_attempted": 0.0}
    return [
        {
            "benchmark": "main", "lever": lever, "control": None if draw is None else "random", "draw": draw,
            "dose": dose, "role": "tune", "item_id": f"i{n:03d}", "cluster_id": f"c{n:03d}", "ruler": "r",
            "outcome": outcome, "score": scores.get(outcome), "degenerate": outcome == "broken",
            "positive": None if outcome not in scores else scores[outcome] > 0.5,
            "text": f"text {n}" if texts is None else texts[n], "chosen": None if chosen is None else chosen[n],
            "words": 2, "disclaimer_words": 1, "refused": outcome == "not_attempted", "hedged": False,
            "stop_reason": "length" if outcome == "truncated" else "end", "stratum": "odd" if n % 2 else "even",
            "relative_dose": None if dose is None else 0.1, "sites": int(dose is not None),
            "prompt_positions": 5 * int(dose is not None), "decode_positions": 0,
            **{name: value[n] for name, value in more.items()},
        }
        for n, outcome in enumerate(outcomes)
    ]  # fmt: skip


def frame(*arms):
    return pl.DataFrame([row for rows in arms for row in rows], schema=schema.LEVERS, orient="row")


BASE = ["right"] * 60 + ["wrong"] * 40
PUSHED = (
    ["right"] * 40 + ["wrong"] * 10 + ["not_attempted"] * 10 + ["right"] * 10 + ["degenerate"] * 20 + ["wrong"] * 10
)


def test_outcomes_attempts_form_and_churn():
    texts = [f"text {n}" if n < 75 else "other" for n in range(N)]
    base, push = responses(frame(arm("baseline", BASE), arm("push", PUSHED, dose=2.0, texts=texts)), "main")
    assert (base["lever"], push["lever"], push["dose"]) == ("baseline", "push", 2.0)
    shares = {name: one["value"] for name, one in push["outcomes"].items()}
    assert shares == {"right": 50.0, "wrong": 20.0, "not_attempted": 10.0, "degenerate": 20.0}
    assert push["outcomes"]["degenerate"]["low"] == pytest.approx(13.34, abs=0.05)  # Wilson, n = 100
    assert push["attempted"]["value"] == pytest.approx(100 * 70 / 80) and push["attempted"]["n"] == 80
    assert push["precision"]["value"] == pytest.approx(100 * 50 / 70) and push["precision"]["n"] == 70
    assert "attempted" not in base  # nothing was declined there
    assert push["churn"]["value"] == 25.0 and "churn" not in base
    assert push["disclaimer_share"]["value"] == 50.0 and push["words_change"]["value"] == 0.0
    assert push["strata"]["even"]["n"] + push["strata"]["odd"]["n"] == 80


def test_flips_are_counted_over_items_with_two_scores():
    (_, push) = responses(frame(arm("baseline", BASE), arm("push", PUSHED, dose=2.0)), "main")
    assert push["changes"]["flips"] == {
        "up": 10, "down": 20, "n": 80, "p": pytest.approx(binomtest(10, 30).pvalue), "test": "mcnemar_exact",
    }  # fmt: skip
    assert push["changes"]["moves"] == {
        "right to not_attempted": 10, "right to wrong": 10, "wrong to degenerate": 20, "wrong to right": 10,
    }  # fmt: skip
    assert push["changes"]["outcome"]["value"] == 50.0


def test_flips_of_several_items_of_an_entity_are_tested_by_entities():
    """Ten framings of a behaviour that go together are one behaviour: McNemar would count ten."""
    clusters = [f"c{n // 10}" for n in range(N)]  # 10 entities of ten items
    base, after = ["wrong"] * N, ["right"] * 40 + ["wrong"] * 60  # all of four entities
    rows = frame(arm("baseline", base, cluster_id=clusters), arm("push", after, dose=2.0, cluster_id=clusters))
    (_, push) = responses(rows, "main")
    assert push["changes"]["flips"] == {
        "up": 40, "down": 0, "n": N, "p": pytest.approx(2 / 2**4), "test": "sign_flip_of_entities",
    }  # fmt: skip
    alone = responses(frame(arm("baseline", base), arm("push", after, dose=2.0)), "main")[1]["changes"]["flips"]
    assert (alone["test"], alone["p"]) == ("mcnemar_exact", pytest.approx(2 / 2**40))
    known = ["unparsed" if n % 10 else "wrong" for n in range(N)]  # of each entity one item has a score in both arms
    rows = frame(arm("baseline", known, cluster_id=clusters), arm("push", base, dose=2.0, cluster_id=clusters))
    (_, push) = responses(rows, "main")
    assert (push["changes"]["flips"]["n"], push["changes"]["flips"]["test"]) == (10, "mcnemar_exact")


def test_a_distribution_of_options_is_told_from_free_answers():
    letters = ["A"] * 50 + ["B"] * 50
    (_, push) = responses(
        frame(arm("baseline", BASE, chosen=letters), arm("push", BASE, dose=2.0, chosen=["A"] * N)), "main"
    )
    assert {k: v["value"] for k, v in push["options"].items()} == {"A": 100.0, "B": 0.0}
    assert push["changes"]["chosen"]["value"] == 50.0
    names = [f"Name {n}" for n in range(N)]
    (base, _) = responses(frame(arm("baseline", BASE, chosen=names), arm("push", BASE, dose=2.0, chosen=names)), "main")
    assert base["options"] == {}


@pytest.mark.parametrize(
    ("labels", "shown"), [("AB", True), ("01", False), ("12", False), (["1", "B"], True), (["18", "42"], False)]
)
def test_options_are_labels_of_which_some_is_a_letter(labels, shown):
    """Numbers alone are places in a list that differs between items, or short answers: their rates say nothing."""
    chosen = [labels[n % 2] for n in range(N)]
    (base, push) = responses(
        frame(arm("baseline", BASE, chosen=chosen), arm("push", BASE, dose=2.0, chosen=chosen)), "main"
    )
    assert set(base["options"]) == set(push["options"]) == (set(labels) if shown else set())


def test_rules_are_those_that_found_something():
    how = ["exact"] * 60 + ["none"] * 30 + ["boundary"] * 10
    (base, push) = responses(
        frame(arm("baseline", BASE, how=how), arm("push", BASE, dose=2.0, how=["none"] * N)), "main"
    )
    assert base["rules"] == {"exact": 60, "boundary": 10} and push["rules"] == {"exact": 0, "boundary": 0}


def test_rows_of_older_runs_have_no_responses():
    rows = frame(arm("baseline", BASE)).with_columns(outcome=pl.lit(None, dtype=pl.String))
    assert responses(rows, "main") == []


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ({"outcome": "degenerate", "text": "Paris Paris Paris"}, "silence"),
        ({"outcome": "empty", "text": ""}, "silence"),
        ({"outcome": "not_attempted", "text": "I do not know."}, "refusal"),
        ({"outcome": "wrong", "text": "I cannot help with that.", "refused": True}, "refusal"),
        ({"outcome": "wrong", "text": "It is not Paris."}, "denial"),
        ({"outcome": "wrong", "text": "It isn't Paris but Lyon."}, "denial"),
        ({"outcome": "wrong", "text": "Lyon, Nice, Paris, Lille."}, "dilution"),
        ({"outcome": "ambiguous", "text": "Lyon or Nice"}, "dilution"),
        ({"outcome": "wrong", "text": "Lyon."}, "substitution"),
        ({"outcome": "wrong", "text": "Parisian."}, "substitution"),
    ],
)
def test_how_a_right_answer_was_lost(after, expected):
    assert mode({"chosen": "Paris"}, {"refused": False, **after}) == expected


def test_the_worksheet_holds_every_flip_and_no_other_item():
    found = flips(
        frame(arm("baseline", BASE), arm("push", PUSHED, dose=2.0), arm("push", BASE, dose=2.0, draw=0)), "main"
    )
    assert len(found) == 10 + 10 + 10 + 20
    assert {f["mode"] for f in found if f["from"] == "wrong"} == {None}
    assert {f["mode"] for f in found if f["from"] == "right"} == {"refusal", "substitution"}
    assert all(json.loads(json.dumps(f)) == f for f in found)


@pytest.mark.parametrize(("better", "good"), [(None, "right"), ("higher", "right"), ("lower", "wrong")])
def test_a_loss_is_of_what_was_good(better, good):
    """Where less is better, a score of 0 is what a lever can lose."""
    rows = frame(arm("baseline", BASE), arm("push", PUSHED, dose=2.0))
    found = flips(rows, "main", better)
    assert {(f["item_id"], f["to"]) for f in found} == {(f["item_id"], f["to"]) for f in flips(rows, "main")}
    assert {f["from"] for f in found if f["mode"] is not None} == {good}
    silent = [f for f in found if f["mode"] == "silence"]
    assert len(silent) == (20 if better == "lower" else 0)  # wrong ones that ended in loops


def test_lost_verdicts_make_a_selection_that_is_graded_uninformative():
    """All that is left is right, so that the rate seems to rise: the standing says that it means nothing."""
    silent = ["right"] * 60 + ["degenerate"] * 40
    rows = [arm("baseline", BASE), arm("noop", BASE, dose=None), arm("push", silent, dose=2.0)]
    drawn = [["wrong" if n in (draw, draw + 9 * (draw % 3)) else o for n, o in enumerate(BASE)] for draw in range(20)]
    rows += [arm("push", outcomes, dose=2.0, draw=draw) for draw, outcomes in enumerate(drawn)]
    audit = lever_effects(frame(*rows), SPEC, {"main": {"binary": True, "better": "higher"}})
    control = next(s for s in audit["standings"] if s["name"] == "control")
    assert control["standing"] == "uninformative" and "40 % of items lose their verdict" in control["reason"]
    (point,) = audit["points"]
    assert point["change"]["value"] == 0.0 and point["change"]["n"] == 60
    assert point["change_bounds"]["unscored"] == 40
    assert point["change_bounds"]["low"] < 0 < 30 < point["change_bounds"]["high"]
    external = next(s for s in audit["standings"] if s["name"] == "externality")
    (estimate,) = external["estimates"].values()
    assert estimate["value"] == 0.0  # the lost ones were wrong before: as the worst outcome they change nothing


def test_where_less_is_better_a_rise_is_a_loss():
    more = ["right"] * 90 + ["wrong"] * 10
    for better, standing in (("higher", "supported"), ("lower", "contradicted")):
        rows = frame(arm("baseline", BASE), arm("noop", BASE), arm("push", more, dose=2.0))
        audit = lever_effects(rows, SPEC, {"main": {"binary": True, "better": better}})
        external = next(s for s in audit["standings"] if s["name"] == "externality")
        assert external["standing"] == standing
    gone = ["wrong"] * 60 + ["broken"] * 40
    rows = frame(arm("baseline", ["wrong"] * N), arm("noop", ["wrong"] * N), arm("push", gone, dose=2.0))
    audit = lever_effects(rows, SPEC, {"main": {"binary": True, "better": "lower"}})
    external = next(s for s in audit["standings"] if s["name"] == "externality")
    (estimate,) = external["estimates"].values()
    assert estimate["value"] == -40.0  # a row without an outcome counts as the worst one


def test_continuous_scores_are_averaged_and_not_made_yes_or_no():
    rng = np.random.default_rng(0)
    before, shift = rng.uniform(0.2, 0.6, N), rng.normal(0.1, 0.05, N)
    outcomes = ["right"] * N
    rows = frame(
        arm("baseline", outcomes, score=before.tolist(), positive=[None] * N),
        arm("noop", outcomes, score=before.tolist(), positive=[None] * N),
        arm("push", outcomes, dose=2.0, score=(before + shift).tolist(), positive=[None] * N),
        *[
            arm(
                "push",
                outcomes,
                dose=2.0,
                draw=d,
                score=(before + rng.normal(0, 0.01, N)).tolist(),
                positive=[None] * N,
            )
            for d in range(20)
        ],
    )
    meaning = {"main": {"binary": False, "better": "higher", "value_unit": "nat"}}
    audit = lever_effects(rows, SPEC, meaning)
    (point,) = audit["points"]
    assert point["change"]["value"] == pytest.approx(100 * shift.mean(), abs=1e-9)
    assert point["change"]["low"] > 100 * shift.mean() - 2 and point["change_bounds"] is None
    assert audit["baseline"]["main"]["value"] == pytest.approx(100 * before.mean())
    standings = {s["name"]: s["standing"] for s in audit["standings"]}
    assert standings == {"control": "supported", "externality": "supported"}
    assert point["value_change"]["unit"] == "nat"
