"""Features by hand, planted labels found again, and a readout that keeps to its dictionary; the commands end to end."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.cli.app import app  # noqa: E402
from levercheck.errors import IntegrityError, NotEnoughDataError, UsageError  # noqa: E402
from levercheck.lm.places import parse_site  # noqa: E402
from levercheck.lm.saes.formats import load_sae  # noqa: E402
from levercheck.lm.saes.sae import Sae  # noqa: E402
from levercheck.lm.saes.stored import save_sae  # noqa: E402
from levercheck.readouts import sae_features  # noqa: E402
from levercheck.readouts.artifact import save_artifact  # noqa: E402
from levercheck.readouts.contrast import Example, Tokens, split  # noqa: E402
from levercheck.readouts.sae_features import (  # noqa: E402
    fit_latents,
    keep_dictionary,
    latent_means,
    load_sae_readout,
    sae_artifact,
)


def dictionary(width, latents=30, seed=2):
    rng = np.random.default_rng(seed)
    w = rng.normal(0, 0.3, (width, latents)).astype(np.float32)
    zeros = np.zeros(latents, np.float32)
    return Sae(parse_site("L1.resid.post"), "topk", w, zeros, w.T.copy(), np.zeros(width, np.float32), k=7)


def planted(items=240, latents=60, seed=0, signal=1.0):
    """(features, examples): latent 11 is higher where the label is 1, latent 40 lower, others are sparse noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(items) % 2 == 0
    x = np.maximum(rng.normal(-0.5, 1, (items, latents)), 0)
    x[:, 11] += signal * labels
    x[:, 40] += signal * ~labels
    x[:, 7] = 0
    x[0, 7] = 100.0  # on once: the name of one example
    examples = [Example(str(i), f"p{i}", "a", int(y), f"g{i // 4}") for i, y in enumerate(labels)]
    return x.astype(np.float32), examples


def fitted(x, examples, **options):
    labels = np.array([e.label == 1 for e in examples])
    return fit_latents(x, labels, [e.group for e in examples], split(examples), **options)


def test_means_by_hand(tiny, monkeypatch):
    monkeypatch.setattr(sae_features, "_CELLS", 90)  # pieces of three tokens, which cut examples apart
    sae = dictionary(32)
    sequences = [[5, 9, 13, 60], [7, 80], [90, 3, 12, 50, 71, 8, 9], [33, 4, 4]]
    regions = [(1, 4), (1, 2), (2, 7), (0, 1)]
    found = latent_means(tiny, sae, Tokens(sequences, regions, {}))
    for row, (ids, (start, stop)) in enumerate(zip(sequences, regions, strict=True)):
        with torch.no_grad():
            hidden = tiny.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[2][0]
        by_hand = sae.encode(hidden[start:stop]).mean(0)
        torch.testing.assert_close(torch.from_numpy(found[row]), by_hand, rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="33 wide"):
        latent_means(tiny, dictionary(33), Tokens(sequences, regions, {}))


def test_planted_latents_are_found():
    x, examples = planted()
    found = fitted(x, examples)
    weight = dict(zip(found.latents.tolist(), found.weights.tolist(), strict=True))
    assert weight[11] > 0 > weight[40]
    assert {11, 40} == set(sorted(weight, key=lambda at: -abs(weight[at]))[:2])
    assert 7 not in weight
    assert found.candidates == 59
    assert found.auroc.value > 0.8
    assert found.auroc.low < found.auroc.value < found.auroc.high
    assert found.auroc.cluster_unit == "group"
    held = ~split(examples).fit
    truth = np.array([e.label == 1 for e in examples])[held]
    scores = found.score(x)[held]
    by_hand = np.mean([(a > b) + (a == b) / 2 for a in scores[truth] for b in scores[~truth]])
    assert found.auroc.value == pytest.approx(by_hand)
    assert found.c == max(found.folds, key=lambda row: row["auroc"])["c"]


def test_nothing_to_find():
    x, examples = planted(signal=0.0)
    with pytest.raises(NotEnoughDataError, match="no latent got a weight"):
        fitted(x, examples, cs=[1e-4])
    with pytest.raises(NotEnoughDataError, match="no latent is on"):
        fitted(np.zeros_like(x), examples)


