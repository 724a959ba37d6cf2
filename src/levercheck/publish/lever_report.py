"""A study's levers as one page: standings, effects beside controls, doses, balance, instrument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from levercheck import __version__
from levercheck.publish.lever_figures import benchmarks, drawings, points, slug
from levercheck.publish.lever_responses import response_blocks
from levercheck.publish.readout_report import write_report
from levercheck.publish.readout_view import (
    Block,
    Cell,
    Figure,
    Number,
    Part,
    Report,
    Section,
    Table,
    Text,
    Word,
    est,
    missing,
    plain,
    records,
    settings_rows,
    table,
)

Material = Mapping[str, Any]
LIMIT = (
    "Effort is how far a lever moves the residual stream at one common layer, as a share of its length: levers of "
    "different families are compared at equal effort, not at equal dose. A draw of a control is turned by as much."
)
LOCKED = "opened once, under a lock"
EXPLORED = "exploratory, nothing is locked"
MEANING = {"": "construct", "Metric: ": "metric", "Better: ": "better", "Caution: ": "caution", "Ruler: ": "ruler",
           "Prompt: ": "style"}  # fmt: skip
CURVES = "Change of the rate against the baseline on the same items, with 95 % intervals; grey: draws of controls."
OPTIONAL = (
    ("change_bounds", "change, worst to best case"),
    ("value_change", "change of value"),
    ("mass_change", "change of probability"),
)
STRONGEST = (
    "Every lever at the strongest point it reached; below it the change beyond its control's draws, and where a new "
    "draw would fall."
)
DOSES = "Doses were found on tune items, blind to outcomes, until the measured effort was within the tolerance."
BALANCE = (
    "A standardised mean difference beyond 0.25 in size is marked: that control differs from the lever in more than "
    "what it was chosen for."
)
MANY = (
    "Every lever is graded on its own with 95 % intervals (non-inferiority: 90 %), and nothing is corrected for how "
    "many levers, points, benchmarks and controls were looked at: of many without effect, some will seem to have one."
)
NOOP = "every hook at its no-op dose: largest difference from the unhooked logits"


def write_lever_report(folder: Path, material: Material) -> list[Path]:
    """Write `report.html`, `report.md` and `figures/*.svg` under `folder` and return their paths.

    `material` has spec, audit and model (plain data), efforts and balance (lists of plain rows).
    """
    return write_report(folder, lever_report(material), lambda: drawings(material))


def lever_report(material: Material) -> Report:
    """The content of the page."""
    audit = table(material, "audit")
    standings = records(audit, "standings")
    role = audit.get("role")
    return Report(
        title=f"Levers of {table(material, 'spec').get('study')}",
        headline=_headline(standings, role == "confirm"),
        limit=LIMIT,
        facts=(
            f"Model: {table(material, 'model').get('name')}. Items of role {role}: "
            f"{LOCKED if role == 'confirm' else EXPLORED}. Intervals are 95 % unless marked; n counts items, and the "
            "second count is the entities taken as independent."
        ),
        sections=[
            _standings(standings),
            *[_effects(material, benchmark) for benchmark in benchmarks(material)],
            _doses(records(material, "efforts")),
            _balance([*records(material, "balance"), *map(_flat, records(audit, "dose_balance"))]),
            _instrument(table(audit, "instrument")),
            _made(material),
        ],
        strip=[(f"{s['lever']}: {s['name']}", str(s["standing"])) for s in standings],
        kicker="levercheck lever report",
        source="the rows of a study",
    )


def _headline(standings: Sequence[Mapping[str, Any]], confirmed: bool) -> str:
    control = [s for s in standings if s["name"] == "control"]
    if not control:
        return "No margin is declared, so nothing is graded: effects stand beside their controls."
    by_word: dict[str, list[str]] = {}
    for standing in control:
        by_word.setdefault(str(standing["standing"]), []).append(str(standing["lever"]))
    parts = "; ".join(f"{word.replace('_', ' ')} for {', '.join(names)}" for word, names in by_word.items())
    return f"That it is a lever{'' if confirmed else ', on items that choices may rest on'}: {parts}."


def _standings(standings: Sequence[Mapping[str, Any]]) -> Section:
    if not standings:
        return Section(
            "standings", "Standings", [missing("standings", "Declare primary and externality with margins.")]
        )
    rows: list[list[Cell]] = []
    details: list[Part] = []
    for s in standings:
        rows.append([_name(s), str(s["name"]), Word(str(s["standing"]).replace("_", " ")), str(s["reason"])])
        criteria: list[list[Cell]] = [
            [c["text"], est(s, "estimates", c["estimate"], against=c["threshold"]), Word(c["outcome"])]
            for c in s["criteria"]
        ]
        listed = Table(str(s["claim"]), ["criterion", "estimate", "outcome"], criteria)
        details.append(Part(f"{s['lever']}: {s['name']}", [listed], closed=True))
    first = Table("", ["lever", "gate", "standing", "reason"], rows)
    return Section("standings", "Standings", [Text(MANY), first, *details])


def _effects(material: Material, benchmark: str) -> Section:
    own = points(material, benchmark)
    meaning = table(material, "audit", "benchmarks", benchmark)
    base = Number.read("baseline", table(material, "audit", "baseline").get(benchmark))
    assert isinstance(base, Number)
    told = [f"{label}{meaning[part]}." for label, part in MEANING.items() if meaning.get(part)]
    measured = [(key, title) for key, title in OPTIONAL if any(_has(point, key) for point in own)]
    effects: list[list[Cell]] = []
    against: list[list[Cell]] = []
    for point in own:
        row: list[Cell] = [_name(point), "" if point["dose"] is None else plain(point["dose"])]
        row += [est(point, "rate"), est(point, "change")]
        row += [_bounds(point[key]) if key == "change_bounds" else est(point, key) for key, _ in measured]
        effects.append([*row, est(point, "relative_dose"), plain(point["degenerate"])])
        for control, found in point["controls"].items():
            against += _against(point, control, found)
    blocks: list[Block] = [
        Text(" ".join(told)),
        Text(f"Baseline: {base.sentence()}."),
        Figure(f"curves-{slug(benchmark)}", CURVES),
        Figure(f"levers-{slug(benchmark)}", STRONGEST),
        Table(
            "Effects",
            ["lever", "dose", "rate", "change", *(title for _, title in measured), "at the sites", "broken"],
            effects,
        ),
        Table(
            "Against the draws of controls",
            ["lever", "control", "lever minus draws", "a new draw", "rank p", "smallest p possible"],
            against,
            "no control was declared",
        ),
    ]
    return Section(f"on-{slug(benchmark)}", f"On {benchmark}", [*blocks, *response_blocks(material, benchmark)])


def _has(point: Mapping[str, Any], key: str) -> bool:
    found = point.get(key)
    return found is not None and (key == "change_bounds" or found["value"] is not None)


def _bounds(found: Mapping[str, Any] | None) -> str:
    """The change whatever the items without a verdict would have been."""
    if not found or found["low"] is None:
        return "no item lacks a verdict" if not found else "not estimable"
    return f"{found['low']:+.1f} to {found['high']:+.1f} pp, {found['unscored']} without a verdict"


def _against(point: Mapping[str, Any], control: str, found: Mapping[str, Any]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    if found["rate"] is None and found["value"] is None:
        lost = f"{control}, {found['draws']} draws: no item has an outcome in every arm"
        return [[_name(point), lost, "not estimable", "", "", ""]]
    for what in ("rate", "value"):
        result = found[what]
        if result is not None:
            draws = f"{control}, {found['draws']} draws"
            if result["left_out"]:
                draws += f", {result['left_out']} items without an outcome in the lever or any draw left out"
            if result["missing"]:
                draws += f", {result['missing']} outcomes of draws missing"
            row: list[Cell] = [f"{_name(point)}, {what}", draws, est(result, "difference")]
            row += [est(result, "prediction", counted="item"), plain(result["p"]), plain(result["attainable_p"])]
            rows.append(row)
    return rows


def _name(point: Mapping[str, Any]) -> str:
    return str(point["lever"]) if point["at"] is None else f"{point['lever']} at {point['kind']} {point['at']:g}"


def _doses(efforts: Sequence[Mapping[str, Any]]) -> Section:
    rows: list[list[Cell]] = []
    for lever, control, target in dict.fromkeys((r["lever"], r["control"], r["target"]) for r in efforts):
        own = [r for r in efforts if (r["lever"], r["control"], r["target"]) == (lever, control, target)]
        found = [r for r in own if r["dose"] is not None]
        name = lever if control is None else f"{lever}, {control} draws"
        spans = [
            _span([r["effort"] for r in found], 100, " %"),
            _span([r["dose"] for r in found]),
            _span([r["relative_dose"] for r in found if r["relative_dose"] is not None]),
        ]
        rows.append([name, f"{100 * target:g} %", *spans, f"{len(found)} of {len(own)}"])
    columns = ["lever", "effort wanted", "effort measured", "dose", "‖Δ‖/‖h‖ at the sites", "reached"]
    blocks: list[Block] = [Text(DOSES), Table("Doses of equal effort", columns, rows, "doses were declared, no effort")]
    missed: list[list[Cell]] = [
        [
            " ".join(str(r[part]) for part in ("lever", "control", "draw") if r[part] is not None),
            f"{100 * r['target']:g} %",
            str(r["reason"]),
        ]
        for r in efforts
        if r["dose"] is None
    ]
    if missed:
        caption = "Efforts that no dose reached; these arms are missing"
        blocks.append(Table(caption, ["arm", "effort", "reason"], missed))
    return Section("doses", "Equal effort", blocks)


def _span(values: Sequence[float], factor: float = 1.0, suffix: str = "") -> str:
    if not values:
        return "none"
    low, high = plain(factor * min(values)), plain(factor * max(values))
    return f"{low}{suffix}" if low == high else f"{low} to {high}{suffix}"


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A balance row of the audit in the form of the stored ones."""
    mean = row["controls"]
    return {**row, "mean": mean["value"], "low": mean["low"], "high": mean["high"], "unit": mean["unit"]}


