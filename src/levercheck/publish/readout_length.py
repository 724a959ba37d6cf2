"""Length against truth in a readout's report: the score and every component, under four fixed responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from levercheck.publish.format import finite, p_value
from levercheck.publish.readout_view import (
    Block,
    Cell,
    Est,
    Figure,
    Part,
    Table,
    Text,
    at,
    counts,
    est,
    missing,
    plain,
    quote,
    records,
    table,
)

LISTED = 200
REDUCES = {"mean": "mean over the response", "max": "maximum over the response"}


def length_parts(found: Any) -> list[Block]:
    """Length against truth, for the score and for the components, under both reductions."""
    title = "Length against truth"
    if not table(found):
        text = "Whether the readout moves with the length of a response more than with its truth was not measured."
        return [Part(title, [missing("the length-against-truth design", text)])]
    effects = table(found, "effects")
    rows: list[tuple[Cell, ...]] = []
    folded: list[Block] = []
    for reduce, name in _reductions(effects):
        score = table(effects, reduce, "score")
        rows += [
            (f"score, {name}", *(est(score, effect) for effect in ("length", "truth")), est(score, "dominance")),
            (
                f"score, {name}: shift",
                *(est(score, f"{effect}_shift") for effect in ("length", "truth")),
                Est(quote(score, "ratio")),
            ),
            (
                f"score, {name}: p",
                *(p_value(score.get(f"p_{effect}")) for effect in ("length", "truth")),
                "signed-rank test over groups",
            ),
        ]
        folded.append(_components(effects, reduce, name))
    shares: list[tuple[Cell, ...]] = [
        (
            name,
            *(_share(effects, reduce, key) for key in ("length_dominant", "clearly_length", "clearly_truth")),
            plain(at(effects, reduce, "not_comparable")),
        )
        for reduce, name in _reductions(effects)
    ]
    tokens = table(found, "tokens")
    design = (
        f"{plain(found.get('items'))} of {plain(found.get('test_items'))} test items were given four fixed responses: "
        f"short and long, each with a true and a false answer. False answers: {counts(table(found, 'false_answers'))}. "
        f"Sentences: {counts(table(found, 'sentences'))}. Left out: {counts(table(found, 'skipped'))}. Effects: "
        f"{effects.get('definition') or 'the definition is not recorded'}. The score over the maximum uses the weights "
        "that were fitted on the mean."
    )
    return [
        Part(
            title,
            [
                Text(design),
                Figure(
                    "length-truth",
                    "Standardised effect (d_z) of length and of truth for every component, mean and maximum, with the "
                    "score as a diamond. Beyond the dashed diagonals, in the shaded wedges, length moves a component "
                    "more than truth does.",
                ),
                Table(
                    "The readout’s score. Dominance is |length| − |truth| in d_z: above 0, length moves the score "
                    "more. Shifts are log-odds of “wrong”; beside them the ratio |length| / |truth| of the d_z.",
                    ("measure", "length", "truth", "length against truth"),
                    rows,
                    "no effect on the score is recorded",
                ),
                Table(
                    "Share of components that length moves more, and that it clearly does (interval of the dominance "
                    "beyond 0, not adjusted for how many there are). Each component counts as one unit, though all "
                    "were read on the same items.",
                    ("reduction", "length more", "clearly length", "clearly truth", "not comparable"),
                    shares,
                ),
                Table(
                    "Length of the four responses.",
                    ("response", "length"),
                    [(key.replace(".", ", "), est(tokens, key)) for key in sorted(tokens)],
                ),
            ],
        ),
        *folded,
    ]


def _share(effects: Mapping[str, Any], reduce: str, key: str) -> Est:
    """A share of components; its standing note is said once, above the table."""
    found = quote(effects, reduce, key, counted="component")
    return Est(found if found.value is None else replace(found, note=None))


def _reductions(effects: Mapping[str, Any]) -> list[tuple[str, str]]:
    names = [name for name in REDUCES if table(effects, name)]
    return [(name, REDUCES[name]) for name in names]


def _components(effects: Mapping[str, Any], reduce: str, name: str) -> Part:
    found = records(effects, reduce, "components")
    kept = sorted(found, key=lambda row: -abs(finite(at(row, "dominance", "value")) or 0.0))[:LISTED]
    rows: list[tuple[Cell, ...]] = [
        (
            f"L{row.get('layer')}:{row.get('index')}",
            est(row, "length"),
            est(row, "truth"),
            est(row, "dominance"),
            f"{p_value(row.get('p_length_holm'))}; {p_value(row.get('p_truth_holm'))}",
        )
        for row in kept
    ]
    caption = "p: Holm-adjusted over all components of this reduction; length, then truth."
    if len(kept) < len(found):
        caption += f" Of {len(found)} components, the {LISTED} with the largest dominance in size are listed."
    columns = ("component", "length", "truth", "dominance", "p, adjusted")
    return Part(f"Length against truth, every component ({name})", [Table(caption, columns, rows)], closed=True)
