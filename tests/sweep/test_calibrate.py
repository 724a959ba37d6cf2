"""From a study file to a calibrated, locked and confirmed run on a real model; every refusal on the way."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.cli.calibrate import calibrate as calibrate_command  # noqa: E402
from levercheck.cli.lock import items as items_command  # noqa: E402
from levercheck.cli.lock import lock as lock_command  # noqa: E402
from levercheck.errors import IntegrityError, LevercheckError, NotEnoughDataError, UsageError  # noqa: E402
from levercheck.evidence import schema  # noqa: E402
from levercheck.evidence.provenance import read_sidecar  # noqa: E402
from levercheck.interventions import build  # noqa: E402
from levercheck.interventions.scopes import parse_scope  # noqa: E402
from levercheck.interventions.spec import Treatment  # noqa: E402
from levercheck.lm.places import RESID_POST, Site, head_shape, place  # noqa: E402
from levercheck.readouts.artifact import Artifact, save_artifact  # noqa: E402
from levercheck.readouts.component_statistics import component_statistics  # noqa: E402
from levercheck.stats import paired_difference  # noqa: E402
from levercheck.study.lock import opening_of, read_lock  # noqa: E402
from levercheck.study.spec import read_study  # noqa: E402
from levercheck.sweep import lever_sets  # noqa: E402
from levercheck.sweep.calibrate import calibrate, statements_of  # noqa: E402
from levercheck.sweep.cells import BASE, LeverArm  # noqa: E402
from levercheck.sweep.confirm import Choice, lock_study, run_confirm  # noqa: E402
from levercheck.sweep.engine import Engine  # noqa: E402
from levercheck.sweep.grid import Measured, candidate_of  # noqa: E402
from levercheck.sweep.perplexity import OPENING, Statement, statement_work  # noqa: E402
from levercheck.sweep.run_study import read_cells  # noqa: E402

STUDY = """
study: small
model: embedded:smollm2-135m
readouts: {h: readouts/h}
interventions:
  push: {readout: h, operator: shift, efforts: [0.1], scope: decode}
controls:
  random: {draws: 1, match: none}
benchmarks: [bare-facts]
items: {limit: 5, shares: {readout: 0.97, select: 0.0, tune: 0.015, confirm: 0.015}}
primary: {benchmark: bare-facts, margin: 2}
calibrate:
  intervention: push
  ks: [2, 4]
  doses: [0, 10, 80]
  objective: bare-facts
  direction: decrease
  poison: {perplexity_ratio: 5, bare_loss: 100}
