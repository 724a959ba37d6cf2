"""Components one by one: planted single predictors, hostile tokens, the command and its files."""

from __future__ import annotations

import csv
import io
import json
from contextlib import nullcontext
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest

from levercheck.publish import figures
from levercheck.publish.neurons import layer_counts, neuron_words, neurons_svg, weight_points

SVG = "{http://www.w3.org/2000/svg}"


def row(layer, index, weight, auroc=0.7, low=0.6, high=0.8, **more):
    base = {"layer": layer, "index": index, "weight": weight, "auroc": auroc, "auroc_low": low, "auroc_high": high}
    return base | more


ROWS = [
    row(0, 1, 2.0),
    row(0, 5, 0.5, 0.5, None, None),
    row(2, 3, -1.0, 0.3, 0.2, 0.4),
    row(2, 4, 0.1, None, None, None),
]


@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_the_figure_shows_every_estimate_once(width):
    svg = neurons_svg(ROWS, 4, width)
    root = ElementTree.fromstring(svg)
    assert root.get("role") == "img" and "<script" not in svg
    texts = {e.text for e in root.iter(f"{SVG}text")}
    assert {"AUROC alone", "weight in the readout", "layer", "components", "chance", "positive weight"} <= texts
    assert float(root.get("width")) <= figures.PIXELS[width] + 4
    fills = [e.get("fill") for e in root.iter(f"{SVG}path")]
    assert fills.count(figures.BLUE) >= 3 and fills.count(figures.GREY) >= 2  # points and bars of both signs
    title, description = list(root)[:2]
    assert title.text == "Components of the readout"
    assert "4 components, 3 of positive weight in 2 layers" in description.text
    assert "layer 0 neuron 1: weight 2.000, AUROC 0.700 [0.600, 0.800]" in description.text


def test_an_estimate_that_does_not_exist_is_not_drawn():
    points = weight_points(ROWS)
    assert [p["auroc"] for p in points] == [0.7, 0.5, 0.3]
    assert points[1]["low"] is None is points[1]["high"]
    assert layer_counts(ROWS, 4) == [
        {"layer": 0, "sign": "positive weight", "count": 2},
        {"layer": 2, "sign": "positive weight", "count": 1},
        {"layer": 2, "sign": "negative weight", "count": 1},
    ]
    assert "AUROC not estimable" in neuron_words(ROWS)
    neurons_svg([], 4)
    neurons_svg([row(0, 0, 1.0, None, None, None)], 1)


torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.cli.neurons import neurons as command  # noqa: E402
from levercheck.detect import neurons as stage  # noqa: E402
from levercheck.detect.stored import STORE  # noqa: E402
from levercheck.detect.workspace import workspace  # noqa: E402
from levercheck.errors import MissingError, NotEnoughDataError, UsageError  # noqa: E402
from levercheck.evidence import schema  # noqa: E402
from levercheck.evidence.unit import open_array  # noqa: E402
from levercheck.lm.model import LanguageModel  # noqa: E402
from levercheck.readouts.readout import Readout, save_readout  # noqa: E402

ITEMS = 60
HOSTILE = ["\x1b[2Jboo", "[red]x[/red]", "=1+1", "a,b\n"]
one_architecture = pytest.mark.parametrize("tiny", ["llama"], indirect=True)


class Silent:
    def stage(self, title, total, unit):
        return nullcontext(lambda done: None)


class Tokens:
    """97 tokens, four of them hostile."""

    def __len__(self):
        return 97

    def convert_ids_to_tokens(self, token):
        return f"t{token}"

    def decode(self, ids, clean_up_tokenization_spaces=False):
        return "".join(HOSTILE[i] if i < len(HOSTILE) else f" t{i}" for i in ids)


@pytest.fixture
def lm(tiny):
    identity = {"name": "embedded:tiny", "tokenizer": "t", "weights": "w", "architecture": "a", "layers": 3}
    return LanguageModel("embedded:tiny", tiny.model, Tokens(), {**identity, "dtype": "float32"})


@pytest.fixture
def readout():
    weights = np.zeros((3, 48))
    weights[0, 3], weights[1, 4], weights[2, 9] = 1.0, 4.0, -2.0
    return Readout.of_dense(weights, 0.5, {"channel": "answer.cett.mean", "model": None})


