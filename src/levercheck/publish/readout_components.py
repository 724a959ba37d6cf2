"""A readout's components in its report: what each predicts alone, which tokens it writes, what it writes along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levercheck.publish.format import finite, p_value, plural, whole
from levercheck.publish.readout_view import (
    Cell,
    Code,
    Est,
    Number,
    Section,
    Table,
    Text,
    at,
    est,
    missing,
    plain,
    records,
    table,
)

TOP, TOKENS = 20, 5


def neurons_section(rows: Any) -> Section:
    """The heaviest components, with their AUROC alone and their tokens."""
    title = "Components one by one"
    found = [dict(row) for row in rows if isinstance(row, Mapping)] if isinstance(rows, list | tuple) else []
    if not found:
        how = "What each component predicts alone and which tokens it writes was not computed."
        return Section("neurons", title, [missing("the table of neurons", how)])
    found.sort(key=lambda row: -(finite(row.get("weight")) or 0.0))
    cells: list[tuple[Cell, ...]] = [
        (
            f"L{plain(row.get('layer'))}:{plain(row.get('index'))}",
            plain(row.get("weight")),
            Est(neuron_area(row)),
            Code(tokens(row.get("promoted"))),
            Code(tokens(row.get("suppressed"))),
        )
        for row in found[:TOP]
    ]
    text = (
        f"The {len(cells)} largest weights of {plural(len(found), 'component')}. Layers and indices count from 0. A "
        "weight is a coefficient of the fit, no estimate with an interval. Tokens are what one unit of positive "
        "activation raises or lowers most in the unembedding; they hardly say what a component means (␣: a space)."
    )
    columns = ("component", "weight", "AUROC alone", "promotes", "suppresses")
    return Section("neurons", title, [Text(text), Table("", columns, cells)])


def neuron_area(row: Mapping[str, Any]) -> Number:
    """The AUROC of one component alone."""
    low, high, note = finite(row.get("auroc_low")), finite(row.get("auroc_high")), row.get("auroc_note")
    if low is None or high is None:
        low = high = None
    n, clusters = whole(row.get("n")), whole(row.get("clusters"))
    said = str(note) if note else None
    return Number("auroc", finite(row.get("auroc")), low, high, 0.95, "AUROC", n, clusters, "group", note=said)


def tokens(found: object) -> str:
    """The first tokens of a list, each in quotes."""
    listed = list(found)[:TOKENS] if isinstance(found, list | tuple) else []
    return " ".join(f"‘{str(token).replace(' ', '␣')}’" for token in listed) or "not recorded"


def overlap_section(found: list[dict[str, Any]]) -> Section:
    """The readout's write vectors against directions, each beside matched random sets."""
    title = "Overlap with directions"
    if not found:
        text = "Whether the readout writes along a known direction, such as refusal, was not measured."
        return Section("overlap", title, [missing("directions to compare with", text)])
    rows: list[tuple[Cell, ...]] = []
    for entry in found:
        for measure, label in (("cosine", "cosine of the sum"), ("fraction", "share of the direction spanned")):
            rows.append((f"{entry.get('direction', 'unnamed')}: {label}", *_against_sets(table(entry, measure))))
        for layer in records(entry, "layers"):
            if layer.get("layer") == entry.get("dominant_layer"):
                label = f"{entry.get('direction', 'unnamed')}: cosine without layer {plain(layer.get('layer'))}"
                rows.append((label, *_against_sets(table(layer, "cosine_without"))))
    first = found[0]
    text = (
        f"The readout’s write vectors ({first.get('basis', 'basis not recorded')}) against each direction, beside "
        f"{plain(first.get('controls'))} random sets with as many neurons in the same layers. The values are geometry "
        "of the weights and have no sampling interval; the range of the random sets and the rank among them say how "
        "unusual they are. Layers named are those that add most."
    )
    columns = ("direction and measure", "value", "middle 95 % of random sets", "random sets below", "rank")
    return Section("overlap", title, [Text(text), Table("", columns, rows)])


def _against_sets(entry: Mapping[str, Any]) -> tuple[Cell, ...]:
    low, high = (at(entry, "controls", end) for end in ("low", "high"))
    p = f"{p_value(entry.get('p'))} (smallest possible {plain(entry.get('attainable_p'))})"
    return plain(entry.get("value")), f"[{plain(low)}, {plain(high)}]", est(entry, "below", counted="set"), p
