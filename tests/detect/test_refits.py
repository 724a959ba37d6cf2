"""Refits: what each draw is fitted on, that they repeat, and that a kill loses nothing that was acknowledged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from tests.detect.builders import NEURONS, Plant, Silent, store_of

from levercheck.detect.audit import audit_readout
from levercheck.detect.components import component_rows
from levercheck.detect.probe import Items, ProbeSpec, Training
from levercheck.detect.refits import CONTROLS, Draw, Refitter
from levercheck.detect.split import SplitSpec
from levercheck.detect.workspace import Workspace
from levercheck.readouts.sparse_logistic import fit_path


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    plant = Plant(n=200, seed=1)
    plant.signal(1, 7)
    plant.features[:, :, 2, 30] = plant.features[:, :, 1, 7]  # an exact double
    return plant.captured(tmp_path_factory.mktemp("refits") / "w", split_spec=SplitSpec(test_share=0.4, folds=3))


def refitter_of(ws, **settings):
    store = store_of(ws)
    training = Training(store, ProbeSpec(**{"mode": "1-vs-1", **settings}))
    rows = {r: ws.rows("split").filter(pl.col("role") == r).sort("item_id") for r in ("train", "test")}
    train, test = (Items.of(rows[r], store) for r in ("train", "test"))
    parts = [tuple(rows[r][c].to_list()) for c in ("category", "answer") for r in ("train", "test")]
    return Refitter(training, train, test, *parts, c=0.2, seed=5, heaviest=(1, 7))


def weights(rows):
    return {(r["layer"], r["index"]): r["value"] for r in rows if r["metric"] == "weight"}


def scores(rows):
    return np.array([r["value"] for r in rows if r["metric"] == "score"])


def test_the_plan_of_draws(planted):
    draws = refitter_of(planted).draws(11)
    count = {p: sum(d.purpose == p for d in draws) for p in ("bootstrap", "half", "control", "category", "without")}
    assert count == {"bootstrap": 11, "half": 4, "control": CONTROLS, "category": 4, "without": 1}
    some = replace(refitter_of(planted), test_categories=(None,) * 40 + refitter_of(planted).test_categories[40:])
    assert all(d.held_out for d in some.draws(0) if d.purpose == "category")
    assert [d.number for d in refitter_of(planted).draws(0) if d.purpose in ("bootstrap", "half")] == []


def test_a_draw_depends_on_seed_purpose_and_number_only(planted):
    one, other = refitter_of(planted), refitter_of(planted)
    for draw in (Draw("bootstrap", 3), Draw("half", 1), Draw("control", 2)):
        assert one.rows(draw) == other.rows(draw)
    assert weights(one.rows(Draw("bootstrap", 0))) != weights(one.rows(Draw("bootstrap", 1)))


def test_a_group_drawn_twice_counts_twice(planted):
    """Repeated rows of the store give the solution that a copied, repeated matrix gives."""
    refitter = refitter_of(planted)
    plan = refitter._bootstrap(Draw("bootstrap", 0))
    assert len(np.unique(plan.positions)) < len(plan.positions)
    fit, _ = plan.fit(refitter.training, 0.2)
    copied = refitter.training.matrix[refitter.training.answers(plan.positions)].astype(np.float64)
    same = fit_path(copied, plan.wrong.astype(float), [0.2])[0]
    assert fit.coefficients == pytest.approx(same.coefficients, abs=1e-4)


def test_whole_groups_are_drawn_and_halves_are_complementary(planted):
    refitter = refitter_of(planted)
    first, second = (refitter._half(Draw("half", k)) for k in (4, 5))
    assert not set(first.positions) & set(second.positions)
    assert set(first.positions) | set(second.positions) == set(refitter.train.positions)
    groups = dict(zip(refitter.train.positions.tolist(), refitter.train.groups.tolist(), strict=True))
    assert not {groups[p] for p in first.positions.tolist()} & {groups[p] for p in second.positions.tolist()}
    assert {r["c"] for r in refitter.rows(Draw("half", 4))} == {0.4}


def test_control_labels_follow_the_answer_string(tmp_path):
    plant = Plant(n=200, seed=3)
    plant.answer = [f"answer {k % 23}" for k in range(200)]
    ws = plant.captured(tmp_path / "w", split_spec=SplitSpec(test_share=0.4, folds=3, disjoint="question"))
    refitter = refitter_of(ws)
    plan = refitter._control(Draw("control", 0))
    label = dict(zip(refitter.train_answers, plan.wrong.tolist(), strict=True))
    assert 1 < len(label) < 24 and 0 < plan.wrong.sum() < len(plan.wrong)
    assert all(label[a] == w for a, w in zip(refitter.train_answers, plan.wrong.tolist(), strict=True))
    assert all(label.get(a, w) == w for a, w in zip(refitter.test_answers, plan.labels.tolist(), strict=True))
    rows = refitter.rows(Draw("control", 0))
    assert sum(r["metric"] == "label" for r in rows) == len(refitter.test.ids)


def test_a_category_is_left_out_of_training_and_alone_is_judged(planted):
    refitter = refitter_of(planted)
    plan = refitter._category(Draw("category", 0, "metal"))
    here = {i for i, c in zip(refitter.test.ids, refitter.test_categories, strict=True) if c == "metal"}
    kept = np.isin(refitter.train.positions, plan.positions)
    assert [c == "metal" for c in refitter.train_categories] == (~kept).tolist()
    assert {r.get("item_id") for r in refitter.rows(Draw("category", 0, "metal")) if r["metric"] == "score"} == here


@pytest.mark.parametrize(
    "settings", [{}, {"scale": True}, {"mode": "3-vs-1"}, {"solver": "liblinear", "intercept": "penalised"}]
)
def test_a_component_left_out_has_no_weight_and_its_double_takes_over(planted, settings):
    if settings.get("solver") == "liblinear":
        pytest.importorskip("sklearn")
    refitter = refitter_of(planted, **settings)
    rows = refitter.rows(Draw("without", 0, "L1:7"))
    assert (1, 7) not in weights(rows) and weights(rows)[2, 30] > 0
    everything = refitter.training.fit(refitter.train.positions, refitter.train.wrong, [0.2])[0]
    full = refitter.training.scores(*everything, refitter.test.positions)
    assert scores(rows) == pytest.approx(full, abs=2e-3)


def test_a_draw_of_one_class_is_a_row_that_says_so(planted):
    refitter = refitter_of(planted)
    only = np.flatnonzero(~refitter.train.wrong)
    object.__setattr__(refitter, "_members", [only])
    rows = refitter.rows(Draw("bootstrap", 0))
    assert [r["metric"] for r in rows] == ["failed"]


def test_the_nearest_double_is_found_outside_the_path(planted):
    refitter = refitter_of(planted)
    rows = component_rows(refitter.training, refitter.train, refitter.test, [(1, 7), (0, 0)])
    found = [r for r in rows if r["metric"] == "correlation"]
    assert (found[0]["other_layer"], found[0]["other_index"]) == (2, 30)
    assert found[0]["value"] == pytest.approx(1)
    matrix = refitter.training.matrix[refitter.training.answers(refitter.train.positions)]
    by_hand = np.corrcoef(matrix, rowvar=False)[0].copy()
    by_hand[0] = 0
    at = int(np.abs(by_hand).argmax())
    assert (found[1]["other_layer"] * NEURONS + found[1]["other_index"]) == at
    assert found[1]["value"] == pytest.approx(by_hand[at], abs=1e-5)


def test_an_interrupted_audit_continues_and_ends_in_the_same_bytes(tmp_path, monkeypatch):
    original, done, stop = Refitter.rows, [], [9]

    def counted(self, draw):
        if len(done) == stop[0]:
            raise KeyboardInterrupt
        done.append(draw)
        return original(self, draw)

    def planted(name):
        plant = Plant(n=160, seed=2)
        plant.signal(0, 3)
        return plant.write(tmp_path / name, split_spec=SplitSpec(test_share=0.4, folds=3))

    def written(ws):
        return (ws.root / "probes" / "default" / "audit" / "results.json").read_bytes()

    whole, cut = planted("whole"), planted("cut")
    audit_readout(whole, refits=5, seed=3)
    monkeypatch.setattr(Refitter, "rows", counted)
    with pytest.raises(KeyboardInterrupt):
        audit_readout(cut, refits=5, seed=3)
    assert len(done) == 9
    stop[0] = -1
    audit_readout(Workspace(cut.root, Silent()), refits=5, seed=3)
    assert len(set(done)) == len(done)
    assert len(done) == whole.rows("probes/default/refits").select("purpose", "draw").n_unique()
    assert written(whole) == written(cut)
