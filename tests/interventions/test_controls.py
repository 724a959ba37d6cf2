"""Control draws: as many, elsewhere, alike, and the same again."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.interventions import controls
from levercheck.interventions.controls import log_scale

WIDTHS = [40, 60, 50]
TARGET = ((0, 3), (0, 4), (1, 7), (2, 9), (2, 10), (2, 11))
EXCLUDED = ((0, 5), (1, 8), (2, 12))


def skewed(seed=0, layers=3, members=1500):
    """Components whose norm, activation and frequency are skewed and go together, and a target from their upper end."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(layers, members))
    norm = np.exp(0.5 * shared + 0.2 * rng.normal(size=shared.shape))
    activation = np.exp(0.9 * shared + 0.3 * rng.normal(size=shared.shape))
    frequency = 1 / (1 + np.exp(-shared - 0.3 * rng.normal(size=shared.shape)))
    table = np.stack([log_scale(norm), log_scale(activation), frequency], axis=-1)
    target = [(layer, int(i)) for layer in range(layers) for i in np.argsort(-shared[layer])[8:40:4]]
    return table, tuple(target)


def gap(table, target, sets):
    """Largest standardised mean difference over covariates."""
    own = np.array([table[c] for c in target])
    others = np.array([[table[c] for c in one] for one in sets])
    spread = np.sqrt((own.var(0, ddof=1) + others.reshape(-1, own.shape[1]).var(0, ddof=1)) / 2)
    return float(np.abs((own.mean(0) - others.mean((0, 1))) / spread).max())


def draws(match, count, seed=1, target=TARGET, exclude=EXCLUDED):
    if match == "none":
        return controls.unconstrained(target, WIDTHS, exclude=exclude, draws=count, seed=seed)
    if match == "layer":
        return controls.layer_matched(target, WIDTHS, exclude=exclude, draws=count, seed=seed, distinct=True)
    table = [np.random.default_rng(9).normal(size=(width, 2)) for width in WIDTHS]
    return list(controls.matched(target, table, exclude=exclude, draws=count, seed=seed, caliper=1.5).sets)


@pytest.mark.parametrize("match", ["none", "layer", "activation"])
def test_sets_are_as_large_disjoint_from_target_and_exclusions_and_reproducible(match):
    sets = draws(match, 30)
    assert len(set(sets)) == 30
    for one in sets:
        assert len(set(one)) == len(TARGET) and one == tuple(sorted(one))
        assert not set(one) & {*TARGET, *EXCLUDED}
        assert all(0 <= index < WIDTHS[layer] for layer, index in one)
    assert draws(match, 5) == sets[:5]
    assert draws(match, 5, seed=2) != sets[:5]


@pytest.mark.parametrize("match", ["layer", "activation"])
def test_layers_keep_their_counts(match):
    wanted = Counter(layer for layer, _ in TARGET)
    assert all(Counter(layer for layer, _ in one) == wanted for one in draws(match, 20))


def test_unconstrained_sets_reach_every_component():
    reached = {c for one in draws("none", 400) for c in one}
    everything = {(layer, i) for layer, width in enumerate(WIDTHS) for i in range(width)}
    assert reached == everything - {*TARGET, *EXCLUDED}
    mean = np.mean([sum(layer == 1 for layer, _ in one) for one in draws("none", 400)])
    assert abs(mean - len(TARGET) * 58 / sum(w - n for w, n in zip(WIDTHS, (3, 2, 4), strict=True))) < 0.2


def test_layer_matched_draws_are_those_of_earlier_versions():
    expected = []
    for layer, count, gone in ((0, 2, {3, 4, 5}), (1, 1, {7, 8}), (2, 3, {9, 10, 11, 12})):
        expected.append((layer, count, [i for i in range(50) if i not in gone]))
    rng = np.random.default_rng([1, 0])
    first = [(at, int(i)) for at, n, pool in expected for i in np.sort(rng.choice(pool, n, replace=False))]
    assert controls.layer_matched(TARGET, 50, exclude=EXCLUDED, draws=3, seed=1)[0] == tuple(first)


