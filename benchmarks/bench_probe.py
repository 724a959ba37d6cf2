"""Speed and memory of the sparse probe against liblinear, as ratios measured in one run.

    python benchmarks/bench_probe.py [--items 1400 --features 46080] [--c 1.0] [--rounds 3] [--json PATH]
    python benchmarks/bench_probe.py --x X.npy --y y.npy
    python benchmarks/bench_probe.py --items 1500 --features 348160 --solvers fit,path [--scale]

Every solver gets the same problem: float32 X, L1 penalty 1/C, and a constant column that is penalised like any other
(liblinear's intercept). Every fit runs in its own process, rounds interleave the solvers, and each process reports the
seconds of the fit alone (X is read once before), its peak memory, and the KKT residual, measured in float64 over all
columns by one and the same function. Ratios are of seconds on the clock and, for a machine that has other work, of
processor seconds. Set OMP_NUM_THREADS to choose the threads; liblinear uses one whatever it says.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SOLVERS = {
    "fit": "one fit at C",
    "path": "20 values of C, C_min .. C",
    "liblinear-1e-8": "liblinear, tol 1e-8",
    "liblinear-1e-4": "liblinear, tol 1e-4 (default)",
}
PATH_LENGTH = 20


def synthetic(items: int, features: int, relevant: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Non-negative, heavy-tailed, correlated columns on the scale of CETT values; a quarter of the items positive."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((items, 24)).astype(np.float32)
    x = np.empty((items, features), np.float32)
    for left in range(0, features, 8192):
        width = min(8192, features - left)
        loadings = 0.12 * rng.standard_normal((24, width)).astype(np.float32)
        noise = 0.5 * rng.standard_normal((items, width)).astype(np.float32)
        scale = np.exp(rng.normal(-4.6, 0.7, width)).astype(np.float32)
        x[:, left : left + width] = np.exp(factors @ loadings + noise) * scale
    candidates = np.argsort(-x.mean(0))[: 20 * relevant]
    chosen = x[:, rng.choice(candidates, relevant, replace=False)]
    margin = ((chosen - chosen.mean(0)) / chosen.std(0)) @ rng.normal(0.6, 0.3, relevant)
    return x, (margin + rng.logistic(size=items) > np.quantile(margin, 0.75)).astype(np.float64)


def peak_mib() -> float:
    """Of this process alone: getrusage also counts what the process that started it held."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def worker(solver: str, x_path: str, y_path: str, c: float, scale: bool) -> dict[str, Any]:
    from levercheck.readouts.sparse_logistic import fit_path, liblinear
    from levercheck.readouts.sparse_matrix import Columns, Scaling

    x, y = np.load(x_path, mmap_mode="r"), np.load(y_path)
    scaling = Scaling.of(x) if scale else None
    steepest = float(np.abs(Columns(x, None, scaling).gradient(y.mean() - y)).max())
    start, start_cpu = time.perf_counter(), time.process_time()
    if solver.startswith("liblinear"):
        fits = [liblinear(x, y, c, tol=float(solver.partition("-")[2]), scaling=scaling)]
    else:
        cs = [c] if solver == "fit" else [float(v) for v in np.geomspace(1.05 / steepest, c, PATH_LENGTH)]
        fits = fit_path(x, y, cs, scaling=scaling, intercept="penalised")
    seconds, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    last = fits[-1]
    support = np.flatnonzero(last.coefficients)
    view = Columns(x, None, scaling)
    margin = view.margins(last.coefficients, last.intercept)
    loss = np.logaddexp(0, np.where(y > 0, -margin, margin)).sum()
    return {
        "solver": solver,
        "seconds": seconds,
        "cpu": cpu,
        "objective": float(loss + (np.abs(last.coefficients).sum() + abs(last.intercept)) / c),
        "kkt_residual": max(fit.kkt_residual for fit in fits),
        "support": support.tolist(),
        "positive": int((last.coefficients > 0).sum()),
        "iterations": sum(fit.iterations for fit in fits),
        "passes": last.passes,
        "peak_mib": peak_mib(),
        "x_mib": x.nbytes / 2**20,
        "c_times_steepest": c * steepest,
    }


