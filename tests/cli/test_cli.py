"""The program as a person meets it: help, exit codes, one line per mistake, Ctrl-C."""

from __future__ import annotations

import json
import os
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
