import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levercheck.benchmarks import answers
from levercheck.benchmarks.scorers.tiers import CREDITED, Grade, audit_sample, grade, normalise
from levercheck.errors import UsageError

FOLDED = [
    (None, ""), ("", ""), ("A", ""), ("the", ""), ("a the an", ""), ("U.S.A.", "u s"), ("don't", "don t"),
    ("don’t", "don t"), ("3.5", "3 5"), ("$1,000", "1 000"), ("1/2", "1 2"), ("foo—bar", "foo bar"),
    ("1914–18", "1914 18"), ("new_york_city", "new york city"), ("e-mail", "e mail"), ("naïve", "naïve"), ("½", "½"),
    ("The  'quick_brown' Fox!", "quick brown fox"), ("“Polo”", "polo"), ("a´b`c", "b c"), ("théâtre", "théâtre"),
    ("Anthem", "anthem"), ("an Ant and a Bee", "ant and bee"), ("-5 °C", "5 °c"), ("東京", "東京"), ("…", "…"),
    ("\tA\n tab\u00a0stop ", "tab stop"), ("?!", ""),
]  # fmt: skip

TITLE = "The Structure of Scientific Revolutions and the Growth of Knowledge"

# response, aliases, tier, alias
TIERS = [
    # the published grader's own cases
    ("I think it was Paris France", ["Paris"], "boundary", "Paris"),
    ("It could be Paris or London", ["Paris"], "several", None),
    ("marshall islands", ["Mars"], "none", None),
    ("johnson city", ["John"], "none", None),
    ("Endurance", ["Endurance (ship)"], "alias_simplified", "Endurance (ship)"),
    ("Kilimanjaro", ["Mt Kilimanjaro"], "none", None),
    ("film", ["Cyclops (film)"], "none", None),
    ("27 years old.", ["27"], "numeric", "27"),
    ("1939", ["1930-1939"], "none", None),
    ("Taking blood", ["Taking blood samples"], "containment", "Taking blood samples"),
    ("David", ["David Seville"], "none", None),
    ("revolution", [TITLE], "none", None),
    ("", ["Paris"], "none", None),
    ("10 items", ["10"], "numeric", "10"),
    ("1024", ["10"], "none", None),
    ("5", ["0.5"], "none", None),
    # rows of the published run
    ("Avatar", ["Toy Story III", "Toy Story 3"], "none", None),
    ("It’s a boat.", ["Ski boat", "Boats", "Bow (boat)", "Boat"], "boundary", "Boat"),
    ("Libretto", ["Lobretto", "Libretto", "Libretti"], "exact", "Libretto"),
    ('"Polo"', ["Gymkana", "Gymkhana"], "none", None),
    ("All-inclusive Caribbean resorts.", ["Holiday resorts"], "none", None),
    ("Idli is the answer.", ["Iddly", "Idli"], "boundary", "Idli"),
    ("Black September.", ["Black September (disambiguation)", "Black September"], "exact", "Black September"),
    ("Emerald Isle", ["Synthetic emerald", "Emerald", "Emeralds"], "boundary", "Emerald"),
    ("XCIX", ["four hundred", "400"], "none", None),
    ("Finger tabs", ["A tab", "Tab (soda)", "TaB"], "none", None),
    ("River Orwell", ["Orwell (disambiguation)", "Orwell"], "boundary", "Orwell"),
    # no alias, empty aliases, articles
    ("Paris", [], "none", None),
    ("Paris", [""], "none", None),
    ("the", ["the"], "none", None),
    ("the", ["The The"], "none", None),
    ("a", ["A"], "none", None),
    ("?", ["?"], "none", None),
    ("Paris", ["", "!", "the", "Paris"], "exact", "Paris"),
    ("  ", [""], "none", None),
    # exact
    ("The Beatles", ["Beatles"], "exact", "Beatles"),
    ("beatles", ["The Beatles"], "exact", "The Beatles"),
    ("PARIS!", ["London", "Paris"], "exact", "Paris"),
    ("U.S.A.", ["U.S."], "exact", "U.S."),
    ("Trick or Treat", ["Trick or Treat"], "exact", "Trick or Treat"),
    ("X", ["X"], "exact", "X"),
    ("1,000", ["1,000"], "exact", "1,000"),
    ("1 000", ["1,000"], "exact", "1,000"),
    ("東京", ["東京"], "exact", "東京"),
    ("Łódź", ["łódź"], "exact", "łódź"),
    ("Paris", ["paris", "Paris"], "exact", "paris"),
    # an exact alias goes before an earlier one of a later tier
    ("Ice Age", ["Age of", "Ages", "Ice", "Ice Age"], "exact", "Ice Age"),
    # several
    ("Paris or London", ["Paris", "London"], "several", None),
    ("Paris, or maybe Lyon", ["Paris"], "several", None),
    ("5 or 6", ["5"], "several", None),
    ("Orpheus", ["Orph"], "none", None),
    ("or", ["Paris"], "none", None),
    ("Paris or", ["Paris"], "boundary", "Paris"),
    ("Oregon", ["Oregon"], "exact", "Oregon"),
    # boundary
    ("the old man and the sea", ["Old Man and Sea"], "exact", "Old Man and Sea"),
    ("It is Paris.", ["Lyon", "Paris", "paris"], "boundary", "Paris"),
    ("Not Paris", ["Paris"], "boundary", "Paris"),
    ("Ian of Troy", ["Ian"], "none", None),
    ("Parisian", ["Paris"], "none", None),
    ("It is Zürich", ["Zürich"], "boundary", "Zürich"),
    ("It is Zurich", ["Zürich"], "none", None),
    ("in 1939", ["1939"], "boundary", "1939"),
    ("spider-man wins", ["Spider Man"], "boundary", "Spider Man"),
    ("spiderman wins", ["Spider-Man"], "none", None),
    # without brackets and title
    ("Seuss", ["Dr. Seuss"], "alias_simplified", "Dr. Seuss"),
    ("It was Newton", ["Sir Newton"], "alias_simplified", "Sir Newton"),
    ("Victory", ["HMS Victory (1765)"], "alias_simplified", "HMS Victory (1765)"),
    ("Bean", ["Mr Bean"], "alias_simplified", "Mr Bean"),
    ("Dalloway", ["Mrs. Dalloway"], "alias_simplified", "Mrs. Dalloway"),
    ("Helens", ["St Helens"], "none", None),
    ("Who", ["Dr. Who"], "none", None),
    ("Mississippi", ["Ms ississippi", "Mississippi"], "exact", "Mississippi"),
    ("Drake", ["Drake (musician) (rapper)"], "alias_simplified", "Drake (musician) (rapper)"),
    ("my ship", ["(ship)"], "boundary", "(ship)"),
    # numbers
    ("about 1,000 people", ["1,000"], "boundary", "1,000"),
    ("about 1000 people", ["1,000"], "none", None),
    ("It is 7.", ["7"], "numeric", "7"),
    ("seven", ["7"], "none", None),
    ("7th", ["7"], "none", None),
    ("pi is 3.14", ["3.14"], "boundary", "3.14"),
    ("It is 3.1", ["3.1"], "numeric", "3.1"),
    ("1,500", ["500"], "numeric", "500"),
    ("0.5", ["5"], "numeric", "5"),
    ("It is 1/2", ["1/2"], "numeric", "1/2"),
    ("It is ½", ["½"], "none", None),
    ("It is B7", ["B7"], "none", None),
    # part of a longer alias
    ("Blood samples", ["Taking blood samples"], "containment", "Taking blood samples"),
    ("samples taking", ["Taking blood samples"], "containment", "Taking blood samples"),
    ("blood blood", ["Taking blood samples"], "none", None),
    ("Great Fire", ["Starting the Great Fire"], "containment", "Starting the Great Fire"),
    ("Great Fire", ["Starting the very Great Fire there"], "none", None),
    ("Great Fire", ["The Great Fire (1666) London"], "containment", "The Great Fire (1666) London"),
    ("one two three four five", ["one two three four five six"], "none", None),
    ("of x", ["Lord of x"], "containment", "Lord of x"),
    ("x y", ["x y z"], "none", None),
]


