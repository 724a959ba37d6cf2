"""Stability, control tasks and verdicts on components, from REFITS, PATH and COMPONENTS rows."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import polars as pl
import pytest

from levercheck.audit.heaviest import COMPONENTS, heaviest, ranked
from levercheck.audit.refitted import gap, left_out_categories, over_draws, selectivity, without_component
from levercheck.audit.stability import (
    chance_jaccard,
    false_selections,
    mean_pairwise,
    path_stability,
    refit_stability,
)
from levercheck.evidence import schema
from levercheck.stats import Estimate, auroc

N = 60
WRONG = np.arange(N) % 2 == 1
ITEMS = pl.DataFrame(
    {
        "item_id": [f"i{k:02d}" for k in range(N)],
        "role": ["test"] * N,
        "label": np.where(WRONG, "wrong", "right"),
        "group": [f"g{k // 2}" for k in range(N)],
        "category": ["a" if k < 40 else "b" if k < 56 else "c" for k in range(N)],
        "answer": [f"x{k}" for k in range(N)],
        "score": np.random.default_rng(0).normal(size=N) + 2.0 * WRONG,
    }
)


def refit_rows(purpose, sets, scores=None, labels=None, held_out=None, items=ITEMS):
    """REFITS rows of one refit per set of (index, weight) of layer 0."""
    rows = []
    for draw, chosen in enumerate(sets):
        head = {"purpose": purpose, "draw": draw, "c": 1.0, "held_out": held_out and held_out[draw]}
        if chosen is None:
            rows.append({**head, "metric": "failed", "value": 1.0})
            continue
        rows.append({**head, "metric": "intercept", "value": 0.0})
        rows += [{**head, "metric": "weight", "layer": 0, "index": i, "value": w} for i, w in chosen]
        own = items["score"].to_numpy() if scores is None else scores[draw]
        rows += [
            {**head, "metric": "score", "item_id": i, "value": float(v)}
            for i, v in zip(items["item_id"], own, strict=True)
        ]
        if labels is not None:
            rows += [
                {**head, "metric": "label", "item_id": i, "value": float(v)}
                for i, v in zip(items["item_id"], labels[draw], strict=True)
            ]
            rows.append({**head, "metric": "train_auroc", "value": 0.9})
    return pl.DataFrame(rows, schema=schema.REFITS, orient="row")


def path_rows(by_c):
    """PATH rows of layer 0 from {c: {index: weight}}."""
    rows = []
    for c, weights in by_c.items():
        rows.append({"c": c, "weight": 0.1, "kkt": 1e-6})
        rows += [{"c": c, "layer": 0, "index": i, "weight": w} for i, w in weights.items()]
    return pl.DataFrame(rows, schema=schema.PATH, orient="row")


def test_frequencies_and_jaccard_by_hand():
    sets = [[(1, 1.0), (2, 0.5), (9, -1.0)], [(1, 1.0)], [(1, 2.0), (3, 0.1)], [], None]
    found = refit_stability(refit_rows("bootstrap", sets), "bootstrap", ITEMS, {(0, 1), (0, 7)}, 100)
    assert (found["refits"], found["failed"], found["empty"]) == (4, 1, 1)
    assert found["jaccard"]["value"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3)
    assert (found["ever_selected"], found["in_half_of_refits"], found["in_80_percent_of_refits"]) == (3, 1, 0)
    share = {e["index"]: e["frequency"]["value"] for e in found["frequencies"]}
    assert share == {1: 0.75, 2: 0.25, 3: 0.25, 7: 0.0}
    assert found["aurocs"] == [auroc(ITEMS["score"].to_numpy(), WRONG).value] * 4
    assert found["with_readout"]["value"] == pytest.approx(1 / 3)


def test_chance_is_what_random_sets_share():
    rng = np.random.default_rng(3)
    draws = [(rng.permutation(30)[:6], rng.permutation(30)[:9]) for _ in range(4000)]
    simulated = np.mean([len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in draws])
    assert chance_jaccard([6, 9], 30) == pytest.approx(simulated, abs=0.005)
    exact = [
        len(set(a) & set(b)) / len(set(a) | set(b))
        for a in itertools.combinations(range(5), 3)
        for b in itertools.combinations(range(5), 4)
    ]
    assert chance_jaccard([3, 4], 5) == pytest.approx(np.mean(exact))
    assert chance_jaccard([3], 5) is None


def test_random_selection_is_at_chance_and_a_fixed_set_is_not():
    rng = np.random.default_rng(5)
    random = [[(int(i), 1.0) for i in rng.permutation(50)[:10]] for _ in range(30)]
    found = refit_stability(refit_rows("half", random), "half", ITEMS, {(0, 1)}, 50)
    assert found["jaccard"]["low"] < found["jaccard_by_chance"] < found["jaccard"]["high"]
    assert found["expected_false_in_80_percent"] == pytest.approx(false_selections(10, 50))
    planted = [[(1, 1.0), (2, 1.0), (int(rng.integers(3, 50)), 1.0)] for _ in range(30)]
    found = refit_stability(refit_rows("bootstrap", planted), "bootstrap", ITEMS, {(0, 1), (0, 2)}, 50)
    assert found["jaccard"]["low"] > 5 * found["jaccard_by_chance"]
    assert found["in_80_percent_of_refits"] == found["readout_in_80_percent_of_refits"] == 2


def test_jackknife_needs_three_refits_and_covers_the_mean():
    assert mean_pairwise(np.ones((1, 1))).value is None
    assert mean_pairwise(np.array([[1, 0.4], [0.4, 1]])).value == pytest.approx(0.4)
    assert mean_pairwise(np.array([[1, 0.4], [0.4, 1]])).low is None
    rng = np.random.default_rng(1)
    table = rng.random((12, 12))
    table = (table + table.T) / 2
    found = mean_pairwise(table)
    off = table[~np.eye(12, dtype=bool)]
    assert found.value == pytest.approx(off.mean()) and found.low < found.value < found.high


def test_no_refit_is_absent():
    empty = pl.DataFrame(schema=schema.REFITS)
    assert "absent" in refit_stability(empty, "bootstrap", ITEMS, {(0, 1)}, 10)
    assert "absent" in without_component(empty, ITEMS)
    assert "absent" in selectivity(empty, ITEMS, {})


def test_path_shares():
    path = path_rows({0.1: {1: 1.0}, 1.0: {1: 2.0, 2: 1.0, 3: -1.0}, 10.0: {2: 1.0, 4: 2.0}})
    low, middle, high = path_stability(path, 1.0)
    assert low["with_previous"] is None and low["with_chosen"]["jaccard"] == 0.5
    assert (middle["nonzero"], middle["positive"], middle["chosen"]) == (3, 2, True)
    assert high["with_previous"] == {"shared": 1, "union": 3, "jaccard": 1 / 3}


def components_of(correlations, areas, rng):
    rows = []
    for (index, r), area in zip(correlations.items(), areas, strict=True):
        place = {"layer": 0, "index": index}
        rows.append({"metric": "auroc", **place, "value": area})
        rows.append({"metric": "correlation", **place, "other_layer": 0, "other_index": 99, "value": r})
        rows += [{"metric": "feature", **place, "item_id": i, "value": float(rng.normal())} for i in ITEMS["item_id"]]
    return pl.DataFrame(rows, schema=COMPONENTS, orient="row")


def test_verdicts_follow_the_declared_rules():
    """One component for every rule that it alone breaks, and one that breaks none."""
    rng = np.random.default_rng(2)
    weights = {k: 10.0 - k for k in range(1, 8)}
    path = path_rows({0.5: {k: weights[k] for k in (1, 2, 3, 5)}, 1.0: weights, 2.0: weights})
    often = [[(k, weights[k]) for k in (1, 3, 4, 5)] + ([(2, 8.0)] if draw < 5 else []) for draw in range(10)]
    singles = [0.9, 0.85, 0.84, 0.83, 0.5, 0.82, 0.81]
    components = components_of({1: 0.2, 2: 0.1, 3: -0.97, 4: 0.0, 5: 0.0, 6: 0.0, 7: 0.0}, singles, rng)
    table = heaviest(path, 1.0, refit_rows("bootstrap", often), components, ITEMS)
    failed = {e["index"]: {r for r, passed in e["rules_passed"].items() if passed is False} for e in table}
    assert failed[1] == set() and table[0]["verdict"] == "stable"
    assert failed[2] == {"frequency"} and failed[3] == {"correlation"} and failed[4] == {"path_rank"}
    assert failed[5] == {"auroc_rank"} and table[4]["verdict"] == "L1 artefact"
    assert table[0]["heaviest_in_refits"] == 10 and table[0]["median_rank_in_refits"] == 1.0
    assert [p["rank"] for p in table[3]["path"]] == [None, 4, 4]
    assert ranked(path, 0.5)[0] == ((0, 1), 9.0)
    open_question = heaviest(path, 1.0, refit_rows("bootstrap", []), components, ITEMS)
    assert open_question[0]["verdict"] == "not estimable" and open_question[2]["verdict"] == "L1 artefact"


def test_a_control_task_that_memory_solves_leaves_no_selectivity():
    rng = np.random.default_rng(4)
    labels = rng.random((20, N)) < 0.5
    solved = [3.0 * row + rng.normal(size=N) for row in labels]
    blind = rng.normal(size=(20, N))
    sets = [[(1, 1.0)]] * 20
    memory = selectivity(refit_rows("control", sets, solved, labels), ITEMS, {})
    honest = selectivity(refit_rows("control", sets, blind, labels), ITEMS, {})
    assert memory["selectivity"]["low"] < 0 and memory["p"] > 0.05
    assert honest["selectivity"]["low"] > 0.2 and honest["p"] == pytest.approx(1 / 21) == honest["attainable_p"]
    control = np.array([auroc(score, label).value for score, label in zip(blind, labels, strict=True)])
    average = honest["control_mean"]
    assert average["value"] == pytest.approx(control.mean()) and average["method"] == "t_over_draws"
    half = 2.093 * control.std(ddof=1) / math.sqrt(20)
    assert average["high"] - average["value"] == pytest.approx(half, rel=1e-3)
    assert honest["selectivity"]["value"] == pytest.approx(honest["real"]["value"] - control.mean())
    assert honest["control"]["low"] < 0.5 < honest["control"]["high"] and honest["in_sample"]["control"]["value"] == 0.9


def test_gap_is_as_wide_as_both_intervals_together():
    def estimate(value, low, high):
        return Estimate(value, low, high, 0.95, "AUROC", 9, "m")

    found = gap(estimate(0.9, 0.8, 0.95), estimate(0.5, 0.4, 0.6))
    assert found.low == pytest.approx(0.4 - math.hypot(0.1, 0.1))
    assert found.high == pytest.approx(0.4 + math.hypot(0.05, 0.1))
    assert gap(estimate(0.9, None, None), estimate(0.5, 0.4, 0.6)).low is None
    assert gap(Estimate(None, None, None, 0.95, "AUROC", 0, "m"), estimate(0.5, 0.4, 0.6)).value is None


def test_categories_left_out():
    part = ITEMS.filter(pl.col("category") == "a")
    rows = refit_rows("category", [[(1, 1.0)]], [-part["score"].to_numpy()], held_out=["a"], items=part)
    found = left_out_categories(rows, ITEMS, 5)
    assert found["a"]["full"]["value"] == pytest.approx(1 - found["a"]["left_out"]["value"])
    assert found["a"]["left_out_minus_full"]["high"] < 0 and (found["a"]["right"], found["a"]["wrong"]) == (20, 20)
    assert "no fit" in found["b"]["absent"] and "fewer than 5" in found["c"]["absent"]
    json.dumps(found, allow_nan=False)


def test_over_draws_needs_two():
    assert over_draws([], "AUROC", 0).value is None and over_draws([0.4], "AUROC", 0).low is None
    found = over_draws([0.5] * 49 + [0.0], "AUROC", 0)
    assert found.low <= found.value <= found.high
