"""Manifests: how roles are drawn, and what a file must not hold."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.benchmarks.fixtures_choice import write_truthfulqa

from levercheck.benchmarks.base import ROLES, Benchmark, Item, Request, find_benchmark
from levercheck.benchmarks.data import Use, identity
from levercheck.benchmarks.manifests import (
    SCHEMA,
    Manifest,
    check,
    draw,
    fingerprint,
    folds,
    read_manifest,
    source_name,
)
from levercheck.benchmarks.source_files import shown
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence.files import write_json

DATA = {"files": [{"name": "loaves.csv", "sha256": "0" * 64}], "split": None}
SIZES = {"select": 5, "tune": 10, "confirm": 20}
Partition = st.lists(st.integers(1, 5), min_size=1, max_size=40)
"""Numbers of items of clusters."""


def items_of(clusters: list[int], strata: int = 1) -> list[Item]:
    return [
        Item(f"i{number}-{own}", f"loaf:{number}", facts={"stratum": f"s{number % strata}"})
        for number, size in enumerate(clusters)
        for own in range(size)
    ]


def drawn(items: list[Item], sizes: dict[str, int], seed: int = 0) -> Manifest:
    return draw(items, sizes, seed, source="loaves", data=DATA)


def folded(items: list[Item], seed: int = 0, **options: Any) -> list[Manifest]:
    return folds(items, seed, source="loaves", data=DATA, **options)


def clusters_of(items: list[Item], manifest: Manifest) -> dict[str, set[str]]:
    """Clusters by role; every listed item is one of the items, listed once, and brings its whole cluster."""
    cluster = {item.id: item.cluster for item in items}
    listed = Counter(name for names in manifest.roles.values() for name in names)
    assert set(listed) <= set(cluster) and set(listed.values()) <= {1}
    for names in manifest.roles.values():
        touched = {cluster[name] for name in names}
        assert set(names) == {item.id for item in items if item.cluster in touched}
        assert list(names) == sorted(names)
    return {role: {cluster[name] for name in names} for role, names in manifest.roles.items()}


def test_sizes_are_kept_where_clusters_are_single() -> None:
    items = items_of([1] * 60)
    found = drawn(items, SIZES, 7)
    assert {role: len(names) for role, names in found.roles.items()} == SIZES
    clusters_of(items, found)
    assert (found.source, found.data, found.seed) == ("loaves", DATA, 7)


@given(st.lists(st.integers(0, 3), min_size=3, max_size=30), st.data())
def test_sizes_are_kept_whatever_the_strata_are(strata: list[int], data: st.DataObject) -> None:
    items = [Item(f"i{n}", f"loaf:{n}", facts={"stratum": str(s)}) for n, s in enumerate(strata)]
    tune = data.draw(st.integers(1, len(items) - 2))
    sizes = {"tune": tune, "select": 1, "confirm": data.draw(st.integers(1, len(items) - tune - 1))}
    assert {role: len(names) for role, names in drawn(items, sizes).roles.items()} == sizes


def test_strata_are_kept_in_proportion() -> None:
    items = [
        Item(f"{name}{n}", f"{name}:{n}", facts={"stratum": name})
        for name, count in (("rye", 60), ("spelt", 30), ("oats", 10))
        for n in range(count)
    ]
    for seed in range(3):
        found = drawn(items, {"tune": 20, "confirm": 50}, seed)
        shares = {role: Counter(name.rstrip("0123456789") for name in names) for role, names in found.roles.items()}
        assert shares == {
            "tune": {"rye": 12, "spelt": 6, "oats": 2},
            "confirm": {"rye": 30, "spelt": 15, "oats": 5},
        }


@pytest.mark.parametrize("size", [45, 40])
def test_sizes_are_reached_where_whole_clusters_can_reach_them(size: int) -> None:
    """What whole clusters leave of the quotas of strata goes to whichever stratum has a cluster that fits."""
    items = items_of([5] * 40, strata=10)  # as JailbreakBench in five framings, by category
    assert len(drawn(items, {"tune": size}).roles["tune"]) == size
    both = drawn(items, {"tune": size, "confirm": 200 - size}).roles
    assert {role: len(names) for role, names in both.items()} == {"tune": size, "confirm": 200 - size}


def test_the_rest_of_the_quotas_goes_last() -> None:
    """Strata that whole clusters can fill are filled first: 20 of each, and the odd 5 from one of them."""
    found = drawn(items_of([5] * 40, strata=4), {"tune": 85})
    strata = Counter(int(name[1:].partition("-")[0]) % 4 for name in found.roles["tune"])
    assert sorted(strata.values()) == [20, 20, 20, 25]


@given(Partition, st.integers(1, 3), st.integers(0, 99), st.data())
def test_a_cluster_is_never_in_two_roles(clusters: list[int], strata: int, seed: int, data: st.DataObject) -> None:
    items = items_of(clusters, strata)
    roles = data.draw(st.lists(st.sampled_from(ROLES), min_size=1, unique=True))
    sizes = {role: data.draw(st.integers(1, 40)) for role in roles}
    try:
        found = drawn(items, sizes, seed)
    except NotEnoughDataError as error:
        assert sum(sizes.values()) > len(items) or "clusters are larger than its share" in str(error)
        return
    parts = clusters_of(items, found)
    assert sum(map(len, parts.values())) == len(set().union(*parts.values()))
    assert all(1 <= len(found.roles[role]) <= size for role, size in sizes.items()) and set(found.roles) == set(sizes)
    count = Counter(item.cluster for item in items)
    left = [count[cluster] for cluster in set(count) - set().union(*parts.values())]
    assert all(len(found.roles[role]) + min(left, default=99) > size for role, size in sizes.items())  # no more fits


def test_a_draw_is_a_function_of_ids_and_seed() -> None:
    items = items_of([1, 2, 3] * 20, 2)
    assert drawn(items, SIZES, 1) == drawn(items[::-1], SIZES, 1)
    assert drawn(items, SIZES, 1).roles != drawn(items, SIZES, 2).roles
    assert folded(items, 1) == folded(items[::-1], 1)
    assert [m.roles for m in folded(items, 1)] != [m.roles for m in folded(items, 2)]


def test_too_few_items() -> None:
    with pytest.raises(NotEnoughDataError, match="35 items are asked for and 'loaves' has 34: ask for fewer"):
        drawn(items_of([1] * 34), SIZES)
    drawn(items_of([1] * 35), SIZES)
    with pytest.raises(NotEnoughDataError, match="role tune gets no item of 'loaves': clusters are larger"):
        drawn(items_of([5, 5, 5]), {"tune": 4, "confirm": 6})
    with pytest.raises(NotEnoughDataError, match="'loaves' has 4 clusters, too few for 3 folds"):
        folded(items_of([9, 9, 9, 9]), count=3)
    with pytest.raises(UsageError, match="1 folds: expected at least 2"):
        folded(items_of([1] * 20), count=1)
    with pytest.raises(UsageError, match=r"sizes: unknown role 'tuna' \(did you mean 'tune'\?\)"):
        drawn(items_of([1] * 20), {"tuna": 4})


@given(Partition, st.integers(2, 4), st.integers(0, 99), st.sampled_from([0.0, 0.1, 0.3]))
def test_folds_confirm_every_cluster_once(clusters: list[int], count: int, seed: int, calibration: float) -> None:
    items = items_of(clusters)
    everything = {item.cluster for item in items}
    tuned = round(calibration * len(everything))
    if len(everything) - tuned < 2 * count:
        with pytest.raises(NotEnoughDataError, match="too few for"):
            folded(items, seed, count=count, calibration=calibration)
        return
    parts = [clusters_of(items, one) for one in folded(items, seed, count=count, calibration=calibration)]
    assert len(parts) == count
    tune = parts[0].get("tune", set())
    assert len(tune) == tuned and all(part.get("tune", set()) == tune for part in parts)
    confirmed = Counter(cluster for part in parts for cluster in part["confirm"])
    assert confirmed == dict.fromkeys(everything - tune, 1)
    assert max(len(p["confirm"]) for p in parts) - min(len(p["confirm"]) for p in parts) <= 1
    for part in parts:  # one role each within a fold, and none is left out
        assert part["readout"] and part["select"]
        assert sum(map(len, part.values())) == len(everything) == len(set().union(*part.values()))


def test_one_in_five_of_what_a_fold_fits_chooses_settings() -> None:
    first, second = folded(items_of([1] * 100), 3)
    assert {role: len(names) for role, names in first.roles.items()} == {
        "readout": 36, "select": 9, "tune": 10, "confirm": 45,
    }  # fmt: skip
    assert set(first.roles["confirm"]) == {*second.roles["readout"], *second.roles["select"]}


def test_a_manifest_comes_back_from_its_file(tmp_path: Path) -> None:
    items = items_of([1, 2] * 30, 2)
    for number, made in enumerate([drawn(items, SIZES, 3), *folded(items, 4)]):
        path = tmp_path / f"{number}.json"
        write_json(path, made.to_dict())
        assert read_manifest(path) == made
        assert made.role_of == {name: role for role in made.roles for name in made.roles[role]}
    body = json.loads(path.read_text())
    ids = sorted(body["roles"]["tune"])
    assert body["schema"] == SCHEMA == "levercheck.manifest/v1"
    assert body["fingerprints"]["tune"] == hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
    assert fingerprint(ids) == fingerprint(ids[::-1]) != fingerprint(ids[1:])


GOOD = Manifest("loaves", DATA, 5, {"tune": ("a", "b"), "confirm": ("c", "d")}).to_dict()


def written(tmp_path: Path, body: Any) -> Path:
    path = tmp_path / "own.json"
    path.write_text(body if isinstance(body, str) else json.dumps(body))
    return path


def with_roles(**roles: Any) -> dict[str, Any]:
    return {**GOOD, "roles": {**GOOD["roles"], **roles}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({**GOOD, "roles": {"tuna": ["a"]}}, "own.json: unknown role 'tuna' (did you mean 'tune'?)"),
        (with_roles(confirm=["c", "b"]), "own.json: roles.confirm has the id 'b', which tune has too"),
        (with_roles(tune=["a", "a"]), "own.json: roles.tune has the id 'a', which tune has too"),
        (with_roles(tune=["a", "x"]), "own.json: the ids of role tune are not those it was made with"),
        (with_roles(confirm=["c"]), "own.json: the ids of role confirm are not those it was made with"),
        (with_roles(tune="ab"), "own.json: roles.tune is no list of ids"),
        (with_roles(tune=["a", 7]), "own.json: roles.tune is no list of ids"),
        ({**GOOD, "roles": [["a"]]}, "own.json: not a manifest (levercheck.manifest/v1)"),
        ({**GOOD, "schema": "levercheck.manifest/v2"}, "own.json: not a manifest (levercheck.manifest/v1)"),
        ([GOOD], "own.json: not a manifest (levercheck.manifest/v1)"),
        ("{", "own.json: not JSON in UTF-8 ("),
        ("", "own.json: not JSON in UTF-8 ("),
    ],
)
def test_what_a_file_must_not_hold(tmp_path: Path, body: Any, message: str) -> None:
    assert read_manifest(written(tmp_path, GOOD)).to_dict() == GOOD
    with pytest.raises(UsageError) as caught:
        read_manifest(written(tmp_path, body))
    assert message in str(caught.value) and "\n" not in str(caught.value)


WRONG = {"source": (None, 3, ["loaves"]), "data": (None, ["x"], "x"), "seed": (None, "x", [1], 1.5, True),
         "fingerprints": (None, ["x"], "x")}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values], ids=str)
def test_other_keys_of_the_wrong_kind(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(UsageError) as caught:
        read_manifest(written(tmp_path, {**GOOD, key: value}))
    assert str(caught.value) == f"own.json: {key} is {shown(value)}, no manifest's: restore the file"
    if value is None:
        with pytest.raises(UsageError, match=f"own.json: {key} is "):
            read_manifest(written(tmp_path, {name: had for name, had in GOOD.items() if name != key}))


@pytest.mark.parametrize("stated", [{}, {"tune": "0" * 16}, {"tune": None}, {"tune": 3}])
def test_every_role_has_its_fingerprint(tmp_path: Path, stated: dict[str, Any]) -> None:
    """A list whose fingerprint was taken out with an edit would pass for the one that was drawn."""
    body = {**GOOD, "fingerprints": {"confirm": GOOD["fingerprints"]["confirm"], **stated}}
    with pytest.raises(UsageError, match=r"own\.json: the ids of role tune are not those it was made with: restore"):
        read_manifest(written(tmp_path, body))


def test_a_file_of_nothing_but_brackets(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"own\.json: not JSON in UTF-8 \("):
        read_manifest(written(tmp_path, "[" * 100_000))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"manifest none\.json cannot be read \(No such file or directory\)"):
        read_manifest(tmp_path / "none.json")
    (tmp_path / "own.json").write_bytes(b'{"schema": "\xff"}')
    with pytest.raises(UsageError, match=r"own\.json: not JSON in UTF-8 \(") as caught:
        read_manifest(tmp_path / "own.json")
    assert "\n" not in str(caught.value)


@pytest.fixture
def truthful(tmp_path: Path) -> tuple[Benchmark, list[Item], dict[str, Any], Manifest]:
    """A benchmark, its items, the identity of its data, and a manifest of them."""
    use = Use("truthfulqa-mc1", data=write_truthfulqa(tmp_path))
    benchmark = find_benchmark(use.name)
    items = benchmark.made(Request(lambda _: 0, lambda _: True, 0, use))
    assert benchmark.source is not None
    data = identity(benchmark.source, use)
    return benchmark, items, data, draw(items, SIZES, 0, source=source_name(benchmark), data=data)


def test_a_manifest_is_checked_against_its_items(truthful: Any) -> None:
    benchmark, items, data, manifest = truthful
    path = Path("somewhere") / "own.json"
    check(manifest, path, benchmark, items, data)
    check(manifest, path, find_benchmark("truthfulqa-mc2"), items, data)  # one data set, one manifest
    repeats = [Item(f"{item.id}~{n}", item.cluster) for item in items for n in (2, 3)]
    check(manifest, path, benchmark, [*items, *repeats], data)
    check(Manifest("truthfulqa", {}, 0, manifest.roles), path, benchmark, items, data)  # pins nothing


def test_what_a_manifest_is_refused_for(truthful: Any) -> None:
    benchmark, items, data, manifest = truthful

    def refused(changed: Manifest, message: str, found: Any = data, of: Benchmark = benchmark) -> None:
        with pytest.raises(UsageError) as caught:
            check(changed, Path("somewhere") / "own.json", of, items, found)
        assert message in str(caught.value) and "\n" not in str(caught.value)

    first, *rest = manifest.roles["tune"]
    roles = {**manifest.roles, "tune": (first[:-1], *rest)}
    wrong = Manifest("truthfulqa", data, 0, roles)
    refused(wrong, f"own.json: roles.tune names '{first[:-1]}', no item of 'truthfulqa-mc1' (did you mean '{first}'?)")
    other = Manifest("falseqa", data, 0, manifest.roles)
    refused(other, "own.json is of 'falseqa', and 'truthfulqa-mc1' asks items of 'truthfulqa'")
    refused(manifest, "'simpleqa/best-guess' asks items of 'simpleqa'", of=find_benchmark("simpleqa/best-guess"))
    later = {"files": [{"name": "truthfulqa.csv", "sha256": "1" * 64}], "split": None}
    old = data["files"][0]["sha256"][:12]
    refused(manifest, f"own.json was drawn from another revision of the data (truthfulqa.csv {old}, found", later)
    hub = {"dataset": "bakers/loaves", "revision": "ab" * 20}
    refused(manifest, "found bakers/loaves abababababab): get that one, or draw again", hub)


def test_a_renamed_file_is_the_same_revision(truthful: Any) -> None:
    """The bytes are what is pinned: their name, and the split that a name says, are where somebody put them."""
    benchmark, items, data, manifest = truthful
    renamed = {**data, "files": [{**data["files"][0], "name": "TruthfulQA-test.csv"}], "split": "test"}
    check(manifest, Path("own.json"), benchmark, items, renamed)
    more = {**data, "files": [*data["files"], {"name": "more.csv", "sha256": "0" * 64}]}
    with pytest.raises(UsageError, match="another revision of the data"):
        check(manifest, Path("own.json"), benchmark, items, more)


@pytest.mark.parametrize("change", [{"revision": "cd" * 20}, {"split": "train"}, {"config": "white"}, {"dataset": "x"}])
def test_of_the_hub_everything_is_pinned(truthful: Any, change: dict[str, str]) -> None:
    benchmark, items, _, drawn_of = truthful
    hub = {"dataset": "bakers/loaves", "config": None, "split": "test", "revision": "ab" * 20}
    manifest = Manifest("truthfulqa", hub, 0, drawn_of.roles)
    check(manifest, Path("own.json"), benchmark, items, dict(hub))
    with pytest.raises(UsageError, match="another revision of the data"):
        check(manifest, Path("own.json"), benchmark, items, {**hub, **change})


def test_what_ids_belong_to() -> None:
    names = ("truthfulqa-mc1", "simpleqa/best-guess", "jailbreak/plain", "jailbreak-benign", "nonexist/may-abstain")
    assert [source_name(find_benchmark(name)) for name in names] == [
        "truthfulqa", "simpleqa", "jbb-harmful", "jbb-benign", "nonexist",
    ]  # fmt: skip
