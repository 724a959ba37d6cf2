"""Import of somebody else's rows: a mapping file and a folder in, `levercheck.rows/v1` and a sidecar out.

    version: levercheck.mapping/v1
    tables:
      - files: "experiment/alpha_*.jsonl"      # a pattern below --rows; jsonl, csv or parquet
        dose: {file_name: "alpha_{dose}.jsonl"} # and/or column: alpha, which then is the exact dose
        columns:
          item_id: id
          response: response                    # hashed and counted, never stored
          label: judge.verdict                  # dots go into objects
          positive: {from: judge.verdict, values: {HARMFUL: true, SAFE: false}}
        constants: {benchmark: jailbreak, condition: h_neurons, ruler: binary_judge}

Nothing is repaired and nothing is dropped: a torn line, a duplicate id, a dose that is not a number or a column that is
not there is an error that names file and line.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.errors import IntegrityError, NotEnoughDataError, UsageError
from levercheck.evidence.canonical import digest, file_digest
from levercheck.evidence.files import write_atomic
from levercheck.evidence.foreign_map import RESPONSE, VERSION, Mapping, Source, Table
from levercheck.evidence.foreign_read import Record, convert, lookup, printed_number, read_records
from levercheck.evidence.join import response_hash
from levercheck.evidence.provenance import now, read_sidecar, write_sidecar
from levercheck.evidence.row_schema import BY_NAME, COLUMNS, KEY, SCHEMA, TYPES, conform
from levercheck.evidence.rows import content_digest

ROWS = "rows.parquet"
UNIT = "import"
_GROUP = tuple(name for name in KEY if name != "item_id")
_UNMAPPED_DOSES = ("alpha", "dose")


@dataclass(frozen=True)
class Imported:
    """What an import wrote: the output folder's rows, the files they came from and the doses found."""

    rows: int
    files: int
    doses: tuple[float, ...]
    rows_sha256: str
    groups: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {
            "rows": self.rows,
            "files": self.files,
            "doses": list(self.doses),
            "rows_sha256": self.rows_sha256,
            "groups": list(self.groups),
        }


def import_rows(mapping: Mapping, root: Path, out: Path) -> Imported:
    """Read every file the mapping names below `root` and write `out/rows.parquet` with its sidecar."""
    started = now()
    if not root.is_dir():
        raise UsageError(f"there is no folder '{root}': give --rows the folder that holds the files")
    matched = [(table, path) for table in mapping.tables for path in _match(root, table)]
    inputs = [
        {"path": name, "bytes": path.stat().st_size, "sha256": file_digest(path)}
        for name, path in sorted({path.relative_to(root).as_posix(): path for _, path in matched}.items())
    ]
    plain = _plain(mapping)
    key = digest({"mapping": plain, "inputs": inputs, "schema": SCHEMA})
    facts = {"unit": UNIT, "key": key, "rows_schema": SCHEMA, "mapping": plain, "inputs": inputs, "started": started}
    _claim(out, key)
    frame = conform(read_tables(matched, root)).sort(KEY, maintain_order=True)
    out.mkdir(parents=True, exist_ok=True)
    write_sidecar(out, out, facts, [], "running")
    buffer = io.BytesIO()
    frame.write_parquet(buffer, compression="zstd")
    write_atomic(out / ROWS, buffer.getvalue())
    rows_sha256 = content_digest(frame)
    done = {"rows": frame.height, "rows_sha256": rows_sha256, "ended": now()}
    write_sidecar(out, out, facts | done, [out / ROWS], "complete")
    groups = frame.select("benchmark", "condition", "ruler").unique().sort("benchmark", "condition", "ruler")
    return Imported(
        rows=frame.height,
        files=len(inputs),
        doses=tuple(frame["alpha"].drop_nulls().unique().sort().to_list()),
        rows_sha256=rows_sha256,
        groups=tuple("/".join(row) for row in groups.iter_rows()),
    )


def read_tables(matched: list[tuple[Table, Path]], root: Path) -> pl.DataFrame:
    """All rows of the matched files; the same key in two places, or one dose in two files, is an error."""
    columns: dict[str, list[Any]] = {column.name: [] for column in COLUMNS}
    seen: dict[tuple[Any, ...], str] = {}
    dose_files: dict[tuple[Any, ...], str] = {}
    for table, path in matched:
        shown = path.relative_to(root).as_posix()
        before = len(seen)
        for index, (place, row) in enumerate(_rows_of(table, path, shown)):
            if table.dose is not None and table.dose.file_name is not None:
                group = tuple(row[name] for name in _GROUP)
                other = dose_files.setdefault(group, shown)
                if other != shown:
                    raise IntegrityError(
                        f"{shown} and {other} both mean dose {row['alpha']!r} of {row['benchmark']}/{row['condition']}/"
                        f"{row['ruler']}: rounded micro doses? name the exact dose with 'dose: {{column: ...}}'"
                    )
            key = tuple(row[name] for name in KEY)
            if key in seen:
                raise IntegrityError(f"{place}: duplicate id '{row['item_id']}', first at {seen[key]}")
            seen[key] = place
            row["row_index"] = index if row["row_index"] is None else row["row_index"]
            for name, values in columns.items():
                values.append(row[name])
        if len(seen) == before:
            raise NotEnoughDataError(f"{shown} holds no rows: remove it or restore it")
    return pl.DataFrame(columns, schema={c.name: TYPES[c.kind] for c in COLUMNS})


