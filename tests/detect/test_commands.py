"""The commands of the pipeline: what they refuse before any work, what they load, and what they say."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from tests.detect.builders import LAYERS, MODEL, NEURONS, Plant, Silent

from levercheck.cli import audit_readout as audits
from levercheck.cli import detect as commands
from levercheck.cli import detect_tables as tables
from levercheck.detect.neurons import neurons
from levercheck.detect.workspace import MARKER, SCHEMA, Workspace
from levercheck.errors import MissingError, NotEnoughDataError, UsageError
from levercheck.evidence.files import write_json
from levercheck.lm import model as models
from levercheck.readouts.readout import load_readout
from levercheck.stats import proportion

CAPTURED = {**MODEL, "hidden": 8, "dtype": "bfloat16"}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A finished probe; tests must copy it before they change it."""
    plant = Plant()
    plant.signal(1, 5)
    root = tmp_path_factory.mktemp("commands") / "ws"
    plant.write(root, model=CAPTURED)
    write_json(root / MARKER, {"schema": SCHEMA})
    return root


@pytest.fixture
def root(planted, tmp_path):
    shutil.copytree(planted, tmp_path / "ws")
    return tmp_path / "ws"


@pytest.fixture
def loaded(monkeypatch):
    """Every call of load_model, answered by a model that only has an identity."""
    calls = []

    def load(name, **options):
        calls.append({"name": name, **options})
        identity = {**MODEL, "dtype": options["dtype"]}
        return SimpleNamespace(name=name, identity=identity, shape=(LAYERS, NEURONS))

    monkeypatch.setattr(models, "load_model", load)
    return calls


def edit_settings(root, unit, **changes):
    path = root / unit / "provenance.json"
    sidecar = json.loads(path.read_text())
    sidecar["settings"] |= changes
    path.write_text(json.dumps(sidecar))


def direction_file(folder, array, name="d.npy"):
    np.save(folder / name, array)
    return folder / name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "defualt"}, "did you mean 'default'"),
        ({"direction": "nowhere.npy"}, "no file 'nowhere.npy'"),
        ({"direction": "d.npy"}, r"shape \[9\], expected \[8\]"),
        ({"direction": "text.npy"}, "cannot be read"),
        ({"direction": "d.npy", "rows_only": True}, "--rows-only leaves it out"),
        ({"transfer": "."}, "is no workspace"),
        ({"transfer": "ws/../ws"}, "the workspace itself"),
    ],
)
def test_audit_readout_refuses_before_it_loads_or_computes(root, tmp_path, loaded, options, message):
    direction_file(tmp_path, np.ones(9))
    (tmp_path / "text.npy").write_text("no array")
    paths = {key: tmp_path / value for key, value in options.items() if key in ("direction", "transfer")}
    with pytest.raises(UsageError, match=message):
        audits.audit_readout(root, **{**options, **paths})
    assert loaded == []
    assert not (root / "probes" / "default" / "audit").exists()


def test_audit_readout_refuses_an_imported_probe(root, loaded):
    edit_settings(root, "probes/default", imported={"classifier": "x"})
    with pytest.raises(UsageError, match="fitted by another program"):
        audits.audit_readout(root)
    assert loaded == []


def test_parts_that_cannot_be_made_are_notes_and_hide_nothing(root, loaded, monkeypatch, capsys):
    def refuse(error):
        def refused(*_, **__):
            raise error

        return refused

    made, absent = [], MissingError("needs jinja2: pip install 'levercheck[report]'")
    monkeypatch.setattr("levercheck.detect.verbosity.verbosity", refuse(NotEnoughDataError("no item can be used")))
    monkeypatch.setattr("levercheck.detect.neurons.neurons", lambda *_: made.append("neurons"))
    monkeypatch.setattr("levercheck.detect.material.material", lambda *_: {})
    monkeypatch.setattr("levercheck.publish.readout_report.write_readout_report", refuse(absent))
    assert audits.audit_readout(root, refits=0, json_=True) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["notes"] == ["no length and truth: no item can be used", f"no report: {absent}"]
    assert all(note in shown.err for note in found["notes"])
    assert found["checks"]["detects"] == "shown" and found["report"] == [] and made == ["neurons"]
    assert loaded[0]["dtype"] == "bfloat16"
    assert audits.audit_readout(root, refits=0) == 0
    assert "Readout audit" in capsys.readouterr().out


