"""The engine against formulas computed by hand: every operator, scope and architecture, token for token."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError  # noqa: E402
from levercheck.interventions import build  # noqa: E402
from levercheck.interventions.scopes import parse_scope  # noqa: E402
from levercheck.interventions.spec import BASELINE, Treatment  # noqa: E402
from levercheck.interventions.steering import steered  # noqa: E402
from levercheck.lm.places import O_PROJ_INPUT, RESID_POST, Site, head_shape, place  # noqa: E402
from levercheck.lm.saes.sae import Sae  # noqa: E402
from levercheck.lm.sample import Sampling  # noqa: E402
from levercheck.sweep.engine import Block, Engine  # noqa: E402
from levercheck.sweep.generate import generate  # noqa: E402

_spec = importlib.util.spec_from_file_location("formulas", Path(__file__).parents[1] / "interventions" / "formulas.py")
formulas = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(formulas)

PREFIX = [1, 44, 9, 23]
PROMPTS = [[5, 9, 13, 60, 22], [7, 7, 80], [90, 3, 3, 12, 50, 71, 8, 9], [33]]
NEW = 6
GREEDY = Sampling(samples=1, max_new_tokens=NEW, stop="")


class Words:
    """A tokenizer of single letters; no token ends a text."""

    eos_token_id = -1

    def decode(self, ids, **_):
        return " ".join(map(str, ids))


@pytest.fixture
def lm(tiny):
    tiny.model.generation_config.eos_token_id = None
    return dataclasses.replace(tiny, tokenizer=Words())


def unit(seed, *shape):
    vector = np.random.default_rng(seed).normal(size=shape)
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def dictionary(lm, kind):
    """A random dictionary at the second layer."""
    width = place(lm, Site(1, RESID_POST)).width
    rng = np.random.default_rng(5)
    w = rng.normal(0, 0.4, (width, 40)).astype(np.float32)
    extra = {"threshold": np.full(40, 0.2, np.float32)} if kind == "jumprelu" else {}
    extra |= {"k": 12} if kind == "topk" else {}
    b_dec = rng.normal(0, 0.1, width).astype(np.float32)
    return Sae(
        Site(1, RESID_POST),
        kind,
        w,
        rng.normal(0, 0.1, 40).astype(np.float32),
        w.T.copy(),
        b_dec,
        centred=True,
        scale=1.5,
        **extra,
    )


NEURONS = [(1, 40), (1, 2), (2, 0), (2, 47)]
HEADS = [(1, 3), (2, 0), (2, 1)]


def case(lm, name, scope, dose):
    """The intervention, and the same thing by hand."""
    where = parse_scope(scope)
    layers = lm.decoder.layers if hasattr(lm.decoder, "layers") else lm.decoder.h
    if name == "scale":

        def by_hand(positions):
            for layer in (1, 2):
                idx = [i for at, i in NEURONS if at == layer]

                def change(x, idx=idx):
                    y = x.clone()
                    y[..., idx] = dose * x[..., idx]
                    return y

                yield formulas.pre_hook(lm.sites[layer].module, lambda x, c=change: formulas.at(x, positions, c))

        return build.scale_neurons(lm, NEURONS, where), by_hand
    if name == "replace":
        means = np.random.default_rng(1).normal(size=lm.shape)

        def by_hand(positions):
            for layer in (1, 2):
                idx = [i for at, i in NEURONS if at == layer]

                def change(x, idx=idx, layer=layer):
                    y = x.clone()
                    goal = torch.tensor(means[layer, idx], dtype=torch.float32)
                    y[..., idx] = x[..., idx] + dose * (goal - x[..., idx])
                    return y

                yield formulas.pre_hook(lm.sites[layer].module, lambda x, c=change: formulas.at(x, positions, c))

        return build.replace_neurons(lm, NEURONS, means, where), by_hand
    if name in ("add", "relative", "ablate"):
        d = {layer: unit(layer, place(lm, Site(layer, RESID_POST)).width) for layer in (1, 2)}

        def by_hand(positions):
            for layer in (1, 2):
                v = torch.tensor(d[layer], dtype=torch.float32)

                def change(h, v=v):
                    if name == "add":
                        return h + dose * v
                    if name == "relative":
                        return h + dose * h.norm(dim=-1, keepdim=True) * v
                    return h - dose * (h @ v)[..., None] * v

                yield formulas.post_hook(layers[layer], lambda x, c=change: formulas.at(x, positions, c))

        if name == "ablate":
            return build.ablate_direction(lm, d, scope=where), by_hand
        return build.add_direction(lm, d, scope=where, unit="relative" if name == "relative" else "absolute"), by_hand
    if name == "heads":
        _, _, width = head_shape(lm)
        vectors, sigmas = unit(3, len(HEADS), width), [0.5, 2.0, 1.0]

        def by_hand(positions):
            for layer in (1, 2):

                def change(z, layer=layer):
                    y = z.clone()
                    for (at, head), vector, sigma in zip(HEADS, vectors, sigmas, strict=True):
                        if at == layer:
                            part = slice(head * width, (head + 1) * width)
                            y[..., part] += dose * sigma * torch.tensor(vector, dtype=torch.float32)
                    return y

                module = place(lm, Site(layer, O_PROJ_INPUT)).module
                yield formulas.pre_hook(module, lambda x, c=change: formulas.at(x, positions, c))

        return build.shift_heads(lm, HEADS, vectors, sigmas, scope=where), by_hand
    kind, mode = name.split("-")
    sae = dictionary(lm, kind)
    chosen = [3, 17, 21]

    def by_hand(positions):
        def change(h):
            t = {n: torch.tensor(getattr(sae, n)) for n in ("w_enc", "b_enc", "w_dec", "b_dec")}
            pre = (sae.scale * h - t["b_dec"]) @ t["w_enc"] + t["b_enc"]
            f = torch.relu(pre)
            if kind == "jumprelu":
                f = f * (pre > torch.tensor(sae.threshold))
            if kind == "topk":
                f = f * (f >= f.topk(12, dim=-1).values[..., -1:])
            g = f.clone()
            g[..., chosen] *= dose
            decoded, plain = ((a @ t["w_dec"] + t["b_dec"]) / sae.scale for a in (g, f))
            return decoded if mode == "full" else h + decoded - plain

        yield formulas.post_hook(layers[1], lambda x: formulas.at(x, positions, change))

    return build.scale_latents(lm, [(sae, chosen)], full=mode == "full", scope=where), by_hand


CASES = [
    ("scale", "all", 8.0), ("scale", "decode", -30.0), ("replace", "prompt", 6.0), ("add", "all", 3.0),
    ("add", "first_2", 6.0), ("relative", "all", 0.9), ("ablate", "all", 2.5), ("heads", "decode", 4.0),
    ("heads", "all", 4.0), ("heads", "first_3", 5.0), ("jumprelu-delta", "all", 9.0), ("jumprelu-full", "decode", 3.0),
    ("topk-delta", "all", 9.0), ("standard-full", "all", 1.0),
]  # fmt: skip


def answers(lm, treatments, **options):
    engine = Engine(lm, PREFIX, PROMPTS, treatments, **options)
    out = {}
    for block in engine.blocks():
        for p, row in zip(block.prompts, generate(engine, block, GREEDY, ["k"] * len(PROMPTS)), strict=True):
            for t, found in zip(block.treatments, row, strict=True):
                out[p, t] = found
    return out


@pytest.mark.parametrize(("name", "scope", "dose"), CASES)
def test_batched_shared_cached_generation_equals_the_formula(lm, name, scope, dose):
    intervention, by_hand = case(lm, name, scope, dose)
    noop = intervention.noop
    treatments = [Treatment(((intervention, dose),)), BASELINE, Treatment(((intervention, noop),))]
    found = answers(lm, treatments)
    changed = 0
    for number, prompt in enumerate(PROMPTS):
        wanted, _ = formulas.generate(lm, PREFIX + prompt, NEW, by_hand, scope)
        plain, _ = formulas.generate(lm, PREFIX + prompt, NEW, lambda _: [], scope)
        assert list(found[number, 0].tokens) == wanted
        assert list(found[number, 1].tokens) == plain
        if not name.endswith("full"):
            assert found[number, 2].tokens == found[number, 1].tokens
        changed += wanted != plain
    assert changed > 0, "the intervention changed no token: equality would prove nothing"
    for options in ({"share_trunk": False}, {"batch_tokens": 1}, {"batch_tokens": 12}):
        again = answers(lm, treatments, **options)
        assert {k: v.tokens for k, v in again.items()} == {k: v.tokens for k, v in found.items()}
        for key, one in again.items():
            other = found[key].receipt
            assert (one.receipt.prompt, one.receipt.decode) == (other.prompt, other.decode)
            if other.relative_dose is not None:
                assert one.receipt.relative_dose == pytest.approx(other.relative_dose, rel=1e-4, abs=1e-6)


def test_composition_applies_in_order(lm):
    """Two interventions at one site: the second sees what the first has done."""
    d = {1: unit(1, place(lm, Site(1, RESID_POST)).width)}
    add, ablate = build.add_direction(lm, d), build.ablate_direction(lm, d)
    both = [Treatment(((add, 5.0), (ablate, 1.0))), Treatment(((ablate, 1.0), (add, 5.0)))]
    engine = Engine(lm, [], PROMPTS, [*both, Treatment(((ablate, 1.0),)), BASELINE])
    first, second, alone, plain = zip(*engine.score(Block((0, 1, 2, 3), (0, 1, 2, 3)), [[3, 4, 5]] * 4), strict=True)
    gap = [np.abs(np.subtract(a.logits, b.logits)).max() for a, b in zip(first, alone, strict=True)]
    assert max(gap) < 1e-4  # what was added along d is removed again
    assert max(np.abs(np.subtract(a.logits, b.logits)).max() for a, b in zip(second, first, strict=True)) > 1e-2
    assert all(p.receipt.relative_dose is None for p in plain)


def test_foreign_generation_is_followed_with_padding_on_either_side(lm):
    """Hugging Face generate under `steered`, left-padded, gives the engine's tokens; receipts count no padding."""
    intervention, _ = case(lm, "add", "decode", 4.0)
    treatment = Treatment(((intervention, 4.0),))
    found = answers(lm, [treatment])
    plain = answers(lm, [BASELINE])
    whole = [PREFIX + p for p in PROMPTS]
    longest = max(map(len, whole))
    ids = torch.tensor([[0] * (longest - len(w)) + w for w in whole])
    mask = torch.tensor([[0] * (longest - len(w)) + [1] * len(w) for w in whole])
    with steered(lm, treatment) as hooks:
        made = lm.model.generate(
            ids, attention_mask=mask, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0
        )
        receipts = hooks.receipts()
    for row, tokens in enumerate(made[:, longest:].tolist()):
        assert tuple(tokens) == found[row, 0].tokens
        assert (receipts[row].prompt, receipts[row].decode) == (1, NEW - 1)
        assert receipts[row].relative_dose == pytest.approx(found[row, 0].receipt.relative_dose, rel=1e-3)
    assert any(found[key].tokens != plain[key].tokens for key in found)


