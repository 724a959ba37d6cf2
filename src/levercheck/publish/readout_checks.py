"""The checks of a readout in its report: one word each, and the number behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levercheck.publish.format import plural
from levercheck.publish.readout_confounds import BASELINES
from levercheck.publish.readout_view import Cell, Est, Section, Table, Text, Word, at, missing, quote, table

CHECKS: dict[str, tuple[tuple[str, ...], float]] = {
    "detects": (("detector", "auroc"), 0.5),
    "detects at equal confidence": (("matched", "confidence"), 0.5),
    "detects at equal answer length": (("matched", "answer_tokens"), 0.5),
    "detects at equal response length": (("matched", "response_tokens"), 0.5),
    "detects within categories": (("matched", "category"), 0.5),
    "detects on unseen answers": (("transfer", "answers", "unseen"), 0.5),
    "adds to all baselines": (("incremental", "log_loss_gain"), 0.0),
    "moved more by truth than by length": (("truth_over_length",), 0.0),
    "selective": (("selectivity", "selectivity"), 0.0),
} | {f"beats {name}": (("baselines", name, "probe_minus_baseline"), 0.0) for name in BASELINES}
"""Where the number behind a check lies, and the value that its whole interval must exceed."""

HEAVIEST = "heaviest component"
NOT_APPLICABLE = "not applicable"
RULES = {
    "frequency": "selected in most refits",
    "auroc_rank": "among the best alone",
    "path_rank": "heavy at neighbouring C",
    "correlation": "no near-copy",
}


def check_words(words: Mapping[str, Any]) -> str:
    """The outcome of all checks in a sentence, with the names of those that are not shown.

    A check that could not fail counts neither as shown nor as made.
    """
    if not words:
        return "No check was made."
    named: dict[str, list[str]] = {}
    for name, word in _ordered(words):
        if word not in ("shown", "stable"):
            named.setdefault(word, []).append(check_label(name))
    made = len(words) - len(named.get(NOT_APPLICABLE, []))
    passed = len(words) - sum(map(len, named.values()))
    parts = [f"{word}: {', '.join(names)}" for word, names in named.items()]
    return f"{passed} of {plural(made, 'check')} shown{''.join(f'; {part}' for part in parts)}."


def check_label(name: str) -> str:
    """What a check is called."""
    own = name.removeprefix("beats ")
    return name if own == name else f"beats {BASELINES.get(own, own)}"


def _ordered(words: Mapping[str, Any]) -> list[tuple[str, str]]:
    order = {name: place for place, name in enumerate((*CHECKS, HEAVIEST))}
    found = [(str(name), str(word)) for name, word in words.items()]
    return sorted(found, key=lambda check: (order.get(check[0], len(order)), check[0]))


def checks_section(audit: Mapping[str, Any]) -> Section:
    """Every check with its outcome and the number behind it."""
    words = table(audit, "checks")
    if not words:
        text = missing("the checks", "The readout was not audited, so that none of its confounds was tested.")
        return Section("checks", "Checks", [text])
    rows: list[tuple[Cell, ...]] = []
    for name, word in _ordered(words):
        reason = str(at(audit, "not_applicable", name) or "no reason recorded")
        behind = (reason, "–") if word == NOT_APPLICABLE else _behind(audit, name)
        rows.append((check_label(name), Word(word), *behind))
    text = Text(
        "“Shown” means that the whole interval lies above the value in the last column; “not shown” is no proof of the "
        "opposite, and “not applicable” is a check that could not fail on these items. The checks are not adjusted for "
        "how many there are."
    )
    return Section("checks", "Checks", [text, Table("", ("check", "outcome", "number behind it", "above"), rows)])


def _behind(audit: Mapping[str, Any], name: str) -> tuple[Cell, Cell]:
    if name == HEAVIEST:
        top = table(audit, "top_component")
        if "component" not in top:
            return str(top.get("absent") or "not recorded"), "–"
        rules = table(top, "rules_passed")
        failed, open_ = ([RULES.get(n, n) for n, passed in rules.items() if passed is word] for word in (False, None))
        why = f"fails: {', '.join(failed)}" if failed else f"open: {', '.join(open_)}" if open_ else "passes every rule"
        return f"{top['component']}: {why}", "declared rules"
    if name not in CHECKS:
        return "not recorded", "–"
    path, limit = CHECKS[name]
    return Est(quote(audit, *path), limit), f"{limit:g}"
