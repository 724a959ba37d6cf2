"""Planted truths: rows whose answer is known must give that standing, and no other."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from levercheck.audit.derive import audit_rows
from levercheck.errors import IntegrityError
from levercheck.evidence import schema

DOSES = (0.0, 1.0, 2.0, 3.0)
ITEMS, ENTITIES = 240, 120


def planted(
    h=0.0, positive=0.25, sets=(0.0, 0.01, -0.01, 0.0, 0.02, -0.02), harm=0.0, context=True, noop=0.0, fade=0.0, seed=0
):
    """SWEEP rows: each arm's compliance probability changes by its slope per unit dose around 0.4 at the no-op dose."""
    rng = np.random.default_rng(seed)
    luck = rng.random(ITEMS)
    bare_luck = rng.random(ITEMS)
    rows = []

    def cell(condition, control_seed, alpha, slope, loss, fade=0.0):
        chance = np.clip(0.4 + slope * (alpha - 1), 0.01, 0.99)
        for benchmark in ("counterfactual-context", "bare-facts"):
            for i in range(ITEMS):
                complied = luck[i] < (chance if context else 0.02)
                correct = bare_luck[i] < 0.98 - loss * abs(alpha - 1)
                hit = complied if benchmark == "counterfactual-context" else correct
                value = (1.0 if complied else -1.0) + slope * (alpha - 1) + (noop if condition == "noop" else 0.0)
                rows.append(
                    {
                        "benchmark": benchmark, "condition": condition, "control_seed": control_seed, "alpha": alpha,
                        "split": "confirm", "item_id": f"i{i:03d}", "cluster_id": f"e:{i % ENTITIES}", "ruler": "r/v1",
                        "positive": bool(hit), "value": float(value),
                        "mass": 0.7 - fade * abs(alpha - 1) + 0.002 * rng.standard_normal(),
                        "relative_dose": None if condition == "baseline" else 0.1,
                    }
                )  # fmt: skip

    for condition in ("baseline", "noop"):
        cell(condition, None, 1.0, 0.0, 0.0)
    for alpha in (a for a in DOSES if a != 1.0):
        cell("h_neurons", None, alpha, h, harm, fade)
        cell("gradient", None, alpha, positive, 0.0)
        for number, slope in enumerate(sets):
            cell("random", number, alpha, slope, 0.0)
    return pl.DataFrame(rows, schema=schema.SWEEP, orient="row")


def standings(rows):
    return {gate["name"]: gate["standing"] for gate in audit_rows(sweep=rows)["gates"]}


def outcomes(rows, name):
    gate = next(g for g in audit_rows(sweep=rows)["gates"] if g["name"] == name)
    return {c["id"]: c["outcome"] for c in gate["criteria"]}


def test_a_planted_lever_is_supported():
    found = standings(planted(h=0.15))
    assert found == {
        "measurement": "supported", "localization": "missing", "control": "supported", "externality": "supported",
    }  # fmt: skip


def test_a_flat_readout_is_contradicted_when_the_assay_is_sensitive():
    assert standings(planted(h=0.0))["control"] == "contradicted"


def test_a_flat_readout_is_uninformative_when_the_positive_control_is_flat_too():
    found = standings(planted(h=0.0, positive=0.0))
    assert found["measurement"] == "contradicted"
    assert found["control"] == "uninformative"


def test_an_effect_that_random_sets_share_is_not_specific():
    rows = planted(h=0.1, sets=(0.1, 0.11, 0.09, 0.1, 0.1, 0.1))
    assert outcomes(rows, "control")["effect"] == "met"
    assert outcomes(rows, "control")["specificity"] == "violated"
    assert standings(rows)["control"] == "contradicted"


def test_an_effect_the_other_way_is_no_support():
    report = audit_rows(sweep=planted(h=-0.1))
    assert next(g for g in report["gates"] if g["name"] == "control")["standing"] == "contradicted"
    assert "opposite_direction" in {f["code"] for f in report["findings"]}
    assert "a lever against the declared direction" in report["verdict"]["sentence"]


def test_harm_elsewhere_is_found():
    assert standings(planted(h=0.15, harm=0.15))["externality"] == "contradicted"


def test_fading_answers_are_harm_even_when_the_true_one_stays_preferred():
    found = outcomes(planted(h=0.15, fade=0.1), "externality")
    assert found["accuracy_a3"] == "met"
    assert found["mass_a3"] == "violated"


def test_a_task_that_ignores_its_context_fails_measurement():
    rows = planted(context=False)
    assert outcomes(rows, "measurement")["context_effect"] == "violated"
    assert standings(rows)["control"] == "uninformative"


def test_a_noop_that_changes_one_logit_fails_measurement():
    rows = planted(h=0.15, noop=1e-6)
    assert outcomes(rows, "measurement")["noop_exact"] == "violated"
    found = standings(rows)
    assert found["measurement"] == "contradicted"
    assert found["control"] == found["externality"] == "uninformative"
    assert "a lever:" not in audit_rows(sweep=rows)["verdict"]["sentence"]


def test_rows_without_a_receipt_fail_measurement():
    rows = planted(h=0.15)
    lost = (pl.col("condition") == "h_neurons") & (pl.col("item_id") == "i000")
    rows = rows.with_columns(pl.when(lost).then(None).otherwise("relative_dose").alias("relative_dose"))
    assert outcomes(rows, "measurement")["receipts"] == "violated"


def test_missing_items_are_an_error_not_a_smaller_n():
    rows = planted()
    hole = (pl.col("condition") == "h_neurons") & (pl.col("alpha") == 2) & (pl.col("item_id") == "i007")
    with pytest.raises(IntegrityError, match="239 rows at dose 2"):
        audit_rows(sweep=rows.filter(~hole))


def test_without_random_sets_control_is_missing():
    rows = planted(h=0.15).filter(pl.col("condition") != "random")
    assert standings(rows)["control"] == "missing"


def test_the_dose_grid_is_that_of_the_rows():
    rows = planted(h=0.15).filter(pl.col("alpha") != 2)
    assert standings(rows)["control"] == "supported"


def test_row_order_changes_nothing():
    rows = planted(h=0.05)
    assert audit_rows(sweep=rows) == audit_rows(sweep=rows.sample(fraction=1.0, shuffle=True, seed=1))


def test_false_support_is_rare():
    """With no effect, 15 seeds never give 'supported'; a flat readout is called contradicted in most of them."""
    found = [standings(planted(h=0.0, seed=seed))["control"] for seed in range(15)]
    assert found.count("supported") == 0
    assert found.count("contradicted") >= 13
