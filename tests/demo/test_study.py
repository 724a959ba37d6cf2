"""The embedded study end to end on the real model: honest files, resume after kills, verification without torch."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")
pytest.importorskip("altair", reason="needs levercheck[report]")

from tests.conftest import SilentReporter, small_spec

from levercheck.audit.verify import verify
from levercheck.demo.run import run_demo
from levercheck.errors import IntegrityError, NotEnoughDataError, UsageError
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import read_json, write_json
from levercheck.evidence.rows import content_digest

HERE = Path(__file__).resolve()


@pytest.fixture
def copy(finished, tmp_path):
    target = tmp_path / "copy"
    shutil.copytree(finished, target)
    return target


def run_python(code, *arguments, **options):
    root = HERE.parents[2]
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, **options)


def test_a_finished_study_has_everything(finished):
    names = {p.name for p in finished.iterdir()}
    assert {"study.json", "audit.json", "report.html", "card.md", "figures", "ledger.jsonl", "provenance.json"} <= names
    audit = read_json(finished / "audit.json")
    assert [g["name"] for g in audit["gates"]] == ["measurement", "localization", "control", "externality"]
    assert audit["instrument"]["noop_largest_difference"] == 0.0
    assert audit["instrument"]["noop_rows"] == audit["instrument"]["noop_expected"] > 0
    assert audit["instrument"]["rows_without_receipt"] == 0
    assert audit["counts"]["entities_shared_between_roles"] == 0
    for name in (
        "probe.auroc",
        "probe.auroc.matched",
        "baseline.neg_logprob.auroc",
        "baseline.length.auroc",
        "baseline.category_prior.auroc",
        "h_neurons.slope",
        "h_neurons.minus_random",
        "null.percentile",
    ):
        estimate = audit["estimates"][name]
        assert estimate["n"] > 0 and estimate["method"] and estimate["unit"]
    events = [json.loads(line)["event"] for line in (finished / "ledger.jsonl").read_text().splitlines()]
    assert events == ["planned", "started", "finished", "analysed"]


def test_no_role_sees_the_entities_of_another(finished):
    answers = pl.read_parquet(next((finished / "answers" / "rows").glob("*.parquet")))
    assert answers.group_by("entity").agg(pl.col("role").n_unique())["role"].max() == 1
    probe = pl.read_parquet(next((finished / "probe" / "rows").glob("*.parquet"))).join(
        answers.select("item_id", "entity").unique(), on="item_id"
    )
    cv, test = (set(probe.filter(pl.col("purpose") == p)["entity"]) for p in ("cv", "test"))
    assert cv and test and not cv & test
    assert probe.filter(pl.col("purpose") == "cv").group_by("entity").agg(pl.col("fold").n_unique())["fold"].max() == 1


def test_nothing_of_the_machine_is_in_the_files(finished):
    for path in finished.rglob("*"):
        if path.suffix in {".json", ".jsonl", ".html", ".md", ".svg"}:
            text = path.read_text()
            assert str(finished) not in text
            assert str(Path.home()) + "/" not in text


def test_verify_agrees_and_needs_no_torch(finished):
    assert verify(finished) == []
    done = run_python(
        "import sys; from levercheck.cli import main\n"
        "try: main(['verify', sys.argv[1], '--json'])\n"
        "except SystemExit as end: assert not {'torch', 'transformers'} & set(sys.modules); raise",
        finished,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["differences"] == []


def _edit_json(root, name, change):
    data = read_json(root / name)
    change(data)
    write_json(root / name, data)


def _redigest(root, folder):
    """Forge a sidecar so that it fits changed files."""
    sidecar = read_json(root / folder / "provenance.json")
    for output in sidecar["outputs"]:
        output["sha256"] = file_digest(root / output["path"])
    part = next((root / folder / "rows").glob("*.parquet"))
    sidecar["rows_sha256"] = content_digest(pl.read_parquet(part))
    write_json(root / folder / "provenance.json", sidecar)


def tamper_audit(root):
    _edit_json(root, "audit.json", lambda a: a["estimates"]["h_neurons.slope"].update(value=5.0))


def tamper_standing(root):
    _edit_json(root, "audit.json", lambda a: a["gates"][2].update(standing="supported"))


def tamper_margin(root):
    _edit_json(root, "study.json", lambda s: s["spec"]["audit"]["margins"].update(slope_pp=0.1))


def tamper_row(root):
    part = next((root / "answers" / "rows").glob("*.parquet"))
    frame = pl.read_parquet(part)
    frame.with_columns(~pl.col("correct")).write_parquet(part)


def tamper_row_and_sidecar(root):
    cell = next(p for p in (root / "cells").iterdir() if p.name.startswith("h_neurons-a3-counterfactual"))
    part = next((cell / "rows").glob("*.parquet"))
    pl.read_parquet(part).with_columns(pl.lit(True).alias("positive")).write_parquet(part)
    _redigest(root, cell.relative_to(root))


def tamper_scores_and_sidecar(root):
    part = next((root / "probe" / "rows").glob("*.parquet"))
    test = pl.col("purpose") == "test"
    moved = pl.when(test).then(pl.col("score") + 1e-3).otherwise("score").alias("score")
    pl.read_parquet(part).with_columns(moved).write_parquet(part)
    _redigest(root, "probe")


def tamper_array(root):
    with (root / "capture" / "cett.npy").open("r+b") as handle:
        handle.seek(-64, os.SEEK_END)
        handle.write(b"\x01" * 8)


def tamper_report(root):
    (root / "report.html").write_text((root / "report.html").read_text().replace("supported", "Supported", 1))


def point_outside(root):
    (root.parent / "elsewhere").write_text("x")
    sidecar = read_json(root / "items" / "provenance.json")
    sidecar["outputs"][0].update(path="../elsewhere", sha256=file_digest(root.parent / "elsewhere"))
    write_json(root / "items" / "provenance.json", sidecar)


def lose_a_cell(root):
    shutil.rmtree(next((root / "cells").iterdir()))


def lose_a_sidecar(root):
    (root / "answers" / "provenance.json").unlink()


def cut_a_part(root):
    part = next((root / "items" / "rows").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:100])


@pytest.mark.parametrize(
    "tamper",
    [tamper_audit, tamper_standing, tamper_margin, tamper_row, tamper_row_and_sidecar, tamper_scores_and_sidecar,
     tamper_array, tamper_report, point_outside, lose_a_cell, lose_a_sidecar, cut_a_part],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_verify_finds_every_kind_of_tampering(copy, tamper):
    tamper(copy)
    problems = verify(copy)
    assert problems
    assert all("\n" not in p for p in problems)


def test_verify_names_the_number(copy):
    tamper_audit(copy)
    assert any("estimates.h_neurons.slope.value is 5.0, the rows give" in p for p in verify(copy))


def test_verify_of_something_else_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"no audit\.json"):
        verify(tmp_path)


STUDY = """
import sys
from pathlib import Path
from tests.conftest import SilentReporter, small_spec
from levercheck.demo.run import run_demo
run_demo(small_spec(), Path(sys.argv[1]), SilentReporter())
"""


def test_killed_anywhere_it_ends_with_the_same_audit(finished, tmp_path):
    """SIGKILL at growing moments, then once to the end: audit.json is byte-identical to an unbroken run's."""
    root, rng, kills = tmp_path / "run", random.Random(1), 0
    for wait in (9, 14, 20, 24):
        process = subprocess.Popen([sys.executable, "-c", STUDY, str(root)], cwd=HERE.parents[2])
        time.sleep(wait + rng.uniform(0, 3))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    done = run_python(STUDY, root)
    assert done.returncode == 0, done.stderr
    assert kills >= 2
    assert (root / "audit.json").read_bytes() == (finished / "audit.json").read_bytes()
    assert (root / "report.html").read_bytes() == (finished / "report.html").read_bytes()
    assert verify(root) == []


