"""Effects of levers from rows with planted truths."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import t

from levercheck.audit.lever_effects import lever_effects
from levercheck.audit.lever_tables import surfaces
from levercheck.errors import IntegrityError
from levercheck.evidence import schema

ITEMS = 200
SPEC = {
    "study": "planted",
    "interventions": {"push": {"readout": "d", "efforts": [0.05, 0.1]}},
    "benchmarks": ["main", "side"],
    "primary": {"benchmark": "main", "direction": "either", "margin": 2.0},
    "externality": {"surfaces": ["side"], "non_inferiority": 5.0},
}


def rows(benchmark, lever, outcomes, *, control=None, draw=None, effort=None, dose=None, hooked=True, **changes):
    values = np.asarray(outcomes, float)
    return [
        {
            "benchmark": benchmark, "lever": lever, "control": control, "draw": draw, "dose": dose, "effort": effort,
            "role": "tune", "item_id": f"i{n:04d}", "cluster_id": f"c{n // 2}", "ruler": "r",
            "positive": None if np.isnan(v) else bool(v), "value": None if np.isnan(v) else v - 0.5, "mass": 0.9,
            "degenerate": bool(np.isnan(v)), "relative_dose": 0.1 if hooked else None, "change": 1.0,
            "sites": int(hooked), "prompt_positions": 5 if hooked else 0, "decode_positions": 0, **changes,
        }
        for n, v in enumerate(values)
    ]  # fmt: skip


def study(lift, *, control_lift=0, side_loss=0, draws=20, broken=0):
    """A lever that turns `lift` items from no to yes at the strongest effort; draws turn `control_lift` to two more."""
    rng = np.random.default_rng(0)
    base = np.r_[np.ones(80), np.zeros(ITEMS - 80)]
    side = np.ones(ITEMS)
    table = rows("main", "baseline", base, hooked=False) + rows("side", "baseline", side, hooked=False)
    table += rows("main", "noop", base, dose=None) + rows("side", "noop", side)
    for effort, share in ((0.05, 0.5), (0.1, 1.0)):
        own = base.copy()
        own[80 : 80 + int(share * lift)] = 1
        own[:broken] = np.nan
        table += rows("main", "push", own, effort=effort, dose=10 * effort)
        hurt = side.copy()
        hurt[: int(share * side_loss)] = 0
        table += rows("side", "push", hurt, effort=effort, dose=10 * effort)
        for draw in range(draws):
            other = base.copy()
            other[80 + rng.choice(ITEMS - 80, int(share * control_lift) + draw % 3, replace=False)] = 1
            table += rows("main", "push", other, control="random", draw=draw, effort=effort, dose=draw + effort)
            table += rows("side", "push", side, control="random", draw=draw, effort=effort, dose=draw + effort)
    return pl.DataFrame(table, schema=schema.LEVERS, orient="row")


def standing(audit, name):
    return next(s["standing"] for s in audit["standings"] if s["name"] == name)


def test_a_planted_lever_is_found():
    audit = lever_effects(study(60, control_lift=4), SPEC)
    point = [p for p in audit["points"] if p["benchmark"] == "main"][-1]
    assert (point["lever"], point["kind"], point["at"]) == ("push", "effort", 0.1)
    assert point["change"]["value"] == pytest.approx(30.0)
    assert point["change"]["low"] < 30 < point["change"]["high"]
    assert point["change"]["clusters"] == ITEMS // 2
    against = point["controls"]["random"]
    assert against["draws"] == 20
    assert against["rate"]["difference"]["value"] == pytest.approx(30 - 100 * (4 + 0.95) / ITEMS)
    assert against["rate"]["p"] == pytest.approx(2 / 21)
    assert against["rate"]["outside_prediction"] is True
    assert standing(audit, "control") == "supported"
    assert standing(audit, "externality") == "supported"
    assert audit["instrument"]["noop_largest_difference"] == 0


def test_what_every_draw_does_too_is_no_lever():
    audit = lever_effects(study(60, control_lift=90), SPEC)
    assert standing(audit, "control") == "contradicted"
    point = [p for p in audit["points"] if p["benchmark"] == "main"][-1]
    assert point["change"]["low"] > 2
    assert point["controls"]["random"]["rate"]["difference"]["high"] < 0


def test_a_lever_inside_the_spread_of_its_draws_is_not_specific():
    """More than the mean draw by far, but no more than single draws do."""
    table = study(60, control_lift=0)
    lifted = table.filter(pl.col("control").is_null())
    base = np.r_[np.ones(80), np.zeros(ITEMS - 80)]
    wide = []
    for draw in range(20):
        other = base.copy()
        other[80 : 80 + 5 * draw] = 1
        for effort in (0.05, 0.1):
            wide += rows("main", "push", other, control="random", draw=draw, effort=effort, dose=draw + effort)
    spread = pl.concat([lifted, pl.DataFrame(wide, schema=schema.LEVERS, orient="row")])
    audit = lever_effects(spread, {**SPEC, "externality": None})
    control = audit["standings"][0]
    outcome = {c["id"]: c["outcome"] for c in control["criteria"]}
    assert (outcome["effect"], outcome["minus_random"], outcome["new_random"]) == ("met", "undecided", "undecided")
    assert control["standing"] == "inconclusive"


def test_a_noop_that_is_not_exact_grades_nothing():
    table = study(60).with_columns(
        pl.when(pl.col("lever") == "noop").then(pl.col("value") + 1e-6).otherwise("value").alias("value")
    )
    assert standing(lever_effects(table, SPEC), "control") == "uninformative"


def test_without_controls_no_lever_is_shown():
    assert standing(lever_effects(study(60, draws=0), SPEC), "control") == "missing"


def test_a_lever_that_costs_elsewhere_fails_externality():
    audit = lever_effects(study(60, side_loss=60), SPEC)
    assert standing(audit, "externality") == "contradicted"


def test_degenerate_rows_are_missing_not_wrong():
    audit = lever_effects(study(60, broken=10), SPEC)
    point = [p for p in audit["points"] if p["benchmark"] == "main"][-1]
    assert point["degenerate"] == 10
    assert point["rate"]["n"] == ITEMS - 10
    assert "10 items without an outcome" in point["rate"]["note"]
    assert point["change"]["n"] == ITEMS - 10
    assert point["change"]["value"] == pytest.approx(100 * 60 / 190)
    assert point["controls"]["random"]["rate"]["left_out"] == 10 and point["controls"]["random"]["rate"]["missing"] == 0
    assert audit["instrument"]["degenerate_rows"] == 20


def criteria(audit, name="control"):
    return {c["id"]: c["outcome"] for c in next(s for s in audit["standings"] if s["name"] == name)["criteria"]}


def test_a_draw_without_an_outcome_is_left_out_of_that_items_mean_alone():
    """Not the item of all arms: one broken draw of twenty would else take it from the comparison."""
    draw = (pl.col("control") == "random") & (pl.col("benchmark") == "main") & (pl.col("effort") == 0.1)
    one = draw & ((pl.col("item_id") == "i0000") & (pl.col("draw") < 19) | (pl.col("item_id") == "i0007"))
    table = study(60, control_lift=4).with_columns(positive=pl.when(one).then(None).otherwise("positive"))
    point = [p for p in lever_effects(table, SPEC)["points"] if p["benchmark"] == "main"][-1]
    found = point["controls"]["random"]["rate"]
    assert (found["left_out"], found["missing"], found["difference"]["n"]) == (1, 19, ITEMS - 1)
    whole = [p for p in lever_effects(study(60, control_lift=4), SPEC)["points"] if p["benchmark"] == "main"][-1]
    lost = whole["controls"]["random"]["rate"]["difference"]["value"]  # both items are right in every arm
    assert found["difference"]["value"] == pytest.approx(lost * ITEMS / (ITEMS - 1))
    gone = table.with_columns(positive=pl.when(draw & (pl.col("draw") == 3)).then(None).otherwise("positive"))
    point = [p for p in lever_effects(gone, SPEC)["points"] if p["benchmark"] == "main"][-1]
    assert point["controls"]["random"]["rate"] is None  # a draw of which nothing is known is no draw


@pytest.mark.parametrize(("lift", "outcome", "graded"), [(60, "met", "supported"), (18, "undecided", "inconclusive")])
def test_an_effect_stands_whatever_the_missing_outcomes_would_have_been(lift, outcome, graded):
    """8 of 200 verdicts are lost, fewer than the rule of 10 % forbids, and as many as could undo a small effect."""
    audit = lever_effects(study(lift, broken=8), {**SPEC, "externality": None})
    (control,) = audit["standings"]
    met = criteria(audit)
    assert met.pop("worst_case") == outcome and set(met.values()) == {"met"} and control["standing"] == graded
    worst, point = control["estimates"]["worst_case"], [p for p in audit["points"] if p["benchmark"] == "main"][-1]
    assert (worst["low"], worst["high"]) == (point["change_bounds"]["low"], point["change_bounds"]["high"])
    assert worst["low"] < control["estimates"]["change"]["low"] and (worst["low"] > 0) == (outcome == "met")
    assert "worst_case" not in criteria(lever_effects(study(lift), SPEC))  # nothing is missing


def test_a_fall_is_held_against_its_other_bound():
    falling = {**SPEC, "primary": {**SPEC["primary"], "direction": "decrease"}, "externality": None}
    audit = lever_effects(study(60, broken=8).with_columns(positive=~pl.col("positive")), falling)
    bounds = [p for p in audit["points"] if p["benchmark"] == "main"][-1]["change_bounds"]
    worst = audit["standings"][0]["estimates"]["worst_case"]
    assert (worst["low"], worst["high"]) == (-bounds["high"], -bounds["low"]) and worst["low"] > 0
    assert criteria(audit)["worst_case"] == "met"


@pytest.mark.parametrize("binary", [True, False])
def test_draws_that_do_not_vary(binary):
    """Of yes and no, one item could have gone otherwise; of continuous scores, nothing says by how much."""
    table = study(60, draws=0)
    still = table.filter((pl.col("lever") == "baseline") & (pl.col("benchmark") == "main"))
    drawn = [
        still.with_columns(
            lever=pl.lit("push"), control=pl.lit("random"), draw=pl.lit(draw, dtype=schema.LEVERS["draw"]),
            effort=pl.lit(0.1), dose=pl.lit(float(draw)), relative_dose=pl.lit(0.1), prompt_positions=pl.lit(5).cast(
                schema.LEVERS["prompt_positions"])
        )
        for draw in range(20)
    ]  # fmt: skip
    table = pl.concat([table, *drawn]).with_columns(
        score=pl.col("positive").cast(pl.Float64) * (1.0 if binary else 0.9)
    )
    audit = lever_effects(
        table, {**SPEC, "externality": None}, {"main": {"binary": binary}, "side": {"binary": binary}}
    )
    found = [p for p in audit["points"] if p["benchmark"] == "main"][-1]["controls"]["random"]["rate"]
    assert found["set_sd"] == 0.0 and found["prediction"]["value"] == 0.0
    if binary:
        s = 100 / ITEMS * np.sqrt(2 / 21)
        assert found["prediction"]["high"] == pytest.approx(t.ppf(0.975, 19) * s * np.sqrt(1 + 1 / 20))
        assert found["outside_prediction"] is True and criteria(audit)["new_random"] == "met"
    else:
        assert found["prediction"]["high"] is None and found["outside_prediction"] is None
        assert criteria(audit)["new_random"] == "missing" and audit["standings"][0]["standing"] != "supported"


def test_the_dose_of_draws_stands_beside_the_levers():
    found = lever_effects(study(10), SPEC)["dose_balance"]
    assert [(r["covariate"], r["of"]) for r in found] == [
        ("relative dose at 0.05", 21),
        ("relative dose at 0.1", 21),
    ]
    assert found[0]["target"] == 0.1 and not found[0]["flagged"]


def test_hooks_that_did_nothing_are_named():
    table = study(0, draws=0)
    idle = table.with_columns(
        pl.when(pl.col("lever") == "push").then(0.0).otherwise("relative_dose").alias("relative_dose")
    )
    found = lever_effects(idle, SPEC)["instrument"]
    assert {a["lever"] for a in found["arms_without_any_change"]} == {"push"}
    silent = table.with_columns(
        pl.when(pl.col("lever") == "push").then(0).otherwise("prompt_positions").alias("prompt_positions")
    )
    assert {a["lever"] for a in lever_effects(silent, SPEC)["instrument"]["arms_without_receipts"]} == {"push"}


def test_a_noop_that_changed_something_is_seen():
    table = study(0).with_columns(
        pl.when((pl.col("lever") == "noop") & (pl.col("item_id") == "i0003"))
        .then(pl.col("value") + 1e-3)
        .otherwise("value")
        .alias("value")
    )
    assert lever_effects(table, SPEC)["instrument"]["noop_largest_difference"] == pytest.approx(1e-3)


SCORED = {
    "outcome": "right",
    "score": 1.0,
    "text": "It is Oslo.",
    "stop_reason": "end",
    "option_logprobs": [-1.0, -2.0],
}
OTHERWISE = {"outcome": ["wrong", None], "score": [0.0, None], "text": ["It is Oslo", None], "stop_reason": ["length"],
             "option_logprobs": [[-1.0, -2.0 - 1e-15], [-1.0], None]}  # fmt: skip


@pytest.mark.parametrize(("column", "value"), [(name, value) for name, values in OTHERWISE.items() for value in values])
def test_a_noop_that_wrote_anything_else_grades_nothing(column, value):
    """Its first logits may be the baseline's to the bit: a hook of later positions shows in the text alone."""
    names = [name for name in SCORED if name != "score"]
    table = study(60).with_columns(pl.lit(SCORED[n], dtype=schema.LEVERS[n]).alias(n) for n in names)
    table = table.with_columns(score=pl.col("positive").cast(pl.Float64))
    audit = lever_effects(table, SPEC)
    assert audit["instrument"]["noop_rows_that_differ"] == 0 and standing(audit, "control") == "supported"
    records = table.to_dicts()
    (changed,) = (r for r in records if r["lever"] == "noop" and r["benchmark"] == "side" and r["item_id"] == "i0003")
    changed[column] = value
    audit = lever_effects(pl.DataFrame(records, schema=schema.LEVERS), SPEC)
    assert audit["instrument"]["noop_rows_that_differ"] == 1
    assert {one["standing"] for one in audit["standings"]} == {"uninformative"}
    assert all("no-op dose changed something" in one["reason"] for one in audit["standings"])


