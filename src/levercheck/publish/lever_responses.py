"""What responses look like under every lever: outcomes, options, length, churn and flips, as tables of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from levercheck.publish.readout_view import Block, Cell, Figure, Part, Table, Text, counts, est, plain, records, table

Material = Mapping[str, Any]
LENGTHS = (
    ("words", "words"),
    ("words_change", "change"),
    ("disclaimer_share", "disclaimers, of words"),
    ("refused", "refusal found"),
    ("hedged", "hedge found"),
    ("capped", "cut by the cap"),
    ("churn", "other text than at baseline"),
    ("churn_step", "other text than one dose before"),
)


def response_blocks(material: Material, benchmark: str) -> list[Block]:
    """Tables of one benchmark's responses, folded; none where rows have no outcomes."""
    arms = [one for one in records(material, "audit", "responses") if one["benchmark"] == benchmark]
    if not arms:
        return []
    blocks: list[Text | Table | Figure] = [_shares("Outcomes, share of items", arms, "outcomes")]
    if any(arm["options"] for arm in arms):
        blocks.append(_shares("Options chosen, share of items", arms, "options"))
    if any(arm["strata"] for arm in arms):
        blocks.append(_shares("Rate by kind of item", arms, "strata"))
    if any("attempted" in arm for arm in arms):
        columns = ["attempted", "precision"]
        rows: list[list[Cell]] = [[_name(arm), *(est(arm, name) for name in columns)] for arm in arms]
        blocks.append(Table("Attempts", ["arm", "attempted, of verdicts", "right, of attempted"], rows))
    if any("words" in arm for arm in arms):
        shown = [(key, title) for key, title in LENGTHS if any(key in arm for arm in arms)]
        cells: list[list[Cell]] = [
            [_name(arm), *(est(arm, key) if key in arm else "" for key, _ in shown)] for arm in arms
        ]
        blocks.append(Table("Length and form", ["arm", *(title for _, title in shown)], cells))
    blocks.append(_moves(arms))
    if any(arm["rules"] for arm in arms):
        found: list[list[Cell]] = [[_name(arm), counts(arm["rules"])] for arm in arms]
        blocks.append(Table("Rules that found a verdict, items", ["arm", "items by rule"], found))
    return [Part("Responses: outcomes, form and flips", blocks, True)]


def _shares(caption: str, arms: Sequence[Mapping[str, Any]], part: str) -> Table:
    labels = list(dict.fromkeys(label for arm in arms for label in arm[part]))
    rows: list[list[Cell]] = [[_name(arm), *(est(arm, part, label) for label in labels)] for arm in arms]
    return Table(caption, ["arm", *(label.replace("_", " ") for label in labels)], rows)


def _moves(arms: Sequence[Mapping[str, Any]]) -> Table:
    rows: list[list[Cell]] = []
    for arm in arms:
        changes = table(arm, "changes")
        if not changes:
            continue
        flips = changes.get("flips")
        told = "no score of 0 or 1 in both arms"
        if flips:
            test = "exact McNemar" if flips["test"] == "mcnemar_exact" else "arms of entities exchanged"
            told = f"{flips['up']} to 1, {flips['down']} to 0, of {flips['n']}; p {plain(flips['p'])} ({test})"
        moves = {name.replace("_", " "): n for name, n in changes["moves"].items()}
        rows.append([_name(arm), est(changes, "outcome"), told, counts(moves)])
    columns = ["arm", "another outcome than at baseline", "scores that flip", "items by move"]
    return Table("Flips against the baseline", columns, rows, "no lever has rows")


def _name(arm: Mapping[str, Any]) -> str:
    if arm["effort"] is not None:
        return f"{arm['lever']} at effort {arm['effort']:g}"
    return str(arm["lever"]) if arm["dose"] is None else f"{arm['lever']} at dose {arm['dose']:g}"
