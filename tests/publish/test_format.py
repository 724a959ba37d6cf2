from __future__ import annotations

import pytest

from levercheck.publish.format import Quoted, bare, integer, number, p_value, plural, standing, threshold

BASE = {"value": 0.18, "low": -1.68, "high": 2.03, "level": 0.95, "unit": "pp/dose", "n": 110, "method": "m"}


def quoted(**changes: object) -> Quoted:
    return Quoted.read("x", BASE | changes)


def test_a_slope_shows_sign_unit_interval_and_counts() -> None:
    text = quoted(clusters=69, cluster_unit="entity").sentence()
    assert text == "+0.18 pp per unit dose [−1.68, +2.03] (n = 110, 69 entities)"


def test_fractions_are_shown_as_per_cent() -> None:
    assert quoted(value=0.25, low=0.2, high=0.3, unit="fraction").sentence() == "25.0 % [20.0, 30.0] (n = 110)"


def test_another_level_is_named() -> None:
    assert quoted(level=0.9).interval() == "90 % [−1.68, +2.03]"


@pytest.mark.parametrize("value", [None, "0", True, float("nan")])
def test_what_is_no_number_is_not_estimable_and_never_zero(value: object) -> None:
    q = quoted(value=value, note="one class only")
    assert q.shown() == "not estimable"
    assert q.interval() == ""
    assert q.sentence() == "not estimable: one class only (n = 110)"


def test_half_an_interval_is_none() -> None:
    assert quoted(high=None).interval() == "[interval not estimable]"


@pytest.mark.parametrize("broken", [None, 3, [], "text"])
def test_a_record_that_is_none_is_not_estimable(broken: object) -> None:
    assert Quoted.read("x", broken).shown() == "not estimable"


def test_a_bound_near_the_threshold_gets_the_digits_that_tell_them_apart() -> None:
    assert quoted(high=1.9999).interval(2.0) == "[−1.6800, +1.9999]"
    assert quoted(high=1.9999).interval() == "[−1.68, +2.00]"
    assert quoted(high=2.0).interval(2.0) == "[−1.68, +2.00]"


def test_unknown_units_are_written_as_they_stand() -> None:
    assert quoted(unit="bananas", value=1.0, low=0.5, high=1.5).sentence() == "1.000 bananas [0.500, 1.500] (n = 110)"


def test_numbers() -> None:
    assert number(-0.001, 2, signed=True) == "0.00"
    assert number(-1.5, 1) == "−1.5"
    assert integer(123456) == "123 456"
    assert bare(None) == "not recorded"
    assert bare(0.0004) == "4.0e−04"
    assert p_value(0.0001) == "p < 0.001"
    assert p_value(None) == "p not estimable"


def test_plurals() -> None:
    assert plural(1, "entity") == "1 entity"
    assert plural(2, "entity") == "2 entities"
    assert plural(0, "random set") == "0 random sets"


def test_thresholds_in_words() -> None:
    assert threshold(">", 2.0, "pp/dose") == "above +2 pp per unit dose"
    assert threshold("<", 95.0, "%") == "below 95 %"
    assert threshold(">", -5.0, "pp") == "above −5 pp"
    assert threshold(">", None, "pp") == "no threshold declared"


def test_standings_in_words() -> None:
    assert standing("not_graded") == "not graded"
    assert standing("brand_new") == "brand new"
