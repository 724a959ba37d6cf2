"""`levercheck attribution` and `levercheck controls preview`, on a tiny random model with a real tokenizer."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.cli.app import app, main  # noqa: E402
from levercheck.errors import NotEnoughDataError, UsageError  # noqa: E402
from levercheck.lm.model import load_model  # noqa: E402
from levercheck.lm.places import head_shape  # noqa: E402
from levercheck.readouts.artifact import Artifact, save_artifact  # noqa: E402
from levercheck.readouts.readout import Readout, save_readout  # noqa: E402
from levercheck.sweep.pair_items import embedded_pairs, read_pairs  # noqa: E402


@pytest.fixture(scope="module")
def folder(smollm, tmp_path_factory):
    """A random model of four layers that reads SmolLM2's tokens, with a readout of every family that needs no data."""
    import transformers

    root = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(smollm.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=256,
    )
    model = transformers.LlamaForCausalLM(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.15)
    model.save_pretrained(root / "model")
    smollm.tokenizer.save_pretrained(root / "model")
    lm = load_model(str(root / "model"))
    rng = np.random.default_rng(0)
    weights = np.zeros(lm.shape)
    for layer in range(4):
        weights[layer, rng.choice(64, 6, replace=False)] = [1, 1, 1, -1, -1, 0.5]
    save_readout(Readout.of_dense(weights, 0.0, {"model": lm.identity, "channel": "cett"}), root / "neurons")
    facts = {"model": lm.identity}
    directions = rng.normal(size=(4, 32)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    arrays = {"directions": directions, "sigma": np.ones(4, np.float32), "auroc": np.array([0.5, 0.6, 0.9, 0.7])}
    save_artifact(Artifact("direction", arrays, facts), root / "direction")
    layers, heads, width = head_shape(lm)
    at = np.divmod(np.arange(layers * heads), heads)
    vectors = rng.normal(size=(len(at[0]), width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = {name: rng.uniform(size=len(at[0])) for name in ("auroc", "cv_auroc", "cv_balanced_accuracy")}
    scores |= {"balanced_accuracy": scores["auroc"], "sigma": rng.uniform(0.5, 2, len(at[0])).astype(np.float32)}
    arrays = {"layers": at[0], "heads": at[1], "directions": vectors, **scores}
    save_artifact(Artifact("heads", arrays, facts), root / "heads")
    lines = [
        {"id": f"q{i}", "prompt": f"Question {i}: what is it?\nAnswer:", "better": " Paris", "worse": f" {word}"}
        for i, word in enumerate(("London", "Rome", "nothing", "seven", "Oslo", "water"))
    ]
    (root / "items.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / "texts.txt").write_text(
        "The first text of a few words.\nAnother one, longer than the first.\nA third.\n" * 4
    )
    return root


def run(capsys, *arguments):
    code = app([str(argument) for argument in arguments])
    return code, capsys.readouterr().out


@pytest.mark.parametrize(
    ("readout", "options", "covariates"),
    [
        ("neurons", ["--match", "activation", "--caliper", "2", "--dose", "3"], "frequency"),
        ("neurons", ["--match", "none"], "layers"),
        ("heads", ["--match", "layer", "--k", "3"], "write norm"),
        ("heads", ["--kind", "directions", "--k", "3"], "mean norm"),
        ("direction", ["--match", "activation", "--orthogonal", "--dose", "0.2"], "share of activation variance"),
        ("direction", ["--match", "none", "--operator", "ablate_writers"], "share of activation variance"),
    ],
)
def test_preview_prints_balance_before_any_run(folder, capsys, readout, options, covariates):
    common = [folder / readout, "--model", folder / "model", "--texts", folder / "texts.txt", "--draws", 7, *options]
    code, out = run(capsys, "controls", "preview", *common, "--json")
    assert code == 0
    found = json.loads(out)
    rows = {row["covariate"]: row for row in found["balance"]}
    assert covariates in rows and all(row["of"] == 8 for row in rows.values())
    assert found["attainable"]["needed_one_sided"] == 19
    if "--dose" in options:
        dose = rows[f"relative dose at {options[-1]}"]
        assert dose["target"] > 0
        if readout == "direction":  # of equal length by construction
            assert dose["controls"]["value"] == pytest.approx(dose["target"], rel=1e-4)
    if "--match" in options and "none" not in options and readout != "direction":
        assert rows["layers"]["controls"]["value"] == 0
    code, out = run(capsys, "controls", "preview", *common)
    assert code == 0 and "7 draws can show p = 0.125" in out and "balanced" in out


def test_preview_measures_once_and_checks_whose_statistics_they_are(folder, capsys, tmp_path):
    common = ["controls", "preview", folder / "neurons", "--model", folder / "model", "--texts", folder / "texts.txt"]
    first = run(capsys, *common, "--statistics", tmp_path / "s", "--json")[1]
    facts = tmp_path / "s" / "components.json"
    stamp = facts.stat().st_mtime_ns
    assert run(capsys, *common, "--statistics", tmp_path / "s", "--json")[1] == first
    assert facts.stat().st_mtime_ns == stamp
    body = json.loads(facts.read_text())
    facts.write_text(json.dumps({**body, "model": {**body["model"], "tokenizer": "x"}}))
    with pytest.raises(UsageError, match="the component statistics came from"):
        run(capsys, *common, "--statistics", tmp_path / "s")


def test_attribution_writes_arrays_and_ranks_a_readout(folder, capsys, tmp_path):
    common = ["attribution", "--model", folder / "model", "--items", folder / "items.jsonl", "--draws", 200]
    code, out = run(capsys, *common, "--readout", folder / "neurons", "--out", tmp_path / "a", "--json")
    record = json.loads(out)
    assert code == 0 and record["items"]["n"] == 6 and record["null"]["draws"] == 200
    assert {row["family"] for row in record["top"]} == {"neurons", "heads", "directions"}
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "attribution.json",
        "effects.safetensors",
        "items.jsonl",
        "top.csv",
    ]
    for readout, more in (
        ("direction", ["--match", "activation"]),
        ("heads", ["--match", "none", "--k", 3, "--scope", "last"]),
    ):
        code, out = run(capsys, *common, "--readout", folder / readout, "--out", tmp_path / readout, *more)
        assert code == 0 and "of the draws lie below" in out
    with pytest.raises(UsageError, match="not empty"):
        run(capsys, *common, "--out", tmp_path / "a")
    with pytest.raises(NotEnoughDataError, match="27 different sets"):
        run(capsys, *common, "--readout", folder / "heads", "--k", 3, "--out", tmp_path / "b")
    for wrong in (["--k", 3], ["--readout", folder / "direction", "--operator", "ablate"]):
        with pytest.raises(UsageError, match=r"give --readout|no first-order prediction"):
            run(capsys, *common, "--out", tmp_path / "b", *wrong)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1 of 'x.jsonl' is not JSON"),
        ('{"id": "a", "prompt": "x", "better": " y"}', "no text under 'worse'"),
        ('{"id": "a", "prompt": "x", "better": " y", "worse": " y"}', "same token"),
        ('{"id": "a", "prompt": "The capi", "better": "tal", "worse": " y"}', "read as other tokens"),
        ('{"id": "a", "prompt": "x", "better": " y", "worse": " z"}', "holds 1 items"),
    ],
)
def test_wrong_items_are_one_line(smollm, tmp_path, line, said):
    (tmp_path / "x.jsonl").write_text(line + "\n")
    with pytest.raises((UsageError, NotEnoughDataError), match=said) as caught:
        read_pairs(smollm, tmp_path / "x.jsonl")
    assert "\n" not in str(caught.value)


def test_chat_items_end_where_the_answer_begins(smollm, tmp_path):
    lines = [{"id": str(i), "prompt": f"Is {i} even?", "better": "Yes", "worse": "No"} for i in range(5)]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    item = read_pairs(smollm, tmp_path / "x.jsonl", chat=True)[0]
    assert list(item.tokens) == smollm.chat([{"role": "user", "content": "Is 0 even?"}])
    assert [smollm.decode([token]) for token in (item.better, item.worse)] == ["Yes", "No"]


def test_embedded_pairs_are_known_and_of_different_entities(smollm):
    found = embedded_pairs(smollm, 6, 0)
    assert 5 <= len(found) <= 6 and len({item.cluster for item in found}) == len(found)
    assert all(item.better != item.worse for item in found)
    assert "Context:" in smollm.decode(found[0].tokens)


def test_a_model_that_knows_nothing_is_told_so(folder):
    with pytest.raises(NotEnoughDataError, match="--items of your own"):
        embedded_pairs(load_model(str(folder / "model")), 5, 0)


def test_mistakes_end_in_one_line_and_a_code(folder, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["controls", "preview", str(folder / "neurons"), "--model", str(folder / "model"), "--draws", "0"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.strip().startswith("levercheck:")
