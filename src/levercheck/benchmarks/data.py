"""Where a benchmark's data come from: a file the study names, the data folder, or the Hugging Face hub.

The data folder is `$LEVERCHECK_DATA`, or else `levercheck/benchmarks` in the user's data directory. It holds a file
`NAME.csv`, `NAME.jsonl`, `NAME.json` or `NAME.parquet` per source (`NAME-SPLIT` where a study names a split), or a
folder `NAME` of parquet files. No data set is shipped, or downloaded but by `datasets` where that is installed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platformdirs import user_data_path

from levercheck.benchmarks import questions
from levercheck.benchmarks.source_files import file_identity, find_files, records_of
from levercheck.benchmarks.source_hub import HubDataset, fetch
from levercheck.errors import MissingError, UsageError
from levercheck.evidence.foreign_read import Record

if TYPE_CHECKING:
    from levercheck.benchmarks.base import Request

ENDINGS = ("parquet", "jsonl", "json", "csv")
FOLDER_VARIABLE = "LEVERCHECK_DATA"
_SHA = "sha256:"
SHORTEST_DIGEST = 12


@dataclass(frozen=True)
class DataSource:
    """A data set. `columns` are read; `rows` is how many the published split has; `get` says where a file is found."""

    name: str  # of the file in the data folder
    columns: tuple[str, ...]
    endings: tuple[str, ...]  # of local files, without the dot
    licence: str
    get: str
    rows: int | None = None
    hub: HubDataset | None = None
    read: Callable[[Path], Iterator[Record]] | None = None  # of a file in a format of its own


@dataclass(frozen=True)
class Use:
    """How a study uses a benchmark; None leaves what the benchmark declares.

    `revision` is a commit of the hub's data set, or `sha256:...` of a local file.
    """

    name: str  # of the benchmark, with its style
    data: Path | None = None
    split: str | None = None
    revision: str | None = None
    prompt_file: Path | None = None
    chat: bool | None = None
    manifest: Path | None = None
    shares: tuple[tuple[str, float], ...] | None = None  # of its items by role
    max_new_tokens: int | None = None
    replicates: int | None = None


NOWHERE = Use("")
"""Of items that no data are read for."""


def records(source: DataSource, request: Request) -> list[Record]:
    """The rows of a benchmark's data, each with its place (`file:row`) for errors."""
    return list(_open(source, request.use)[0])


def identity(source: DataSource, use: Use) -> dict[str, Any]:
    """What pins the data: names and sha256 of files, or data set, split and commit. The data must be there."""
    return _open(source, use)[1]


def found(source: DataSource, use: Use) -> Path | None:
    """Where the data lie on this machine, or None."""
    return use.data if use.data is not None else local_file(source.name, source.endings, use.split)


def local_file(name: str, endings: Sequence[str], split: str | None) -> Path | None:
    """A source's file in the data folder, or its folder of parquet files; of a split, a file `NAME-SPLIT` first."""
    folder, names = data_folder(), [name]
    if split is not None:
        names = [f"{name}-{split}", name]
    places = [folder / f"{one}.{ending}" for one in names for ending in endings]
    if "parquet" in endings:
        places.insert(len(endings) if split is not None else len(places), folder / name)
    return next((place for place in places if place.exists()), None)


def split_within(path: Path, split: str | None) -> str | None:
    """The split to choose inside a path: none where the file itself is that split, by its name."""
    return None if split is not None and path.is_file() and path.stem.endswith(f"-{split}") else split


def data_folder() -> Path:
    """Where data files are looked for."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser() if named else user_data_path("levercheck") / "benchmarks"


def _open(source: DataSource, use: Use) -> tuple[Iterable[Record], dict[str, Any]]:
    path = found(source, use)
    if path is None:
        if source.hub is None:
            raise MissingError(f"no data for '{use.name}': {_by_hand(source, use)}")
        if (use.revision or "").startswith(_SHA):
            raise MissingError(f"revision {use.revision} of '{use.name}' is of a local file: {_by_hand(source, use)}")
        hub = replace(source.hub, revision=use.revision or source.hub.revision)
        asked = questions.Request(source.name, None, 0, use.split)
        try:
            return fetch(asked, hub)
        except MissingError as error:
            reason = str(error).partition(";")[0]
            raise MissingError(f"no data for '{use.name}' ({reason}): {_by_hand(source, use)}") from None
    files = find_files(questions.Request(source.name, str(path), 0, split_within(path, use.split)), source.endings)
    pinned = file_identity(files)
    if use.revision is not None:
        _check_revision(use, pinned)
    return chain.from_iterable(read_rows(file, source) for file in files), {"files": pinned, "split": use.split}


def read_rows(path: Path, source: DataSource) -> Iterator[Record]:
    """The rows of one file."""
    return records_of(path, source.columns) if source.read is None else source.read(path)


def _check_revision(use: Use, pinned: list[dict[str, str]]) -> None:
    wanted = use.revision or ""
    names = ", ".join(file["name"] for file in pinned)
    if not wanted.startswith(_SHA):
        raise UsageError(
            f"revision '{wanted}' of '{use.name}': {names} is a local file, expected {_SHA} and its digest"
        )
    digest = wanted.removeprefix(_SHA).lower()
    if len(digest) < SHORTEST_DIGEST:
        raise UsageError(f"revision '{wanted}': expected at least {SHORTEST_DIGEST} digits of the sha256 of {names}")
    if len(pinned) != 1 or not pinned[0]["sha256"].startswith(digest):
        raise UsageError(
            f"{names}: wrong revision: sha256 {pinned[0]['sha256'][:12]}..., expected {digest[:12]}...: get that "
            "version, or correct 'revision'"
        )


def _by_hand(source: DataSource, use: Use) -> str:
    form = "/".join(source.endings)
    name = source.name if use.split is None else f"{source.name}-{use.split}"
    return (
        f"get {source.get} and save it as {name}.{form} in the folder {FOLDER_VARIABLE} names, or give its path "
        f"(settings: NAME: {{data: PATH}})"
    )
