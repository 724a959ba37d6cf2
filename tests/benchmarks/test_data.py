"""Where a benchmark's data come from, in which order, and what pins them."""

import hashlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from levercheck.benchmarks.base import Request
from levercheck.benchmarks.data import (
    FOLDER_VARIABLE,
    DataSource,
    Use,
    data_folder,
    found,
    identity,
    local_file,
    records,
    split_within,
)
from levercheck.benchmarks.source_hub import HubDataset
from levercheck.errors import MissingError, UsageError
from levercheck.evidence.foreign_read import Record

HUB = HubDataset("bakers/loaves", "white", ("test", "train"), ("id", "text"))
SOURCE = DataSource(
    "loaves", ("id", "text"), ("csv", "jsonl", "parquet"), "MIT", "the list of loaves of the bakers", hub=HUB
)
ONE, OTHER = "ab" * 20, "cd" * 20


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, empty; the hub is out of reach."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "data"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def write(path: Path, text: str) -> Path:
    """A file with one row."""
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        pl.DataFrame({"id": ["1"], "text": [text], "more": [0]}).write_parquet(path)
    elif path.suffix == ".csv":
        path.write_text(f"id,text\n1,{text}\n")
    else:
        path.write_text(f'{{"id": "1", "text": "{text}"}}\n')
    return path


def read(source: DataSource = SOURCE, **settings: Any) -> list[str]:
    use = Use("bread", **settings)
    return [record.fields["text"] for record in records(source, Request(lambda _: 0, lambda _: True, 0, use))]


def refused(message: str, error: type[Exception] = UsageError, source: DataSource = SOURCE, **settings: Any) -> str:
    with pytest.raises(error) as caught:
        read(source, **settings)
    told = str(caught.value)
    assert message in told and "\n" not in told
    with pytest.raises(error):
        identity(source, Use("bread", **settings))
    return told


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Table:
    """As much of a table of `datasets` as is used."""

    def __init__(self, rows: list[dict[str, str]], commit: str | None) -> None:
        self.rows, self.column_names = rows, list(rows[0])
        self.info = types.SimpleNamespace(download_checksums=None)
        self.cache_files = [{"filename": f"cache/loaves/0.0.0/{commit}/loaves-test.arrow"}] if commit else []

    def select_columns(self, names: list[str]) -> list[dict[str, str]]:
        return [{name: row[name] for name in names} for row in self.rows]


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], list[tuple[Any, ...]]]:
    """Puts a data set of one row on the hub, of a commit; what is asked of the hub is listed."""

    def serve(commit: str | None) -> list[tuple[Any, ...]]:
        asked: list[tuple[Any, ...]] = []

        def load(name: str, config: str, *, split: str, **pinned: str) -> Table:
            asked.append((name, config, split, pinned))
            return Table([{"id": "1", "text": f"hub {split}", "more": "x"}], commit)

        library = types.ModuleType("datasets")
        library.load_dataset = load  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "datasets", library)
        return asked

    return serve


def test_the_first_place_that_has_the_data_is_taken(folder: Path, tmp_path: Path, hub: Any) -> None:
    asked = hub(ONE)
    assert read() == ["hub test"] and found(SOURCE, Use("bread")) is None
    places = [
        folder / "loaves" / "part.parquet",
        folder / "loaves.parquet",
        folder / "loaves.jsonl",
        folder / "loaves.csv",
    ]
    for path in places:  # each comes before the ones so far
        write(path, path.name)
        assert read() == [path.name]
        assert found(SOURCE, Use("bread")) == (path.parent if path.name == "part.parquet" else path)
    own = write(tmp_path / "own.csv", "named by the study")
    assert read(data=own) == ["named by the study"] and found(SOURCE, Use("bread", data=own)) == own
    assert len(asked) == 1  # what is on this machine is not fetched


def test_a_folder_counts_only_where_parquet_is_read(folder: Path) -> None:
    write(folder / "loaves" / "part.parquet", "folder")
    plain = DataSource("loaves", ("id", "text"), ("csv",), "MIT", "the list of loaves")
    assert found(plain, Use("bread")) is None and read() == ["folder"]
    refused("no data for 'bread': get the list of loaves", MissingError, plain)


def test_a_format_of_its_own_is_read_by_its_reader(folder: Path) -> None:
    (folder / "loaves.txt").write_text("rye\nspelt")
    source = DataSource("loaves", ("text",), ("txt",), "MIT", "a list", read=lines_of)
    assert read(source) == ["rye", "spelt"]


