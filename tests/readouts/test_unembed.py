from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError  # noqa: E402
from levercheck.lm.model import LanguageModel  # noqa: E402
from levercheck.readouts import unembed  # noqa: E402

COMPONENTS = [(0, 3), (1, 7), (2, 40)]


@pytest.fixture
def shaken(tiny):
    """Norm weights that are not all alike, so that leaving one out shows."""
    names = ("norm", "layernorm", "layer_norm", "ln_")
    kept = {n: p.clone() for n, p in tiny.model.named_parameters() if p.ndim == 1 and any(s in n for s in names)}
    torch.manual_seed(4)
    for name, parameter in tiny.model.named_parameters():
        if name in kept:
            parameter.data.add_(0.4 * torch.randn_like(parameter))
    yield tiny
    for name, parameter in tiny.model.named_parameters():
        if name in kept:
            parameter.data.copy_(kept[name])


def test_effects_are_the_models_own_logits_up_to_the_norms_scale(shaken):
    """The model's final norm and head, applied to ±t·w around zero, give t·effect/scale: a line with one slope."""
    head = shaken.model.get_output_embeddings()
    norm = unembed.final_norm(shaken)
    from levercheck.readouts.geometry import norm_gain, post_mlp_norm

    effects = unembed.logit_effects(shaken, COMPONENTS)
    assert effects.shape == (3, 97)
    for row, (layer, index) in zip(effects, COMPONENTS, strict=True):
        column = shaken.sites[layer].write[:, index]
        after = post_mlp_norm(shaken, layer)
        if after is not None:
            column = (column.double() * norm_gain(after[1], 32).gain).float()
        with torch.inference_mode():
            direct = (head(norm(100 * column)) - head(norm(-100 * column))) / 2
        slope = (direct @ row) / (row @ row)
        assert slope > 0
        assert torch.allclose(direct, slope * row, atol=1e-4 * float(direct.abs().max()))


@pytest.mark.parametrize("tiny", ["gemma2"], indirect=True)
def test_gemma_multiplies_by_one_plus_w(shaken):
    w = unembed.final_norm(shaken).weight.double()
    after = shaken.decoder.layers[1].post_feedforward_layernorm.weight.double()
    vector = shaken.sites[1].write[:, 7].double() * (1 + after) * (1 + w)
    assert shaken.model.get_output_embeddings().weight is shaken.model.get_input_embeddings().weight
    expected = shaken.model.get_input_embeddings().weight.double() @ vector
    assert torch.allclose(unembed.logit_effects(shaken, [(1, 7)])[0].double(), expected, atol=1e-5)


def test_words_are_the_ends_of_the_order(tiny):
    (found,) = unembed.words(tiny, [(1, 7)], 4)
    effects = unembed.logit_effects(tiny, [(1, 7)])[0]
    order = effects.argsort(descending=True).tolist()
    assert [t.id for t in found.promoted] == order[:4]
    assert [t.id for t in found.suppressed] == order[::-1][:4]
    assert found.promoted[0].effect == pytest.approx(float(effects.max()))
    assert found.promoted[0].text == f"<{order[0]}>"
    with pytest.raises(UsageError, match="at least 1"):
        unembed.words(tiny, [(1, 7)], 0)


class Vocabulary:
    """Tokens that would harm a terminal or say nothing."""

    TOKENS = ("Ġcity", "▁word", "\x1b[2J", "\u202eevil", "a\nb", "\ufffd", "", "plain")

    def __len__(self):
        return len(self.TOKENS)

    def convert_ids_to_tokens(self, token):
        return self.TOKENS[token]

    def decode(self, ids, clean_up_tokenization_spaces=False):
        return "".join(self.TOKENS[i].replace("Ġ", " ").replace("▁", "") for i in ids)


def test_tokens_are_rendered_safely(tiny):
    lm = LanguageModel(tiny.name, tiny.model, Vocabulary(), {})
    texts = [unembed.token_text(lm, i) for i in range(8)]
    assert texts == [" city", " word", "\\x1b[2J", "\\u202eevil", "a\\nb", "<5>", "<6>", "plain"]
    assert all(text.isprintable() for text in texts)
    assert unembed.quoted([" a", "b"]) == "' a' 'b'"


def test_rows_of_the_matrix_that_no_token_has_are_not_read(tiny):
    lm = LanguageModel(tiny.name, tiny.model, Vocabulary(), {})
    assert unembed.unembedding(lm).shape == (8, 32)
    (found,) = unembed.words(lm, [(0, 0)], 20)
    assert len(found.promoted) == 8


def test_a_planted_neuron_says_its_word(smollm):
    """A neuron made to write what one token alone answers to promotes that token first."""
    (token,) = smollm.encode(" Paris")
    write = smollm.sites[5].write
    kept = write[:, 9].clone()
    try:
        matrix = unembed.unembedding(smollm).double()
        alone = torch.linalg.solve(matrix.T @ matrix, matrix[token])
        write[:, 9] = (alone / alone.norm() / unembed.final_norm(smollm).weight.double()).float()
        (found,) = unembed.words(smollm, [(5, 9)], 3)
        assert found.promoted[0].text == " Paris"
        assert found.promoted[0].effect > 0 > found.suppressed[0].effect
    finally:
        write[:, 9] = kept
