"""What a neuron says in words: its write vector read through the final norm and the unembedding ("logit lens").

    effect[v] = U[v] · (g ∘ w)        per unit of activation, in logits

w is the write vector in the residual stream, g the gain of the final norm (a layer norm's centring is applied too), U
the unembedding, tied to the embedding or not. What the layers in between do and the norm's input-dependent scale are
left out, so effects of one neuron compare with each other, not with those of another layer. An activation below zero,
which gated MLPs have as often as not, turns promotion into suppression. Any final soft-capping keeps the order.
After nostalgebraist (2020) and Geva et al. (2022, arXiv 2203.14680).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from levercheck.errors import UsageError
from levercheck.lm.model import LanguageModel
from levercheck.readouts.geometry import Components, norm_gain, write_vectors

FINAL_NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f", "final_norm")
_CHUNK = 64
_SPACES = ("Ġ", "▁")  # how vocabularies spell a leading space


@dataclass(frozen=True)
class TokenEffect:
    """One token and what a unit of activation adds to its logit."""

    id: int
    text: str
    effect: float


@dataclass(frozen=True)
class Words:
    """The tokens a neuron promotes and suppresses most, strongest first, at positive activation."""

    promoted: tuple[TokenEffect, ...]
    suppressed: tuple[TokenEffect, ...]


def final_norm(lm: LanguageModel) -> nn.Module:
    """The norm before the unembedding; UsageError when the trunk has none under a known name."""
    for name in FINAL_NORMS:
        module = getattr(lm.decoder, name, None)
        if isinstance(module, nn.Module):
            return module
    raise UsageError(f"{type(lm.decoder).__name__} has none of {FINAL_NORMS}: its tokens cannot be read")


def unembedding(lm: LanguageModel) -> torch.Tensor:
    """The matrix that makes logits, float [vocabulary, hidden]; rows that no token has are left out."""
    head = lm.model.get_output_embeddings()
    weight = getattr(head, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim != 2:
        raise UsageError(f"{type(lm.model).__name__} has no linear language-model head: its tokens cannot be read")
    known = len(lm.tokenizer) if lm.tokenizer is not None else len(weight)
    return weight.detach()[: min(known, len(weight))]


@torch.inference_mode()
def logit_effects(lm: LanguageModel, components: Components) -> torch.Tensor:
    """What a unit of each neuron's activation adds to every logit, float32 [components, vocabulary] on the CPU."""
    matrix = unembedding(lm)
    vectors = torch.from_numpy(write_vectors(lm, components))
    read = norm_gain(final_norm(lm), vectors.shape[1])(vectors).float()
    return (read.to(matrix.device) @ matrix.float().T).cpu()


def words(lm: LanguageModel, components: Components, tokens: int) -> list[Words]:
    """The `tokens` most promoted and most suppressed tokens of every component."""
    if tokens < 1:
        raise UsageError(f"{tokens} tokens asked for, expected at least 1")
    found: list[Words] = []
    for start in range(0, len(components), _CHUNK):
        effects = logit_effects(lm, components[start : start + _CHUNK])
        count = min(tokens, effects.shape[1])
        for row in effects:
            sides = []
            for largest in (True, False):
                values, ids = row.topk(count, largest=largest)
                pairs = zip(ids.tolist(), values.tolist(), strict=True)
                sides.append(tuple(TokenEffect(i, token_text(lm, i), value) for i, value in pairs))
            found.append(Words(*sides))
    return found


def token_text(lm: LanguageModel, token: int) -> str:
    """A token for people: leading space kept, nothing that drives a terminal, `<id>` where there is no text.

    Control, bidirectional and other invisible characters are written as escapes.
    """
    if lm.tokenizer is None:
        return f"<{token}>"
    text = lm.decode([token])
    spelled: Any = lm.tokenizer.convert_ids_to_tokens(token)
    if isinstance(spelled, str) and spelled.startswith(_SPACES) and not text.startswith(" "):
        text = " " + text
    if not text or "\ufffd" in text:
        return f"<{token}>"
    return printable(text)


def printable(text: str) -> str:
    """`text` with every character that cannot be seen, but the plain space, as a Python escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(texts: Sequence[str]) -> str:
    """Token texts in one line, each between marks that show leading spaces."""
    return " ".join(f"'{text}'" for text in texts)
