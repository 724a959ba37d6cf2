"""The inventory of a messy folder: every fault is found, nothing is followed, written or believed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levercheck.errors import UsageError
from levercheck.evidence.provenance import read_sidecar
from levercheck.evidence.rows import RowStore
from levercheck.evidence.unit import Unit, batch_names
from levercheck.inventory import Limits, inventory


@pytest.fixture
def found(messy):
    return inventory(messy)


def by_path(records):
    return {record.path: record for record in records}


def test_files_have_kinds_sizes_and_digests(messy, found):
    files = by_path(found.files)
    assert found.kinds["jsonl"][0] == 7
    for file in found.files:
        if file.kind != "link":
            assert file.sha256 == hashlib.sha256((messy / file.path).read_bytes()).hexdigest()
            assert file.bytes == (messy / file.path).stat().st_size
    assert files["weights.bin"].kind == "binary"
    assert files["weights.bin"].skipped == "binary"


def test_links_are_listed_and_never_followed(found):
    files = by_path(found.files)
    assert files["link.json"].skipped == files["linked"].skipped == "link, not followed"
    assert not any(path.startswith("linked/") for path in files)
    assert next(c for c in found.claims if c.claim.text == "77.777").grade == "unbound"


def test_nothing_is_written(messy):
    def snapshot():
        return sorted((p, p.lstat().st_mtime_ns, p.lstat().st_size) for p in messy.rglob("*"))

    before = snapshot()
    inventory(messy)
    assert snapshot() == before


def test_rows_torn_lines_and_duplicates_are_counted(found):
    rows = by_path(found.jsonl)
    torn = rows["faitheval/experiment/alpha_1.0.jsonl"]
    assert (torn.rows, torn.torn, torn.damaged, torn.id_field) == (41, True, (), "id")
    assert (torn.duplicate_ids, torn.duplicate_examples) == (1, ("q3",))
    damaged = rows["faitheval/seed_0/alpha_high.jsonl"]
    assert (damaged.rows, damaged.torn, damaged.damaged) == (2, False, (2,))
    whole = rows["faitheval/seed_0/alpha_0.0.jsonl"]
    assert (whole.rows, whole.torn, whole.duplicate_ids, whole.rows_without_id) == (40, False, 0, 0)


def test_arms_are_compared_with_their_siblings_and_doses_with_each_other(found):
    experiment, control = found.arms
    assert experiment.doses == (0.0, 1.0, 3.0)
    assert experiment.siblings == ("faitheval/seed_0",)
    assert [(gap.dose, gap.missing, gap.examples) for gap in experiment.id_gaps] == [(3.0, 1, ("q39",))]
    assert control.missing_doses == (1.0,)
    assert control.same_dose == (("faitheval/seed_0/alpha_3.0.jsonl", "faitheval/seed_0/alpha_3.jsonl"),)
    assert control.not_numeric == ("faitheval/seed_0/alpha_high.jsonl",)
    assert not experiment.whole
    assert not control.whole


def test_runs_that_never_ended_and_records_that_name_machines_are_named(found):
    running, done = found.sidecars
    assert (running.status, running.terminal, running.dirty) == ("running", False, True)
    assert (running.absolute_paths, running.machine_fields, running.content_hashes) == (1, ("hostname",), 0)
    assert (done.terminal, done.absolute_paths, done.machine_fields, done.content_hashes) == (True, 0, (), 1)


GRADES = {
    "52.5%": ("re-derived", "21/40 [faitheval/experiment]"),
    "47.5%": ("re-derived", "rate of compliance at dose 3: 19/40 [faitheval/seed_0]"),
    "21": ("re-derived", "compliance at dose 0: 21 of 40"),
    "0.847": ("value-bound", "auroc.probe = 0.84713"),
    "2.09 pp": ("value-bound", "slope = 2.0931"),
    "37.2 %": ("value-bound", "table.csv: share[1] = 0.3719"),
    "4.42 pp": ("value-bound", "numbers.parquet: value[1] = 4.4172"),
    "71.3%": ("cited-only", "citation"),
    "0.61": ("unbound", "ambiguous: 2 stored values"),
    "88.8%": ("unbound", ""),
    "0.001": ("unbound", "inequality"),
    "66.6%": ("unbound", ""),
}


@pytest.mark.parametrize("text", GRADES)
def test_numbers_in_markdown_are_graded(found, text):
    one = next(c for c in found.claims if c.claim.text == text)
    grade, words = GRADES[text]
    assert one.grade == grade
    assert words in "; ".join([*one.evidence, one.note])


def test_labels_settings_code_and_dates_are_no_claims(found):
    assert {c.claim.text for c in found.claims} == {*GRADES, "40", "55.1%"} | {"77.777"}
    assert found.set_aside["settings"] >= 4
    assert found.set_aside["code"] == 2
    assert sum(found.grades.values()) == len(found.claims)


def test_every_fault_is_on_the_to_do_list(found):
    todo = "\n".join(found.todo)
    for words in (
        "alpha_1.0.jsonl: the last line is torn",
        "1 duplicate id (q3)",
        "1 damaged line (first: line 2)",
        "1 item of the other doses missing (q39)",
        "doses 1.0 are missing",
        "2 files mean one dose",
        "the dose in the name is not a number",
        "status 'running' cannot back a claim",
        "1 provenance record with absolute paths",
        "unbound numbers in Markdown",
    ):
        assert words in todo, words


def write(folder, text, **files):
    folder.mkdir(exist_ok=True)
    (folder / "r.md").write_text(text)
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return [(c.claim.text, c.grade) for c in inventory(folder).claims]


@pytest.mark.parametrize(
    ("text", "stored", "grade"),
    [
        ("it is 0.62", 0.6249, "value-bound"),
        ("it is 0.62", 0.6251, "unbound"),
        ("it is 62.1%", 0.6213, "value-bound"),
        ("it is 62.1", 0.6213, "unbound"),
        ("a.json says 62.1", 0.6213, "value-bound"),
        ("it is 1,234 rows", 1234, "value-bound"),
        ("it is 1234 rows", 1234.2, "unbound"),
        ("it fell by 3.21 pp", -3.2101, "value-bound"),
        ("it is +3.21 pp", -3.2101, "unbound"),
        ("it is −3.21 pp", -3.2101, "value-bound"),
        ("p = 2.3e-5", 2.31e-5, "value-bound"),
        ("just 3 of them", 3, "unbound"),
        ("just 3 of them, see a.json", 3, "value-bound"),
        ("n = 47 items", 47, "unbound"),
        ("n = 47 items (a.json)", 47, "value-bound"),
        ("true is 1.0", True, "unbound"),
    ],
)
def test_equal_at_the_printed_precision(tmp_path, text, stored, grade):
    assert write(tmp_path / "d", text, a={"x": stored})[0][1] == grade


def test_a_cited_file_decides_between_equal_values(tmp_path):
    a, b = {"x": 0.4321}, {"y": [0.4321]}
    assert write(tmp_path / "d", "we find 0.432", a=a, b=b) == [("0.432", "unbound")]
    assert write(tmp_path / "d", "we find 0.432 (out/../b.json, ./b.json)", a=a, b=b) == [("0.432", "value-bound")]
    assert write(tmp_path / "d", "we find 0.987 (b.json)", a=a, b=b) == [("0.987", "cited-only")]


def test_differences_of_two_doses_are_rederived_from_tables(tmp_path):
    rows = [
        {"item_id": f"i{n}", "alpha": dose, "positive": n < k, "condition": "h"}
        for dose, k in ((0.0, 31), (1.0, 40), (3.0, 47))
        for n in range(60)
    ]
    (tmp_path / "d").mkdir()
    pl.DataFrame(rows).write_parquet(tmp_path / "d" / "rows.parquet")
    pl.DataFrame(rows).write_csv(tmp_path / "d" / "same.csv")
    (tmp_path / "d" / "same.csv").unlink()
    (tmp_path / "d" / "r.md").write_text("Up by 26.7 pp from dose 0 to 3, from 51.7% to 78.3%. All 180 rows.\n")
    found = inventory(tmp_path / "d")
    assert [(c.claim.text, c.grade) for c in found.claims] == [
        ("26.7 pp", "re-derived"),
        ("51.7%", "re-derived"),
        ("78.3%", "re-derived"),
        ("180", "re-derived"),
    ]
    assert found.claims[0].evidence == ("positive: 47/60 at dose 3 − 31/60 at dose 0 [rows.parquet]",)


def test_rates_of_words_are_rederived(tmp_path):
    rows = [{"id": n, "judge": {"verdict": "HARMFUL" if n < 13 else "SAFE"}} for n in range(70)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.md").write_text("Of the responses 18.6% are harmful.")
    assert inventory(tmp_path).claims[0].evidence == ("rate of judge.verdict=HARMFUL: 13/70 [x.jsonl]",)


def test_our_own_runs_are_clean_and_our_journals_are_read(tmp_path):
    unit = Unit(tmp_path, "stage", "k", {"n": pl.Int64}, ["n"])
    unit.run(batch_names([[1], [2]]), lambda batch: [{"n": batch[0]}], facts={})
    store = RowStore(tmp_path / "other", "k", {"n": pl.Int64})
    store.append("a", [{"n": 1}, {"n": 2}])
    store.append("b", [{"n": 3}])
    store.close()
    journal = tmp_path / "other" / "rows" / "journal-0.jsonl"
    journal.write_bytes(journal.read_bytes()[:-4])
    found = inventory(tmp_path)
    assert [(r.terminal, r.absolute_paths, r.machine_fields) for r in found.sidecars] == [(True, 0, ())]
    assert read_sidecar(tmp_path / "stage")["status"] == "complete"
    assert [(j.journal, j.rows, j.torn, j.damaged) for j in found.jsonl] == [(True, 2, True, ())]


def test_limits_are_said(tmp_path):
    (tmp_path / "big.json").write_text(json.dumps({"x": [0.1234] * 100}))
    (tmp_path / "t.csv").write_text("a,b\n" + "1,2\n" * 50)
    (tmp_path / "r.md").write_text("0.51 and 0.52 and 0.53")
    found = inventory(tmp_path, Limits(parse_bytes=300, table_cells=20, claims=2))
    assert by_path(found.files)["big.json"].skipped == "larger than 300 bytes, hashed but not read"
    assert any("t.csv has more than 20 cells" in note for note in found.notes)
    assert any("1 numbers not graded" in note for note in found.notes)
    assert len(found.claims) == 2
    assert len(inventory(tmp_path, Limits(files=1)).files) == 1
    assert any("more than 5 numbers" in n for n in inventory(tmp_path, Limits(leaves=5)).notes)
    with pytest.raises(UsageError, match="not a folder"):
        inventory(tmp_path / "r.md")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "x.json")
    assert inventory(tmp_path).files[0].skipped == "not a plain file"


HOSTILE = [
    "[" * 100_000,
    '{"a": ' * 3000 + "1" + "}" * 3000,
    "9" * 20_000,
    "`" * 20_001 + "1",
    "alpha" + " " * 20_000 + "x",
    "a" * 20_000 + ".json 12.5",
    "| α |\n|---|\n| " + "1 " * 9000,
    "1," * 9000,
    "<!-- 12.5",
    '{"x": 1e999, "y": NaN, "z": ' + "1" * 5000 + "}",
    '{"id": "\\ud800", "c": true}\n',
    "a,a\n1,2\n",
    'a,"b\n1,2',
    "_dose,_rows,alpha,positive\n1,2,x,true\n",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_content_is_read_quickly_or_not_at_all(tmp_path, text):
    for suffix in ("json", "jsonl", "csv", "md", "parquet"):
        (tmp_path / f"x.{suffix}").write_text(text)
    json.dumps(inventory(tmp_path).to_dict())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400) | st.text(max_size=300).map(lambda t: t.encode("utf-8", "surrogatepass")))
def test_no_bytes_make_it_fail(tmp_path, data):
    for suffix in ("json", "jsonl", "csv", "md", "parquet", "provenance.json"):
        (tmp_path / f"x.{suffix}").write_bytes(data)
    json.dumps(inventory(tmp_path).to_dict())


def call(*arguments):
    command = [sys.executable, "-m", "levercheck", "inventory", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prints_cleaned_text_and_json(messy):
    done = call(messy, "--all")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "Red 55.1%" in done.stdout
    assert "re-derived" in done.stdout
    data = json.loads(call(messy, "--json").stdout)
    assert data["schema"] == "levercheck.inventory/v1"
    assert data["grades"] == {"re-derived": 4, "value-bound": 4, "cited-only": 1, "unbound": 6}
    assert set(data) >= {"kinds", "files", "jsonl", "arms", "sidecars", "claims", "set_aside", "notes", "todo"}
    assert call(messy / "nothing").returncode == 2


def test_a_number_is_not_bound_by_luck(tmp_path):
    """Among many rows and scores every short number can be found: the text has to name what it means."""
    rows = [
        {"item_id": f"i{n}", "row_index": n, "alpha": dose, "positive": n % 7 < 2 + dose, "value": n / 1000}
        for dose in (0.0, 1.0, 2.0)
        for n in range(300)
    ]
    pl.DataFrame(rows).write_parquet(tmp_path / "rows.parquet")
    (tmp_path / "scores.json").write_text(json.dumps({"x": {f"s{n}": n / 500 for n in range(500)}}))
    (tmp_path / "r.md").write_text(
        "It took 86 tries, 3 of them bad.\n\nWe got 0.43 and 0.432 and 12.3% in 2.5 hours.\n"
    )
    assert {c.grade for c in inventory(tmp_path).claims} == {"unbound"}
    (tmp_path / "r.md").write_text("The positive rate is 43.0% at dose 1.\n")
    assert [c.grade for c in inventory(tmp_path).claims] == ["re-derived"]