def lines_of(path: Path) -> Iterator[Record]:
    for line in path.read_text().splitlines():
        yield Record(path.name, {"text": line})


@pytest.mark.skipif(sys.platform != "linux", reason="the user's data directory is named by XDG_DATA_HOME on Linux")
def test_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for unset in (None, ""):
        monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
        if unset is not None:
            monkeypatch.setenv(FOLDER_VARIABLE, unset)
        assert data_folder() == tmp_path / "levercheck" / "benchmarks"
    monkeypatch.setenv(FOLDER_VARIABLE, "~/loaves")
    assert data_folder() == tmp_path / "home" / "loaves"


def test_rows_have_their_place_and_the_data_their_identity(folder: Path) -> None:
    path = write(folder / "loaves.csv", "rye")
    (row,) = records(SOURCE, Request(lambda _: 0, lambda _: True, 0, Use("bread")))
    assert (row.place, row.fields) == ("loaves.csv:2", {"id": "1", "text": "rye"})
    assert identity(SOURCE, Use("bread")) == {"files": [{"name": "loaves.csv", "sha256": sha(path)}], "split": None}


def test_what_is_missing_is_told_with_what_to_get_and_where(folder: Path) -> None:
    told = refused("no data for 'bread'", MissingError)
    for part in (
        "needs the package 'datasets' (pip install datasets)",
        "get the list of loaves of the bakers and save it as loaves.csv/jsonl/parquet",
        FOLDER_VARIABLE,
        "{data: PATH}",
    ):
        assert part in told
    by_hand = DataSource("loaves", ("id", "text"), ("csv",), "MIT", "the list of loaves")
    told = refused("get the list of loaves and save it as loaves.csv in", MissingError, by_hand)
    assert "datasets" not in told and MissingError.exit_code == 3
    for source in (SOURCE, by_hand):
        refused("and save it as loaves-train.csv", MissingError, source, split="train")