def measure(solver: str, x: str, y: str, c: float, scale: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--worker", solver, "--x", x, "--y", y, "--c", str(c)]
    done = subprocess.run([*command, *["--scale"] * scale], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{solver} failed: {done.stderr[-800:]}")
    return json.loads(done.stdout.splitlines()[-1])


def summary(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Per solver: the last round's facts, and medians and ranges of times and of ratios within a round."""
    found: dict[str, Any] = {}
    reference = next(iter(rounds[0]))
    best = set(rounds[-1][reference]["support"])
    for solver, facts in rounds[-1].items():
        support = set(facts["support"])
        times = {key: spread([one[solver][key] for one in rounds]) for key in ("seconds", "cpu")}
        ratios = {
            f"{key}_over_{reference}": spread([one[solver][key] / one[reference][key] for one in rounds])
            for key in ("seconds", "cpu")
        }
        kept = {key: facts[key] for key in facts if key not in ("seconds", "cpu", "support", "solver")}
        overlap = {"support": len(support), "jaccard": len(support & best) / max(1, len(support | best))}
        peak = {"peak_mib": max(one[solver]["peak_mib"] for one in rounds)}
        found[solver] = {**kept, **overlap, **peak, **times, **ratios}
    return found


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def show(found: dict[str, Any], reference: str) -> None:
    head = ["solver", "seconds", "clock ratio", "processor ratio", "KKT residual", "objective", "support", "positive"]
    rows = [[*head, "peak MiB"]]
    for solver, facts in found.items():
        ratios = [facts[f"{key}_over_{reference}"] for key in ("seconds", "cpu")]
        rows.append(
            [
                SOLVERS[solver],
                f"{facts['seconds']['median']:.2f}",
                *[f"{ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})" for ratio in ratios],
                f"{facts['kkt_residual']:.1e}",
                f"{facts['objective']:.4f}",
                f"{facts['support']}, Jaccard {facts['jaccard']:.2f}",
                str(facts["positive"]),
                f"{facts['peak_mib']:,.0f}",
            ]
        )
    for at, row in enumerate(rows):
        print("| " + " | ".join(row) + " |")
        if at == 0:
            print("|" + "---|" * len(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--x", help=".npy, float [items, features]; features of more axes are not accepted")
    parser.add_argument("--y", help=".npy, 0/1 [items]")
    parser.add_argument("--items", type=int, default=1400)
    parser.add_argument("--features", type=int, default=46080)
    parser.add_argument("--c", type=float, default=1.0)
    parser.add_argument("--scale", action="store_true", help="standardise the features (implicitly in our solver)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--solvers", default=",".join(SOLVERS), help="the first one is the unit of the ratios")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if (given.x is None) != (given.y is None):
        parser.error("--x and --y go together")
    if given.worker:
        print(json.dumps(worker(given.worker, given.x, given.y, given.c, given.scale)))
        return
    solvers = given.solvers.split(",")
    if unknown := set(solvers) - set(SOLVERS):
        parser.error(f"unknown solvers {sorted(unknown)}, expected some of {', '.join(SOLVERS)}")
    with tempfile.TemporaryDirectory() as folder:
        if given.x is None:
            given.x, given.y = f"{folder}/x.npy", f"{folder}/y.npy"
            x, y = synthetic(given.items, given.features)
            np.save(given.x, x)
            np.save(given.y, y)
            del x
        rounds = []
        for done in range(given.rounds):
            order = solvers if done % 2 == 0 else solvers[::-1]
            measured = {solver: measure(solver, given.x, given.y, given.c, given.scale) for solver in order}
            rounds.append({solver: measured[solver] for solver in solvers})
    found = summary(rounds)
    facts = rounds[-1][solvers[0]]
    threads = os.environ.get("OMP_NUM_THREADS", "not set")
    print(
        f"X: {facts['x_mib']:,.0f} MiB, C = {given.c:g}, {facts['c_times_steepest']:.0f} x the smallest with a weight, "
        f"{'standardised' if given.scale else 'raw'}, {given.rounds} rounds, OMP_NUM_THREADS {threads}\n"
    )
    show(found, solvers[0])
    if given.json:
        report = {"c": given.c, "scale": given.scale, "rounds": given.rounds, "threads": threads, "solvers": found}
        given.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
