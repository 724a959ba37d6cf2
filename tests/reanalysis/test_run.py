"""Results on disk: written once, never overwritten unasked, re-derived by `verify`, and the three commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from levercheck.errors import UsageError
from levercheck.reanalysis import reanalyze, verify, write

PROGRAM = [sys.executable, "-m", "levercheck"]


@pytest.fixture
def study(bench, tmp_path):
    """An analysis file beside a directory of rows."""
    document = {
        "analysis": "small",
        "defaults": {"resamples": 200},
        "estimates": [
            {"id": "rate", "table": "rows", "filter": {"condition": "target", "alpha": 1.0}, "estimator": "rate"},
            {"id": "slope", "table": "rows", "filter": {"condition": "target"}, "estimator": "curve"},
        ],
        "not_expressible": {"mood": "no rows"},
    }
    path = tmp_path / "analysis.yaml"
    path.write_text(yaml.safe_dump(document))
    return path, document


def call(*arguments):
    return subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_results_are_stored_and_follow_from_the_rows(study, bench, tmp_path):
    path, _ = study
    results = reanalyze(path, bench.root)
    out = tmp_path / "out"
    write(results, path, out, "2026-01-01T00:00:00+00:00")
    assert json.loads((out / "results.json").read_text()) == results
    assert results["tables"]["rows"]["rows"] == 720
    assert results["not_expressible"] == {"mood": "no rows"}
    sidecar = json.loads((out / "provenance.json").read_text())
    assert [output["path"] for output in sidecar["outputs"]] == ["analysis.yaml", "results.json"]
    assert str(tmp_path) not in (out / "provenance.json").read_text() + (out / "results.json").read_text()
    assert verify(out, bench.root) == []
    first = (out / "results.json").read_bytes()
    write(reanalyze(path, bench.root), path, out, "2026-01-01T00:00:00+00:00")
    assert (out / "results.json").read_bytes() == first


def test_verify_finds_an_edited_number_changed_rows_and_a_broken_analysis(study, bench, tmp_path):
    path, _ = study
    out = tmp_path / "out"
    write(reanalyze(path, bench.root), path, out, "t")
    stored = json.loads((out / "results.json").read_text())
    stored["entries"]["slope"]["value"] += 1.0
    (out / "results.json").write_text(json.dumps(stored))
    problems = verify(out, bench.root)
    assert any("results.json has sha256" in line for line in problems)
    assert any(line.startswith("entries.slope.value is") for line in problems)
    bench.table("rows", bench.rows.with_columns(positive=~bench.rows["positive"]))
    assert any("tables.rows.sha256" in line for line in verify(out, bench.root))
    (out / "analysis.yaml").write_text("analysis: [")
    assert any("not valid YAML" in line for line in verify(out, bench.root))


def test_other_content_is_never_overwritten_unasked(study, bench, tmp_path):
    path, document = study
    out = tmp_path / "out"
    write(reanalyze(path, bench.root), path, out, "t")
    kept = (out / "results.json").read_bytes()
    path.write_text(yaml.safe_dump({**document, "defaults": {"level": 0.9}}))
    results = reanalyze(path, bench.root)
    with pytest.raises(UsageError, match="holds other results"):
        write(results, path, out, "t")
    write(results, path, out, "t", archive=True)
    assert verify(out, bench.root) == []
    (archived,) = (out / "archive").iterdir()
    assert (archived / "results.json").read_bytes() == kept
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "diary.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"1 other files \(diary\.txt\)"):
        write(results, path, tmp_path / "home", "t")


def test_the_commands(study, bench, tmp_path):
    path, _ = study
    out, golden = tmp_path / "out", tmp_path / "golden.json"
    done = call("reanalyze", path, "--rows", bench.root, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert set(results["entries"]) == {"rate", "slope"}
    shown = call("reanalyze", path, "--rows", bench.root)
    assert "slope" in shown.stdout
    assert "left out  mood: no rows" in shown.stdout
    assert call("verify", out, "--rows", bench.root).returncode == 0
    forgotten = call("verify", out)
    assert forgotten.returncode == 2
    assert "--rows" in forgotten.stderr
    rate = results["entries"]["rate"]["value"]
    record = {"id": "rate", "value": rate, "published_value": rate, "agrees_to_last_digit": True}
    golden.write_text(json.dumps([record, {"id": "mood", "value": 1.0}]))
    found = call("compare", out, golden, "--json")
    assert found.returncode == 0
    assert json.loads(found.stdout)["counts"] == {"agree": 1, "tolerance": 0, "disagree": 0, "absent": 1}
    golden.write_text(json.dumps([{**record, "published_value": rate + 0.1, "value": rate + 0.1}]))
    worse = call("compare", out / "results.json", golden)
    assert worse.returncode == 1
    assert "1 disagree" in worse.stdout


@pytest.mark.parametrize("command", ["reanalyze", "compare"])
def test_help_shows_an_example(command):
    assert f"Example: levercheck {command}" in " ".join(call(command, "--help").stdout.split())


def test_mistakes_are_one_line(study, bench, tmp_path):
    path, document = study
    document["estimates"][0]["filter"]["conditon"] = "target"
    path.write_text(yaml.safe_dump(document))
    done = call("reanalyze", path, "--rows", bench.root)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.strip()] == [
        "levercheck: estimate 'rate': the table 'rows' has no column 'conditon' (did you mean 'condition'?)"
    ]


def test_no_model_runtime_is_imported():
    banned = ("torch", "transformers", "pandas")
    code = f"import sys, levercheck.reanalysis; sys.exit(any(m in sys.modules for m in {banned}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_example_lists_every_estimator():
    from levercheck.reanalysis import run  # noqa: F401 - registers them
    from levercheck.reanalysis.registry import names

    text = (Path(__file__).resolve().parents[2] / "examples" / "reanalysis" / "README.md").read_text()
    assert [name for name in names() if f"`{name}`" not in text] == []