@pytest.mark.parametrize(("text", "folded"), FOLDED)
def test_folding(text, folded):
    assert normalise(text) == folded


@pytest.mark.parametrize(("response", "aliases", "tier", "alias"), TIERS)
def test_tiers(response, aliases, tier, alias):
    found = grade(response, aliases)
    assert (found.tier, found.alias) == (tier, alias)
    assert found.correct == (tier in CREDITED)


@pytest.mark.parametrize(
    ("response", "attempted"),
    [
        ("Paris", True),
        ("", False),
        ("?!", False),
        ("the", False),
        ("Paris or London", False),
        ("I do not know.", False),
        ("I don't know", False),
        ("I don’t know", False),
        ("Not sure", False),
        ("I am unsure", False),
        ("No idea!", False),
        ("I cannot answer that", False),
        ("I can't answer", False),
        ("I am unable to answer this", False),
        ("I need more context", False),
        ("Insufficient information", False),
        ("not enough context", False),
        ("The provided text does not contain the answer", False),
        ("Unknown without searching", False),
        ("I cannot say without more context", False),
        ("I know: Lyon", True),
        ("Notsure", True),
        ("The answer is unknown to me, Lyon", True),
    ],
)
def test_attempts(response, attempted):
    assert grade(response, ["Marseille"]).attempted is attempted


