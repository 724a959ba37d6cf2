"""Activations of many items, one .npy file per item and location: checked one by one, never all in memory."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Literal, get_args

import numpy as np

from levercheck.errors import IntegrityError, MissingError, UsageError, nearest
from levercheck.interop.h_neurons_formats import METADATA, REGION_OF, file_name, load_json

Reduce = Literal["mean", "max"]
Shape = tuple[int, int]
Matrix = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Folder:
    """Where the activations are and how they were made, before any is read."""

    roots: tuple[Path, ...]
    locations: tuple[str, ...]  # in the order of a store
    reduce: Reduce
    claimed_model: str | None  # what the metadata says; nothing can check it

    def path(self, location: str, qid: str) -> Path | None:
        """The item's file, from the first root that has one."""
        name = file_name(qid, location)
        return next((p for root in self.roots if (p := root / location / name).is_file()), None)

    def qids(self) -> list[str]:
        """Every item that has a file in any location."""
        found = {p.name[4:-4] for root in self.roots for location in self.locations for p in _files(root / location)}
        return sorted(found)


@dataclass(frozen=True)
class Scan:
    """Checked activations of the wanted items. `missing` maps items that lack a file to the locations they lack."""

    folder: Folder
    shape: Shape
    missing: dict[str, tuple[str, ...]]
    complete: tuple[str, ...]  # sorted
    others: int  # items with files that nobody asked for
    negative: int  # files with values below zero, which CETT cannot have
    sha256: str

    def load(self, location: str, qid: str) -> Matrix:
        """One item's activations, float32 [layers, neurons]."""
        path = self.folder.path(location, qid)
        if path is None:
            raise MissingError(f"{location}/{file_name(qid, location)} is gone: restore it and run again")
        return read_matrix(path, self.shape)[0]


def open_folder(roots: Sequence[Path], locations: Sequence[str], reduce: str | None) -> Folder:
    """Find the locations and what the metadata says of them; `locations` leaves the others out."""
    for name in locations:
        if name not in REGION_OF:
            raise UsageError(f"location '{name}' is unknown{nearest(name, REGION_OF)}")
    reduces, models = set(), set()
    for root in roots:
        if not root.is_dir():
            raise UsageError(f"there is no folder '{root}': check --activations")
        facts = _metadata(root)
        reduces |= {str(facts["aggregation_method"])} if "aggregation_method" in facts else set()
        models |= {facts["model_path"]} if isinstance(facts.get("model_path"), str) else set()
    if len(models) > 1:
        raise UsageError(f"the activations come from several models ({', '.join(sorted(map(_label, models)))})")
    present = [name for name in REGION_OF if any(_files(root / name) for root in roots)]
    absent = [name for name in locations if name not in present]
    if absent or not present:
        raise UsageError(
            f"'{roots[0]}' has no act_*.npy in {', '.join(absent or REGION_OF)}: give --activations the folder that "
            "holds the locations"
        )
    known = reduces | ({reduce} if reduce else set())
    if len(known) != 1:
        said_now = f"say {' and '.join(sorted(map(str, known)))}" if known else "do not say"
        raise UsageError(f"{METADATA} and --reduce {said_now} how tokens were reduced: give --reduce mean or max")
    said = known.pop()
    if said not in get_args(Reduce):
        raise UsageError(f"aggregation method '{said}' is unknown{nearest(said, get_args(Reduce))}")
    method: Reduce = "max" if said == "max" else "mean"
    chosen = tuple(name for name in present if not locations or name in locations)
    return Folder(tuple(roots), chosen, method, _label(models.pop()) if models else None)


def scan(
    folder: Folder, wanted: Sequence[str] | None, shape: Shape | None, tick: Callable[[int], None] = lambda files: None
) -> Scan:
    """Read every wanted item's files once: shape, numbers and digest. `wanted` None means all there are."""
    there = folder.qids()
    items = sorted(there if wanted is None else wanted)
    missing: dict[str, tuple[str, ...]] = {}
    total, negative = hashlib.sha256(), 0
    for qid in items:
        absent = []
        for location in folder.locations:
            path = folder.path(location, qid)
            if path is None:
                absent.append(location)
                continue
            matrix, sha256 = read_matrix(path, shape)
            shape = (matrix.shape[0], matrix.shape[1])
            negative += bool((matrix < 0).any())
            total.update(f"{location}/{path.name} {sha256}\n".encode())
            tick(1)
        if absent:
            missing[qid] = tuple(absent)
    if shape is None or len(missing) == len(items):
        raise UsageError(f"none of {len(items)} items has activations in {', '.join(folder.locations)}: check the ids")
    complete = tuple(qid for qid in items if qid not in missing)
    others = len(set(there) - set(items))
    return Scan(folder, shape, missing, complete, others, negative, total.hexdigest())


def read_matrix(path: Path, shape: Shape | None) -> tuple[Matrix, str]:
    """One file as float32 [layers, neurons] with the digest of its bytes; every defect names the file."""
    place = f"{path.parent.name}/{path.name}"
    data = path.read_bytes()
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise IntegrityError(
            f"{place} cannot be read as an array ({str(error)[:80]}): extract it again, or remove it"
        ) from None
    if not isinstance(array, np.ndarray) or array.dtype not in (np.float32, np.float16):
        kind = getattr(array, "dtype", "an archive")
        raise IntegrityError(f"{place} holds {kind}, expected float32: extract it again")
    if array.ndim != 2 or 0 in array.shape or (shape is not None and array.shape != tuple(shape)):
        expected = "[layers, neurons]" if shape is None else f"{shape[0]} x {shape[1]}"
        raise IntegrityError(f"{place} has shape {array.shape}, expected {expected}: extract it again")
    if not np.isfinite(array).all():
        layer = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise IntegrityError(f"{place} has values that are not finite in layer {layer}: extract it again, or remove it")
    return array.astype(np.float32), hashlib.sha256(data).hexdigest()


def _files(folder: Path) -> list[Path]:
    return [p for p in folder.glob("act_*.npy") if p.is_file()] if folder.is_dir() else []


def _metadata(root: Path) -> dict[str, Any]:
    if not (root / METADATA).is_file():
        return {}
    said = load_json(root / METADATA)
    if not isinstance(said, dict):
        raise IntegrityError(f"{METADATA} of '{root.name}' holds no object: restore or remove it")
    for switch in ("use_abs", "use_mag"):
        if said.get(switch, True) is not True:
            raise UsageError(f"{METADATA} of '{root.name}' says {switch}: false, so these are not CETT values")
    return said


def _label(model: str) -> str:
    """A model's name without the folders of somebody's machine."""
    if model.startswith(("/", "~", ".")) or "\\" in model or ":" in model[:3]:
        return f"dir:{PureWindowsPath(PurePosixPath(model).name).name}"
    return model
