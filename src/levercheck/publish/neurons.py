"""A readout's components as a figure: weight against what each predicts alone, and the layers they stand in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from levercheck.publish.extras import require
from levercheck.publish.figures import AXIS, BLUE, FONT, GREY, INK, MUTED, PIXELS, SURFACE, Width, _data, _svg
from levercheck.publish.format import finite, integer, number, plural
from levercheck.publish.svg import finish

Row = Mapping[str, Any]
POSITIVE, NEGATIVE = "positive weight", "negative weight"


def neurons_svg(rows: Sequence[Row], layers: int, width: Width = "wide") -> str:
    """Both panels as one SVG: weights against single AUROC with 95 % intervals, then components per layer.

    `rows` have layer, index, weight, auroc, auroc_low, auroc_high; one without an AUROC is in the layer panel only.
    """
    require("altair", "vl_convert")
    import altair as alt

    size = 13 if width == "wide" else 12
    inner = PIXELS[width] - 90
    color = alt.Color(
        "sign:N",
        scale=alt.Scale(domain=[POSITIVE, NEGATIVE], range=[BLUE, GREY]),
        legend=alt.Legend(orient="top", title=None, symbolOpacity=1),
    )
    shape = alt.Shape("sign:N", scale=alt.Scale(domain=[POSITIVE, NEGATIVE], range=["circle", "square"]), legend=None)
    points = weight_points(rows)
    bounded = [point for point in points if point["low"] is not None]
    x = alt.X("weight:Q", title="weight in the readout", axis=alt.Axis(tickCount=6, grid=False))
    y = alt.Y("auroc:Q", title="AUROC alone", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5))
    chance = alt.Chart(_data([{"auroc": 0.5}]))
    upper = alt.layer(
        chance.mark_rule(color=MUTED, strokeDash=[4, 3]).encode(y=y),
        chance.mark_text(text="chance", align="right", baseline="bottom", dy=-3, color=MUTED).encode(
            y=y, x=alt.value("width")
        ),
        alt.Chart(_data(bounded))
        .mark_rule(strokeWidth=1.5, opacity=0.5)
        .encode(x=x, y=alt.Y("low:Q", title="AUROC alone"), y2="high:Q", color=color),
        alt.Chart(_data(points)).mark_point(size=45, filled=True, opacity=1).encode(x=x, y=y, color=color, shape=shape),
    ).properties(width=inner, height=260 if width == "wide" else 220)
    lower = (
        alt.Chart(_data(layer_counts(rows, layers)))
        .mark_bar(stroke=SURFACE, strokeWidth=0.5)
        .encode(
            x=alt.X(
                "layer:O",
                title="layer",
                scale=alt.Scale(domain=list(range(layers))),
                axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False),
            ),
            y=alt.Y("count:Q", title="components", axis=alt.Axis(tickMinStep=1, tickCount=4, format="d")),
            color=color,
            order=alt.Order("sign:N", sort="descending"),
        )
        .properties(width=inner, height=120)
    )
    chart = (
        alt.vconcat(upper, lower, spacing=18)
        .properties(background=SURFACE, padding={"left": 4, "right": 8, "top": 6, "bottom": 4})
        .configure(font=FONT, aria=False)
        .configure_view(stroke=None)
        .configure_text(fontSize=size, font=FONT)
        .configure_legend(labelFont=FONT, labelFontSize=size, labelColor=INK)
        .configure_axis(
            labelFont=FONT,
            titleFont=FONT,
            labelFontSize=size,
            titleFontSize=size,
            labelColor=INK,
            **AXIS,
        )
        .configure_axisY(minExtent=42, maxExtent=42)
    )
    return finish(_svg(chart), f"neurons-{width}", "Components of the readout", neuron_words(rows))


def weight_points(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Points of the upper panel; an interval has both ends or neither."""
    points = []
    for row in rows:
        value, low, high = (finite(row.get(name)) for name in ("auroc", "auroc_low", "auroc_high"))
        if value is None:
            continue
        if low is None or high is None:
            low = high = None
        sign = POSITIVE if row["weight"] > 0 else NEGATIVE
        points.append({"weight": row["weight"], "auroc": value, "low": low, "high": high, "sign": sign})
    return points


def layer_counts(rows: Sequence[Row], layers: int) -> list[dict[str, Any]]:
    """Components per layer and sign; layers without any have no entry."""
    counts = Counter((int(row["layer"]), POSITIVE if row["weight"] > 0 else NEGATIVE) for row in rows)
    return [
        {"layer": layer, "sign": sign, "count": counts[layer, sign]}
        for layer in range(layers)
        for sign in (POSITIVE, NEGATIVE)
        if counts[layer, sign]
    ]


def neuron_words(rows: Sequence[Row], most: int = 5) -> str:
    """The figure in words: how many components there are, and the heaviest ones."""
    positive = [row for row in rows if row["weight"] > 0]
    layers = len({row["layer"] for row in positive})
    text = (
        f"{plural(len(rows), 'component')}, {integer(len(positive))} of positive weight in {plural(layers, 'layer')}. "
    )
    parts = []
    for row in sorted(rows, key=lambda r: -r["weight"])[:most]:
        value, low, high = (finite(row.get(name)) for name in ("auroc", "auroc_low", "auroc_high"))
        area = "AUROC not estimable" if value is None else f"AUROC {number(value, 3)}"
        if low is not None and high is not None:
            area += f" [{number(low, 3)}, {number(high, 3)}]"
        parts.append(f"layer {row['layer']} neuron {row['index']}: weight {number(row['weight'], 3)}, {area}")
    return text + "; ".join(parts) + "."
