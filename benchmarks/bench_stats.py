"""Speed and memory of the statistics, as ratios and limits measured in one run.

    python benchmarks/bench_stats.py [--rows 10000000]

1. Paired bootstrap of a dose slope (7 doses x 1,000 items x 10,000 resamples): `levercheck.stats.slope` against a loop
   that resamples the items and calls `numpy.polyfit`. Both in float64, one process, same number of resamples.
2. Rates and a slope from N rows in a Parquet file: peak memory of a process that does nothing else.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

DOSES = np.arange(7) / 2


def loop(outcomes: np.ndarray, resamples: int) -> tuple[float, float]:
    rng = np.random.default_rng(42)
    slopes = []
    for _ in range(resamples):
        rates = outcomes[rng.integers(0, len(outcomes), len(outcomes))].mean(axis=0)
        slopes.append(100 * np.polyfit(DOSES, rates, 1)[0])
    low, high = np.quantile(slopes, [0.025, 0.975])
    return float(low), float(high)


def compare_bootstraps(items: int = 1000, resamples: int = 10_000, rounds: int = 3) -> None:
    from levercheck.stats import slope

    rng = np.random.default_rng(0)
    outcomes = (rng.random((items, 1)) < 0.6 + 0.02 * DOSES).astype(float)
    ratios = []
    for _ in range(rounds):
        start = time.perf_counter()
        reference = loop(outcomes, resamples)
        middle = time.perf_counter()
        ours = slope(outcomes, DOSES, method="bootstrap", resamples=resamples, seed=42)
        ratios.append((middle - start) / (time.perf_counter() - middle))
    print(f"bootstrap of a slope, {len(DOSES)} doses x {items} items x {resamples} resamples, {rounds} rounds")
    print(f"  loop with polyfit    [{reference[0]:.3f}, {reference[1]:.3f}] pp per unit dose")
    print(f"  levercheck.stats     [{ours.low:.3f}, {ours.high:.3f}] pp per unit dose")
    print(f"  speed-up             {statistics.median(ratios):.1f}x (range {min(ratios):.1f}-{max(ratios):.1f})")


def write_rows(path: Path, rows: int) -> None:
    import polars as pl

    rng = np.random.default_rng(1)
    items = rows // len(DOSES)
    dose = np.repeat(DOSES, items)
    item = np.tile(np.arange(items, dtype=np.int64), len(DOSES))
    positive = rng.random(items)[item] < 0.6 + 0.02 * dose
    frame = {"item_id": item, "cluster_id": item // 5, "alpha": dose, "positive": positive}
    pl.DataFrame(frame).write_parquet(path, row_group_size=500_000)


def aggregate(path: Path) -> None:
    """Rates per dose and the clustered slope, streaming: what an audit does with a large table."""
    import polars as pl

    from levercheck.stats import mean, proportion
    from levercheck.stats.slopes import slope_weights

    table = pl.scan_parquet(path)
    rates = table.group_by("alpha").agg(pl.col("positive").sum(), pl.len()).sort("alpha").collect(engine="streaming")
    for alpha, k, n in rates.rows():
        print(f"  dose {alpha:g}: {proportion(k, n)}")
    weights = dict(zip(DOSES.tolist(), slope_weights(DOSES).tolist(), strict=True))
    share = pl.col("positive").cast(pl.Float64) * pl.col("alpha").replace_strict(weights, return_dtype=pl.Float64)
    per_item = table.group_by("item_id", "cluster_id").agg(share.sum().alias("slope")).collect(engine="streaming")
    values, clusters = per_item["slope"].to_numpy(), per_item["cluster_id"].to_numpy()
    print(f"  slope: {mean(values, clusters=clusters, unit='pp/dose', scale=100)}")
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--aggregate", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.aggregate:
        aggregate(arguments.aggregate)
        return
    compare_bootstraps()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        write_rows(path, arguments.rows)
        print(f"\n{arguments.rows:,} rows, {path.stat().st_size / 2**20:.0f} MiB of Parquet, a process of its own")
        sys.stdout.flush()
        subprocess.run([sys.executable, __file__, "--aggregate", str(path)], check=True)


if __name__ == "__main__":
    main()
