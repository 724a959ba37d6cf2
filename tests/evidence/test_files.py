"""Canonical JSON, atomic files, splits, units and the ledger."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from levercheck.errors import IntegrityError
from levercheck.evidence.canonical import canonical, digest
from levercheck.evidence.files import read_json, write_atomic, write_json
from levercheck.evidence.ledger import note
from levercheck.evidence.provenance import environment, read_sidecar
from levercheck.evidence.splits import folds_by_entity, roles_by_entity, shuffled
from levercheck.evidence.unit import Unit, batch_names, open_array, read_array


def test_canonical_json_follows_rfc_8785():
    assert (
        canonical({"b": 1.0, "a": [1e21, 0.002, "é"], "c": None}) == '{"a":[1e+21,0.002,"é"],"b":1,"c":null}'.encode()
    )
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="nan"):
        canonical({"a": float("nan")})


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(IntegrityError, match=r"x\.json is not valid JSON"):
        read_json(tmp_path / "x.json")


ENTITIES = [f"country:{i % 40}" for i in range(200)] + [f"element:{i}" for i in range(50)]
SHARES = {"readout": 0.5, "select": 0.1, "confirm": 0.4}


@pytest.mark.parametrize("seed", range(4))
def test_roles_are_disjoint_by_entity_and_near_their_shares(seed):
    roles = roles_by_entity(ENTITIES, SHARES, seed)
    for kind in ("country", "element"):
        of_kind = [roles[e] for e in ENTITIES if e.startswith(kind)]
        for role, share in SHARES.items():
            assert abs(of_kind.count(role) / len(of_kind) - share) < 0.06
    assert roles != roles_by_entity(ENTITIES, SHARES, seed + 1)
    assert roles == roles_by_entity(list(reversed(ENTITIES)), SHARES, seed)


def test_bad_shares_are_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        roles_by_entity(ENTITIES, {"a": 0.5, "b": 0.4}, 0)


def test_folds_keep_entities_whole_and_balanced():
    folds = folds_by_entity(ENTITIES, 5, 0)
    sizes = np.bincount([folds[e] for e in ENTITIES])
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 5


def test_shuffling_ignores_the_other_names():
    names = [str(n) for n in range(30)]
    order = shuffled(names, 3, "x")
    assert sorted(order) == sorted(names) != order
    assert shuffled(names[:10], 3, "x") == [n for n in order if n in names[:10]]


SCHEMA = {"n": pl.Int64}


def unit(root, key="k"):
    return Unit(root, "stage", key, SCHEMA, ["n"])


def test_a_unit_continues_where_it_was_interrupted(tmp_path):
    batches, computed = batch_names([[3, 4], [1], [2]]), []

    def work(batch, stop_at=None):
        if batch == stop_at:
            raise KeyboardInterrupt
        computed.append(batch)
        return [{"n": n} for n in batch]

    with pytest.raises(KeyboardInterrupt):
        unit(tmp_path).run(batches, lambda b: work(b, stop_at=[2]), facts={})
    assert not unit(tmp_path).complete
    unit(tmp_path).run(batches, work, facts={})
    assert computed == [[3, 4], [1], [2]]
    assert unit(tmp_path).complete
    assert unit(tmp_path).rows()["n"].to_list() == [1, 2, 3, 4]


def test_a_unit_notices_changed_files_and_settings(tmp_path):
    unit(tmp_path).run(batch_names([[1]]), lambda b: [{"n": 1}], facts={})
    with pytest.raises(IntegrityError, match="other settings"):
        _ = unit(tmp_path, key="other").complete
    part = next((tmp_path / "stage" / "rows").glob("part-*"))
    part.write_bytes(part.read_bytes() + b"x")
    with pytest.raises(IntegrityError, match="expected"):
        _ = unit(tmp_path).complete


def test_a_lost_array_is_never_replaced_by_zeros(tmp_path):
    path = tmp_path / "stage" / "x.npy"

    def work(batch):
        if batch == [1]:
            raise KeyboardInterrupt
        array = open_array(path, (2, 3))
        array[batch] = 7
        array.flush()
        return [{"n": n} for n in batch]

    with pytest.raises(KeyboardInterrupt):
        unit(tmp_path).run(batch_names([[0], [1]]), work, facts={}, array=path)
    path.unlink()
    with pytest.raises(IntegrityError, match="delete the folder 'stage'"):
        unit(tmp_path).run(batch_names([[0], [1]]), work, facts={}, array=path)


def test_sidecars_name_no_machine_and_no_user(tmp_path):
    import getpass
    import platform

    unit(tmp_path).run(batch_names([[1]]), lambda b: [{"n": 1}], facts={"stage": "x"})
    text = json.dumps(read_sidecar(tmp_path / "stage"))
    assert str(tmp_path) not in text
    assert platform.node() not in text or len(platform.node()) < 4
    assert f"/{getpass.getuser()}" not in text
    assert environment()["packages"]["numpy"]


def test_arrays_keep_their_content_and_refuse_pickles(tmp_path):
    path = tmp_path / "x.npy"
    open_array(path, (2, 3))[1] = 7
    again = open_array(path, (2, 3))
    assert again[1].tolist() == [7, 7, 7]
    with pytest.raises(IntegrityError, match="expected"):
        open_array(path, (4, 3))
    np.save(tmp_path / "bad.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_array(tmp_path / "bad.npy")


def test_the_ledger_only_grows(tmp_path):
    note(tmp_path, "started", key="a")
    note(tmp_path, "finished", seconds=1.5)
    events = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [e["event"] for e in events] == ["started", "finished"]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs posix_fallocate")
def test_an_array_without_room_is_an_error_before_anything_is_written(tmp_path):
    program = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from levercheck.evidence.unit import open_array\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n    open_array(Path(sys.argv[1]), (1000, 1000))\n"
        "except OSError as error:\n    print('refused', error.errno)\n"
    )
    path = tmp_path / "unit" / "x.npy"
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused")
    assert not path.exists()