def test_a_credited_response_can_say_that_it_is_not_sure():
    assert grade("Not sure, Paris", ["Paris"]) == Grade("boundary", "Paris", False)


def test_the_folding_is_not_that_of_the_other_ruler():
    assert normalise("Zürich 3.5") == "zürich 3 5"
    assert answers.normalise("Zürich 3.5") == "zurich 3.5"


TEXT = st.text(st.sampled_from("ab tH(e)or1. é-,'’"), max_size=30)


@given(st.text(max_size=40), st.lists(st.text(max_size=20), max_size=4))
def test_any_text_gets_a_grade(response, aliases):
    found = grade(response, aliases)
    assert found == grade(response, aliases)
    assert hash(found) == hash(grade(response, aliases))
    assert found.correct == (found.alias is not None)
    assert found.alias is None or found.alias in aliases


@given(TEXT, st.lists(TEXT, max_size=4))
def test_an_alias_that_folds_to_nothing_changes_nothing(response, aliases):
    assert grade(response, aliases) == grade(response, ["", "the", "!?", *aliases])


@given(TEXT)
def test_a_text_is_its_own_exact_answer(text):
    assert grade(text, [text]).tier == ("exact" if normalise(text) else "none")


@given(TEXT)
def test_folding_twice_is_folding_once(text):
    assert normalise(normalise(text)) == normalise(text)


def rows_of(**counts):
    return [(f"{tier}-{n}", tier) for tier, count in counts.items() for n in range(count)]


def by_tier(ids):
    found = {}
    for key in ids:
        found.setdefault(key.rsplit("-", 1)[0], []).append(key)
    return {tier: len(keys) for tier, keys in found.items()}


def test_the_audit_has_every_tier_and_every_row_without_credit():
    rows = rows_of(exact=400, boundary=49, alias_simplified=1, numeric=4, containment=5, several=7, none=301)
    assert by_tier(audit_sample(rows, seed=42)) == {
        "exact": 80, "boundary": 30, "alias_simplified": 1, "numeric": 4, "containment": 5, "several": 7, "none": 301,
    }  # fmt: skip
    assert by_tier(audit_sample(rows, seed=42, share=0, least=0)) == {
        "exact": 1, "boundary": 1, "alias_simplified": 1, "numeric": 1, "containment": 1, "several": 7, "none": 301,
    }  # fmt: skip
    assert len(audit_sample(rows, seed=42, share=1)) == len(rows)
    assert audit_sample([], seed=42) == []


def test_the_audit_is_in_hash_order_and_depends_on_the_seed():
    rows = rows_of(exact=100, none=20)
    ids = audit_sample(rows, seed=7)
    assert ids == sorted(ids, key=lambda key: hashlib.sha256(f"7|{key}".encode()).hexdigest())
    order = sorted((key for key, tier in rows if tier == "exact"),
                   key=lambda key: hashlib.sha256(f"7|{key}".encode()).hexdigest())  # fmt: skip
    assert {key for key in ids if key.startswith("exact")} == set(order[:30])
    assert ids != audit_sample(rows, seed=8)


ROWS = st.lists(
    st.tuples(st.uuids().map(str), st.sampled_from([*CREDITED, "several", "none"])), unique_by=lambda row: row[0]
)


@given(ROWS, st.floats(0, 1), st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_audit_ignores_the_order_of_rows_and_grows_with_the_share(rows, share, least, dice):
    ids = audit_sample(rows, seed=1, share=share, least=least)
    mixed = random.Random(dice.random()).sample(rows, len(rows))
    assert audit_sample(mixed, seed=1, share=share, least=least) == ids
    assert set(ids) <= set(audit_sample(rows, seed=1, share=1, least=least))
    assert {tier for _, tier in rows} == {dict(rows)[key] for key in ids}
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("rows", "options", "says"),
    [
        ([("q1", "reverse_contain")], {}, "unknown tier 'reverse_contain'"),
        ([("q1", "exact"), ("q1", "none")], {}, "q1 is there twice"),
        ([("q1", "exact")], {"share": 1.5}, "share from 0 to 1"),
        ([("q1", "exact")], {"share": float("nan")}, "share from 0 to 1"),
        ([("q1", "exact")], {"least": -1}, "least"),
    ],
)
def test_what_the_audit_refuses(rows, options, says):
    with pytest.raises(UsageError, match=says):
        audit_sample(rows, seed=1, **options)
