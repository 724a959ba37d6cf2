"""Import of foreign rows: what is there comes through exactly, what is wrong is named with file and line."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib.resources import files

import polars as pl
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from levercheck.errors import IntegrityError, LevercheckError, NotEnoughDataError, UsageError
from levercheck.evidence.files import read_json
from levercheck.evidence.foreign import import_rows
from levercheck.evidence.foreign_map import Mapping, load_mapping
from levercheck.evidence.row_schema import KEY, find_problems
from levercheck.evidence.unit import check_outputs

CONSTANTS = {"benchmark": "jailbreak", "condition": "h_neurons", "ruler": "binary_judge"}
TABLE = {
    "files": "alpha_*.jsonl",
    "dose": {"file_name": "alpha_{dose}.jsonl"},
    "columns": {
        "item_id": "id",
        "response": "response",
        "label": "judge.verdict",
        "positive": {"from": "judge.verdict", "values": {"HARMFUL": True, "SAFE": False, "ERROR": None}},
        "category": "category",
    },
    "constants": CONSTANTS,
}


def line(n, verdict="SAFE", **more):
    return {"id": f"q{n}", "response": f"text {n}", "judge": {"verdict": verdict}, "category": None, **more}


def dump(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


GOOD = {
    "alpha_0.0.jsonl": dump(line(1), line(0, "HARMFUL")),
    "alpha_1.5.jsonl": dump(line(0, "HARMFUL"), line(1, "ERROR")),
}


class Case:
    """A folder, a mapping file and an output folder."""

    def __init__(self, base):
        self.base, self.root, self.out = base, base / "rows", base / "out"
        self.root.mkdir(exist_ok=True)
        self.mapping = base / "mapping.yaml"
        self.tables(TABLE)

    def tables(self, *tables):
        self.mapping.write_text(yaml.safe_dump({"version": "levercheck.mapping/v1", "tables": list(tables)}))

    def files(self, files):
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def run(self):
        return import_rows(load_mapping(self.mapping), self.root, self.out)

    def frame(self):
        self.run()
        return pl.read_parquet(self.out / "rows.parquet")


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


def test_per_dose_files_become_rows(case):
    case.files(GOOD)
    frame = case.frame()
    assert find_problems(frame) == []
    assert frame.select("alpha", "item_id", "label", "positive", "row_index").rows() == [
        (0.0, "q0", "HARMFUL", True, 1),
        (0.0, "q1", "SAFE", False, 0),
        (1.5, "q0", "HARMFUL", True, 0),
        (1.5, "q1", "ERROR", None, 1),
    ]
    assert frame["response_hash"][1] == hashlib.sha256(b"text 1").hexdigest()[:12]
    assert frame["response_chars"][1] == 6
    assert frame.select("benchmark", "condition", "ruler").unique().rows() == [tuple(CONSTANTS.values())]


def test_the_sidecar_ties_output_to_input_and_names_no_place(case):
    case.files(GOOD)
    done = case.run()
    sidecar = read_json(case.out / "provenance.json")
    check_outputs(case.out, sidecar)
    assert sidecar["status"] == "complete"
    assert sidecar["rows_sha256"] == done.rows_sha256
    assert [i["path"] for i in sidecar["inputs"]] == sorted(GOOD)
    assert sidecar["inputs"][0]["sha256"] == hashlib.sha256(GOOD["alpha_0.0.jsonl"].encode()).hexdigest()
    assert str(case.base) not in json.dumps(sidecar)
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((files("levercheck") / "data" / "schemas" / "provenance-v1.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(sidecar)


def test_importing_again_gives_the_same_bytes_and_other_files_are_refused(case):
    case.files(GOOD)
    case.run()
    before = (case.out / "rows.parquet").read_bytes()
    case.run()
    assert (case.out / "rows.parquet").read_bytes() == before
    case.files({"alpha_3.0.jsonl": dump(line(0))})
    with pytest.raises(UsageError, match="other files or another mapping"):
        case.run()
    (case.base / "full").mkdir()
    (case.base / "full" / "x").write_text("x")
    with pytest.raises(UsageError, match="holds other files"):
        import_rows(load_mapping(case.mapping), case.root, case.base / "full")


TORN = dump(line(0)) + '{"id": "q1", "respo'
BAD_FILES = {
    "torn": ({"alpha_0.0.jsonl": TORN}, r"alpha_0\.0\.jsonl:2: torn last line"),
    "damaged": ({"alpha_0.0.jsonl": "{oops\n" + dump(line(0))}, r"alpha_0\.0\.jsonl:1: not a JSON object"),
    "no object": ({"alpha_0.0.jsonl": dump(line(0)) + "[1]\n"}, r":2: expected a JSON object, found list"),
    "no utf-8": ({"alpha_0.0.jsonl": b'{"id": "\xff"}\n'}, r":1: not a JSON object"),
    "deep": ({"alpha_0.0.jsonl": "[" * 100_000 + "\n"}, r":1: (the line is nested too deeply|not a JSON object)"),
    "key twice": ({"alpha_0.0.jsonl": '{"id": 1, "id": 2}\n'}, r":1: the key 'id' is given twice"),
    "duplicate": (
        {"alpha_0.0.jsonl": dump(line(0), line(1), line(0))},
        r"alpha_0\.0\.jsonl:3: duplicate id 'q0', first at alpha_0\.0\.jsonl:1",
    ),
    "dose": ({"alpha_high.jsonl": dump(line(0))}, r"alpha_high\.jsonl: the dose 'high' in the file name is not a"),
    "nan dose": ({"alpha_nan.jsonl": dump(line(0))}, r"alpha_nan\.jsonl: the dose 'nan'"),
    "same dose": (
        {"alpha_0.0.jsonl": dump(line(0)), "alpha_0.jsonl": dump(line(1))},
        r"alpha_0\.jsonl and alpha_0\.0\.jsonl both mean dose 0\.0",
    ),
    "other dose": (
        {"alpha_0.0.jsonl": dump(line(0, alpha=0.03))},
        r":1: column 'alpha' says dose 0\.03.*column: alpha",
    ),
    "no column": ({"alpha_0.0.jsonl": dump({"id": "q0", "response": "x"})}, r"jsonl:1: no column 'category'"),
    "empty id": ({"alpha_0.0.jsonl": dump(line(0) | {"id": ""})}, r":1: item_id is empty"),
    "null id": ({"alpha_0.0.jsonl": dump(line(0) | {"id": None})}, r":1: item_id is empty"),
    "float id": ({"alpha_0.0.jsonl": dump(line(0) | {"id": 1.5})}, r":1: item_id is '1\.5', expected text"),
    "half surrogate": (
        {"alpha_0.0.jsonl": '{"id": "\\ud800", "response": "", "judge": {"verdict": "SAFE"}, "category": null}\n'},
        r":1: item_id is .*, expected text",
    ),
    "unknown word": (
        {"alpha_0.0.jsonl": dump(line(0, "MAYBE"))},
        r":1: judge\.verdict is 'MAYBE', which 'values' does",
    ),
    "response": ({"alpha_0.0.jsonl": dump(line(0) | {"response": 3})}, r":1: response is int, expected the response"),
    "empty file": ({"alpha_0.0.jsonl": "\n"}, r"alpha_0\.0\.jsonl holds no rows"),
    "no file": ({}, r"no file matches 'alpha_\*\.jsonl'"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_mistakes_in_files_name_file_and_line(case, name):
    files, words = BAD_FILES[name]
    case.files(files)
    with pytest.raises(LevercheckError, match=words) as error:
        case.run()
    assert "\n" not in str(error.value)
    assert str(case.base) not in str(error.value)
    assert not (case.out / "rows.parquet").exists()


def test_a_whole_last_line_without_newline_is_a_row(case):
    case.files({"alpha_0.0.jsonl": dump(line(0), line(1)).rstrip("\n")})
    assert case.run().rows == 2


def test_micro_doses_keep_their_exact_value(case):
    files = {f"{name}/alpha_0.0.jsonl": dump(line(0, alpha=dose)) for name, dose in (("a", 0.03), ("b", 0.0123456789))}
    case.files(files)
    case.tables({**TABLE, "files": "*/alpha_*.jsonl"})
    with pytest.raises(IntegrityError, match=r"a/alpha_0\.0\.jsonl:1: column 'alpha' says dose 0\.03"):
        case.run()
    case.tables({**TABLE, "files": "*/alpha_*.jsonl", "dose": {"file_name": "alpha_{dose}.jsonl", "column": "alpha"}})
    assert case.frame()["alpha"].to_list() == [0.0123456789, 0.03]


def test_rounded_micro_doses_in_two_files_are_one_dose_too_many(case):
    case.files({"a/alpha_0.0.jsonl": dump(line(0)), "b/alpha_0.0.jsonl": dump(line(1))})
    case.tables({**TABLE, "files": "*/alpha_*.jsonl"})
    with pytest.raises(IntegrityError, match=r"b/alpha_0\.0\.jsonl and a/alpha_0\.0\.jsonl both mean dose 0\.0"):
        case.run()


def test_a_dose_column_must_agree_with_the_file_name(case):
    case.files({"alpha_0.1.jsonl": dump(line(0, alpha=0.14), line(1, alpha=0.16))})
    case.tables({**TABLE, "dose": {"file_name": "alpha_{dose}.jsonl", "column": "alpha"}})
    with pytest.raises(IntegrityError, match=r":2: dose 0\.16 does not round to the 0\.1 of the file name"):
        case.run()


CSV_TABLE = {
    "files": "*.csv",
    "dose": {"column": "alpha"},
    "columns": {"item_id": "id", "positive": "ok", "value": "score", "generated_tokens": "n", "ruler": "judge"},
    "constants": {"benchmark": "b", "condition": "c"},
}
HEADER = "id,alpha,ok,score,n,judge\n"


def test_csv_tables_become_rows(case):
    case.tables(CSV_TABLE)
    case.files({"x.csv": "\ufeff" + HEADER + '"a,1",0.005,true,0.25,12,j1\nb,5e-3,0,,,j1\n"c\n2",1,False,-1e-3,7,j2\n'})
    frame = case.frame()
    assert frame.select("item_id", "alpha", "positive", "value", "generated_tokens", "ruler", "row_index").rows() == [
        ("a,1", 0.005, True, 0.25, 12, "j1", 0),
        ("b", 0.005, False, None, None, "j1", 1),
        ("c\n2", 1.0, False, -0.001, 7, "j2", 2),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER + "a,0,1,0.5,3,j\nb,0,1", r"x\.csv:3: 3 cells, expected 6 \(torn"),
        (HEADER + 'a,0,1,0.5,3,"j\n', r"x\.csv:2: not valid CSV"),
        (HEADER + "a,0,maybe,0.5,3,j\n", r"x\.csv:2: positive is 'maybe', expected true or false"),
        (HEADER + "a,0,1,0.5,3.5,j\n", r"x\.csv:2: generated_tokens is '3\.5', expected a whole number"),
        (HEADER + "a,0,1,nan,3,j\n", r"x\.csv:2: value is 'nan', expected a finite number"),
        (HEADER + "a,0,1,1_0,3,j\n", r"x\.csv:2: value is '1_0'"),
        (HEADER + "a,,1,1,3,j\n", r"x\.csv:2: dose 'alpha' is empty"),
        (HEADER + "a,high,1,1,3,j\n", r"x\.csv:2: dose 'alpha' is 'high', expected a finite number"),
        (HEADER + "a,0,1,1,3,\n", r"x\.csv:2: ruler is empty"),
        ("id,id\n1,2\n", r"x\.csv:1: the header names a column twice"),
        ("", r"x\.csv:1: no header line"),
        ("id,alpha,ok,score,n,juge\na,0,1,1,3,j\n", r"x\.csv:2: no column 'judge' \(did you mean 'juge'\?\)"),
    ],
)
def test_mistakes_in_csv_name_file_and_line(case, text, words):
    case.tables(CSV_TABLE)
    case.files({"x.csv": text})
    with pytest.raises(LevercheckError, match=words):
        case.run()


def test_parquet_tables_come_back_exactly(case):
    case.files(GOOD)
    first = case.frame()
    (case.base / "again").mkdir()
    again = Case(case.base / "again")
    first.write_parquet(again.root / "t.parquet")
    columns = {name: name for name in first.columns if name not in ("response", "alpha")}
    again.tables({"files": "*.parquet", "dose": {"column": "alpha"}, "columns": columns})
    assert again.frame().equals(first)
    (again.root / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(LevercheckError, match=r"t\.parquet: not a readable parquet file"):
        import_rows(load_mapping(again.mapping), again.root, again.base / "out2")


def test_several_tables_are_one_import(case):
    seed = {
        **TABLE,
        "files": "seed_0/alpha_*.jsonl",
        "constants": {**CONSTANTS, "condition": "random", "control_seed": 0},
    }
    case.tables(TABLE, seed)
    case.files({**GOOD, **{f"seed_0/{name}": text for name, text in GOOD.items()}})
    done = case.run()
    assert (done.rows, done.files, done.doses) == (8, 4, (0.0, 1.5))
    assert done.groups == ("jailbreak/h_neurons/binary_judge", "jailbreak/random/binary_judge")


def test_links_that_lead_out_are_refused(case):
    (case.base / "secret.jsonl").write_text(dump(line(0)))
    (case.root / "alpha_0.0.jsonl").symlink_to(case.base / "secret.jsonl")
    with pytest.raises(UsageError, match=r"alpha_0\.0\.jsonl leads out of the rows folder"):
        case.run()


def table(**changes):
    merged = {**TABLE, **changes}
    return {"tables": [{k: v for k, v in merged.items() if v is not None}]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (table(fils="x"), r"tables\.0\.fils: unknown key \(did you mean 'files'\?\)"),
        (table(files="../*.jsonl"), "must be a pattern inside the rows folder"),
        (table(files="/etc/*"), "must be a pattern inside the rows folder"),
        (table(dose=None), "no dose: give 'dose'"),
        (table(dose={}), "a dose needs 'file_name'"),
        (table(dose={"file_name": "alpha.jsonl"}), "needs {dose} once"),
        (table(constants={"benchmark": "b", "condition": "c"}), "no column and no constant for ruler"),
        (table(constants={**CONSTANTS, "label": "x"}), "label cannot be both"),
        (table(constants={**CONSTANTS, "alpha": 1.0}), "alpha is given by 'dose'"),
        (table(columns={"item_id": "id", "positve": "x"}), r"'positve' is not a column.*did you mean 'positive'"),
        ({"tables": []}, "tables: "),
        ({"version": "levercheck.mapping/v2", "tables": [TABLE]}, "version: "),
        ([1], "must hold 'tables:'"),
    ],
)
def test_mistakes_in_the_mapping_are_one_line(case, body, words):
    case.mapping.write_text(yaml.safe_dump(body))
    with pytest.raises(UsageError, match=words) as error:
        load_mapping(case.mapping)
    assert "\n" not in str(error.value)
    assert str(case.base) not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tables: [", "not valid YAML"),
        ("tables: []\ntables: []\n", "key 'tables' is given twice, the second time in line 2"),
        ("tables: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("? [a]\n: 1\n", "is not plain text"),
    ],
)
def test_unsafe_or_broken_yaml_is_refused(case, text, words):
    case.mapping.write_text(text)
    with pytest.raises(UsageError, match=words):
        load_mapping(case.mapping)


ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
doses = st.floats(-1e6, 1e6, allow_nan=False)


@settings(max_examples=40, deadline=None)
@given(arms=st.dictionaries(doses, st.dictionaries(ids, st.booleans(), min_size=1, max_size=5), min_size=1, max_size=4))
def test_any_dose_and_any_id_come_through(tmp_path_factory, arms):
    case = Case(tmp_path_factory.mktemp("case"))
    case.tables({**TABLE, "columns": {"item_id": "id", "positive": "ok"}})
    arms = {dose + 0.0: rows for dose, rows in arms.items()}
    case.files(
        {f"alpha_{d!r}.jsonl": dump(*({"id": i, "ok": ok} for i, ok in rows.items())) for d, rows in arms.items()}
    )
    frame = case.frame()
    found = {(alpha, item): ok for alpha, item, ok in frame.select("alpha", "item_id", "positive").iter_rows()}
    assert found == {(dose, item): ok for dose, rows in arms.items() for item, ok in rows.items()}
    assert frame.select(KEY).n_unique() == frame.height


def test_no_files_is_not_enough_data(case):
    with pytest.raises(NotEnoughDataError):
        case.run()
    with pytest.raises(UsageError, match="no folder"):
        import_rows(load_mapping(case.mapping), case.base / "nothing", case.out)
    with pytest.raises(UsageError, match="no mapping file"):
        load_mapping(case.base / "nothing.yaml")
    assert Mapping.model_validate({"tables": [TABLE]}).version == "levercheck.mapping/v1"


def test_the_command(case):
    case.files(GOOD)
    command = [sys.executable, "-m", "levercheck", "import", str(case.mapping), "--rows", str(case.root), "--out"]
    done = subprocess.run([*command, str(case.out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "4 rows from 2 files, doses 0, 1.5" in done.stdout
    done = subprocess.run([*command, str(case.out), "--json"], capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["rows"] == 4
    case.files({"alpha_3.0.jsonl": TORN})
    done = subprocess.run([*command, str(case.base / "other")], capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert done.stderr.startswith("levercheck: alpha_3.0.jsonl:2: torn last line")
