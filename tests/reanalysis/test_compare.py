"""The rules of comparison: the last printed digit, the stated tolerance, and everything else."""

from __future__ import annotations

import json

import pytest

from levercheck.errors import IntegrityError, UsageError
from levercheck.reanalysis.compare import compare, compare_files

EXACT = 2.092857142857143


def golden(value, published=None, ci=None, published_ci=None, tolerance=None, follows=True):
    return {
        "id": "it",
        "value": value,
        "ci": ci,
        "mc_ci_tol": tolerance,
        "published_value": published,
        "published_ci": published_ci,
        "agrees_to_last_digit": follows,
    }


def status(record, value, low=None, high=None, **more):
    result = {"value": value, "low": low, "high": high, "unit": "pp", "method": "x", "n": 100, **more}
    found = compare({"entries": {"it": result}}, [record])
    assert sum(found["counts"].values()) == 1
    assert found["counts"][found["entries"][0]["status"]] == 1
    return found["entries"][0]["status"]


@pytest.mark.parametrize(
    ("record", "value", "expected"),
    [
        (golden(0.1714, 0.17), 0.1749, "agree"),
        (golden(0.1714, 0.17), 0.1751, "disagree"),
        (golden(-0.145, -0.14), -0.14500000000000005, "agree"),
        (golden(EXACT, EXACT - 5e-15), EXACT + 1e-12, "agree"),
        (golden(EXACT, EXACT - 5e-15), 2.0929, "disagree"),
        (golden(600, 600), 600.0, "agree"),
        (golden(600, 600), 600.4, "disagree"),
        (golden(3.1075, 3.0), 2.6, "agree"),
        (golden(3.1075, 3.0), 3.6, "disagree"),
        (golden(0.0, -0.0), 0.0, "agree"),
        (golden(5.018, 4.0, follows=False), 5.018, "agree"),
        (golden(5.018, 4.0, follows=False), 4.0, "disagree"),
        (golden(0.00066, None, follows=None), 0.00066, "agree"),
        (golden(0.5, 0.5), None, "disagree"),
        (golden(None, None), 0.5, "absent"),
        (golden(None, 0.5, follows=None), 0.5, "agree"),
        (golden(None, 0.5, follows=None), 0.6, "disagree"),
    ],
)
def test_values(record, value, expected):
    assert status(record, value) == expected


def test_intervals():
    printed = golden(2.2987, 2.3, [0.9919, 3.5841], [0.99, 3.58], 0.15)
    assert status(printed, 2.2987, 0.991, 3.5849) == "agree"
    assert status(printed, 2.2987, 0.9, 3.6) == "tolerance"
    assert status(printed, 2.2987, 0.8, 3.6) == "disagree"
    assert status(printed, 2.2987) == "disagree"
    unprinted = golden(0.1714, 0.17, [-0.0429, 0.393], None, 0.03)
    assert status(unprinted, 0.1714) == "agree"
    assert status(unprinted, 0.1714, -0.0429, 0.393) == "agree"
    assert status(unprinted, 0.1714, -0.05, 0.4) == "tolerance"
    apart = golden(7.6, 7.6, [2.4, 12.8], [2.6, 12.8], 0.6, follows=False)
    assert status(apart, 7.6, 2.4, 12.8) == "agree"
    assert status(apart, 7.6, 2.6, 12.8) == "agree"
    assert status(apart, 7.6, 2.2, 12.9) == "tolerance"
    assert status(apart, 7.5, 2.4, 12.8) == "disagree"


def test_the_interval_of_a_count_may_be_that_of_its_share():
    record = golden(30, 30, [0.2, 0.4], [0.2, 0.4], 0.01)
    assert status(record, 30, 20, 40, method="count; wilson interval of the share") == "agree"
    assert status(record, 30, 20, 40) == "disagree"


def test_permutation_p_values_have_monte_carlo_noise():
    record = golden(0.0118, 0.013, follows=False)
    assert status(record, 0.0121, unit="p", resamples=20_000) == "tolerance"
    assert status(record, 0.0121, unit="p") == "disagree"
    assert status(record, 0.02, unit="p", resamples=20_000) == "disagree"


def test_absent_entries_keep_their_reason():
    records = [{**golden(1.0, 1.0), "id": name} for name in ("told", "untold")]
    found = compare({"entries": {}, "not_expressible": {"told": "no rows"}}, {"entries": records})
    assert [entry["reason"] for entry in found["entries"]] == ["no rows", "no result has this id"]
    assert found["counts"] == {"agree": 0, "tolerance": 0, "disagree": 0, "absent": 2}


def test_wrong_files_are_one_line(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps({"entries": {}}))
    with pytest.raises(UsageError, match="does not exist"):
        compare_files(tmp_path, tmp_path / "golden.json")
    (tmp_path / "golden.json").write_text("[1]")
    with pytest.raises(IntegrityError, match="not a list of records"):
        compare_files(tmp_path, tmp_path / "golden.json")
    (tmp_path / "golden.json").write_text("[]")
    assert compare_files(tmp_path, tmp_path / "golden.json")["entries"] == []
    with pytest.raises(UsageError, match="has no entries"):
        compare_files(tmp_path / "golden.json", tmp_path / "golden.json")
