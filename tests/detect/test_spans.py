"""Where the answer stands in a response: every way to write one, for right and wrong answers alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.detect.spans import find_alias, trimmed, whole

TRIMMED = [
    ("Paris", "Paris"),
    (" Paris.", "Paris"),
    ("The answer is Paris.", "Paris"),
    ("The correct answer is: **Paris**", "Paris"),
    ("My final answer: Paris!", "Paris"),
    ("Answer: 42", "42"),
    ("It's the Nile", "the Nile"),
    ("It’s the Nile.", "the Nile"),
    ("“Hamlet”", "Hamlet"),
    ("- Paris", "- Paris"),
    ("Paris (France)", "Paris (France)"),
    ("(Paris)", "Paris"),
    ("`H2O`", "H2O"),
    ("Côte d'Ivoire.", "Côte d'Ivoire"),
    ("O’Neill", "O’Neill"),
    ("東京。", "東京。"),
    ("'s-Hertogenbosch", "s-Hertogenbosch"),
    ("3.14", "3.14"),
    ("The answer is", "The answer is"),
    ("The answer is.", "The answer is"),
    ("Paris\n\nIt lies on the Seine.", "Paris"),
    ("  ", ""),
    ("...", ""),
    ("", ""),
    ("\n\nParis", "Paris"),
]


@pytest.mark.parametrize(("text", "content"), TRIMMED)
def test_trimmed(text, content):
    start, stop = trimmed(text)
    assert text[start:stop] == content


@given(st.text(max_size=60))
def test_trimmed_never_leaves_the_text(text):
    start, stop = trimmed(text)
    assert 0 <= start <= stop <= len(text)
    assert text[start:stop] == text[start:stop].strip(" .,!\n")


WHOLE = [
    ("Paris", True),
    ("The capital is Paris, which is on the Seine river bank", False),
    ("one two three four five six seven eight", True),
    ("one two three four five six seven eight nine", False),
    ("Paris\nLyon", False),
    ("\nParis\n", True),
    ("?!", False),
]


@pytest.mark.parametrize(("text", "found"), WHOLE)
def test_whole_looks_at_the_words_only(text, found):
    assert isinstance(whole(text), tuple) == found


ALIASES = [
    ("I think it is Paris, in France.", ["Paris"], "Paris"),
    ("Paris; yes, Paris.", ["Paris"], "Paris"),
    ("She moved to New  York City.", ["New York", "New York City"], "New  York City"),
    ("the artist went to a party", ["art"], None),
    ("It was O’Neill who wrote it", ["O'Neill"], "O’Neill"),
    ("It was O'Neill who wrote it", ["O’Neill"], "O'Neill"),
    ("PARIS is right", ["paris"], "PARIS"),
    ("C++ (a language)", ["C++"], "C++"),
    ("It costs $5.00 (five)", ["$5.00"], "$5.00"),
    ("In São Paulo", ["São Paulo"], "São Paulo"),
    ("nothing", [], None),
    ("nothing", ["", "  "], None),
]


@pytest.mark.parametrize(("text", "aliases", "found"), ALIASES)
def test_alias(text, aliases, found):
    at = find_alias(text, aliases)
    assert (None if at is None else text[at[0] : at[1]]) == found
    if at:
        assert at[0] == text.index(found)  # the first mention