def test_a_second_run_only_checks(copy):
    done = run_python(STUDY + "\nassert 'torch' not in sys.modules", copy)
    assert done.returncode == 0, done.stderr


def test_a_damaged_study_names_what_to_delete_and_then_repairs_itself(copy, finished):
    tamper_row(copy)
    with pytest.raises(IntegrityError, match="delete the folder 'answers'"):
        run_demo(small_spec(), copy, SilentReporter())
    shutil.rmtree(copy / "answers")
    run_demo(small_spec(), copy, SilentReporter())
    assert (copy / "audit.json").read_bytes() == (finished / "audit.json").read_bytes()
    assert (copy / "audit.replaced-1.json").exists()
    assert verify(copy) == []


@pytest.mark.parametrize("lost", ["report.html", "probe", "readout", "cells"])
def test_what_is_lost_is_made_again(copy, finished, lost):
    path = copy / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    run_demo(small_spec(), copy, SilentReporter())
    assert (copy / "audit.json").read_bytes() == (finished / "audit.json").read_bytes()
    assert verify(copy) == []


def test_a_settings_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(UsageError, match="not the settings of a run"):
        run_demo(small_spec(), tmp_path, SilentReporter())


def test_other_settings_are_refused(copy):
    with pytest.raises(UsageError, match="seed = 0, asked for 1"):
        run_demo(small_spec(seed=1), copy, SilentReporter())
    assert verify(copy) == []


def test_a_foreign_directory_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match="holds other files"):
        run_demo(small_spec(), tmp_path, SilentReporter())
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(UsageError, match="is a file"):
        run_demo(small_spec(), tmp_path / "thesis.tex", SilentReporter())
    with pytest.raises(UsageError, match="cannot be created"):
        run_demo(small_spec(), tmp_path / "thesis.tex" / "run", SilentReporter())


def test_an_unwritable_directory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere, so the mode bits alone prove nothing
    with pytest.raises(UsageError, match="not writable"):
        run_demo(small_spec(), tmp_path / "run", SilentReporter())


def test_two_processes_cannot_share_a_directory(copy):
    from filelock import FileLock

    with FileLock(copy / ".lock"), pytest.raises(UsageError, match="another levercheck process"):
        run_demo(small_spec(), copy, SilentReporter())


def test_too_few_consistent_answers_is_one_line(smollm, tmp_path):
    with pytest.raises(NotEnoughDataError, match="expected at least") as caught:
        run_demo(small_spec(questions=25), tmp_path / "run", SilentReporter())
    assert "\n" not in str(caught.value)


def test_too_few_known_facts_is_one_line(smollm, tmp_path):
    shares = {"readout": 0.97, "select": 0.015, "confirm": 0.015}
    with pytest.raises(NotEnoughDataError, match="known facts are left"):
        run_demo(small_spec(role_shares=shares, questions=260), tmp_path / "run", SilentReporter())
