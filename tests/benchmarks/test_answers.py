import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levercheck.benchmarks.answers import (
    ABSTAIN_RULER,
    RULER,
    SUBSTRING_RULER,
    Verdict,
    abstains,
    denies_existence,
    judge,
    normalise,
    usable,
)
from levercheck.errors import UsageError

LONG = "There are many things to say about this and most of them have been said before. "

# response, aliases, label, match
TIERS = [
    # exact: case, marks, articles
    ("Paris", ["Paris"], "true", "exact"),
    ("  paris.\n", ["Paris"], "true", "exact"),
    ("PARIS!", ["Paris"], "true", "exact"),
    ("**Paris**", ["Paris"], "true", "exact"),
    ("the Beatles", ["Beatles"], "true", "exact"),
    ("Beatles", ["The Beatles"], "true", "exact"),
    ("An owl.", ["owl"], "true", "exact"),
    ("Lord of Rings", ["The Lord of the Rings"], "true", "exact"),
    ("The A-Team", ["A-Team"], "true", "exact"),
    ("A Team", ["The A-Team"], "true", "exact"),
    ("team", ["A-Team"], "false", "none"),
    ("Vitamin C", ["Vitamin A"], "false", "none"),
    ("vitamin a", ["Vitamin A"], "true", "exact"),
    ("Orwell, George", ["George Orwell", "Orwell, George"], "true", "exact"),
    ("the the", ["The The"], "true", "exact"),
    ("The", ["The The"], "false", "none"),
    # apostrophes of every kind, hyphens, initials
    ("Rubik’s Cube", ["Rubik's Cube"], "true", "exact"),
    ("Rubiks cube", ["Rubik's Cube"], "true", "exact"),
    ("Rubik`s Cube", ["rubik s cube"], "true", "exact"),
    ("OBrien", ["O'Brien"], "true", "exact"),
    ("O´Brien", ["O’Brien"], "true", "exact"),
    ("N’Djamena", ["Ndjamena"], "true", "exact"),
    ("It is France's capital", ["France"], "true", "boundary"),
    ("McDonald's restaurants", ["mcdonalds"], "true", "boundary"),
    ("It's gold", ["S"], "false", "substring"),
    ("I'd say gold", ["D"], "false", "substring"),
    ("Spiderman", ["Spider-Man"], "true", "exact"),
    ("Spider Man", ["Spider-Man"], "true", "exact"),
    ("spider-man", ["Spiderman"], "true", "exact"),
    ("J. K. Rowling", ["JK Rowling"], "true", "exact"),
    ("JK Rowling", ["J.K. Rowling"], "true", "exact"),
    ("The U.S.A.", ["USA"], "true", "exact"),
    ("I ran away", ["Iran"], "false", "none"),
    ("no where", ["Nowhere"], "false", "none"),
    ("The answer is vitamin C. I think so.", ["Vitamin C"], "true", "boundary"),
    # Unicode
    ("Brasilia", ["Brasília"], "true", "exact"),
    ("Brasi\u0301lia", ["Bras\u00edlia"], "true", "exact"),
    ("ＰＡＲＩＳ", ["Paris"], "true", "exact"),
    ("Lodz", ["Łódź"], "true", "exact"),
    ("STRASSE", ["Straße"], "true", "exact"),
    ("Istanbul", ["İstanbul"], "true", "exact"),
    ("H2O", ["H₂O"], "true", "exact"),
    ("Όμηρος", ["ΟΜΗΡΟΣ"], "true", "exact"),
    ("東京", ["東京"], "true", "exact"),
    ("हिन्दी", ["हिन्दी"], "true", "exact"),
    ("が", ["か"], "false", "none"),
    ("Simon and Garfunkel", ["Simon & Garfunkel"], "true", "exact"),
    # whole words only
    ("It was a party.", ["art"], "false", "substring"),
    ("Romania", ["Oman"], "false", "substring"),
    ("Parisian", ["Paris"], "false", "substring"),
    ("The language is C++.", ["C"], "false", "substring"),
    ("F#", ["F"], "false", "substring"),
    ("London", ["Paris"], "false", "none"),
    ("The capital is Paris.", ["Paris"], "true", "boundary"),
    ("Answer: Paris", ["Paris"], "true", "boundary"),
    ("Paris\n\nQuestion: What is next?", ["Paris"], "true", "boundary"),
    ("Paris (France)", ["Paris"], "true", "boundary"),
    # function words are names only where they are written as one
    ("I don't care who sings it", ["The Who"], "false", "boundary"),
    ("That was recorded by The Who in 1971", ["The Who"], "true", "boundary"),
    ("Who", ["The Who"], "true", "exact"),
    ("Who knows?", ["The Who"], "false", "boundary"),
    ("It is a dog", ["It"], "false", "boundary"),
    ('The novel is called "It"', ["It"], "true", "boundary"),
    ("It, by Stephen King", ["It"], "true", "boundary"),
    ("it's a dog", ["It"], "false", "boundary"),
    ("He lived in the US.", ["US", "us"], "true", "boundary"),
    ("They told us so", ["US", "us"], "false", "boundary"),
    ("THEY TOLD US SO", ["US"], "false", "boundary"),
    ("No, he did not.", ["No"], "true", "boundary"),
    ("It has no name", ["No"], "false", "boundary"),
    ("The blood type is A.", ["A"], "true", "boundary"),
    ("It is a dog", ["A"], "false", "boundary"),
    # negation
    ("not Paris", ["Paris"], "false", "boundary"),
    ("It is not the Paris", ["Paris"], "false", "boundary"),
    ("It isn't Paris", ["Paris"], "false", "boundary"),
    ("It isn’t a horse", ["horse"], "false", "boundary"),
    ("Neither Paris nor London", ["Paris"], "false", "boundary"),
    ("Neither London nor Paris", ["Paris"], "false", "boundary"),
    ("It was never Paris", ["Paris"], "false", "boundary"),
    ("Not London but Paris", ["Paris"], "true", "boundary"),
    ("Why not? Paris.", ["Paris"], "true", "boundary"),
    ("I think not, Paris it is", ["Paris"], "true", "boundary"),
    ("not Paris - well, Paris", ["Paris"], "true", "boundary"),
    # numbers
    ("1000", ["1,000"], "true", "exact"),
    ("1,000,000 people", ["1000000"], "true", "boundary"),
    ("1\u00a0000", ["1,000"], "true", "exact"),
    ("1'000", ["1000"], "true", "exact"),
    ("3.14", ["3.14"], "true", "exact"),
    ("3 14", ["3.14"], "false", "none"),
    ("It is 3.14", ["14"], "false", "substring"),
    ("-5 °C", ["-5 °C"], "true", "exact"),
    ("−5 °C", ["-5°C"], "true", "exact"),
    ("5 °C", ["-5 °C"], "false", "none"),
    ("-5", ["5"], "false", "substring"),
    ("1914-1918", ["1914–18", "1914-1918"], "true", "exact"),
    ("the war of 1914-1918", ["1918"], "true", "boundary"),
    ("19145", ["1914"], "false", "substring"),
    ("34", ["3-4"], "false", "none"),
    ("3 4", ["34"], "false", "none"),
    ("5km", ["5 km"], "true", "exact"),
    ("5 km", ["5km"], "true", "exact"),
    ("10 million", ["10"], "false", "boundary"),
    ("twenty-five", ["five"], "false", "boundary"),
    ("twenty-five", ["twenty"], "false", "boundary"),
    ("twenty five", ["twenty-five"], "true", "exact"),
    ("five million", ["five"], "false", "boundary"),
    ("In 1945 two bombs fell", ["1945"], "true", "boundary"),
    ("the 1990's", ["1990s"], "true", "exact"),
    ("½", ["1/2"], "true", "exact"),
    ("1½", ["1 1/2"], "true", "exact"),
    # enumerations and long answers
    ("Paris, France", ["Paris"], "true", "boundary"),
    ("Lyon, Nice, Lille, Paris, Brest", ["Paris"], "false", "boundary"),
    ("Paris, Lyon, Nice, Lille, Brest", ["Paris"], "true", "boundary"),
    ("Lyon or Nice or Lille or Paris", ["Paris"], "false", "boundary"),
    ("1. Lyon\n2. Nice\n3. Lille\n4. Paris", ["Paris"], "false", "boundary"),
    ("The colours are red, white, green and blue.", ["red, white, green and blue"], "true", "boundary"),
    (LONG + "Paris is one of them.", ["Paris"], "false", "boundary"),
    ("Paris is the capital. " + LONG, ["Paris"], "true", "boundary"),
    ("The seat of the government of the republic since 1944 has been Paris. " + LONG, ["Paris"], "true", "boundary"),
    ("and ".join(["word "] * 45) + "Paris", ["Paris"], "false", "boundary"),
    ("Dr. Watson, a friend of the famous detective of Baker Street, is the man. " + LONG, ["man"], "true", "boundary"),
    # abstentions
    ("I don't know.", ["Paris"], "uncertain", "none"),
    ("I don’t know", ["Paris"], "uncertain", "none"),
    ("Don't know", ["Paris"], "uncertain", "none"),
    ("I do not know, maybe Paris", ["Paris"], "uncertain", "boundary"),
    ("I'm not sure.", ["Paris"], "uncertain", "none"),
    ("I’m really not sure", ["Paris"], "uncertain", "none"),
    ("Unsure", ["Paris"], "uncertain", "none"),
    ("I can't answer that.", ["Paris"], "uncertain", "none"),
    ("I cannot say", ["Paris"], "uncertain", "none"),
    ("This cannot be determined from the text.", ["Paris"], "uncertain", "none"),
    ("There is no information about this.", ["Paris"], "uncertain", "none"),
    ("The name is not provided.", ["Paris"], "uncertain", "none"),
    ("Not enough information", ["Paris"], "uncertain", "none"),
    ("I have no idea", ["Paris"], "uncertain", "none"),
    ("I was unable to find the answer", ["Paris"], "uncertain", "none"),
    ("Unknown", ["Paris"], "uncertain", "none"),
    ("Nobody knows.", ["Paris"], "uncertain", "none"),
    ("Could you provide more context?", ["Paris"], "uncertain", "none"),
    ("It is not known as a port, but it is Paris", ["Paris"], "true", "boundary"),
    ("The author is unknown.", ["Paris"], "uncertain", "none"),
    ("N/A", ["Paris"], "uncertain", "none"),
    ("Unknown", ["Unknown"], "true", "exact"),
    ("unsure.", ["Unsure"], "true", "exact"),
    ("The song is Don't Know Why", ["Don’t Know Why"], "true", "boundary"),
    ("Penguins cannot fly", ["penguins"], "true", "boundary"),
    ("The Tomb of the Unknown Soldier", ["Tomb of the Unknown Soldier"], "true", "exact"),
    ("Uncertainty principle", ["uncertainty principle"], "true", "exact"),
    # nothing said
    ("", ["Paris"], "uncertain", "none"),
    (" \n", ["Paris"], "uncertain", "none"),
    ("?!", ["Paris"], "uncertain", "none"),
]


