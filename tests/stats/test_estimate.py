"""The record every estimator returns."""

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levercheck.stats import Estimate

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60, database=None)
NUMBERS = st.floats(-1e6, 1e6)


def test_text_of_an_effect():
    effect = Estimate(2.0904, 1.381, 2.829, 0.95, "pp/dose", 1000, "t")
    assert str(effect) == "+2.09 pp/dose [1.38, 2.83] (n=1000)"


def test_text_of_a_rate_has_no_sign_and_of_a_tiny_negative_no_minus():
    assert str(Estimate(0.25, 0.2, 0.31, 0.95, "fraction", 90, "wilson")) == "0.250 fraction [0.200, 0.310] (n=90)"
    assert str(Estimate(-0.001, -0.002, 0.001, 0.95, "pp", 9, "t")) == "+0.00 pp [0.00, 0.00] (n=9)"


def test_text_names_clusters_and_missing_parts():
    clustered = Estimate(1.0, 0.5, 1.5, 0.95, "pp", 40, "cluster_t", clusters=12, cluster_unit="passage")
    assert str(clustered) == "+1.00 pp [0.50, 1.50] (n=40, 12 passages)"
    assert str(Estimate(1.0, None, None, 0.95, "pp", 1, "t")) == "+1.00 pp [interval not estimable] (n=1)"
    assert str(Estimate(None, None, None, 0.95, "pp", 0, "t", note="no items")) == "not estimable: no items (n=0)"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": math.nan}, "value is nan"),
        ({"high": math.inf}, "high is inf"),
        ({"low": None}, "both ends"),
        ({"low": 5.0}, "reversed"),
        ({"level": 1.0}, "level is 1.0"),
        ({"n": -1}, "n is -1"),
    ],
)
def test_impossible_records_are_refused(change, message):
    record = {"value": 1.0, "low": 0.0, "high": 2.0, "level": 0.95, "unit": "pp", "n": 3, "method": "t"}
    with pytest.raises(ValueError, match=message):
        Estimate(**(record | change))


def test_estimable_needs_value_and_interval():
    assert Estimate(1.0, 0.0, 2.0, 0.95, "pp", 3, "t").estimable
    kept = Estimate(1.0, None, None, 0.95, "pp", 1, "t")
    assert kept.has_value and not kept.estimable
    assert kept.width is None and kept.excludes(0) is None


def test_excludes_is_strict():
    touching = Estimate(1.0, 0.0, 2.0, 0.95, "pp", 3, "t")
    assert touching.excludes(0.0) is False
    assert touching.excludes(-0.1) is True
    assert touching.excludes(2.1) is True


@PROPERTY
@given(
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.integers(0, 10**6),
    st.none() | st.text(max_size=5),
    st.none() | st.integers(0),
)
def test_json_round_trip(value, one, other, n, note, seed):
    first = Estimate(value, min(one, other), max(one, other), 0.9, "pp", n, "m", seed=seed, note=note)
    assert Estimate.from_dict(json.loads(json.dumps(first.to_dict()))) == first


def test_dict_drops_absent_options_but_keeps_absent_numbers():
    record = Estimate(None, None, None, 0.95, "pp", 0, "t").to_dict()
    assert record == {
        "value": None,
        "low": None,
        "high": None,
        "level": 0.95,
        "unit": "pp",
        "n": 0,
        "method": "t",
    }


def test_from_dict_names_unknown_and_missing_fields():
    record = Estimate(None, None, None, 0.95, "pp", 0, "t").to_dict()
    with pytest.raises(ValueError, match="unknown estimate fields: colour"):
        Estimate.from_dict(record | {"colour": 1})
    del record["n"]
    with pytest.raises(ValueError, match="lacks fields: n"):
        Estimate.from_dict(record)


def test_import_is_light():
    code = (
        "import sys, levercheck.stats; print([m for m in ('scipy', 'pandas', 'torch', 'polars') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
