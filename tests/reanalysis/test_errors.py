"""Every mistake is one line that names the estimate, what was found, how many rows, and what would fit."""

from __future__ import annotations

import polars as pl
import pytest
import yaml

from levercheck.errors import IntegrityError, UsageError
from levercheck.reanalysis.spec import parse_analysis, read_analysis
from levercheck.reanalysis.tables import Tables

TARGET = {"condition": "target"}
BOOT, CLUSTERS = {"interval": "bootstrap"}, {"resample": "clusters"}
PAIR = {"high": {"alpha": 3.0}, "none": {"alpha": 0.0}}


def refuses(bench, *words, **spec):
    with pytest.raises(UsageError) as error:
        bench.one(spec.pop("estimator", "rate"), **spec)
    text = str(error.value)
    assert "\n" not in text
    assert "'it'" in text
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"estimator": "ratee"}, ["unknown estimator 'ratee'", "did you mean 'rate'"]),
        ({"table": "row"}, ["no table 'row'", "did you mean 'rows'"]),
        ({"filter": {"conditon": "target"}}, ["no column 'conditon'", "did you mean 'condition'"]),
        ({"filter": {"condition": "taget"}}, ["keeps 0 of 720 rows", "random, target"]),
        ({"filter": {**TARGET, "alpha": 2.0}}, ["alpha = 2.0 keeps 0 of 120 rows", "0.0, 1.0, 3.0"]),
        ({"filter": {"alpha": "high"}}, ["alpha = 'high' cannot be met", "numbers"]),
        ({"filter": {"positive": 1}}, ["positive = 1 cannot be met", "true and false"]),
        ({"filter": {"condition": 3}}, ["condition = 3 cannot be met", "text"]),
        ({"filter": {"alpha": {"mn": 1}}}, ["'mn'", "did you mean 'min'"]),
        ({"filter": TARGET, "measure": "positiv"}, ["no column 'positiv'", "did you mean 'positive'"]),
        ({"filter": TARGET, "measure": "label"}, ["'label' is not a number"]),
        ({"filter": {**TARGET, "alpha": 1.0}, "measure": "value"}, ["40 of 40 rows are neither yes nor no"]),
        ({"filter": TARGET, "part": "at 2"}, ["no part 'at 2'", "'at "]),
        ({"filter": TARGET, "parameters": {"zz": 2}}, ["unknown key 'zz'", "did you mean 'z'"]),
        ({"filter": {"alpha": 1.0}}, ["40 keys (item_id, alpha)", "240 rows", "q000", "..."]),
        ({"filter": TARGET, "contrast": PAIR}, ["takes no contrast", "high, none"]),
        ({"estimator": "flips", "filter": TARGET}, ["needs a contrast of two arms"]),
        ({"estimator": "flips", "contrast": {"a": TARGET}}, ["contrast names 1 arms"]),
        ({"estimator": "flips", "contrast": {"a": {"alpha": 3.0}, "b": {"alpha": 0.0}}}, ["40 keys", "arm 'a'"]),
        ({"estimator": "curve", "filter": TARGET, "parameters": BOOT | {"noop": 2.0}}, ["no-op dose 2"]),
        ({"filter": TARGET, "order": ["fold"]}, ["no column 'fold'"]),
        ({"estimator": "classifier", "filter": TARGET, "parameters": CLUSTERS}, ["clusters: cluster_id"]),
        ({"estimator": "classifier", "filter": {**TARGET, "gold": True}}, ["rows have the same label"]),
    ],
)  # fmt: skip
def test_mistakes_in_an_estimate(bench, spec, words):
    refuses(bench, *words, **spec)


def test_unpaired_items_are_counted_and_shown(bench):
    bench.table("gaps", bench.target.filter(~((pl.col("alpha") == 3.0) & (pl.col("item_id") < "q007"))))
    words = ["7 items are not in every arm", "arm 'high' 33", "arm 'none' 40", "q000, q001, q002, q003, q004, ..."]
    refuses(bench, *words, estimator="flips", table="gaps", contrast=PAIR)
    refuses(bench, "7 items are not in every arm", estimator="curve", table="gaps")


def test_rulers_never_mix_silently(bench, rows_of):
    old, new = rows_of(1, ruler="judge_v1", doses=(0.0, 1.0)), rows_of(2, ruler="judge_v2", doses=(3.0,))
    bench.table("mixed", old + new)
    refuses(bench, "'ruler' are mixed", "judge_v1 80, judge_v2 40", estimator="curve", table="mixed")
    arms = {"high": {"alpha": 3.0}, "low": {"alpha": 0.0}}
    refuses(bench, "'ruler' are mixed", estimator="flips", table="mixed", contrast=arms)
    named = {"high": {"ruler": "judge_v2"}, "low": {"ruler": "judge_v1", "alpha": 0.0}}
    assert bench.one("flips", table="mixed", contrast=named)["n"] == 40
    reason = bench.one("curve", table="mixed", mixed="the second judge replaced the first")
    assert "the second judge replaced the first" in reason["note"]
    frame = bench.target.with_columns(pl.Series("csv2_schema", ["v2", "v3"] * 60))
    bench.table("schemas", frame)
    refuses(bench, "'csv2_schema' are mixed", "20 rows", table="schemas", filter={"alpha": 1.0})