@pytest.mark.parametrize(("response", "aliases", "label", "match"), TIERS)
def test_tiers(response: str, aliases: list[str], label: str, match: str) -> None:
    found = judge(response, aliases)
    assert (found.label, found.match) == (label, match), found
    assert (found.alias is None) == (match == "none")
    assert found.alias is None or found.alias in aliases


def test_the_first_accepted_alias_is_reported() -> None:
    assert judge("Paris", ["City of Light", "paris", "Paris"]) == Verdict("true", "exact", "paris")
    assert judge("not Paris but Lyon", ["Paris", "Lyon"]) == Verdict("true", "boundary", "Lyon")


def test_aliases_without_a_letter_are_ignored() -> None:
    assert judge("Paris", ["?", "", "Paris"]).label == "true"
    assert judge("?", ["?", "Paris"]).label == "uncertain"
    for ruler in (RULER, SUBSTRING_RULER):
        with pytest.raises(ValueError, match="no alias"):
            judge("Paris", ["?!", " "], ruler=ruler)
        with pytest.raises(ValueError, match="no alias"):
            judge("Paris", [], ruler=ruler)


def test_an_unknown_ruler_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'alias-tiers/v1'"):
        judge("Paris", ["Paris"], ruler="alias-tier/v1")


NORMAL = [
    ("The  Quick—Brown_Fox", "quick brown fox"),
    ("A horse", "horse"),
    ("Vitamin A", "vitamin a"),
    ("1,000.50", "1000.50"),
    ("1,2,3", "1 2 3"),
    ("-5 °C", "-5 c"),
    ("pre-5", "pre 5"),
    (".5", "0.5"),
    ("can't", "can not"),
    ("“Émile” & Zoë", "emile and zoe"),
    ("?", ""),
]