"""


class Quiet:
    def __init__(self):
        self.said = []

    def stage(self, title, total, unit):
        from contextlib import nullcontext

        return nullcontext(lambda done: None)


def heads(lm, folder, seed=0):
    _, _, width = head_shape(lm)
    at = np.array([(20, 0), (20, 3), (22, 1), (24, 5)])
    directions = np.random.default_rng(seed).normal(size=(len(at), width))
    area = np.linspace(0.9, 0.6, len(at))
    arrays = {
        "layers": at[:, 0],
        "heads": at[:, 1],
        "directions": (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32),
        "sigma": np.ones(len(at), np.float32),
        **dict.fromkeys(("auroc", "cv_auroc", "cv_balanced_accuracy"), area),
    }
    save_artifact(Artifact("heads", arrays, {"model": lm.identity}), folder)


@pytest.fixture(scope="module", autouse=True)
def measured_once():
    """Components are measured once per set of prompts: it takes seconds, and every freeze asks for it."""
    known = {}

    def remember(lm, sequences, **options):
        key = json.dumps(sequences)
        if key not in known:
            known[key] = component_statistics(lm, sequences, **options)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lever_sets, "component_statistics", remember)
        yield


@pytest.fixture(scope="module")
def calibrated(smollm, tmp_path_factory):
    """A study file, its readout, and its finished calibration; tests copy it."""
    base = tmp_path_factory.mktemp("study")
    heads(smollm, base / "readouts" / "h")
    (base / "study.yaml").write_text(STUDY)
    body = calibrate(read_study(base / "study.yaml"), base, base / "run", smollm, Quiet())
    return base, body


@pytest.fixture(scope="module")
def locked(smollm, calibrated, tmp_path_factory):
    """The same, locked."""
    base = tmp_path_factory.mktemp("locked") / "study"
    shutil.copytree(calibrated[0], base)
    lock, new = lock_study(read_study(base / "study.yaml"), base, base / "run", smollm, Quiet())
    assert new
    return base, lock


def copy(source, tmp_path):
    base = tmp_path / "study"
    shutil.copytree(source, base)
    return base, read_study(base / "study.yaml"), base / "run"


def changed(base, **keys):
    return read_study(base / "study.yaml", {name.replace("__", "."): value for name, value in keys.items()})


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_table_follows_from_the_rows(calibrated):
    base, body = calibrated
    assert body["status"] == "selected"
    assert [(c["k"], c["dose"]) for c in body["candidates"]] == [(2, 10), (2, 80), (4, 10), (4, 80)]
    cells = [name for name in body["units"] if "perplexity" not in name]
    assert len(cells) == 3 and len(body["units"]) == 3 + 3  # for rows and for perplexity: unhooked, two K
    rows = read_cells(base / "run", cells).sort("item_id")
    plain = rows.filter(pl.col("lever") == BASE)
    for cell in body["candidates"]:
        own = rows.filter((pl.col("lever") == f"push-k{cell['k']}") & (pl.col("dose") == cell["dose"]))
        assert own["item_id"].to_list() == plain["item_id"].to_list() and own["role"].unique().to_list() == ["tune"]
        wanted = paired_difference(
            own["positive"].to_numpy(), plain["positive"].to_numpy(), own["cluster_id"].to_list(), cluster_unit="entity"
        )
        assert cell["surfaces"]["bare-facts"]["difference"] == wanted.to_dict()
        assert cell["relative_dose"]["value"] == pytest.approx(own["relative_dose"].mean())
    weak, strong = body["candidates"][0], body["candidates"][1]
    assert strong["harms"]["perplexity_ratio"]["value"] > 2 * weak["harms"]["perplexity_ratio"]["value"]
    assert strong["relative_dose"]["value"] == pytest.approx(8 * weak["relative_dose"]["value"], rel=0.01)
    assert body["tolerance_pp"] == pytest.approx(100 / 5)
    assert "cap_hits" not in weak["harms"] and any("cap hits" in line for line in body["warnings"])
    assert any("does not list the items" in line for line in body["warnings"])
    assert "optimistic" in body["winners_curse"]["sentence"] and body["winners_curse"]["optimism"]["value"] <= 0


def test_a_finished_grid_is_read_and_another_artifact_is_not_taken_for_it(smollm, calibrated, tmp_path):
    base, spec, root = copy(calibrated[0], tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (root / "calibrate").rglob("*") if path.is_file()}
    assert calibrate(spec, base, root, smollm, Quiet()) == calibrated[1]
    assert {path: path.stat().st_mtime_ns for path in (root / "calibrate").rglob("*") if path.is_file()} == before
    shutil.rmtree(base / "readouts" / "h")
    heads(smollm, base / "readouts" / "h", seed=7)
    other = calibrate(spec, base, root, smollm, Quiet())
    shared = set(other["units"]) & set(calibrated[1]["units"])
    assert len(shared) == 2 and all("/baseline-" in name for name in shared)
    assert other["key"] != calibrated[1]["key"]
    assert [json.loads(p.read_text()) for p in (root / "archive").glob("calibration-*.json")] == [calibrated[1]]


def test_a_poisoned_grid_writes_its_files_and_exits_with_4(smollm, calibrated, tmp_path, monkeypatch, capsys):
    base, _, root = copy(calibrated[0], tmp_path)
    monkeypatch.setattr("levercheck.lm.model.load_model", lambda *_, **__: smollm)
    arguments = ["calibrate.poison.perplexity_ratio=1", "calibrate.ks=[4]"]
    code = calibrate_command(base / "study.yaml", out=root, set_=tuple(arguments), json_=True)
    body = json.loads(capsys.readouterr().out)
    assert code == NotEnoughDataError.exit_code == 4
    assert body["status"] == "poisoned" and body["selected"] is None
    assert json.loads((root / "calibration.json").read_text())["status"] == "poisoned"
    spec = changed(base, calibrate__poison__perplexity_ratio=1, calibrate__ks=[4])
    with pytest.raises(NotEnoughDataError, match="poisoned"):
        lock_study(spec, base, root, smollm, Quiet())
    lock, _ = lock_study(spec, base, root, smollm, Quiet(), override=Choice(4, 80, "to see it break"))
    assert lock.frozen["chosen"] | {"calibration": ""} == {
        "intervention": "push", "calibration": "", "status": "poisoned", "k": 4, "dose": 80, "by": "override",
        "reason": "to see it break", "auto": None,
    }  # fmt: skip


def test_what_can_be_locked(smollm, calibrated, locked, tmp_path):
    base, spec, root = copy(calibrated[0], tmp_path)
    for choice, words in (
        (Choice(2, 10.0), "say why"),
        (Choice(2, 10.0, " "), "say why"),
        (Choice(3, 10.0, "because"), "was not calibrated, expected one of: K 2 dose 10"),
        (Choice(None, 10.0, "because"), "was not calibrated"),
    ):
        with pytest.raises(UsageError, match=words) as error:
            lock_study(spec, base, root, smollm, Quiet(), override=choice)
        one_line(error)
    for keys, words in (
        ({"interventions__push__scope": "all"}, 'scope is "all", calibrated "decode"'),
        ({"calibrate__doses": [3]}, r"settings\.doses\[0\] is 3"),
    ):
        with pytest.raises(UsageError, match=words) as error:
            lock_study(changed(base, **keys), base, root, smollm, Quiet())
        one_line(error)
    (root / "calibration.json").unlink()
    with pytest.raises(UsageError, match="levercheck calibrate"):
        lock_study(spec, base, root, smollm, Quiet())
    frozen = locked[1].frozen
    best = calibrated[1]["selected"]
    assert (frozen["chosen"]["k"], frozen["chosen"]["dose"]) == (best["k"], best["dose"])
    assert frozen["resolved"]["interventions"]["push"] | {"operator": ""} == {
        **frozen["spec"]["interventions"]["push"], "operator": "", "k": best["k"], "doses": [best["dose"]],
        "efforts": None,
    }  # fmt: skip
    assert set(frozen["interventions"]) == {"push", "push.random-0"} and frozen["scopes"] == {"push": "decode"}
    assert len(frozen["benchmarks"]["bare-facts"]["items"]) == 5 and frozen["primary"]["margin"] == 2
    assert not lock_study(read_study(locked[0] / "study.yaml"), locked[0], locked[0] / "run", smollm, Quiet())[1]


def test_confirm_refuses_what_was_not_locked(smollm, calibrated, locked, tmp_path):
    base, spec, root = copy(calibrated[0], tmp_path / "a")
    with pytest.raises(UsageError, match="levercheck lock"):
        run_confirm(spec, base, root, smollm, Quiet())
    base, spec, root = copy(locked[0], tmp_path / "b")
    other = dataclasses.replace(smollm, identity={**smollm.identity, "tokenizer": "00"})
    tries = [
        (changed(base, interventions__push__scope="all"), smollm, r'spec\.interventions\.push\.scope is "all", locked'),
        (changed(base, primary__margin=9), smollm, r"spec\.primary\.margin is 9\.0, locked 2\.0"),
        (changed(base, controls__random__draws=2), smollm, r"spec\.controls\.random\.draws is 2, locked 1"),
        (spec, other, r'model\.tokenizer is "00", locked'),
    ]
    for asked, lm, words in tries:
        with pytest.raises(UsageError, match=words) as error:
            run_confirm(asked, base, root, lm, Quiet())
        one_line(error)
    listing = base / "readouts" / "h" / "items.json"
    listing.write_text('{"ids": [], "clusters": []}')
    with pytest.raises(UsageError, match=r"readouts\.h\.items"):
        run_confirm(spec, base, root, smollm, Quiet())
    listing.unlink()
    shutil.rmtree(base / "readouts" / "h")
    heads(smollm, base / "readouts" / "h", seed=7)
    with pytest.raises(UsageError, match=r"readouts\.h\.fingerprint") as error:
        run_confirm(spec, base, root, smollm, Quiet())
    one_line(error)
    assert opening_of(root) is None and not (root / "confirm").exists()
    with pytest.raises(UsageError, match="rests on another calibration"):
        calibrate(spec, base, root, smollm, Quiet())


def test_items_that_were_used_are_refused(smollm, calibrated, locked, tmp_path):
    base, spec, root = copy(locked[0], tmp_path / "a")
    name = read_lock(root).frozen["benchmarks"]["bare-facts"]["items"][0]
    from levercheck.evidence.unit import Unit

    row = {"item_id": name, "cluster_id": "x", "role": "tune", "lever": "l", "dose": 1.0}
    Unit(root, "cells/bare-facts/stray", "k", schema.LEVERS, ["item_id"]).run({"0": [row]}, lambda b: b, facts={})
    with pytest.raises(UsageError, match=f"item '{name}' was used by cells/bare-facts/stray in role tune") as error:
        run_confirm(spec, base, root, smollm, Quiet())
    one_line(error)
    assert opening_of(root) is None
    base, spec, root = copy(calibrated[0], tmp_path / "b")
    (base / "readouts" / "h" / "items.json").write_text(json.dumps({"ids": [name], "clusters": []}))
    with pytest.raises(UsageError, match=f"item '{name}' was used by the readout in 'h'"):
        lock_study(spec, base, root, smollm, Quiet())
    items_command(base / "study.yaml", role="readout", out=base / "q.jsonl")
    (base / "q.items.json").replace(base / "readouts" / "h" / "items.json")
    lock, _ = lock_study(spec, base, root, smollm, Quiet())
    assert lock.frozen["readouts"]["h"]["items"]["status"] == "listed"


def test_an_interrupted_confirm_goes_on_and_a_finished_one_only_reads(smollm, locked, tmp_path, monkeypatch):
    base, spec, root = copy(locked[0], tmp_path / "a")
    whole = copy(locked[0], tmp_path / "b")
    _, names = run_confirm(whole[1], whole[0], whole[2], smollm, Quiet())
    assert names and all(name.startswith("confirm/") for name in names)
    real, calls = Engine.score, []

    def breaks(engine, block, candidates):
        calls.append(opening_of(root))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(engine, block, candidates)

    monkeypatch.setattr(Engine, "score", breaks)
    with pytest.raises(KeyboardInterrupt):
        run_confirm(spec, base, root, smollm, Quiet())
    assert calls[0] is not None  # opened before the first row
    opened = opening_of(root)
    assert "finished_at" not in opened and opened["lock"] == read_lock(root).digest
    events = [json.loads(line)["event"] for line in (root / "ledger.jsonl").read_text().splitlines()]
    assert events.index("opened") < len(events) - 1 and events[-1] == "interrupted"
    other = (
        Choice(2, 80.0, "second thoughts") if read_lock(root).frozen["chosen"]["dose"] != 80 else Choice(2, 10.0, "x")
    )
    with pytest.raises(UsageError, match=r"cannot be locked anew") as error:
        lock_study(spec, base, root, smollm, Quiet(), override=other, replace_old=True)
    one_line(error)
    calls.clear()
    monkeypatch.setattr(Engine, "score", lambda e, b, c: calls.append(1) or real(e, b, c))
    _, again = run_confirm(spec, base, root, smollm, Quiet())
    assert again == names and 0 < len(calls) < len(names)
    for name in names:
        assert read_sidecar(root / name)["rows_sha256"] == read_sidecar(whole[2] / name)["rows_sha256"]
    assert opening_of(root)["units"] == names
    calls.clear()
    files = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file() and path.name != ".lock"}
    assert run_confirm(spec, base, root, smollm, Quiet())[1] == names and not calls
    assert {path: path.stat().st_mtime_ns for path in files} == files
    shutil.rmtree(root / names[0])
    with pytest.raises(IntegrityError, match="restore the folder"):
        run_confirm(spec, base, root, smollm, Quiet())
    assert not calls


@pytest.mark.parametrize("scope", ["all", "prompt", "decode", "first_2"])
def test_perplexity_by_hand(smollm, scope):
    texts = ["Paris is the capital of France.", "Gold has the symbol Au."]
    statements = [Statement(str(i), str(i), text) for i, text in enumerate(texts)]
    vector = np.random.default_rng(0).normal(size=place(smollm, Site(9, RESID_POST)).width)
    lever = build.add_direction(smollm, {9: vector}, scope=parse_scope(scope))
    arms = [LeverArm("a", dose=4.0, treatment=Treatment(((lever, 4.0),))), LeverArm(BASE)]
    engine, work = statement_work(smollm, statements, arms, "tune")
    found = {(row["lever"], row["item_id"]): row for block in engine.blocks() for row in work(block)}
    unit = torch.tensor(vector / np.linalg.norm(vector), dtype=torch.float32)
    opening = smollm.start_ids + smollm.encode(OPENING)
    layer = smollm.decoder.layers[9]
    gaps = []
    for statement in statements:
        own = smollm.encode(f" {statement.text}")
        ids = torch.tensor([opening + own])
        last = len(opening) - 1
        inside = {"all": (0, None), "prompt": (0, last + 1), "decode": (last, None), "first_2": (last, last + 2)}[scope]

        def push(_module, _args, output, inside=inside):
            hidden = output[0] if isinstance(output, tuple) else output
            hidden = hidden.clone()
            hidden[:, slice(*inside)] += 4.0 * unit
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        for name in ("a", BASE):
            handle = layer.register_forward_hook(push) if name == "a" else None
            with torch.inference_mode():
                logprob = smollm.model(input_ids=ids).logits[0, last:-1].log_softmax(-1)
            if handle is not None:
                handle.remove()
            wanted = -float(logprob.gather(1, ids[0, last + 1 :, None]).double().mean())
            row = found[name, statement.id]
            assert row["nll"] == pytest.approx(wanted, abs=2e-4) and row["tokens"] == len(own)
        gaps.append(found["a", statement.id]["nll"] - found[BASE, statement.id]["nll"])
    assert max(map(abs, gaps)) > 1e-3  # the treatment does something


def lever_rows(benchmark, lever, dose, positive, **more):
    base = {"benchmark": benchmark, "lever": lever, "dose": dose, "role": "tune", "degenerate": False}
    base |= {"relative_dose": None if dose is None else 0.1}
    return [
        {
            **base,
            "item_id": f"i{n}",
            "cluster_id": f"c{n}",
            "score": None if p is None else float(p),
            **{k: v[n] for k, v in more.items()},
        }
        for n, p in enumerate(positive)
    ]


def statement_rows(lever, dose, nll):
    return [
        {"lever": lever, "dose": dose, "role": "tune", "item_id": f"i{n}", "cluster_id": f"c{n}", "nll": x, "tokens": 5}
        for n, x in enumerate(nll)
    ]


def test_harms_of_a_cell():
    stops = ["stop", "length", "length", "stop"]
    cells = [
        *lever_rows("answers", BASE, None, [True] * 4, stop_reason=["stop"] * 4),
        *lever_rows("answers", "l", 2.0, [True, False, None, None], stop_reason=stops),
        *lever_rows("bare", BASE, None, [True, True, True, False]),
        *lever_rows("bare", "l", 2.0, [True, False, False, False]),
        *lever_rows("other", BASE, None, [True] * 4),
        *lever_rows("other", "l", 2.0, [True, True, True, None], degenerate=[False, False, False, True]),
    ]
    table = [*statement_rows(BASE, None, [1.0, 2.0, 3.0, 1.0]), *statement_rows("l", 2.0, [2.0, 3.0, 4.0, 2.0])]
    measured = Measured(pl.DataFrame(cells, schema=schema.LEVERS), pl.DataFrame(table, schema=schema.STATEMENTS))
    found, record = candidate_of(measured, "l", 2.0, 8, 2.0, "answers", "other", {"bare": False, "other": False})
    values = {name: estimate.value for name, estimate in found.harms.items()}
    assert values == {
        "degenerate": 1 / 16, "no_verdict": 0.5, "cap_hits": 0.5, "bare_loss": 50.0,
        "perplexity_ratio": pytest.approx(np.e),
    }  # fmt: skip
    assert found.harms["bare_loss"].note == "on bare"
    assert found.objective.n == 2 and found.objective.value == -50.0  # only pairs with both verdicts
    assert record["surfaces"]["other"]["difference"]["n"] == 3
    flipped, _ = candidate_of(measured, "l", 2.0, 8, 2.0, "answers", None, {"bare": True})
    assert flipped.harms["bare_loss"].value == -50.0  # where less is better, a fall is a gain
    idle = lever_rows("answers", "l", 2.0, [None] * 4, stop_reason=["length"] * 4, outcome=["not_eligible"] * 4)
    unasked = pl.DataFrame([{**row, "item_id": f"x{row['item_id']}"} for row in idle], schema=schema.LEVERS)
    wider = Measured(pl.concat([measured.cells, unasked]), measured.statements)
    kept, _ = candidate_of(wider, "l", 2.0, 8, 2.0, "answers", None, {})
    for name in ("no_verdict", "cap_hits"):  # a second answer is not lost where the first one was wrong
        assert kept.harms[name] == found.harms[name]
    looped = measured.cells.with_columns(outcome=pl.when(pl.col("score").is_null()).then(pl.lit("degenerate")))
    found, _ = candidate_of(Measured(looped, measured.statements), "l", 2.0, 8, 2.0, "answers", None, {})
    assert found.harms["degenerate"].value == 3 / 16 and found.harms["no_verdict"].value == 0.0  # loops are poison
    broken = [*table[:4], *statement_rows("l", 2.0, [2.0, None, 4.0, 2.0])]
    measured = Measured(measured.cells, pl.DataFrame(broken, schema=schema.STATEMENTS))
    found, _ = candidate_of(measured, "l", 2.0, 8, 2.0, "answers", None, {})
    assert found.harms["perplexity_ratio"].value is None and found.harms["degenerate"].value == 2 / 16
    assert "bare_loss" not in found.harms and found.secondary is None


def test_commands(smollm, calibrated, tmp_path, monkeypatch, capsys):
    base, _, root = copy(calibrated[0], tmp_path)
    monkeypatch.setattr("levercheck.lm.model.load_model", lambda *_, **__: smollm)
    assert calibrate_command(base / "study.yaml", out=root) == 0
    text = capsys.readouterr()
    assert "chosen" in text.out and "winner's curse" in text.out and "n=5" in text.out
    assert re.search(r"25 rows \(prompts x treatments: bare-facts 5 x 5\)", text.err)
    assert "1 draws can show p = 0.5" in text.err
    assert lock_command(base / "study.yaml", out=root, json_=True) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["new"] and body["digest"] == read_lock(root).digest
    assert lock_command(base / "study.yaml", out=root) == 0
    assert "locked already" in capsys.readouterr().out
    for options in ({"k": 2}, {"reason": "x"}, {"dose": 3.0}, {"set_": ("items.limit",)}, {"set_": ("itms.limit=3",)}):
        with pytest.raises(LevercheckError) as error:
            lock_command(base / "study.yaml", out=root, **options)
        one_line(error)


def test_questions_of_a_role_are_what_other_roles_never_ask(smollm, calibrated, tmp_path, capsys):
    from levercheck.benchmarks.questions import load_questions
    from levercheck.sweep.study import StudyRun

    base, spec, root = copy(calibrated[0], tmp_path)
    out = tmp_path / "q.jsonl"
    assert items_command(base / "study.yaml", role="readout", out=out, json_=True) == 0
    told = json.loads(capsys.readouterr().out)
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    listing = json.loads((tmp_path / "q.items.json").read_text())
    assert told["questions"] == len(lines) == len(listing["ids"]) and set(lines[0]) == {
        "id", "question", "aliases", "category", "entity",
    }  # fmt: skip
    run = StudyRun(spec, base, root, smollm, Quiet())
    for role in ("tune", "confirm"):
        asked = {item.cluster for name in spec.benchmarks for item in run.items(name, role)}
        asked |= {statement.cluster for statement in statements_of(run)} if role == "tune" else set()
        assert asked and not asked & {line["entity"] for line in lines} and not asked & set(listing["clusters"])
    assert {run.roles[cluster] for cluster in listing["clusters"]} == {"readout"}
    read = load_questions(f"jsonl:{out}")
    assert {q.id for q in read.questions} == {line["id"] for line in lines}
    for options, words in (({"out": out}, "exists"), ({"out": tmp_path / "q.txt"}, r"\.jsonl")):
        with pytest.raises(UsageError, match=words) as error:
            items_command(base / "study.yaml", role="readout", **options)
        one_line(error)
    with pytest.raises(UsageError, match="role select has no question"):
        items_command(base / "study.yaml", role="select", out=tmp_path / "s.jsonl")


def test_a_calibration_that_was_edited_is_not_locked(smollm, calibrated, tmp_path):
    base, spec, root = copy(calibrated[0], tmp_path / "edited")
    path = root / "calibration.json"
    body = json.loads(path.read_text())
    other = next(c for c in body["candidates"] if {"k": c["k"], "dose": c["dose"]} != body["selected"])
    body["selected"] = {"k": other["k"], "dose": other["dose"]}
    path.write_text(json.dumps(body))
    with pytest.raises(IntegrityError, match="is not what its rows give: calibrate again"):
        lock_study(spec, base, root, smollm, Quiet())