def fill(root, lm, readout, names=("main",), captured=True):
    """A workspace after `probe`: 0:3 predicts perfectly, 1:4 not at all, 2:9 the other way round."""
    rng = np.random.default_rng(0)
    ids = [f"q{i:03d}" for i in range(ITEMS)]
    wrong = np.arange(ITEMS) % 2 == 1
    values = rng.random((1, ITEMS, 3, 48)).astype(np.float32)
    values[0, :, 0, 3] = wrong + 0.5 * rng.random(ITEMS)
    values[0, :, 2, 9] = 3 - wrong + 1.5 * rng.random(ITEMS)
    values[0, 40:, 0, 3] *= -1  # training items: must not be looked at
    with workspace(root, Silent(), create=True) as ws:
        split = [
            {"item_id": i, "label": "wrong" if w else "right", "group": f"g{at // 2}",
             "role": "test" if at < 40 else "train"}
            for at, (i, w) in enumerate(zip(ids, wrong, strict=True))
        ]  # fmt: skip
        ws.compute("split", {}, [], schema.SPLIT, ["item_id"], title="", batches=[None], rows=ITEMS,
                   work=lambda _: split)  # fmt: skip
        if captured:
            order = rng.permutation(ITEMS)  # the store's order is not the order of the ids

            def work(_):
                array = open_array(root / "capture" / STORE, values.shape, "float32")
                array[:] = values[:, order]
                array.flush()
                return [{"item_id": ids[at], "index": index} for index, at in enumerate(order)]

            ws.compute(
                "capture", {"model": lm.identity, "regions": ["answer"]}, ["split"], schema.CAPTURED_REGIONS,
                ["index"], title="", batches=[None], rows=ITEMS, work=work, array=root / "capture" / STORE,
            )  # fmt: skip
    for name in names:
        save_readout(readout, root / "probes" / name)
    return values[0], wrong


@one_architecture
def test_planted_single_predictors(lm, readout, tmp_path):
    values, wrong = fill(tmp_path / "ws", lm, readout)
    with workspace(tmp_path / "ws", Silent()) as ws:
        found = {(r["layer"], r["index"]): r for r in stage.neurons(ws, readout, "main", lambda: lm).to_dicts()}
        results = ws.results("probes/main/neurons")
        again = stage.neurons(ws, readout, "main", lambda: pytest.fail("a finished unit needs no model"))
    assert len(again) == 3
    good, chance, bad = found[0, 3], found[1, 4], found[2, 9]
    assert good["auroc"] == 1 and good["auroc_low"] < 1
    assert abs(chance["auroc"] - 0.5) < 0.25 and chance["auroc_low"] < 0.5 < chance["auroc_high"]
    assert bad["auroc_high"] < 0.5
    assert good["n"] == 40 and good["clusters"] == 20
    assert good["feature_wrong"] == pytest.approx(values[:40][wrong[:40], 0, 3].mean(), rel=1e-5)
    assert bad["feature_right"] == pytest.approx(values[:40][~wrong[:40], 2, 9].mean(), rel=1e-5)
    assert good["write_norm"] == pytest.approx(float(lm.sites[0].write[:, 3].norm()), rel=1e-5)
    effects = good["promoted_effects"]
    assert len(effects) == stage.TOKENS and effects == sorted(effects, reverse=True) and effects[0] > 0
    assert good["suppressed_effects"][0] == min(good["suppressed_effects"]) < 0
    assert results["positive_per_layer"] == {"0": 1, "1": 1} and results["components"] == 3
    assert [(r["layer"], r["index"]) for r in stage.ranked(again)] == [(1, 4), (0, 3), (2, 9)]


@one_architecture
def test_another_model_is_refused(lm, readout, tmp_path):
    fill(tmp_path / "ws", lm, readout)
    stranger = LanguageModel("other", lm.model, lm.tokenizer, {**lm.identity, "weights": "x"})
    with workspace(tmp_path / "ws", Silent()) as ws, pytest.raises(UsageError, match="whose weights differs"):
        stage.neurons(ws, readout, "main", lambda: stranger)
    empty = Readout.of_dense(np.zeros((3, 48)), 0.0, {})
    with workspace(tmp_path / "ws", Silent()) as ws, pytest.raises(NotEnoughDataError, match="no component"):
        stage.neurons(ws, empty, "main", lambda: lm)


@one_architecture
def test_the_model_that_was_loaded_is_recorded(lm, readout, tmp_path):
    fill(tmp_path / "ws", lm, readout)
    moved = LanguageModel("moved", lm.model, lm.tokenizer, {**lm.identity, "name": "moved", "dtype": "bfloat16"})
    with workspace(tmp_path / "ws", Silent()) as ws:
        stage.neurons(ws, readout, "main", lambda: moved)
        assert ws.settings("probes/main/neurons")["model"] == moved.identity
        stage.neurons(ws, readout, "main", lambda: pytest.fail("a finished unit needs no model"))


@one_architecture
def test_a_capture_that_names_no_model_takes_any_of_its_shape(lm, readout, tmp_path, monkeypatch, capsys):
    from levercheck.lm import model as models

    nameless = LanguageModel("nameless", lm.model, lm.tokenizer, None)
    fill(tmp_path / "ws", nameless, readout)
    with pytest.raises(UsageError, match="give it with --model"):
        command(tmp_path / "ws")
    assert not (tmp_path / "ws" / "probes" / "main" / "neurons").exists()
    monkeypatch.setattr(models, "load_model", lambda name, **_: lm)
    assert command(tmp_path / "ws", model="embedded:tiny") == 0
    assert "cannot be checked" in capsys.readouterr().err


