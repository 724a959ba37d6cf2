"""steer, bake and the vector commands as a person uses them, on a real model."""

from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")
import transformers  # noqa: E402

from levercheck.cli import steer_view  # noqa: E402
from levercheck.cli.app import app, main  # noqa: E402
from levercheck.cli.steer_session import Session  # noqa: E402
from levercheck.errors import UsageError  # noqa: E402
from levercheck.interventions import build  # noqa: E402
from levercheck.interventions.files import load_intervention, save_intervention  # noqa: E402
from levercheck.interventions.spec import BASELINE, Treatment  # noqa: E402
from levercheck.readouts.artifact import Artifact, save_artifact  # noqa: E402
from levercheck.sweep.parity import answers, compare, default_prompts  # noqa: E402
from levercheck.sweep.stream import Growing, stream  # noqa: E402

MODEL = "embedded:smollm2-135m"
QUESTION = "What is the capital of France?"


@pytest.fixture(autouse=True)
def loaded(smollm, monkeypatch):
    """Commands load the model that is already there; a baked directory is loaded anew."""
    import levercheck.lm.model as module

    real = module.load_model
    monkeypatch.setattr(module, "load_model", lambda name, **o: smollm if name == MODEL else real(name, **o))


def direction(smollm):
    return np.random.default_rng(0).normal(size=smollm.sites[0].write.shape[0])


@pytest.fixture
def lever(smollm, tmp_path):
    made = build.add_direction(smollm, {14: direction(smollm)})
    save_intervention(made, tmp_path / "lever", model=smollm.identity)
    return tmp_path / "lever"


def test_streamed_answers_are_those_of_the_engine(smollm):
    made = build.add_direction(smollm, {14: direction(smollm)})
    treatments = [BASELINE, Treatment(((made, 60.0),))]
    prompt = smollm.chat([{"role": "user", "content": QUESTION}])
    steps = list(stream(smollm, prompt, treatments, 10))
    for found, treatment in zip(steps[-1], treatments, strict=True):
        assert [found.tokens] == answers(smollm, treatment, [prompt], 10)
    plain, steered = steps[-1]
    assert plain.tokens != steered.tokens and plain.reason == "end"
    assert len(plain.tokens) < len(steered.tokens) == 10
    assert plain.receipt.relative_dose is None
    assert steered.receipt.prompt + steered.receipt.decode == len(prompt) + 9
    lengths = [[len(row.tokens) for row in step] for step in steps]
    assert lengths[0] == [1, 1] and all(
        b >= a for x, y in itertools.pairwise(lengths) for a, b in zip(x, y, strict=True)
    )
    # the other way round: the steered row ends first, and its receipt stops there
    swapped = list(stream(smollm, prompt, treatments[::-1], 10))[-1]
    assert [row.tokens for row in swapped] == [steered.tokens, plain.tokens]
    ended = list(stream(smollm, prompt, [Treatment(((made, 1e-3),)), treatments[1]], 10))[-1][0]
    assert ended.reason == "end"
    assert ended.receipt.prompt + ended.receipt.decode == len(prompt) + len(ended.tokens)


def test_one_shot(lever, capsys):
    assert (
        app(["steer", MODEL, "--readout", str(lever), "--dose", "-60", "--max", "8", "--prompt", QUESTION, "--json"])
        == 0
    )
    report = json.loads(capsys.readouterr().out)
    plain, steered = report["rows"]
    assert plain["text"].startswith("The capital of France is Paris")
    assert report["changed"] and steered["text"] != plain["text"]
    assert 0.05 < steered["receipt"]["relative_dose"] < 3 and "receipt" not in plain
    assert report["levers"][0]["dose"] == -60 and report["levers"][0]["scope"] == "all"


