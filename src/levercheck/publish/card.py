"""The lever card: what a reader of a model or of a paper needs to know about one audit, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from levercheck.publish.format import MARKS, Quoted, finite, p_value, standing
from levercheck.publish.view import POSITIVE, TARGET, AuditView

_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|#~$!"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"})

_KEY_ESTIMATES = (
    ("AUROC of the probe on unseen entities", "probe.auroc"),
    ("… among equally confident answers", "probe.auroc.matched"),
    ("AUROC of the plain log-probability", "baseline.neg_logprob.auroc"),
    ("Effect of the context", "assay.context_effect"),
    ("Slope, H-neurons", f"{TARGET}.slope"),
    ("Slope, gradient control", f"{POSITIVE}.slope"),
    ("Slope, H-neurons − random sets", f"{TARGET}.minus_random"),
    ("Slope of a new random set (prediction)", "random.new_set"),
)


def card_markdown(audit: Mapping[str, Any]) -> str:
    """The card of an audit; every text of the audit is escaped, the same audit always gives the same bytes."""
    view = AuditView(audit)
    gates = view.rows("gates")
    lines = [
        "---",
        _front_matter(view, gates),
        "---",
        "",
        f"# Lever card: H-neurons of {escape(view.model_name)}",
        "",
        f"**{escape(view.verdict)}**",
        "",
        "| gate | standing | why |",
        "|---|---|---|",
    ]
    for gate in gates:
        word = str(gate.get("standing", "missing"))
        mark = MARKS.get(word, "–")
        lines.append(
            f"| {escape(gate.get('name'))} | {escape(mark)} {escape(standing(word))} | {escape(gate.get('reason'))} |"
        )
    lines += ["", "## Estimates", "", "| | estimate | interval | unit | n |", "|---|--:|---|---|---|"]
    limits = {str(c.get("estimate")): finite(c.get("threshold")) for c in view.criteria()}
    lines += [_row(label, view.quote(name), limits.get(name)) for label, name in _KEY_ESTIMATES]
    lines += ["", _rank(view), "", "## Caveats", ""]
    findings = view.rows("findings")
    for finding in findings:
        names = [name.strip() for name in str(finding.get("estimates", "")).split(",") if name.strip()]
        lines.append(f"- {escape(finding.get('text'))}")
        lines += [f"  - {escape(name)}: {escape(view.quote(name).sentence())}" for name in names]
    if not findings:
        lines.append("- None of the remarks that the audit checks for applies.")
    lines += [
        "",
        "## Verify",
        "",
        "Every number is computed again from the run's rows, without the model:",
        "",
        "```",
        "levercheck verify DIR",
        "```",
        "",
    ]
    return "\n".join(lines)


def escape(text: object) -> str:
    """Text on one line, with everything that Markdown or HTML would interpret made plain."""
    return " ".join(str("" if text is None else text).split()).translate(_SPECIAL)


def _front_matter(view: AuditView, gates: list[dict[str, Any]]) -> str:
    model = view.table("study", "model")
    front = {
        "tool": "levercheck",
        "schema": view.at("schema"),
        "model": view.model_name,
        "weights": model.get("weights"),
        "dtype": model.get("dtype"),
        "readout": "H-neurons",
        "behaviour": "following a context that contradicts known facts",
        "key": view.at("study", "key"),
        "facts": view.at("study", "facts"),
        "standings": {str(gate.get("name")): str(gate.get("standing")) for gate in gates},
    }
    present = {name: value for name, value in front.items() if value is not None}
    return str(yaml.safe_dump(present, sort_keys=False, allow_unicode=True, width=10_000)).rstrip("\n")


def _row(label: str, q: Quoted, limit: float | None) -> str:
    value = q.shown(limit) if q.value is not None or not q.note else f"{q.shown()}: {q.note}"
    cells = (value, q.interval(limit), q.suffix, q.counts())
    return "| " + " | ".join([label, *(escape(cell) for cell in cells)]) + " |"


def _rank(view: AuditView) -> str:
    sets = view.at("specificity", "random_sets")
    attainable = p_value(view.at("specificity", "attainable_p")).removeprefix("p ").removeprefix("= ")
    return (
        f"Rank of the H-neurons among {escape(sets)} layer-matched random sets: "
        f"{escape(p_value(view.at('specificity', 'rank_p')))} (smallest possible: {escape(attainable)})."
    )
