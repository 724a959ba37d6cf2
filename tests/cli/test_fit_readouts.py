"""`levercheck direction` and `levercheck heads` as a person meets them."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.cli import app
from levercheck.cli.contrast_data import _swaps, of_facts, of_workspace
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import read_json, write_json
from levercheck.readouts.artifact import load_artifact


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the program in this process; returns (exit code, stdout, stderr)."""

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            app.main([str(a) for a in arguments])
        shown = capsys.readouterr()
        return end.value.code, shown.out, shown.err

    return call


@pytest.fixture
def loaded(smollm, monkeypatch):
    """The session's model instead of a second copy."""
    from levercheck.lm import model

    monkeypatch.setattr(model, "load_model", lambda *_, **__: smollm)
    return smollm


@pytest.fixture(scope="module")
def fitted(smollm, tmp_path_factory):
    """A direction with its sanity check and heads with gradients, of a few facts."""
    from levercheck.lm import model

    root = tmp_path_factory.mktemp("readouts")
    patch = pytest.MonkeyPatch()
    patch.setattr(model, "load_model", lambda *_, **__: smollm)
    try:
        for command, options in (
            ("direction", ["--sanity", "--sanity-dose", "0.1", "--sanity-prompts", "2", "--sanity-tokens", "8"]),
            ("heads", []),
        ):
            arguments = [
                command,
                "fit",
                "facts",
                "--limit",
                "32",
                "--folds",
                "3",
                "--out",
                str(root / command),
                *options,
            ]
            with pytest.raises(SystemExit) as end:
                app.main(arguments)
            assert end.value.code == 0
    finally:
        patch.undo()
    return root


def test_a_finished_readout_has_its_sidecar_split_and_figure(fitted, smollm):
    for command in ("direction", "heads"):
        folder = fitted / command
        sidecar = read_json(folder / "provenance.json")
        assert sidecar["status"] == "complete" and sidecar["command"] == f"{command} fit"
        assert {o["path"]: o["sha256"] for o in sidecar["outputs"]} == {
            o["path"]: file_digest(folder / o["path"]) for o in sidecar["outputs"]
        }
        assert {o["path"] for o in sidecar["outputs"]} >= {"readout.safetensors", "readout.json", "split.jsonl"}
        artifact = load_artifact(folder)
        assert sidecar["fingerprint"] == artifact.fingerprint
        assert artifact.facts["model"] == smollm.identity == sidecar["model"]
        assert artifact.facts["prompt"]["form"] == "plain" and artifact.facts["prompt"]["position"] == "last"
        assert len(artifact.facts["data"]["sha256"]) == 64
        rows = [json.loads(line) for line in (folder / "split.jsonl").read_text().splitlines()]
        assert len(rows) == 64 and {row["role"] for row in rows} == {"fit", "held_out"}
        assert all((row["fold"] is None) == (row["role"] == "held_out") for row in rows)
        assert str(folder.parent) not in (folder / "provenance.json").read_text()


def test_direction_show(fitted, run):
    code, out, _ = run("direction", "show", fitted / "direction", "--top", "3")
    assert code == 0
    assert "shuffled labels: AUROC" in out and "Held out:" in out and "ablate" in out
    code, out, _ = run("direction", "show", fitted / "direction", "--json")
    body = json.loads(out)
    assert len(body["layers"]) == 30
    best = body["layers"][body["best_layer"]]
    assert best["cv_auroc"] == max(row["cv_auroc"] for row in body["layers"])
    assert {"value", "low", "high", "n", "unit"} <= set(best["auroc"])
    doses = [(row["operator"], row["dose"]) for row in body["sanity"]["doses"]]
    assert doses == [("none", 0), ("add", -0.1), ("add", 0.1), ("ablate", 1)]
    answers = [json.loads(line) for line in (fitted / "direction" / "sanity.jsonl").read_text().splitlines()]
    assert len(answers) == 8 and all(isinstance(row["text"], str) for row in answers)


def test_heads_show(fitted, run):
    code, out, _ = run("heads", "show", fitted / "heads", "--by", "gradient", "--k", "5")
    assert code == 0 and "gradient, nat/token" in out
    shown = {}
    for by in ("auroc", "gradient", "layer_matched_random"):
        code, out, _ = run("heads", "show", fitted / "heads", "--by", by, "--k", "4", "--json")
        assert code == 0
        shown[by] = json.loads(out)
        assert len(shown[by]["heads"]) == 4
    assert shown["auroc"]["sigma_total"] == pytest.approx(shown["layer_matched_random"]["sigma_total"], rel=1e-5)
    assert [h["layer"] for h in shown["layer_matched_random"]["heads"]] == sorted(
        h["layer"] for h in shown["auroc"]["heads"]
    )
    gradients = [h["gradient"] for h in shown["gradient"]["heads"]]
    assert gradients == sorted(gradients, reverse=True)


