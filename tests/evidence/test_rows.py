"""Journal and Parquet: nothing acknowledged is lost, nothing is doubled, damage is found."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import polars as pl
import pytest

from levercheck.errors import IntegrityError
from levercheck.evidence.rows import RowStore, content_digest, read_part

SCHEMA = {"id": pl.String, "value": pl.Float64, "tokens": pl.List(pl.Int64)}
ROWS = [{"id": f"i{n}", "value": n / 7, "tokens": [n, n + 1]} for n in range(6)]


def store(folder, key="k"):
    return RowStore(folder, key, SCHEMA)


def filled(folder):
    writer = store(folder)
    for n in range(3):
        writer.append(f"{n:05d}", ROWS[2 * n : 2 * n + 2])
    writer.close()
    return folder / "rows" / "journal-0.jsonl"


def test_round_trip_is_exact_and_sorted(tmp_path):
    filled(tmp_path)
    part = store(tmp_path).finish(["id"])
    assert read_part(tmp_path).to_dicts() == ROWS
    assert part.name == f"part-{content_digest(read_part(tmp_path))[:12]}.parquet"
    assert [p.name for p in (tmp_path / "rows").iterdir()] == [part.name]


def test_batches_are_known_after_reopening(tmp_path):
    filled(tmp_path)
    assert list(store(tmp_path).batches()) == ["00000", "00001", "00002"]


@pytest.mark.parametrize("cut", [1, 5, 30, 60])
def test_a_torn_tail_is_cut_off_and_work_goes_on(tmp_path, cut):
    journal = filled(tmp_path)
    journal.write_bytes(journal.read_bytes()[:-cut])
    writer = store(tmp_path)
    assert list(writer.batches()) == ["00000", "00001"]
    writer.append("00002", ROWS[4:6])
    writer.finish(["id"])
    assert read_part(tmp_path).to_dicts() == ROWS


def test_damage_in_the_middle_is_an_error(tmp_path):
    journal = filled(tmp_path)
    lines = journal.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"i0", b"i9")
    journal.write_bytes(b"".join(lines))
    with pytest.raises(IntegrityError, match="damaged at line 2"):
        store(tmp_path).batches()


def test_a_flipped_bit_in_the_last_line_is_damage_not_a_torn_tail(tmp_path):
    journal = filled(tmp_path)
    data = journal.read_bytes()
    journal.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    with pytest.raises(IntegrityError, match="damaged at line 4"):
        store(tmp_path).batches()


def test_appending_to_a_torn_journal_repairs_it_first(tmp_path):
    journal = filled(tmp_path)
    journal.write_bytes(journal.read_bytes()[:-3])
    writer = store(tmp_path)
    writer.append("00002", ROWS[4:6])
    writer.finish(["id"])
    assert read_part(tmp_path).to_dicts() == ROWS


def test_short_writes_are_completed(tmp_path):
    class Slow:
        """A file that takes seven bytes at a time, as a full disk or a pipe may."""

        def __init__(self, inner):
            self.inner = inner

        def write(self, data):
            return self.inner.write(bytes(data[:7]))

        def __getattr__(self, name):
            return getattr(self.inner, name)

    writer = store(tmp_path)
    writer.append("00000", ROWS[:2])
    writer._handle = Slow(writer._handle)
    writer.append("00001", ROWS[2:6])
    writer.finish(["id"])
    assert read_part(tmp_path).to_dicts() == ROWS


def test_another_configuration_is_refused(tmp_path):
    filled(tmp_path)
    with pytest.raises(IntegrityError, match="other settings"):
        store(tmp_path, key="other").batches()


def test_finishing_twice_is_harmless(tmp_path):
    filled(tmp_path)
    journal = (tmp_path / "rows" / "journal-0.jsonl").read_bytes()
    first = store(tmp_path).finish(["id"])
    (tmp_path / "rows" / "journal-0.jsonl").write_bytes(journal)  # killed between rename and unlink
    assert store(tmp_path).finish(["id"]) == first
    assert read_part(tmp_path).to_dicts() == ROWS


def test_unreadable_and_missing_parts_are_named(tmp_path):
    with pytest.raises(IntegrityError, match="0 row files"):
        read_part(tmp_path)
    filled(tmp_path)
    part = store(tmp_path).finish(["id"])
    part.write_bytes(part.read_bytes()[:40])
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_part(tmp_path)


def test_content_digest_sees_values_not_encoding(tmp_path):
    frame = pl.DataFrame(ROWS, schema=SCHEMA)
    frame.write_parquet(tmp_path / "a.parquet", compression="uncompressed")
    assert content_digest(pl.read_parquet(tmp_path / "a.parquet")) == content_digest(frame)
    changed = frame.with_columns(pl.col("value") + 1e-15)
    assert content_digest(changed) != content_digest(frame)
    nothing = frame.with_columns(pl.lit(None, pl.Float64).alias("value"))
    not_a_number = frame.with_columns(pl.lit(float("nan")).alias("value"))
    assert content_digest(nothing) != content_digest(not_a_number)


WRITER = """
import sys
from pathlib import Path
import polars as pl
from levercheck.evidence.rows import RowStore
store = RowStore(Path(sys.argv[1]), "k", {"n": pl.Int64})
done = store.batches()
for n in range(len(done), 100000):
    store.append(str(n), [{"n": 2 * n}, {"n": 2 * n + 1}])
    print(n, flush=True)
"""


def test_kill_loses_no_acknowledged_batch(tmp_path):
    """SIGKILL at random moments; the next process continues, and every acknowledged batch is there once."""
    rng, acknowledged = random.Random(0), -1
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        first = writer.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.15))
        os.kill(writer.pid, signal.SIGKILL)
        said = [int(line) for line in (first + writer.stdout.read()).splitlines() if line.strip()]
        writer.wait()
        assert said == list(range(said[0], said[-1] + 1))
        assert said[0] >= acknowledged + 1
        acknowledged = said[-1]
        known = RowStore(tmp_path, "k", {"n": pl.Int64}).batches()
        assert list(known) == [str(n) for n in range(len(known))]
        assert len(known) > acknowledged
    RowStore(tmp_path, "k", {"n": pl.Int64}).finish(["n"])
    assert read_part(tmp_path)["n"].to_list() == list(range(2 * len(known)))
