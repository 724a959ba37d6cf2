"""Baked weights against hooks: equal logits and tokens where baking is exact, one clear line where it is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")
import transformers  # noqa: E402

from levercheck.errors import UsageError  # noqa: E402
from levercheck.interventions import build  # noqa: E402
from levercheck.interventions.bake import bake  # noqa: E402
from levercheck.interventions.scopes import parse_scope  # noqa: E402
from levercheck.interventions.spec import Intervention, Treatment  # noqa: E402
from levercheck.interventions.steering import steered  # noqa: E402
from levercheck.interventions.writers import ablate_writers  # noqa: E402
from levercheck.lm.places import ATTN_OUT, MLP_OUT, RESID_PRE, head_shape  # noqa: E402

IDS = torch.tensor([[5, 9, 13, 60, 22, 7, 81], [90, 3, 3, 12, 50, 71, 8]])
NEURONS = [(0, 3), (1, 40), (1, 2), (2, 47)]
HEADS = [(1, 3), (2, 0), (2, 1)]


def hidden(lm):
    return int(lm.sites[0].write.shape[0])


def unit(seed, *shape):
    vector = np.random.default_rng(seed).normal(size=shape)
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def made(lm, name):
    """The intervention and a dose that changes much."""
    directions = {1: unit(1, hidden(lm)), 2: unit(2, hidden(lm))}
    means = np.random.default_rng(1).normal(size=lm.shape) * 3
    if name == "scale":
        return build.scale_neurons(lm, NEURONS), 8.0
    if name == "replace":
        return build.replace_neurons(lm, NEURONS, means), 0.7
    if name == "zero":
        return build.replace_neurons(lm, NEURONS), 1.0
    if name == "add":
        return build.add_direction(lm, directions, sigma={1: 2.0, 2: 0.5}, unit="sigma"), 3.0
    if name == "add-pre":
        return build.add_direction(lm, {2: directions[2]}, site=RESID_PRE), 4.0
    if name == "add-attn":
        return build.add_direction(lm, directions, site=ATTN_OUT), 4.0
    if name == "heads":
        return build.shift_heads(lm, HEADS, unit(3, len(HEADS), head_shape(lm)[2]), [0.5, 2.0, 1.0]), 4.0
    if name == "ablate":
        return ablate_writers(lm, directions[1]), 1.0
    if name == "ablate-part":
        return build.ablate_direction(lm, directions, site=MLP_OUT), 1.6
    assert name == "ablate-post"
    return build.ablate_direction(lm, dict.fromkeys(range(3), directions[1])), 1.0


NO_BIAS, NORM, STREAM = "no setting that adds one", "a norm is not linear", "is not exact in weights"
TIED = "shares its matrix"
LLAMA = {"ablate-post": STREAM}
MISTRAL = LLAMA | dict.fromkeys(("replace", "add", "add-pre", "add-attn", "heads"), NO_BIAS)
GEMMA = {"ablate": NORM, "ablate-part": NORM, "add-attn": NORM, "add": NORM, "add-pre": NORM, "ablate-post": STREAM}
GEMMA |= {"replace": NO_BIAS}
REFUSED = {
    "llama": LLAMA,
    "gpt2": {"ablate": TIED, "ablate-post": STREAM},
    "gpt_neox": {"ablate-post": STREAM},
    "mistral": MISTRAL,
    "qwen2": MISTRAL,
    "gemma2": GEMMA,
    "gemma3": GEMMA,
    "gemma3_text": GEMMA,
}
CASES = ("scale", "replace", "zero", "add", "add-pre", "add-attn", "heads", "ablate", "ablate-part", "ablate-post")


def logits(model, ids=IDS):
    with torch.no_grad():
        return model(input_ids=ids).logits.double()


@pytest.mark.parametrize("name", CASES)
def test_baked_weights_equal_hooks_or_are_refused(tiny, name, tmp_path):
    intervention, dose = made(tiny, name)
    folder = tmp_path / "baked"
    before = {n: t.clone() for n, t in tiny.model.state_dict().items()}
    reason = REFUSED[tiny.name].get(name)
    if reason is not None:
        with pytest.raises(UsageError, match=reason) as caught:
            bake(tiny, intervention, dose, folder)
        assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())
        if reason != TIED:
            return
    record = bake(tiny, intervention, dose, folder, untie=reason == TIED)
    assert all(torch.equal(before[n], t) for n, t in tiny.model.state_dict().items()), "the loaded model was changed"
    again = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert type(again) is type(tiny.model)
    plain = logits(tiny.model)
    with steered(tiny, Treatment(((intervention, dose),))):
        hooked = logits(tiny.model)
    baked = logits(again)
    assert float((baked - hooked).abs().max()) < 2e-5 * float(hooked.abs().max())
    assert float((hooked - plain).abs().max()) > 2e-2, "no effect: equality would prove nothing"
    ids = IDS
    for _ in range(5):
        with steered(tiny, Treatment(((intervention, dose),))):
            token = logits(tiny.model, ids)[:, -1].argmax(-1)
        assert torch.equal(token, logits(again, ids)[:, -1].argmax(-1))
        ids = torch.cat([ids, token[:, None]], 1)
    assert bool(record["caution"]) == any(n.endswith(".bias") and n not in before for n in record["changed"])
    for zero in record["zero_biases"]:
        assert not again.state_dict()[zero].any()
    assert json.loads((folder / "levercheck.json").read_text()) == record


def test_what_is_never_exact_is_refused(tiny, tmp_path):
    d = {1: unit(1, hidden(tiny))}
    relative = build.add_direction(tiny, d, unit="relative")
    cases = [
        (build.scale_neurons(tiny, NEURONS, parse_scope("decode")), 3.0, "scope decode"),
        (build.scale_neurons(tiny, NEURONS), 1.0, "no-op"),
        (relative, 0.2, "relative dose"),
        (build.add_direction(tiny, {0: d[1]}, site=RESID_PRE), 1.0, "first layer"),
        (ablate_writers(tiny, d[1]), float("nan"), "finite"),
    ]
    for intervention, dose, message in cases:
        with pytest.raises(UsageError, match=message):
            bake(tiny, intervention, dose, tmp_path / "x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "theirs.txt").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        bake(tiny, build.scale_neurons(tiny, NEURONS), 3.0, tmp_path / "full")
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


def test_two_edits_that_name_one_place_are_both_checked(tiny, tmp_path):
    """The input of a layer is the output of the one below: neither edit may hide the other."""
    if REFUSED[tiny.name].get("ablate") == NORM:
        pytest.skip("no ablation of all writers there")
    d, e = unit(1, hidden(tiny)), unit(2, hidden(tiny))
    above = build.ablate_direction(tiny, {2: d}, site=RESID_PRE).edits
    below = build.ablate_direction(tiny, {1: e}).edits
    for more in (below + above, above + below):
        edits = ablate_writers(tiny, d).edits + more
        with pytest.raises(UsageError, match=STREAM):
            bake(tiny, Intervention("ablate", edits), 1.0, tmp_path / "x", untie=True)


def test_settings_that_transformers_will_not_save_do_not_stop_a_bake(tiny, tmp_path, monkeypatch):
    settings = transformers.GenerationConfig(temperature=0.6, top_p=0.9)
    monkeypatch.setattr(tiny.model, "generation_config", settings)
    bake(tiny, build.scale_neurons(tiny, NEURONS), 3.0, tmp_path / "x")
    saved = json.loads((tmp_path / "x" / "generation_config.json").read_text())
    assert not saved.get("do_sample") and "temperature" not in saved and settings.temperature == 0.6


def test_the_current_directory_is_refused(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="new directory"):
        bake(tiny, build.scale_neurons(tiny, NEURONS), 3.0, Path())
