"""A unit of work: a folder of rows (and at most one array) that is computed batch by batch and survives a kill."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from levercheck.errors import IntegrityError
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import sync_folder, write_json
from levercheck.evidence.provenance import now, read_sidecar, write_sidecar
from levercheck.evidence.rows import RowStore, Schema, content_digest, read_part

RESULTS = "results.json"
Batch = TypeVar("Batch")
Row = dict[str, Any]


class Unit:
    """One folder of the run, keyed by the digest of everything upstream of it."""

    def __init__(self, root: Path, name: str, key: str, schema: Schema, order: Sequence[str]) -> None:
        self.root, self.name, self.key, self.order = root, name, key, list(order)
        self.schema = dict(schema)
        self.folder = root / name

    @property
    def complete(self) -> bool:
        """True when the unit was finished with this key; its files are then checked against their digests."""
        sidecar = read_sidecar(self.folder)
        if sidecar is None or sidecar.get("status") != "complete":
            return False
        if sidecar.get("key") != self.key:
            raise IntegrityError(f"{self.name} was computed with other settings: use another output directory")
        check_outputs(self.root, sidecar)
        return True

    def run(
        self,
        batches: Mapping[str, Batch],
        compute: Callable[[Batch], list[Row]],
        *,
        facts: dict[str, Any],
        tick: Callable[[int], None] = lambda rows: None,
        array: Path | None = None,
        files: Sequence[Path] = (),
        summarise: Callable[[pl.DataFrame], dict[str, Any]] | None = None,
    ) -> None:
        """Compute the batches that are not yet acknowledged, then compact and write the sidecar.

        `compute` returns the rows of one batch (an array it fills must be flushed by then). `tick` hears how many rows
        became known. `array` is one more output file of the unit, filled batch by batch; `files` are
        others that the last batch writes; `summarise` makes its `results.json` from the rows.
        """
        started, clock = now(), time.monotonic()
        store = RowStore(self.folder, self.key, self.schema)
        try:
            self._check_array(array, store)
            done = store.batches() if store.part is None else {name: [] for name in batches}
            for rows in done.values():
                tick(len(rows))
            for name, batch in batches.items():
                if name not in done:
                    rows = compute(batch)
                    store.append(name, rows)
                    tick(len(rows))
            part = store.part or store.finish(self.order)
            store.discard_journal()
        finally:
            store.close()
        outputs = [part, *([] if array is None else [array]), *files]
        rows_done = self.rows()
        if summarise is not None:
            write_json(self.folder / RESULTS, summarise(rows_done))
            outputs.append(self.folder / RESULTS)
        timing = {"started": started, "ended": now(), "seconds": round(time.monotonic() - clock, 3)}
        body = {"unit": self.name, "key": self.key, **facts, **timing, "rows_sha256": content_digest(rows_done)}
        write_sidecar(self.folder, self.root, body, outputs, "complete")

    def _check_array(self, array: Path | None, store: RowStore) -> None:
        """An array belongs to the batches acknowledged beside it: neither may be taken over without the other."""
        if array is None:
            return
        known = store.part is not None or bool(store.batches())
        if known and not array.is_file():
            raise IntegrityError(
                f"{array.name} is gone but its rows are not: delete the folder '{self.name}' to compute it again"
            )
        if not known:
            array.unlink(missing_ok=True)

    def rows(self) -> pl.DataFrame:
        """The unit's rows."""
        return read_part(self.folder)


def check_outputs(root: Path, sidecar: dict[str, Any]) -> None:
    """Compare the files a sidecar lists with their digests; a difference is an IntegrityError naming the file."""
    unit = sidecar.get("unit", root.name)  # a readout's sidecar stands for its whole folder
    for output in sidecar["outputs"]:
        path = root / output["path"]
        if not path.resolve().is_relative_to(root.resolve()):
            raise IntegrityError(f"{unit} lists '{output['path']}', which is outside the run: restore its sidecar")
        found = file_digest(path) if path.is_file() else "nothing"
        if found != output["sha256"]:
            remedy = "" if unit == "study" else f", or delete the folder '{unit}' to compute it again"
            raise IntegrityError(
                f"{output['path']} has sha256 {found[:12]}, expected {output['sha256'][:12]}: restore the file{remedy}"
            )


def open_array(path: Path, shape: tuple[int, ...], dtype: str = "float32") -> np.memmap[Any, Any]:
    """A .npy file open for writing, created when absent; one of another shape or dtype is an IntegrityError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        try:
            existing = np.lib.format.open_memmap(path, mode="r+")
        except (ValueError, OSError) as error:
            raise IntegrityError(f"{path.name} cannot be read as an array ({error}): delete its folder") from None
        if existing.shape == shape and existing.dtype == np.dtype(dtype):
            return existing
        raise IntegrityError(
            f"{path.name} has shape {existing.shape} {existing.dtype}, expected {shape} {dtype}: delete its folder"
        )
    try:
        created = np.lib.format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
        created.flush()
        _reserve(path)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return created


def _reserve(path: Path) -> None:
    """Take the whole file's blocks now: writing into a mapped hole of a full disk would kill the process."""
    if not hasattr(os, "posix_fallocate"):
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def read_array(path: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """An array, memory-mapped; pickled content is refused."""
    try:
        array: np.ndarray[Any, np.dtype[np.float32]] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path.name} cannot be read as an array ({error}): restore it") from None
    return array


def batch_names(batches: Iterable[Batch]) -> dict[str, Batch]:
    """Number batches in a fixed order: the names that a journal acknowledges."""
    return {f"{number:05d}": batch for number, batch in enumerate(batches)}
