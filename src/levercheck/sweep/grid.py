"""From rows to the table of a calibration: every cell beside the unhooked model on the same items."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.calibration import Candidate
from levercheck.audit.rates import UNIT, rate
from levercheck.stats import Estimate, mean, paired_difference, proportion
from levercheck.sweep.cells import BASE


@dataclass(frozen=True)
class Measured:
    """LEVERS rows of every benchmark and STATEMENTS rows, the baseline's among them."""

    cells: pl.DataFrame
    statements: pl.DataFrame

    def pairs(self, benchmark: str, lever: str, dose: float) -> pl.DataFrame:
        """Items of a benchmark with a score under a cell and without hooks: `cluster_id`, `after`, `before`."""
        rows = self.cells.filter(pl.col("benchmark") == benchmark)
        before = rows.filter(pl.col("lever") == BASE).select("item_id", before="score")
        after = rows.filter((pl.col("lever") == lever) & (pl.col("dose") == dose))
        after = after.select("item_id", "cluster_id", "relative_dose", after="score")
        return after.join(before, on="item_id", validate="1:1").drop_nulls(["after", "before"]).sort("item_id")


def candidate_of(
    measured: Measured,
    lever: str,
    dose: float,
    k: int | None,
    distance: float,
    objective: str,
    secondary: str | None,
    bare: Mapping[str, bool],
) -> tuple[Candidate, dict[str, Any]]:
    """One cell of the grid, and its record for the file. `bare`: surfaces that must not lose, and if less is better."""
    surfaces = {}
    for name in measured.cells["benchmark"].unique().sort():
        pairs = measured.pairs(name, lever, dose)
        surfaces[name] = (_rate(pairs), _difference(pairs))
    harms = _harms(measured, lever, dose)
    losses = {name: _negated(surfaces[name][1]) if lower else surfaces[name][1] for name, lower in bare.items()}
    if losses:
        harms["bare_loss"] = _worst(losses)
    candidate = Candidate(
        k, dose, distance, surfaces[objective][1], None if secondary is None else surfaces[secondary][1], harms
    )
    reached = measured.pairs(objective, lever, dose).drop_nulls("relative_dose")
    effort = mean(
        reached["relative_dose"].to_numpy(), reached["cluster_id"].to_list(), unit="‖Δ‖/‖h‖", cluster_unit=UNIT
    )
    record = {
        **candidate.pair,
        "distance": distance,
        "surfaces": {n: {"rate": r.to_dict(), "difference": d.to_dict()} for n, (r, d) in surfaces.items()},
        "harms": {name: estimate.to_dict() for name, estimate in harms.items()},
        "relative_dose": effort.to_dict(),
    }
    return candidate, record


def harm_of_baseline(measured: Measured) -> dict[str, Estimate]:
    """Degenerate rows, answers without a verdict and cap hits of the unhooked model."""
    return _shares(measured.cells.filter(pl.col("lever") == BASE), _broken(measured, BASE, None))


def changes_of(
    measured: Measured, objective: str, cells: Sequence[tuple[str, float | None]]
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], list[str]]:
    """Treated minus unhooked outcome, float64 [cells, items], of items with a verdict in every cell, and clusters."""
    tables = [measured.pairs(objective, lever, dose) for lever, dose in cells if dose is not None]
    shared = set.intersection(*(set(table["item_id"]) for table in tables))
    kept = [table.filter(pl.col("item_id").is_in(list(shared))) for table in tables]
    rows = [t["after"].to_numpy() - t["before"].to_numpy() for t in kept]
    return np.stack(rows), kept[0]["cluster_id"].to_list()


def _harms(measured: Measured, lever: str, dose: float) -> dict[str, Estimate]:
    rows = measured.cells.filter((pl.col("lever") == lever) & (pl.col("dose") == dose))
    harms = _shares(rows, _broken(measured, lever, dose))
    harms["perplexity_ratio"] = perplexity_ratio(measured.statements, lever, dose)
    return harms