def test_a_finished_folder_is_never_overwritten(fitted, run):
    before = file_digest(fitted / "heads" / "readout.safetensors")
    code, _, err = run("heads", "fit", "facts", "--out", fitted / "heads")
    assert code == 2 and "holds a finished readout" in err
    assert file_digest(fitted / "heads" / "readout.safetensors") == before


def test_leakage_is_refused_before_anything_is_written_or_loaded(tmp_path, run, monkeypatch):
    from levercheck.lm import model

    def never(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(model, "load_model", never)
    rows = [
        {"prompt": f"p {i}", "label": i % 2, "group": f"g{i // 2}", "role": "train" if i < 29 else "test"}
        for i in range(60)
    ]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for command in ("direction", "heads"):
        code, _, err = run(command, "fit", tmp_path / "d.jsonl", "--out", tmp_path / "out")
        assert code == 2 and "leakage" in err
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["direction", "fit", "fact", "--out", "OUT"], 2, "data 'fact' are unknown"),
        (["direction", "fit", "absent.jsonl", "--out", "OUT"], 2, "no file"),
        (["direction", "fit", "facts", "--out", "OUT", "--limit", "1"], 4, "expected at least 2"),
        (["direction", "fit", "facts", "--out", "OUT", "--limit", "8"], 4, "expected at least"),
        (["direction", "fit", "facts", "--out", "OUT", "--held-out", "1"], 2, "1"),
        (["direction", "fit", "facts", "--out", "OUT", "--position", "first"], 2, "first"),
        (["direction", "fit", "facts", "--out", "OUT", "--sanity", "--sanity-dose", "-1"], 2, "positive"),
        (["direction", "fit", "facts", "--out", "OUT", "--positive", "wrong"], 2, "--positive does not apply"),
        (["direction", "fit", "facts", "--out", "OUT", "--model", "embedded:smolm"], 2, "did you mean"),
        (["direction", "fit", ".", "--out", "OUT"], 2, "no workspace"),
        (["heads", "fit", "singles.csv", "--out", "OUT", "--gradient", "all"], 2, "use --gradient off"),
        (["heads", "fit", "singles.csv", "--out", "taken"], 2, "holds other files"),
        (["direction", "fit", "facts", "--out", "OUT", "--sanity", "--sanity-dose", "nan"], 2, "positive finite"),
        (["heads", "fit", "facts", "--out", "OUT", "--C", "inf"], 2, "inf"),
        (["sae", "fit", "facts", "--sae", "none", "--out", "OUT", "--C", "nan"], 2, "positive finite"),
        (["heads", "show", "OUT"], 2, "holds no readout.json"),
        (["direction", "show", "OUT"], 2, "holds no readout.json"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, run, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    lines = ["prompt,label", *(f"text {i},{i % 2}" for i in range(60))]
    (tmp_path / "singles.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("x")
    got, _, err = run(*["new" if a == "OUT" else a for a in arguments])
    told = [line for line in err.splitlines() if line.startswith("levercheck: ")]
    assert (got, len(told)) == (code, 1) and words in told[0]
    assert "Traceback" not in err
    assert not (tmp_path / "new" / "readout.json").exists()


def test_readouts_of_another_family_are_refused(fitted, run):
    assert "expected heads" in run("heads", "show", fitted / "direction")[2]
    assert "expected direction" in run("direction", "show", fitted / "heads")[2]
    assert "expected 1 to 270" in run("heads", "show", fitted / "heads", "--k", "300")[2]


def test_a_file_without_pairs_gets_no_gradient_ranks_and_says_so(tmp_path, run, loaded):
    rows = [{"prompt": f"{'Please help' if i % 2 else 'Never mind'} number {i}", "label": i % 2} for i in range(40)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    code, out, err = run("heads", "fit", tmp_path / "d.jsonl", "--out", tmp_path / "h", "--folds", "2", "--json")
    assert code == 0 and "no gradient ranks" in err
    assert "gradient" not in load_artifact(tmp_path / "h").arrays
    assert json.loads(out)["prompt"]["read_at"] == "prompt"
    code, _, err = run("heads", "show", tmp_path / "h", "--by", "gradient")
    assert code == 3 and "no gradient" in err


def test_an_interrupted_fit_can_be_started_again_in_its_folder(tmp_path, run, loaded, monkeypatch):
    from levercheck.cli.fitting import Fitting

    lines = ["prompt,label", *(f"{'yes' if i % 2 else 'no'} {i},{i % 2}" for i in range(40))]
    (tmp_path / "d.csv").write_text("\n".join(lines) + "\n")
    command = ["direction", "fit", tmp_path / "d.csv", "--out", tmp_path / "h", "--folds", "2", "--shuffled", "1"]
    with monkeypatch.context() as patch:
        patch.setattr(Fitting, "finish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(*command)[0] == 130
    assert (tmp_path / "h" / "shuffled").is_dir() and not (tmp_path / "h" / "readout.json").exists()
    assert run(*command)[0] == 0 and load_artifact(tmp_path / "h").family == "direction"


def test_neurons_are_no_damaged_readout(tmp_path, run):
    write_json(tmp_path / "readout.json", {"schema": "levercheck.readout/v1", "family": "neurons"})
    code, _, err = run("direction", "show", tmp_path)
    assert code == 2 and "family neurons" in err


def test_answers_of_facts_tell_nothing_within_any_group():
    data = of_facts(200, seed=1)
    for group in {e.group for e in data.examples}:
        members = [e for e in data.examples if e.group == group]
        for name in ("prompt", "answer"):
            true, false = (sorted(getattr(e, name) for e in members if e.label == label) for label in (1, 0))
            assert true == false
    assert len(data.examples) == 400 and len({e.group for e in data.examples}) > 40
    with pytest.raises(NotEnoughDataError):
        of_facts(1, seed=0)


def test_false_answers_of_facts_are_false():
    from levercheck.benchmarks.facts import is_correct, load_facts

    swaps = _swaps(load_facts(), 0)
    assert len(swaps) > 300
    for _, first, second in swaps.values():
        assert first.category == second.category and first.entity != second.entity
        assert not is_correct(first, second.answer) and not is_correct(second, first.answer)


def test_a_workspace_gives_its_own_split_folds_and_tokens(smollm, tmp_path):
    from tests.detect.builders import Plant

    from levercheck.detect.prompting import Prompting
    from levercheck.detect.workspace import MARKER, SCHEMA
    from levercheck.readouts.contrast import split

    class Written(Plant):
        def _unit(self, ws, name, upstream, columns, rows, settings=None, order=("item_id",), summarise=None):
            if name == "answers":
                settings = {"model": smollm.identity, "prompting": Prompting("examples").identity()}
            if name == "spans":
                settings = {"tokenizer": smollm.identity["tokenizer"]}
                rows = [{**r, "tokens": list(range(100, 100 + len(r["tokens"])))} for r in rows]
            super()._unit(ws, name, upstream, columns, rows, settings, order, summarise)

    root = tmp_path / "ws"
    ws = Written().captured(root)
    write_json(root / MARKER, {"schema": SCHEMA})
    data = of_workspace(root, "right")
    rows = {r["item_id"]: r for r in ws.rows("split").to_dicts()}
    parts = split(data.examples)
    for example, fit, fold in zip(data.examples, parts.fit, parts.folds, strict=True):
        row = rows[example.id]
        assert row["role"] == ("train" if fit else "test") and example.label == (row["label"] == "right")
        assert row["fold"] == (fold if fit else None)
    style = Prompting("examples")
    tokens = data.tokens(smollm, "plain", "mean")
    spans = {r["item_id"]: r for r in ws.rows("spans").to_dicts()}
    example, ids, (start, stop) = data.examples[0], tokens.sequences[0], tokens.regions[0]
    prompt = style.shared(smollm) + style.own(smollm, example.prompt)
    assert ids[: len(prompt)] == prompt == data.prompt(smollm, example.prompt, "plain")
    assert ids[start:stop] == list(range(100, 100 + spans[example.id]["stop"])) and stop == len(ids)
    assert data.tokens(smollm, "plain", "last").regions[0] == (stop - 1, stop)
    flipped = of_workspace(root, "wrong")
    assert np.array_equal([e.label for e in flipped.examples], [1 - e.label for e in data.examples])
    with pytest.raises(UsageError, match="right and wrong"):
        of_workspace(root, "true")


@pytest.mark.parametrize("command", [["direction", "fit"], ["direction", "show"], ["heads", "fit"], ["heads", "show"]])
def test_help_shows_an_example(run, command, capsys):
    code, out, _ = run(*command, "--help")
    assert code == 0 and f"Example: levercheck {' '.join(command)}" in out
