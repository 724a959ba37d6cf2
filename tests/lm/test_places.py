"""Sites: named alike everywhere, found in every architecture, watched exactly."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError  # noqa: E402
from levercheck.lm.activations import per_token, pooled, watching  # noqa: E402
from levercheck.lm.places import SITES, Site, head_shape, parse_site, place  # noqa: E402

SEQUENCES = [[5, 9, 13, 60, 22], [7, 7, 80], [90, 3, 3, 12, 50, 71, 8, 9]]


@pytest.mark.parametrize(
    ("text", "site"),
    [
        ("L3.resid.post", Site(3, "resid.post")),
        ("blocks.3.hook_resid_post", Site(3, "resid.post")),
        ("blocks.0.hook_resid_pre", Site(0, "resid.pre")),
        ("blocks.11.mlp.hook_post", Site(11, "mlp.down_proj.input")),
        ("blocks.2.attn.hook_z", Site(2, "attn.o_proj.input")),
        ("layers_output[7]", Site(7, "resid.post")),
        ("mlps_output[7]", Site(7, "mlp.out")),
    ],
)
def test_spellings(text, site):
    assert parse_site(text) == site
    assert parse_site(str(site)) == site


@pytest.mark.parametrize("text", ["L3", "resid.post", "L3.nowhere", "blocks.x.hook_z", ""])
def test_other_spellings_are_refused(text):
    with pytest.raises(UsageError, match="site"):
        parse_site(text)


def test_every_site_is_found_and_adds_up(tiny):
    """resid.post = resid.pre + attn.out + mlp.out: the sites are what they are called (but for parallel norms)."""
    seen = {}
    sites = [Site(1, name) for name in SITES]
    with watching(tiny, sites, lambda site, x: seen.__setitem__(site.name, x)), torch.inference_mode():
        tiny.decoder(input_ids=torch.tensor([SEQUENCES[0]]), use_cache=False)
    assert sorted(seen) == sorted(SITES)
    total = seen["resid.pre"] + seen["attn.out"] + seen["mlp.out"]
    assert (total - seen["resid.post"]).abs().max() < 1e-4
    layers, heads, width = head_shape(tiny)
    assert (layers, heads * width) == (3, seen["attn.o_proj.input"].shape[-1])


def test_both_norms_of_glm4_are_behind_their_blocks():
    import transformers

    from levercheck.lm.model import LanguageModel

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = transformers.AutoConfig.for_model(
        "glm4", vocab_size=97, num_key_value_heads=2, head_dim=8, pad_token_id=0, **sizes
    )
    torch.manual_seed(0)
    lm = LanguageModel("glm4", transformers.AutoModelForCausalLM.from_config(config).eval(), None, {})
    test_every_site_is_found_and_adds_up(lm)


def test_write_carries_the_input_on(tiny):
    for name in ("attn.o_proj.input", "mlp.down_proj.input"):
        where, caught = place(tiny, Site(1, name)), []
        handle = where.module.register_forward_hook(lambda m, a, o, c=caught: c.append((a[0], o)))
        with torch.inference_mode():
            tiny.decoder(input_ids=torch.tensor([SEQUENCES[0]]), use_cache=False)
        handle.remove()
        (x, y), bias = caught[0], getattr(where.module, "bias", None)
        assert (x @ where.write.T + (0 if bias is None else bias) - y).abs().max() < 1e-5


def test_pooled_equals_the_mean_of_tokens(tiny):
    sites = [Site(0, "resid.post"), Site(2, "mlp.down_proj.input")]
    regions = [(1, 4), (0, 3), (7, 8)]
    means = pooled(tiny, SEQUENCES, sites, regions)
    for site in sites:
        for row, (sequence, region) in enumerate(zip(SEQUENCES, regions, strict=True)):
            alone = per_token(tiny, [sequence], site, [region])
            assert alone.shape[0] == region[1] - region[0]
            assert (means[site][row] - alone.mean(0)).abs().max() < 1e-5


@pytest.mark.parametrize("region", [(0, 0), (2, 9), (-1, 2)])
def test_regions_outside_are_refused(tiny, region):
    with pytest.raises(UsageError, match="region"):
        pooled(tiny, [[1, 2, 3]], [Site(0, "resid.post")], [region])


def test_a_layer_outside_is_refused(tiny):
    with pytest.raises(UsageError, match="outside the model's 3 layers"):
        place(tiny, Site(3, "resid.post"))


def test_texts_longer_than_the_model_are_refused(tiny):
    assert tiny.context == 64
    with pytest.raises(UsageError, match="65 tokens does not fit into the model's 64 positions"):
        pooled(tiny, [[5] * 65], [Site(0, "resid.post")], [(0, 1)])