def test_several_tokens_behind_a_cache_are_refused(lm):
    intervention, _ = case(lm, "scale", "all", 2.0)
    with steered(lm, Treatment(((intervention, 2.0),))), torch.inference_mode():
        cache = getattr(lm.model(input_ids=torch.tensor([[5, 6]]), use_cache=True), lm.cache_name)
        with pytest.raises(UsageError, match="expected one token per row"):
            lm.model(input_ids=torch.tensor([[7, 8]]), use_cache=True, **{lm.cache_name: cache})


@pytest.mark.parametrize("most", [1, 3])
def test_out_of_memory_halves_the_batch_and_changes_nothing(lm, most, monkeypatch):
    intervention, _ = case(lm, "scale", "all", 8.0)
    treatments = [BASELINE, *[Treatment(((intervention, dose),)) for dose in (0.0, 3.0, 8.0)]]
    wanted = answers(lm, treatments)
    whole, sizes = Engine.prefill, []

    def scarce(self, hooks, block, **options):
        rows = len(block.prompts) * len(block.treatments)
        sizes.append(rows)
        if rows > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return whole(self, hooks, block, **options)

    monkeypatch.setattr(Engine, "prefill", scarce)
    found = answers(lm, treatments)
    assert min(sizes) <= most < max(sizes)
    assert {k: v.tokens for k, v in found.items()} == {k: v.tokens for k, v in wanted.items()}


