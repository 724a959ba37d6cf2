"""Roles of entities in a study: by shares, by shares of one benchmark, by manifests, and conflicts between them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.fixtures_answers import write_jbb_benign, write_jbb_harmful, write_triviaqa
from tests.benchmarks.fixtures_choice import write_falseqa, write_truthfulqa

from levercheck.benchmarks.base import Item, Request, item_of, used
from levercheck.benchmarks.data import FOLDER_VARIABLE, Use, identity
from levercheck.benchmarks.embedded import CATEGORIES
from levercheck.benchmarks.facts import load_facts
from levercheck.benchmarks.manifests import Manifest, draw, read_manifest, source_name
from levercheck.benchmarks.roles import asked_items, entity_roles, listed_ids, own_items
from levercheck.errors import UsageError
from levercheck.evidence.canonical import digest
from levercheck.evidence.files import write_json
from levercheck.evidence.splits import roles_by_entity

SHARES = {"readout": 0.4, "select": 0.1, "tune": 0.2, "confirm": 0.3}
OWN = (("confirm", 0.75), ("tune", 0.25))
EMBEDDED = [Use("counterfactual-context"), Use("bare-facts")]


def first_token(answer: str) -> int:
    return int.from_bytes(answer.partition(" ")[0].encode()[:6], "big")


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder with self-made files."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    for write in (write_jbb_harmful, write_jbb_benign, write_falseqa, write_truthfulqa, write_triviaqa):
        write(tmp_path)
    return tmp_path


def roles(*uses: Use, seed: int = 0, shares: dict[str, float] = SHARES) -> dict[str, str]:
    return entity_roles(uses, shares, seed, first_token)


def items_of(use: Use) -> list[Item]:
    return used(use).made(Request(first_token, lambda _: True, 0, use))


def with_manifest(use: Use, folder: Path, sizes: dict[str, int], seed: int = 0) -> Use:
    """The same use with a manifest of so many items by role, written into the folder."""
    benchmark = used(use)
    assert benchmark.source is not None
    made = draw(items_of(use), sizes, seed, source=source_name(benchmark), data=identity(benchmark.source, use))
    path = folder / f"{use.name.replace('/', '-')}-{seed}.json"
    write_json(path, made.to_dict())
    return Use(use.name, manifest=path)


@pytest.mark.parametrize("seed", [0, 42])
def test_a_study_on_embedded_facts_has_the_roles_it_always_had(seed: int) -> None:
    found = roles(*EMBEDDED, seed=seed)
    assert found == roles_by_entity([fact.entity for fact in load_facts(CATEGORIES)], SHARES, seed)
    released = {0: "418d9bb71bdb4a4143a58b5e10b1e214260f2775109c1d42bbeeeea389a43932",
                42: "be53c7724947764959ae264d830ff310f08d2375f1b6db5ca22ac5fad4b19836"}  # fmt: skip
    assert digest(found) == released[seed]  # before benchmarks had data of their own
    assert found == roles(*EMBEDDED[::-1], Use("facts-answers"), seed=seed)


def test_shares_divide_the_entities_of_every_benchmark() -> None:
    found = roles(*EMBEDDED, Use("truthfulqa-mc1"))
    own = {item.cluster for item in items_of(Use("truthfulqa-mc1"))}
    assert len(own) == 40 and Counter(found[cluster] for cluster in own) == {
        "readout": 16, "select": 4, "tune": 8, "confirm": 12,
    }  # fmt: skip
    embedded = roles(*EMBEDDED)
    assert {name: role for name, role in found.items() if name not in own} == embedded  # others keep theirs


def test_shares_of_one_benchmark_are_for_its_items_alone() -> None:
    found = roles(*EMBEDDED, Use("truthfulqa-mc1"), Use("falseqa", shares=OWN))
    doubted = {item.cluster for item in items_of(Use("falseqa"))}
    assert Counter(found[cluster] for cluster in doubted) == {"tune": 10, "confirm": 30}
    rest = {name: role for name, role in found.items() if name not in doubted}
    assert rest == roles(*EMBEDDED, Use("truthfulqa-mc1"))
    styles = roles(Use("falseqa/bare", shares=OWN), Use("falseqa", shares=OWN))
    assert {name: styles[name] for name in doubted} == {name: found[name] for name in doubted}


def test_what_one_benchmark_takes_the_others_divide_no_more() -> None:
    knowledge = Use("capability-knowledge", shares=OWN)  # asks embedded facts
    own = {item.cluster for item in items_of(knowledge)}
    found = roles(*EMBEDDED, knowledge)
    assert {found[cluster] for cluster in own} == {"tune", "confirm"}
    others = [fact.entity for fact in load_facts(CATEGORIES) if fact.entity not in own]
    assert {name: role for name, role in found.items() if name not in own} == roles_by_entity(others, SHARES, 0)


@pytest.mark.parametrize("shares", [None, OWN])
def test_a_request_and_its_benign_twin_have_one_role(shares: Any) -> None:
    pair = [Use("jailbreak", shares=shares), Use("jailbreak-benign", shares=shares)]
    harmful, benign = (items_of(use) for use in pair)
    clusters = {item.cluster for item in harmful}
    assert clusters == {item.cluster for item in benign} and len(clusters) == 40 < len(harmful)
    found = roles(*pair)
    assert found == roles(*pair[::-1])
    counts = Counter(found[cluster] for cluster in clusters)
    assert counts == ({"tune": 10, "confirm": 30} if shares else {"readout": 16, "select": 4, "tune": 8, "confirm": 12})
    assert roles(Use("jailbreak", shares=OWN), Use("jailbreak-benign")) == roles(
        Use("jailbreak-benign"), Use("jailbreak", shares=OWN)
    )  # who has no settings follows who has


def test_roles_depend_on_seed_and_shares_and_on_nothing_else() -> None:
    uses = [*EMBEDDED, Use("truthfulqa-mc1"), Use("falseqa", shares=OWN)]
    assert roles(*uses) == roles(*uses) == roles(*uses[::-1])
    assert roles(*uses) != roles(*uses, seed=1)
    half = roles(*uses, shares={"tune": 0.5, "confirm": 0.5})
    assert set(half.values()) == {"tune", "confirm"} and half != roles(*uses)


def test_a_manifest_decides_and_what_it_leaves_out_has_no_role(data: Path) -> None:
    plain = Use("truthfulqa-mc1")
    use = with_manifest(plain, data, {"tune": 6, "confirm": 10})
    found = roles(*EMBEDDED, use)
    listed = listed_ids(use)
    assert listed is not None and len(listed) == 16 and listed_ids(plain) is None
    of_items = {item.id: found.get(item.cluster) for item in items_of(plain)}
    assert {name for name, role in of_items.items() if role is not None} == listed
    assert Counter(of_items.values()) == {None: 24, "confirm": 10, "tune": 6}
    assert {name: role for name, role in found.items() if not name.startswith("truthfulqa:")} == roles(*EMBEDDED)
    same = [use, Use("truthfulqa-mc2", manifest=use.manifest)]
    assert roles(*same) == roles(*same[::-1]) and roles(*EMBEDDED, *same) == found


def test_an_entity_with_two_roles_is_refused(data: Path) -> None:
    first, other = (with_manifest(Use("truthfulqa-mc1"), data, {"tune": 15, "confirm": 15}, seed) for seed in (0, 1))
    with pytest.raises(UsageError) as caught:
        roles(first, Use("truthfulqa-mc2", manifest=other.manifest))
    told = str(caught.value)
    assert "an entity has one role in a study" in told and "\n" not in told
    assert "by the settings of 'truthfulqa-mc1'" in told and "by those of 'truthfulqa-mc2'" in told


def test_a_manifest_that_splits_an_entity_is_refused(data: Path) -> None:
    split = Manifest("jbb-harmful", {}, 0, {"tune": ("jbb-3-t1",), "confirm": ("jbb-3-t2",)})
    write_json(data / "split.json", split.to_dict())
    with pytest.raises(
        UsageError, match=r"split\.json: 'jbb:3' has items in the roles (tune and confirm|confirm and tune)"
    ):
        roles(Use("jailbreak", manifest=data / "split.json"))


def test_a_manifest_is_checked_against_the_data(data: Path) -> None:
    use = with_manifest(Use("truthfulqa-mc1"), data, {"tune": 6, "confirm": 10})
    with pytest.raises(UsageError, match="is of 'truthfulqa', and 'falseqa' asks items of 'falseqa'"):
        roles(Use("falseqa", manifest=use.manifest))
    path = data / "truthfulqa.csv"
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(UsageError, match="drawn from another revision of the data"):
        roles(use)


def test_shares_give_way_to_a_manifest_whatever_the_order(data: Path) -> None:
    listed = with_manifest(Use("triviaqa-bridge"), data, {"tune": 6, "confirm": 10})
    shared = Use("sycophancy", shares=OWN)  # asks the same questions
    found = roles(listed, shared)
    clusters = {item.cluster for item in items_of(shared)}
    assert clusters <= set(found) and {found[cluster] for cluster in clusters} == {"tune", "confirm"}
    assert roles(shared, listed) == found
    named = read_manifest(data / "triviaqa-bridge-0.json").role_of
    of_items = {item.id: found[item.cluster] for item in items_of(Use("triviaqa-bridge"))}
    assert {name: of_items[name] for name in named} == named


def test_benchmarks_that_share_entities_have_the_same_shares() -> None:
    """Else the one that is read first would decide for both, and say nothing."""
    other = (("confirm", 0.5), ("tune", 0.5))
    for pair in (("jailbreak", "jailbreak-benign"), ("triviaqa-bridge", "sycophancy")):
        first, second = Use(pair[0], shares=OWN), Use(pair[1], shares=other)
        for uses in ((first, second), (second, first)):
            with pytest.raises(UsageError) as caught:
                roles(*uses)
            told = str(caught.value)
            assert told.startswith(f"'{uses[1].name}' and '{uses[0].name}' ask the same entities, such as '")
            assert told.endswith("and have other shares: give both the same") and "\n" not in told
    apart = roles(Use("falseqa", shares=OWN), Use("truthfulqa-mc1", shares=other))  # they share none
    assert Counter(apart[item.cluster] for item in items_of(Use("truthfulqa-mc1"))) == {"tune": 20, "confirm": 20}


@pytest.mark.parametrize("name", ["bare-facts", "counterfactual-context", "facts-answers", "facts-answers/few-shot"])
def test_settings_of_embedded_facts_are_not_left_unread(name: str, data: Path) -> None:
    for use in (Use(name, shares=(("confirm", 1.0),)), Use(name, manifest=data / "own.json")):
        with pytest.raises(UsageError, match=f"'{name}' asks embedded facts, whose roles are those of items.shares"):
            roles(Use("falseqa"), use)


def test_items_are_chosen_first_and_each_brings_all_its_replicates() -> None:
    """One of every entity before a second of any; a limit counts items, so that no item is answered half as often."""
    once = [Item(f"jbb-{entity}-t{n}", f"jbb:{entity}") for entity in range(6) for n in range(1, 6)]
    thrice = [Item(f"{item.id}{mark}", item.cluster) for item in once for mark in ("", "~2", "~3")]
    for limit, per_entity, entities in ((6, 5, 6), (4, 5, 4), (15, 5, 6), (None, 5, 6), (None, 2, 6), (99, 1, 6)):
        asked = asked_items(thrice, limit, per_entity, 3)
        names = Counter(item_of(item.id) for item in asked)
        assert set(names.values()) == {3} and [item.id for item in asked] == sorted(item.id for item in asked)
        assert len(names) == min(limit or 30, per_entity * 6, 30)
        each = Counter(name.rpartition("-")[0] for name in names)
        assert len(each) == entities and max(each.values()) - min(each.values()) <= 1
        single = asked_items(once, limit, per_entity, 3)
        assert {item.id for item in single} == set(names)  # replicates choose nothing
        assert asked_items(thrice[::-1], limit, per_entity, 3) == asked
    assert asked_items(thrice, 6, 5, 3) != asked_items(thrice, 6, 5, 4)


def test_which_benchmarks_bring_items_of_their_own() -> None:
    own = [Use("nonexist"), Use("capability-text"), Use("falseqa/bare")]
    assert own_items([*EMBEDDED, *own, Use("facts-answers")]) == own
