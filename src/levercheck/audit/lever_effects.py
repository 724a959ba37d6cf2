"""What every lever of a study did, beside its controls, on every benchmark: estimates, comparisons, standings.

Each point of a lever's curve is compared with the baseline on the same items (paired), and with the draws of its
controls at the same point (items x draws). A standing needs whole intervals beyond the declared margin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import polars as pl

from levercheck.audit.balance import dose_balance
from levercheck.audit.gates import Criterion, Outcome, compare, judge
from levercheck.audit.lever_responses import responses
from levercheck.audit.lever_tables import Arm, Floats, Surface, surfaces
from levercheck.audit.rates import rate
from levercheck.errors import NotEnoughDataError
from levercheck.stats import Estimate, attainable_p, mean, paired_bounds, paired_difference, two_level

SCHEMA = "levercheck.levers/v2"
ONE_SIDED = 0.9
"""Level of the intervals that non-inferiority reads: each bound is a one-sided 5 % test."""
LOST = 10.0
"""Per cent of items that may lose their verdict before a change of the rate of those that keep one means little."""


def lever_effects(
    rows: pl.DataFrame,
    spec: Mapping[str, Any],
    meanings: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    level: float = 0.95,
) -> dict[str, Any]:
    """The audit of LEVERS rows, as plain JSON types; `spec` is the study file and `meanings` are its benchmarks."""
    tables = surfaces(rows, spec["benchmarks"], meanings)
    points = [point for table in tables for lever in table.levers for point in _points(table, lever, level)]
    return {
        "schema": SCHEMA,
        "study": spec["study"],
        "spec": dict(spec),
        "role": rows["role"][0],
        "instrument": instrument(tables),
        "baseline": {table.benchmark: _rate(table, table.baseline, level).to_dict() for table in tables},
        "benchmarks": dict(meanings or {}),
        "points": points,
        "responses": [one for name in spec["benchmarks"] for one in responses(rows, name, level)],
        "dose_balance": _dose_balance(rows, tables[0]),
        "standings": _standings(tables, spec, level),
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


def instrument(tables: list[Surface]) -> dict[str, Any]:
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
        "arms_without_receipts": silent,
        "arms_without_any_change": inert,
        "degenerate_rows": sum(arm.degenerate for table in tables for arm in table.arms),
    }


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
            "rate": _rate(table, arm, level).to_dict(),
            "change": _change(table, arm, level).to_dict(),
            "change_bounds": _bounds(table, arm, level),
            "value_change": _mean_change(table, arm, "value", table.value_unit, 1.0, level).to_dict(),
            "mass_change": _mean_change(table, arm, "mass", "pp", 100.0, level).to_dict(),
            "relative_dose": _site_dose(table, arm, level).to_dict(),
            "controls": {},
        }
        for control in table.controls(lever):
            draws = table.draws(lever, control, arm.step)
            point["controls"][control] = _against(table, arm, draws, level)
        found.append(point)
    return found


def _rate(table: Surface, arm: Arm, level: float) -> Estimate:
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


def _change(table: Surface, arm: Arm, level: float, *, lost: bool = False) -> Estimate:
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


def _bounds(table: Surface, arm: Arm, level: float) -> dict[str, Any] | None:
    """The change whatever the missing outcomes would have been; None where none is missing."""
    own, base = arm.positive, table.baseline.positive
    if not table.binary or (np.isfinite(own) & np.isfinite(base)).all():
        return None
    found = paired_bounds(own, base, table.clusters, level)
    return {"low": found.low, "high": found.high, "level": level, "unscored": found.unscored}


def _lost(table: Surface, arm: Arm, level: float) -> Estimate | None:
    """Share of the items with a verdict at baseline that have none under the arm, in per cent; None where none has."""
    judged = np.isfinite(table.baseline.positive)
    gone = np.isnan(arm.positive[judged])
    return rate(gone, table.clusters[judged], level) if gone.any() else None


def _mean_change(table: Surface, arm: Arm, name: str, unit: str, scale: float, level: float) -> Estimate:
    change = getattr(arm, name) - getattr(table.baseline, name)
    known = np.isfinite(change)
    if not known.any():
        return Estimate(None, None, None, level, unit, 0, "t", note="not measured on this benchmark")
    return mean(
        change[known], clusters=table.clusters[known], level=level, unit=unit, scale=scale, cluster_unit="entity"
    )


def _site_dose(table: Surface, arm: Arm, level: float) -> Estimate:
    known = np.isfinite(arm.relative_dose)
    if not known.any():
        return Estimate(None, None, None, level, "‖Δ‖/‖h‖", 0, "t", note="nothing was hooked")
    return mean(
        arm.relative_dose[known], clusters=table.clusters[known], level=level, unit="‖Δ‖/‖h‖", cluster_unit="entity"
    )


def _against(table: Surface, arm: Arm, draws: list[Arm], level: float) -> dict[str, Any]:
    """The lever against the draws of one control at the same point."""
    found: dict[str, Any] = {"draws": len(draws), "attainable_p": attainable_p(len(draws), "two-sided")}
    found["degenerate"] = sum(draw.degenerate for draw in draws)
    found["each"] = [_plain(_change(table, draw, level)) | {"draw": draw.draw, "dose": draw.dose} for draw in draws]
    doses = [float(np.nanmean(d.relative_dose)) for d in draws if np.isfinite(d.relative_dose).any()]
    found["relative_dose"] = mean(np.array(doses), unit="‖Δ‖/‖h‖", level=level).to_dict() if doses else None
    for key, name, unit, scale, bound in (
        ("rate", "positive", "pp", 100.0, 1.0),
        ("value", "value", table.value_unit, 1.0, None),
    ):
        base = getattr(table.baseline, name)
        changes = [getattr(draw, name) - base for draw in draws]
        found[key] = _two_level(table, getattr(arm, name) - base, changes, unit, scale, bound, level)
    return found


def _two_level(
    table: Surface, own: Floats, draws: list[Floats], unit: str, scale: float, bound: float | None, level: float
) -> dict[str, Any] | None:
    """Difference from the draws' mean, prediction for a new draw, rank; None where nothing was measured."""
    if not draws:
        return None
    known = np.isfinite(own) & np.isfinite(np.stack(draws)).all(0)
    if not known.any():
        return None
    result = two_level(
        own[known], np.stack(draws)[:, known], clusters=table.clusters[known], level=level, unit=unit, scale=scale,
        side="two-sided", bound=bound, cluster_unit="entity",
    )  # fmt: skip
    return result.to_dict() | {"left_out": int((~known).sum()), "outside_prediction": result.outside_prediction}


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _standings(tables: list[Surface], spec: Mapping[str, Any], level: float) -> list[dict[str, Any]]:
    """Control and externality of every lever, where margins are declared."""
    by_name = {table.benchmark: table for table in tables}
    checked = instrument(tables)
    silent = {arm["lever"] for arm in checked["arms_without_receipts"]}
    inexact = checked["noop_largest_difference"] not in (None, 0.0)
    found = []
    for lever in dict.fromkeys([*tables[0].levers, *sorted(spec["interventions"])]):  # those without a row come last
        broken = None
        if inexact:
            broken = "the instrument failed its own check: hooks at their no-op dose changed the logits"
        elif lever in silent:
            broken = "the instrument failed its own check: rows whose hooks left no receipt"
        if spec.get("primary"):
            found.append(_control(by_name[spec["primary"]["benchmark"]], lever, spec["primary"], level, broken))
        if spec.get("externality"):
            found.append(_externality(by_name, lever, spec["externality"], broken))
    return found


