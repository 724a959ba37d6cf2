"""The program as a person meets it: help, exit codes, one line per mistake, Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = [sys.executable, "-m", "levercheck"]


def call(*arguments, **options):
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["verify", "--help"]])
def test_help_needs_no_model_and_shows_an_example(arguments):
    done = call(*arguments)
    assert done.returncode == 0
    assert "Example: levercheck" in done.stdout or arguments == ["--help"]


def test_version():
    assert call("--version").stdout.strip() == "0.1.0"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["dmeo"], 2, "demo"),
        (["demo", "--sed", "1"], 2, "--sed"),
        (["demo", "--seed", "one"], 2, "one"),
        (["demo", "--seed", "-1"], 2, "-1"),
        (["verify"], 2, "DIRECTORY"),
        (["verify", "does-not-exist"], 2, "expected the output directory"),
        (["demo", "--model", "embedded:smolm", "--out", "OUT"], 2, "did you mean 'smollm2-135m'"),
        (["demo", "--model", "gemma", "--out", "OUT"], 2, "owner/name"),
    ],
)
def test_mistakes_are_one_line(tmp_path, arguments, code, words):
    done = call(*[str(tmp_path / "run") if a == "OUT" else a for a in arguments])
    assert done.returncode == code
    assert words in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("levercheck: ")]) == 1
    assert "Traceback" not in done.stderr + done.stdout


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    from levercheck.cli import app, demo

    def full(*_, **__):
        raise OSError(28, "No space left on device", "rows")

    monkeypatch.setattr(demo, "run_demo", full)
    with pytest.raises(SystemExit) as end:
        app.main(["demo", "--out", str(tmp_path / "x")])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("levercheck: No space left on device 'rows'")


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    done = call("verify", str(tmp_path / "a\x1b[31mred"))
    assert done.returncode == 2
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interruption_keeps_what_is_done(smollm, tmp_path, stop):
    out = tmp_path / "run"
    process = subprocess.Popen([*PROGRAM, "demo", "--quick", "--out", str(out)], stderr=subprocess.PIPE, text=True)
    journal = out / "answers" / "rows" / "journal-0.jsonl"
    deadline = time.monotonic() + 120
    while not (journal.exists() and journal.stat().st_size > 5_000) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(process.pid, stop)
    error = process.communicate()[1]
    assert process.returncode == 130
    assert error.splitlines()[-1].startswith("levercheck: interrupted: finished work is kept")
    assert "Traceback" not in error
    assert journal.stat().st_size > 5_000
    events = [json.loads(line)["event"] for line in (out / "ledger.jsonl").read_text().splitlines()]
    assert events == ["planned", "started", "interrupted"]


WORKSPACE_COMMANDS = ("collect", "spans", "split", "capture", "probe", "audit-readout", "h-neurons", "neurons")


@pytest.mark.parametrize("command", [*WORKSPACE_COMMANDS, "import-h-neurons", "export-h-neurons"])
def test_pipeline_help_has_an_example(command):
    done = call(command, "--help")
    assert done.returncode == 0
    assert f"Example: levercheck {command}" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["collect", "fact", "--out", "W"], 2, "did you mean 'facts'"),
        (["collect", "jsonl:nowhere.jsonl", "--out", "W"], 2, "nowhere.jsonl"),
        (["collect", "facts:capitol", "--out", "W"], 2, "did you mean 'capital'"),
        (["collect", "facts", "--out", "W", "--samples", "0"], 2, "--samples"),
        (["collect", "facts", "--out", "W", "--judge-url", "http://127.0.0.1:1"], 2, "belong together"),
        (
            ["collect", "facts", "--out", "W", "--endpoint-url", "nonsense", "--endpoint-model", "m"],
            2,
            "--endpoint-url",
        ),
        (["spans", "nowhere"], 2, "is no workspace"),
        (["split", "nowhere", "--test-share", "2"], 2, "test_share"),
        (["capture", "nowhere", "--regions", "answers"], 2, "regions"),
        (["probe", "nowhere", "--c", "one"], 2, "no number"),
        (["probe", "nowhere", "--c", "-1"], 2, "positive"),
        (["audit-readout", "nowhere"], 2, "is no workspace"),
    ],
)
def test_pipeline_mistakes_are_one_line(arguments, code, message, tmp_path):
    done = call(*arguments, cwd=tmp_path)
    error = done.stderr.strip()
    assert done.returncode == code
    assert message in error and error.startswith("levercheck: ") and "Traceback" not in error
    assert len(error.splitlines()) == 1


HIDING = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
from levercheck.cli import main
main(sys.argv[2:])
"""
EVERYTHING = "torch,transformers,safetensors,accelerate,gguf,httpx,altair,vl_convert,jinja2,markupsafe,sklearn,datasets"


def call_without(packages, *arguments, **options):
    """The program where `packages` cannot be imported."""
    command = [sys.executable, "-c", HIDING, packages, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_verify_of_a_study_needs_no_extra(tmp_path):
    (tmp_path / "study").mkdir()
    done = call_without(EVERYTHING, "verify", "study", cwd=tmp_path)
    assert done.returncode == 2 and "expected the output directory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("hidden", "arguments", "install"),
    [
        (EVERYTHING, ["verify", "W"], "safetensors, .*'levercheck[lm]'"),
        (EVERYTHING, ["demo", "--out", "OUT"], "torch, .*'levercheck[lm]'"),
        ("torch", ["collect", "facts", "--out", "OUT"], "torch, .*'levercheck[lm]'"),
        ("transformers", ["collect", "facts", "--out", "OUT"], "transformers, .*'levercheck[lm]'"),
        (
            "httpx",
            ["collect", "facts", "--out", "OUT", "--endpoint-url", "http://127.0.0.1:9", "--endpoint-model", "m"],
            "httpx.*'levercheck[api]'",
        ),
    ],
)
def test_what_is_not_installed_is_one_line(tmp_path, hidden, arguments, install):
    (tmp_path / "W").mkdir()
    (tmp_path / "W" / "workspace.json").write_text('{"schema": "levercheck.workspace/v1"}')
    done = call_without(hidden, *arguments, cwd=tmp_path)
    assert done.returncode == 3
    assert re.fullmatch("levercheck: .*" + install.replace("[", r"\[") + ".*\n", done.stderr), done.stderr


def test_an_import_error_of_our_own_is_not_hidden(monkeypatch):
    from levercheck.cli import app, demo

    def broken(*_, **__):
        raise ImportError("cannot import name 'x'", name="levercheck.x")

    monkeypatch.setattr(demo, "run_demo", broken)
    with pytest.raises(ImportError, match="cannot import name"):
        app.main(["demo", "--out", "unused"])
