"""Folders of `alpha_*.jsonl`: doses that are missing beside their siblings, and items that are not in every dose."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from levercheck.evidence.foreign_read import printed_number
from levercheck.inventory.jsonl import EXAMPLES, Parsed

_LEVELS_UP = 2


@dataclass(frozen=True)
class DoseGap:
    """Items that other doses of the arm have and this one has not."""

    dose: float
    path: str
    missing: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Arm:
    """One folder of per-dose files; its siblings are the other arms below the nearest folder that holds several."""

    folder: str
    doses: tuple[float, ...]
    items: int
    missing_doses: tuple[float, ...]
    siblings: tuple[str, ...]
    id_gaps: tuple[DoseGap, ...]
    same_dose: tuple[tuple[str, ...], ...]
    not_numeric: tuple[str, ...]
    items_of_siblings_missing: int

    @property
    def whole(self) -> bool:
        """True when nothing is missing, doubled or unreadable."""
        bad = self.missing_doses, self.id_gaps, self.same_dose, self.not_numeric, self.items_of_siblings_missing
        return not any(bad)


def dose_of(path: str) -> float | None:
    """The dose of `.../alpha_<number>.jsonl`, or None."""
    stem = PurePosixPath(path).stem
    number = printed_number(stem.removeprefix("alpha_")) if stem.startswith("alpha_") else None
    return number[0] if number else None


def find_arms(parsed: Mapping[str, Parsed]) -> list[Arm]:
    """Every folder that holds `alpha_*.jsonl` files."""
    files: dict[str, list[str]] = defaultdict(list)
    for path in parsed:
        if PurePosixPath(path).name.startswith("alpha_"):
            files[str(PurePosixPath(path).parent)].append(path)
    doses = {folder: {d for p in paths if (d := dose_of(p)) is not None} for folder, paths in files.items()}
    ids = {folder: {i for p in paths for i in parsed[p].ids} for folder, paths in files.items()}
    return [_arm(folder, sorted(files[folder]), parsed, doses, ids) for folder in sorted(files)]


def _arm(
    folder: str,
    paths: list[str],
    parsed: Mapping[str, Parsed],
    doses: Mapping[str, set[float]],
    ids: Mapping[str, set[str]],
) -> Arm:
    by_dose: dict[float, list[str]] = defaultdict(list)
    for path in paths:
        dose = dose_of(path)
        if dose is not None:
            by_dose[dose].append(path)
    siblings = _siblings(folder, doses)
    expected = set().union(*(doses[s] for s in siblings)) if siblings else set()
    gaps = []
    for dose, names in sorted(by_dose.items()):
        missing = sorted(ids[folder] - {i for name in names for i in parsed[name].ids})
        if missing:
            gaps.append(DoseGap(dose, names[0], len(missing), tuple(missing[:EXAMPLES])))
    elsewhere = set().union(*(ids[s] for s in siblings if ids[s] & ids[folder])) if siblings else set()
    return Arm(
        folder=folder,
        doses=tuple(sorted(by_dose)),
        items=len(ids[folder]),
        missing_doses=tuple(sorted(expected - doses[folder])),
        siblings=siblings,
        id_gaps=tuple(gaps),
        same_dose=tuple(tuple(names) for _, names in sorted(by_dose.items()) if len(names) > 1),
        not_numeric=tuple(path for path in paths if dose_of(path) is None),
        items_of_siblings_missing=len(elsewhere - ids[folder]),
    )


def _siblings(folder: str, doses: Mapping[str, set[float]]) -> tuple[str, ...]:
    """Other arms below the parent, or the grandparent when the parent holds no other."""
    above = PurePosixPath(folder)
    for _ in range(_LEVELS_UP):
        if above == above.parent:
            break
        above = above.parent
        near = [f for f in doses if f != folder and PurePosixPath(f).is_relative_to(above)]
        if near:
            return tuple(sorted(near))
    return ()
