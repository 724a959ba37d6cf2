"""What every lever of a study did, beside its controls, on every benchmark: estimates, comparisons, standings.

Each point of a lever's curve is compared with the baseline on the same items (paired), and with the draws of its
controls at the same point (items x draws). A standing needs whole intervals beyond the declared margin.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.balance import dose_balance
from levercheck.audit.lever_estimates import against_draws, bounds_of, change_of, mean_change, rate_of, site_dose
from levercheck.audit.lever_responses import responses
from levercheck.audit.lever_standings import standings
from levercheck.audit.lever_tables import BASELINE, NOOP, Arm, Surface, surfaces
from levercheck.errors import NotEnoughDataError
from levercheck.stats import Estimate, attainable_p, mean

SCHEMA = "levercheck.levers/v2"


def lever_effects(
    rows: pl.DataFrame,
    spec: Mapping[str, Any],
    meanings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    level: float = 0.95,
) -> dict[str, Any]:
    """The audit of LEVERS rows, as plain JSON types; `spec` is the study file and `meanings` are its benchmarks."""
    tables = surfaces(rows, spec["benchmarks"], meanings)
    checked = instrument(tables, rows)
    points = [point for table in tables for lever in table.levers for point in _points(table, lever, level)]
    return {
        "schema": SCHEMA,
        "study": spec["study"],
        "spec": dict(spec),
        "role": rows["role"][0],
        "instrument": checked,
        "baseline": {table.benchmark: rate_of(table, table.baseline, level).to_dict() for table in tables},
        "benchmarks": dict(meanings or {}),
        "points": points,
        "responses": [one for name in spec["benchmarks"] for one in responses(rows, name, level)],
        "dose_balance": _dose_balance(rows, tables[0]),
        "standings": standings(tables, checked, spec, level),
    }


def _dose_balance(rows: pl.DataFrame, table: Surface) -> list[dict[str, Any]]:
    """Measured ‖Δ‖/‖h‖ at the sites of every lever beside its draws, on the first benchmark."""
    own = rows.filter(pl.col("benchmark") == table.benchmark)
    found = []
    for lever in table.levers:
        for control in table.controls(lever):
            by = "effort" if any(arm.step[0] == "effort" for arm in table.targets(lever)) else "dose"
            try:
                balanced = dose_balance(own, lever, control=control, dose=by)
            except NotEnoughDataError:
                continue  # the lever or all draws missed every effort: the doses say so
            found += [{"lever": lever, "control": control, **row.to_dict()} for row in balanced]
    return found


WRITTEN = ("outcome", "score", "text", "stop_reason", "option_logprobs")
"""Columns that hooks at their no-op dose must leave as they are."""


def instrument(tables: list[Surface], rows: pl.DataFrame) -> dict[str, Any]:
    """Whether the hooks did what they say: the no-op arm against the baseline, receipts, arms that changed nothing."""
    gaps, silent, inert = [], [], []
    for table in tables:
        if table.noop is not None:
            gap = np.abs(table.noop.value - table.baseline.value)
            same = np.array_equal(table.noop.positive, table.baseline.positive, equal_nan=True)
            largest = float(np.nanmax(gap, initial=0.0))
            gaps.append(largest if largest or same else 1.0)  # an outcome that came, went or turned
        for arm in table.arms:
            name = {"benchmark": table.benchmark, "lever": arm.lever, "control": arm.control, "draw": arm.draw}
            if arm.step[0] == "instruction":
                continue
            if not arm.edited:
                silent.append(name)
            elif not np.nanmax(arm.relative_dose, initial=0.0) > 0:
                inert.append({**name, "dose": arm.dose})
    return {
        "noop_largest_difference": max(gaps) if gaps else None,
        "noop_rows_that_differ": _rows_that_differ(rows) if gaps else None,
        "arms_without_receipts": silent,
        "arms_without_any_change": inert,
        "degenerate_rows": sum(arm.degenerate for table in tables for arm in table.arms),
    }


def _rows_that_differ(rows: pl.DataFrame) -> int:
    """Rows of the no-op arm whose text, score or log-probabilities are not the baseline's."""
    keys = ["benchmark", "item_id"]
    columns = [name for name in WRITTEN if name in rows.columns]
    noop, base = (rows.filter(pl.col("lever") == lever).select(*keys, *columns) for lever in (NOOP, BASELINE))
    pairs = noop.join(base, on=keys, validate="1:1")
    same = [pl.col(name).eq_missing(pl.col(f"{name}_right")) for name in columns]
    return len(pairs.filter(~pl.all_horizontal(same)))


def _points(table: Surface, lever: str, level: float) -> list[dict[str, Any]]:
    found = []
    for arm in table.targets(lever):
        kind, at = arm.step
        point: dict[str, Any] = {
            "benchmark": table.benchmark,
            "lever": lever,
            "kind": kind,
            "at": at,
            "dose": arm.dose,
            "degenerate": arm.degenerate,
            "rate": rate_of(table, arm, level).to_dict(),
            "change": change_of(table, arm, level).to_dict(),
            "change_bounds": bounds_of(table, arm, level),
            "value_change": mean_change(table, arm, "value", table.value_unit, 1.0, level).to_dict(),
            "mass_change": mean_change(table, arm, "mass", "pp", 100.0, level).to_dict(),
            "relative_dose": site_dose(table, arm, level).to_dict(),
            "controls": {},
        }
        for control in table.controls(lever):
            draws = table.draws(lever, control, arm.step)
            point["controls"][control] = _against(table, arm, draws, level)
        found.append(point)
    return found


def _against(table: Surface, arm: Arm, draws: list[Arm], level: float) -> dict[str, Any]:
    """The lever against the draws of one control at the same point."""
    found: dict[str, Any] = {"draws": len(draws), "attainable_p": attainable_p(len(draws), "two-sided")}
    found["degenerate"] = sum(draw.degenerate for draw in draws)
    found["each"] = [_plain(change_of(table, draw, level)) | {"draw": draw.draw, "dose": draw.dose} for draw in draws]
    doses = [float(np.nanmean(d.relative_dose)) for d in draws if np.isfinite(d.relative_dose).any()]
    found["relative_dose"] = mean(np.array(doses), unit="‖Δ‖/‖h‖", level=level).to_dict() if doses else None
    for key, name, unit, scale, bound in (
        ("rate", "positive", "pp", 100.0, 1.0 if table.binary else None),
        ("value", "value", table.value_unit, 1.0, None),
    ):
        base = getattr(table.baseline, name)
        changes = [getattr(draw, name) - base for draw in draws]
        found[key] = against_draws(table, getattr(arm, name) - base, changes, unit, scale, bound, level)
    return found


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
