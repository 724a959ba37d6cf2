"""Heads: probes against scikit-learn, gradients against finite differences, selections against their rules."""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import MissingError, NotEnoughDataError, UsageError  # noqa: E402
from levercheck.interventions.build import shift_heads  # noqa: E402
from levercheck.lm.places import O_PROJ_INPUT, Site, head_shape, place  # noqa: E402
from levercheck.readouts.artifact import Artifact, load_artifact, save_artifact  # noqa: E402
from levercheck.readouts.contrast import Example, Tokens, groups_of, labels_of, split  # noqa: E402
from levercheck.readouts.head_gradients import Continuation, Effects, head_effects  # noqa: E402
from levercheck.readouts.head_selection import (  # noqa: E402
    RANKINGS,
    head_interventions,
    k_grid,
    layer_matched_exist,
    ranked,
    select_heads,
)
from levercheck.readouts.heads import continuations, fit_heads, head_activations, heads_artifact  # noqa: E402
from levercheck.readouts.logistic import fit_probes  # noqa: E402

SEQUENCES = [[1, 44, 9, 23, 5], [1, 7, 80], [1, 90, 3, 3, 12, 50, 71, 8, 9], [1, 33, 20, 11]]
REGIONS = [(2, 5), (2, 3), (4, 9), (0, 4)]


