"""The lock of a study and the one opening of its confirm items. No model runtime: plain data in, plain files out.

`lock.json` holds what was frozen and its digest. `opening.json` is written before the first confirm row is computed and
names the lock that opened them; the ledger says the same, so that taking one file away reopens nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.canonical import digest
from levercheck.evidence.files import read_json, write_json
from levercheck.evidence.ledger import LEDGER, note
from levercheck.evidence.provenance import now
from levercheck.evidence.rows import has_rows
from levercheck.study.spec import StudySpec
from levercheck.study.used import CONFIRM

LOCK, OPENING, CALIBRATION, ARCHIVE = "lock.json", "opening.json", "calibration.json", "archive"
SCHEMA, OPENING_SCHEMA = "levercheck.lock/v1", "levercheck.opening/v1"
CODE = "code"
"""The frozen part that is recorded and compared, but does not stop a confirm run: a commit changes with every edit."""


@dataclass(frozen=True)
class Lock:
    """What was frozen, and its digest."""

    frozen: Mapping[str, Any]
    digest: str

    @property
    def short(self) -> str:
        """The part of the digest that a person reads."""
        return self.digest[:12]


def make_lock(frozen: Mapping[str, Any]) -> Lock:
    """The lock of plain data."""
    plain = json.loads(json.dumps(frozen, allow_nan=False))
    return Lock(plain, digest(plain))


def read_lock(root: Path) -> Lock:
    """The lock of a run; none is a UsageError, one that was changed by hand an IntegrityError."""
    path = root / LOCK
    if not path.is_file():
        raise UsageError(f"'{root}' has no {LOCK}: nothing was frozen yet, run 'levercheck lock' first")
    body = read_json(path)
    if not isinstance(body, dict) or body.get("schema") != SCHEMA or not isinstance(body.get("frozen"), dict):
        raise IntegrityError(f"{LOCK} is not of {SCHEMA}: restore it")
    if digest(body["frozen"]) != body.get("digest"):
        raise IntegrityError(f"{LOCK} was changed after it was written (its digest does not match): restore it")
    return Lock(body["frozen"], body["digest"])


def check_locked(root: Path, spec: StudySpec) -> Lock:
    """The lock of a run whose study is still the one that was locked; UsageError with the first difference."""
    lock = read_lock(root)
    found = make_lock({"value": spec.model_dump(mode="json")}).frozen["value"]
    difference = first_difference(lock.frozen["spec"], found, "spec")
    if difference:
        raise UsageError(
            f"the study is not what lock {lock.short} froze: {difference}. Restore it, or lock a new run (--out)"
        )
    return lock


def write_lock(root: Path, lock: Lock, *, replace: bool = False) -> bool:
    """Write `lock.json`; False where the same lock stands there already.

    Another lock is a UsageError, unless `replace` is given and the old one never opened the confirm items: it is then
    kept in `archive/`.
    """
    opened = opening_of(root)
    if opened is not None and opened["lock"] != lock.digest:
        where = first_difference(read_lock(root).frozen, lock.frozen) if (root / LOCK).exists() else "its lock is gone"
        raise UsageError(
            f"the confirm items were opened by lock {opened['lock'][:12]} at {opened['opened_at']} and cannot be "
            f"locked anew ({where}): start a new run with other items"
        )
    if (root / LOCK).exists():
        old = read_lock(root)
        if old.digest == lock.digest:
            return False
        if not replace:
            where = first_difference(old.frozen, lock.frozen)
            raise UsageError(f"'{root}' is locked with other content ({where}): --replace archives that lock")
        write_json(root / ARCHIVE / f"lock-{old.short}.json", read_json(root / LOCK))
        note(root, "unlocked", lock=old.digest)
    note(root, "locked", lock=lock.digest)
    write_json(root / LOCK, {"schema": SCHEMA, "digest": lock.digest, "locked_at": now(), "frozen": lock.frozen})
    return True


def opening_of(root: Path) -> dict[str, Any] | None:
    """Which lock opened the confirm items and when: from `opening.json`, or from the ledger where that file is gone."""
    noted = _noted_openings(root)
    path = root / OPENING
    if not path.exists():
        if noted:
            return {"lock": noted[0]["lock"], "opened_at": noted[0].get("opened_at", noted[0]["time"])}
        if any(has_rows(rows.parent) for rows in (root / CONFIRM).rglob("rows")):
            raise IntegrityError(f"'{root}' holds confirm rows but no record of their opening: restore {OPENING}")
        return None
    body = read_json(path)
    if not isinstance(body, dict) or body.get("schema") != OPENING_SCHEMA or "lock" not in body:
        raise IntegrityError(f"{OPENING} is not of {OPENING_SCHEMA}: restore it")
    if any(one["lock"] != body["lock"] for one in noted):
        raise IntegrityError(f"{OPENING} names another lock than {LEDGER}: restore it")
    return body


def _noted_openings(root: Path) -> list[dict[str, Any]]:
    path = root / LEDGER
    found = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            record = json.loads(line)
        except ValueError:
            continue  # a line that a kill cut off
        if isinstance(record, dict) and record.get("event") == "opened" and "lock" in record:
            found.append(record)
    return found


def check_opening(root: Path, lock: Lock) -> dict[str, Any] | None:
    """The opening so far, None before it; one by another lock is a UsageError for ever."""
    opened = opening_of(root)
    if opened is not None and opened["lock"] != lock.digest:
        raise UsageError(
            f"the confirm items were opened by lock {opened['lock'][:12]} at {opened['opened_at']}, this is lock "
            f"{lock.short}: they open once, start a new run with other items"
        )
    return opened


def open_confirm(root: Path, lock: Lock, **facts: Any) -> None:
    """Record the opening durably, before the first row; an opening by the same lock is left as it is."""
    opened = check_opening(root, lock)
    if not (root / OPENING).exists():
        since = now() if opened is None else opened["opened_at"]
        write_json(root / OPENING, {"schema": OPENING_SCHEMA, "lock": lock.digest, "opened_at": since, **facts})
    if not _noted_openings(root):
        note(root, "opened", lock=lock.digest, opened_at=read_json(root / OPENING)["opened_at"])


def finish_opening(root: Path, units: Sequence[str]) -> None:
    """Record that every confirm row is there."""
    body = {**read_json(root / OPENING), "finished_at": now(), "units": list(units)}
    write_json(root / OPENING, body)


def first_difference(locked: Any, found: Any, path: str = "") -> str | None:
    """Where and how two plain values differ first, in the order of the locked one; None where they agree."""
    if isinstance(locked, Mapping) and isinstance(found, Mapping):
        for name in [*locked, *(key for key in found if key not in locked)]:
            at = f"{path}.{name}" if path else str(name)
            if name not in found or name not in locked:
                return f"{at} is {'gone' if name not in found else 'new'}"
            inner = first_difference(locked[name], found[name], at)
            if inner:
                return inner
        return None
    if isinstance(locked, list) and isinstance(found, list):
        for number, (a, b) in enumerate(zip(locked, found, strict=False)):
            inner = first_difference(a, b, f"{path}[{number}]")
            if inner:
                return inner
        return None if len(locked) == len(found) else f"{path} has {len(found)} entries, locked {len(locked)}"
    if type(locked) is type(found) and locked == found:
        return None
    if not isinstance(locked, bool) and not isinstance(found, bool) and locked == found:
        return None  # 1 and 1.0 are one number
    return f"{path} is {_shown(found)}, locked {_shown(locked)}"


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 48 else f"{text[:45]}..."


def chosen_spec(spec: StudySpec, k: int | None, dose: float) -> StudySpec:
    """The study with the calibrated intervention at one K and dose."""
    assert spec.calibrate is not None
    name = spec.calibrate.intervention
    declared = spec.interventions[name]
    changes = {"k": declared.k if k is None else k, "doses": (dose,), "efforts": None}
    return spec.model_copy(update={"interventions": {**spec.interventions, name: declared.model_copy(update=changes)}})
