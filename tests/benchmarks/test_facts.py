import hashlib
import importlib.metadata
import importlib.util
import json
import re
import sys
from collections import Counter
from pathlib import Path

import pytest

from levercheck.benchmarks.facts import (
    CATEGORIES,
    Fact,
    facts_digest,
    is_correct,
    load_facts,
    normalise,
)
from levercheck.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "src" / "levercheck" / "data" / "facts.jsonl"
FACTS = load_facts()
BY_ID = {fact.id: fact for fact in FACTS}


def city(name: str) -> Fact:
    ends = (f" {name}?", f"of {name}?")
    return next(f for f in FACTS if f.category in ("city_country", "us_city_state") and f.question.endswith(ends))


def test_counts_and_file_form() -> None:
    counts = Counter(fact.category for fact in FACTS)
    assert tuple(sorted(counts)) == CATEGORIES
    assert len(FACTS) >= 2_200
    assert min(counts.values()) >= 100
    raw = DATA.read_bytes()
    assert len(raw) < 900_000
    assert b"\r" not in raw and raw.endswith(b"\n")
    ids = [json.loads(line)["id"] for line in raw.decode("utf-8").splitlines()]
    assert ids == sorted(ids)
    keys = [list(json.loads(line)) for line in raw.decode("utf-8").splitlines()]
    assert all(row == list(Fact.__dataclass_fields__) for row in keys)


def test_ids_questions_and_statements_are_unique() -> None:
    for field in ("id", "question", "statement"):
        repeated = [v for v, n in Counter(getattr(f, field) for f in FACTS).items() if n > 1]
        assert repeated == []


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_alias_is_right_for_its_own_fact(category: str) -> None:
    facts = load_facts([category])
    wrong = [(f.id, alias) for f in facts for alias in f.aliases if not is_correct(f, alias)]
    assert wrong == []
    wrong = [(f.id, alias) for f in facts for alias in f.aliases if not is_correct(f, f" {alias}.\n")]
    assert wrong == []


@pytest.mark.parametrize("category", CATEGORIES)
def test_other_answers_of_the_category_are_wrong(category: str) -> None:
    facts = load_facts([category])
    answers = sorted({f.answer for f in facts})
    for fact in facts:
        accepted = {normalise(alias) for alias in fact.aliases}
        for answer in answers:
            if fact.match == "alias":
                assert is_correct(fact, answer) == (normalise(answer) in accepted), (fact.id, answer)
            else:
                assert is_correct(fact, answer) == (answer == fact.answer), (fact.id, answer)


def test_fields_are_consistent() -> None:
    for fact in FACTS:
        assert fact.answer in fact.aliases
        assert list(fact.aliases) == sorted(set(fact.aliases))
        assert fact.match == {"symbol": "exact", "atomic_number": "number"}.get(fact.category, "alias")
        assert fact.question.endswith("?") and len(fact.question) <= 80
        assert fact.source
        assert all(alias == alias.strip() and normalise(alias) for alias in fact.aliases)


def test_no_question_contains_its_answer() -> None:
    for fact in FACTS:
        if fact.match == "alias":
            assert normalise(fact.answer) not in normalise(fact.question), fact.id
        else:
            assert fact.answer not in re.findall(r"\w+", fact.question), fact.id


def test_statement_has_one_slot_and_becomes_a_sentence() -> None:
    for fact in FACTS:
        assert fact.statement.count("{}") == 1 and fact.statement.count("{") == 1
        said = fact.assertion(fact.answer)
        assert said[0].isupper() and said.endswith(".") and "{" not in said
        assert "the the " not in said.lower() and "  " not in said
    assert BY_ID["capital:FR"].assertion("Lyon") == "The capital of France is Lyon."
    assert BY_ID["capital:FR"].assertion("Washington, D.C.") == "The capital of France is Washington, D.C."
    assert BY_ID["capital:NL"].assertion("Paris") == "The capital of the Netherlands is Paris."
    assert BY_ID["capital_country:FR"].assertion("the United States") == ("Paris is the capital of the United States.")
    assert BY_ID["continent:NL"].assertion("Asia") == "The Netherlands is on the continent of Asia."
    assert BY_ID["currency:CH"].assertion("krone") == "The currency of Switzerland is the krone."
    assert city("Lyon").assertion("Spain") == "The city of Lyon is in Spain."
    assert city("Chicago").assertion("Ohio") == "Chicago is in the U.S. state of Ohio."