@pytest.mark.parametrize(("text", "expected"), NORMAL)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


# response, aliases, label, match under the field's rule
FIELD = [
    ("It was a party.", ["art"], "true", "substring"),
    ("Parisian", ["Paris"], "true", "substring"),
    ("not Paris", ["Paris"], "true", "boundary"),
    ("The Paris", ["a paris"], "true", "exact"),
    ("New_York", ["new york"], "true", "exact"),
    ("Rubik’s cube", ["Rubik's Cube"], "true", "exact"),
    ("Rubiks cube", ["Rubik's Cube"], "false", "none"),
    ("“Paris”", ["Paris"], "true", "substring"),
    ("Brasilia", ["Brasília"], "false", "none"),
    ("1,000", ["1000"], "false", "none"),
    ("Vitamin C", ["Vitamin A"], "true", "boundary"),
    ("I don't know, Paris", ["Paris"], "uncertain", "none"),
    ("I don’t know", ["Paris"], "false", "none"),
    ("Penguins cannot fly", ["penguins"], "uncertain", "none"),
    ("Not provided", ["Not provided"], "uncertain", "none"),
    ("I'm unsure", ["Paris"], "false", "none"),
    ("", ["Paris"], "false", "none"),
]


@pytest.mark.parametrize(("response", "aliases", "label", "match"), FIELD)
def test_the_field_rule(response: str, aliases: list[str], label: str, match: str) -> None:
    found = judge(response, aliases, ruler=SUBSTRING_RULER)
    assert (found.label, found.match) == (label, match), found


