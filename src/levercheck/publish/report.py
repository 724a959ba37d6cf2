"""The report: one self-contained page without scripts, made from an audit and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from levercheck.publish import figures
from levercheck.publish.extras import REPORT, require
from levercheck.publish.format import (
    TONES,
    Quoted,
    bare,
    finite,
    integer,
    number,
    p_value,
    plural,
    standing,
    threshold,
    whole,
)
from levercheck.publish.svg import inline
from levercheck.publish.view import RANDOM, AuditView, compact, flatten

GATE_TITLES = {
    "measurement": "Measurement",
    "localization": "Localization",
    "control": "Control",
    "externality": "Externality",
}
_QUESTIONS = {
    "measurement": "Could this task show a lever at all?",
    "localization": "Does the readout carry the label?",
    "control": "Does scaling it move the behaviour?",
    "externality": "What else does scaling it change?",
}


def report_html(audit: Mapping[str, Any]) -> str:
    """The page of an audit. Every text of the audit is escaped; the same audit always gives the same bytes."""
    require(*REPORT)
    view = AuditView(audit)
    text: str = _template().render(
        view=view,
        title=f"Are the H-neurons of {view.model_name} a lever?",
        gates=_gates(view),
        findings=_findings(view),
        figures=_figures(audit),
        random_sets=view.arms_of(RANDOM),
        facts=_facts(view),
        roles=_roles(view),
        grid=_grid(view),
        neurons=_neurons(view),
        relative=_relative_doses(view),
        rho=view.quote("null.predicted_vs_measured"),
        model=flatten(view.at("study", "model")),
        spec=flatten(view.at("study", "spec")),
    )
    return text


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader("levercheck.publish", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        bare=bare,
        p_value=p_value,
        standing=standing,
        compact=compact,
        integer=integer,
        plural=plural,
        dose=_dose,
        tone=_tone,
    )
    return environment.get_template("report.html")


def _figures(audit: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Both variants of every figure; their text was escaped when the XML was written."""
    from markupsafe import Markup

    drawings = {
        "dose": figures.dose_response_svg,
        "forest": figures.forest_svg,
        "readout": figures.readout_svg,
    }
    return {
        name: {
            "wide": Markup(inline(draw(audit, "wide"))),  # noqa: S704 - parsed and re-serialised XML
            "narrow": Markup(inline(draw(audit, "narrow"))),  # noqa: S704 - parsed and re-serialised XML
        }
        for name, draw in drawings.items()
    }


def _gates(view: AuditView) -> list[dict[str, Any]]:
    found = []
    for gate in view.rows("gates"):
        name = str(gate.get("name", ""))
        criteria = gate.get("criteria")
        rows = [c for c in criteria if isinstance(c, Mapping)] if isinstance(criteria, list | tuple) else []
        found.append(
            {
                "name": name,
                "title": GATE_TITLES.get(name, name),
                "question": _QUESTIONS.get(name, ""),
                "standing": str(gate.get("standing", "missing")),
                "kind": _tone(gate.get("standing")),
                "claim": str(gate.get("claim", "")),
                "reason": _readable(str(gate.get("reason", "")), rows),
                "criteria": [_criterion(view, row) for row in rows],
            }
        )
    return found


def _readable(reason: str, rows: list[Mapping[str, Any]]) -> str:
    """A reason without the criteria's ids: their outcomes stand right below it."""
    head, colon, tail = reason.partition(": ")
    names = {str(row.get("id")) for row in rows}
    if not colon or not set(tail.split(", ")) <= names:
        return reason
    count = len(tail.split(", "))
    return head if count == len(rows) else f"{head} for {count} of {len(rows)} criteria"


def _criterion(view: AuditView, row: Mapping[str, Any]) -> dict[str, Any]:
    evidence = view.evidence(row)
    relation, limit = str(row.get("relation", "")), finite(row.get("threshold"))
    quoted = isinstance(evidence, Quoted)
    return {
        "text": str(row.get("text", "")),
        "outcome": str(row.get("outcome", "missing")),
        "id": str(row.get("estimate", "")),
        "quote": evidence if quoted else None,
        "fact": None if quoted else evidence,
        "limit": limit,
        "threshold": threshold(relation, limit, evidence.unit) if isinstance(evidence, Quoted) else "",
    }


