"""Small tables in the row schema, and a call that makes one estimate of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def reference():
    """The reference pack, found beside the repository or where LEVERCHECK_REFERENCE says."""
    place = Path(os.environ.get("LEVERCHECK_REFERENCE", ROOT.parent / "shared" / "reference"))
    if not (place / "golden.json").is_file():
        pytest.skip("REFERENCE PACK NOT FOUND: set LEVERCHECK_REFERENCE to its directory")
    return place


def sweep(seed=0, items=40, doses=(0.0, 1.0, 3.0), gain=0.15, condition="target", control_seed=None, ruler="judge"):
    """Yes/no rows of one arm over a dose grid, plus a score, a response hash and a truth."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(items):
        for dose in doses:
            yes = bool(rng.random() < 0.35 + gain * dose)
            rows.append(
                {
                    "condition": condition,
                    "control_seed": control_seed,
                    "alpha": dose,
                    "item_id": f"q{number:03d}",
                    "cluster_id": f"p{number // 4}",
                    "row_index": (number * 7) % items,
                    "ruler": ruler,
                    "positive": yes,
                    "label": "yes" if yes else ("borderline" if number % 3 else "no"),
                    "value": round(float(rng.normal(yes, 1.0)), 3),
                    "gold": bool(rng.random() < 0.5),
                    "attempted": bool(rng.random() < 0.8),
                    "response_hash": f"{rng.integers(0, 3)}",
                    "score": float(rng.integers(0, 4)),
                }
            )
    return rows


class Bench:
    """A directory of tables and a way to make estimates of them."""

    def __init__(self, root):
        self.root = root

    def table(self, name, rows, suffix="parquet"):
        frame = pl.DataFrame(rows, infer_schema_length=None) if isinstance(rows, list) else rows
        getattr(frame, f"write_{suffix}")(self.root / f"{name}.{suffix}")
        return frame

    def results(self, *estimates, **document):
        from levercheck.reanalysis.run import evaluate
        from levercheck.reanalysis.spec import parse_analysis
        from levercheck.reanalysis.tables import Tables

        analysis = parse_analysis({"analysis": "test", "estimates": list(estimates), **document})
        return evaluate(analysis, Tables(self.root))["entries"]

    def one(self, estimator, **spec):
        spec = {"id": "it", "table": "rows", "estimator": estimator, "resamples": 400, **spec}
        return self.results(spec)["it"]


@pytest.fixture
def bench(tmp_path):
    """One target arm and five control sets over three doses, in the table `rows`."""
    bench = Bench(tmp_path)
    rows = sweep()
    for number in range(5):
        rows += sweep(10 + number, gain=0.0, condition="random", control_seed=number)
    bench.rows = bench.table("rows", rows)
    bench.target = bench.rows.filter(pl.col("condition") == "target")
    return bench


@pytest.fixture
def rows_of():
    """The maker of synthetic arms."""
    return sweep
