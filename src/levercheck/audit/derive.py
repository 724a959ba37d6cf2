"""The audit: rows in, estimates and four standings out. `verify` repeats exactly this."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from levercheck.audit import levers, readout
from levercheck.audit.findings import findings
from levercheck.audit.gates import Criterion, Gate, Outcome, compare, judge
from levercheck.audit.labels import consistency
from levercheck.audit.spec import AuditSpec
from levercheck.audit.tables import TARGET, ArmRows, RunTables, read_tables
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
    `sweep` are SWEEP rows. A gate whose rows are not given is `missing`. The result has the form of audit.json.
    """
    return _audit(RunTables(spec or AuditSpec(), {}, {}, train, test, sweep, None))


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
    if any(arm.condition == TARGET for arm in arms):
        found, facts["specificity"] = levers.specificity(arms, tables)
        estimates |= found
        facts["design"] = _design(estimates, tables.spec)
    if tables.effects is not None:
        found, facts["null"] = levers.first_order(arms, tables)
        estimates |= found
    gates = _gates(tables, estimates, facts.get("instrument"))
    study = tables.study or {"spec": {"audit": tables.spec.model_dump(mode="json")}}
    return {
        "schema": SCHEMA,
        "study": {name: study.get(name) for name in ("key", "spec", "model", "facts")},
        "rows": tables.digests(),
        **facts,
        "arms": [_describe(arm) for arm in arms],
        "estimates": {name: estimate.to_dict() for name, estimate in sorted(estimates.items())},
        "gates": [gate.to_dict() for gate in gates],
        "findings": findings(estimates, facts),
        "verdict": verdict(gates),
    }


def _gates(tables: RunTables, estimates: dict[str, Estimate], instrument: dict[str, Any] | None) -> list[Gate]:
    m = tables.spec.margins
    exact: Outcome = "missing"
    receipts: Outcome = "missing"
    if instrument is not None:
        same = instrument["noop_largest_difference"] == 0 and instrument["noop_rows"] == instrument["noop_expected"]
        exact = "met" if same else "violated"
        receipts = "met" if instrument["rows_without_receipt"] == 0 else "violated"
    sensitive = compare(
        "assay_sensitivity",
        f"the positive control moves compliance by more than {m.slope_pp:g} pp per unit dose",
        estimates,
        "gradient.slope",
        ">",
        m.slope_pp,
    )
    measurement = judge(
        "measurement",
        "The task responds to its context, has room to move, can show a lever, and the hooks do what they say.",
        [
            compare(
                "context_effect",
                f"the context raises compliance by more than {m.context_pp:g} pp",
                estimates,
                "assay.context_effect",
                ">",
                m.context_pp,
            ),
            compare(
                "room_below",
                f"compliance at the no-op dose is above {m.headroom_pp:g} %",
                estimates,
                "assay.with_context",
                ">",
                m.headroom_pp,
            ),
            compare(
                "room_above",
                f"compliance at the no-op dose is below {100 - m.headroom_pp:g} %",
                estimates,
                "assay.with_context",
                "<",
                100 - m.headroom_pp,
            ),
            sensitive,
            Criterion(
                "noop_exact",
                "hooked at the no-op dose, every logit equals the unhooked one bit for bit",
                "instrument.noop_largest_difference",
                "=",
                0.0,
                exact,
            ),
            Criterion(
                "receipts",
                "every intervened row carries a receipt that its hooks fired",
                "instrument.rows_without_receipt",
                "=",
                0.0,
                receipts,
            ),
        ],
    )
    localization = judge(
        "localization",
        "The readout predicts the label on unseen entities, and beyond the model's own confidence.",
        [
            compare(
                "predicts",
                f"AUROC on held-out entities is above {0.5 + m.auroc:g}",
                estimates,
                "probe.auroc",
                ">",
                0.5 + m.auroc,
            ),
            compare(
                "beyond_confidence",
                f"AUROC among equally confident answers is above {0.5 + m.matched_auroc:g}",
                estimates,
                "probe.auroc.matched",
                ">",
                0.5 + m.matched_auroc,
            ),
        ],
    )
    blind = None
    if sensitive.outcome != "met":
        blind = "the positive control did not move the task by the margin, so a flat curve would show nothing"
    control = judge(
        "control",
        "Scaling the readout's neurons up raises compliance, and more than scaling matched random neurons does.",
        [
            compare(
                "effect",
                f"compliance rises by more than {m.slope_pp:g} pp per unit dose",
                estimates,
                "h_neurons.slope",
                ">",
                m.slope_pp,
            ),
            compare(
                "specificity",
                f"the rise exceeds that of layer-matched random sets by more than {m.slope_pp:g} pp per unit dose",
                estimates,
                "h_neurons.minus_random",
                ">",
                m.slope_pp,
            ),
        ],
        blind=blind,
    )
    changed = [d for d in tables.spec.doses if d != tables.spec.noop_dose]
    externality = judge(
        "externality",
        "At every dose, what the model knows without a misleading context stays intact.",
        [
            compare(
                f"harm_a{dose:g}",
                f"bare accuracy at dose {dose:g} falls by less than {m.harm_pp:g} pp",
                estimates,
                f"h_neurons.bare_change.a{dose:g}.90",
                ">",
                -m.harm_pp,
            )
            for dose in changed
        ],
    )
    return [measurement, localization, control, externality]


_SENTENCES = {
    (
        "supported",
        "supported",
    ): "a lever: they predict the label, and scaling them moves the behaviour beyond matched controls",
    (
        "supported",
        "contradicted",
    ): "a readout, not a lever: they predict the label, but scaling them does not raise the "
    "behaviour by the declared margin",
    ("supported", "inconclusive"): "a readout; whether it is a lever is not decided by these rows",
    ("supported", "uninformative"): "a readout; the task could not have shown a lever",
    ("contradicted", "supported"): "a lever without being a valid readout",
}


def verdict(gates: list[Gate]) -> dict[str, str]:
    """One sentence that says no more than the standings license."""
    standing = {gate.name: gate.standing for gate in gates}
    pair = (standing["localization"], standing["control"])
    violated = {c.id for gate in gates if gate.name == "control" for c in gate.criteria if c.outcome == "violated"}
    text = _SENTENCES.get(
        pair, f"not decided: localization is {pair[0].replace('_', ' ')}, control is {pair[1].replace('_', ' ')}"
    )
    if pair == ("supported", "contradicted") and violated == {"specificity"}:
        text = "a readout, not a lever: they predict the label, but scaling them does not outdo scaling matched random "
        text += "neurons by the declared margin"
    if pair == ("supported", "supported") and standing["externality"] != "supported":
        text += f"; that it costs nothing elsewhere is {standing['externality'].replace('_', ' ')}"
    if standing["measurement"] != "supported":
        text += f" (measurement is {standing['measurement'].replace('_', ' ')}: read everything else with that in mind)"
    return {"standings": "/".join(standing[name] for name in standing), "sentence": f"The H-neurons are {text}."}


def _design(estimates: dict[str, Estimate], spec: AuditSpec) -> dict[str, Any]:
    """What this run could and could not have shown."""
    own = estimates["h_neurons.slope"]
    error = None if own.low is None or own.high is None else (own.high - own.low) / (2 * 1.959964)
    reach = None if error is None else (1.959964 + 0.841621) * error
    return {
        "slope_mde_pp": reach,
        "slope_needed_pp": None if reach is None else spec.margins.slope_pp + reach,
        "random_sets_for_p_05": sets_needed(0.05, "two-sided"),
        "margins": "default margins, declared before the run in study.json",
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
