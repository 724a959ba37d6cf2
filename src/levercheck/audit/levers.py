"""Control and externality: what scaling each set of neurons did, against the margin and against matched random sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.tables import BASELINE, NOOP, RANDOM, TARGET, ArmRows, RunTables
from levercheck.stats import (
    Estimate,
    equivalent,
    item_slopes,
    largest_slope,
    mean,
    monte_carlo_p,
    paired_difference,
    proportion,
    slope,
    spearman,
    stratified_subset_sums,
    two_level,
)

ONE_SIDED = 0.9
"""Level of the intervals that equivalence and non-inferiority read: each bound is a one-sided 5 % test."""


def assay_estimates(arm: ArmRows, tables: RunTables) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """Does the task respond to its context, is there room to move, and is the no-op dose really none?"""
    spec = tables.spec
    noop = spec.doses.index(spec.noop_dose)
    followed, preferred = arm.complied[:, noop], ~arm.correct[:, noop]
    entity = np.array(arm.entities)
    found = {
        "assay.with_context": _percent(followed, spec.level),
        "assay.without_context": _percent(preferred, spec.level),
        "assay.context_effect": paired_difference(
            followed, preferred, clusters=entity, level=spec.level, cluster_unit="entity"
        ),
    }
    keys = ["benchmark", "item_id"]
    assert tables.sweep is not None
    hooked = tables.sweep.filter(pl.col("condition") == NOOP).sort(keys)
    plain = tables.sweep.filter(pl.col("condition") == BASELINE).sort(keys)
    pairs = hooked.join(plain, on=keys, validate="1:1")
    unhooked_rows = tables.sweep.filter((pl.col("condition") != BASELINE) & pl.col("relative_dose").is_null())
    instrument = {
        "noop_rows": len(pairs),
        "noop_expected": len(plain),
        "noop_largest_difference": float((pairs["value"] - pairs["value_right"]).abs().max()),  # type: ignore[arg-type]
        "rows_without_receipt": len(unhooked_rows),
        "mean_candidate_mass": float(plain["mass"].mean()),  # type: ignore[arg-type]
    }
    return found, instrument


def arm_estimates(arm: ArmRows, tables: RunTables) -> dict[str, Estimate]:
    """Dose response, side effects and measured relative dose of one arm."""
    spec, entity = tables.spec, np.array(arm.entities)
    doses = list(spec.doses)
    noop = doses.index(spec.noop_dose)
    common: dict[str, Any] = {"clusters": entity, "level": spec.level, "cluster_unit": "entity"}
    found = {
        f"{arm.label}.slope": slope(arm.complied, doses, unit="pp/dose", **common),
        f"{arm.label}.logit_slope": slope(arm.logit, doses, unit="logit/dose", scale=1.0, binary=False, **common),
        f"{arm.label}.bare_slope": slope(arm.correct, doses, unit="pp/dose", **common),
    }
    for column, dose in enumerate(doses):
        at = f"a{dose:g}"
        found[f"{arm.label}.compliance.{at}"] = _percent(arm.complied[:, column], spec.level)
        found[f"{arm.label}.bare.{at}"] = _percent(arm.correct[:, column], spec.level)
        if column == noop:
            continue
        change = (arm.correct[:, column], arm.correct[:, noop])
        likely = arm.mass[:, column] - arm.mass[:, noop]
        for suffix, level in (("", spec.level), (".90", ONE_SIDED)):
            options = {**common, "level": level}
            found[f"{arm.label}.bare_accuracy_change.{at}{suffix}"] = paired_difference(*change, **options)
            found[f"{arm.label}.bare_mass_change.{at}{suffix}"] = mean(likely, unit="pp", scale=100.0, **options)
        measured = np.isfinite(arm.relative_dose[:, column])  # rows without a receipt fail their own criterion
        found[f"{arm.label}.relative_dose.{at}"] = mean(
            arm.relative_dose[measured, column], unit="‖Δ‖/‖h‖", **{**common, "clusters": entity[measured]}
        )
    return found


def specificity(arms: list[ArmRows], tables: RunTables) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """The target against the measured random sets, and equivalence of its slope to zero."""
    spec, doses = tables.spec, list(tables.spec.doses)
    target = _one(arms, TARGET)
    entity = np.array(target.entities)
    controls = np.stack([item_slopes(a.complied, doses) for a in arms if a.condition == RANDOM])
    common: dict[str, Any] = {"clusters": entity, "level": spec.level, "cluster_unit": "entity"}
    pp = two_level(
        item_slopes(target.complied, doses),
        controls,
        unit="pp/dose",
        scale=100.0,
        side="two-sided",
        bound=largest_slope(doses),
        **common,
    )
    logits = np.stack([item_slopes(a.logit, doses) for a in arms if a.condition == RANDOM])
    logit = two_level(item_slopes(target.logit, doses), logits, unit="logit/dose", side="two-sided", **common)
    narrow = slope(target.complied, doses, unit="pp/dose", clusters=entity, level=ONE_SIDED, cluster_unit="entity")
    found = {
        f"{TARGET}.minus_random": pp.difference,
        f"{TARGET}.minus_random.logit": logit.difference,
        "random.new_set": pp.prediction,
        "random.new_set.logit": logit.prediction,
        f"{TARGET}.slope.90": narrow,
    }
    facts = {
        "random_sets": pp.sets,
        "rank_p": pp.p,
        "rank_p_logit": logit.p,
        "attainable_p": pp.attainable_p,
        "equivalent_within_margin": equivalent(narrow, spec.margins.slope_pp),
    }
    return found, facts


def first_order(arms: list[ArmRows], tables: RunTables) -> tuple[dict[str, Estimate], dict[str, Any]]:
    """Predicted initial logit slopes from one gradient, and where the target falls among thousands of random sets."""
    spec = tables.spec
    effects = tables.effects
    assert effects is not None
    average = effects.mean(axis=0, dtype=np.float64)
    entity = tables.frames["items"].filter(pl.col("dropped").is_null()).select("item_id", "entity")
    order = tables.frames["attribution"].sort("index").join(entity, on="item_id", how="left", maintain_order="left")
    found = {}
    for arm in arms:
        at = np.array(arm.neurons)
        sums = effects[:, at[:, 0], at[:, 1]].sum(axis=1, dtype=np.float64)
        found[f"{arm.label}.first_order"] = mean(
            sums, clusters=order["entity"].to_numpy(), level=spec.level, unit="logit/dose", cluster_unit="entity"
        )
    target = _one(arms, TARGET)
    counts: dict[int, int] = {}
    for layer, _ in target.neurons:
        counts[layer] = counts.get(layer, 0) + 1
    readout = tables.frames["readout"].filter(pl.col("layer").is_not_null())
    eligible = np.ones(average.shape, dtype=bool)
    eligible[readout["layer"].to_numpy(), readout["index"].to_numpy()] = False
    null = stratified_subset_sums(average, counts, spec.null_draws, spec.seed, eligible)
    own = float(average[tuple(np.array(target.neurons).T)].sum())
    found["null.percentile"] = proportion(int((null < own).sum()), len(null), level=spec.level)
    low, high = np.quantile(null, [0.025, 0.975])
    facts = {
        "draws": len(null),
        "mean": float(null.mean()),
        "sd": float(null.std(ddof=1)),
        "low": float(low),
        "high": float(high),
        "p": monte_carlo_p(own, null, "two-sided"),
    }
    found["null.predicted_vs_measured"] = spearman(
        [found[f"{arm.label}.first_order"].value or 0.0 for arm in arms],
        [float(item_slopes(arm.logit, list(spec.doses)).mean()) for arm in arms],
    )
    return found, facts


def _percent(outcomes: np.ndarray[Any, np.dtype[np.bool_]], level: float) -> Estimate:
    """Share of items in per cent, Wilson interval."""
    share = proportion(int(outcomes.sum()), len(outcomes), level=level)
    assert share.value is not None and share.low is not None and share.high is not None
    return Estimate(100 * share.value, 100 * share.low, 100 * share.high, level, "%", share.n, share.method)


def _one(arms: list[ArmRows], condition: str) -> ArmRows:
    return next(arm for arm in arms if arm.condition == condition)