def test_what_was_not_written_twice_is_not_compared():
    without = lever_effects(study(60).filter(pl.col("lever") != "noop"), SPEC)["instrument"]
    assert without["noop_rows_that_differ"] is None and without["noop_largest_difference"] is None
    assert lever_effects(study(60), SPEC)["instrument"]["noop_rows_that_differ"] == 0


def test_arms_of_other_items_are_refused():
    table = study(10).filter(~((pl.col("lever") == "push") & (pl.col("item_id") == "i0000")))
    with pytest.raises(IntegrityError, match="other items"):
        surfaces(table, SPEC["benchmarks"])


def test_decrease_is_graded_on_its_side():
    base = study(60)
    flipped = base.with_columns(positive=~pl.col("positive"), value=-pl.col("value"))
    falling = {**SPEC, "primary": {**SPEC["primary"], "direction": "decrease"}, "externality": None}
    rising = {**SPEC, "primary": {**SPEC["primary"], "direction": "increase"}, "externality": None}
    assert standing(lever_effects(flipped, falling), "control") == "supported"
    assert standing(lever_effects(flipped, rising), "control") == "contradicted"


def test_an_instruction_has_no_dose_and_no_hook():
    table = study(10)
    told = pl.DataFrame(
        [row for name in ("main", "side") for row in rows(name, "tell", np.ones(ITEMS), hooked=False)],
        schema=schema.LEVERS, orient="row",
    )  # fmt: skip
    audit = lever_effects(pl.concat([table, told]), SPEC)
    point = next(p for p in audit["points"] if p["lever"] == "tell" and p["benchmark"] == "main")
    assert (point["kind"], point["at"], point["controls"]) == ("instruction", None, {})
    assert point["relative_dose"]["value"] is None
    assert audit["instrument"]["arms_without_receipts"] == []