def test_entity_groups_keep_subject_and_answer_together() -> None:
    kinds = {
        "us_city_state": "us_state",
        "symbol": "element",
        "element": "element",
        "atomic_number": "element",
    }
    names: dict[str, str] = {}
    states: dict[str, str] = {}
    for fact in FACTS:
        kind, _, key = fact.entity.partition(":")
        assert kind == kinds.get(fact.category, "country") and key
        if fact.category not in ("city_country", "us_city_state"):
            assert fact.id == f"{fact.category}:{key}"
        if fact.category in ("capital_country", "city_country"):
            assert names.setdefault(fact.answer, fact.entity) == fact.entity
        if fact.category == "us_city_state":
            assert states.setdefault(fact.answer, fact.entity) == fact.entity
    assert len(set(names.values())) == len(names)
    assert len(set(states.values())) == len(states)


def test_city_questions_stay_within_their_limits() -> None:
    per_country = Counter(f.entity for f in FACTS if f.category == "city_country")
    assert max(per_country.values()) <= 20
    assert "country:US" not in per_country


def test_the_few_shot_fact_is_left_out() -> None:
    assert "currency:JP" not in BY_ID


CASES = [
    # boundaries
    ("capital_country:OM", "Oman", True),
    ("capital_country:OM", "Romania", False),
    ("capital_country:NE", "Niger", True),
    ("capital_country:NE", "Nigeria", False),
    ("capital_country:NG", "Niger", False),
    ("capital_country:GN", "Guinea", True),
    ("capital_country:GN", "Equatorial Guinea", False),
    ("capital_country:GN", "Papua New Guinea", False),
    ("capital_country:GN", "Guinea-Bissau", False),
    ("capital_country:SD", "South Sudan", False),
    ("capital_country:WS", "American Samoa", False),
    ("capital_country:IE", "Northern Ireland", False),
    ("capital_country:DM", "Dominican Republic", False),
    ("capital_country:KR", "North Korea", False),
    ("capital_country:CG", "the Democratic Republic of the Congo", False),
    ("capital_country:CD", "The Democratic Republic of Congo.", True),
    # articles, case, several forms of a name
    ("capital_country:NL", "the Netherlands", True),
    ("capital_country:NL", "NETHERLANDS", True),
    ("capital_country:NL", "Holland", True),
    ("capital_country:US", "The U.S.A.", True),
    ("capital_country:US", "United States of America", True),
    ("capital_country:GB", "UK", True),
    ("capital_country:BA", "Bosnia & Herzegovina", True),
    ("capital_country:TR", "Türkiye", True),
    ("capital_country:FR", "It is France's capital", True),
    # accents, apostrophes, other code points
    ("capital:BR", "Brasilia", True),
    ("capital:BR", "Bras\u0131\u0301lia", True),
    ("capital:BR", "Brasi\u0301lia", True),
    ("capital:TD", "N’Djamena", True),
    ("capital:TD", "Ndjamena", True),
    ("capital:YE", "Sana\u02bba", True),
    ("capital:MD", "CHIŞINĂU", True),
    ("capital:FR", "ＰＡＲＩＳ", True),
    ("capital:FR", "Париж", False),
    ("capital:US", "Washington DC", True),
    ("capital:US", "Washington, D.C.", True),
    ("capital:VN", "Ha Noi", False),
    ("capital:ZA", "Cape Town", True),
    # sentences, several answers, negation
    ("capital:FR", "The capital of France is Paris.", True),
    ("capital:FR", "Paris or London", True),
    ("capital:FR", "London or Paris", False),
    ("capital:FR", "not Paris", False),
    ("capital:FR", "It isn't Paris", False),
    ("capital:FR", "Not London but Paris", True),
    ("capital:FR", "I don't think it is Paris", True),
    ("capital:FR", "Parisian", False),
    ("capital:FR", "", False),
    ("capital:FR", "  \n", False),
    ("capital:FR", "?!", False),
    ("capital:FR", "the", False),
    # currencies, languages, continents
    ("currency:CH", "Franc", True),
    ("currency:CH", "Swiss francs", True),
    ("currency:CH", "Belgian chocolate", False),
    ("currency:AU", "Dollar", True),
    ("currency:AU", "The Australian dollar (AUD)", True),
    ("currency:AU", "US dollar", False),
    ("currency:EC", "U.S. dollar", True),
    ("currency:CN", "Renminbi", True),
    ("currency:DE", "Euros", True),
    ("language:BD", "Bangla", True),
    ("language:CA", "French", True),
    ("language:FR", "English and French", False),
    ("language:IR", "Farsi", True),
    ("continent:TR", "Europe", True),
    ("continent:TR", "Asia", True),
    ("continent:FR", "Eurasia", False),
    ("continent:BR", "North America", False),
    # numbers
    ("atomic_number:Fe", "26", True),
    ("atomic_number:Fe", "26.", True),
    ("atomic_number:Fe", "Its atomic number is 26, I think", True),
    ("atomic_number:Fe", "126", False),
    ("atomic_number:Fe", "26.98", False),
    ("atomic_number:Fe", "2 or 26", False),
    ("atomic_number:Fe", "²⁶", True),
    ("atomic_number:Fe", "twenty-six", False),
    ("atomic_number:Fe", "", False),
    # symbols
    ("symbol:Co", "Co", True),
    ("symbol:Co", "CO", False),
    ("symbol:Co", "co", False),
    ("symbol:Co", "**Co**", True),
    ("symbol:Co", "Co (cobalt)", True),
    ("symbol:Co", "Cobalt", False),
    ("symbol:Co", "Co2", False),
    ("symbol:Co", "The symbol is Co", False),
    ("symbol:I", "I", True),
    ("symbol:I", "I is the symbol", True),
    ("symbol:I", "I don't know", False),
    ("symbol:I", "I'm not sure", False),
    ("symbol:No", "No idea", False),
    ("symbol:No", "No.", True),
    ("symbol:Fe", "", False),
    # elements
    ("element:Al", "Aluminium", True),
    ("element:Sn", "Platinum", False),
    ("element:S", "sulphur", True),
]