def _broken(measured: Measured, lever: str, dose: float | None) -> tuple[int, int]:
    """(statements whose likelihood was not finite, statements)."""
    same = pl.col("dose").is_null() if dose is None else pl.col("dose") == dose
    rows = measured.statements.filter((pl.col("lever") == lever) & same)
    return rows["nll"].null_count(), len(rows)


def _shares(rows: pl.DataFrame, broken: tuple[int, int]) -> dict[str, Estimate]:
    rows = rows.with_columns(degenerate=pl.col("degenerate") | pl.col("outcome").eq_missing("degenerate"))
    degenerate = int(rows["degenerate"].sum()) + broken[0]
    found = {"degenerate": proportion(degenerate, len(rows) + broken[1])}
    answers = rows.filter(pl.col("stop_reason").is_not_null() & pl.col("outcome").ne_missing("not_eligible"))
    if len(answers):
        undecided = answers.filter(pl.col("score").is_null() & ~pl.col("degenerate"))
        found["no_verdict"] = proportion(len(undecided), len(answers))
        found["cap_hits"] = proportion(int((answers["stop_reason"] == "length").sum()), len(answers))
    return found


def perplexity_ratio(statements: pl.DataFrame, lever: str, dose: float) -> Estimate:
    """exp of the mean over statements of (mean NLL per token under the cell - unhooked); the interval's ends alike.

    Statements that broke have no likelihood: then there is no ratio.
    """
    before = statements.filter(pl.col("lever") == BASE).select("item_id", before="nll")
    after = statements.filter((pl.col("lever") == lever) & (pl.col("dose") == dose))
    pairs = after.join(before, on="item_id", validate="1:1").sort("item_id")
    broken = len(pairs) - len(pairs.drop_nulls(["nll", "before"]))
    if broken or not len(pairs):
        why = f"{broken} of {len(pairs)} statements had likelihoods that are not finite"
        return Estimate(None, None, None, 0.95, "ratio", len(pairs), "exp_cluster_t", note=why)
    gaps = (pairs["nll"] - pairs["before"]).to_numpy()
    fit = mean(gaps, pairs["cluster_id"].to_list(), unit="nats/token", cluster_unit=UNIT)
    value, low, high = (None if x is None else math.exp(min(x, 700.0)) for x in (fit.value, fit.low, fit.high))
    return Estimate(value, low, high, fit.level, "ratio", fit.n, "exp_cluster_t", fit.clusters, UNIT, note=fit.note)


def _rate(pairs: pl.DataFrame) -> Estimate:
    scores, clusters = pairs["after"].to_numpy(), pairs["cluster_id"].to_numpy()
    if _binary(scores):
        return rate(scores.astype(bool), clusters)
    return mean(scores, clusters, unit="%", scale=100.0, cluster_unit=UNIT)


def _binary(*scores: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    return all(np.isin(one, (0.0, 1.0)).all() for one in scores)


def _negated(found: Estimate) -> Estimate:
    if found.value is None:
        return found
    low, high = (None if end is None else -end for end in (found.high, found.low))
    return replace(found, value=-found.value, low=low, high=high)


def _difference(pairs: pl.DataFrame) -> Estimate:
    after, before = pairs["after"].to_numpy(), pairs["before"].to_numpy()
    clusters = pairs["cluster_id"].to_list()
    if _binary(after, before):
        return paired_difference(after.astype(bool), before.astype(bool), clusters=clusters, cluster_unit=UNIT)
    return mean(after - before, clusters, unit="pp", scale=100.0, cluster_unit=UNIT)


def _worst(differences: dict[str, Estimate]) -> Estimate:
    """The largest loss of any surface; where one has no value, neither has the worst."""
    for name, found in differences.items():
        if found.value is None:
            return Estimate(
                None, None, None, found.level, "pp", found.n, found.method, note=f"nothing to compare on {name}"
            )
    name, worst = min(differences.items(), key=lambda entry: entry[1].value or 0.0)
    assert worst.value is not None
    low, high = (None if x is None else -x for x in (worst.high, worst.low))
    return Estimate(
        -worst.value, low, high, worst.level, "pp", worst.n, worst.method, worst.clusters, worst.cluster_unit,
        note=f"on {name}",
    )  # fmt: skip
