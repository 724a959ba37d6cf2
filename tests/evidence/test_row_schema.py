"""Rows v1: validation says what is wrong in one line, migrations ask for what they cannot know."""

from __future__ import annotations

import json
from importlib.resources import files

import polars as pl
import pytest

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence import row_schema
from levercheck.evidence.provenance import read_sidecar
from levercheck.evidence.row_schema import BY_NAME, COLUMNS, KEY, conform, find_problems, migrate, validate
from levercheck.evidence.unit import Unit, batch_names


def rows(count=8, **columns):
    base = {
        "benchmark": ["b"] * count,
        "condition": ["h"] * count,
        "alpha": [float(n % 2) for n in range(count)],
        "item_id": [f"i{n // 2}" for n in range(count)],
        "ruler": ["letter"] * count,
        "positive": [n % 3 == 0 for n in range(count)],
    }
    return pl.DataFrame({**base, **columns})


def schema(name):
    return json.loads((files("levercheck") / "data" / "schemas" / name).read_text("utf-8"))


def test_good_rows_have_no_problem_and_conform():
    frame = conform(rows())
    assert find_problems(rows()) == []
    assert frame.columns == [c.name for c in COLUMNS]
    assert frame.schema["control_seed"] == pl.Int64
    assert frame["positive"].to_list() == rows()["positive"].to_list()
    assert conform(frame).equals(frame)


def test_narrow_integers_and_whole_doses_are_fine():
    frame = rows(control_seed=pl.Series([1] * 8, dtype=pl.Int8), alpha=pl.Series([0, 1] * 4, dtype=pl.Int64))
    assert find_problems(frame) == []
    assert conform(frame).schema["alpha"] == pl.Float64


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (rows(posative=[True] * 8), "unknown column 'posative' (did you mean 'positive'?)"),
        (rows().drop("ruler"), "missing key column 'ruler' (expected in all 8 rows)"),
        (rows(positive=["yes"] * 8), "column 'positive' is String, expected boolean"),
        (rows(alpha=["0"] * 8), "column 'alpha' is String, expected number"),
        (rows(template_idx=[0.5] * 8), "column 'template_idx' is Float64, expected integer"),
        (rows(ruler=[None] * 3 + ["x"] * 5), "'ruler' is null in 3 of 8 rows, e.g. i0, i1"),
        (rows(value=[float("nan"), float("inf")] + [0.0] * 6), "'value' is not a finite number in 2 rows"),
        (rows(alpha=[0.0] * 8), "4 surplus rows among 8, expected one row for each of"),
        (rows(16, alpha=[0.0] * 16), "e.g. i0, i1, i2, i3, i4"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(frame, words):
    with pytest.raises(IntegrityError) as error:
        validate(frame, "table")
    assert words in str(error.value)
    assert str(error.value).startswith("table: ")
    assert "\n" not in str(error.value)
    assert "i5" not in str(error.value)


def test_null_parts_of_the_key_are_equal_parts():
    frame = rows(alpha=pl.Series([None] * 8, dtype=pl.Float64))
    assert any("duplicate keys: 4 surplus" in p for p in find_problems(frame))


def test_a_caller_may_know_more_columns():
    assert find_problems(rows(mass=[1.0] * 8), extra=("mass",)) == []


V0 = rows().rename({"item_id": "id", "positive": "compliance", "alpha": "dose"}).drop("ruler")


def test_v0_becomes_v1_when_the_ruler_is_told():
    assert migrate(V0, "levercheck.rows/v0", ruler="letter").select(rows().columns).equals(rows())
    assert migrate(rows(), "levercheck.rows/v1").equals(rows())


@pytest.mark.parametrize(
    ("frame", "version", "told", "words"),
    [
        (V0, "levercheck.rows/v0", {}, "which ruler"),
        (V0, "levercheck.rows/v0", {"ruler": " "}, "which ruler"),
        (V0, "levercheck.rows/v00", {"ruler": "x"}, "did you mean 'levercheck.rows/v0'"),
        (rows(), "levercheck.rows/v0", {"ruler": "x"}, "these rows are not v0"),
        (V0.drop("dose"), "levercheck.rows/v0", {"ruler": "x"}, "need the columns dose"),
    ],
)
def test_a_migration_does_not_guess(frame, version, told, words):
    with pytest.raises(UsageError, match=words):
        migrate(frame, version, **told)


def test_a_migration_ends_in_valid_rows():
    with pytest.raises(IntegrityError, match="surplus"):
        migrate(V0.with_columns(dose=pl.lit(1.0)), "levercheck.rows/v0", ruler="x")


def test_one_version_has_one_way_forward():
    with pytest.raises(ValueError, match="already registered"):
        row_schema.migration("levercheck.rows/v0", "levercheck.rows/v1")(lambda frame, told: frame)


def test_the_json_schema_file_is_the_schema():
    assert schema("rows-v1.json") == row_schema.json_schema()
    assert all(BY_NAME[name].key for name in KEY)
    assert all(column.meaning for column in COLUMNS)


def test_rows_validate_against_the_json_schema():
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema("rows-v1.json"))
    validator.check_schema(validator.schema)
    for row in conform(rows()).iter_rows(named=True):
        validator.validate(row)
    good = conform(rows()).row(0, named=True)
    for change in ({"positive": "yes"}, {"item_id": None}, {"other": 1}, {"response_hash": "xyz"}, {"fold": 0.5}):
        assert not validator.is_valid({**good, **change})


def test_real_sidecars_validate_and_leaky_ones_do_not(tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema("provenance-v1.json"))
    validator.check_schema(validator.schema)
    unit = Unit(tmp_path, "stage", "k", {"n": pl.Int64}, ["n"])
    unit.run(batch_names([[1]]), lambda _: [{"n": 1}], facts={"stage": "x"}, summarise=lambda f: {"n": f.height})
    sidecar = read_sidecar(tmp_path / "stage")
    validator.validate(sidecar)
    output = sidecar["outputs"][0]
    leaky = [
        {"status": "finished"},
        {"hostname": "x"},
        {"outputs": []},
        {"outputs": [{**output, "path": "/" + output["path"]}]},
        {"outputs": [{**output, "path": "../x"}]},
        {"outputs": [{**output, "path": "C:\\x"}]},
        {"outputs": [{**output, "sha256": "0"}]},
        {"started": "yesterday"},
        {"environment": {**sidecar["environment"], "node": "x"}},
    ]
    for change in leaky:
        assert not validator.is_valid({**sidecar, **change}), change
    assert not validator.is_valid({k: v for k, v in sidecar.items() if k != "key"})