def test_other_errors_are_not_taken_for_a_lack_of_memory(lm, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Engine, "prefill", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        answers(lm, [BASELINE])


def test_a_dose_that_breaks_the_numbers_marks_its_rows_only(lm):
    intervention, _ = case(lm, "scale", "all", 1.0)
    treatments = [BASELINE, Treatment(((intervention, 3e38),)), Treatment(((intervention, 8.0),))]
    engine = Engine(lm, PREFIX, PROMPTS, treatments)
    for block in engine.blocks():
        for row in engine.score(block, [[3, 4]] * len(PROMPTS)):
            assert row[0].finite and row[2].finite
    found, alone = answers(lm, treatments), answers(lm, [treatments[0], treatments[2]])
    for prompt in range(len(PROMPTS)):
        assert found[prompt, 0].tokens == alone[prompt, 0].tokens
        assert found[prompt, 2].tokens == alone[prompt, 1].tokens
        assert found[prompt, 0].stop_reason == "length"
    broken = [found[p, 1] for p in range(len(PROMPTS)) if found[p, 1].stop_reason == "non_finite"]
    assert broken, "the dose broke nothing"
    for one in broken:
        assert (one.mean_logprob is None) == (one.tokens == ())  # an overflow that a norm hides breaks later tokens


def test_sampling_depends_on_key_and_seed_only(lm):
    """All treatments of a prompt share their draws, whatever the batch."""
    intervention, _ = case(lm, "scale", "all", 8.0)
    treatments = [BASELINE, Treatment(((intervention, 1.0),)), Treatment(((intervention, 8.0),))]
    sampling = dataclasses.replace(GREEDY, temperature=1.5)
    keys = [f"item-{i}" for i in range(len(PROMPTS))]

    def drawn(seed, tokens):
        engine, out = Engine(lm, PREFIX, PROMPTS, treatments, batch_tokens=tokens), {}
        for block in engine.blocks():
            rows = generate(engine, block, sampling, keys, greedy=False, seed=seed)
            out |= {(p, t): made.tokens for p, row in zip(block.prompts, rows, strict=True)
                    for t, made in zip(block.treatments, row, strict=True)}  # fmt: skip
        return out

    one, again, other = drawn(0, 2048), drawn(0, 1), drawn(1, 2048)
    assert one == again != other
    assert all(one[p, 0] == one[p, 1] for p in range(len(PROMPTS)))


def test_a_row_ends_at_its_own_end(lm):
    """An end token of one row leaves the others as they are."""
    plain = answers(lm, [BASELINE])
    end = plain[0, 0].tokens[2]
    lm.model.generation_config.eos_token_id = end
    ended = answers(dataclasses.replace(lm), [BASELINE])
    lm.model.generation_config.eos_token_id = None
    for key, row in plain.items():
        tokens = row.tokens
        cut = tokens[: tokens.index(end)] if end in tokens else tokens
        assert ended[key].tokens == cut
        assert ended[key].stop_reason == ("end" if end in tokens else "length")


@pytest.mark.parametrize("tiny", ["llama"], indirect=True)
def test_receipts_of_a_row_end_with_the_row(lm):
    """A row that ended is not measured on, however long its neighbours in the batch go on."""
    intervention, _ = case(lm, "add", "all", 3.0)
    treatment = Treatment(((intervention, 3.0),))
    free = answers(lm, [treatment])
    lm.model.generation_config.eos_token_id = free[3, 0].tokens[1]
    again = dataclasses.replace(lm)
    together, alone = answers(again, [treatment]), answers(again, [treatment], batch_tokens=1)
    lm.model.generation_config.eos_token_id = None
    assert {len(row.tokens) for row in together.values()} > {NEW}, "no row ended before the others"
    for key, row in together.items():
        ended = row.stop_reason == "end"
        assert row.receipt.decode == len(row.tokens) - (0 if ended else 1)
        assert row.receipt.decode == alone[key].receipt.decode
        assert row.receipt.relative_dose == pytest.approx(alone[key].receipt.relative_dose, rel=1e-4)


def test_prompts_without_tokens_of_their_own_are_refused(lm):
    with pytest.raises(UsageError, match="no token of its own"):
        Engine(lm, PREFIX, [[]], [BASELINE])


@pytest.mark.parametrize("name", ["scale", "add", "heads", "jumprelu-delta"])
@pytest.mark.parametrize("scope", ["all", "decode"])
def test_the_reference_runs_are_bit_identical(lm, name, scope):
    """Unhooked and hooked at the no-op dose, by the same arithmetic: what a study's instrument check rests on."""
    intervention, _ = case(lm, name, scope, 2.0)
    noop = Treatment(((intervention, intervention.noop),))
    found = []
    for treatment in (BASELINE, noop):
        engine = Engine(lm, PREFIX, PROMPTS, [treatment], share_prompt=False)
        rows = [row for block in engine.blocks() for row in engine.score(block, [[3, 4, 5]] * len(PROMPTS))]
        found.append([row[0].logits for row in rows])
    assert found[0] == found[1]
