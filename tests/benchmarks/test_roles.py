"""Roles of entities in a study: by shares, by shares of one benchmark, by manifests, and conflicts between them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.benchmarks.fixtures_answers import write_jbb_benign, write_jbb_harmful, write_triviaqa
from tests.benchmarks.fixtures_choice import write_falseqa, write_truthfulqa

from levercheck.benchmarks.base import Item, Request, used
from levercheck.benchmarks.data import FOLDER_VARIABLE, Use, identity
from levercheck.benchmarks.embedded import CATEGORIES
from levercheck.benchmarks.facts import load_facts
from levercheck.benchmarks.manifests import draw, source_name
from levercheck.benchmarks.roles import entity_roles, listed_ids, own_items
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
    body = {
        "schema": "levercheck.manifest/v1",
        "source": "jbb-harmful",
        "roles": {"tune": ["jbb-3-t1"], "confirm": ["jbb-3-t2"]},
    }
    write_json(data / "split.json", body)
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


def test_shares_give_way_to_a_manifest(data: Path) -> None:
    listed = with_manifest(Use("triviaqa-bridge"), data, {"tune": 6, "confirm": 10})
    shared = Use("sycophancy", shares=OWN)  # asks the same questions
    found = roles(listed, shared)
    clusters = {item.cluster for item in items_of(shared)}
    assert clusters <= set(found) and {found[cluster] for cluster in clusters} == {"tune", "confirm"}


@pytest.mark.xfail(strict=True, reason="shares that come before a manifest in the study conflict with it")
def test_the_order_of_benchmarks_does_not_matter(data: Path) -> None:
    listed = with_manifest(Use("triviaqa-bridge"), data, {"tune": 6, "confirm": 10})
    shared = Use("sycophancy", shares=OWN)
    assert roles(shared, listed) == roles(listed, shared)


@pytest.mark.xfail(strict=True, reason="shares and manifests of benchmarks made of embedded facts are left unread")
@pytest.mark.parametrize("name", ["bare-facts", "counterfactual-context", "facts-answers"])
def test_settings_of_embedded_facts_are_not_left_unread(name: str) -> None:
    try:
        found = roles(Use(name, shares=(("confirm", 1.0),)))
    except UsageError:
        return  # to refuse them would do
    assert set(found.values()) == {"confirm"}


def test_which_benchmarks_bring_items_of_their_own() -> None:
    own = [Use("nonexist"), Use("capability-text"), Use("falseqa/bare")]
    assert own_items([*EMBEDDED, *own, Use("facts-answers")]) == own
