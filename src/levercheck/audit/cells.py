"""Estimates of one cell: what a cell's `results.json` holds."""

from __future__ import annotations

from typing import Any

import polars as pl

from levercheck.stats import mean, proportion

RESULTS_SCHEMA = "levercheck.results/v1"


def cell_results(rows: pl.DataFrame) -> dict[str, Any]:
    """Rate, mean logit difference and relative dose of one cell's SWEEP rows, as plain JSON data."""
    first = rows.row(0, named=True)
    entity = rows["cluster_id"].to_numpy()
    dose = rows["relative_dose"].drop_nulls()
    estimates = {
        "positive": proportion(int(rows["positive"].sum()), len(rows)),
        "logit": mean(rows["value"].to_numpy(), clusters=entity, unit="logit", cluster_unit="entity"),
    }
    if len(dose):
        estimates["relative_dose"] = mean(dose.to_numpy(), clusters=entity, unit="‖Δ‖/‖h‖", cluster_unit="entity")
    return {
        "schema": RESULTS_SCHEMA,
        **{name: first[name] for name in ("benchmark", "condition", "control_seed", "alpha", "split", "ruler")},
        "estimates": {name: estimate.to_dict() for name, estimate in estimates.items()},
    }
