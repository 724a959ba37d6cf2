"""Predicted slopes against the engine's finite differences, and the null of sets that are never run."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from safetensors.numpy import load_file  # noqa: E402

from levercheck.errors import NotEnoughDataError, UsageError  # noqa: E402
from levercheck.interventions import build  # noqa: E402
from levercheck.interventions.controls import ControlSpec  # noqa: E402
from levercheck.interventions.controls.draw import Pool, draw_controls  # noqa: E402
from levercheck.interventions.spec import Edit, Intervention, Treatment  # noqa: E402
from levercheck.lm.places import O_PROJ_INPUT, RESID_POST, Site, head_shape, place  # noqa: E402
from levercheck.lm.saes.sae import Sae  # noqa: E402
from levercheck.readouts.attribution_rank import first_order  # noqa: E402
from levercheck.stats import mean  # noqa: E402
from levercheck.sweep.engine import Block, Engine  # noqa: E402
from levercheck.sweep.first_order import attribute_items, null_of, predicted, strongest  # noqa: E402
from levercheck.sweep.first_order_files import write_attribution  # noqa: E402
from levercheck.sweep.pair_items import PairItem  # noqa: E402

ITEMS = [
    PairItem("a", (5, 6, 7, 8, 9, 11), 3, 4, "x"),
    PairItem("b", (40, 41, 42), 60, 61, "x"),
    PairItem("c", (9, 9, 80, 12), 7, 70, "y"),
]
ONE = pytest.mark.parametrize("tiny", ["gemma2"], indirect=True)


def vectors(seed, *shape):
    made = np.random.default_rng(seed).normal(size=shape)
    return made / np.linalg.norm(made, axis=-1, keepdims=True)


def dictionary(lm):
    width = place(lm, Site(1, RESID_POST)).width
    w = np.random.default_rng(5).normal(0, 0.4, (width, 24)).astype(np.float32)
    zeros = np.zeros(24, np.float32), np.zeros(width, np.float32)
    return Sae(Site(1, RESID_POST), "standard", w, zeros[0], w.T.copy(), zeros[1])


def interventions(lm, sae):
    width, hidden = head_shape(lm)[2], place(lm, Site(0, RESID_POST)).width
    directions, sigma = {0: vectors(1, hidden), 2: vectors(2, hidden)}, {0: 0.4, 2: 1.5}
    head = {"indices": np.arange(width, 3 * width)}
    shift = {"heads": [(1, 3), (1, 0), (2, 2)], "directions": vectors(3, 3, width), "sigmas": [0.5, 1.0, 2.0]}
    return {
        "neurons": build.scale_neurons(lm, [(0, 1), (1, 2), (1, 30), (2, 5)]),
        "zeroed": build.replace_neurons(lm, [(0, 1), (2, 5), (2, 7)]),
        "heads": Intervention("scale", (Edit(Site(1, O_PROJ_INPUT), head),)),
        "shift": build.shift_heads(lm, **shift),
        "shift absolute": build.shift_heads(lm, **shift, unit="absolute"),
        "add": build.add_direction(lm, directions),
        "add sigma": build.add_direction(lm, directions, sigma=sigma, unit="sigma"),
        "add relative": build.add_direction(lm, {2: directions[2]}, unit="relative"),
        "sae": build.scale_latents(lm, [(sae, list(range(8)))]),
    }


@ONE
def test_predictions_are_the_initial_slopes(tiny):
    sae = dictionary(tiny)
    arrays = attribute_items(tiny, ITEMS, saes=[sae])
    prompts, step = [list(item.tokens) for item in ITEMS], 3e-3
    for name, one in interventions(tiny, sae).items():
        doses = [Treatment(((one, one.noop + sign * step),)) for sign in (-1, 1)]
        engine = Engine(tiny, [], prompts, doses)
        scored = engine.score(Block((0, 1, 2), (0, 1)), [(item.better, item.worse) for item in ITEMS])
        values = np.array([[s.logits[0] - s.logits[1] for s in row] for row in scored])
        measured = (values[:, 1] - values[:, 0]) / (2 * step)
        assert np.abs(measured).max() > 1e-3, name
        assert np.allclose(predicted(one, arrays), measured, atol=4e-3, rtol=3e-2), name


@ONE
def test_what_cannot_be_predicted_is_refused(tiny):
    arrays = attribute_items(tiny, ITEMS, families=("neurons",))
    hidden = place(tiny, Site(0, RESID_POST)).width
    with pytest.raises(UsageError, match="no first-order prediction"):
        predicted(build.ablate_direction(tiny, {1: vectors(0, hidden)}), arrays)
    with pytest.raises(UsageError, match="no first-order prediction"):
        predicted(build.replace_neurons(tiny, [(0, 1)], np.ones(tiny.shape)), arrays)
    with pytest.raises(UsageError, match="'residual' were not measured"):
        predicted(build.add_direction(tiny, {1: vectors(0, hidden)}), arrays)


@ONE
def test_the_null_finds_a_planted_effect_and_only_that(tiny):
    rng = np.random.default_rng(0)
    arrays = {"neurons": rng.normal(size=(3, *tiny.shape)).astype(np.float32)}
    target = build.scale_neurons(tiny, [(0, 3), (1, 4), (2, 5)])
    spec, pool = ControlSpec(draws=300), Pool(tiny.shape)
    plain = null_of(target, draw_controls(target, spec, pool), arrays, ITEMS)
    average = arrays["neurons"].mean(0)
    own = average[0, 3] + average[1, 4] + average[2, 5]
    assert plain.slope.value == pytest.approx(own, rel=1e-5) and plain.slope.clusters == 2
    assert plain.controls["mean"] == pytest.approx(average.mean(1).sum(), abs=0.2)
    assert plain.p > 0.02 and plain.attainable_p == pytest.approx(2 / 301)
    for layer, index in ((0, 3), (1, 4), (2, 5)):
        arrays["neurons"][:, layer, index] += 5
    planted = null_of(target, draw_controls(target, spec, pool, exclude=[(0, 7)]), arrays, ITEMS)
    assert planted.p == planted.attainable_p and planted.below.value == 1.0


@ONE
def test_one_gradient_serves_thousands_of_directions(tiny):
    arrays = attribute_items(tiny, ITEMS, families=("directions",))
    hidden = arrays["residual"].shape[-1]
    gradient = arrays["residual"][:, 1].mean(0).astype(np.float64)
    best = build.add_direction(tiny, {1: gradient})
    spec = ControlSpec(match="none", draws=2000)
    found = null_of(best, draw_controls(best, spec, Pool()), arrays, ITEMS)
    length = float(np.linalg.norm(gradient))
    assert found.slope.value == pytest.approx(length, rel=1e-5) and found.p == found.attainable_p
    assert found.controls["sd"] == pytest.approx(length / np.sqrt(hidden), rel=0.1)


def test_rates_of_false_alarms_are_what_p_says():
    rng = np.random.default_rng(2)
    ps = [first_order(table[0], table[1:]).p for table in rng.normal(size=(400, 120, 4))]
    assert 0.02 < np.mean(np.array(ps) <= 0.05) < 0.09
    with pytest.raises(NotEnoughDataError, match="at least 100"):
        first_order(np.zeros(4), np.zeros((20, 4)))


@ONE
def test_the_table_and_the_files_hold_the_largest_effects(tiny, tmp_path):
    sae = dictionary(tiny)
    arrays = attribute_items(tiny, ITEMS, saes=[sae])
    rows = strongest(arrays, 4, ITEMS)
    families = [row["family"] for row in rows]
    assert families == [f for f, n in (("neurons", 4), ("heads", 4), ("sae", 4), ("directions", 3)) for _ in range(n)]
    average = arrays["neurons"].mean(0, dtype=np.float64)
    first = rows[0]
    assert abs(first["effect"]) == pytest.approx(np.abs(average).max())
    assert average[first["layer"], first["index"]] == pytest.approx(first["effect"])
    assert first["low"] < first["effect"] < first["high"] and first["n"] == 3
    column = arrays["neurons"][:, first["layer"], first["index"]].astype(float)
    assert first["low"] == pytest.approx(mean(column, ["x", "x", "y"]).low)
    latent = next(row for row in rows if row["family"] == "sae")
    name = f"latents.{sae.site}"
    assert latent["layer"] == 1
    assert arrays[name].mean(0)[latent["index"]] == pytest.approx(latent["effect"], rel=1e-4)
    write_attribution(tmp_path / "x", arrays, ITEMS, rows, {"explains": "D"})
    again = load_file(tmp_path / "x" / "effects.safetensors")
    assert all(np.array_equal(again[key], array) for key, array in arrays.items()) and again.keys() == arrays.keys()
    table = list(csv.DictReader((tmp_path / "x" / "top.csv").read_text().splitlines()))
    assert [int(row["layer"]) for row in table] == [row["layer"] for row in rows]
    facts = json.loads((tmp_path / "x" / "attribution.json").read_text())
    assert facts["shapes"]["neurons"] == [3, *tiny.shape]
    with pytest.raises(UsageError, match="not empty"):
        write_attribution(tmp_path / "x", arrays, ITEMS, rows, {})
