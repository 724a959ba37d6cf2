"""Tables of rows: found by name inside one directory, filtered, and refused when a filter cannot mean what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from levercheck.errors import IntegrityError, UsageError, nearest
from levercheck.evidence.canonical import file_digest
from levercheck.reanalysis.spec import Filter

_SUFFIXES = (".parquet", ".csv")


class Tables:
    """The tables of one directory, each read once."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UsageError(f"'{root}' is not a directory: expected the directory that holds the tables of rows")
        self.root = root.resolve()
        self._frames: dict[str, pl.DataFrame] = {}
        self._paths: dict[str, Path] = {}
        self._kept: dict[str, pl.DataFrame] = {}

    def get(self, name: str, where: str = "") -> pl.DataFrame:
        """The table `name` (without suffix); unknown names and places outside the directory are UsageErrors."""
        if name not in self._frames:
            path = self._find(name, where)
            try:
                read = pl.read_parquet if path.suffix == ".parquet" else pl.read_csv
                self._frames[name] = read(path)
            except (pl.exceptions.PolarsError, OSError) as error:
                reason = str(error).splitlines()[0]
                raise IntegrityError(f"the table '{path.name}' cannot be read ({reason}): restore it") from None
            self._paths[name] = path
        return self._frames[name]

    def _find(self, name: str, where: str) -> Path:
        prefix = f"{where}: " if where else ""
        for suffix in _SUFFIXES:
            path = (self.root / f"{name}{suffix}").resolve()
            if not path.is_relative_to(self.root):
                raise UsageError(f"{prefix}the table '{name}' lies outside the rows directory: give a name inside it")
            if path.is_file():
                return path
        there = [p.stem for p in self.root.iterdir() if p.suffix in _SUFFIXES]
        hint = nearest(name, there) if there else ": the directory holds no .parquet or .csv file"
        raise UsageError(f"{prefix}no table '{name}' in '{self.root.name}'{hint}")

    def select(self, name: str, conditions: Filter, where: str) -> pl.DataFrame:
        """Rows that meet every condition; none left is a UsageError saying which condition removed them.

        Filters that start with the same conditions share their work.
        """
        frame = self.get(name, where)
        need_columns(frame, list(conditions), name, where)
        kept, path = frame, name
        for column, wanted in conditions.items():
            path += f"\n{column}={wanted!r}"
            if path not in self._kept:
                self._kept[path] = _keep(kept, column, wanted, name, len(frame), where)
            kept = self._kept[path]
        if kept.is_empty():
            raise UsageError(f"{where}: the table '{name}' has no rows")
        return kept

    def used(self) -> dict[str, dict[str, Any]]:
        """File name, rows and SHA-256 of every table that was read."""
        return {
            name: {
                "file": self._paths[name].relative_to(self.root).as_posix(),
                "rows": len(frame),
                "sha256": file_digest(self._paths[name]),
            }
            for name, frame in sorted(self._frames.items())
        }


def need_columns(frame: pl.DataFrame, columns: list[str], table: str, where: str) -> None:
    """UsageError for the first column that the table lacks, with the nearest name it has."""
    for column in columns:
        if column not in frame.columns:
            raise UsageError(f"{where}: the table '{table}' has no column '{column}'{nearest(column, frame.columns)}")


def _keep(frame: pl.DataFrame, column: str, wanted: Any, table: str, rows: int, where: str) -> pl.DataFrame:
    kept = frame.filter(_condition(frame, column, wanted, where))
    if kept.is_empty():
        there = frame[column].unique().sort().to_list()
        values = ", ".join("null" if value is None else str(value) for value in there[:6])
        more = f" and {len(there) - 6} more" if len(there) > 6 else ""
        raise UsageError(
            f"{where}: no row is left: {column} = {wanted!r} keeps 0 of {len(frame)} rows "
            f"({rows} in the table '{table}'), which hold {values}{more}"
        )
    return kept


def _condition(frame: pl.DataFrame, column: str, wanted: Any, where: str) -> pl.Expr:
    cell = pl.col(column)
    if isinstance(wanted, dict):
        for word in wanted:
            if word not in ("min", "max", "not"):
                raise UsageError(
                    f"{where}: the filter of '{column}' has '{word}'{nearest(word, ('min', 'max', 'not'))}"
                )
        parts = []
        if "min" in wanted:
            parts.append(cell >= _fitting(frame, column, wanted["min"], where))
        if "max" in wanted:
            parts.append(cell <= _fitting(frame, column, wanted["max"], where))
        if "not" in wanted:
            parts.append(~_condition(frame, column, wanted["not"], where))
        return pl.all_horizontal(parts)
    values = wanted if isinstance(wanted, list) else [wanted]
    found = [_fitting(frame, column, value, where) for value in values if value is not None]
    test = cell.is_in(found) if found else pl.lit(False)
    test = test.fill_null(False)
    return test | cell.is_null() if None in values else test


def _fitting(frame: pl.DataFrame, column: str, value: Any, where: str) -> Any:
    """`value` when it can be compared with the column, else a UsageError naming both kinds."""
    kind = frame.schema[column]
    if kind == pl.Boolean:
        fits, holds = isinstance(value, bool), "true and false"
    elif kind.is_numeric():
        fits, holds = isinstance(value, int | float) and not isinstance(value, bool), "numbers"
        if fits:
            value = int(value) if kind.is_integer() and value == int(value) else float(value)
    elif kind == pl.Null:
        fits, holds = False, "nothing but null"
    else:
        fits, holds = isinstance(value, str), "text"
    if not fits:
        raise UsageError(f"{where}: {column} = {value!r} cannot be met: the column holds {holds}")
    return value