def test_the_field_rule_ignores_an_alias_of_articles() -> None:
    with pytest.raises(ValueError, match="no alias"):
        judge("the", ["The", "a"], ruler=SUBSTRING_RULER)


ABSTAINED = [
    ("I'm not aware of any such person.", "true"),
    ("There is no town of that name.", "true"),
    ("There’s no record of it", "true"),
    ("Vorlanda does not exist.", "true"),
    ("It doesn't appear to exist", "true"),
    ("It is a fictional place.", "true"),
    ("This is not a real medicine.", "true"),
    ("I don't have any information about it.", "true"),
    ("No such treaty was signed.", "true"),
    ("There doesn't seem to be a battle of that name.", "true"),
    ("It is not a historical event", "true"),
    ("It is not known for its beaches", "false"),
    ("Unknown", "true"),
    ("I have never heard of it", "true"),
    ("He was born in 1823.", "false"),
    ("There is no doubt that it was France.", "false"),
    ("It was invented in Norway", "false"),
    ("France", "false"),
    ("", "uncertain"),
    ("...", "uncertain"),
]


@pytest.mark.parametrize(("response", "label"), ABSTAINED)
def test_abstains_ruler(response: str, label: str) -> None:
    assert judge(response, (), ruler=ABSTAIN_RULER) == Verdict(label, "none", None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["He knows the answer", "Jon Snow", "no", "none", "Certain", "It was given to Paris", "Knot", "noon"]
)
def test_ordinary_answers_are_no_abstentions(text: str) -> None:
    assert not abstains(text)
    assert not denies_existence(text)


TEXT = st.text(
    st.one_of(
        st.sampled_from("abcdeAT IUS 1235.,'’-–−&_`´\u0301éßİıł°½#+?!:;\n()\"ʼ"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=30,
)


@given(TEXT)
def test_an_alias_is_exactly_its_own_answer(text: str) -> None:
    if usable(text):
        assert judge(text, [text]).match == "exact"
        assert judge(f" {text}\n", ["?", text]).label == "true"
    else:
        assert normalise(text) == ""
        with pytest.raises(ValueError, match="no alias"):
            judge("x", [text])


@given(TEXT, st.lists(TEXT, min_size=1, max_size=4))
def test_tiers_are_consistent(response: str, aliases: list[str]) -> None:
    if not any(map(usable, aliases)):
        return
    found = judge(response, aliases)
    assert found == judge(response, aliases)
    if found.label == "true":
        assert found.match in {"exact", "boundary"}
        joined = re.sub(r"\W", "", normalise(response))
        assert re.sub(r"\W", "", normalise(found.alias or "")) in joined
    if found.match == "exact":
        assert found.label == "true"
    if found.match == "substring":
        assert found.label == "false"


@given(st.text(st.sampled_from("abt hes-'_.,!1"), max_size=30), st.text(st.sampled_from("abthe 1"), max_size=6))
def test_the_field_rule_is_a_substring_search(response: str, alias: str) -> None:
    """A second spelling of the rule for ASCII text."""

    def fold(text: str) -> str:
        marks = re.sub(r"[^a-z0-9\s]", " ", text.lower())
        return " ".join(word for word in marks.split() if word not in {"a", "an", "the"})

    if fold(alias):
        assert (judge(response, [alias], ruler=SUBSTRING_RULER).label == "true") == (fold(alias) in fold(response))


def test_the_rulers_depend_on_the_arguments_only() -> None:
    rows = [(r, tuple(a), judge(r, a).label) for r, a, _, _ in TIERS]
    assert rows == [(r, tuple(a), judge(r, a).label) for r, a, _, _ in json.loads(json.dumps(TIERS))]


def test_many_aliases_and_a_long_answer_are_quick() -> None:
    aliases = [f"name number {n}" for n in range(300)]
    started = time.perf_counter()
    judge("a name number and another name " * 500, aliases)
    judge("number " * 5000, ["number"])
    assert time.perf_counter() - started < 5
