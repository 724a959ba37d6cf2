"""How often each interval of `levercheck.stats` covers the truth, and each test rejects a true null, by simulation.

    python benchmarks/coverage_stats.py [--repetitions 1000] [--out benchmarks/coverage.md]

Nominal: 95 % coverage, 5 % rejections. The Monte-Carlo standard error is printed; with 1,000 repetitions it is 0.7
points. Exact methods (Clopper-Pearson, exact McNemar) and the adjusted intervals for sparse flips are conservative by
design.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from levercheck import stats
from levercheck.stats import Estimate

Rng = np.random.Generator
DOSES = np.array([0.0, 1.0, 2.0, 3.0])
CLUSTERS = np.arange(160) // 4
INTERVALS: dict[str, tuple[Callable[[Rng], Estimate], float, str]] = {}
TESTS: dict[str, tuple[Callable[[Rng], float], str]] = {}


def interval(name: str, truth: float, setting: str) -> Callable[[Callable[[Rng], Estimate]], None]:
    def add(function: Callable[[Rng], Estimate]) -> None:
        INTERVALS[name] = (function, truth, setting)

    return add


def test(name: str, setting: str) -> Callable[[Callable[[Rng], float]], None]:
    def add(function: Callable[[Rng], float]) -> None:
        TESTS[name] = (function, setting)

    return add


def grouped(rng: Rng, share: float = 0.3) -> np.ndarray:
    """160 values in 40 clusters of 4, mean 0, variance 1, intraclass correlation `share`."""
    return np.sqrt(share) * rng.standard_normal(40)[CLUSTERS] + np.sqrt(1 - share) * rng.standard_normal(160)


def doses(rng: Rng, step: float, items: int = 160) -> np.ndarray:
    """0/1 outcomes whose rate is 0.3 + step * dose, with a common threshold per item."""
    return (rng.random((items, 1)) < 0.3 + step * DOSES).astype(float)


def scores(rng: Rng, n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """AUROC 0.76025 = Phi(1/sqrt 2)."""
    labels = rng.random(n) < 0.45
    return rng.standard_normal(n) + labels, labels


AUROC = 0.7602499389065233


@interval("proportion, wilson", 0.3, "n = 80, p = .3")
def _(rng: Rng) -> Estimate:
    return stats.proportion(int(rng.binomial(80, 0.3)), 80)


@interval("proportion, exact", 0.3, "n = 80, p = .3")
def _(rng: Rng) -> Estimate:
    return stats.proportion(int(rng.binomial(80, 0.3)), 80, method="exact")


@interval("mean", 0.0, "n = 40, normal")
def _(rng: Rng) -> Estimate:
    return stats.mean(rng.standard_normal(40))


@interval("mean, clustered", 0.0, "40 clusters of 4, ICC .3")
def _(rng: Rng) -> Estimate:
    return stats.mean(grouped(rng), clusters=CLUSTERS)


@interval("paired_difference", 10.0, "n = 160, 30 -> 40 %")
def _(rng: Rng) -> Estimate:
    u = rng.random(160)
    return stats.paired_difference(u < 0.4, u < 0.3)


@interval("paired_difference, clustered", 0.0, "40 clusters of 4, 15 % redrawn: few flips")
def _(rng: Rng) -> Estimate:
    before = grouped(rng) > 0.5
    moved = rng.random(160) < 0.15
    return stats.paired_difference(np.where(moved, rng.random(160) < before.mean(), before), before, clusters=CLUSTERS)


@interval("paired_difference, clustered, many flips", 0.0, "40 clusters of 4 that shift together, 40 % redrawn")
def _(rng: Rng) -> Estimate:
    before = grouped(rng) > 0.3
    shift = 0.6 * rng.standard_normal(40)[CLUSTERS] + 0.8 * rng.standard_normal(160)
    moved = rng.random(160) < 0.4
    return stats.paired_difference(np.where(moved, shift > 0.3, before), before, clusters=CLUSTERS)


@interval("slope, adjusted", 5.0, "n = 160, 4 doses, 15 % of items flip")
def _(rng: Rng) -> Estimate:
    return stats.slope(doses(rng, 0.05), DOSES)


@interval("slope, t (continuous)", 1.0, "n = 60, normal slopes")
def _(rng: Rng) -> Estimate:
    table = DOSES * rng.normal(1, 1, (60, 1)) + rng.standard_normal((60, 4))
    return stats.slope(table, DOSES, binary=False, scale=1.0)


@interval("slope, bootstrap percentile", 5.0, "n = 160, 4 doses, 15 % of items flip")
def _(rng: Rng) -> Estimate:
    return stats.slope(doses(rng, 0.05), DOSES, method="bootstrap", resamples=1000, seed=int(rng.integers(2**31)))


@interval("slope_difference", 5.0, "n = 160, slopes 5 and 0 pp")
def _(rng: Rng) -> Estimate:
    return stats.slope_difference(doses(rng, 0.05), doses(rng, 0.0), DOSES)


@interval("two_level difference", 1.0, "n = 120 items, 6 sets of SD .3")
def _(rng: Rng) -> Estimate:
    sets = rng.normal(0, 0.3, (6, 1)) + rng.standard_normal((6, 120))
    return stats.two_level(1 + rng.standard_normal(120), sets).difference


@interval("auroc", AUROC, "n = 120")
def _(rng: Rng) -> Estimate:
    return stats.auroc(*scores(rng))


@interval("auroc, clustered", AUROC, "40 clusters of 4, shared noise")
def _(rng: Rng) -> Estimate:
    labels = rng.random(160) < 0.45
    return stats.auroc(grouped(rng) + labels, labels, clusters=CLUSTERS)


@interval("auroc_difference", 0.0, "n = 120, two equal scores")
def _(rng: Rng) -> Estimate:
    score, labels = scores(rng)
    other = score - labels
    second = 0.6 * other + 0.8 * rng.standard_normal(120) + labels
    return stats.auroc_difference(score, second, labels)


@interval("within_auroc", AUROC, "n = 120, 4 strata")
def _(rng: Rng) -> Estimate:
    score, labels = scores(rng)
    strata = rng.integers(0, 4, 120)
    return stats.within_auroc(score + strata, labels, strata, resamples=500, seed=int(rng.integers(2**31)))


@interval("matched_auroc", AUROC, "n = 120, covariate without effect")
def _(rng: Rng) -> Estimate:
    score, labels = scores(rng)
    return stats.matched_auroc(score, labels, rng.random(120), 0.2, resamples=500, seed=int(rng.integers(2**31)))


@interval("spearman", 0.4833, "n = 60, bivariate normal r = .5")
def _(rng: Rng) -> Estimate:
    x = rng.standard_normal(60)
    return stats.spearman(x, 0.5 * x + np.sqrt(0.75) * rng.standard_normal(60))


def _boot(kind: str) -> Callable[[Rng], Estimate]:
    return lambda rng: stats.bootstrap(
        rng.standard_normal(60), interval=kind, resamples=1000, seed=int(rng.integers(2**31))
    )


for _kind in ("percentile", "bca", "studentised"):
    interval(f"bootstrap mean, {_kind}", 0.0, "n = 60, normal, 1,000 resamples")(_boot(_kind))


@interval("cohen_kappa", 0.6, "n = 200, two raters, 80 % agree")
def _(rng: Rng) -> Estimate:
    first = rng.random(200) < 0.5
    return stats.cohen_kappa(first, first ^ (rng.random(200) < 0.2), seed=int(rng.integers(2**31)))


@interval("rogan_gladen", 0.3, "400 judged, 100 + 100 gold, se .9, sp .85")
def _(rng: Rng) -> Estimate:
    judge = stats.JudgeErrors(int(rng.binomial(100, 0.9)), 100, int(rng.binomial(100, 0.85)), 100)
    return stats.rogan_gladen(int(rng.binomial(400, 0.3 * 0.9 + 0.7 * 0.15)), 400, judge)


def judged(rng: Rng, truth: np.ndarray) -> np.ndarray:
    return np.where(rng.random(len(truth)) < 0.12, ~truth.astype(bool), truth).astype(float)


@interval("ppi_mean", 0.3, "600 judged, 150 gold")
def _(rng: Rng) -> Estimate:
    truth = (rng.random(600) < 0.3).astype(float)
    return stats.ppi_mean(judged(rng, truth), np.where(np.arange(600) < 150, truth, np.nan))


@interval("ppi_paired_difference", 10.0, "600 pairs judged, 150 gold")
def _(rng: Rng) -> Estimate:
    u = rng.random(600)
    before, after = (u < 0.3).astype(float), (u < 0.4).astype(float)
    known = np.arange(600) < 150
    return stats.ppi_paired_difference(
        judged(rng, after), judged(rng, before), np.where(known, after, np.nan), np.where(known, before, np.nan)
    )


@interval("two_level prediction of a new set", 0.0, "n = 400 items, 8 sets; the truth is the new set's mean")
def _(rng: Rng) -> Estimate:
    means = rng.normal(0, 0.5, 9)
    sets = means[:8, None] + rng.standard_normal((8, 400))
    found = stats.two_level(rng.standard_normal(400), sets).prediction
    shift = float(means[8] + rng.standard_normal(400).mean())  # covered when the new set's mean lies inside
    return Estimate(found.value - shift, found.low - shift, found.high - shift, 0.95, found.unit, found.n, found.method)


@interval("simultaneous_band, all doses at once", 0.0, "n = 160, 4 doses, flat")
def _(rng: Rng) -> Estimate:
    base = rng.random((160, 1)) < 0.4
    table = np.where(rng.random((160, 4)) < 0.15, rng.random((160, 4)) < 0.4, base).astype(float)
    band = stats.simultaneous_band(table, DOSES, 1.0, draws=2000, seed=int(rng.integers(2**31)))
    lows = [p.low for p in band.points if p.low is not None]
    highs = [p.high for p in band.points if p.high is not None]
    inside = max(lows) <= 0 <= min(highs)
    return (
        Estimate(0.0, -1.0, 1.0, 0.95, "pp", 160, "band")
        if inside
        else Estimate(2.0, 1.0, 3.0, 0.95, "pp", 160, "band")
    )


@test("sign_flip", "n = 40, normal")
def _(rng: Rng) -> float:
    return stats.sign_flip(rng.standard_normal(40), flips=999, seed=int(rng.integers(2**31))).p


@test("sign_flip, clustered", "40 clusters of 4, ICC .3")
def _(rng: Rng) -> float:
    return stats.sign_flip(grouped(rng), clusters=CLUSTERS, flips=999, seed=int(rng.integers(2**31))).p


def _mcnemar(rng: Rng) -> stats.McNemar:
    before = rng.random(200) < 0.4
    moved = rng.random(200) < 0.3
    return stats.mcnemar(np.where(moved, rng.random(200) < 0.4, before), before)


test("mcnemar, exact", "n = 200")(lambda rng: _mcnemar(rng).p_exact)
test("mcnemar, mid-p", "n = 200")(lambda rng: _mcnemar(rng).p_mid)
test("mcnemar, continuity", "n = 200")(lambda rng: _mcnemar(rng).p_continuity)


@test("tost at the margin", "n = 60, true effect = margin")
def _(rng: Rng) -> float:
    p = stats.tost(rng.normal(1.0, 1.0, 60), 1.0).p
    return 1.0 if p is None else p


@test("monte_carlo_p, 19 sets", "exchangeable")
def _(rng: Rng) -> float:
    draws = rng.standard_normal(20)
    return stats.monte_carlo_p(float(draws[0]), draws[1:])


def _flips(rng: Rng) -> stats.FlipMatrix:
    names = np.array(["right", "wrong", "refused"])
    before = rng.choice(3, 300, p=[0.5, 0.3, 0.2])
    after = np.where(rng.random(300) < 0.4, rng.choice(3, 300, p=[0.5, 0.3, 0.2]), before)
    return stats.flip_matrix(names[before], names[after])


test("flip matrix, Bowker", "n = 300, 3 outcomes")(lambda rng: float(_flips(rng).bowker().p))
test("flip matrix, Stuart-Maxwell", "n = 300, 3 outcomes")(lambda rng: float(_flips(rng).stuart_maxwell().p))


@test("westfall_young, any of 8", "n = 40, correlated components")
def _(rng: Rng) -> float:
    table = 0.6 * rng.standard_normal((40, 1)) + 0.8 * rng.standard_normal((40, 8))
    return float(stats.westfall_young(table, flips=999, seed=int(rng.integers(2**31))).step_down.min())


@test("holm, any of 5", "independent")
def _(rng: Rng) -> float:
    return float(np.min(stats.holm(rng.random(5))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="run the rows whose name contains this")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    n = arguments.repetitions
    lines = [
        "# Coverage and type-I error of `levercheck.stats`", "",
        f"`python benchmarks/coverage_stats.py --repetitions {n} --seed {arguments.seed}`; Monte-Carlo standard error "
        f"{100 * np.sqrt(0.05 * 0.95 / n):.1f} points.", "",
        "| interval | setting | coverage, % of runs (nominal 95) | mean width |", "|---|---|---:|---:|",
    ]  # fmt: skip
    for number, (name, (draw, truth, setting)) in enumerate(INTERVALS.items()):
        if arguments.only in name:
            start = time.perf_counter()
            rng = np.random.default_rng([arguments.seed, number])
            found = [draw(rng) for _ in range(n)]
            kept = [e for e in found if e.low is not None and e.high is not None]
            covered = np.mean([e.low <= truth <= e.high for e in kept])
            width = np.mean([e.high - e.low for e in kept])
            missing = "" if len(kept) == n else f" ({n - len(kept)} not estimable)"
            lines.append(f"| {name} | {setting} | {100 * covered:.1f}{missing} | {width:.3g} |")
            print(f"{lines[-1]}  {time.perf_counter() - start:.0f} s", flush=True)
    lines += ["", "| test | setting | rejections of a true null, % of runs (nominal 5) |", "|---|---|---:|"]
    for number, (name, (draw_p, setting)) in enumerate(TESTS.items()):
        if arguments.only in name:
            rng = np.random.default_rng([arguments.seed, 1000 + number])
            rejected = np.mean([draw_p(rng) <= 0.05 for _ in range(n)])
            lines.append(f"| {name} | {setting} | {100 * rejected:.1f} |")
            print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