def _rows_of(table: Table, path: Path, shown: str) -> Iterator[tuple[str, dict[str, Any]]]:
    constants = {name: convert(value, BY_NAME[name].kind, "constants", name) for name, value in table.constants.items()}
    stated = _dose_of_name(table, path, shown)
    for record in read_records(path, shown, table.format_of(path)):
        row: dict[str, Any] = {column.name: None for column in COLUMNS} | constants
        for name, source in table.columns.items():
            if name != RESPONSE:
                row[name] = _value(record, source, name)
        if RESPONSE in table.columns:
            _add_response(row, record, table.columns[RESPONSE])
        if table.dose is not None:
            row["alpha"] = _dose(table, record, stated)
        elif row["alpha"] is not None:
            row["alpha"] += 0.0  # -0.0 and 0.0 are one dose
        for column in COLUMNS:
            if column.required and not row[column.name]:
                raise IntegrityError(f"{record.place}: {column.name} is empty, expected text")
        yield record.place, row


def _value(record: Record, source: Source, name: str) -> Any:
    value = lookup(record, source.from_)
    if source.values is not None and value is not None:
        value = _translate(value, source, record.place)
    return convert(value, BY_NAME[name].kind, record.place, name)


def _translate(value: Any, source: Source, place: str) -> Any:
    assert source.values is not None
    for known, meaning in source.values.items():
        same = value == known and isinstance(value, bool) == isinstance(known, bool)
        if same or (isinstance(value, str) and not isinstance(known, str) and value == json.dumps(known)):
            return meaning
    listed = ", ".join(str(k) for k in source.values)
    raise IntegrityError(f"{place}: {source.from_} is {str(value)[:40]!r}, which 'values' does not list ({listed})")


def _add_response(row: dict[str, Any], record: Record, source: Source) -> None:
    text = lookup(record, source.from_)
    if text is None:
        return
    if not isinstance(text, str):
        raise IntegrityError(f"{record.place}: {source.from_} is {type(text).__name__}, expected the response text")
    for name, value in (("response_hash", response_hash(text)), ("response_chars", len(text))):
        if row[name] is not None and row[name] != value:
            raise IntegrityError(f"{record.place}: {name} is {row[name]!r}, the response itself gives {value!r}")
        row[name] = value


def _dose_of_name(table: Table, path: Path, shown: str) -> tuple[float, float] | None:
    """The dose in the file's name with half a unit of its last digit, or None when the name carries none."""
    if table.dose is None or table.dose.file_name is None:
        return None
    text = table.dose.text_in(path.name)
    if text is None:
        raise UsageError(f"{shown}: the file name does not follow '{table.dose.file_name}'")
    number = printed_number(text)
    if number is None:
        raise IntegrityError(f"{shown}: the dose '{text[:40]}' in the file name is not a number")
    return number


def _dose(table: Table, record: Record, stated: tuple[float, float] | None) -> float:
    assert table.dose is not None
    if table.dose.column is None:
        assert stated is not None
        for name in _UNMAPPED_DOSES:
            other = record.fields.get(name)
            if isinstance(other, int | float) and not isinstance(other, bool) and other != stated[0]:
                raise IntegrityError(
                    f"{record.place}: column '{name}' says dose {other!r}, the file name says {stated[0]!r}: "
                    f"add 'column: {name}' to the dose"
                )
        return stated[0]
    value = convert(lookup(record, table.dose.column), "number", record.place, f"dose '{table.dose.column}'")
    if value is None:
        raise IntegrityError(f"{record.place}: dose '{table.dose.column}' is empty, expected a number")
    exact = float(value) + 0.0
    if stated is not None and abs(exact - stated[0]) > stated[1] * (1 + 1e-9):
        raise IntegrityError(f"{record.place}: dose {exact!r} does not round to the {stated[0]!r} of the file name")
    return exact


def _match(root: Path, table: Table) -> list[Path]:
    """Files that match the pattern, in order; a link that leads out of the folder is refused."""
    try:
        found = sorted(path for path in root.glob(table.files) if path.is_file())
    except (ValueError, NotImplementedError) as error:
        raise UsageError(f"'{table.files}' is not a file pattern ({error})") from None
    if not found:
        raise NotEnoughDataError(f"no file matches '{table.files}' in the rows folder")
    home = root.resolve()
    for path in found:
        if not path.resolve().is_relative_to(home):
            raise UsageError(f"{path.relative_to(root).as_posix()} leads out of the rows folder: copy the file into it")
    return found


def _claim(out: Path, key: str) -> None:
    """Accept a new or empty folder, or one that this same import wrote; refuse everything else."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"'{out}' is a file, expected a folder: give another --out")
    if not out.is_dir() or not any(out.iterdir()):
        return
    sidecar = read_sidecar(out)
    if sidecar is None or sidecar.get("unit") != UNIT:
        raise UsageError(f"'{out}' holds other files: give --out a new or empty folder")
    if sidecar.get("key") != key:
        raise UsageError(f"'{out}' holds the import of other files or another mapping: give another --out")


def _plain(mapping: Mapping) -> dict[str, Any]:
    """The mapping as JSON data; translations become pairs, because JSON keys are always text."""
    tables = []
    for table in mapping.tables:
        body = table.model_dump(mode="json", exclude={"columns"}, exclude_none=True)
        body["columns"] = {
            name: {"from": source.from_}
            | ({"values": [[json.dumps(a), json.dumps(b)] for a, b in source.values.items()]} if source.values else {})
            for name, source in table.columns.items()
        }
        tables.append(body)
    return {"version": VERSION, "tables": tables}
