"""Studies over the registry: declared readouts, settings of benchmarks, manifests, a lock and its confirm run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import yaml

pytest.importorskip("torch", reason="needs levercheck[lm]")

from tests.sweep.forging import audited_again

from levercheck.cli import study_options
from levercheck.cli.app import main
from levercheck.evidence.rows import read_part

STUDIES = Path(__file__).parents[2] / "studies" / "gemma3_4b"
SIX_LINES = """\
study: six-lines
model: embedded:smollm2-135m
readouts: {h: {family: direction, source: facts, limit: 60, position: mean}}
interventions: {push: {readout: h, operator: add, unit: relative, doses: [0.1]}}
controls: {random: {draws: 2, match: none}}
benchmarks: [capability-knowledge, capability-text]
"""


@pytest.fixture
def call(smollm, capsys, monkeypatch):
    """Run a command in this process with the model that is loaded already; returns its exit code and output."""
    monkeypatch.setattr(study_options.Opened, "load", lambda *_: smollm)

    def run(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return stopped.value.code, shown

    return run


def rows_of(root, folder="cells"):
    parts = sorted(path.parent for path in (root / folder).rglob("provenance.json"))
    return pl.concat([read_part(part) for part in parts])


def test_six_lines_are_a_study(call, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(SIX_LINES)
    assert len(SIX_LINES.splitlines()) == 6
    root = tmp_path / "run"
    code, shown = call("run", path, "--out", root, "--limit", 6, "--json")
    assert code == 0, shown.err
    audit = json.loads(shown.out)["audit"]
    assert audit["instrument"]["noop_largest_difference"] == 0.0
    assert not audit["instrument"]["arms_without_receipts"] and not audit["instrument"]["arms_without_any_change"]
    assert set(audit["benchmarks"]) == {"capability-knowledge", "capability-text"}
    assert audit["benchmarks"]["capability-text"]["binary"] is False
    text = next(p for p in audit["points"] if p["benchmark"] == "capability-text")
    assert text["rate"]["unit"] == "%" and text["change"]["n"] == 6 and text["change"]["method"] != "tango"
    rows = rows_of(root)
    assert rows["score"].is_between(0, 1).all() and rows["option_logprobs"].is_not_null().all()
    (readout,) = (root / "readouts").iterdir()
    listed = json.loads((readout / "items.json").read_text())
    asked = set(rows.filter(pl.col("benchmark") == "capability-knowledge")["cluster_id"])
    assert asked and not asked & set(listed["clusters"])  # no entity was fitted on and asked
    assert (root / "explored" / "report.html").is_file() and (root / "explored" / "flips.jsonl").is_file()
    assert call("verify", root)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")}
    code, again = call("run", path, "--out", root, "--limit", 6, "--json")
    assert code == 0 and json.loads(again.out)["audit"] == audit
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")} == before  # everything was kept
    (readout / "readout.json").write_text("{}")
    assert call("verify", root)[0] == 1


def test_a_declared_readout_of_another_kind_is_made_anew(call, tmp_path):
    path, root = tmp_path / "study.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump({**yaml.safe_load(SIX_LINES), "controls": {}, "benchmarks": ["capability-text"]}))
    for limit in (60, 80):
        assert call("run", path, "--out", root, "--limit", 5, "--set", f"readouts.h.limit={limit}")[0] == 0
    first, second = (root / "readouts").iterdir()
    if facts_of(first)["data"]["limit"] == 80:
        first, second = second, first
    assert [facts_of(one)["data"]["limit"] for one in (first, second)] == [60, 80]
    for readout, code in ((first, 0), (second, 1)):  # what is left over of another declaration made no row
        (readout / "readout.json").write_text("{}")
        assert call("verify", root)[0] == code


def facts_of(readout):
    return json.loads((readout / "readout.json").read_text())["facts"]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_settings_are_what_is_asked_and_what_rows_record(call, tmp_path, monkeypatch, data_files):
    choice = data_files("fixtures_choice")
    choice.write_truthfulqa(tmp_path, 40)
    choice.write_simpleqa(tmp_path, 40)
    monkeypatch.setenv("LEVERCHECK_DATA", str(tmp_path / "nothing"))
    (tmp_path / "prompt.txt").write_text("Q: {question}\nA:\n")
    study = yaml.safe_load(SIX_LINES)
    study["readouts"] = {"h": {"family": "direction", "source": "truthfulqa-mc1/chat"}}
    study["benchmarks"] = ["truthfulqa-mc2", "truthfulqa-mc1/chat", "simpleqa"]
    study["settings"] = {
        "truthfulqa-mc2": {"data": "truthfulqa.csv", "prompt_file": "prompt.txt"},
        "truthfulqa-mc1": {"data": "truthfulqa.csv"},
        "simpleqa": {"data": "simpleqa.csv", "max_new_tokens": 16},
    }
    study["controls"] = {}
    path, root = tmp_path / "study.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(study))
    code, shown = call("run", path, "--out", root, "--limit", 5)
    assert code == 0, shown.err
    rows = rows_of(root)
    styles = dict(rows.select("benchmark", "style").unique().iter_rows())
    assert styles["truthfulqa-mc1/chat"] == "chat" and styles["truthfulqa-mc2"].startswith("file:prompt.txt@")
    (readout,) = (root / "readouts").iterdir()
    made = facts_of(readout)
    assert (made["prompt"]["form"], made["data"]["source"], made["data"]["style"]) == (
        "chat", "truthfulqa-mc1/chat", "chat",
    )  # fmt: skip
    assert made["data"]["data"]["files"][0]["name"] == "truthfulqa.csv"  # where the study says, not the data folder
    check_worksheets(root / "explored", rows.filter(pl.col("benchmark") == "simpleqa"))
    cells = {p.name for p in (root / "cells" / "truthfulqa-mc2").iterdir()}
    (tmp_path / "prompt.txt").write_text("{question}\nThe truth is:\n")
    code, shown = call("run", path, "--out", root, "--limit", 5)
    assert code == 0, shown.err
    assert not cells & ({p.name for p in (root / "cells" / "truthfulqa-mc2").iterdir()} - cells)
    assert len(list((root / "cells" / "truthfulqa-mc2").iterdir())) == 2 * len(cells)  # another prompt, other cells
    assert list((root / "readouts").iterdir()) == [readout]
    study["settings"]["truthfulqa-mc2"]["revision"] = "sha256:" + "0" * 64
    path.write_text(yaml.safe_dump(study))
    code, shown = call("run", path, "--out", root, "--limit", 5)
    assert code == 2 and "truthfulqa.csv: wrong revision" in shown.err and len(shown.err.strip().splitlines()) <= 2


def check_worksheets(folder, rows):
    """Who checks a response sees no arm and no verdict; the key beside it says what the response was taken for."""
    blind, key = lines(folder / "to_audit.jsonl"), lines(folder / "to_audit_key.jsonl")
    assert blind and [one["id"] for one in blind] == [one["id"] for one in key]
    assert len({one["id"] for one in blind}) == len(blind)
    for shown, hidden in zip(blind, key, strict=True):
        assert set(shown) == {"id", "question", "accepted", "response", "label"} and shown["label"] is None
        assert set(hidden) == {"id", "item_id", "lever", "dose", "effort", "outcome", "how", "chosen"}
        (row,) = rows.filter(
            (pl.col("item_id") == hidden["item_id"]) & (pl.col("lever") == hidden["lever"])
        ).iter_rows(named=True)  # fmt: skip
        assert (row["text"], row["outcome"], row["how"]) == (shown["response"], hidden["outcome"], hidden["how"])
        assert hidden["outcome"] != "truncated" and shown["accepted"]
    listed = {path["path"] for path in json.loads((folder / "provenance.json").read_text())["outputs"]}
    assert {"explored/to_audit.jsonl", "explored/to_audit_key.jsonl"} <= listed


def test_a_manifest_rules_the_roles_and_a_locked_study_opens_its_confirm_items(call, tmp_path, monkeypatch, data_files):
    data_files("fixtures_choice").write_truthfulqa(tmp_path, 60)
    monkeypatch.setenv("LEVERCHECK_DATA", str(tmp_path))
    study = yaml.safe_load((STUDIES / "iti_truthfulqa_fold0.yaml").read_text())
    study |= {"model": "embedded:smollm2-135m", "benchmarks": ["truthfulqa-mc1", "truthfulqa-mc2"]}
    study |= {"controls": {"heads": {"match": "layer", "draws": 2}}, "externality": None}
    study["calibrate"] |= {"ks": [4, 8], "doses": [8]}
    path, root = tmp_path / "study.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(study))
    made = ("benchmarks", "manifest", "truthfulqa-mc1", "--folds", 2, "--seed", 42, "--calibration", "0.2")
    assert call(*made, "--out", tmp_path / "manifests" / "truthfulqa")[0] == 0
    manifest = json.loads((tmp_path / "manifests" / "truthfulqa" / "fold-0.json").read_text())
    limit = ("--limit", 6)
    code, shown = call("calibrate", path, "--out", root, *limit)
    assert code in (0, 4), shown.err  # a small fixture may poison every cell
    calibration = json.loads((root / "calibration.json").read_text())
    assert {c["k"] for c in calibration["candidates"]} == {4, 8}
    chosen = () if code == 0 else ("--k", 4, "--dose", 8, "--reason", "the fixture is small")
    code, shown = call("lock", path, "--out", root, *limit, *chosen)
    assert code == 0, shown.err
    refuse_other_studies(call, path, root, limit)
    code, shown = call("run", path, "--out", root, *limit, "--confirm", "--json")
    assert code == 0, shown.err
    confirmed = rows_of(root, "confirm")
    assert set(confirmed["item_id"]) <= set(manifest["roles"]["confirm"])
    assert confirmed["role"].unique().to_list() == ["confirm"]
    (readout,) = (root / "readouts").iterdir()
    fitted = set(json.loads((readout / "items.json").read_text())["ids"])
    assert fitted and fitted <= set(manifest["roles"]["readout"])
    assert call("verify", root)[0] == 0
    find_other_grades(call, root, tmp_path / "copy")
    shutil.rmtree(root / "confirm")
    code, shown = call("run", path, "--out", root, *limit, "--confirm")
    assert code == 5 and "restore the folder" in shown.err


def find_other_grades(call, root, copied):
    """What is confirmed is graded by what was locked, and the lock is what was written."""
    shutil.copytree(root, copied)
    declared = json.loads((copied / "confirmed" / "levers.json").read_text())["spec"]["primary"]
    audited_again(copied, "confirmed", spec={"primary": {**declared, "margin": 0.01}})
    code, shown = call("verify", copied, "--json")
    (line,) = json.loads(shown.out)["differences"]
    assert code == 1 and line.startswith("confirmed/levers.json: spec is not what was declared: ")
    lock = json.loads((copied / "lock.json").read_text())
    lock["frozen"]["resolved"]["primary"]["margin"] = 0.01
    (copied / "lock.json").write_text(json.dumps(lock))
    code, shown = call("verify", copied, "--json")
    (line,) = json.loads(shown.out)["differences"]
    assert code == 1 and line.startswith("lock.json was changed after it was written")


def refuse_other_studies(call, path, root, limit):
    """Nothing is made, opened or written for a study that is not the locked one."""
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    for change, told in (
        ("primary.margin=9", "spec.primary.margin is 9.0"),
        ("readouts.heads.limit=50", "spec.readouts.heads.limit is 50"),
        ("interventions.more={instruction: Rely on what you know.}", "spec.interventions.more is new"),
    ):
        code, shown = call("run", path, "--out", root, *limit, "--set", change, "--confirm")
        assert code == 2 and told in shown.err and "the study is not what lock" in shown.err
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before


def test_a_canonical_study_runs_on_the_embedded_model(call, tmp_path, monkeypatch, data_files):
    """The shipped file itself, with --set and --limit; its readout from the embedded facts, for time."""
    answers = data_files("fixtures_answers")
    for write in (answers.write_jbb_harmful, answers.write_jbb_benign):
        write(tmp_path, 40)
    monkeypatch.setenv("LEVERCHECK_DATA", str(tmp_path))
    declared = yaml.safe_load((STUDIES / "jailbreak.yaml").read_text())
    changes = ["--set", "model=embedded:smollm2-135m", "--limit", 5]
    for benchmark in declared["benchmarks"]:
        changes += ["--set", f"settings.{benchmark}.max_new_tokens=6"]
    changes += ["--set", "readouts.h={family: direction, source: facts, limit: 60, position: mean}"]
    changes += ["--set", "interventions.scale={readout: h, operator: add, unit: relative, doses: [0.1]}"]
    for control in declared["controls"]:
        changes += ["--set", f"controls.{control}={{draws: 1, match: none}}"]
    code, shown = call("run", STUDIES / "jailbreak.yaml", "--out", tmp_path / "run", *changes, "--json")
    assert code == 0, shown.err
    audit = json.loads(shown.out)["audit"]
    assert [p["benchmark"] for p in audit["points"]] == declared["benchmarks"]
    assert (audit["instrument"]["noop_largest_difference"], audit["instrument"]["noop_rows_that_differ"]) == (0.0, 0)
    described = [one for one in audit["responses"] if one["lever"] == "baseline"]
    assert {one["benchmark"]: one["n"] for one in described} == {"jailbreak": 10, "jailbreak-benign": 5}  # replicates
    for one in described:
        assert sum(share["value"] for share in one["outcomes"].values()) == pytest.approx(100.0)