def graded_at(audit):
    return next(s["at"] for s in audit["standings"] if s["name"] == "control")


def test_the_strongest_point_is_the_farthest_from_the_noop():
    table = study(60)
    assert graded_at(lever_effects(table, SPEC)) == 0.1
    assert graded_at(lever_effects(table.with_columns(effort=-pl.col("effort")), SPEC)) == -0.1
    dose, size = pl.col("effort").replace_strict({0.1: 0.0, 0.05: 0.5}), pl.col("effort")  # a scale towards zero
    scaled = table.with_columns(
        dose=dose, effort=None, relative_dose=pl.when(size.is_not_null()).then(size).otherwise("relative_dose")
    )
    audit = lever_effects(scaled.with_columns(pl.col("effort").cast(pl.Float64)), SPEC)
    assert graded_at(audit) == 0.0
    assert [p["at"] for p in audit["points"] if p["benchmark"] == "main"] == [0.5, 0.0]


@pytest.mark.parametrize("draws", [True, False])
def test_a_lever_that_no_dose_turns_is_missing(draws):
    own = (pl.col("lever") == "push") & (pl.col("control").is_null() if draws else True)
    audit = lever_effects(study(60).filter(~own), SPEC)
    assert [(s["lever"], s["name"], s["standing"]) for s in audit["standings"]] == [
        ("push", "control", "missing"),
        ("push", "externality", "missing"),
    ]


