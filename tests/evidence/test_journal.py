"""The journal under kill -9 and under truncation: acknowledged rows stay, once each; a torn tail is cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levercheck.errors import IntegrityError
from levercheck.evidence.rows import RowStore, read_part

SCHEMA = {"n": pl.Int64, "text": pl.String}

# One process that never touches polars' threads forks the writers, kills them, and checks what they left behind.
KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
import polars as pl
from levercheck.evidence.rows import RowStore, read_part

SCHEMA = {"n": pl.Int64, "text": pl.String}
base, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)


def write(folder, pipe, size):
    store = RowStore(folder, "k", SCHEMA)
    done = len(store.batches())
    os.write(pipe, b"open\\n")
    for n in range(done, 10**6):
        store.append(str(n), [{"n": 2 * n, "text": "x" * size}, {"n": 2 * n + 1, "text": str(n)}])
        os.write(pipe, b"%d\\n" % n)


counts = {"kills": 0, "acknowledged": 0, "torn": 0, "unacknowledged": 0, "folders": []}
for kill in range(kills):
    if kill % 20 == 0:
        folder, acknowledged = base / str(kill), -1
        counts["folders"].append(str(kill))
    size = rng.choice([10, 5_000, 400_000])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            write(folder, writer, size)
        finally:
            os._exit(1)  # only a kill may end it
    os.close(writer)
    if kill % 2:
        os.read(reader, 5)  # half of the kills come while the journal is being opened, half while it is written
    time.sleep(rng.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    with os.fdopen(reader, "rb") as pipe:
        said = [int(line) for line in pipe.read().splitlines() if line != b"open"]
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), "the writer failed by itself"
    assert not said or said[0] > acknowledged, "an acknowledged batch was written again"
    assert said == list(range(said[0], said[0] + len(said))) if said else True
    acknowledged = said[-1] if said else acknowledged
    journal = folder / "rows" / "journal-0.jsonl"
    data = journal.read_bytes() if journal.exists() else b""
    counts["torn"] += bool(data) and not data.endswith(b"\\n")
    known = RowStore(folder, "k", SCHEMA).batches()
    assert list(known) == [str(n) for n in range(len(known))], "a batch is missing or doubled"
    assert len(known) >= acknowledged + 1, "an acknowledged batch was lost"
    assert len(known) <= acknowledged + 2, "more than the batch in flight is unacknowledged"
    for name, rows in known.items():
        assert [row["n"] for row in rows] == [2 * int(name), 2 * int(name) + 1], "rows of another batch"
    assert not journal.exists() or not journal.stat().st_size or journal.read_bytes().endswith(b"\\n")
    counts["unacknowledged"] += len(known) - acknowledged - 1
    acknowledged = len(known) - 1
    counts["kills"] += 1
    counts["acknowledged"] += len(said)
print(json.dumps(counts))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_hundred_kills_lose_and_double_nothing(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(KILLER), str(tmp_path), "200", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["kills"] == 200
    assert counts["acknowledged"] >= 20, counts
    for name in counts["folders"]:
        store = RowStore(tmp_path / name, "k", SCHEMA)
        batches = store.batches()
        store.finish(["n"])
        assert read_part(tmp_path / name)["n"].to_list() == list(range(2 * len(batches)))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
batches_of_rows = st.lists(st.lists(texts, max_size=4), min_size=1, max_size=5)


def fill(folder, batches):
    store = RowStore(folder, "k", SCHEMA)
    for name, batch in enumerate(batches):
        store.append(str(name), [{"n": n, "text": text} for n, text in enumerate(batch)])
    store.close()
    return folder / "rows" / "journal-0.jsonl"


def content(folder):
    return {name: [row["text"] for row in rows] for name, rows in RowStore(folder, "k", SCHEMA).batches().items()}


@settings(max_examples=120, deadline=None)
@given(batches=batches_of_rows, data=st.data())
def test_truncation_in_the_last_line_loses_only_that_batch(tmp_path_factory, batches, data):
    folder = tmp_path_factory.mktemp("journal")
    journal = fill(folder, batches)
    whole = journal.read_bytes()
    start = whole.rstrip(b"\n").rfind(b"\n") + 1
    cut = data.draw(st.integers(start, len(whole) - 1))
    journal.write_bytes(whole[:cut])
    expected = {str(n): batch for n, batch in enumerate(batches)}
    del expected[str(len(batches) - 1)]
    assert content(folder) == expected
    store = RowStore(folder, "k", SCHEMA)
    store.append(str(len(batches) - 1), [{"n": n, "text": text} for n, text in enumerate(batches[-1])])
    store.close()
    assert journal.read_bytes() == whole


@settings(max_examples=80, deadline=None)
@given(batches=batches_of_rows, data=st.data())
def test_truncation_anywhere_keeps_a_prefix_of_the_batches(tmp_path_factory, batches, data):
    folder = tmp_path_factory.mktemp("journal")
    journal = fill(folder, batches)
    whole = journal.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    journal.write_bytes(whole[:cut])
    kept = max(whole[:cut].count(b"\n") - 1, 0)  # the first line is the header
    assert content(folder) == {str(n): batch for n, batch in enumerate(batches[:kept])}
    assert content(folder) == {str(n): batch for n, batch in enumerate(batches[:kept])}


@settings(max_examples=80, deadline=None)
@given(batches=batches_of_rows, data=st.data())
def test_a_changed_byte_never_gives_other_rows(tmp_path_factory, batches, data):
    folder = tmp_path_factory.mktemp("journal")
    journal = fill(folder, batches)
    whole = bytearray(journal.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    journal.write_bytes(whole)
    expected = {str(n): batch for n, batch in enumerate(batches)}
    try:
        found = content(folder)
    except IntegrityError:
        return
    assert all(expected[name] == rows for name, rows in found.items())
    assert list(found) == list(expected)[: len(found)]
