"""Where a readout separates: AUROC over layers, and a map of heads over layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from levercheck.publish.extras import require
from levercheck.publish.figures import AXIS, BLUE, FONT, INK, MUTED, PIXELS, SURFACE, VERMILLION, Width, _data, _svg
from levercheck.publish.format import finite, number, plural
from levercheck.publish.svg import finish

Row = Mapping[str, Any]


def layers_svg(rows: Sequence[Row], best: int, width: Width = "wide") -> str:
    """Held-out AUROC of every layer's direction with its 95 % interval, the fit folds' AUROC, and the chosen layer.

    `rows` have layer, cv_auroc, auroc, auroc_low, auroc_high; what is missing is not drawn.
    """
    require("altair", "vl_convert")
    import altair as alt

    inner = PIXELS[width] - 70
    held, folds = "held out", "folds of the fit part"
    color = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=[held, folds], range=[BLUE, MUTED]),
        legend=alt.Legend(orient="top", title=None),
    )
    x = alt.X("layer:Q", title="layer", axis=alt.Axis(tickMinStep=1, grid=False, format="d"))
    y = alt.Y("value:Q", title="AUROC", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5))
    lines = [{"layer": r["layer"], "value": finite(r["auroc"]), "kind": held} for r in rows]
    lines += [{"layer": r["layer"], "value": finite(r["cv_auroc"]), "kind": folds} for r in rows]
    lines = [line for line in lines if line["value"] is not None]
    bands = [
        {"layer": r["layer"], "low": finite(r["auroc_low"]), "high": finite(r["auroc_high"])}
        for r in rows
        if finite(r["auroc_low"]) is not None and finite(r["auroc_high"]) is not None
    ]
    chosen = [line for line in lines if line["layer"] == best and line["kind"] == held]
    chance = alt.Chart(_data([{"value": 0.5}]))
    chart = alt.layer(
        chance.mark_rule(color=MUTED, strokeDash=[4, 3]).encode(y=y),
        chance.mark_text(text="chance", align="right", baseline="bottom", dy=-3, color=MUTED).encode(
            y=y, x=alt.value("width")
        ),
        alt.Chart(_data(bands))
        .mark_area(color=BLUE, opacity=0.18)
        .encode(x=x, y=alt.Y("low:Q", title="AUROC"), y2="high:Q"),
        alt.Chart(_data(lines)).mark_line(strokeWidth=2).encode(x=x, y=y, color=color),
        alt.Chart(_data(chosen)).mark_point(size=90, filled=True, color=VERMILLION, opacity=1).encode(x=x, y=y),
        alt.Chart(_data(chosen)).mark_text(text="chosen", dy=-14, color=INK).encode(x=x, y=y),
    ).properties(width=inner, height=260 if width == "wide" else 220)
    return finish(_svg(_styled(chart, width)), f"layers-{width}", "Separation by layer", layer_words(rows, best))


def layer_words(rows: Sequence[Row], best: int) -> str:
    """The figure in words."""
    row = next(r for r in rows if r["layer"] == best)
    return (
        f"Directions of {plural(len(rows), 'layer')}; layer {best} was chosen on the fit part: {_area(row)} held out."
    )


def heads_svg(rows: Sequence[Row], width: Width = "wide") -> str:
    """Held-out AUROC of every head as one cell, layers from left to right; a head without one has no cell.

    `rows` have layer, head, auroc.
    """
    require("altair", "vl_convert")
    import altair as alt

    layers = max((int(r["layer"]) for r in rows), default=0) + 1
    heads = max((int(r["head"]) for r in rows), default=0) + 1
    inner = PIXELS[width] - 140
    cells = [
        {"layer": int(r["layer"]), "head": int(r["head"]), "auroc": finite(r["auroc"])}
        for r in rows
        if finite(r["auroc"]) is not None
    ]
    far = max([0.1, *(abs((cell["auroc"] or 0.5) - 0.5) for cell in cells)])
    chart = (
        alt.Chart(_data(cells))
        .mark_rect(stroke=SURFACE, strokeWidth=0.5)
        .encode(
            x=alt.X(
                "layer:O",
                title="layer",
                scale=alt.Scale(domain=list(range(layers))),
                axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False),
            ),
            y=alt.Y("head:O", title="head", scale=alt.Scale(domain=list(range(heads))), axis=alt.Axis(ticks=False)),
            color=alt.Color(
                "auroc:Q",
                title="AUROC",
                scale=alt.Scale(domain=[0.5 - far, 0.5, 0.5 + far], range=[VERMILLION, "#f4f4f4", BLUE]),
                legend=alt.Legend(format=".2f"),
            ),
        )
        .properties(width=inner, height=max(120, min(420, 18 * heads)))
    )
    return finish(_svg(_styled(chart, width)), f"heads-{width}", "Separation by head", head_words(rows))


def head_words(rows: Sequence[Row], most: int = 5) -> str:
    """The figure in words: how many heads there are, and the first ones of the ranking the rows stand in."""
    parts = [f"layer {r['layer']} head {r['head']}: {_area(r)}" for r in rows[:most]]
    return f"{plural(len(rows), 'head')}; first by rank: " + "; ".join(parts) + "."


def _area(row: Row) -> str:
    value, low, high = (finite(row.get(name)) for name in ("auroc", "auroc_low", "auroc_high"))
    if value is None:
        return "AUROC not estimable"
    ends = "" if low is None or high is None else f" [{number(low, 3)}, {number(high, 3)}]"
    return f"AUROC {number(value, 3)}{ends}"


def _styled(chart: Any, width: Width) -> Any:
    size = 13 if width == "wide" else 12
    return (
        chart.properties(background=SURFACE, padding={"left": 4, "right": 8, "top": 6, "bottom": 4})
        .configure(font=FONT, aria=False)
        .configure_view(stroke=None)
        .configure_text(fontSize=size, font=FONT)
        .configure_legend(labelFont=FONT, titleFont=FONT, labelFontSize=size, titleFontSize=size, labelColor=INK)
        .configure_axis(labelFont=FONT, titleFont=FONT, labelFontSize=size, titleFontSize=size, labelColor=INK, **AXIS)
    )
