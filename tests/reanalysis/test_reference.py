"""The example analysis against the reference pack: every published digit that its rows can give."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from levercheck.reanalysis import compare, reanalyze

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "reanalysis" / "reference.yaml"


@pytest.fixture(scope="module")
def compared(reference):
    results = reanalyze(EXAMPLE, reference)
    return results, compare(results, json.loads((reference / "golden.json").read_text()))


def test_all_324_statistics_are_made_and_none_disagrees(compared):
    results, found = compared
    assert found["counts"] == {"agree": 323, "tolerance": 1, "disagree": 0, "absent": 0}
    assert len(found["entries"]) == len(results["entries"]) == 324
    assert results["not_expressible"] == {}


def test_what_follows_from_the_rows_agrees_to_its_last_printed_digit(compared):
    _, found = compared
    follows = [entry for entry in found["entries"] if entry["publication_follows"]]
    assert len(follows) == 304
    assert {entry["status"] for entry in follows} == {"agree"}


def test_which_entry_rests_on_tolerance(compared):
    _, found = compared
    rest = [entry["id"] for entry in found["entries"] if entry["status"] == "tolerance"]
    assert rest == ["jailbreak.csv2_v2.h_minus_seed0.permutation_p_unpaired"]


def test_the_paired_and_the_unpaired_test_differ_as_reported(compared):
    entries = compared[0]["entries"]
    paired = entries["jailbreak.csv2_v2.h_minus_seed0.permutation_p_signflip"]
    unpaired = entries["jailbreak.csv2_v2.h_minus_seed0.permutation_p_unpaired"]
    assert paired["value"] == pytest.approx(33 / 50_001)
    assert unpaired["value"] > 10 * paired["value"]
    assert (paired["method"], unpaired["method"]) == ("sign_flip(greater)", "unpaired_permutation(greater)")


def test_every_interval_names_its_method_and_every_bootstrap_its_seed(compared):
    for name, record in compared[0]["entries"].items():
        assert record["method"], name
        assert ("bootstrap" not in record["method"]) or {"seed", "resamples"} <= record.keys(), name
