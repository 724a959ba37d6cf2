"""Numbers that stand in JSON, CSV and parquet files, findable by value at a printed precision."""

from __future__ import annotations

import csv
import io
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from levercheck.inventory.jsonl import ID_FIELDS, iter_flat
from levercheck.inventory.walk import Limits

_SLACK = 1e-9
_AROUND = 20  # half-widths to each side in which the crowd is counted
_LONG_LIST = 50
_ROWS = 30
_POSITIONS = frozenset({"", "index", "row_index", "row", "Unnamed: 0"})


@dataclass(frozen=True)
class Leaf:
    """One number: the file, where in it, and the value itself."""

    path: str
    where: str
    value: float


@dataclass
class Index:
    """All numbers of a folder, sorted by value."""

    leaves: list[Leaf] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _keys: list[float] = field(default_factory=list)

    def add(self, leaves: Iterable[Leaf], limit: int) -> None:
        """Add numbers up to `limit` in all."""
        for leaf in leaves:
            if len(self.leaves) >= limit:
                note = f"more than {limit} numbers: values in {leaf.path} and later files are not searched"
                self.notes.append(note)
                return
            self.leaves.append(leaf)

    def seal(self) -> None:
        """Sort; to be called once, after the last `add`."""
        self.leaves.sort(key=lambda leaf: (leaf.value, leaf.path, leaf.where))
        self._keys = [leaf.value for leaf in self.leaves]

    def near(self, value: float, half: float) -> list[Leaf]:
        """Leaves that print as `value` when rounded to its precision (`half` is half a unit of the last digit)."""
        low, high = window(value, half)
        return self.leaves[bisect_left(self._keys, low) : bisect_right(self._keys, high)]

    def by_chance(self, value: float, half: float) -> float:
        """How many numbers a window of this width would catch here by chance."""
        return expected_by_chance(self._keys, value, half)


def expected_by_chance(keys: list[float], value: float, half: float) -> float:
    """Distinct values in the neighbourhood of a window, per window: the density of the crowd around it."""
    inner_low, inner_high = window(value, half)
    reach = _AROUND * half
    below = keys[bisect_left(keys, value - reach) : bisect_left(keys, inner_low)]
    above = keys[bisect_right(keys, inner_high) : bisect_right(keys, value + reach)]
    return (len(set(below)) + len(set(above))) / (_AROUND - 1)


def window(value: float, half: float) -> tuple[float, float]:
    """Values that round to `value`, both ends included: a tie may have been rounded either way."""
    slack = _SLACK * max(abs(value), half)
    return value - half - slack, value + half + slack


def numeric(value: Any) -> float | None:
    """A finite number, or None; true and false are no numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def json_leaves(path: str, body: Any) -> Iterator[Leaf]:
    """Every number in JSON data, with its dotted path; long lists of bare numbers are samples, not results."""
    for where, value in iter_flat(body, longest=_LONG_LIST):
        number = numeric(value)
        if number is not None:
            yield Leaf(path, where, number)


def csv_frame(data: bytes) -> pl.DataFrame | None:
    """A CSV file as text columns; None when it is not a table."""
    try:
        text = io.StringIO(data.decode("utf-8-sig"), newline="")
        reader = csv.reader(text)
        header = next(reader, None)
        if not header or len(set(header)) != len(header):
            return None
        rows = [cells for cells in reader if cells]
    except (csv.Error, UnicodeDecodeError):
        return None
    whole = [cells for cells in rows if len(cells) == len(header)]
    return pl.DataFrame(whole, schema=dict.fromkeys(header, pl.String), orient="row")


def table_leaves(path: str, frame: pl.DataFrame, limits: Limits, notes: list[str]) -> Iterator[Leaf]:
    """Every number in a table, as `column[row]` (rows from 1).

    A table of items is left out: what counts there are rates, and among thousands of scores and positions every
    number can be found. So is a table too large to be a table of results.
    """
    if frame.height >= _ROWS and any(name in frame.columns for name in ID_FIELDS):
        return
    columns = [
        name
        for name, dtype in frame.schema.items()
        if (dtype.is_numeric() or dtype == pl.String) and name not in _POSITIONS
    ]
    if frame.height * len(columns) > limits.table_cells:
        notes.append(f"{path} has more than {limits.table_cells} cells: its values are not searched one by one")
        return
    for name in columns:
        for row, cell in enumerate(frame[name].to_list(), 1):
            number = _cell(cell)
            if number is not None:
                yield Leaf(path, f"{name}[{row}]", number)


def _cell(cell: Any) -> float | None:
    if isinstance(cell, str):
        try:
            return numeric(float(cell)) if len(cell) < 40 and "_" not in cell else None
        except ValueError:
            return None
    return numeric(cell)
