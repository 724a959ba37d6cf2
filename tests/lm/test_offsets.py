"""Token offsets: every character is held by the tokens that decode to it, for real tokenizers and any text."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levercheck.lm.offsets import token_offsets, token_span

TEXTS = [
    "Paris",
    " The answer is Côte d'Ivoire.",
    "São Tomé and Príncipe",
    "Ḥalab (حلب), Syria",
    "東京都、日本",
    "👩‍👩‍👧 family 🇫🇷 flag",
    "O’Neill's \u201cquote\u201d",
    "e\u0301 as two code points",
    "\n\n tabs\tand  spaces  ",
    "Antananarivo" * 4,
]


@pytest.mark.parametrize("text", TEXTS)
def test_offsets_tile_the_text(smollm, text):
    tokens = smollm.encode(text)
    whole = smollm.decode(tokens)
    offsets = token_offsets(smollm.decode, tokens)
    assert len(offsets) == len(tokens)
    assert offsets[0][0] == 0 and offsets[-1][1] == len(whole)
    assert all(0 <= a[1] - b[0] <= 1 for a, b in itertools.pairwise(offsets))  # 1: a cut character


@pytest.mark.parametrize("text", TEXTS)
def test_span_holds_exactly_the_words_asked_for(smollm, text):
    tokens = smollm.encode(text)
    whole = smollm.decode(tokens)
    offsets = token_offsets(smollm.decode, tokens)
    for word in whole.split():
        start = whole.index(word)
        first, last = token_span(offsets, start, start + len(word))
        assert word in smollm.decode(tokens[first:last])
        if last - first > 1:  # no token at either end could be left out
            assert word not in smollm.decode(tokens[first + 1 : last])
            assert word not in smollm.decode(tokens[first : last - 1])


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_byte_level_tokenizer(pieces):
    """Tokens as arbitrary cuts of the text's bytes, the worst a byte-level tokenizer could do."""
    data = "".join(pieces).encode("utf-8", "surrogatepass")
    cuts = sorted({(i * 7) % (len(data) + 1) for i in range(len(pieces))} | {0, len(data)})
    parts = [data[a:b] for a, b in itertools.pairwise(cuts)]

    def decode(tokens):
        return b"".join(parts[t] for t in tokens).decode("utf-8", "replace")

    tokens = list(range(len(parts)))
    offsets = token_offsets(decode, tokens)
    assert offsets[-1][1] == len(decode(tokens))
    assert all(a <= b for a, b in offsets)
    assert all(0 <= a[1] - b[0] <= 1 for a, b in itertools.pairwise(offsets))


def test_a_character_split_over_tokens_belongs_to_all_of_them():
    parts = [b"x", "é".encode()[:1], "é".encode()[1:], b" y"]

    def decode(tokens):
        return b"".join(parts[t] for t in tokens).decode("utf-8", "replace")

    offsets = token_offsets(decode, [0, 1, 2, 3])
    assert token_span(offsets, 1, 2) == (1, 3)
    assert token_span(offsets, 0, 1) == (0, 1)
    with pytest.raises(ValueError, match="no token"):
        token_span(offsets, 9, 10)