def _balance(rows: Sequence[Mapping[str, Any]]) -> Section:
    shown: list[list[Cell]] = []
    for r in rows:
        mean = {"value": r["mean"], "low": r["low"], "high": r["high"], "level": 0.95, "unit": r["unit"] or ""}
        cell = est({"mean": {**mean, "n": (r["of"] or 1) - 1, "method": "t"}}, "mean", counted="draw")
        word = Word("imbalanced" if r["flagged"] else "balanced")
        name = f"{r['lever']}, {r['control']}"
        shown.append([name, str(r["covariate"]), plain(r["target"]), cell, plain(r["smd"]), word])
    columns = ["control", "covariate", "lever", "mean of draws", "SMD", "outcome"]
    return Section(
        "balance", "Balance of the controls", [Text(BALANCE), Table("", columns, shown, "no control was drawn")]
    )


def _instrument(found: Mapping[str, Any]) -> Section:
    gap, broken = found.get("noop_largest_difference"), found.get("degenerate_rows")
    silent, idle = found.get("arms_without_receipts", []), found.get("arms_without_any_change", [])
    checks: list[tuple[str, str, bool | None]] = [
        (NOOP, plain(gap, 6), None if gap is None else gap == 0),
        (
            "rows that hooks at their no-op dose changed",
            plain(found.get("noop_rows_that_differ")),
            None if gap is None else not found.get("noop_rows_that_differ"),
        ),
        ("arms with a row whose hooks left no receipt", plain(len(silent)), not silent),
        ("arms whose hooks changed nothing", plain(len(idle)), not idle),
        ("rows with logits that are not finite", plain(broken), not broken),
    ]
    words = {True: "met", False: "violated", None: "missing"}
    rows: list[list[Cell]] = [[text, value, Word(words[good])] for text, value, good in checks]
    return Section("instrument", "Instrument", [Table("", ["check", "found", "outcome"], rows)])


def _made(material: Material) -> Section:
    parts: list[Block] = [
        Part(
            title, [Table("", ["setting", "value"], [list(row) for row in settings_rows(table(material, name))])], True
        )
        for title, name in (("Study file", "spec"), ("Model", "model"))
    ]
    surfaces = settings_rows(table(material, "audit", "benchmarks"))
    parts.append(Part("Benchmarks", [Table("", ["setting", "value"], [list(row) for row in surfaces])], True))
    return Section("made", "How it was made", [*parts, Text(f"levercheck {__version__}.")])
