"""Training finds planted features, beats the mean on a model's own activations, and repeats itself bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import NotEnoughDataError, UsageError  # noqa: E402
from levercheck.lm.activations import per_token  # noqa: E402
from levercheck.lm.places import parse_site  # noqa: E402
from levercheck.readouts.sae_train import Recipe, fit_sae, train_sae  # noqa: E402

SITE = parse_site("L1.resid.post")


def explained(sae, x):
    out = sae.decode(sae.encode(x))
    return float(1 - (x - out).pow(2).sum() / (x - x.mean(0)).pow(2).sum())


def planted(tokens, seed, features):
    """Sparse sums of unit directions around a far mean; one token in fifty is a hundred times longer."""
    draw = torch.Generator().manual_seed(seed)
    on = torch.rand(tokens, len(features), generator=draw) < 0.06
    x = (on * torch.rand(on.shape, generator=draw)) @ features * 5 + 2.0
    long = torch.arange(tokens) % 50 == 7
    x[long] += 300 * features[0]
    return x, long


def test_planted_features_are_found():
    features = torch.nn.functional.normalize(torch.randn(40, 24, generator=torch.Generator().manual_seed(5)), dim=1)
    x, _ = planted(4000, 0, features)
    new, long = planted(2000, 1, features)
    sae = fit_sae(x, SITE, Recipe(latents=80, k=4, steps=250))
    assert explained(sae, new[~long]) > 0.85
    assert explained(sae, new[~long]) > 0.2 + explained(fit_sae(x, SITE, Recipe(latents=80, k=4, steps=1)), new[~long])
    out = sae.decode(sae.encode(new[long]))
    assert float(((new[long] - out).norm(dim=1) / new[long].norm(dim=1)).mean()) < 0.1  # long ones are learnt too
    closest = (torch.from_numpy(sae.w_dec) @ features.T).abs().amax(0)
    assert float((closest > 0.8).float().mean()) > 0.6
    np.testing.assert_allclose(np.linalg.norm(sae.w_dec, axis=1), 1, rtol=1e-5)
    assert (sae.kind, sae.k, sae.centred) == ("topk", 4, True)


def test_scale_makes_lengths_like_the_width():
    x = 1e-3 * torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    sae = fit_sae(x, SITE, Recipe(latents=64, k=6, steps=200))
    assert float((sae.scale * x).pow(2).sum(1).mean()) == pytest.approx(16, rel=0.01)
    assert explained(sae, x) > 0.4


@pytest.mark.parametrize("tiny", ["llama"], indirect=True)
def test_on_a_model(tiny):
    rng = np.random.default_rng(0)
    sequences = [rng.integers(3, 97, 16).tolist() for _ in range(120)]
    recipe = Recipe(latents=128, k=8, steps=80)
    sae = train_sae(tiny, SITE, sequences[:100], recipe)
    held = per_token(tiny, sequences[100:], SITE, [(0, 16)] * 20)
    assert explained(sae, held) > 0.4  # the mean explains 0
    assert float((sae.encode(held) > 0).sum(1).float().mean()) <= 8
    again = train_sae(tiny, SITE, sequences[:100], recipe)
    assert again.fingerprint == sae.fingerprint
    other = train_sae(tiny, SITE, sequences[:100], Recipe(latents=128, k=8, steps=80, seed=1))
    assert other.fingerprint != sae.fingerprint
    assert sae.facts["tokens"] == 1600
    assert sae.facts["model"] == tiny.identity


def test_refusals():
    x = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="k = 9 of 8"):
        fit_sae(x, SITE, Recipe(latents=8, k=9))
    with pytest.raises(NotEnoughDataError, match="100 tokens"):
        fit_sae(x, SITE, Recipe(latents=64, k=32))
    with pytest.raises(NotEnoughDataError, match="alike"):
        fit_sae(torch.ones(100, 8), SITE, Recipe(latents=8, k=2))
    x[3, 2] = float("nan")
    with pytest.raises(UsageError, match="not finite"):
        fit_sae(x, SITE, Recipe(latents=8, k=2))