def planted(n=160, layers=3, heads=4, width=6, at=(1, 2), strength=2.5, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2 == 1
    features = rng.normal(size=(n, layers, heads, width)).astype(np.float32)
    vector = np.zeros(width)
    vector[:2] = 0.6, -0.8
    features[labels, at[0], at[1]] += (strength * vector).astype(np.float32)
    examples = [Example(str(i), f"t{i}", None, int(labels[i]), f"g{i // 4}") for i in range(n)]
    return features, labels, examples, vector


def table(layers=4, heads=6, width=3, seed=0, **more):
    """A readout of heads with random numbers."""
    rng = np.random.default_rng(seed)
    n = layers * heads
    directions = rng.normal(size=(n, width))
    arrays = {
        "layers": np.repeat(np.arange(layers), heads),
        "heads": np.tile(np.arange(heads), layers),
        "directions": (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32),
        "sigma": rng.uniform(0.5, 2, n).astype(np.float32),
        "auroc": rng.uniform(0.4, 0.9, n),
        "cv_auroc": rng.uniform(0.4, 0.9, n),
        "cv_balanced_accuracy": rng.uniform(0.4, 0.9, n),
        "gradient": rng.normal(size=n),
        **more,
    }
    return Artifact("heads", arrays, {"model": {}})


@pytest.mark.parametrize(("items", "width", "c"), [(80, 5, 1.0), (40, 60, 1.0), (60, 8, 30.0), (70, 4, 0.01)])
def test_probes_agree_with_scikit_learn(items, width, c):
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(items)
    x = rng.normal(2, 3, (items, 9, width)).astype(np.float32)
    labels = rng.random(items) < 0.4
    x[labels, 3] += 1.5
    x[:, 5, 0] = 7.0  # a component that never changes
    found = fit_probes(x, labels, c=c)
    scores = found.scores(x)
    for site in range(9):
        z = x[:, site].astype(np.float64)
        deviation = z.std(0)
        z = (z - z.mean(0)) / np.where(deviation > 0, deviation, 1)
        other = linear.LogisticRegression(C=c, tol=1e-12, max_iter=20_000).fit(z, labels)
        assert np.allclose(found.weights[site], other.coef_[0], atol=2e-4)
        assert np.allclose(scores[:, site], other.decision_function(z), atol=2e-3)


def test_probes_converge_where_labels_are_separable_and_refuse_bad_data():
    x = np.linspace(-1, 1, 30).reshape(30, 1, 1)
    found = fit_probes(x, x[:, 0, 0] > 0, c=1e4)
    assert np.isfinite(found.weights).all() and found.weights[0, 0] > 5
    with pytest.raises(NotEnoughDataError, match="both labels"):
        fit_probes(x, np.ones(30, bool))
    with pytest.raises(UsageError, match="not finite"):
        fit_probes(np.where(np.arange(30)[:, None, None] == 4, np.inf, x), x[:, 0, 0] > 0)
    with pytest.raises(UsageError, match="C = 0"):
        fit_probes(x, x[:, 0, 0] > 0, c=0)


def test_chunks_do_not_change_probes(monkeypatch):
    from levercheck.readouts import logistic

    x, labels, _, _ = planted()
    flat = x.reshape(len(x), 12, 6)
    whole = fit_probes(flat, labels)
    monkeypatch.setattr(logistic, "CHUNK", 1)
    parts = fit_probes(flat, labels)
    assert np.allclose(whole.weights, parts.weights, atol=1e-9)


def test_a_planted_head_is_found_with_direction_and_sigma_by_hand():
    features, labels, examples, vector = planted()
    parts = split(examples, seed=2)
    found = fit_heads(features, labels, groups_of(examples), parts)
    artifact = heads_artifact(found, {"model": {}})
    assert ranked(artifact, "auroc")[0] == ranked(artifact, "balanced_accuracy")[0] == (1, 2)
    row = found.heads.index((1, 2))
    inside = features[parts.fit, 1, 2].astype(np.float64)
    own = labels[parts.fit]
    difference = inside[own].mean(0) - inside[~own].mean(0)
    d = difference / np.linalg.norm(difference)
    assert np.allclose(found.mass.directions[row], d) and d @ vector > 0.9
    assert np.isclose(found.mass.sigma[row], (inside @ d).std(ddof=0))
    assert (inside[own] @ d).mean() > (inside[~own] @ d).mean()
    assert found.auroc[row].low > 0.5 and found.balanced_accuracy[row].low > 0.5
    assert artifact.arrays["auroc_low"][row] < artifact.arrays["auroc"][row] < artifact.arrays["auroc_high"][row]


def test_ranks_do_not_see_the_held_out_part():
    features, labels, examples, _ = planted()
    parts = split(examples, seed=2)
    other = features.copy()
    other[~parts.fit] = np.random.default_rng(5).normal(size=other[~parts.fit].shape)
    first, second = (fit_heads(x, labels, groups_of(examples), parts) for x in (features, other))
    assert np.array_equal(first.cv_auroc, second.cv_auroc)
    assert np.array_equal(first.cv_balanced_accuracy, second.cv_balanced_accuracy)
    assert first.auroc[6].value > 0.8 > second.auroc[6].value


def test_a_dead_head_is_left_out_and_named():
    features, labels, examples, _ = planted()
    features[:, 2, 3] = 0
    parts = split(examples)
    found = fit_heads(features, labels, groups_of(examples), parts)
    assert found.left_out == [(2, 3)] and (2, 3) not in found.heads and len(found.heads) == 11
    assert heads_artifact(found, {"model": {}}).facts["left_out"] == [[2, 3]]
    with pytest.raises(UsageError, match="every head"):
        fit_heads(np.zeros_like(features), labels, groups_of(examples), parts)


def test_activations_of_every_architecture_whatever_the_batch(tiny):
    layers, heads, width = head_shape(tiny)
    together = head_activations(tiny, Tokens(SEQUENCES, REGIONS, {}))
    assert together.shape == (4, layers, heads, width)
    for i, (sequence, region) in enumerate(zip(SEQUENCES, REGIONS, strict=True)):
        seen = []
        sites = [place(tiny, Site(layer, O_PROJ_INPUT)) for layer in range(layers)]
        handles = [
            s.module.register_forward_pre_hook(lambda _m, args, seen=seen: seen.append(args[0][0])) for s in sites
        ]
        with torch.inference_mode():
            tiny.model(input_ids=torch.tensor([sequence]))
        for handle in handles:
            handle.remove()
        expected = np.stack([z[region[0] : region[1]].mean(0).reshape(heads, width).numpy() for z in seen])
        assert np.allclose(together[i], expected, atol=2e-6, rtol=1e-5)


def preference(lm, sides, factor=None):
    """J of one prompt in float64, with one head's output scaled at some positions."""
    means = {True: [], False: []}
    for one in sides:
        handles = []
        if factor is not None:
            (layer, head), value, where = factor
            width = head_shape(lm)[2]
            at = slice(head * width, (head + 1) * width)
            rows = slice(None) if where == "all" else slice(one.start - 1, one.start)

            def scale(_module, args, rows=rows, at=at, value=value):
                z = args[0].clone()
                z[:, rows, at] *= value
                return (z, *args[1:])

            handles.append(place(lm, Site(layer, O_PROJ_INPUT)).module.register_forward_pre_hook(scale))
        with torch.inference_mode():
            logp = lm.model(input_ids=torch.tensor([one.tokens])).logits[0].double().log_softmax(-1)
        for handle in handles:
            handle.remove()
        picked = [logp[at - 1, one.tokens[at]].item() for at in range(one.start, len(one.tokens))]
        means[one.good].append(np.mean(picked))
    return np.mean(means[True]) - np.mean(means[False])


@pytest.mark.parametrize("where", ["last_prompt", "all"])
def test_gradients_are_derivatives_of_the_preference(tiny, where):
    lm = dataclasses.replace(tiny, model=copy.deepcopy(tiny.model).double())
    prompt = [1, 44, 9, 23]
    sides = [
        Continuation("p", "g", [*prompt, 5, 60, 7], 4, True),
        Continuation("p", "g", [*prompt, 8], 4, True),
        Continuation("p", "g", [*prompt, 70, 71], 4, False),
        Continuation("alone", "h", [1, 2, 3], 2, True),  # nothing to compare with
    ]
    found = head_effects(lm, sides, where=where)
    assert found.values.shape == (1, 3, 4) and found.groups == ["g"]
    assert found.preference[0] == pytest.approx(preference(lm, sides[:3]), abs=1e-5)
    step = 1e-2  # norms and rotations stay in float32 inside
    for head in [(0, 0), (1, 3), (2, 2)]:
        up, down = (preference(lm, sides[:3], (head, 1 + s, where)) for s in (step, -step))
        assert found.values[(0, *head)] == pytest.approx((up - down) / (2 * step), rel=5e-3, abs=5e-5)
    assert np.abs(found.values).max() > 1e-3


def test_gradients_do_not_depend_on_the_batch(tiny, monkeypatch):
    from levercheck.readouts import head_gradients

    sides = [
        Continuation(str(p), str(p), [1, *range(3, 3 + p), end, *more], 1 + p, good)
        for p in (2, 5, 9)
        for end, more, good in ((40 + p, [], True), (50 + p, [6, 7], False))
    ]
    whole = head_effects(tiny, sides)
    monkeypatch.setattr(head_gradients, "GRADIENT_TOKENS", 1)
    alone = head_effects(tiny, sides)
    assert np.allclose(whole.values, alone.values, atol=2e-5)
    assert np.allclose(whole.preference, alone.preference, atol=2e-5)
    with pytest.raises(NotEnoughDataError, match="good and a bad"):
        head_effects(tiny, sides[::2])


def test_rankings_follow_the_fit_part_with_ties_to_the_lower_head():
    same = np.full(24, 0.7)
    artifact = table(cv_auroc=same, cv_balanced_accuracy=np.r_[np.full(20, 0.5), np.full(4, 0.6)])
    assert ranked(artifact, "auroc")[:6] == [(3, 2), (3, 3), (3, 4), (3, 5), (0, 0), (0, 1)]
    by_gradient = ranked(artifact, "gradient")
    values = {
        (int(a), int(b)): g
        for a, b, g in zip(*(artifact.arrays[n] for n in ("layers", "heads", "gradient")), strict=True)
    }
    assert [values[h] for h in by_gradient] == sorted(values.values(), reverse=True)
    arrays = {name: array for name, array in artifact.arrays.items() if name != "gradient"}
    with pytest.raises(MissingError, match="gradient"):
        ranked(Artifact("heads", arrays, {}), "gradient")


@pytest.mark.parametrize("target", RANKINGS)
def test_random_draws_exclude_the_target_and_keep_its_profile(target):
    artifact = table()
    top = select_heads(artifact, 6, target)
    for seed in range(12):
        free = select_heads(artifact, 6, "random", seed, target=target)
        assert len(set(free)) == 6 and not set(free) & set(top)
        assert free == select_heads(artifact, 6, "random", seed, target=target)
        try:
            matched = select_heads(artifact, 6, "layer_matched_random", seed, target=target)
        except NotEnoughDataError:
            assert not layer_matched_exist(artifact, 6, target)
            continue
        assert not set(matched) & set(top)
        assert Counter(layer for layer, _ in matched) == Counter(layer for layer, _ in top)
    assert len({tuple(select_heads(artifact, 6, "random", s, target=target)) for s in range(12)}) > 6


def test_draws_that_cannot_be_made_are_errors():
    artifact = table(cv_auroc=np.r_[np.full(5, 0.9), np.full(19, 0.5)])
    with pytest.raises(NotEnoughDataError, match="layer 0 has 1 heads outside the target, 5"):
        select_heads(artifact, 5, "layer_matched_random")
    assert not layer_matched_exist(artifact, 5)
    with pytest.raises(NotEnoughDataError, match="the readout has 10"):
        select_heads(artifact, 14, "random")
    with pytest.raises(UsageError, match="expected 1 to 24"):
        select_heads(artifact, 25)
    with pytest.raises(UsageError, match="did you mean 'gradient'"):
        select_heads(artifact, 3, "gradients")
    assert k_grid(artifact) == [8, 12, 16, 24]
    assert k_grid(table(layers=1, heads=4)) == [4]


def test_the_sigma_budget_is_matched_and_directions_keep_their_length():
    artifact = table()
    top, drawn = select_heads(artifact, 5), select_heads(artifact, 5, "random", 3)
    moved = head_interventions(artifact, drawn, budget=top)
    own = {
        (int(a), int(b)): s for a, b, s in zip(*(artifact.arrays[n] for n in ("layers", "heads", "sigma")), strict=True)
    }
    total = sum(own[h] for h in top)
    assert moved.sigmas.sum() == pytest.approx(total, rel=1e-6)
    factor = total / sum(own[h] for h in drawn)
    assert np.allclose(moved.sigmas, [own[h] * factor for h in drawn])
    isotropic = head_interventions(artifact, top, random_directions=1)
    assert np.allclose(np.linalg.norm(isotropic.directions, axis=1), 1, atol=1e-6)
    assert not np.allclose(isotropic.directions, head_interventions(artifact, top).directions)
    assert np.allclose(isotropic.sigmas, [own[h] for h in top])
    with pytest.raises(UsageError, match="not in the readout"):
        head_interventions(artifact, [(9, 9)])
    with pytest.raises(UsageError, match="named once"):
        head_interventions(artifact, [(0, 0), (0, 0)])


def test_chosen_heads_fit_the_model_they_are_for(tiny, tmp_path):
    layers, heads, width = head_shape(tiny)
    artifact = table(layers, heads, width)
    save_artifact(artifact, tmp_path)
    again = load_artifact(tmp_path)
    chosen = head_interventions(again, select_heads(again, 4))
    made = shift_heads(tiny, chosen.heads, chosen.directions, chosen.sigmas.tolist())
    assert sum(len(edit.arrays["indices"]) for edit in made.edits) == 4 * width


def test_heads_of_a_real_model_tell_true_from_false(smollm):
    from levercheck.cli.contrast_data import of_facts

    data = of_facts(60, seed=0)
    parts = split(data.examples, folds=3, held_out=0.4)
    features = head_activations(smollm, data.tokens(smollm, "plain", "last"))
    assert features.shape[1:] == (30, 9, 64)
    found = fit_heads(features, labels_of(data.examples), groups_of(data.examples), parts)
    sides = continuations(smollm, data.examples[:16], "plain", parts.fit[:16])
    effects = head_effects(smollm, sides)
    artifact = heads_artifact(found, {"model": {}}, effects)
    assert isinstance(effects, Effects) and effects.preference.mean() > 0  # the model prefers true answers
    at = {head: i for i, head in enumerate(found.heads)}
    top = [found.auroc[at[head]].value for head in select_heads(artifact, 16)]
    assert np.mean(top) > 0.6 > np.mean([found.auroc[at[h]].value for h in found.heads if h[0] < 5])