def test_missing_measures_need_a_decision(bench):
    holes = bench.target.with_columns(pl.when(pl.col("row_index") >= 3).then("positive").alias("positive"))
    bench.table("holes", holes)
    spec = {"table": "holes", "filter": {"alpha": 1.0}}
    refuses(bench, "3 of 40 rows have no 'positive'", "missing: drop, no or yes", **spec)
    known = holes.filter((pl.col("alpha") == 1.0) & pl.col("positive").is_not_null())["positive"]
    for choice, value in (("drop", known.mean()), (False, known.sum() / 40), ("yes", (known.sum() + 3) / 40)):
        assert bench.one("rate", **spec, missing=choice)["value"] == pytest.approx(value)
    assert bench.one("count", **spec, measure={"column": "positive", "absent": True})["value"] == 3


def test_tables_stay_inside_their_directory(tmp_path):
    inside = tmp_path / "rows"
    inside.mkdir()
    pl.DataFrame({"a": [1]}).write_csv(tmp_path / "outside.csv")
    with pytest.raises(UsageError, match="outside the rows directory"):
        Tables(inside).get("../outside")
    (inside / "broken.parquet").write_bytes(b"nothing")
    with pytest.raises(IntegrityError, match=r"'broken\.parquet' cannot be read"):
        Tables(inside).get("broken")
    with pytest.raises(UsageError, match="not a directory"):
        Tables(tmp_path / "none")


def test_csv_tables_work_alike(bench):
    bench.table("plain", bench.target, "csv")
    from_csv, from_parquet = (bench.one("curve", table=table, filter=TARGET) for table in ("plain", "rows"))
    assert from_csv == from_parquet


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ([], "holds list"),
        ({"analysis": "x"}, "lists no estimates"),
        ({"analysis": "x", "estimate": [], "estimates": [{}]}, "did you mean 'estimates'"),
        ({"analysis": "x", "estimates": [{"id": "a", "table": "t"}]}, "the key 'estimator' is missing"),
        ({"analysis": "x", "estimates": [{"id": "a", "tabel": "t", "estimator": "rate"}]}, "did you mean 'table'"),
        ({"analysis": "x", "defaults": {"sead": 1}, "estimates": [{"id": "a"}]}, "did you mean 'seed'"),
        ({"analysis": "x", "defaults": {"level": 2}, "estimates": [{"id": "a"}]}, "level is 2"),
        ({"analysis": "x", "estimates": [{"id": "a", "table": "t", "estimator": "rate"}] * 2}, "'a' is used twice"),
        ({"analysis": "x", "estimates": [{"id": "{b}", "for_each": {"a": [1]}}]}, "for_each has no 'b'"),
        ({"analysis": "x", "estimates": [{"id": "{b}", "for_each": {"b": 1}}]}, "a list of values"),
        ({"estimates": [{"id": "a", "table": "t", "estimator": "rate"}]}, "analysis is None"),
    ],
)
def test_mistakes_in_a_file(document, words):
    with pytest.raises(UsageError) as error:
        parse_analysis(document)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_broken_yaml_names_its_line(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("analysis: x\nestimates: [\n  {id: 'a\n")
    with pytest.raises(UsageError, match=r"'a\.yaml' is not valid YAML at line"):
        read_analysis(path)
    with pytest.raises(UsageError, match="does not exist"):
        read_analysis(tmp_path / "none.yaml")


def test_families_expand_with_types_and_fields():
    text = """
analysis: family
defaults: {seed: 7}
estimates:
  - id: "{arm.name}.at_{alpha}"
    for_each:
      arm: [{name: h, seed: null}, {name: r, seed: 0}]
      alpha: [0.0, 1.5]
    table: rows
    filter: {control_seed: "{arm.seed}", alpha: "{alpha}"}
    estimator: rate
"""
    found = parse_analysis(yaml.safe_load(text)).estimates
    assert [spec.id for spec in found] == ["h.at_0.0", "h.at_1.5", "r.at_0.0", "r.at_1.5"]
    assert found[0].filter == {"control_seed": None, "alpha": 0.0}
    assert found[3].filter == {"control_seed": 0, "alpha": 1.5}
    assert {spec.seed for spec in found} == {7}


def test_filters_select_what_they_say(bench):
    count = {"measure": {"column": "item_id", "absent": False}}

    def n(**conditions):
        return bench.one("count", filter=conditions, key=["item_id", "control_seed"], **count)["value"]

    assert n(control_seed=None) == 120
    assert n(control_seed=[0, 1]) == 240
    assert n(control_seed=[None, 4]) == 240
    assert n(control_seed={"min": 1, "max": 3}) == 360
    assert n(control_seed={"not": None}) == 600
    assert n(control_seed={"not": [0, 1]}) == 480
    assert n(alpha={"min": 1, "not": 3.0}, control_seed=None) == 40