def test_matching_removes_the_difference_that_chance_leaves():
    table, target = skewed()
    layer = controls.layer_matched(target, table.shape[1], exclude=(), draws=20, seed=0)
    found = controls.matched(target, table, exclude=(), draws=20, seed=0, nearest=10, caliper=0.6)
    assert gap(table, target, layer) > 1.5
    assert gap(table, target, found.sets) < 0.25
    assert len(set(found.sets)) == 20


def test_components_without_a_counterpart_are_reported():
    table = np.random.default_rng(0).normal(size=(1, 200, 2))
    table[0, 7] = [9.0, 9.0]
    found = controls.matched([(0, 7), (0, 8)], table, exclude=(), draws=4, seed=0, caliper=1.0)
    (miss,) = found.misses
    assert miss.component == (0, 7)
    others = (table[0] - table[0].mean(0)) / table[0].std(0)
    rest = np.delete(others, [7, 8], axis=0)
    nearest = rest[np.argmin(np.square(rest - others[7]).sum(1))]
    assert miss.distance == pytest.approx(np.abs(nearest - others[7]).max())
    assert all(len(one) == 2 for one in found.sets)


def test_a_counterpart_that_another_took_is_a_miss_too():
    table = np.array([[[0.0], [0.01], [0.02], [3.0], [3.1], [3.2], [-3.0], [-3.1]]])
    found = controls.matched([(0, 0), (0, 1)], table, exclude=(), draws=2, seed=0, caliper=0.1)
    assert {miss.component for miss in found.misses} <= {(0, 0), (0, 1)} and found.misses
    assert max(miss.distance for miss in found.misses) > 1
    assert not controls.matched([(0, 0)], table, exclude=(), draws=1, seed=0, caliper=0.1).misses


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: controls.unconstrained([(0, 0), (0, 1)], [3], exclude=(), draws=1, seed=0), "1 components are left"),
        (lambda: controls.unconstrained([(0, 0)], [6], exclude=(), draws=6, seed=0), "5 different sets"),
        (lambda: controls.layer_matched([(1, 0)], 2, exclude=[(1, 1)], draws=1, seed=0), "layer 1 has 0 components"),
        (lambda: controls.layer_matched([(0, 0)], 5, exclude=(), draws=5, seed=0, distinct=True), "4 different sets"),
        (lambda: controls.matched([(0, 0)], np.zeros((1, 4, 1)), exclude=(), draws=4, seed=0), "repeats earlier ones"),
        (lambda: controls.matched([(0, 0)], np.zeros((1, 1, 1)), exclude=(), draws=1, seed=0), "0 components left"),
        (lambda: controls.permuted([1, 0], draws=2, seed=0), "arranged in 2 ways"),
        (lambda: controls.permuted([1, 0, 1, 0], groups=[1, 2, 1, 2], draws=1, seed=0), "arranged in 1 ways"),
        (lambda: controls.isotropic({0: np.ones(1)}, draws=1, seed=0, orthogonal=True), "leave no room"),
        (
            lambda: controls.covariance_matched({0: np.ones(2)}, {0: np.eye(2)}, draws=1, seed=0),
            "2 activations of layer 0",
        ),
    ],
)
def test_too_small_pools_are_one_line(make, said):
    with pytest.raises(NotEnoughDataError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_isotropic_directions_keep_the_angles_between_layers():
    rng = np.random.default_rng(0)
    target = {layer: v / np.linalg.norm(v) for layer, v in enumerate(rng.normal(size=(3, 12)))}
    target[5] = target[0]
    for orthogonal in (False, True):
        found = controls.isotropic(target, draws=40, seed=3, orthogonal=orthogonal)
        for one in found:
            for a in target:
                for b in target:
                    assert one[a] @ one[b] == pytest.approx(target[a] @ target[b], abs=1e-10)
        along = np.array([[one[a] @ target[b] for a in target for b in target] for one in found])
        assert (np.abs(along).max() < 1e-10) == orthogonal
    again = controls.isotropic(target, draws=3, seed=3, orthogonal=True)
    assert all(np.array_equal(one[5], other[5]) for one, other in zip(again, found, strict=False))


def test_isotropic_directions_favour_no_side():
    found = np.stack([one[0] for one in controls.isotropic({0: np.eye(6)[0]}, draws=6000, seed=0)])
    assert np.abs(found.mean(0)).max() < 0.02
    assert np.abs(found.T @ found / len(found) - np.eye(6) / 6).max() < 0.01


def test_covariance_matched_directions_reproduce_the_covariance():
    rng = np.random.default_rng(0)
    factor = np.diag([3.0, 1.0, 0.5, 0.1]) @ rng.normal(size=(4, 4))
    activations = 7.0 + rng.normal(size=(2000, 4)) @ factor
    found = controls.covariance_matched({2: np.ones(4)}, {2: activations}, draws=8000, seed=0)
    drawn = np.stack([one[2] for one in found])
    raw = np.stack([np.random.default_rng([0, d]).normal(size=2000) for d in range(len(drawn))])
    raw = raw @ (activations - activations.mean(0)) / np.sqrt(1999)
    assert np.allclose(drawn, raw / np.linalg.norm(raw, axis=1, keepdims=True))
    wanted = np.cov(activations.T)
    assert np.abs(raw.T @ raw / len(raw) - wanted).max() < 0.06 * np.trace(wanted)
    leading = np.linalg.eigh(wanted)[1][:, -1]
    assert np.square(drawn @ leading).mean() > 2 / 4  # isotropic: 1/4
    factors = controls.covariance_matched({2: np.ones(4)}, {2: factor}, draws=4000, seed=0, factors=True)
    assert np.square(np.stack([one[2] for one in factors]) @ leading).mean() > 2 / 4


def test_covariance_matched_directions_cohere_across_layers():
    rng = np.random.default_rng(1)
    below = rng.normal(size=(200, 8))
    layers = {1: below, 2: below + 0.1 * rng.normal(size=below.shape)}
    target = {1: np.eye(8)[0], 2: np.eye(8)[0]}
    found = controls.covariance_matched(target, layers, draws=20, seed=0, orthogonal=True)
    assert min(one[1] @ one[2] for one in found) > 0.9
    assert max(abs(one[2] @ target[2]) for one in found) < 1e-12


def test_shuffled_labels_keep_group_counts_and_refits_see_them():
    labels = np.array([1, 0, 1, 0, 0, 0, 1, 1, 0, 1])
    groups = np.array(list("aaaabbbbbb"))
    found = controls.shuffled_refits(lambda y: y.copy(), labels, groups=groups, draws=12, seed=5)
    for one in found:
        for group in "ab":
            assert one[groups == group].sum() == labels[groups == group].sum()
    assert len({tuple(one) for one in found}) > 6 and labels.tolist() == [1, 0, 1, 0, 0, 0, 1, 1, 0, 1]
    again = controls.permuted(labels, groups=groups, draws=3, seed=5)
    assert all(np.array_equal(a, b) for a, b in zip(again, found, strict=False))
    assert {one[:4].sum() for one in controls.permuted(labels, draws=40, seed=0)} != {2}


def test_attainability_says_what_draws_can_show():
    found = controls.attainability(5)
    assert (found.one_sided, found.needed_one_sided, found.needed_two_sided) == (pytest.approx(1 / 6), 19, 39)
    assert "0.05 needs 19" in found.sentence
    assert "enough" in controls.ControlSpec(draws=39).attainable.sentence
    assert controls.attainability(19).one_sided <= 0.05 < controls.attainability(19).two_sided


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"match": "layers"}, "did you mean 'layer'"),
        ({"kind": "randomly"}, "did you mean 'random'"),
        ({"draws": 0}, "draws of a control is 0"),
        ({"caliper": 0.0}, "caliper"),
    ],
)
def test_wrong_specs_are_refused(change, said):
    with pytest.raises(UsageError, match=said):
        controls.ControlSpec(**change)


def test_specs_and_draws_need_no_torch():
    code = "import sys, levercheck.interventions.controls as c; c.ControlSpec(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
