"""A workspace: the folder that the stages of a readout share, each in a unit of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.errors import IntegrityError, MissingError, UsageError
from levercheck.evidence.canonical import digest
from levercheck.evidence.files import read_json, write_json
from levercheck.evidence.folder import claimed
from levercheck.evidence.ledger import note
from levercheck.evidence.provenance import read_sidecar, write_sidecar
from levercheck.evidence.reporter import Reporter
from levercheck.evidence.rows import Schema, has_rows, read_part
from levercheck.evidence.unit import RESULTS, Row, Unit, batch_names, check_outputs

MARKER = "workspace.json"
SCHEMA = "levercheck.workspace/v1"

PLACE = ("model.device", "model.kernel")
"""Settings that say where numbers were computed; a finished unit may be read anywhere."""

COMMANDS = {
    "questions": "collect",
    "answers": "collect",
    "spans": "spans",
    "split": "split",
    "capture": "capture",
    "probes": "probe",
    "verdicts": "collect",
    "audit": "audit-readout",
    "neurons": "neurons",
}
"""Command that makes a unit, by its first name, or by its last inside a probe."""


@dataclass(frozen=True)
class Workspace:
    """One chain of stages in a folder. Units are keyed by their settings and by the content of the rows before them."""

    root: Path
    reporter: Reporter
    _checked: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    def sidecar(self, name: str) -> dict[str, Any]:
        """The checked sidecar of a finished unit; MissingError names the command that makes it."""
        if name not in self._checked:
            found = read_sidecar(self.root / name)
            if found is None or found.get("status") != "complete":
                command = COMMANDS.get(name.rpartition("/")[2]) or COMMANDS.get(name.partition("/")[0], name)
                raise MissingError(
                    f"'{self.root}' has no finished {name}: run 'levercheck {command}' on it first (an interrupted "
                    "one continues)"
                )
            check_outputs(self.root, found)
            self._checked[name] = found
        return self._checked[name]

    def state(self, name: str) -> str:
        """Digest of what later units build on: the unit's key, rows and arrays (results are derived from them)."""
        found = self.sidecar(name)
        rows = f"{name}/rows/"
        others = {
            output["path"]: output["sha256"]
            for output in found["outputs"]
            if not output["path"].startswith(rows) and not output["path"].endswith(RESULTS)
        }
        return digest({"key": found["key"], "rows": found["rows_sha256"], "files": others})

    def has(self, name: str) -> bool:
        """True when the unit is finished."""
        found = read_sidecar(self.root / name)
        return found is not None and found.get("status") == "complete"

    def settings(self, name: str) -> dict[str, Any]:
        """What a finished unit was made with."""
        settings: dict[str, Any] = self.sidecar(name)["settings"]
        return settings

    def rows(self, name: str) -> pl.DataFrame:
        """Rows of a finished unit."""
        self.sidecar(name)
        return read_part(self.root / name)

    def results(self, name: str) -> dict[str, Any]:
        """The `results.json` of a finished unit."""
        self.sidecar(name)
        found: dict[str, Any] = read_json(self.root / name / RESULTS)
        return found

    def compute(
        self,
        name: str,
        settings: Mapping[str, Any],
        upstream: Sequence[str],
        columns: Schema,
        order: Sequence[str],
        *,
        title: str,
        batches: Sequence[Any],
        rows: int,
        work: Callable[[Any], list[Row]],
        array: Path | None = None,
        files: Sequence[Path] = (),
        summarise: Callable[[pl.DataFrame], dict[str, Any]] | None = None,
    ) -> pl.DataFrame:
        """Compute what is missing of a unit, under a progress bar of `rows`, and return its rows.

        `order` sorts the finished rows. A unit that was made with other settings or from other rows is a UsageError;
        so a second run with the same ones only reads, also where the model runs on another device then.
        """
        made = {"settings": dict(settings), "upstream": {other: self.state(other) for other in upstream}}
        key = unit_key(name, made)
        found = read_sidecar(self.root / name)
        if found is not None and found.get("status") == "complete":
            _same(name, found, made, ignored=PLACE)
            made, key = {part: found[part] for part in made}, found["key"]
        elif found is None or (found.get("status") == "started" and not has_rows(self.root / name)):
            (self.root / name).mkdir(parents=True, exist_ok=True)
            write_sidecar(self.root / name, self.root, {"unit": name, "key": key, **made}, [], "started")
        else:
            _same(name, found, made)
        unit = Unit(self.root, name, key, columns, order)
        with self.reporter.stage(title, rows, "rows") as tick:
            if unit.complete:
                tick(rows)
            else:
                note(self.root, "started", unit=name, key=key)
                try:
                    outputs: dict[str, Any] = {"array": array, "files": files, "summarise": summarise}
                    unit.run(batch_names(batches), work, facts=made, tick=tick, **outputs)
                except BaseException as error:
                    kind = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                    note(self.root, kind, unit=name, error=type(error).__name__)
                    raise
                note(self.root, "finished", unit=name, key=key)
        return unit.rows()


def unit_key(name: str, made: Mapping[str, Any]) -> str:
    """Key of a unit from its settings and the state of the units before it."""
    return digest({"unit": name, "settings": made["settings"], "upstream": made["upstream"]})


def _same(name: str, found: dict[str, Any], made: dict[str, Any], ignored: Sequence[str] = ()) -> None:
    if found.get("upstream") != made["upstream"]:
        changed = sorted(k for k, v in made["upstream"].items() if found.get("upstream", {}).get(k) != v)
        raise UsageError(
            f"{name}/ was made from other rows of {', '.join(changed)}: move '{name}' out of the workspace, or use a "
            "new one"
        )
    old, new = _flat(found.get("settings", {})), _flat(made["settings"])
    for setting in sorted(old.keys() | new.keys()):
        if setting not in ignored and old.get(setting) != new.get(setting):
            raise UsageError(
                f"{name}/ was made with {setting} = {_short(old.get(setting))}, asked for "
                f"{_short(new.get(setting))}: give the same settings, or use a new workspace (for probes, another "
                "--name)"
            )


@contextmanager
def workspace(root: Path, reporter: Reporter, *, create: bool = False) -> Iterator[Workspace]:
    """Claim a workspace for one command; only `create` makes a new one."""
    if not create and not (root / MARKER).is_file():
        raise UsageError(f"'{root}' is no workspace (it has no {MARKER}): start one with 'levercheck collect'")
    with claimed(root, MARKER):
        if not (root / MARKER).exists():
            write_json(root / MARKER, {"schema": SCHEMA})
        found = read_json(root / MARKER)
        if not isinstance(found, dict) or found.get("schema") != SCHEMA:
            raise IntegrityError(f"{MARKER} of '{root}' is not of {SCHEMA}: restore it or use a new workspace")
        yield Workspace(root, reporter)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, entry in value.items():
        if isinstance(entry, dict):
            flat.update(_flat(entry, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = entry
    return flat


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