def test_a_hub_that_cannot_be_reached(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise ConnectionError("no route to the hub\nand more")

    library = types.ModuleType("datasets")
    library.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    told = refused("bakers/loaves cannot be downloaded (no route to the hub)", MissingError)
    assert "get the list of loaves of the bakers" in told


def test_a_file_that_is_named_and_not_there(folder: Path, tmp_path: Path) -> None:
    write(folder / "loaves.csv", "never read instead")
    refused("none.csv: no such file", data=tmp_path / "none.csv")
    refused("reads .csv or .jsonl or .parquet", data=write_text(tmp_path / "loaves.txt"))


def write_text(path: Path) -> Path:
    path.write_text("rye")
    return path


def test_a_revision_of_a_file_is_its_digest(folder: Path) -> None:
    path = write(folder / "loaves.csv", "rye")
    for revision in (f"sha256:{sha(path)}", f"sha256:{sha(path)[:12]}"):
        assert read(revision=revision) == ["rye"]
    told = refused("loaves.csv: wrong revision", revision=f"sha256:{'0' * 64}")
    assert sha(path)[:12] in told and "000000000000" in told
    refused("revision 'sha256:': expected at least 12 digits of the sha256 of loaves.csv", revision="sha256:")
    refused(f"revision '{ONE}' of 'bread': loaves.csv is a local file, expected sha256:", revision=ONE)
    path.write_text("id,text\n1,barley\n")
    refused("loaves.csv: wrong revision", revision=revision)


def test_a_digest_is_of_a_file_and_never_asked_of_the_hub(hub: Any) -> None:
    """The hub knows no such revision, and what it has instead would be another version."""
    asked, revision = hub(ONE), f"sha256:{'0' * 64}"
    told = refused(
        f"revision {revision} of 'bread' is of a local file: get the list of", MissingError, revision=revision
    )
    assert "save it as loaves.csv/jsonl/parquet" in told and not asked


def test_several_files_have_no_one_digest(folder: Path) -> None:
    first = write(folder / "loaves" / "part-0.parquet", "rye")
    assert read(revision=f"sha256:{sha(first)}") == ["rye"]
    write(folder / "loaves" / "part-1.parquet", "spelt")
    assert read() == ["rye", "spelt"]
    refused("wrong revision", revision=f"sha256:{sha(first)}")


def test_a_revision_of_the_hub_is_passed_through(hub: Any) -> None:
    asked = hub(ONE)
    assert read() == ["hub test"]
    assert read(revision=ONE) == ["hub test"]
    pinned = DataSource("loaves", ("id", "text"), ("csv",), "MIT", "a list", hub=HubDataset(
        "bakers/loaves", "white", ("test",), ("id", "text"), ONE))  # fmt: skip
    assert read(pinned) == ["hub test"] and read(pinned, revision="v2") == ["hub test"]
    assert [pin for *_, pin in asked] == [{}, {"revision": ONE}, {"revision": ONE}, {"revision": "v2"}]
    assert {(name, config) for name, config, *_ in asked} == {("bakers/loaves", "white")}
    told = {"dataset": "bakers/loaves", "config": "white", "split": "test", "revision": ONE}
    assert identity(SOURCE, Use("bread")) == told


def test_another_commit_than_was_asked_for_is_refused(hub: Any) -> None:
    hub(OTHER)
    refused(f"bakers/loaves: wrong revision {OTHER[:12]}, expected {ONE[:12]}", revision=ONE)
    assert identity(SOURCE, Use("bread"))["revision"] == OTHER
    hub(None)
    assert identity(SOURCE, Use("bread", revision=ONE))["revision"] is None  # not told: nothing is claimed


def test_splits_of_the_hub_and_of_a_folder(folder: Path, hub: Any) -> None:
    hub(ONE)
    assert read(split="train") == ["hub train"]
    assert identity(SOURCE, Use("bread", split="train"))["split"] == "train"
    refused("has no split 'trian' (did you mean 'train'?)", split="trian")
    write(folder / "loaves" / "test-00000-of-00001.parquet", "folder test")
    write(folder / "loaves" / "train-00000-of-00001.parquet", "folder train")
    assert read(split="train") == ["folder train"]
    assert identity(SOURCE, Use("bread", split="train"))["split"] == "train"
    refused("holds the splits test, train: name one of them")
    refused("no split 'trian' (did you mean 'train'?)", split="trian")


def test_a_split_is_a_file_of_its_name_a_part_of_a_folder_or_refused(folder: Path, hub: Any) -> None:
    """`loaves-train` before the folder, the folder before `loaves`, which says nothing of a split."""
    asked = hub(ONE)
    plain = write(folder / "loaves.csv", "no split in its name")
    refused(f"split 'train' was asked of the file {plain.name}", split="train")
    write(folder / "loaves" / "test-00000-of-00001.parquet", "folder test")
    write(folder / "loaves" / "train-00000-of-00001.parquet", "folder train")
    assert read(split="train") == ["folder train"] and read() == ["no split in its name"]
    for ending in ("parquet", "jsonl", "csv"):  # each comes before the ones so far
        path = write(folder / f"loaves-train.{ending}", f"train {ending}")
        assert read(split="train") == [f"train {ending}"] and found(SOURCE, Use("bread", split="train")) == path
        assert identity(SOURCE, Use("bread", split="train"))["files"] == [{"name": path.name, "sha256": sha(path)}]
    assert read(split="test") == ["folder test"] and read() == ["no split in its name"]
    assert not asked


def test_a_file_that_a_study_names_may_be_the_split_by_its_name(folder: Path, tmp_path: Path) -> None:
    named = write(tmp_path / "own-train.csv", "train")
    assert read(data=named, split="train") == ["train"]
    refused("split 'test' was asked of the file own-train.csv", data=named, split="test")
    refused("split 'rain' was asked of the file own-train.csv", data=named, split="rain")


def test_the_file_of_a_source(folder: Path) -> None:
    endings = ("parquet", "csv")
    assert local_file("loaves", endings, None) is local_file("loaves", endings, "train") is None
    shards = write(folder / "loaves" / "train-0.parquet", "x").parent
    assert local_file("loaves", endings, None) == local_file("loaves", endings, "train") == shards
    assert local_file("loaves", ("csv",), None) is None
    whole, part = write(folder / "loaves.csv", "x"), write(folder / "loaves-train.csv", "x")
    assert (local_file("loaves", endings, None), local_file("loaves", endings, "train")) == (whole, part)
    assert local_file("loaves", endings, "test") == shards
    assert [split_within(part, name) for name in ("train", "test", None)] == [None, "test", None]
    assert split_within(whole, "train") == split_within(shards, "train") == "train"
    shards.rename(folder / "loaves-train")
    assert split_within(folder / "loaves-train", "train") == "train"  # a folder has parts of its own