def _unturned(relation: Literal[">"], threshold: float) -> Criterion:
    return Criterion("turned", "a declared effort is reached by some dose", "-", relation, threshold, "missing")


def _control(
    table: Surface, lever: str, primary: Mapping[str, Any], level: float, broken: str | None
) -> dict[str, Any]:
    """Does it move the primary metric by more than the margin, and more than every control: its mean, and a new draw?

    The strongest point that was reached is graded, not the best one. Either direction is graded on the side that the
    change is on, with both bounds of the interval beyond the margin.
    """
    claim = f"Turning {lever} moves {table.benchmark}, more than its controls do."
    margin = float(primary["margin"])
    if not table.targets(lever):
        gate = judge("control", claim, [_unturned(">", margin)])
        return {"lever": lever, "at": None, "kind": None, "estimates": {}} | gate.to_dict()
    arm = table.targets(lever)[-1]
    change = _change(table, arm, level)
    up = primary["direction"] == "increase" or (primary["direction"] == "either" and (change.value or 0.0) >= 0)
    sign, word = (1.0, "rises") if up else (-1.0, "falls")
    estimates = {"change": _signed(change, sign)}
    criteria = [compare("effect", f"the rate {word} by more than {margin:g} pp", estimates, "change", ">", margin)]
    for control in table.controls(lever):
        draws = table.draws(lever, control, arm.step)
        name = f"minus_{control}"
        base = table.baseline.positive
        own, others = arm.positive - base, [draw.positive - base for draw in draws]
        result = _two_level(table, own, others, "pp", 100.0, 1.0, level)
        if result is not None:
            estimates[name] = _signed(Estimate.from_dict(result["difference"]), sign)
            estimates[f"new_{control}"] = _signed(_beyond_a_draw(result), sign)
        criteria.append(
            compare(
                f"new_{control}",
                f"it {word} by more than a new {control} draw would (prediction interval)",
                estimates,
                f"new_{control}",
                ">",
                0.0,
            )
        )
        criteria.append(
            compare(
                name,
                f"it {word} by more than under the mean of {control} draws, by over {margin:g} pp",
                estimates,
                name,
                ">",
                margin,
            )
        )
    if not table.controls(lever):
        outcome: Outcome = "missing"
        criteria.append(Criterion("minus_control", "it moves more than matched draws do", "-", ">", margin, outcome))
    lost, blind = _lost(table, arm, level), None
    if lost is not None:
        estimates["lost_verdicts"] = lost
        criteria.append(
            compare(
                "verdicts", f"fewer than {LOST:g} % of items lose their verdict", estimates, "lost_verdicts", "<", LOST
            )
        )
        if lost.value is not None and lost.value >= LOST:
            blind = f"{lost.value:.0f} % of items lose their verdict under the lever: the rest is a selection"
    gate = judge("control", claim, criteria, broken=broken, blind=blind)
    kind, at = arm.step
    return {
        "lever": lever,
        "at": at,
        "kind": kind,
        "estimates": {n: e.to_dict() for n, e in estimates.items()},
    } | gate.to_dict()


