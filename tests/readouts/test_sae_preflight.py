"""The numbers of a preflight against the same numbers computed by hand, one sequence at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import NotEnoughDataError, UsageError  # noqa: E402
from levercheck.lm.places import parse_site, place  # noqa: E402
from levercheck.lm.saes.sae import Sae  # noqa: E402
from levercheck.readouts import sae_preflight as module  # noqa: E402
from levercheck.readouts.sae_preflight import preflight  # noqa: E402

RNG = np.random.default_rng(1)
SEQUENCES = [[1, *RNG.integers(3, 97, size).tolist()] for size in (5, 9, 9, 14, 3, 20)]
SITES = ["L1.resid.post", "L0.mlp.down_proj.input"]  # an output and an input


def dictionary(lm, site, noise):
    """Reconstructs exactly where noise is 0: every coordinate's positive and negative part is a latent."""
    width = place(lm, parse_site(site)).width
    eye = np.eye(width, dtype=np.float32)
    w_enc, w_dec = np.hstack([eye, -eye]), np.vstack([eye, -eye])
    w_dec = w_dec + noise * RNG.normal(0, 1 / np.sqrt(width), w_dec.shape).astype(np.float32)
    return Sae(parse_site(site), "standard", w_enc, np.zeros(2 * width, np.float32), w_dec, np.zeros(width, np.float32))


def run(lm, where, ids, change=None):
    """(losses [positions - 1], the site's activations [positions, width]) with `change` applied to those."""
    seen = []

    def passed(x):
        seen.append(x[0].clone())
        return x if change is None else change(x)

    if where.side == "input":
        handle = where.module.register_forward_pre_hook(lambda _m, args: (passed(args[0]), *args[1:]))
    else:

        def after(_m, _a, out):
            return (passed(out[0]), *out[1:]) if isinstance(out, tuple) else passed(out)

        handle = where.module.register_forward_hook(after)
    with torch.no_grad():
        logits = lm.model(input_ids=torch.tensor([ids])).logits[0].double()
    handle.remove()
    return -logits[:-1].log_softmax(-1)[torch.arange(len(ids) - 1), ids[1:]], seen[0]


@pytest.mark.parametrize("site", SITES)
def test_against_by_hand(tiny, site, monkeypatch):
    monkeypatch.setattr(module, "LONG", 1.2)  # so that some activations count as long
    sae = dictionary(tiny, site, 0.3)
    where = place(tiny, sae.site)
    clean = [run(tiny, where, s) for s in SEQUENCES]
    limit = 1.2 * torch.cat([x[1:] for _, x in clean]).norm(dim=1).median()
    kept = [(x.norm(dim=1) <= limit) & (torch.arange(len(x)) >= 1) for _, x in clean]
    x = torch.cat([x[k] for (_, x), k in zip(clean, kept, strict=True)]).double()
    latent = sae.encode(x.float())
    out = sae.decode(latent).double()
    losses = {"nll_clean": [], "nll_spliced": [], "nll_zero": [], "nll_everywhere": []}
    for s, (loss, _), k in zip(SEQUENCES, clean, kept, strict=True):

        def splice(z, k=k):
            return torch.where(k[None, :, None], sae.decode(sae.encode(z)), z)

        def zero(z, k=k):
            return torch.where(k[None, :, None], torch.zeros_like(z), z)

        inside = k[:-1]
        losses["nll_clean"].append(loss[inside])
        losses["nll_spliced"].append(run(tiny, where, s, splice)[0][inside])
        losses["nll_zero"].append(run(tiny, where, s, zero)[0][inside])
        losses["nll_everywhere"].append(run(tiny, where, s, lambda z: sae.decode(sae.encode(z)))[0][inside])
    by_hand = {name: float(torch.cat(parts).mean()) for name, parts in losses.items()}
    by_hand["explained"] = float(1 - (x - out).pow(2).sum() / (x - x.mean(0)).pow(2).sum())
    by_hand["cosine"] = float(torch.cosine_similarity(x, out, dim=1).mean())
    by_hand["length"] = float(out.norm(dim=1).sum() / x.norm(dim=1).sum())
    by_hand["l0"] = float((latent > 0).sum(1).double().mean())
    by_hand["dead"] = float(((latent > 0).sum(0) == 0).double().mean())
    gap = by_hand["nll_zero"] - by_hand["nll_clean"]
    found = preflight(tiny, sae, SEQUENCES, first=1)
    if gap > 0:
        by_hand["recovered"] = (by_hand["nll_zero"] - by_hand["nll_spliced"]) / gap
    else:
        assert found.estimates["recovered"].value is None
    for name, value in by_hand.items():
        estimate = found.estimates[name]
        assert estimate.value == pytest.approx(value, rel=2e-4, abs=2e-5), name
        if estimate.low is not None:
            assert estimate.low <= estimate.value <= estimate.high
    assert found.tokens == len(x)
    assert found.first == len(SEQUENCES)
    assert found.long == sum(len(s) - 1 for s in SEQUENCES) - len(x) > 0
    assert by_hand["nll_spliced"] != pytest.approx(by_hand["nll_clean"], abs=1e-4)  # the splice does something


