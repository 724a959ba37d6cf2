"""What can be recomputed from rows: counts and rates of every true-or-false column, and differences of two doses."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePosixPath
from typing import Literal

import polars as pl

from levercheck.inventory.arms import dose_of
from levercheck.inventory.jsonl import Parsed
from levercheck.inventory.values import expected_by_chance, window

What = Literal["rows", "count", "rate", "difference"]
DOSE_COLUMNS = ("alpha", "dose")
GROUP_COLUMNS = ("benchmark", "condition", "control_seed", "fold", "split", "ruler")
_MAX_OUTCOMES = 40
_MAX_WORDS = 6
_MAX_DOSES = 60
_TRUE, _FALSE = {"true", "1"}, {"false", "0"}


@dataclass(frozen=True)
class Derived:
    """One number that follows from rows. Rates are fractions, differences are fractions (not yet in points)."""

    what: What
    value: float
    source: str
    group: str
    outcome: str
    doses: tuple[float, ...]
    numbers: tuple[int, ...]

    def __str__(self) -> str:
        at = f" at dose {self.doses[0]:g}" if len(self.doses) == 1 else ""
        place = f"{self.source}{f' ({self.group})' if self.group else ''}"
        if self.what == "rows":
            return f"rows{at}: {self.numbers[0]} [{place}]"
        if self.what == "count":
            return f"{self.outcome}{at}: {self.numbers[0]} of {self.numbers[1]} [{place}]"
        if self.what == "rate":
            return f"rate of {self.outcome}{at}: {self.numbers[0]}/{self.numbers[1]} [{place}]"
        k1, n1, k2, n2 = self.numbers
        return f"{self.outcome}: {k2}/{n2} at dose {self.doses[1]:g} − {k1}/{n1} at dose {self.doses[0]:g} [{place}]"


class Derivations:
    """Derived numbers, found by kind and by value at a printed precision."""

    def __init__(self, found: Iterable[Derived]) -> None:
        self._by_kind: dict[str, list[Derived]] = defaultdict(list)
        for one in found:
            self._by_kind[one.what].append(one)
        for values in self._by_kind.values():
            values.sort(key=lambda d: d.value)
        self._keys = {what: [d.value for d in values] for what, values in self._by_kind.items()}

    def __len__(self) -> int:
        return sum(len(values) for values in self._by_kind.values())

    def near(self, what: What, value: float, half: float) -> list[Derived]:
        """Derived numbers of one kind that print as `value`."""
        low, high = window(value, half)
        keys = self._keys.get(what, [])
        return self._by_kind[what][bisect_left(keys, low) : bisect_right(keys, high)] if keys else []

    def by_chance(self, what: What, value: float, half: float) -> float:
        """How many results of one kind a window of this width would catch here by chance."""
        return expected_by_chance(self._keys.get(what, []), value, half)


Cells = Mapping[float | None, tuple[int, int]]  # dose to (positive, rows with the outcome)


def from_jsonl(parsed: Mapping[str, Parsed]) -> Iterator[Derived]:
    """Arms of `alpha_*.jsonl` folders, dose by dose, and every other JSONL file on its own."""
    arms: dict[str, list[str]] = defaultdict(list)
    for path in parsed:
        arms[str(PurePosixPath(path).parent) if dose_of(path) is not None else path].append(path)
    for source, paths in sorted(arms.items()):
        values: dict[str, dict[float | None, Counter[bool | str]]] = defaultdict(lambda: defaultdict(Counter))
        rows: Counter[float | None] = Counter()
        for path in paths:
            dose = dose_of(path)
            rows[dose] += len(parsed[path].rows)
            for row in parsed[path].rows:
                for name, value in row.items():
                    values[name][dose][value] += 1
        yield from _all_rows(source, "", rows)
        for name in sorted(values)[:_MAX_OUTCOMES]:
            words = set[bool | str]().union(*values[name].values())
            kinds = {type(word) for word in words}
            if len(kinds) > 1 or len(words) > _MAX_WORDS:
                continue
            for word in [True] if kinds == {bool} else sorted(words, key=str):
                outcome = name if word is True else f"{name}={word}"
                cells = {dose: (count[word], count.total()) for dose, count in values[name].items()}
                yield from _of_cells(source, "", outcome, cells)


def from_table(path: str, frame: pl.DataFrame) -> Iterator[Derived]:
    """A table of rows: groups by benchmark, condition, control, ruler; then by dose."""
    dose = next((name for name in DOSE_COLUMNS if name in frame.columns), None)
    outcomes = [name for name in frame.columns if name != dose and _is_outcome(frame[name])][:_MAX_OUTCOMES]
    if not outcomes:
        return
    groups = [name for name in GROUP_COLUMNS if name in frame.columns and frame[name].n_unique() > 1]
    truth = [_truth(frame[name]) for name in outcomes]
    alpha = (pl.col(dose).cast(pl.Float64, strict=False) if dose else pl.lit(None, pl.Float64)).alias("_dose")
    parts = frame.select(outcomes + groups + [dose] * bool(dose)).with_columns(*truth, alpha)
    counted = parts.group_by([*groups, "_dose"]).agg(
        pl.len().alias("_rows"),
        *(pl.col(f"_is_{n}").sum().alias(f"_k_{n}") for n in outcomes),
        *(pl.col(f"_is_{n}").count().alias(f"_n_{n}") for n in outcomes),
    )
    cells: dict[tuple[str, str], dict[float | None, tuple[int, int]]] = defaultdict(dict)
    rows: dict[str, dict[float | None, int]] = defaultdict(dict)
    for row in counted.sort([*groups, "_dose"]).iter_rows(named=True):
        group = "/".join("-" if row[g] is None else str(row[g]) for g in groups)
        rows[group][row["_dose"]] = row["_rows"]
        for name in outcomes:
            cells[group, name][row["_dose"]] = (row[f"_k_{name}"], row[f"_n_{name}"])
    for group, counts in rows.items():
        yield from _all_rows(path, group, counts)
    if len(rows) > 1:
        yield _rows(path, "", None, frame.height)
    for (group, name), by_dose in cells.items():
        yield from _of_cells(path, group, name, by_dose)


def _of_cells(source: str, group: str, outcome: str, cells: Cells) -> Iterator[Derived]:
    known = {dose: cell for dose, cell in cells.items() if cell[1]}
    for dose, (k, n) in known.items():
        doses = () if dose is None else (dose,)
        yield Derived("count", float(k), source, group, outcome, doses, (k, n))
        yield Derived("rate", k / n, source, group, outcome, doses, (k, n))
    with_dose = sorted((dose, cell) for dose, cell in known.items() if dose is not None)[:_MAX_DOSES]
    for (low, (k1, n1)), (high, (k2, n2)) in combinations(with_dose, 2):
        yield Derived("difference", k2 / n2 - k1 / n1, source, group, outcome, (low, high), (k1, n1, k2, n2))


def _all_rows(source: str, group: str, by_dose: Mapping[float | None, int]) -> Iterator[Derived]:
    for dose, count in by_dose.items():
        yield _rows(source, group, dose, count)
    if len(by_dose) > 1:
        yield _rows(source, group, None, sum(by_dose.values()))


def _rows(source: str, group: str, dose: float | None, count: int) -> Derived:
    return Derived("rows", float(count), source, group, "rows", () if dose is None else (dose,), (count,))


def _is_outcome(column: pl.Series) -> bool:
    if column.dtype == pl.Boolean:
        return column.null_count() < column.len()
    if column.dtype != pl.String or column.name in GROUP_COLUMNS:
        return False
    words = {word.lower() for word in column.drop_nulls().unique().head(10).to_list() if word}
    return bool(words) and words <= (_TRUE | _FALSE)


def _truth(column: pl.Series) -> pl.Series:
    name = f"_is_{column.name}"
    if column.dtype == pl.Boolean:
        return column.rename(name)
    lower = column.str.to_lowercase()
    known = lower.is_in(list(_TRUE | _FALSE))
    truth = pl.Series(name, [t if k else None for t, k in zip(lower.is_in(list(_TRUE)), known, strict=True)])
    return truth.cast(pl.Boolean)
