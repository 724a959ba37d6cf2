"""Locks and the one opening, without any model."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence import schema
from levercheck.evidence.unit import Unit
from levercheck.study.lock import (
    LOCK,
    OPENING,
    check_locked,
    check_opening,
    finish_opening,
    first_difference,
    make_lock,
    open_confirm,
    opening_of,
    read_lock,
    write_lock,
)
from levercheck.study.spec import StudySpec
from levercheck.study.used import readout_items, refuse_used, units_used

FROZEN = {
    "spec": {"study": "s", "interventions": {"push": {"scope": "decode", "doses": [1.0, 2.0]}}},
    "model": {"weights": {"model.safetensors": "ab"}, "tokenizer": "cd"},
    "readouts": {"h": {"fingerprint": "ef", "items": {"status": "unknown"}}},
    "interventions": {"push": "11", "push.random-0": "12", "push.random-1": "13"},
    "arms": {"push at dose 1.0": {"dose": 1.0, "treatment": "aa"}},
    "benchmarks": {"b": {"items": ["x", "y"], "digest": "99"}},
    "primary": {"margin": 2.0},
    "code": {"commit": "00", "versions": {"levercheck": "0.1.0"}},
}


def leaves(value, path=()):
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))
    else:
        yield path


@pytest.mark.parametrize("path", list(leaves(FROZEN)), ids=lambda p: ".".join(map(str, p)))
def test_every_frozen_thing_changes_the_digest_and_is_named(path):
    changed = copy.deepcopy(FROZEN)
    at = changed
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = at[path[-1]] + 1 if isinstance(at[path[-1]], float) else "other"
    assert make_lock(changed).digest != make_lock(FROZEN).digest
    told = first_difference(make_lock(FROZEN).frozen, make_lock(changed).frozen)
    dotted = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path).lstrip(".")
    assert told.startswith(f"{dotted} is ") and "locked" in told


def test_a_key_or_an_entry_more_or_less_is_named():
    more = {**FROZEN, "interventions": {**FROZEN["interventions"], "push.random-2": "14"}}
    assert first_difference(FROZEN, more) == "interventions.push.random-2 is new"
    assert first_difference(more, FROZEN) == "interventions.push.random-2 is gone"
    assert first_difference(["a", "b"], ["a"], "items") == "items has 1 entries, locked 2"
    assert first_difference({"a": 1}, {"a": 1.0}) is None
    assert first_difference({"a": True}, {"a": 1}) is not None
    assert first_difference(FROZEN, copy.deepcopy(FROZEN)) is None


def test_locking_twice_with_the_same_content_changes_nothing(tmp_path):
    assert write_lock(tmp_path, make_lock(FROZEN))
    before = (tmp_path / LOCK).read_bytes()
    assert not write_lock(tmp_path, make_lock(FROZEN))
    assert (tmp_path / LOCK).read_bytes() == before
    assert read_lock(tmp_path).digest == make_lock(FROZEN).digest


def test_another_lock_is_refused_or_archived_before_the_opening(tmp_path):
    other = make_lock({**FROZEN, "primary": {"margin": 3.0}})
    write_lock(tmp_path, make_lock(FROZEN))
    with pytest.raises(UsageError, match=r"primary\.margin is 3\.0, locked 2\.0.*--replace"):
        write_lock(tmp_path, other)
    assert write_lock(tmp_path, other, replace=True)
    assert read_lock(tmp_path).digest == other.digest
    (kept,) = (tmp_path / "archive").glob("lock-*.json")
    assert json.loads(kept.read_text())["digest"] == make_lock(FROZEN).digest


def test_an_opening_is_for_ever(tmp_path):
    first, other = make_lock(FROZEN), make_lock({**FROZEN, "primary": {"margin": 3.0}})
    assert opening_of(tmp_path) is None
    write_lock(tmp_path, first)
    open_confirm(tmp_path, first)
    opened = opening_of(tmp_path)
    open_confirm(tmp_path, first)  # the same lock may go on
    assert opening_of(tmp_path) == opened and opened["lock"] == first.digest
    for replace in (False, True):
        with pytest.raises(UsageError, match=r"cannot be locked anew \(primary\.margin"):
            write_lock(tmp_path, other, replace=replace)
    with pytest.raises(UsageError, match="they open once"):
        check_opening(tmp_path, other)
    finish_opening(tmp_path, ["confirm/a"])
    assert opening_of(tmp_path)["units"] == ["confirm/a"]
    (tmp_path / OPENING).unlink()  # the ledger remembers
    with pytest.raises(UsageError, match="they open once"):
        check_opening(tmp_path, other)
    open_confirm(tmp_path, first)
    assert opening_of(tmp_path)["opened_at"] == opened["opened_at"]
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["event"] == "opened" for line in lines) == 1


def test_a_file_that_was_changed_by_hand_is_damage(tmp_path):
    with pytest.raises(UsageError, match="levercheck lock"):
        read_lock(tmp_path)
    write_lock(tmp_path, make_lock(FROZEN))
    body = json.loads((tmp_path / LOCK).read_text())
    body["frozen"]["primary"]["margin"] = 1.0
    (tmp_path / LOCK).write_text(json.dumps(body))
    with pytest.raises(IntegrityError, match="changed after"):
        read_lock(tmp_path)
    open_confirm(tmp_path, make_lock(FROZEN))
    body = json.loads((tmp_path / OPENING).read_text())
    (tmp_path / OPENING).write_text(json.dumps({**body, "lock": "0" * 64}))
    with pytest.raises(IntegrityError, match="another lock than"):
        opening_of(tmp_path)


def rows(*names, role="tune"):
    return [{"item_id": n, "cluster_id": f"entity:{n}", "role": role, "benchmark": "b", "lever": "l"} for n in names]


def unit(root, name, table):
    made = Unit(root, name, "key", schema.LEVERS, ["item_id"])
    made.run({"0": table}, lambda batch: batch, facts={})
    return made


def test_a_study_is_the_one_that_was_locked_or_refused(tmp_path):
    study = {"study": "s", "model": "none", "interventions": {"tell": {"instruction": "Rely on it."}}}
    study |= {"benchmarks": ["bare-facts"], "primary": {"benchmark": "bare-facts", "margin": 2}}
    spec = StudySpec.model_validate(study)
    with pytest.raises(UsageError, match="levercheck lock"):
        check_locked(tmp_path, spec)
    lock = make_lock({**FROZEN, "spec": spec.model_dump(mode="json")})
    write_lock(tmp_path, lock)
    assert check_locked(tmp_path, StudySpec.model_validate(study)) == lock
    for changes, told in (
        ({"primary": {"benchmark": "bare-facts", "margin": 9}}, r"spec\.primary\.margin is 9\.0, locked 2\.0"),
        ({"items": {"limit": 5}}, r"spec\.items\.limit is 5, locked null"),
        ({"seed": 1}, r"spec\.seed is 1, locked 0"),
    ):
        with pytest.raises(UsageError, match=f"not what lock {lock.short} froze: {told}") as caught:
            check_locked(tmp_path, StudySpec.model_validate({**study, **changes}))
        assert "\n" not in str(caught.value)


def test_rows_outside_the_confirm_folder_are_used_items(tmp_path):
    unit(tmp_path, "known", rows("x", role="known"))
    unit(tmp_path, "confirm/b/l-1", rows("y", role="confirm"))
    assert units_used(tmp_path) == []
    unit(tmp_path, "cells/b/l-2", rows("z"))
    half = Unit(tmp_path, "calibrate/b/l-3", "key", schema.LEVERS, ["item_id"])

    def stop(batch):
        if batch is None:
            raise KeyboardInterrupt
        return batch

    with pytest.raises(KeyboardInterrupt):
        half.run({"0": rows("w"), "1": None}, stop, facts={})
    found = units_used(tmp_path)
    assert sorted(i for used in found for i in used.ids) == ["w", "z"]
    refuse_used([("a", "entity:a")], found, "b")
    with pytest.raises(UsageError, match="item 'z' was used by cells/b/l-2 in role tune"):
        refuse_used([("a", "entity:a"), ("z", "?")], found, "b")
    with pytest.raises(UsageError, match="item 'q' is of 'entity:w'"):
        refuse_used([("q", "entity:w")], found, "b")


def test_confirm_rows_without_an_opening_are_damage(tmp_path):
    unit(tmp_path, "confirm/b/l-1", rows("y", role="confirm"))
    with pytest.raises(IntegrityError, match="no record of their opening"):
        opening_of(tmp_path)


def test_items_of_a_readout(tmp_path):
    assert readout_items(tmp_path) is None
    (tmp_path / "items.json").write_text('{"ids": ["a"], "clusters": ["entity:a"]}')
    found = readout_items(tmp_path)
    with pytest.raises(UsageError, match="item 'a' was used by the readout in"):
        refuse_used([("a", "?")], [found], "b")
    for broken in ("[]", '{"ids": ["a"]}', '{"ids": [1], "clusters": []}', "{"):
        (tmp_path / "items.json").write_text(broken)
        with pytest.raises(IntegrityError, match=r"items\.json"):
            readout_items(tmp_path)


def test_the_room_of_studies_needs_no_model_runtime():
    code = "import sys, levercheck.study.lock, levercheck.study.used, levercheck.audit.calibration, levercheck.cli.lock"
    code += "; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
