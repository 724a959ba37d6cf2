"""The commands on a study file before any model is loaded: help, mistakes in one line, questions of a role."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from levercheck.cli.app import main

STUDY = """
study: small
model: embedded:smollm2-135m
readouts: {h: readouts/h}
interventions:
  push: {readout: h, doses: [1, 2]}
benchmarks: [bare-facts]
"""
GRID = "calibrate={intervention: push, doses: [1], objective: bare-facts}"


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code, capsys.readouterr()


@pytest.fixture
def study(tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a model was loaded")

    torch = pytest.importorskip("torch", reason="needs levercheck[lm]")
    assert torch
    monkeypatch.setattr("levercheck.lm.model.load_model", never)
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    return path


@pytest.mark.parametrize("command", ["calibrate", "lock", "items"])
def test_help_shows_an_example(capsys, command):
    code, shown = call(capsys, command, "--help")
    assert code == 0 and f"Example: levercheck {command} study.yaml" in shown.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["calibrate", "STUDY"], "has no calibrate section"),
        (["calibrate", "STUDY", "--set", GRID.replace("push", "pull")], "calibrate names the intervention 'pull'"),
        (["calibrate", "STUDY", "--set", GRID.replace("bare-facts", "bare")], "did you mean 'bare-facts'"),
        (["calibrate", "STUDY", "--set", GRID.replace("doses", "dose")], "did you mean 'doses'"),
        (["calibrate", "STUDY", "--set", "items.limit"], "expected key=value"),
        (["calibrate", "STUDY", "--set", "items.limit=[1"], "not valid YAML"),
        (["calibrate", "NOWHERE"], "does not exist"),
        (["lock", "STUDY", "--k", "4"], "together with --dose"),
        (["lock", "STUDY", "--reason", "x"], "together with --dose"),
        (["lock", "STUDY", "--dose", "1"], "say why with --reason"),
        (["lock", "STUDY", "--dose", "1", "--reason", "x"], "no calibrate section"),
        (["lock", "STUDY", "--set", GRID, "--out", "OUT"], "run 'levercheck calibrate' before the lock"),
        (["run", "STUDY", "--confirm", "--out", "OUT"], "run 'levercheck lock' first"),
        (["items", "STUDY", "--role", "tuna", "--out", "OUT"], "tuna"),
    ],
)
def test_mistakes_are_one_line_and_need_no_model(study, tmp_path, capsys, arguments, words):
    places = {"STUDY": study, "NOWHERE": tmp_path / "no.yaml", "OUT": tmp_path / "out"}
    code, shown = call(capsys, *[places.get(argument, argument) for argument in arguments])
    assert code == 2 and words in shown.err
    assert len(shown.err.strip().splitlines()) == 1


def test_questions_of_a_role_need_no_model_runtime(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    code = "import sys\nfrom levercheck.cli.app import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit as done:\n"
    code += "    sys.exit(done.code or 9 * ('torch' in sys.modules))"
    found = {}
    for role in ("readout", "tune", "confirm"):
        out = tmp_path / f"{role}.jsonl"
        arguments = ["items", str(tmp_path / "study.yaml"), "--role", role, "--out", str(out), "--json"]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        assert json.loads(done.stdout)["questions"] == len(lines)
        found[role] = {line["entity"] for line in lines}
    assert not found["readout"] & found["tune"] and not found["readout"] & found["confirm"]
    assert not found["tune"] & found["confirm"] and all(found.values())