def _beyond_a_draw(result: Mapping[str, Any]) -> Estimate:
    """The lever's change minus that of one new draw, with the prediction interval of the draw."""
    new, own = Estimate.from_dict(result["prediction"]), result["target_mean"]
    if own is None or new.value is None or new.low is None or new.high is None:
        return Estimate.from_dict(new.to_dict() | {"value": None, "low": None, "high": None})
    return Estimate.from_dict(new.to_dict() | {"value": own - new.value, "low": own - new.high, "high": own - new.low})


def _externality(
    tables: Mapping[str, Surface], lever: str, declared: Mapping[str, Any], broken: str | None
) -> dict[str, Any]:
    """Does every surface stay within the margin of its baseline, at every point that was reached?

    An item that has no outcome under the lever (no verdict, broken numbers) counts as lost: silence is no safety.
    """
    margin, estimates, criteria = float(declared["non_inferiority"]), {}, []
    for surface in declared["surfaces"]:
        if not tables[surface].targets(lever):
            criteria.append(_unturned(">", -margin))
        for arm in tables[surface].targets(lever):
            kind, at = arm.step
            name = surface if at is None else f"{surface} at {kind} {at:g}"
            lower = tables[surface].better == "lower"
            estimates[name] = _signed(_change(tables[surface], arm, ONE_SIDED, lost=True), -1.0 if lower else 1.0)
            claim = f"{name}: {'rises by' if lower else 'loses'} less than {margin:g} pp"
            criteria.append(compare(name, claim, estimates, name, ">", -margin))
            if arm.degenerate:
                criteria.append(Criterion(f"{name}, numbers", "no logits break", name, "=", 0.0, "violated"))
    gate = judge("externality", f"Turning {lever} leaves the other surfaces intact.", criteria, broken=broken)
    return {
        "lever": lever,
        "at": None,
        "kind": None,
        "estimates": {n: e.to_dict() for n, e in estimates.items()},
    } | gate.to_dict()


def _signed(estimate: Estimate, sign: float) -> Estimate:
    """The estimate in the direction of the claim."""
    if sign > 0 or estimate.value is None:
        return estimate
    low, high = (None, None) if estimate.low is None or estimate.high is None else (-estimate.high, -estimate.low)
    record = estimate.to_dict() | {"value": -estimate.value, "low": low, "high": high}
    return Estimate.from_dict(record)
