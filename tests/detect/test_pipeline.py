"""The stages on a real model: resumable, repeatable, indifferent to batches, and clear about what is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from tests.conftest import SilentReporter

from levercheck.benchmarks.questions import load_questions
from levercheck.detect.capture import capture, plan
from levercheck.detect.collect import collect
from levercheck.detect.probe import ProbeSpec, probe
from levercheck.detect.prompting import prompting_for
from levercheck.detect.spans import spans
from levercheck.detect.split import SplitSpec, split
from levercheck.detect.stored import CaptureSpec, open_store
from levercheck.detect.verify import verify_workspace
from levercheck.detect.workspace import Workspace, workspace
from levercheck.errors import IntegrityError, MissingError, UsageError
from levercheck.lm.sample import Sampling

SOURCE = "facts:capital,capital_country,us_city_state,continent"
SPLIT = SplitSpec(disjoint="entity", test_share=0.4, folds=3)


def sampled(ws, lm, *, limit=220, batch=64, samples=3, seed=0):
    prompting = prompting_for(lm, "auto")
    sampling = Sampling(samples=samples, max_new_tokens=8, stop=prompting.stop)
    questions = load_questions(SOURCE, limit=limit)
    return collect(ws, lm, questions, prompting=prompting, sampling=sampling, seed=seed, batch=batch)


@pytest.fixture(scope="module")
def made(smollm, tmp_path_factory):
    """A finished small workspace; tests must copy it before they change it."""
    root = tmp_path_factory.mktemp("detect") / "ws"
    with workspace(root, SilentReporter(), create=True) as ws:
        sampled(ws, smollm)
        spans(ws, smollm)
        split(ws, SPLIT)
        store = capture(ws, smollm, CaptureSpec(regions=("answer", "other"), reduces=("mean", "max")))
        probe(ws, store, ProbeSpec(scale=True), "default")
    return root


@pytest.fixture
def copy(made, tmp_path):
    shutil.copytree(made, tmp_path / "ws")
    return tmp_path / "ws"


def opened(root):
    return Workspace(root, SilentReporter())


def test_every_stage_left_rows_a_sidecar_and_results(made):
    for unit in ("questions", "answers", "spans", "split", "capture", "probes/default", "probes/default/path"):
        sidecar = json.loads((made / unit / "provenance.json").read_text())
        assert sidecar["status"] == "complete"
        assert {"settings", "upstream", "rows_sha256", "key"} <= sidecar.keys()
    text = "".join(p.read_text() for p in made.rglob("*.json"))
    assert str(made) not in text and "/home" not in text


def test_a_second_run_changes_nothing(copy, smollm):
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file() and p.name not in (".lock", "ledger.jsonl")}
    with workspace(copy, SilentReporter()) as ws:
        sampled(ws, smollm)
        spans(ws, smollm)
        split(ws, SPLIT)
        store = capture(ws, smollm, CaptureSpec(reduces=("mean", "max")))
        probe(ws, store, ProbeSpec(scale=True), "default")
    assert all(p.read_bytes() == content for p, content in before.items())
    ledger = [json.loads(line) for line in (copy / "ledger.jsonl").read_text().splitlines()]
    assert sum(entry["event"] == "test opened" for entry in ledger) == 1


def test_batch_size_and_a_cut_run_give_the_same_answers(made, smollm, tmp_path):
    want = opened(made).rows("answers")
    with workspace(tmp_path / "one", SilentReporter(), create=True) as ws:
        got = sampled(ws, smollm, batch=5)
    assert got.drop("mean_logprob", "first_logprob").equals(want.drop("mean_logprob", "first_logprob"))
    assert np.allclose(got["mean_logprob"], want["mean_logprob"], atol=1e-4)


def test_other_settings_are_refused_by_name(copy, smollm):
    with workspace(copy, SilentReporter()) as ws:
        with pytest.raises(UsageError, match="answers/ was made with seed = 0, asked for 1"):
            sampled(ws, smollm, seed=1)
        with pytest.raises(UsageError, match="split/ was made with seed = 0, asked for 7"):
            split(ws, SPLIT.model_copy(update={"seed": 7}))
        with pytest.raises(UsageError, match="another --name"):
            probe(ws, open_store(ws), ProbeSpec(scale=True, mode="1-vs-1"), "default")
        with pytest.raises(UsageError, match=r"source\.limit = 220, asked for 221"):
            sampled(ws, smollm, limit=221)


def test_rows_that_changed_upstream_are_refused(copy, smollm):
    shutil.rmtree(copy / "split")
    with workspace(copy, SilentReporter()) as ws:
        split(ws, SPLIT.model_copy(update={"seed": 7}))
        with pytest.raises(UsageError, match="capture/ was made from other rows of split"):
            capture(ws, smollm, CaptureSpec(reduces=("mean", "max")))


def test_another_model_or_tokenizer_is_refused(copy, smollm):
    other = dataclasses.replace(smollm, identity={**smollm.identity, "name": "other", "tokenizer": "x"})
    shutil.rmtree(copy / "spans")
    with workspace(copy, SilentReporter()) as ws:
        with pytest.raises(UsageError, match="whose tokenizer differs from that of other: load the model"):
            spans(ws, other)
        spans(ws, smollm)
        with pytest.raises(UsageError, match="whose tokenizer differs from that of other: load the model"):
            capture(ws, other, CaptureSpec(reduces=("mean", "max")))


def test_a_finished_capture_may_be_read_on_another_device(copy, smollm):
    elsewhere = dataclasses.replace(smollm, identity={**smollm.identity, "device": "cuda", "kernel": "torch"})
    with workspace(copy, SilentReporter()) as ws:
        assert capture(ws, elsewhere, CaptureSpec(reduces=("mean", "max"))).item_ids == open_store(ws).item_ids


def test_other_features_under_the_same_rows_are_another_upstream(copy, smollm):
    shutil.rmtree(copy / "capture")
    with workspace(copy, SilentReporter()) as ws:
        store = capture(ws, smollm, CaptureSpec(reduces=("mean", "max"), dtype="float16"))
        with pytest.raises(UsageError, match="was made from other rows of capture"):
            probe(ws, store, ProbeSpec(scale=True), "default")


def test_verify_finds_edits_deletions_and_other_numbers(copy):
    assert verify_workspace(copy) == []
    sidecar = copy / "answers" / "provenance.json"
    kept = sidecar.read_text()
    sidecar.write_text(kept.replace('"seed": 0', '"seed": 9'))
    assert any("settings: they were edited" in line for line in verify_workspace(copy))
    sidecar.write_text(kept)
    results = copy / "probes" / "default" / "results.json"
    stated = results.read_text()
    numbers = json.loads(stated)
    numbers["test"]["auroc"]["value"] += 0.01
    text = json.dumps(numbers, indent=1, sort_keys=True)
    results.write_text(text)
    assert any("results.json has sha256" in line for line in verify_workspace(copy))
    results.write_text(stated)
    assert verify_workspace(copy) == []
    (copy / "probes" / "default" / "readout.json").unlink()
    assert any("readout.json has sha256 nothing" in line for line in verify_workspace(copy))


def test_a_damaged_store_is_found(copy):
    path = copy / "capture" / "features.npy"
    with path.open("rb+") as handle:
        handle.seek(-4, 2)
        handle.write(b"\0\0\xc0\x7f")
    with workspace(copy, SilentReporter()) as ws, pytest.raises(IntegrityError, match=r"features\.npy"):
        open_store(ws)


def test_stages_need_the_ones_before(tmp_path, smollm):
    with pytest.raises(UsageError, match="is no workspace"), workspace(tmp_path / "w", SilentReporter()):
        pass
    with workspace(tmp_path / "w", SilentReporter(), create=True) as ws:
        with pytest.raises(MissingError, match="no finished answers: run 'levercheck collect'"):
            spans(ws, smollm)
        with pytest.raises(MissingError, match="run 'levercheck capture'"):
            open_store(ws)


def test_the_plan_states_the_size_before_anything_is_captured(made, smollm):
    spec = CaptureSpec(regions=("answer", "other", "prompt", "output"), measures=("cett", "abs"), dtype="float16")
    planned = plan(opened(made), smollm, spec)
    assert planned.bytes == 8 * planned.items * 30 * 1536 * 2
    assert "8 channels of 30 x 1536 neurons" in planned.line().replace("channels  ", "channels ")


def test_a_full_disk_is_told_before_the_first_batch(copy, smollm, monkeypatch):
    shutil.rmtree(copy / "capture")
    usage = shutil.disk_usage(copy)._replace(free=1000)
    monkeypatch.setattr("levercheck.detect.capture.shutil.disk_usage", lambda _: usage)
    with workspace(copy, SilentReporter()) as ws, pytest.raises(MissingError, match="GiB are free"):
        capture(ws, smollm, CaptureSpec())


def test_activations_that_are_not_finite_are_an_error_and_what_is_done_stays(copy, smollm):
    shutil.rmtree(copy / "capture")
    calls = []

    def poisoned(_module, args, output):
        calls.append(1)
        return output * float("nan") if len(calls) > 2 else output

    handle = smollm.sites[4].module.register_forward_hook(poisoned)
    try:
        with workspace(copy, SilentReporter()) as ws, pytest.raises(UsageError, match="not finite in layer"):
            capture(ws, smollm, CaptureSpec(batch_tokens=128))
    finally:
        handle.remove()
    with workspace(copy, SilentReporter()) as ws:
        store = capture(ws, smollm, CaptureSpec(batch_tokens=128))
        assert np.isfinite(store.array).all()
        reference = open_store(opened(copy))
        assert reference.item_ids == store.item_ids


def test_half_precision_store_is_close(made, copy, smollm):
    full = open_store(opened(made))
    shutil.rmtree(copy / "capture")
    with workspace(copy, SilentReporter()) as ws:
        half = capture(ws, smollm, CaptureSpec(dtype="float16"))
    assert half.array.dtype == np.float16
    difference = np.abs(half.channel("answer.cett.mean").astype(np.float64) - full.channel("answer.cett.mean"))
    assert difference.max() <= 5e-4


def test_probe_modes_and_oracle(copy):
    pytest.importorskip("sklearn")
    with workspace(copy, SilentReporter()) as ws:
        store = open_store(ws)
        raw = {"cs": (2.0, 5.0), "mode": "1-vs-1", "intercept": "penalised"}
        with pytest.raises(ValueError, match="liblinear penalises the intercept"):
            ProbeSpec(solver="liblinear")
        ours = probe(ws, store, ProbeSpec(**raw), "ours")
        theirs = probe(ws, store, ProbeSpec(**raw, solver="liblinear"), "theirs")
        assert ours.components == theirs.components
        assert np.allclose(ours.weights, theirs.weights, rtol=0.02, atol=0.02)
        three = probe(ws, store, ProbeSpec(cs=(5.0,)), "three")
        assert three.components != ours.components
        with pytest.raises(UsageError, match=r"no channel 'answer\.abs\.mean'"):
            probe(ws, store, ProbeSpec(measure="abs"), "raw")
        with pytest.raises(UsageError, match="no plain name"):
            probe(ws, store, ProbeSpec(), "../x")


def test_test_role_is_scored_at_the_chosen_c_only(made):
    ws = opened(made)
    rows, results = ws.rows("probes/default"), ws.results("probes/default")
    test = rows.filter(pl.col("purpose") == "test")
    assert test["c"].unique().to_list() == [results["c"]]
    split_rows = ws.rows("split")
    assert set(test["item_id"]) == set(split_rows.filter(pl.col("role") == "test")["item_id"])
    cv = rows.filter(pl.col("purpose") == "cv")
    assert set(cv["item_id"]) == set(split_rows.filter(pl.col("role") == "train")["item_id"])


PROGRAM = """
import sys
from pathlib import Path
from tests.conftest import SilentReporter
from tests.detect.test_pipeline import sampled
from levercheck.detect.workspace import workspace
from levercheck.lm.model import load_model
with workspace(Path(sys.argv[1]), SilentReporter(), create=True) as ws:
    print("ready", flush=True)
    sampled(ws, load_model("embedded:smollm2-135m"), batch=8)
"""


def test_killed_collection_continues_to_the_same_rows(made, smollm, tmp_path):
    root = tmp_path / "killed"
    for moment in (0.4, 1.5):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(root)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        assert process.stdout.readline() == "ready\n"
        journal = root / "answers" / "rows" / "journal-0.jsonl"
        deadline = time.monotonic() + 60
        while process.poll() is None and not journal.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with workspace(root, SilentReporter()) as ws:
        got = sampled(ws, smollm, batch=8)
    want = opened(made).rows("answers")
    assert got.drop("mean_logprob", "first_logprob").equals(want.drop("mean_logprob", "first_logprob"))
