"""Question sets from the Hugging Face hub by way of the optional package `datasets`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from levercheck.benchmarks.questions import Request
from levercheck.errors import MissingError, UsageError, nearest
from levercheck.evidence.foreign_read import Record

_REVISION = re.compile(r"[@/\\]([0-9a-f]{40})(?=[/\\])")


@dataclass(frozen=True)
class HubDataset:
    """A dataset of the hub: the first split is the default; `columns` are those that are read."""

    id: str
    config: str
    splits: tuple[str, ...]
    columns: tuple[str, ...]
    revision: str | None = None  # a commit or tag; None: what the hub serves, and the commit is recorded


def fetch(request: Request, dataset: HubDataset) -> tuple[Iterator[Record], dict[str, Any]]:
    """The records of one split and what identifies them: dataset, config, split and revision.

    The revision is the commit that the files were taken from, None when `datasets` does not tell it. Raises
    `UsageError` for an unknown split and `MissingError`, with what to do, when the data cannot be had.
    """
    split = request.split or dataset.splits[0]
    if split not in dataset.splits:
        raise UsageError(f"the source '{request.name}' has no split '{split}'{nearest(split, dataset.splits)}")
    try:
        library = import_module("datasets")
    except ImportError:
        raise MissingError(
            f"the source '{request.name}' without a path needs the package 'datasets' (pip install datasets); "
            + _by_hand(request, dataset, split)
        ) from None
    pinned = {} if dataset.revision is None else {"revision": dataset.revision}
    try:
        table = library.load_dataset(dataset.id, dataset.config, split=split, **pinned)
    except Exception as error:  # the library lets errors of several network packages through
        reason = (str(error).splitlines() or [""])[0][:120] or type(error).__name__
        raise MissingError(
            f"{dataset.id} cannot be downloaded ({reason}): try again with a connection; "
            + _by_hand(request, dataset, split)
        ) from None
    _check_columns(table, dataset)
    _check_revision(table, dataset)
    identity = {
        "dataset": dataset.id,
        "config": dataset.config,
        "split": split,
        "revision": _revision(table),
    }
    return _records(table, dataset, split), identity


def _by_hand(request: Request, dataset: HubDataset, split: str) -> str:
    return (
        f"or download {dataset.config}/{split}-*.parquet of the dataset {dataset.id} into a folder "
        f"and name it as '{request.name}:FOLDER'"
    )


def _check_columns(table: Any, dataset: HubDataset) -> None:
    present: Sequence[str] = list(table.column_names)
    for name in dataset.columns:
        if name not in present:
            raise UsageError(f"{dataset.id}: no column '{name}'{nearest(name, present)}")


def _check_revision(table: Any, dataset: HubDataset) -> None:
    """UsageError where a commit was asked for and another one is known to have come."""
    wanted, got = dataset.revision or "", _revision(table)
    if got is not None and re.fullmatch(r"[0-9a-f]{40}", wanted) and got != wanted:
        raise UsageError(
            f"{dataset.id}: wrong revision {got[:12]}, expected {wanted[:12]}: clear the cache of datasets"
        )


def _revision(table: Any) -> str | None:
    """The commit in the addresses that the files came from, or else in the folder they are kept in."""
    sources = [str(address) for address in getattr(table.info, "download_checksums", None) or ()]
    kept = [str(file.get("filename")) for file in table.cache_files]
    for places in (sources, kept):
        found = {match.group(1) for place in places if (match := _REVISION.search(place))}
        if len(found) == 1:
            return found.pop()
    return None


def _records(table: Any, dataset: HubDataset, split: str) -> Iterator[Record]:
    for number, fields in enumerate(table.select_columns(list(dataset.columns)), 1):
        yield Record(f"{dataset.id} {split}: row {number}", dict(fields))