def test_readout_and_its_dictionary(tmp_path):
    x, examples = planted(latents=60)
    sae = dictionary(8, latents=60)
    made = sae_artifact(fitted(x, examples), sae, {"model": {"name": "m"}})
    keep_dictionary(sae, tmp_path)
    keep_dictionary(sae, tmp_path)  # an interrupted fit left it
    save_artifact(made, tmp_path)
    artifact, read = load_sae_readout(tmp_path)
    assert artifact.fingerprint == made.fingerprint
    assert read.fingerprint == sae.fingerprint == artifact.facts["sae"]
    with pytest.raises(UsageError, match="another dictionary"):
        keep_dictionary(dictionary(8, latents=60, seed=3), tmp_path)
    for path in (tmp_path / "sae").iterdir():
        path.unlink()
    save_sae(dictionary(8, latents=60, seed=3), tmp_path / "sae")
    with pytest.raises(IntegrityError, match="not the one"):
        load_sae_readout(tmp_path)
    for path in (tmp_path / "sae").iterdir():
        path.unlink()
    (tmp_path / "sae").rmdir()
    with pytest.raises(IntegrityError, match="no dictionary"):
        load_sae_readout(tmp_path)


def test_commands(smollm, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("levercheck.lm.model.load_model", lambda *_, **__: smollm)

    def call(*arguments):
        capsys.readouterr()
        code = app([*map(str, arguments), "--json"])
        return code, json.loads(capsys.readouterr().out)

    text = tmp_path / "text.txt"
    text.write_text("\n".join(f"The {a} of the {b} is a {c}." for a in ("king", "river", "colour", "end")
                              for b in ("moon", "house", "sea") for c in ("word", "stone", "bird")))  # fmt: skip
    trained = tmp_path / "dictionary"
    options = ("--site", "blocks.4.hook_resid_post", "--latents", 256, "--k", 16, "--steps", 40, "--text", text)
    code, body = call("sae", "train", *options, "--out", trained)
    assert body["site"] == "L4.resid.post"
    assert code == (body["preflight"]["verdict"] == "fail")
    assert body["preflight"]["estimates"]["explained"]["value"] > 0.2
    assert json.loads((trained / "preflight.json").read_text()) == body["preflight"]
    with pytest.raises(UsageError, match="finished dictionary"):
        call("sae", "train", *options, "--out", trained)

    code, body = call("sae", "inspect", trained, "--model", "embedded:smollm2-135m", "--text", text, "--sequences", 4)
    assert body["preflight"]["sequences"] == 4
    assert body["fingerprint"] == load_sae(trained).fingerprint
    assert body["facts"]["model"] == smollm.identity
    code, body = call("sae", "inspect", trained)
    assert (code, "preflight" in body) == (0, False)

    out = tmp_path / "readout"
    rows = [{"prompt": f"Say a number. {i}", "answer": w, "label": w == "seven", "group": f"g{i}"}
            for i in range(20) for w in ("seven", "the green bird")]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps({**r, "label": int(r["label"])}) for r in rows))
    code, body = call("sae", "fit", tmp_path / "rows.jsonl", "--sae", trained, "--out", out)
    assert code == 0
    assert body["estimates"]["auroc"]["value"] > 0.9
    artifact, sae = load_sae_readout(out)
    assert [row["latent"] for row in body["features"]]
    assert artifact.facts["model"] == smollm.identity
    assert sae.fingerprint == body["sae"]
    with pytest.raises(UsageError, match="finished readout"):
        call("sae", "fit", tmp_path / "rows.jsonl", "--sae", trained, "--out", out)
    app(["sae", "inspect", str(trained)])
    assert "L4.resid.post" in capsys.readouterr().out


def test_a_dictionary_of_another_width_is_one_line(smollm, tmp_path, monkeypatch):
    monkeypatch.setattr("levercheck.lm.model.load_model", lambda *_, **__: smollm)
    save_sae(dataclasses.replace(dictionary(8)), tmp_path / "sae")
    with pytest.raises(UsageError, match="8 wide, expected 576"):
        app(["sae", "inspect", str(tmp_path / "sae"), "--model", "embedded:smollm2-135m"])
    with pytest.raises(UsageError, match="--model"):
        app(["sae", "inspect", str(tmp_path / "sae"), "--text", str(tmp_path / "x")])
