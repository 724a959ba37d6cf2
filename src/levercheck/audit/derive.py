"""The audit: rows in, estimates and four standings out. `verify` repeats exactly this."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from levercheck.audit import levers, readout
from levercheck.audit.findings import findings
from levercheck.audit.labels import consistency
from levercheck.audit.spec import AuditSpec, Margins
from levercheck.audit.tables import RANDOM, SWEEP_KEY, TARGET, ArmRows, RunTables, read_tables
from levercheck.audit.verdict import four_gates, verdict
from levercheck.stats import Estimate, sets_needed

SCHEMA = "levercheck.audit/v1"


def derive(root: Path) -> dict[str, Any]:
    """Compute the whole audit of a run directory from its rows; plain JSON data, no times, no paths.

    Needs no model runtime. Raises IntegrityError when rows are missing or do not fit together.
    """
    return _audit(read_tables(root))


def audit_rows(
    *,
    train: pl.DataFrame | None = None,
    test: pl.DataFrame | None = None,
    sweep: pl.DataFrame | None = None,
    spec: AuditSpec | None = None,
) -> dict[str, Any]:
    """Audit rows in memory. Called as `levercheck.audit(...)`.

    `train` and `test` are labelled items (`levercheck.consistency`), `test` with the probe's log-odds as `score`;
    `sweep` are SWEEP rows; the dose grid is theirs unless `spec` declares one. A gate whose rows are not given is
    `missing`. The result has the form of audit.json.
    """
    if spec is None:
        spec = AuditSpec() if sweep is None else AuditSpec(doses=tuple(sorted(sweep["alpha"].unique().to_list())))
    ordered = None if sweep is None else sweep.sort(SWEEP_KEY)
    return _audit(RunTables(spec, {}, {}, train, test, ordered, None))


def _audit(tables: RunTables) -> dict[str, Any]:
    arms = tables.arms()
    estimates: dict[str, Estimate] = {}
    facts: dict[str, Any] = {}
    if tables.train is not None and tables.test is not None:
        estimates |= readout.probe_estimates(tables.train, tables.test, tables.spec)
    if "answers" in tables.frames and tables.train is not None:
        labels = consistency(tables.frames["answers"])
        estimates |= readout.label_estimates(labels)
        facts["probe"] = readout.choice(tables.frames["probe"], tables.frames["readout"], tables.train)
        facts["counts"] = _counts(tables, labels)
    if arms:
        found, facts["instrument"] = levers.assay_estimates(arms[0], tables)
        estimates |= found
        for arm in arms:
            estimates |= levers.arm_estimates(arm, tables)
    if {TARGET, RANDOM} <= {arm.condition for arm in arms}:
        found, facts["specificity"] = levers.specificity(arms, tables)
        estimates |= found
        facts["design"] = _design(estimates, tables.spec)
    if tables.effects is not None:
        found, facts["null"] = levers.first_order(arms, tables)
        estimates |= found
    gates = four_gates(tables.spec, estimates, facts.get("instrument"))
    study = tables.study or {"spec": {"audit": tables.spec.model_dump(mode="json")}}
    return {
        "schema": SCHEMA,
        "study": {name: study.get(name) for name in ("key", "spec", "model", "facts", "instrument")},
        "rows": tables.digests(),
        **facts,
        "arms": [_describe(arm) for arm in arms],
        "estimates": {name: estimate.to_dict() for name, estimate in sorted(estimates.items())},
        "gates": [gate.to_dict() for gate in gates],
        "findings": findings(estimates, facts),
        "verdict": verdict(gates, estimates, tables.spec.margins),
    }


def _design(estimates: dict[str, Estimate], spec: AuditSpec) -> dict[str, Any]:
    """What this run could and could not have shown."""
    own = estimates["h_neurons.slope"]
    error = None if own.low is None or own.high is None else (own.high - own.low) / (2 * 1.959964)
    reach = None if error is None else (1.959964 + 0.841621) * error
    return {
        "slope_mde_pp": reach,
        "slope_needed_pp": None if reach is None else spec.margins.slope_pp + reach,
        "random_sets_for_p_05": sets_needed(0.05, "two-sided"),
        "margins": "default margins" if spec.margins == Margins() else "margins of this study",
    }


def _describe(arm: ArmRows) -> dict[str, Any]:
    layers: dict[str, int] = {}
    for layer, _ in arm.neurons:
        layers[str(layer)] = layers.get(str(layer), 0) + 1
    return {"label": arm.label, "condition": arm.condition, "neurons": len(arm.neurons), "layers": layers}


def _counts(tables: RunTables, labels: pl.DataFrame) -> dict[str, Any]:
    items, test = tables.frames["items"], tables.test
    assert test is not None
    used = items.filter(pl.col("dropped").is_null())
    reasons = items.filter(pl.col("dropped").is_not_null()).group_by("dropped").len().sort("dropped")
    by_role = labels.group_by("role", "label").len().sort("role", "label")
    roles: dict[str, dict[str, int]] = {}
    for role, label, count in by_role.rows():
        roles.setdefault(role, {})[label] = count
    entities = {role: set(labels.filter(pl.col("role") == role)["entity"]) for role in roles}
    shared = sum(len(a & b) for i, a in enumerate(entities.values()) for b in list(entities.values())[i + 1 :])
    answers = tables.frames["answers"]
    return {
        "questions": len(labels),
        "answers": len(answers),
        "answers_cut_by_cap": int((~answers["stopped"]).sum()),
        "unusable_empty": int(((labels["label"] != "mixed") & ~labels["usable"]).sum()),
        "roles": roles,
        "entities_shared_between_roles": shared,
        "probe_test": {"items": len(test), "wrong": int((test["label"] == "wrong").sum())},
        "select_items": int((used["role"] == "select").sum()),
        "confirm_items": int((used["role"] == "confirm").sum()),
        "confirm_entities": used.filter(pl.col("role") == "confirm")["entity"].n_unique(),
        "dropped": dict(reasons.iter_rows()),
    }