@pytest.mark.parametrize(("fact_id", "response", "right"), CASES)
def test_tricky_responses(fact_id: str, response: str, right: bool) -> None:
    assert is_correct(BY_ID[fact_id], response) is right


CITY_CASES = [
    ("Seattle", "Washington", True),
    ("Seattle", "Washington, D.C.", False),
    ("Wichita", "Arkansas", False),
    ("Wichita", "Kansas", True),
    ("Austin", "Austin, Texas", True),
    ("Chesapeake", "West Virginia", False),
    ("Monterrey", "New Mexico", False),
    ("Jamaica", "Jamaica is in New York.", True),
    ("Lyon", "Lyon is a city in France.", True),
]


@pytest.mark.parametrize(("name", "response", "right"), CITY_CASES)
def test_tricky_city_responses(name: str, response: str, right: bool) -> None:
    assert is_correct(city(name), response) is right


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Hague", "hague"),
        ("the", "the"),
        ("São Tomé & Príncipe", "sao tome and principe"),
        ("Straße", "strasse"),
        ("Łódź", "lodz"),
        ("Nuku'alofa", "nuku alofa"),
        ("isn't", "is not"),
        ("…", ""),
        ("", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected
    assert normalise(expected) == expected


def test_load_facts_selects_and_refuses() -> None:
    assert {f.category for f in load_facts(["capital", "symbol"])} == {"capital", "symbol"}
    assert load_facts("capital") == load_facts(["capital"])
    assert load_facts([]) == []
    with pytest.raises(UsageError, match=r"'capitol'.*'capital'"):
        load_facts(["capital", "capitol"])


def test_words_of_the_question_are_no_answer() -> None:
    question = "In which country is Benin City?"
    fact = Fact("x", "city_country", "x", question, "Nigeria", ("Nigeria",), "alias", "{}.", "x")
    assert is_correct(fact, "Benin City is in Nigeria")
    assert not is_correct(fact, "Benin")
    assert not is_correct(fact, "Togo, or else Nigeria")


def test_a_fact_of_a_users_own_category_is_scored() -> None:
    fact = Fact("moon:1", "moon", "planet:Mars", "Name a moon of Mars.", "Phobos", ("Phobos",), "alias", "{}.", "me")
    assert is_correct(fact, "It is Phobos.")
    assert not is_correct(fact, "Europa")


def test_digest_is_that_of_the_file() -> None:
    assert facts_digest() == hashlib.sha256(DATA.read_bytes()).hexdigest()


def test_regenerating_gives_the_same_bytes(tmp_path: Path) -> None:
    pins = dict(line.split("==") for line in (ROOT / "tools/requirements-facts.txt").read_text("utf-8").split() if line)
    for package, version in pins.items():
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"the facts generator needs {package}=={version}, which is not installed")
        if found != version:
            pytest.skip(f"the facts generator is pinned to {package}=={version}, found {found}")
    spec = importlib.util.spec_from_file_location("make_facts", ROOT / "tools" / "make_facts.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_facts"] = module
    try:
        spec.loader.exec_module(module)
        assert module.render(module.build()) == DATA.read_bytes()
    finally:
        del sys.modules["make_facts"]
