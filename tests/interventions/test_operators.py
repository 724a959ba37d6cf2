"""Operators: what an intervention must have, and one added from outside."""

from __future__ import annotations

from importlib import metadata

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError  # noqa: E402
from levercheck.interventions import build  # noqa: E402
from levercheck.interventions.operators import BUILT_IN, OPERATORS, operator  # noqa: E402
from levercheck.interventions.scopes import Scope, parse_scope  # noqa: E402
from levercheck.interventions.spec import Edit, Intervention, Treatment  # noqa: E402
from levercheck.interventions.steering import steered  # noqa: E402
from levercheck.lm.batches import last_logits  # noqa: E402
from levercheck.lm.places import Site  # noqa: E402

SITE = Site(1, "resid.post")


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(OPERATORS, "_found", dict(OPERATORS._found))
    return OPERATORS


def test_every_built_in_operator_is_registered():
    assert len(BUILT_IN) == 6
    assert {"scale", "shift", "replace", "add", "ablate", "sae_delta", "sae_full"} <= set(OPERATORS.names())
    with pytest.raises(ValueError, match="registered twice"):
        OPERATORS.register("add")(OPERATORS.find("add"))


def test_a_plug_in_adds_an_operator(tiny, registry, monkeypatch):
    """Mirror: h <- (1 - 2 dose) h, written outside, loaded when it is asked for."""
    import sys
    import types

    plug_in = types.ModuleType("plug_in_of_a_test")

    def load():
        class Mirror:
            def __init__(self, dose):
                self.dose = dose

            def __call__(self, z, mask):
                return torch.where(torch.ones_like(z, dtype=bool) if mask is None else mask, z * (1 - 2 * self.dose), z)

            def select(self, rows):
                return Mirror(self.dose[rows])

        @operator("mirror", noop=0.0, arrays=(), reach="whole")
        def mirror(rows, _columns, _width, device):
            return Mirror(torch.tensor([[[0.0 if r is None else r.dose]] for r in rows], device=device))

        return mirror

    class Point:
        name, value = "mirror", "plug_in_of_a_test"

        @staticmethod
        def load():
            return load()

    monkeypatch.setitem(sys.modules, "plug_in_of_a_test", plug_in)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [Point] if group == "levercheck.operators" else [])
    made = Intervention("mirror", (Edit(SITE, {}),))
    prompts = [[5, 9, 13, 60, 22]]
    plain = last_logits(tiny, prompts, use_cache=False)
    with steered(tiny, Treatment(((made, 0.0),))):
        assert torch.equal(last_logits(tiny, prompts, use_cache=False), plain)
    with steered(tiny, Treatment(((made, 1.0),))):
        assert (last_logits(tiny, prompts, use_cache=False) - plain).abs().max() > 1e-3


def test_unknown_operators_name_the_nearest():
    with pytest.raises(UsageError, match=r"unknown operator .scael. .did you mean .scale."):
        Intervention("scael", (Edit(SITE, {"indices": np.array([1])}),))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Intervention("scale", ()), "no edits: it would change nothing"),
        (lambda: Intervention("scale", (Edit(SITE, {}),)), "has no indices, which scale needs"),
        (lambda: Intervention("scale", (Edit(SITE, {"indices": np.array([1])}),) * 2), "two edits at one site"),
        (lambda: Intervention("add", (Edit(SITE, {"direction": np.array([np.nan])}),)), "not finite"),
        (lambda: Intervention("scale", (Edit(SITE, {"indices": np.array([1])}),), unit="sigma"), "unit 'sigma'"),
        (lambda: Intervention("add", (Edit(SITE, {"direction": np.ones(2)}),), unit="sigma"), "has no sigma"),
        (lambda: Intervention("sae_delta", (Edit(SITE, {"latents": np.array([1])}),)), "has no dictionary"),
        (lambda: Scope("first_n"), "only first_n has an n"),
        (lambda: Scope("all", 3), "only first_n has an n"),
        (lambda: parse_scope("first_0"), "of at least 1"),
        (lambda: parse_scope("first_²"), "unknown"),
        (lambda: parse_scope("last"), "scope 'last' is unknown"),
    ],
)
def test_mistakes_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_doses_must_be_finite(tiny):
    with pytest.raises(UsageError, match="expected a finite number"):
        Treatment(((build.scale_neurons(tiny, [(0, 1)]), float("nan")),))


def test_builders_check_shapes(tiny):
    with pytest.raises(UsageError, match=r"has shape \[3\], expected \[32\]"):
        build.add_direction(tiny, {1: np.ones(3)})
    with pytest.raises(UsageError, match="points nowhere"):
        build.ablate_direction(tiny, {1: np.zeros(32)})
    with pytest.raises(UsageError, match="outside the model's 3 layers of 4 heads"):
        build.shift_heads(tiny, [(0, 4)], np.ones((1, 8)), [1.0])
    with pytest.raises(UsageError, match="expected \\[1, 8\\]"):
        build.shift_heads(tiny, [(0, 1)], np.ones((1, 5)), [1.0])
    with pytest.raises(UsageError, match="1 standard deviations for 2 heads"):
        build.shift_heads(tiny, [(0, 1), (0, 2)], np.ones((2, 8)), [1.0])
    with pytest.raises(UsageError, match=r"L1\.resid\.post has no sigma"):
        build.add_direction(tiny, {1: np.ones(32)}, sigma={0: 1.0}, unit="sigma")
    with pytest.raises(UsageError, match=r"shape \[1, 1\], expected \[3, 48\]"):
        build.replace_neurons(tiny, [(0, 1)], np.ones((1, 1)))


def test_fingerprints_follow_what_is_computed(tiny):
    one = build.scale_neurons(tiny, [(0, 1), (2, 5)])
    assert one.fingerprint == build.scale_neurons(tiny, [(2, 5), (0, 1)]).fingerprint
    others = [
        build.scale_neurons(tiny, [(0, 1), (2, 6)]),
        build.scale_neurons(tiny, [(0, 1), (2, 5)], parse_scope("decode")),
        build.replace_neurons(tiny, [(0, 1), (2, 5)]),
    ]
    assert len({one.fingerprint, *(o.fingerprint for o in others)}) == 4
    assert Treatment(((one, 1.0),)).fingerprint != Treatment(((one, 2.0),)).fingerprint
