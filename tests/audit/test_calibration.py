"""The rule that picks a cell of a grid: ties, the tolerance's floor, the poison gate, no survivor, decrease."""

from __future__ import annotations

import numpy as np
import pytest

from levercheck.audit.calibration import Candidate, Rule, optimism, poison_reasons, select
from levercheck.stats import Estimate

LIMITS = {"degenerate": 0.0, "no_verdict": 0.1, "cap_hits": 0.1, "bare_loss": 10.0, "perplexity_ratio": 1.5}


def value(number, unit="pp"):
    if number is None:
        return Estimate(None, None, None, 0.95, unit, 0, "test", note="nothing to compare")
    return Estimate(number, number - 1, number + 1, 0.95, unit, 100, "test")


def cell(k, dose, objective, secondary=None, noop=0.0, **harms):
    return Candidate(
        k,
        dose,
        abs(dose - noop),
        value(objective),
        None if secondary is None else value(secondary),
        {name: value(number) for name, number in harms.items()},
    )


def rule(direction="increase", tolerance=1.5, **limits):
    return Rule(direction, tolerance, {**LIMITS, **limits})


def pick(cells, items=1000, **options):
    found = select(cells, rule(**options), items)
    return None if found.chosen is None else (found.chosen.k, found.chosen.dose)


def test_the_best_objective_wins_outside_the_tolerance():
    assert pick([cell(8, 1, 3.0), cell(8, 2, 9.0), cell(16, 4, 7.4)]) == (8, 2)


def test_within_the_tolerance_secondary_then_dose_then_k_decide():
    assert pick([cell(8, 2, 9.0, 1.0), cell(8, 4, 8.0, 5.0), cell(8, 1, 7.0, 9.0)]) == (8, 4)  # 7.0 is outside
    assert pick([cell(8, 4, 9.0, 5.0), cell(8, 2, 8.0, 5.0)]) == (8, 2)
    assert pick([cell(16, 2, 9.0, 5.0), cell(8, 2, 8.0, 5.0)]) == (8, 2)
    assert pick([cell(16, 2, 9.0), cell(8, 2, 8.0), cell(8, 3, 9.0)]) == (8, 2)  # no secondary at all
    assert pick([cell(8, 1, 9.0), cell(8, 2, 9.0, 0.0)]) == (8, 2)  # none is worse than any


def test_distance_is_from_the_no_op_dose():
    assert pick([cell(None, 0.0, 5.0, noop=1.0), cell(None, 1.5, 5.0, noop=1.0)]) == (None, 1.5)
    assert pick([cell(None, 2.0, 5.0), cell(None, -2.0, 5.0)]) == (None, -2.0)  # of equal distance, the smaller


def test_the_tolerance_is_never_finer_than_one_item():
    cells = [cell(8, 4, 50.0), cell(8, 2, 45.5)]
    assert pick(cells, items=20) == (8, 2)  # floor 5 pp
    assert pick(cells, items=100) == (8, 4)  # 1.5 pp
    assert pick([cell(8, 4, 50.0), cell(8, 2, 45.0)], items=20) == (8, 2)  # exactly one item below
    found = select(cells, rule(), 20)
    assert found.tolerance == 5.0
    assert found.trace[0] == {"step": "tolerance", "requested_pp": 1.5, "floor_pp": 5.0, "items": 20, "used_pp": 5.0}


def test_decrease_wants_the_smallest():
    cells = [cell(8, 1, -3.0), cell(8, 2, -9.0), cell(8, 4, -8.5)]
    assert pick(cells, direction="decrease") == (8, 2)
    assert pick(cells) == (8, 1)
    trace = select(cells, rule("decrease"), 1000).trace
    assert trace[1] == {
        "step": "best objective",
        "value_pp": -9.0,
        "direction": "decrease",
        "cells": [{"k": 8, "dose": 2}],
    }
    assert trace[2]["cells"] == [{"k": 8, "dose": 2}, {"k": 8, "dose": 4}]


@pytest.mark.parametrize(
    ("harm", "limit", "words"),
    [
        ({"degenerate": 0.01}, 0.0, "1.0 %, at most 0.0 %"),
        ({"no_verdict": 0.2}, 0.1, "answers without a verdict: 20.0 %"),
        ({"cap_hits": 0.24}, 0.1, "answers cut by the token cap: 24.0 %"),
        ({"bare_loss": 12.0}, 10.0, "loss of bare accuracy: 12.0 pp, at most 10.0 pp"),
        ({"perplexity_ratio": 1.6}, 1.5, "ratio: 1.60, at most 1.50"),
        ({"perplexity_ratio": None}, 1.5, "not estimable (nothing to compare)"),
    ],
)
def test_every_harm_poisons_with_its_reason(harm, limit, words):
    bad = cell(8, 2, 9.0, **harm)
    (reason,) = poison_reasons(bad, LIMITS)
    assert words in reason
    assert pick([bad, cell(8, 4, 8.5, **dict.fromkeys(harm, limit))]) == (8, 4)  # the limit itself is allowed
    found = select([bad, cell(8, 4, 8.5)], rule(), 1000)
    gate = next(step for step in found.trace if step["step"] == "poison gate")
    assert gate["rejected"] == [{"k": 8, "dose": 2, "reasons": [reason]}]


def test_no_survivor_is_poisoned_and_says_what_would_pass():
    cells = [cell(8, 4, 30.0, degenerate=0.5), cell(8, 2, 29.0, bare_loss=40.0), cell(8, 1, 4.0), cell(16, 1, 2.0)]
    found = select(cells, rule(), 1000)
    assert found.status == "poisoned" and found.chosen is None
    assert [c.dose for c in found.shortlist] == [4, 2]
    assert found.trace[-1]["cells"] == [{"k": 8, "dose": 1}]
    assert found.to_dict()["selected"] is None
    assert select(cells[:2], rule(), 1000).trace[-1]["cells"] == []


def test_a_cell_without_an_objective_is_never_chosen():
    found = select([cell(8, 9, None), cell(8, 1, 2.0)], rule(), 1000)
    assert found.chosen.dose == 1
    assert {"step": "no objective", "left_out": [{"k": 8, "dose": 9}]} in found.trace
    assert select([cell(8, 9, None)], rule(), 1000).status == "poisoned"
    with pytest.raises(ValueError, match="at least one"):
        select([], rule(), 10)


def test_the_order_of_the_grid_does_not_matter():
    cells = [cell(k, dose, 9.0 - (dose == 4), float(k == 16)) for k in (8, 16) for dose in (1, 2, 4)]
    wanted = pick(cells)
    assert wanted == (16, 1)
    for seed in range(5):
        assert pick([cells[i] for i in np.random.default_rng(seed).permutation(len(cells))]) == wanted


def test_optimism_is_that_of_a_maximum():
    rng = np.random.default_rng(0)
    noise = rng.integers(-1, 2, (12, 200)).astype(float)
    names = [str(i) for i in range(200)]
    found = optimism(noise, names, resamples=2000)
    maximum = 100 * rng.normal(0, noise.std() / np.sqrt(200), (20_000, 12)).max(axis=1).mean()
    assert 0.5 * maximum < found.value < 1.5 * maximum  # of twelve cells without any effect
    assert optimism(-noise, names, "decrease").value == pytest.approx(-found.value)
    clear = noise.copy()
    clear[3] = 1.0
    assert optimism(clear, names).value == pytest.approx(0.0, abs=1e-9)
    assert optimism(np.repeat(noise, 4, axis=1), [n for n in names for _ in range(4)]).value == pytest.approx(
        found.value, rel=1e-6
    )  # copies of an item in its cluster add nothing
