"""Questions about things that do not exist: names are built from syllables, so nobody can know the answer.

Every question is a function of the seed and its own number alone, so a longer list begins with the shorter one.
"""

from __future__ import annotations

import hashlib
from functools import cache

from levercheck.benchmarks.answers import normalise
from levercheck.benchmarks.facts import load_facts
from levercheck.benchmarks.questions import Question
from levercheck.errors import UsageError

GENERATOR = "nonexist/v1"
DEFAULT_COUNT = 500
MOST = 100_000
KINDS: tuple[str, ...] = ("person", "place", "book", "species", "medicine", "battle", "treaty")

_CONSONANTS = ("b", "c", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "y", "z")
_CLUSTERS = ("br", "dr", "gl", "kr", "pl", "qu", "sk", "th", "tr", "zh")
_VOWELS = ("a", "e", "i", "o", "u", "ae", "ou", "ei")
_CODAS = ("", "", "l", "n", "r", "s")
_ENDS = {
    "person": ("ell", "ovin", "arsk", "umen", "idge", "ontz", "eyra", "ulvan"),
    "place": ("avik", "ombra", "esk", "orvale", "untha", "ildra", "ozna", "etham"),
    "genus": ("aria", "opsis", "odon", "ella", "urus", "icola", "anthus", "ophis"),
    "epithet": ("ensis", "oides", "ifera", "ulata", "icans", "escens", "orum", "ata"),
    "medicine": ("ozane", "idrexin", "umivar", "elquine", "arbitol", "oxivene", "etaprim", "ulocine"),
}
_BOOK_NOUNS = ("Lanterns", "Cartographers", "Orchards", "Letters", "Winters", "Tides", "Clockmakers", "Gardens",
               "Daughters", "Bridges", "Shadows", "Bells")  # fmt: skip
_ANIMALS = ("beetle", "frog", "moth", "lizard", "snail", "fern", "orchid", "fish", "spider", "bat")
_TEMPLATES: dict[str, tuple[str, ...]] = {
    "person": (
        "In which year was the physicist {name} born?",
        "In which city did the painter {name} grow up?",
        "What was the composer {name}'s best-known opera called?",
        "Which instrument did the musician {name} play?",
        "For which discovery is the chemist {name} remembered?",
        "Which university did the historian {name} teach at?",
    ),
    "place": (
        "In which country is the town of {name}?",
        "Which river flows through the city of {name}?",
        "How high is Mount {name} in metres?",
        "What is the main industry of the town of {name}?",
        "Which sea surrounds the island of {name}?",
    ),
    "book": (
        'Who wrote the novel "{name}"?',
        'In which year was the book "{name}" first published?',
        'What is the name of the main character of the novel "{name}"?',
        'In which city is the novel "{name}" set?',
    ),
    "species": (
        "On which continent does the {animal} {name} live?",
        "Who first described the {animal} {name}?",
        "What colour is the {animal} {name}?",
        "To which family does the {animal} {name} belong?",
    ),
    "medicine": (
        "Which disease is the medicine {name} prescribed for?",
        "Which company developed the drug {name}?",
        "What is the most common side effect of {name}?",
        "In which year was the drug {name} approved?",
    ),
    "battle": (
        "Who won the Battle of {name} in {year}?",
        "Which general commanded the losing army in the Battle of {name} ({year})?",
        "During which war was the Battle of {name} fought in {year}?",
    ),
    "treaty": (
        "Which two states signed the Treaty of {name} in {year}?",
        "Which war was ended by the Treaty of {name} ({year})?",
        "Which territory changed hands under the Treaty of {name} of {year}?",
    ),
}


class _Draws:
    """Numbers that depend on a key and on how many were drawn before."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._count = 0

    def below(self, bound: int) -> int:
        """A whole number from 0 to bound - 1."""
        found = hashlib.sha256(f"{self._key}\x00{self._count}".encode()).digest()
        self._count += 1
        return int.from_bytes(found[:8], "big") % bound

    def one(self, options: tuple[str, ...]) -> str:
        """One of the options."""
        return options[self.below(len(options))]


def _word(draws: _Draws, ending: str, syllables: int) -> str:
    """Syllables and an ending; a cluster of consonants follows a vowel only, so that the word can be said."""
    word = ""
    for _ in range(syllables):
        onsets = _CONSONANTS if word and word[-1] in "lnrs" else _CONSONANTS + _CLUSTERS
        word += draws.one(onsets) + draws.one(_VOWELS) + draws.one(_CODAS)
    return word + draws.one(_CONSONANTS) + draws.one(_ENDS[ending])


def _name(draws: _Draws, kind: str) -> str:
    if kind == "person":
        return f"{_word(draws, 'person', 1).title()} {_word(draws, 'person', 2).title()}"
    if kind == "book":
        return f"The {draws.one(_BOOK_NOUNS)} of {_word(draws, 'place', 2).title()}"
    if kind == "species":
        return f"{_word(draws, 'genus', 2).title()} {_word(draws, 'epithet', 1)}"
    return _word(draws, "medicine", 2) if kind == "medicine" else _word(draws, "place", 2).title()


@cache
def known_words() -> frozenset[str]:
    """Every normalised word of the embedded facts: their questions, entities and accepted answers."""
    texts = (text for fact in load_facts() for text in (fact.question, fact.entity, *fact.aliases))
    return frozenset(word for text in texts for word in normalise(text).split())


def _collides(name: str) -> bool:
    own = normalise(name).split()
    invented = [word for word in own if word not in _book_words()]
    return not invented or any(word in known_words() for word in invented)


@cache
def _book_words() -> frozenset[str]:
    return frozenset(["of", *(noun.lower() for noun in _BOOK_NOUNS)])


def _item(seed: int, number: int) -> tuple[str, Question]:
    kind = KINDS[number % len(KINDS)]
    for attempt in range(1000):
        draws = _Draws(f"{GENERATOR}\x00{seed}\x00{kind}\x00{number}\x00{attempt}")
        name = _name(draws, kind)
        if not _collides(name):
            break
    else:
        raise RuntimeError(f"no free name for question {number} of seed {seed}")
    year = str(1100 + draws.below(800))
    text = draws.one(_TEMPLATES[kind]).format(name=name, animal=draws.one(_ANIMALS), year=year)
    return name, Question(f"{kind}:{seed}-{number:05d}", text, (), kind, f"{kind}:{normalise(name)}", False)


def fabricate(count: int, seed: int = 0) -> list[Question]:
    """`count` questions about fabricated entities, the kinds in turn; `category` is the kind, `aliases` are empty.

    No made-up word is a word of the embedded facts. Names are not checked against the world: with two made-up
    syllables and an ending a real one is improbable, not impossible. Should two questions get the same name, they
    share the entity. `UsageError` unless 1 <= count <= 100000.
    """
    if not 1 <= count <= MOST:
        raise UsageError(f"{count} fabricated questions were asked for, expected 1 to {MOST}")
    return [_item(seed, number)[1] for number in range(count)]