@pytest.mark.parametrize("tiny", ["llama"], indirect=True)
def test_first_positions_of_models_with_start_tokens(tiny):
    class Words:
        bos_token_id = 1

        def __call__(self, text):
            return {"input_ids": [1]}

    lm = dataclasses.replace(tiny, tokenizer=Words())
    found = preflight(lm, dictionary(lm, SITES[0], 0.1), SEQUENCES)
    assert found.first == len(SEQUENCES)
    assert found.tokens + found.long == sum(len(s) - 1 for s in SEQUENCES)


@pytest.mark.parametrize("tiny", ["llama"], indirect=True)
def test_verdicts(tiny):
    own = []  # what the model itself writes: zeroing a layer must cost it something
    for start in range(3, 11):
        ids = [1, start]
        with torch.no_grad():
            while len(ids) < 10:
                ids.append(int(tiny.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        own.append(ids)
    exact = preflight(tiny, dictionary(tiny, SITES[0], 0.0), own, first=1)
    assert exact.verdict == "pass", exact.reasons
    assert exact.estimates["recovered"].value == pytest.approx(1, abs=1e-6)
    assert exact.estimates["explained"].value == pytest.approx(1, abs=1e-9)
    sae = dictionary(tiny, SITES[0], 0.0)
    short = dataclasses.replace(sae, w_dec=0.05 * sae.w_dec)
    failed = preflight(tiny, short, own, first=1)
    assert failed.verdict == "fail"
    assert "0.05 times as long" in " ".join(failed.reasons)
    silent = dataclasses.replace(sae, b_enc=np.full(sae.latents, -1e6, np.float32))
    assert "no latent is ever on" in preflight(tiny, silent, own, first=1).reasons
    broken = dataclasses.replace(sae, w_dec=np.full_like(sae.w_dec, 1e38))
    found = preflight(tiny, broken, own, first=1)
    assert found.verdict == "fail"
    assert "not finite" in found.reasons[0]
    elsewhere = dataclasses.replace(sae, facts={"model": {"weights": "others"}})
    assert "another model (weights differs)" in " ".join(preflight(tiny, elsewhere, own, first=1).reasons)
    assert preflight(tiny, sae, [[1], *own], first=1).to_dict()["sequences_too_short"] == 1
    one = preflight(tiny, sae, own[:1], first=1)
    assert one.verdict == "warn"
    assert one.estimates["explained"].low is None
    assert set(exact.to_dict()["estimates"]) == set(exact.estimates)


@pytest.mark.parametrize("tiny", ["llama"], indirect=True)
def test_what_cannot_be_measured(tiny):
    sae = dictionary(tiny, "L0.mlp.down_proj.input", 0.0)
    with pytest.raises(UsageError, match=r"48 wide, expected 32"):
        preflight(tiny, dataclasses.replace(sae, site=parse_site("L0.resid.post")), SEQUENCES, first=1)
    with pytest.raises(NotEnoughDataError, match="3 tokens"):
        preflight(tiny, sae, [[1, 2]], first=1)
    with pytest.raises(UsageError, match="outside"):
        preflight(tiny, dataclasses.replace(sae, site=parse_site("L9.mlp.down_proj.input")), SEQUENCES, first=1)
