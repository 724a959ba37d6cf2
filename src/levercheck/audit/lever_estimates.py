"""Estimates of one arm on one surface: its rate, its change against the baseline, its change beside control draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from levercheck.audit.lever_tables import Arm, Floats, Surface
from levercheck.audit.rates import rate
from levercheck.stats import Estimate, mean, paired_bounds, paired_difference, two_level


def rate_of(table: Surface, arm: Arm, level: float) -> Estimate:
    """Mean score in per cent; items without an outcome are left out and counted."""
    known = np.isfinite(arm.positive)
    if not known.any():
        return Estimate(None, None, None, level, "%", 0, "wilson", note="no item has an outcome")
    if table.binary:
        found = rate(arm.positive[known].astype(bool), table.clusters[known], level)
    else:
        found = mean(
            arm.positive[known],
            clusters=table.clusters[known],
            level=level,
            unit="%",
            scale=100.0,
            cluster_unit="entity",
        )
    return _noted(found, int((~known).sum()), "left out")


def _noted(found: Estimate, count: int, what: str) -> Estimate:
    if not count:
        return found
    told = f"{count} items without an outcome are {what}"
    return replace(found, note=told if found.note is None else f"{found.note}; {told}")


def change_of(table: Surface, arm: Arm, level: float, *, lost: bool = False) -> Estimate:
    """Paired change of the mean score against the baseline, in pp.

    With `lost`, an item without an outcome under the arm counts as its worst one: silence is no safety.
    """
    base = table.baseline.positive
    none = np.isnan(arm.positive)
    own = np.where(none, 1.0 if table.better == "lower" else 0.0, arm.positive) if lost else arm.positive
    both = np.isfinite(own) & np.isfinite(base)
    if not both.any():
        return Estimate(None, None, None, level, "pp", 0, "tango", note="no item has an outcome in both arms")
    common: dict[str, Any] = {"clusters": table.clusters[both], "level": level, "cluster_unit": "entity"}
    if table.binary:
        found = paired_difference(own[both].astype(bool), base[both].astype(bool), **common)
    else:
        found = mean(own[both] - base[both], unit="pp", scale=100.0, **common)
    found = _noted(found, int((none & both).sum()), "counted as the worst outcome")
    return _noted(found, int((~both).sum()), "left out")


def bounds_of(table: Surface, arm: Arm, level: float) -> dict[str, Any] | None:
    """The change whatever the missing outcomes would have been; None where none is missing."""
    own, base = arm.positive, table.baseline.positive
    if not table.binary or (np.isfinite(own) & np.isfinite(base)).all():
        return None
    found = paired_bounds(own, base, table.clusters, level)
    return {"low": found.low, "high": found.high, "level": level, "unscored": found.unscored}


def lost_verdicts(table: Surface, arm: Arm, level: float) -> Estimate | None:
    """Share of the items with a verdict at baseline that have none under the arm, in per cent; None where none has."""
    judged = np.isfinite(table.baseline.positive)
    gone = np.isnan(arm.positive[judged])
    return rate(gone, table.clusters[judged], level) if gone.any() else None


def mean_change(table: Surface, arm: Arm, name: str, unit: str, scale: float, level: float) -> Estimate:
    """Paired change of a continuous column against the baseline, times `scale`."""
    change = getattr(arm, name) - getattr(table.baseline, name)
    known = np.isfinite(change)
    if not known.any():
        return Estimate(None, None, None, level, unit, 0, "t", note="not measured on this benchmark")
    return mean(
        change[known], clusters=table.clusters[known], level=level, unit=unit, scale=scale, cluster_unit="entity"
    )


def site_dose(table: Surface, arm: Arm, level: float) -> Estimate:
    """‖Δ‖/‖h‖ at the sites, mean over items."""
    known = np.isfinite(arm.relative_dose)
    if not known.any():
        return Estimate(None, None, None, level, "‖Δ‖/‖h‖", 0, "t", note="nothing was hooked")
    return mean(
        arm.relative_dose[known], clusters=table.clusters[known], level=level, unit="‖Δ‖/‖h‖", cluster_unit="entity"
    )


def against_draws(
    table: Surface, own: Floats, draws: list[Floats], unit: str, scale: float, bound: float | None, level: float
) -> dict[str, Any] | None:
    """Difference from the draws' mean, prediction for a new draw, rank; None where nothing was measured."""
    if not draws:
        return None
    there = np.isfinite(np.stack(draws))
    known = np.isfinite(own) & there.any(0)
    if not known.any() or not there[:, known].any(1).all():
        return None
    result = two_level(
        own[known], np.stack(draws)[:, known], clusters=table.clusters[known], level=level, unit=unit, scale=scale,
        side="two-sided", bound=bound, cluster_unit="entity",
    )  # fmt: skip
    missing = int((~there[:, known]).sum())  # draws x items whose outcome is missing among the items compared
    left_out = int((~known).sum())
    return result.to_dict() | {
        "left_out": left_out, "missing": missing, "outside_prediction": result.outside_prediction,
    }  # fmt: skip