def test_an_answer_without_a_verdict_is_a_loss_where_nothing_may_be_lost():
    own = (pl.col("lever") == "push") & pl.col("control").is_null() & (pl.col("benchmark") == "side")
    mute = study(60).with_columns(
        positive=pl.when(own & (pl.col("item_id") < "i0060")).then(None).otherwise("positive")
    )
    audit = lever_effects(mute, SPEC)
    assert standing(audit, "externality") == "contradicted"
    found = next(s for s in audit["standings"] if s["name"] == "externality")["estimates"]["side at effort 0.1"]
    assert found["value"] == pytest.approx(-30.0) and "60 items without an outcome are counted" in found["note"]
    point = next(p for p in audit["points"] if p["benchmark"] == "side")
    assert point["change"]["n"] == ITEMS - 60 and "60 items without an outcome are left out" in point["change"]["note"]


def test_rates_know_that_items_share_entities():
    found = lever_effects(study(60), SPEC)["baseline"]
    assert found["main"]["method"] == "cluster_t" and found["main"]["clusters"] == ITEMS // 2
    assert found["side"]["high"] == 100.0 and found["side"]["clusters"] == ITEMS // 2


def test_nothing_is_supported_without_receipts():
    silent = study(60).with_columns(
        prompt_positions=pl.when(pl.col("lever") == "push").then(0).otherwise("prompt_positions")
    )
    audit = lever_effects(silent, SPEC)
    assert {s["standing"] for s in audit["standings"]} == {"uninformative"}


def test_a_noop_that_lost_an_outcome_is_seen():
    lost = (pl.col("lever") == "noop") & (pl.col("item_id") == "i0003")
    table = study(0).with_columns(pl.when(lost).then(None).otherwise(pl.col(c)).alias(c) for c in ("positive", "value"))
    assert lever_effects(table, SPEC)["instrument"]["noop_largest_difference"] == 1.0
