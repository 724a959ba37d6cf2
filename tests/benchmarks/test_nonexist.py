import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levercheck.benchmarks.answers import ABSTAIN_RULER, normalise
from levercheck.benchmarks.facts import load_facts
from levercheck.benchmarks.nonexist import KINDS, MOST, fabricate, known_words
from levercheck.benchmarks.questions import load_questions
from levercheck.errors import UsageError
from levercheck.evidence.canonical import digest

MANY = fabricate(2100)


def invented(question) -> list[str]:
    """The made-up words of a question, from its entity."""
    name = question.entity.partition(":")[2]
    return re.sub(r"^\w+ of ", "", name).split() if question.category == "book" else name.split()


def test_kinds_ids_and_texts() -> None:
    assert Counter(q.category for q in MANY) == dict.fromkeys(KINDS, 300)
    assert len({q.id for q in MANY}) == len({q.question for q in MANY}) == len({q.entity for q in MANY}) == 2100
    for question in MANY:
        assert question.aliases == () and not question.answerable
        assert question.question.endswith("?") and "{" not in question.question and len(question.question) <= 120
        assert question.id.startswith(f"{question.category}:0-") and question.entity.startswith(f"{question.category}:")
        assert question.entity.partition(":")[2] in normalise(question.question).replace(" s best", "s best")


def test_no_made_up_word_is_one_of_the_facts() -> None:
    for question in MANY:
        for word in invented(question):
            assert len(word) >= 5 and word not in known_words(), question
    names = {normalise(name) for fact in load_facts() for name in (*fact.aliases, fact.answer)}
    assert not names & {q.entity.partition(":")[2] for q in MANY}


@given(st.integers(1, 60), st.integers(0, 60), st.integers(0, 2**40))
def test_a_longer_list_begins_with_the_shorter(count: int, more: int, seed: int) -> None:
    assert fabricate(count + more, seed)[:count] == fabricate(count, seed)


def test_seeds_give_other_names_and_ids() -> None:
    one, two = fabricate(70, 1), fabricate(70, 2)
    assert not {q.id for q in one} & {q.id for q in two}
    assert not {q.entity for q in one} & {q.entity for q in two}


def test_the_generator_is_pinned() -> None:
    """Change the generator's name when this changes: stored runs refer to it."""
    rows = [[q.id, q.question, q.entity] for q in fabricate(200, 7)]
    assert digest(rows) == "f6565b51afbad05937105f0f753e51f9161b2b875a18deef571a397b1a987a92"
    assert fabricate(1)[0].question == "Which university did the historian Braefulvan Douzharrumen teach at?"


def test_as_a_source() -> None:
    found = load_questions("nonexist:70", seed=5)
    assert len(found.questions) == 70 and found.ruler == ABSTAIN_RULER
    assert found.identity["generator"] == "nonexist/v1" and found.identity["count"] == 70
    assert len(load_questions("nonexist").questions) == 500
    assert set(load_questions("nonexist:70", limit=10, seed=5).questions) < set(found.questions)
    question = found.questions[0]
    assert found.judge(question, "I'm not aware of anything by that name.").label == "true"
    assert found.judge(question, "In 1823, in Norway.").label == "false"
    assert found.judge(question, "").label == "uncertain"
    with pytest.raises(UsageError, match="no alias that the ruler"):
        found.judge(question, "x", ruler="alias-tiers/v1")


@pytest.mark.parametrize("count", [0, -1, MOST + 1])
def test_how_many(count: int) -> None:
    with pytest.raises(UsageError, match="expected 1 to"):
        fabricate(count)
