"""Standings of every lever on the control and externality gates, where margins are declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from levercheck.audit.gates import Criterion, Outcome, compare, judge
from levercheck.audit.lever_estimates import against_draws, bounds_of, change_of, lost_verdicts
from levercheck.audit.lever_tables import Surface
from levercheck.stats import Estimate

ONE_SIDED = 0.9
"""Level of the intervals that non-inferiority reads: each bound is a one-sided 5 % test."""
LOST = 10.0
"""Per cent of items that may lose their verdict before a change of the rate of those that keep one means little."""


def standings(
    tables: list[Surface], checked: Mapping[str, Any], spec: Mapping[str, Any], level: float
) -> list[dict[str, Any]]:
    """Control and externality of every lever, where margins are declared; `checked` is the check of the instrument."""
    by_name = {table.benchmark: table for table in tables}
    silent = {arm["lever"] for arm in checked["arms_without_receipts"]}
    inexact = checked["noop_largest_difference"] not in (None, 0.0) or bool(checked["noop_rows_that_differ"])
    found = []
    for lever in dict.fromkeys([*tables[0].levers, *sorted(spec["interventions"])]):  # those without a row come last
        broken = None
        if inexact:
            broken = "the instrument failed its own check: hooks at their no-op dose changed something"
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
    change = change_of(table, arm, level)
    up = primary["direction"] == "increase" or (primary["direction"] == "either" and (change.value or 0.0) >= 0)
    sign, word = (1.0, "rises") if up else (-1.0, "falls")
    estimates = {"change": _signed(change, sign)}
    criteria = [compare("effect", f"the rate {word} by more than {margin:g} pp", estimates, "change", ">", margin)]
    for control in table.controls(lever):
        draws = table.draws(lever, control, arm.step)
        name = f"minus_{control}"
        base = table.baseline.positive
        own, others = arm.positive - base, [draw.positive - base for draw in draws]
        result = against_draws(table, own, others, "pp", 100.0, 1.0 if table.binary else None, level)
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
    lost, blind = lost_verdicts(table, arm, level), None
    if lost is not None:
        estimates["lost_verdicts"] = lost
        criteria.append(
            compare(
                "verdicts", f"fewer than {LOST:g} % of items lose their verdict", estimates, "lost_verdicts", "<", LOST
            )
        )
        if (bounds := bounds_of(table, arm, level)) is not None:
            worst = replace(change, low=bounds["low"], high=bounds["high"], method="manski")
            estimates["worst_case"] = _signed(worst, sign)
            text = f"it {word} whatever the outcomes that are missing would have been"
            criteria.append(compare("worst_case", text, estimates, "worst_case", ">", 0.0))
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
            estimates[name] = _signed(change_of(tables[surface], arm, ONE_SIDED, lost=True), -1.0 if lower else 1.0)
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
