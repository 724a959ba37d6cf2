"""The balance table against numbers worked out by hand, and on draws that are or are not alike."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from levercheck.audit.balance import (
    THRESHOLD,
    balance,
    cells,
    dose_balance,
    layer_balance,
    legend,
    set_balance,
)
from levercheck.errors import NotEnoughDataError, UsageError


def test_a_row_worked_out_by_hand():
    (row,) = balance({"x": [1.0, 3.0]}, {"x": [[2.0, 6.0], [4.0, 8.0], [0.0, 4.0]]}, units={"x": "norm"})
    assert row.target == 2.0 and row.controls.value == pytest.approx(4.0)
    spread = np.sqrt((2.0 + np.var([2, 6, 4, 8, 0, 4], ddof=1)) / 2)
    assert row.smd == pytest.approx((2 - 4) / spread)
    assert (row.rank, row.of) == (1.5, 4)  # tied with the draw of mean 2
    assert row.p == pytest.approx(1.0)
    half = 4.302652729911275 * 2 / np.sqrt(3)
    assert (row.controls.low, row.controls.high) == (pytest.approx(4 - half), pytest.approx(4 + half))
    assert row.controls.unit == "norm" and row.controls.n == 3 and row.flagged


def test_alike_draws_pass_and_shifted_ones_do_not():
    rng = np.random.default_rng(0)
    target = {"a": rng.normal(size=200), "b": rng.normal(size=200)}
    draws = {"a": rng.normal(size=(40, 200)), "b": rng.normal(0.6, 1, (40, 200))}
    same, shifted = balance(target, draws)
    assert not same.flagged and abs(same.smd) < THRESHOLD
    assert shifted.flagged and shifted.smd == pytest.approx(-0.6, abs=0.15)
    assert shifted.rank == 1 and shifted.p == pytest.approx(2 / 41)


def test_the_difference_does_not_shrink_with_more_draws():
    rng = np.random.default_rng(1)
    target = {"a": rng.normal(0.5, 1, 100)}
    few, many = (balance(target, {"a": rng.normal(size=(n, 100))})[0].smd for n in (10, 2000))
    assert few == pytest.approx(many, abs=0.1)


def test_what_does_not_vary_is_not_hidden():
    (equal,) = balance({"x": [1.0]}, {"x": [[1.0], [1.0]]})
    assert equal.smd == 0 and not equal.flagged and equal.rank == 2.0
    (apart,) = balance({"x": [2.0]}, {"x": [[1.0], [1.0]]})
    assert apart.smd is None and apart.flagged and apart.controls.low is None
    assert apart.controls.note == "no variation between items"
    (single,) = balance({"x": [3.0]}, {"x": [[1.0], [2.0], [3.0]]})
    assert single.smd == pytest.approx(1.0)


def test_layer_histograms():
    row = layer_balance([0, 0, 1, 5], [[0, 0, 1, 5], [0, 1, 1, 5], [2, 2, 2, 2]])
    assert row.controls.value == pytest.approx((0 + 0.25 + 1) / 3) and row.flagged and row.smd is None
    assert not layer_balance([0, 1], [[1, 0], [0, 1]]).flagged


def test_measured_doses_are_compared_at_each_dose():
    rows = [
        {"lever": "h", "control": c, "draw": d, "alpha": a, "relative_dose": v}
        for a, factor in ((1.0, 1.0), (2.0, 2.0))
        for c, d, values in ((None, None, (0.2, 0.4)), ("r", 0, (0.1, 0.1)), ("r", 1, (0.1, 0.3)), ("s", 0, (9.0, 9.0)))
        for v in (factor * value for value in values)
    ]
    rows.append({"lever": "h", "control": None, "draw": None, "alpha": 0.0, "relative_dose": None})
    frame = pl.DataFrame(rows)
    first, second = dose_balance(frame, "h", control="r", dose="alpha")
    assert first.covariate == "relative dose at 1" and first.target == pytest.approx(0.3)
    assert first.controls.value == pytest.approx(0.15) and second.controls.value == pytest.approx(0.3)
    assert first.smd == pytest.approx(0.15 / np.std([0.1, 0.2], ddof=1)) and first.flagged
    assert second.flagged and not set_balance("x", 0.12, [0.1, 0.11]).flagged
    assert dose_balance(frame, "h", dose="alpha")[0].of == 4
    with pytest.raises(NotEnoughDataError, match="no dose of 'x'"):
        dose_balance(frame, "x", dose="alpha")
    with pytest.raises(UsageError, match="no column 'dose'"):
        dose_balance(frame, "h")


def test_tables_and_json_say_what_was_computed():
    rows = [*balance({"x": [1.0, 3.0]}, {"x": [[2.0, 6.0], [4.0, 8.0]]}), layer_balance([0], [[0], [1]])]
    rows.append(set_balance("dose", 0.5, [0.4, 0.6]))
    shown = [cells(row) for row in rows]
    assert shown[0][:2] == ("x", "2") and shown[0][2].startswith("5 [") and shown[0][-1] == "no"
    assert "at most 0.25" in legend(2) and "2 draws" in legend(2)
    plain = json.loads(json.dumps([row.to_dict() for row in rows], allow_nan=False))
    assert plain[0]["controls"]["value"] == 5.0 and plain[1]["smd"] is None and plain[2]["kind"] == "set"


@pytest.mark.parametrize(
    ("target", "controls", "said"),
    [
        ({"x": [1.0]}, {"y": [[1.0]]}, "'x' is known of the target or of the controls alone"),
        ({"x": [np.nan]}, {"x": [[1.0]]}, "not finite"),
        ({"x": [1.0]}, {"x": [1.0]}, "expected 2 dimensions"),
        ({"x": []}, {"x": [[1.0]]}, "at least one value"),
    ],
)
def test_wrong_tables_are_one_line(target, controls, said):
    with pytest.raises(UsageError, match=said):
        balance(target, controls)


def test_no_model_runtime_is_needed():
    code = "import sys, levercheck.audit.balance; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