def _findings(view: AuditView) -> list[dict[str, Any]]:
    found = []
    for row in view.rows("findings"):
        names = [name.strip() for name in str(row.get("estimates", "")).split(",") if name.strip()]
        found.append({"text": str(row.get("text", "")), "estimates": [view.quote(name) for name in names]})
    return found


def _facts(view: AuditView) -> dict[str, Any]:
    """Numbers that several places of the page quote."""
    interval = [finite(view.at("null", end)) for end in ("low", "high")]
    low, high = interval
    neurons, items = whole(view.at("probe", "h_neurons")), whole(view.at("counts", "confirm_items"))
    entities = whole(view.at("counts", "confirm_entities"))
    doses = ", ".join(_dose(dose) for dose in view.doses) or "not recorded"
    about = "" if entities is None else f" about {plural(entities, 'entity')}"
    return {
        "readout": "the H-neurons" if neurons is None else plural(neurons, "H-neuron"),
        "scale": "" if items is None else f" ({plural(items, 'item')}{about}, doses {doses})",
        "doses": doses,
        "noop": _dose(view.noop_dose),
        "first_order_range": (
            None if low is None or high is None else f"[{number(low, 3, signed=True)}, {number(high, 3, signed=True)}]"
        ),
        "mde": _signed(view.at("design", "slope_mde_pp")),
        "needed": _signed(view.at("design", "slope_needed_pp")),
        "level": f"{100 * (finite(view.at('study', 'spec', 'audit', 'level')) or 0.95):g} %",
        "margin": view.margin("slope_pp"),
        "quick": view.at("study", "spec", "quick") is True,
        "mass": bare(view.at("instrument", "mean_candidate_mass")),
    }


def _grid(view: AuditView) -> list[dict[str, Any]]:
    """The grid of C with what was chosen from it."""
    selected, used = view.at("probe", "c"), view.at("probe", "c_used")
    found = []
    for row in view.rows("probe", "c_grid"):
        c = row.get("c")
        marks = [word for word, value in (("selected", selected), ("used", used)) if value is not None and value == c]
        fields = ("mean_fold_auroc", "sd", "folds")
        found.append({"c": c, "mark": ", ".join(marks), **{name: row.get(name) for name in fields}})
    return found


def _roles(view: AuditView) -> list[dict[str, Any]]:
    """Questions by split role and label, in the order in which a study uses the roles."""
    table = view.table("counts", "roles")
    order = {"readout": 0, "select": 1, "tune": 2, "confirm": 3, "external": 4}
    uses = {
        "readout": "the probe is trained and tested here",
        "select": "the positive control is chosen here",
        "confirm": "the dose response is measured here",
    }
    found = []
    for role in sorted(table, key=lambda name: (order.get(name, 9), name)):
        counts = table[role] if isinstance(table[role], Mapping) else {}
        row = {label: whole(counts.get(label)) or 0 for label in ("right", "wrong", "mixed")}
        found.append({"role": role, "use": uses.get(role, ""), **row, "all": sum(row.values())})
    return found


def _neurons(view: AuditView) -> list[dict[str, Any]]:
    """Neurons per layer; random sets that share their layers share a row."""
    found: list[dict[str, Any]] = []
    for arm in view.arms:
        layers = ", ".join(f"{layer}" + (f" (×{count})" if count > 1 else "") for layer, count in arm.layers)
        last = found[-1] if found else None
        if last and arm.condition == RANDOM and last["condition"] == RANDOM and last["layers"] == layers:
            last["sets"] += 1
            last["name"] = f"{last['sets']} random sets, each"
            continue
        found.append(
            {"name": arm.name, "condition": arm.condition, "layers": layers, "neurons": arm.neurons, "sets": 1}
        )
    return found


def _relative_doses(view: AuditView) -> list[tuple[str, list[Quoted]]]:
    """Measured relative dose of every arm at every dose that changes something."""
    return [
        (arm.name, [view.quote(f"{arm.label}.relative_dose.a{dose:g}") for dose in view.changed_doses])
        for arm in view.arms
    ]


def _tone(word: object) -> str:
    """CSS class of a standing or an outcome."""
    return TONES.get(str(word), "none")


def _dose(value: object) -> str:
    real = finite(value)
    return "not recorded" if real is None else f"{real:g}".replace("-", "−")


def _signed(value: object) -> str | None:
    real = finite(value)
    return None if real is None else number(real, 2, signed=True)
