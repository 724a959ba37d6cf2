"""The rows of one estimate, arranged for an estimator: arms, aligned items, items by doses, with every check done."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from levercheck.errors import UsageError
from levercheck.reanalysis.spec import EstimateSpec, Measure
from levercheck.reanalysis.tables import Tables, need_columns

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[Any]
_RULERS = ("ruler", "csv2_schema")
VALUE = "__value"


@dataclass(frozen=True)
class Pairs:
    """The same items in two arms: values `float64 [items]`, labels of the cluster of each item, items left out."""

    first: Floats
    second: Floats
    clusters: Labels | None
    dropped: int


@dataclass(frozen=True)
class Grid:
    """Outcomes `float64 [items, doses]` of one arm."""

    doses: Floats
    outcomes: Floats
    clusters: Labels | None
    dropped: int


class Selection:
    """Filtered rows of one estimate, split into its arms."""

    def __init__(self, spec: EstimateSpec, tables: Tables) -> None:
        self.spec, self.where = spec, f"estimate '{spec.id}'"
        table = tables.get(spec.table, self.where)
        self.columns = table.columns
        self.measure = Measure(column=spec.measure) if isinstance(spec.measure, str) else spec.measure
        if spec.contrast is None:
            self.arms = {"rows": tables.select(spec.table, spec.filter, self.where)}
        else:
            if len(spec.contrast) < 2:
                raise UsageError(f"{self.where}: contrast names {len(spec.contrast)} arms, expected two or more")
            self.arms = {
                name: tables.select(spec.table, {**spec.filter, **conditions}, f"{self.where}, arm '{name}'")
                for name, conditions in spec.contrast.items()
            }
        self._same_ruler()

    def _same_ruler(self) -> None:
        """Rows of one estimate come from one ruler, unless its arms name theirs or `mixed` gives the reason."""
        if self.spec.mixed is not None:
            return
        for column in _RULERS:
            if column not in self.columns:
                continue
            held = {name: arm[column].unique().to_list() for name, arm in self.arms.items()}
            arms = (self.spec.contrast or {}).values()
            named = all(any(ruler in conditions for ruler in _RULERS) for conditions in arms)
            pooled = {value for values in held.values() for value in values}
            one_each = all(len(values) == 1 for values in held.values())
            if len(pooled) == 1 or (one_each and named and self.spec.contrast is not None):
                continue
            rows = pl.concat([arm.select(column) for arm in self.arms.values()])[column].value_counts(sort=True)
            counts = ", ".join(f"{'null' if v is None else v} {n}" for v, n in rows.iter_rows())
            raise UsageError(
                f"{self.where}: rows of {len(pooled)} different values of '{column}' are mixed ({counts} rows): "
                "filter to one, name it in every arm, or state the reason under `mixed`"
            )

    def counting(self, missing: Literal["drop", "no", "yes"]) -> Selection:
        """The same rows with another decision about those that lack the measure."""
        other = copy.copy(self)
        other.spec = self.spec.model_copy(update={"missing": missing})
        return other

    @property
    def only(self) -> pl.DataFrame:
        """The rows of an estimate without a contrast."""
        if len(self.arms) != 1:
            raise UsageError(f"{self.where}: {self.spec.estimator} takes no contrast, got {', '.join(self.arms)}")
        return next(iter(self.arms.values()))

    def rows(self, *also: str) -> pl.DataFrame:
        """The rows of an estimate without a contrast; each key (with its dose, and columns in `also`) occurs once."""
        rows = self.only
        dose = [self.spec.dose] if self.spec.dose in rows.columns else []
        self.unique(rows, list(dict.fromkeys([*self.spec.key, *dose, *also])), "the rows")
        return rows

    @property
    def two(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows of the two arms of a contrast."""
        if len(self.arms) != 2:
            raise UsageError(f"{self.where}: {self.spec.estimator} needs a contrast of two arms, got {len(self.arms)}")
        first, second = self.arms.values()
        return first, second

    def column(self, frame: pl.DataFrame, name: str) -> pl.Series:
        """A column, or a UsageError with the nearest name."""
        need_columns(frame, [name], self.spec.table, self.where)
        return frame[name]

    def measured(self, frame: pl.DataFrame, measure: Measure | None = None) -> pl.DataFrame:
        """`frame` with the measure as float64 `__value`; rows without one are counted, dropped or refused."""
        test = measure or self.measure
        named = [test.column, test.same_as, test.unless]
        need_columns(frame, [column for column in named if column is not None], self.spec.table, self.where)
        if not (frame.schema[test.column].is_numeric() or frame.schema[test.column] == pl.Boolean) and not tested(test):
            raise UsageError(
                f"{self.where}: '{test.column}' is not a number: say what of it is measured (equals, one_of)"
            )
        out = frame.with_columns(_expression(test, frame).cast(pl.Float64).alias(VALUE))
        missing = int(out[VALUE].is_null().sum()) + int(out[VALUE].is_nan().sum())
        if not missing:
            return out
        if self.spec.missing == "error":
            raise UsageError(
                f"{self.where}: {missing} of {len(out)} rows have no '{test.column}': "
                "say what they count as (missing: drop, no or yes)"
            )
        if self.spec.missing == "drop":
            return out.filter(pl.col(VALUE).is_not_null() & pl.col(VALUE).is_not_nan())
        return out.with_columns(pl.col(VALUE).fill_nan(None).fill_null(1.0 if self.spec.missing == "yes" else 0.0))

    def values(self, frame: pl.DataFrame, measure: Measure | None = None) -> Floats:
        """The measure of every row in the order of the spec."""
        return self.measured(self.ordered(frame), measure)[VALUE].to_numpy().astype(np.float64)

    def yes(self, frame: pl.DataFrame, measure: Measure | None = None) -> npt.NDArray[np.bool_]:
        """The measure as yes or no; any other number is a UsageError."""
        numbers = self.values(frame, measure)
        bad = int(((numbers != 0) & (numbers != 1)).sum())
        if bad:
            raise UsageError(f"{self.where}: {bad} of {len(numbers)} rows are neither yes nor no: state a test")
        return np.asarray(numbers == 1, dtype=np.bool_)

    def ordered(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows sorted as the spec says."""
        if self.spec.order == "table":
            return frame
        if self.spec.order == "item":
            by = [column for column in (*self.spec.key, self.spec.dose) if column in frame.columns]
        else:
            by = ["row_index"] if self.spec.order == "file" else list(self.spec.order)
        need_columns(frame, by, self.spec.table, self.where)
        return frame.sort(by, maintain_order=True)

    def unique(self, frame: pl.DataFrame, columns: list[str], arm: str) -> None:
        """UsageError when two rows share the key."""
        need_columns(frame, columns, self.spec.table, self.where)
        double = frame.group_by(columns, maintain_order=True).len().filter(pl.col("len") > 1)
        if len(double):
            raise UsageError(
                f"{self.where}: {len(double)} keys ({', '.join(columns)}) occur more than once in {len(frame)} rows"
                f" of {arm}: {_examples(double, columns)}"
            )

    def aligned(self, frames: dict[str, pl.DataFrame]) -> tuple[list[pl.DataFrame], int]:
        """The frames with the same items in the same order, that of the first; and how many items were left out."""
        key = self.spec.key
        for name, frame in frames.items():
            self.unique(frame, key, name)
        first = next(iter(frames.values()))
        shared = first.select(key)
        union = shared
        for frame in list(frames.values())[1:]:
            shared = shared.join(frame.select(key), on=key, how="semi", nulls_equal=True)
            union = pl.concat([union, frame.select(key)]).unique()
        left_out = len(union) - len(shared)
        if left_out and self.spec.pairing == "strict":
            odd = union.join(shared, on=key, how="anti", nulls_equal=True).sort(key)
            counts = ", ".join(f"{name} {len(frame)}" for name, frame in frames.items())
            raise UsageError(
                f"{self.where}: {left_out} items are not in every arm ({counts} rows, {len(shared)} shared): "
                f"{_examples(odd, key)}; pairing: complete keeps the shared ones"
            )
        if shared.is_empty():
            raise UsageError(f"{self.where}: the arms share no item")
        order = self.ordered(first.join(shared, on=key, how="semi", nulls_equal=True)).select(key)
        return [
            order.join(frame, on=key, how="left", nulls_equal=True, maintain_order="left") for frame in frames.values()
        ], left_out

    def pairs(self, measure: Measure | None = None) -> Pairs:
        """The two arms of the contrast, item by item."""
        self.two  # noqa: B018 - refuses anything but two arms
        frames = {f"arm '{name}'": self.measured(arm, measure) for name, arm in self.arms.items()}
        (first, second), dropped = self.aligned(frames)
        return Pairs(first[VALUE].to_numpy(), second[VALUE].to_numpy(), self.clusters(first), dropped)

    def labels(self) -> tuple[list[str], list[str]]:
        """The measured column of the two arms as text, item by item, without a test."""
        self.two  # noqa: B018 - refuses anything but two arms
        column = self.measure.column
        for arm in self.arms.values():
            gaps = int(self.column(arm, column).is_null().sum())
            if gaps:
                raise UsageError(f"{self.where}: {gaps} of {len(arm)} rows have no '{column}'")
        (first, second), _ = self.aligned({f"arm '{name}'": arm for name, arm in self.arms.items()})
        return first[column].cast(pl.String).to_list(), second[column].cast(pl.String).to_list()

    def clusters(self, frame: pl.DataFrame) -> Labels | None:
        """The cluster of every row, when the spec names a column for it."""
        if self.spec.clusters is None:
            return None
        labels = self.column(frame, self.spec.clusters)
        if labels.null_count():
            raise UsageError(f"{self.where}: {labels.null_count()} of {len(frame)} rows have no '{self.spec.clusters}'")
        return np.asarray(labels.to_list())

    def doses(self, frame: pl.DataFrame) -> list[float]:
        """The doses of an arm, ascending."""
        column = self.column(frame, self.spec.dose)
        if column.null_count():
            raise UsageError(f"{self.where}: {column.null_count()} of {len(frame)} rows have no '{self.spec.dose}'")
        return [float(dose) for dose in column.unique().sort()]

    def by_dose(self, frame: pl.DataFrame) -> dict[float, Floats]:
        """The measure of every row at each dose, ascending, items not aligned."""
        measured = self.measured(self.ordered(frame))
        self.unique(measured, [*self.spec.key, self.spec.dose], "the rows")
        return {
            dose: measured.filter(pl.col(self.spec.dose) == dose)[VALUE].to_numpy().astype(np.float64)
            for dose in self.doses(measured)
        }

    def grids(self) -> list[Grid]:
        """Items by doses of every arm; all arms and doses hold the same items, in one order."""
        frames: dict[str, pl.DataFrame] = {}
        doses = self.doses(next(iter(self.arms.values())))
        for name, arm in self.arms.items():
            own = self.doses(arm)
            if own != doses:
                raise UsageError(f"{self.where}: arm '{name}' has doses {own}, expected {doses}")
            measured = self.measured(arm)
            for dose in doses:
                frames[f"arm '{name}' at dose {dose:g}"] = measured.filter(pl.col(self.spec.dose) == dose)
        tables, dropped = self.aligned(frames)
        clusters = self.clusters(tables[0])
        width = len(doses)
        blocks = [tables[start : start + width] for start in range(0, len(tables), width)]
        return [
            Grid(np.array(doses), np.column_stack([table[VALUE].to_numpy() for table in block]), clusters, dropped)
            for block in blocks
        ]

    @cached_property
    def grid(self) -> Grid:
        """Items by doses of an estimate without a contrast."""
        self.only  # noqa: B018 - refuses a contrast
        return self.grids()[0]


def tested(measure: Measure) -> bool:
    """Whether the measure is a yes/no test rather than the column itself."""
    return any(getattr(measure, name) is not None for name in ("equals", "one_of", "min", "max", "same_as", "absent"))


def _expression(measure: Measure, frame: pl.DataFrame) -> pl.Expr:
    found = _test(measure)
    if measure.unless is None:
        return found
    cell = pl.col(measure.unless)
    spoilt = cell if frame.schema[measure.unless] == pl.Boolean else cell.is_not_null()
    return pl.when(spoilt.fill_null(False)).then(None).otherwise(found)


def _test(measure: Measure) -> pl.Expr:
    cell = pl.col(measure.column)
    tests = []
    if measure.equals is not None:
        tests.append(cell == pl.lit(measure.equals))
    if measure.one_of is not None:
        tests.append(pl.any_horizontal([cell == pl.lit(value) for value in measure.one_of]))
    if measure.min is not None:
        tests.append(cell >= measure.min)
    if measure.max is not None:
        tests.append(cell <= measure.max)
    if measure.same_as is not None:
        tests.append(cell == pl.col(measure.same_as))
    if measure.absent is not None:
        tests.append(cell.is_null() if measure.absent else cell.is_not_null())
    if not tests:
        return ~cell if measure.negate else cell
    test = pl.all_horizontal(tests)
    return ~test if measure.negate else test


def _examples(frame: pl.DataFrame, columns: list[str]) -> str:
    rows = frame.select(columns).head(5).rows()
    text = ", ".join("/".join("null" if cell is None else str(cell) for cell in row) for row in rows)
    return text + (", ..." if len(frame) > 5 else "")
