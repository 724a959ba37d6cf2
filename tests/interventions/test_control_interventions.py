"""Control interventions against their target: the same treatment of other components, at the same dose."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError  # noqa: E402
from levercheck.interventions import build  # noqa: E402
from levercheck.interventions.controls import ControlSpec  # noqa: E402
from levercheck.interventions.controls.draw import Pool, components_of, draw_controls, family_of  # noqa: E402
from levercheck.interventions.scopes import parse_scope  # noqa: E402
from levercheck.interventions.spec import Treatment  # noqa: E402
from levercheck.interventions.writers import ablate_writers  # noqa: E402
from levercheck.lm.places import RESID_POST, Site, head_shape, place  # noqa: E402
from levercheck.lm.saes.sae import Sae  # noqa: E402
from levercheck.sweep.engine import Block, Engine  # noqa: E402

NEURONS = [(0, 3), (1, 40), (1, 2), (2, 0)]
HEADS = [(0, 1), (1, 3), (2, 2)]
ONE = pytest.mark.parametrize("tiny", ["llama"], indirect=True)
SCOPE = parse_scope("prompt")


def vectors(seed, *shape):
    made = np.random.default_rng(seed).normal(size=shape)
    return made / np.linalg.norm(made, axis=-1, keepdims=True)


def dictionary(lm, layer, latents):
    width = place(lm, Site(layer, RESID_POST)).width
    rng = np.random.default_rng(layer)
    w = rng.normal(0, 0.4, (width, latents)).astype(np.float32)
    zeros = np.zeros(latents, np.float32), np.zeros(width, np.float32)
    return Sae(Site(layer, RESID_POST), "standard", w, zeros[0], w.T.copy(), zeros[1])


def targets(lm):
    """One intervention per family and operator, with the pool its controls are drawn from."""
    width, heads = lm.shape[1], head_shape(lm)
    rng = np.random.default_rng(0)
    neurons = Pool(lm.shape, covariates=rng.normal(size=(*lm.shape, 2)), values=rng.normal(size=lm.shape))
    fitted = Pool(
        heads[:2],
        heads[2],
        covariates=rng.normal(size=(*heads[:2], 1)),
        head_directions=vectors(1, *heads),
        head_sigmas=rng.uniform(0.5, 2, heads[:2]),
    )
    plain = Pool(heads[:2], heads[2])
    saes = [dictionary(lm, 0, 30), dictionary(lm, 1, 50)]
    latents = Pool(covariates={s.site: rng.normal(size=(s.latents, 2)) for s in saes})
    hidden = place(lm, Site(0, RESID_POST)).width
    directions = {1: 3 * vectors(2, hidden), 2: vectors(3, hidden)}
    activations = Pool(activations={layer: rng.normal(size=(200, hidden)) for layer in directions})
    sigma = [0.5, 1.0, 4.0]
    assert width == 48
    return {
        "scale": (build.scale_neurons(lm, NEURONS, SCOPE), neurons),
        "replace": (build.replace_neurons(lm, NEURONS, neurons.values, SCOPE), neurons),
        "heads": (build.shift_heads(lm, HEADS, vectors(4, 3, heads[2]), sigma, scope=SCOPE), fitted),
        "heads plain": (build.shift_heads(lm, HEADS, vectors(4, 3, heads[2]), sigma, unit="absolute"), plain),
        "sae": (build.scale_latents(lm, [(saes[0], [1, 2]), (saes[1], [7])], scope=SCOPE), latents),
        "add": (build.add_direction(lm, directions, sigma={1: 0.5, 2: 2.0}, unit="sigma", scope=SCOPE), activations),
        "relative": (build.add_direction(lm, directions, unit="relative"), activations),
        "ablate": (build.ablate_direction(lm, directions, scope=SCOPE), activations),
        "writers": (ablate_writers(lm, directions[1], scope=SCOPE), activations),
    }


NAMES = ("scale", "replace", "heads", "heads plain", "sae", "add", "relative", "ablate", "writers")


@pytest.mark.parametrize(
    ("name", "match"),
    [(n, m) for n in NAMES for m in ("none", "layer", "activation") if (n, m) != ("heads plain", "activation")],
)
@ONE
def test_controls_are_the_target_with_other_components(tiny, name, match):
    target, pool = targets(tiny)[name]
    spec = ControlSpec(match=match, draws=6, seed=4, of="x", caliper=3.0)
    width = pool.head_width
    excluded = [(0, 0)] if name.startswith("heads") else [(0, 7), (1, 9)]
    found = draw_controls(target, spec, pool, exclude=excluded)
    assert len({control.fingerprint for control in found}) == 6
    for number, control in enumerate(found):
        assert (control.operator, control.scope, control.unit) == (target.operator, target.scope, target.unit)
        assert control.facts["draw"] == number and control.facts["of"] == "x" and control.facts["match"] == match
        assert control.fingerprint != target.fingerprint
        if family_of(target) == "direction":
            assert control.sites == target.sites
            if name == "writers":  # one direction everywhere stays one direction
                drawn = np.stack([edit.arrays["direction"] for edit in control.edits])
                assert np.allclose(drawn, drawn[0], atol=1e-6)
            continue
        own, others = components_of(target, width), components_of(control, width)
        assert len(others) == len(own) and not set(others) & {*own, *excluded}
        if match != "none":
            assert Counter(at for at, _ in own) == Counter(at for at, _ in others)
    more = draw_controls(target, ControlSpec(match=match, draws=9, seed=4, caliper=3.0), pool, exclude=excluded)
    assert [c.fingerprint for c in more[:6]] == [c.fingerprint for c in found]


def budget(control, width):
    values = np.concatenate([e.arrays["values"].reshape(-1, width) for e in control.edits])
    sigma = [e.arrays["sigma"].reshape(-1, width)[:, 0] for e in control.edits if control.unit == "sigma"]
    lengths = np.linalg.norm(values, axis=1)
    return float((lengths * (np.concatenate(sigma) if sigma else 1)).sum())


@ONE
def test_random_heads_spend_the_targets_dose(tiny):
    for name in ("heads", "heads plain"):
        target, pool = targets(tiny)[name]
        for kind in ("random", "directions"):
            for control in draw_controls(target, ControlSpec(kind=kind, draws=4), pool):
                assert budget(control, pool.head_width) == pytest.approx(budget(target, pool.head_width), rel=1e-5)
                same = components_of(control, pool.head_width) == components_of(target, pool.head_width)
                assert same == (kind == "directions")
    target, pool = targets(tiny)["heads"]
    (control,) = draw_controls(target, ControlSpec(draws=1), pool)
    (edit, *_) = control.edits
    head = components_of(control, pool.head_width)[0]
    assert np.allclose(edit.arrays["values"][: pool.head_width], pool.head_directions[head], atol=1e-6)


def test_direction_controls_have_the_targets_measured_dose(tiny):
    target, pool = targets(tiny)["add"]
    for spec in (ControlSpec(draws=2, orthogonal=True), ControlSpec(draws=2, match="activation")):
        found = draw_controls(target, spec, pool)
        engine = Engine(tiny, [], [[5, 6, 7, 8]], [Treatment(((one, 0.7),)) for one in (target, *found)])
        own, *others = engine.score(Block((0,), (0, 1, 2)), [[3, 4]])[0]
        for other in others:
            assert other.receipt.change == pytest.approx(own.receipt.change, rel=1e-4)
            assert other.logits != own.logits


@ONE
def test_replaced_neurons_get_their_own_values(tiny):
    target, pool = targets(tiny)["replace"]
    (control,) = draw_controls(target, ControlSpec(draws=1), pool)
    for edit in control.edits:
        assert np.allclose(edit.arrays["values"], pool.values[edit.site.layer, edit.arrays["indices"]])
    zero = build.replace_neurons(tiny, NEURONS)
    (control,) = draw_controls(zero, ControlSpec(draws=1), pool)
    assert not any(edit.arrays["values"].any() for edit in control.edits)


@pytest.mark.parametrize(
    ("name", "spec", "change", "said"),
    [
        ("scale", {"match": "activation"}, {"covariates": None}, "needs statistics"),
        ("scale", {}, {"shape": None}, "need the model's shape"),
        ("scale", {"kind": "directions"}, {}, "use random"),
        ("scale", {"kind": "shuffled"}, {}, "shuffled_refits"),
        ("replace", {}, {"values": None}, "values of every neuron"),
        ("heads", {}, {"head_width": None}, "head width"),
        ("heads", {}, {"head_width": 5}, "does not cover whole heads"),
        ("sae", {"match": "activation"}, {"covariates": {}}, "no statistics of the dictionary"),
        ("add", {"match": "activation"}, {"activations": None}, "needs activations"),
    ],
)
@ONE
def test_a_pool_without_the_arrays_a_spec_needs_is_one_line(tiny, name, spec, change, said):
    target, pool = targets(tiny)[name]
    arrays = {f: getattr(pool, f) for f in Pool.__dataclass_fields__} | change
    with pytest.raises(UsageError, match=said) as caught:
        draw_controls(target, ControlSpec(draws=2, **spec), Pool(**arrays))
    assert "\n" not in str(caught.value)
