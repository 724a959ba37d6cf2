"""Worksheets of a study: what a person or a judge is asked to check."""

from __future__ import annotations

from types import SimpleNamespace

import polars as pl
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.benchmarks.base import Item
from levercheck.evidence import schema
from levercheck.sweep.levers_audit import to_audit

TIERS = ["exact"] * 50 + ["boundary"] * 5 + ["numeric"] * 2 + ["several"] * 3 + ["none"] * 40
OUTCOMES = {"exact": "right", "boundary": "right", "numeric": "right", "several": "ambiguous", "none": "wrong"}


def test_every_tier_is_audited_and_nothing_tells_the_arm():
    items = [Item(f"i{n}", f"c{n}", f"Question {n}?", facts={"aliases": (f"Answer {n}",)}) for n in range(len(TIERS))]
    rows = [
        {"benchmark": "bridge", "lever": lever, "dose": dose, "role": "tune", "item_id": item.id, "how": tier,
         "outcome": OUTCOMES[tier], "text": f"text {item.id}", "control": None}
        for lever, dose in (("baseline", None), ("push", 2.0))
        for item, tier in zip(items, TIERS, strict=True)
    ]  # fmt: skip
    rows += [{**rows[0], "lever": "noop"}, {**rows[0], "lever": "push", "control": "random", "dose": 2.0}]
    rows.append({**rows[0], "lever": "push", "dose": 3.0, "outcome": "degenerate", "how": "cycle"})
    run = SimpleNamespace(items=lambda name, role: items, key="k", spec=SimpleNamespace(seed=0))
    found = to_audit(run, pl.DataFrame(rows, schema=schema.LEVERS), "bridge")
    counts = {tier: sum(row["how"] == tier for row in found) for tier in OUTCOMES}
    assert counts == {"exact": 30, "boundary": 10, "numeric": 4, "several": 6, "none": 80}
    assert {row["lever"] for row in found} == {"baseline", "push"} and len({row["id"] for row in found}) == len(found)
    assert all(row["question"] == f"Question {row['item_id'][1:]}?" and row["label"] is None for row in found)
    assert [row["how"] for row in found] != sorted(row["how"] for row in found)
    again = to_audit(run, pl.DataFrame(rows[::-1], schema=schema.LEVERS), "bridge")
    assert again == found
