"""A study from its file to its report, on a real model: resumable, verifiable, honest about its instrument."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext

import numpy as np
import polars as pl
import pytest
import yaml

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from tests.sweep.forging import audited_again  # noqa: E402

from levercheck.audit.lever_verify import verify_levers  # noqa: E402
from levercheck.errors import UsageError  # noqa: E402
from levercheck.evidence.rows import read_part  # noqa: E402
from levercheck.interventions.build import add_direction  # noqa: E402
from levercheck.interventions.files import save_intervention  # noqa: E402
from levercheck.study.spec import read_study  # noqa: E402
from levercheck.sweep import run_study as runner  # noqa: E402
from levercheck.sweep.levers_audit import audit_study  # noqa: E402
from levercheck.sweep.run_study import read_cells, run_study  # noqa: E402


class Silent:
    def stage(self, title, total, unit):
        return nullcontext(lambda done: None)


STUDY = {
    "study": "small",
    "model": "embedded:smollm2-135m",
    "readouts": {"d": "d"},
    "interventions": {
        "tell": {"instruction": "The context may be wrong."},
        "push": {"readout": "d", "efforts": [0.2]},
    },
    "controls": {"random": {"draws": 2, "match": "none"}},
    "benchmarks": ["counterfactual-context", "bare-facts"],
    "items": {"limit": 6, "shares": {"readout": 0.92, "select": 0.0, "tune": 0.04, "confirm": 0.04}},
    "effort": {"layer": 24, "prompts": 2, "tolerance": 0.1},
    "primary": {"benchmark": "counterfactual-context", "margin": 2},
    "externality": {"surfaces": ["bare-facts"]},
}


@pytest.fixture(scope="module")
def base(smollm, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    vector = np.random.default_rng(0).normal(size=576)
    made = add_direction(smollm, {20: vector}, unit="relative")
    save_intervention(made, folder / "d", model=smollm.identity)
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def done(smollm, base, tmp_path_factory):
    root = tmp_path_factory.mktemp("run") / "small"
    root.mkdir()
    run, names = run_study(read_study(base / "study.yaml"), base, root, smollm, Silent())
    return root, run, names, audit_study(run, names, root / "explored")


def test_rows_are_complete_and_every_hook_left_a_receipt(done):
    root, _, names, audit = done
    rows = read_cells(root, names)
    arms = rows.select("benchmark", "lever", "control", "draw", "dose").unique()
    assert len(arms) == 2 * (1 + 1 + 1 + 2 + 1)  # baseline, noop, push, two draws, tell
    assert rows.group_by("benchmark", "lever", "control", "draw").len()["len"].unique().to_list() == [6]
    hooked = rows.filter(pl.col("lever") == "push")
    assert hooked["relative_dose"].min() > 0
    assert hooked["sites"].unique().to_list() == [1]
    assert audit["instrument"] == {
        "noop_largest_difference": 0.0,
        "noop_rows_that_differ": 0,
        "arms_without_receipts": [],
        "arms_without_any_change": [],
        "degenerate_rows": 0,
    }


def test_arms_of_an_effort_move_alike(done):
    root, run, _, _ = done
    efforts = read_part(root / run.units["efforts"])
    assert len(efforts) == 3
    assert efforts["reason"].null_count() == 3
    assert (efforts["effort"] - 0.2).abs().max() <= 0.1 * 0.2
    assert efforts["dose"].n_unique() == 3


def test_the_report_stands_and_verifies(done):
    root, _, _, audit = done
    page = (root / "explored" / "report.html").read_text()
    for word in ("push", "tell", "counterfactual-context", "exploratory, nothing is locked", "Balance of the controls"):
        assert word in page
    assert "<script" not in page
    assert {s["name"] for s in audit["standings"]} == {"control", "externality"}
    assert verify_levers(root) == []


def test_a_second_run_only_reads(done, smollm, base, monkeypatch):
    root, _, names, _ = done

    def refuse(*_, **__):
        raise AssertionError("a finished unit was computed again")

    monkeypatch.setattr("levercheck.sweep.engine.Engine.prefill", refuse)
    assert run_study(read_study(base / "study.yaml"), base, root, smollm, Silent())[1] == names


def test_more_draws_add_to_what_is_there(done, smollm, base, tmp_path):
    names, root = done[2], tmp_path / "copy"
    shutil.copytree(done[0], root)
    spec = read_study(base / "study.yaml", {"controls.random.draws": 3})
    _, more = run_study(spec, base, root, smollm, Silent())
    assert set(names) - set(more), "the control's cells are new"
    assert len(set(names) & set(more)) >= 6  # baseline, noop, push, tell of both benchmarks are kept


def test_an_interrupted_cell_continues_with_the_same_rows(done, smollm, base, tmp_path, monkeypatch):
    root, _, names, _ = done
    other = tmp_path / "again"
    other.mkdir()
    whole, calls = runner.run_cell, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(*arguments)

    spec = read_study(base / "study.yaml")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runner, "run_cell", interrupted)
        run_study(spec, base, other, smollm, Silent())
    _, again = run_study(spec, base, other, smollm, Silent())
    assert again == names
    assert read_cells(other, again).equals(read_cells(root, names))
    events = [json.loads(line)["event"] for line in (other / "ledger.jsonl").read_text().splitlines()]
    assert events == ["planned", "started", "interrupted", "started", "finished"]


def test_another_seed_is_another_run(done, smollm, base):
    root, *_ = done
    with pytest.raises(UsageError, match="was started with another key"):
        run_study(read_study(base / "study.yaml", {"seed": 1}), base, root, smollm, Silent())


def test_a_changed_number_is_found(done, tmp_path):
    root, *_ = done
    copied = tmp_path / "copy"
    shutil.copytree(root, copied)
    path = copied / "explored" / "levers.json"
    levers = json.loads(path.read_text())
    levers["points"][0]["change"]["value"] += 1
    path.write_text(json.dumps(levers))
    found = verify_levers(copied)
    assert any("levers.json has sha256" in line for line in found)
    assert any("points[0].change.value" in line for line in found)


def test_what_a_run_is_graded_by_is_what_was_declared(done, tmp_path):
    """Every number follows from the rows and every digest fits: only the declaration tells that others were meant."""

    def again(name, **changes):
        shutil.copytree(done[0], tmp_path / name)
        return audited_again(tmp_path / name, "explored", **changes)

    stored, audit = again("same")
    assert audit == stored and verify_levers(tmp_path / "same") == []
    told = "explored/levers.json: {} is not what was declared: "
    _, audit = again("margin", spec={"primary": {**stored["spec"]["primary"], "margin": 90.0}})
    assert audit["standings"] != stored["standings"]
    (line,) = verify_levers(tmp_path / "margin")
    assert line.startswith(told.format("spec")) and "primary.margin" in line and "90" in line
    meant = stored["benchmarks"]["bare-facts"]
    assert meant["better"] == "higher"
    _, audit = again("better", benchmarks={"bare-facts": {**meant, "better": "lower"}})
    assert audit["standings"] != stored["standings"]
    (line,) = verify_levers(tmp_path / "better")
    assert line.startswith(told.format("benchmarks")) and "bare-facts.better" in line
    (tmp_path / "same" / "study.json").unlink()
    assert any("study.json" in line for line in verify_levers(tmp_path / "same"))