def test_a_session_line_by_line(lever, monkeypatch, capsys):
    lines = [
        QUESTION,
        "/dose 60",
        "/scope first_2",
        "/max 6",
        "/dose x",
        "/chat off",
        "/nope",
        "/help",
        "The sky is",
        "/quit",
        "no",
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    assert app(["steer", MODEL, "--readout", str(lever), "--dose", "0", "--max", "9"]) == 0
    out = capsys.readouterr().out
    said = out.splitlines()
    assert "dose 0 (the no-op)" in said[0]
    assert "unsteered | The capital of France is Paris." in said and "the answers are the same" in out
    assert "scope first_2; chat prompts, at most 6 tokens" in out and "; plain prompts" in out
    assert "'x' is no dose" in out and "command '/nope' is unknown" in out
    assert any(line.startswith("steered   | ") for line in said)
    assert "relative dose" in said[-1] and "mean over 2 positions" in said[-1]


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_terminal_shows_panels_and_ctrl_c_stops_the_answer_only(lever):
    import pty
    import select

    parent, child = pty.openpty()
    command = [
        sys.executable,
        "-m",
        "levercheck",
        "steer",
        MODEL,
        "--readout",
        str(lever),
        "--dose",
        "60",
        "--max",
        "400",
    ]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(
        command, stdin=child, stdout=child, stderr=child, env=environment, close_fds=True, start_new_session=True,
        preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(child)
    seen = b""

    def until(text, start=0):
        nonlocal seen
        limit = time.monotonic() + 90
        while text not in seen[start:]:
            assert time.monotonic() < limit, seen[-2000:]
            if select.select([parent], [], [], 1)[0]:
                try:
                    seen += os.read(parent, 65536)
                except OSError:
                    break
        assert text in seen[start:], seen[-2000:]

    try:
        until(b"> ")
        os.write(parent, b"Tell me a long story about a fox\n")
        until(b" steered ")
        os.write(parent, b"\x03")
        until(b"stopped")
        at = len(seen)
        os.write(parent, b"/max 3\n")
        until(b"at most 3 tokens", at)
        os.write(parent, b"Hello\n")
        until(b"relative dose", at)
        until(b"> ", seen.index(b"relative dose", at))  # before the prompt, the terminal makes Ctrl-D a NUL
        os.write(parent, b"\x04")
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        os.close(parent)


def test_model_text_cannot_drive_the_terminal(capsys):
    nasty = Growing((1,), "a\x1b[2Jb\x9bc[bold]", "end", None)
    steer_view.shown(iter([(nasty, nasty)]))
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\x9b" not in shown and "[bold]" in shown


def test_mistakes_are_one_line(smollm, lever, tmp_path, capsys):
    other = Artifact(
        "direction",
        {"directions": np.eye(2, dtype=np.float32), "sigma": np.ones(2, np.float32)},
        {"model": {**smollm.identity, "tokenizer": "another"}, "best_layer": 0},
    )
    save_artifact(other, tmp_path / "other")
    base = ["steer", MODEL, "--readout", str(lever), "--dose", "1"]
    export = ["export-vector", str(lever), "--to", "gguf", "--out", str(tmp_path / "n.gguf")]
    for arguments, message in (
        ([*base, "--json"], "--json needs --prompt"),
        ([*base, "--dose", "2"], "2 doses for 1 readouts"),
        ([*base, "--scope", "some"], "scope 'some' is unknown"),
        (["steer", MODEL, "--readout", str(tmp_path / "no"), "--dose", "1"], "no folder at"),
        (["steer", MODEL, "--readout", str(tmp_path / "other"), "--dose", "1"], "whose tokenizer differs"),
        (["bake", MODEL, "--readout", str(tmp_path / "lever"), "--dose", "0", "--out", str(tmp_path / "x")], "no-op"),
        (["export-vector", str(lever), "--to", "svec", "--out", str(tmp_path / "v.gguf")], "ends in .svec"),
        ([*export, "--dose", "nan"], "expected a finite number"),
        ([*export, "--dose", "0"], "expected a finite number"),
        (["bake", MODEL, "--readout", str(tmp_path / "no"), "--dose", "2", "--out", str(tmp_path / "x")], "no folder"),
        ([*base, "--prompt", "\udcff"], "not UTF-8"),
    ):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")]
        assert len(lines) == 1 and message in lines[0], lines
        assert not (tmp_path / "n.gguf").exists() and not (tmp_path / "x").exists()
    with pytest.raises(UsageError, match="room for"):
        Session(smollm, [load_intervention(lever)], [1.0], 10**6).answers("x")


def test_bake_writes_a_checkpoint_that_answers_alike(smollm, lever, tmp_path, capsys):
    out, asked = tmp_path / "baked", tmp_path / "prompts.txt"
    asked.write_text("The capital of France is\n\nOnce upon a time\n")
    arguments = [
        "bake",
        MODEL,
        "--readout",
        str(lever),
        "--dose",
        "60",
        "--out",
        str(out),
        "--json",
        "--prompts",
        str(asked),
    ]
    assert app([*arguments, "--max-new-tokens", "5"]) == 0
    record = json.loads(capsys.readouterr().out)
    parity = record["parity"]
    assert parity["verdict"] == "equal" and parity["exact"]["value"] == 100.0 and parity["changed"]["value"] > 0
    assert parity["max_logit_difference"] < 1e-3 < parity["effect"]
    assert record == json.loads((out / "levercheck.json").read_text())
    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_tensors="pt"
    )
    ids = chat["input_ids"] if hasattr(chat, "keys") else chat
    made = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :].tolist()
    treatment = Treatment(((load_intervention(lever), 60.0),))
    wanted = answers(smollm, treatment, [ids[0].tolist()], 6)[0]
    assert tuple(made[: len(wanted)]) == wanted != answers(smollm, BASELINE, [ids[0].tolist()], 6)[0]
    # a checkpoint of something else is told apart
    wrong = compare(
        smollm, Treatment(((load_intervention(lever), -60.0),)), smollm, default_prompts(smollm, 1), max_new_tokens=2
    )
    assert wrong.verdict == "different"


def test_vectors_out_and_in_again(smollm, lever, tmp_path, capsys):
    path = tmp_path / "v.gguf"
    assert app(["export-vector", str(lever), "--to", "gguf", "--out", str(path), "--dose", "60"]) == 0
    assert json.loads((tmp_path / "v.gguf.levercheck.json").read_text())["lengths"] == {
        "L14.resid.post": pytest.approx(60)
    }
    capsys.readouterr()
    assert app(["import-vector", str(path), "--model", MODEL, "--out", str(tmp_path / "in"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["model_hint"] == "llama" and report["vectors"][0]["site"] == "L14.resid.post"
    again = load_intervention(tmp_path / "in")
    prompt = smollm.chat([{"role": "user", "content": QUESTION}])
    one = answers(smollm, Treatment(((again, 1.0),)), [prompt], 8)
    assert one == answers(smollm, Treatment(((load_intervention(lever), 60.0),)), [prompt], 8)
    assert one != answers(smollm, BASELINE, [prompt], 8)


def test_text_of_a_file_cannot_drive_the_terminal(smollm, tmp_path, capsys):
    body = {"model_type": "a\x9b2J\x1b[2J", "directions": {"3": direction(smollm).tolist()}}
    (tmp_path / "v.svec").write_text(json.dumps(body))
    for number, option in enumerate(([], ["--json"])):
        out = str(tmp_path / str(number))
        assert app(["import-vector", str(tmp_path / "v.svec"), "--model", MODEL, "--out", out, *option]) == 0
        shown = capsys.readouterr().out
        assert not {"\x1b", "\x9b"} & set(shown)
    assert json.loads(shown)["model_hint"] == body["model_type"]