def test_the_captured_model_goes_before_the_one_of_the_answers(root, loaded):
    ws = Workspace(root, Silent())
    edit_settings(root, "answers", model={**MODEL, "name": "answers", "dtype": "float32"})
    assert commands.recorded_model(ws)["dtype"] == "bfloat16"
    commands.load(ws, None, None, None)
    commands.load(ws, "other", "float16", "cpu")
    assert [(c["name"], c["dtype"]) for c in loaded] == [("planted", "bfloat16"), ("other", "float16")]
    shutil.rmtree(root / "capture")
    assert commands.recorded_model(Workspace(root, Silent()))["name"] == "answers"
    with pytest.raises(MissingError, match="run 'levercheck collect'"):
        commands.recorded_model(Workspace(root / "nowhere", Silent()))


def test_a_workspace_without_a_model_needs_one_named(root, loaded, capsys):
    for unit in ("capture", "answers"):
        edit_settings(root, unit, model=None)
    ws = Workspace(root, Silent())
    readout = load_readout(root / "probes" / "default")
    with pytest.raises(UsageError, match="records no model: give it with --model"):
        neurons(ws, readout, "default", lambda: commands.load(ws, None, None, None))
    wrong = SimpleNamespace(name="x", identity=MODEL, shape=(LAYERS, NEURONS + 1))
    with pytest.raises(UsageError, match="readout has shape"):
        neurons(ws, readout, "default", lambda: wrong)
    assert loaded == [] and not (root / "probes" / "default" / "neurons").exists()
    commands.load(ws, "mine", None, None)
    assert loaded[0]["dtype"] == "float32"
    assert "cannot be checked" in capsys.readouterr().err


def test_top_k_0_is_for_endpoints(tmp_path):
    with pytest.raises(UsageError, match="--top-k 0 is for endpoints"):
        commands.collect("facts", out=tmp_path / "w", top_k=0)
    assert not (tmp_path / "w").exists()


def test_the_funnel_names_the_judge(capsys, monkeypatch):
    monkeypatch.setattr("levercheck.cli.console.output._width", 200)
    labels = {"right": proportion(3, 4).to_dict()}
    results = {"questions": 4, "labels": labels, "ruler": "alias/v1"}
    tables.funnel(results)
    alone = capsys.readouterr().out
    assert "labels by the ruler alias/v1" in alone and "judge" not in alone
    judge = {"model": "big\x1b[2J", "distinct_answers": 7, "kappa_with_ruler": proportion(5, 7).to_dict()}
    judge["table"] = [{"judge": "true", "ruler": "false", "answers": 6}]
    tables.funnel({**results, "judge": judge})
    shown = capsys.readouterr().out
    assert "from the judge big" in shown and "\x1b" not in shown
    assert "7 distinct answers, kappa with the ruler 0.71 [" in shown
    assert [line.split() for line in shown.splitlines() if "false" in line] == [["true", "│", "false", "│", "6"]]


def test_collect_from_an_endpoint_without_top_k_and_with_a_judge(tmp_path, capsys):
    pytest.importorskip("httpx", reason="needs levercheck[api]")
    from tests.judges.server import Completion, EndpointServer

    def reply(asked):
        judged = "verdict" in asked["messages"][0]["content"]
        return Completion(json.dumps({"verdict": "incorrect"}) if judged else "Atlantis")

    with EndpointServer(reply) as server:
        address = {"url": server.endpoint().url, "model": server.endpoint().model}
        options = {f"{who}_{key}": value for who in ("endpoint", "judge") for key, value in address.items()}
        where = {"out": tmp_path / "w", "limit": 4, "samples": 2, "top_k": 0}
        assert commands.collect("facts:capital", **where, **options) == 0
        shown = capsys.readouterr().out
        assert "labels by the ruler" in shown and "4 distinct answers, kappa with the ruler" in " ".join(shown.split())
        bodies = [request.body for request in server.requests]
        assert len(bodies) == 12 and all("top_k" not in body for body in bodies)
        del options["judge_url"], options["judge_model"]
        assert commands.collect("facts:capital", **where, **options, json_=True) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["judge"]["model"] == address["model"] and found["judge"]["distinct_answers"] == 4
        assert len(server.requests) == 12