@one_architecture
def test_another_model_leaves_no_unit_behind(lm, readout, tmp_path):
    fill(tmp_path / "ws", lm, readout)
    stranger = LanguageModel("other", lm.model, lm.tokenizer, {**lm.identity, "weights": "x"})
    with workspace(tmp_path / "ws", Silent()) as ws, pytest.raises(UsageError, match="whose weights differs"):
        stage.neurons(ws, readout, "main", lambda: stranger)
    assert not (tmp_path / "ws" / "probes" / "main" / "neurons").exists()


def test_which_readout_is_meant(tmp_path):
    with pytest.raises(MissingError, match="levercheck probe"):
        stage.probe_name(tmp_path, None)
    for name in ("main", "other"):
        (tmp_path / "probes" / name).mkdir(parents=True)
        (tmp_path / "probes" / name / "readout.json").write_text("{}")
    (tmp_path / "probes" / "half").mkdir()
    with pytest.raises(UsageError, match=r"2 readouts \(main, other\): choose one with --name"):
        stage.probe_name(tmp_path, None)
    with pytest.raises(UsageError, match="did you mean 'main'"):
        stage.probe_name(tmp_path, "mian")
    with pytest.raises(UsageError, match="no readout"):
        stage.probe_name(tmp_path, "../probes/main")
    assert stage.probe_name(tmp_path, "other") == "other"


@one_architecture
def test_the_command(lm, readout, tmp_path, capsys, monkeypatch):
    from levercheck.lm import model as models

    root = tmp_path / "ws"
    fill(root, lm, readout)
    asked = []
    monkeypatch.setattr(models, "load_model", lambda name, **_: asked.append(name) or lm)
    monkeypatch.setattr("levercheck.cli.console.output._width", 300)
    # planted so that a hostile token is what the heaviest neuron promotes most
    write = lm.sites[1].write
    kept = write[:, 4].clone()
    try:
        matrix = lm.model.get_output_embeddings().weight.double()
        write[:, 4] = torch.linalg.solve(matrix.T @ matrix, matrix[0]).float()
        assert command(root, top=2, tokens=3) == 0
    finally:
        write[:, 4].copy_(kept)
    shown = capsys.readouterr().out
    assert asked == ["embedded:tiny"]
    assert "\x1b[2J" not in shown and "\\x1b[2Jboo" in shown
    assert "1:4" in shown and "0:3" in shown and "2:9" not in shown and "1 more component" in shown
    assert "2 of 3 weights are positive; per layer of 3: 0: 1, 1: 1" in shown
    folder = root / "probes" / "main" / "neurons"
    table = list(csv.DictReader(io.StringIO((folder / "neurons.csv").read_text())))
    assert [r["index"] for r in table] == ["4", "3", "9"]
    assert table[0]["promoted"].startswith("'\\x1b[2Jboo' ") and table[0]["promoted"].count("' '") == 2
    assert (folder / "neurons.svg").read_text().startswith("<svg")
    assert command(root, json_=True) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["readout"] == "main" and len(report["rows"]) == 3 and len(report["rows"][0]["promoted"]) == 20
    assert asked == ["embedded:tiny"]  # the second run loads nothing


@one_architecture
def test_the_command_without_drawing_packages(lm, readout, tmp_path, capsys, monkeypatch):
    from levercheck.cli import neurons as module
    from levercheck.lm import model as models

    fill(tmp_path / "ws", lm, readout)
    monkeypatch.setattr(models, "load_model", lambda name, **_: lm)

    def absent(*_):
        raise MissingError("the report needs altair: run pip install 'levercheck[report]'")

    monkeypatch.setattr(module, "neurons_svg", absent)
    assert command(tmp_path / "ws") == 0
    assert "neurons.csv" in capsys.readouterr().out
    assert not (tmp_path / "ws" / "probes" / "main" / "neurons" / "neurons.svg").exists()


@one_architecture
def test_a_model_whose_place_is_not_recorded_must_be_given(lm, readout, tmp_path):
    placeless = LanguageModel("dir:tiny", lm.model, lm.tokenizer, {**lm.identity, "name": "dir:tiny"})
    fill(tmp_path / "ws", placeless, readout)
    with pytest.raises(UsageError, match="give it with --model"):
        command(tmp_path / "ws")


def test_a_folder_without_readout_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is no workspace"):
        command(tmp_path)


def test_rows_have_the_columns_they_promise():
    assert pl.DataFrame(schema=stage.NEURONS).columns[:3] == ["layer", "index", "weight"]
