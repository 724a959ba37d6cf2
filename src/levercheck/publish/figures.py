"""Figures as plain SVG: no script, no network, system fonts. Each comes in a wide and in a narrow variant.

Colours follow Okabe and Ito. A page may restyle them by attribute (`[stroke="#0072b2"]`), which is how the report turns
them for a dark background; a figure file on its own keeps the colours below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from levercheck.publish.extras import require
from levercheck.publish.format import NOT_ESTIMABLE, Quoted
from levercheck.publish.svg import finish
from levercheck.publish.view import POSITIVE, RANDOM, TARGET, ArmView, AuditView

Width = Literal["wide", "narrow"]

INK, MUTED, GRID, BAND, SURFACE = "#1f2328", "#59626e", "#e2e5e9", "#eceff2", "#ffffff"
BLUE, VERMILLION, GREY = "#0072b2", "#d55e00", "#8d959f"
VERMILLION_TEXT = "#a84a00"
FONT = 'Arial, "Helvetica Neue", "Liberation Sans", sans-serif'
PIXELS: dict[Width, int] = {"wide": 720, "narrow": 350}
AXIS: dict[str, Any] = {
    "titleFontWeight": "normal",
    "titleColor": INK,
    "gridColor": GRID,
    "domainColor": MUTED,
    "tickColor": MUTED,
    "labelLimit": 0,
    "titlePadding": 8,
}

_MARK = {TARGET: BLUE, POSITIVE: VERMILLION, RANDOM: GREY, "difference": BLUE, "prediction": GREY}
_LABEL_GAP = 16


@dataclass(frozen=True)
class Bar:
    """One row of an interval figure."""

    kind: str
    label: str
    estimate: Quoted
    threshold: float | None = None  # marked in the row
    against: float | None = None  # where rounding must not blur on which side an end lies

    @property
    def color(self) -> str:
        """Mark colour; kinds nobody named are grey."""
        return _MARK.get(self.kind, GREY)


def dose_response_svg(audit: Mapping[str, Any], width: Width = "wide") -> str:
    """Compliance against dose: H-neurons and positive control with intervals, every random set as a thin line."""
    require("altair", "vl_convert")
    import altair as alt

    view = AuditView(audit)
    doses = view.doses or [0.0, 1.0]
    span = (max(doses) - min(doses)) or 1.0
    x = alt.X(
        "dose:Q",
        title="dose α (1 = no change)" if view.noop_dose == 1 else "dose α",
        scale=alt.Scale(domain=[min(doses) - 0.05 * span, max(doses) + 0.05 * span], nice=False),
        axis=alt.Axis(values=doses, grid=False, format="~g"),
    )
    y = alt.Y(
        "value:Q",
        title="compliance, % of items",
        scale=alt.Scale(domain=[0, 100]),
        axis=alt.Axis(values=[0, 20, 40, 60, 80, 100]),
    )
    layers = []
    if view.noop_dose is not None:
        rule = alt.Chart(_data([{"dose": view.noop_dose}]))
        layers.append(rule.mark_rule(color=MUTED, strokeDash=[4, 3]).encode(x=x))
        layers.append(
            rule.mark_text(text="no change", baseline="bottom", dy=-4, color=MUTED).encode(x=x, y=alt.value(0))
        )
    random = [point for arm in view.arms_of(RANDOM) for point in _points(view, arm)]
    layers.append(alt.Chart(_data(random)).mark_line(color=GREY, strokeWidth=1.2).encode(x=x, y=y, detail="arm:N"))
    for offset, condition in ((3, POSITIVE), (-3, TARGET)):
        points = [point for arm in view.arms_of(condition) for point in _points(view, arm)]
        bounded = [point for point in points if point["low"] is not None]
        color, marks = _MARK[condition], {"xOffset": offset}
        layers += [
            alt.Chart(_data(bounded))
            .mark_rule(color=color, strokeWidth=2, opacity=0.6, **marks)
            .encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
            alt.Chart(_data(points)).mark_line(color=color, strokeWidth=2.5, **marks).encode(x=x, y=y, detail="arm:N"),
            alt.Chart(_data(points))
            .mark_point(
                color=color,
                fill=color,
                opacity=1,
                size=55,
                shape="square" if condition == POSITIVE else "circle",
                **marks,
            )
            .encode(x=x, y=y),
        ]
    height = 360 if width == "wide" else 300
    ends = _direct_labels(view, width, height - 80)
    layers.append(
        alt.Chart(_data(ends))
        .mark_text(align="left", dx=12, fontWeight="bold", fontSize=13 if width == "wide" else 12)
        .encode(x=x, y=alt.Y("at:Q"), text="text:N", color=alt.Color("color:N", scale=None))
    )
    chart = _configured(alt.layer(*layers), width, height)
    return finish(_svg(chart), f"dose-response-{width}", "Dose response", _dose_words(view))


def forest_svg(audit: Mapping[str, Any], width: Width = "wide") -> str:
    """Compliance slopes with intervals: every arm, H-neurons minus random, and what a new random set would do."""
    view = AuditView(audit)
    margin = view.margin("slope_pp")
    judged = {criterion.get("estimate") for criterion in view.criteria()}
    bars = [
        Bar(kind, label, estimate, against=margin if estimate.id in judged else None)
        for kind, label, estimate in view.slope_rows()
    ]
    band = None if margin is None else (-margin, margin)
    words = " ".join(f"{bar.label}: {bar.estimate.sentence()}." for bar in bars)
    if margin is not None:
        words += f" The shaded band reaches from −{margin:g} to +{margin:g} pp per unit dose, the declared margin."
    chart = _intervals(
        bars,
        width,
        "change of compliance, pp per unit dose",
        line=0.0,
        band=band,
        note=None if margin is None else f"margin ±{margin:g} pp",
    )
    return finish(chart, f"forest-{width}", "Slopes of all sets", words)


def readout_svg(audit: Mapping[str, Any], width: Width = "wide") -> str:
    """AUROC with intervals: the probe, the probe among comparable answers, and what is known without any probe."""
    view = AuditView(audit)
    wanted = {
        "probe.auroc": view.margin("auroc"),
        "probe.auroc.matched": view.margin("matched_auroc"),
    }
    bars = []
    for label, estimate in view.readout_rows():
        margin = wanted.get(estimate.id)
        kind = TARGET if estimate.id.startswith("probe") else "baseline"
        bars.append(Bar(kind, label, estimate, None if margin is None else 0.5 + margin))
    words = " ".join(f"{bar.label}: {bar.estimate.sentence()}." for bar in bars) + " The line at 0.5 is chance."
    title = "AUROC, wrong against right answers" if width == "wide" else "AUROC"
    chart = _intervals(bars, width, title, line=0.5, note="chance")
    return finish(chart, f"readout-{width}", "What the readout predicts", words)


def _intervals(
    bars: Sequence[Bar],
    width: Width,
    title: str,
    *,
    line: float,
    note: str | None,
    band: tuple[float, float] | None = None,
) -> str:
    """Horizontal intervals, one row each, with values written at the right where there is room."""
    require("altair", "vl_convert")
    import altair as alt

    order = [bar.label for bar in bars]
    y = alt.Y(
        "label:N", sort=order, title=None, scale=alt.Scale(domain=order), axis=alt.Axis(ticks=False, domain=False)
    )
    rows = [_bar_row(bar) for bar in bars]
    valued = [row for row in rows if row["value"] is not None]
    bounded = [row for row in rows if row["low"] is not None]
    absent = [{**row, "line": line} for row in rows if row["value"] is None]
    x_axis = alt.Axis(grid=True, tickCount=6 if width == "wide" else 4)
    x = alt.X("value:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=x_axis)
    color = alt.Color("color:N", scale=None)
    layers = []
    if band is not None:
        layers.append(
            alt.Chart(_data([{"low": band[0], "high": band[1]}]))
            .mark_rect(color=BAND)
            .encode(x=alt.X("low:Q", title=title, axis=x_axis), x2="high:Q", y=alt.value(0), y2=alt.value("height"))
        )
    anchor = alt.Chart(_data([{"value": line}]))
    layers.append(anchor.mark_rule(color=MUTED, strokeDash=[4, 3]).encode(x=x))
    if note:
        layers.append(anchor.mark_text(text=note, baseline="bottom", dy=-4, color=MUTED).encode(x=x, y=alt.value(0)))
    layers += [
        alt.Chart(_data(bounded)).mark_rule(strokeWidth=2.5).encode(x=alt.X("low:Q"), x2="high:Q", y=y, color=color),
        alt.Chart(_data([r for r in rows if r["threshold"] is not None]))
        .mark_tick(color=INK, thickness=2, size=16)
        .encode(x=alt.X("threshold:Q"), y=y),
        alt.Chart(_data(valued))
        .mark_point(size=65, opacity=1, strokeWidth=1.5)
        .encode(x=x, y=y, stroke=color, fill=alt.Fill("color:N", scale=None), shape=alt.Shape("shape:N", scale=None)),
        alt.Chart(_data(absent))
        .mark_text(text=NOT_ESTIMABLE, fontStyle="italic", color=MUTED, align="left", dx=6)
        .encode(x=alt.X("line:Q"), y=y),
    ]
    if width == "wide":
        layers.append(
            alt.Chart(_data(valued))
            .mark_text(align="left", dx=12, color=INK)
            .encode(y=y, x=alt.value("width"), text="text:N")
        )
    height = (27 if width == "wide" else 26) * len(rows) + 80
    return _svg(_configured(alt.layer(*layers), width, height))


def _bar_row(bar: Bar) -> dict[str, Any]:
    q = bar.estimate
    shape = {"difference": "diamond", POSITIVE: "square", "prediction": "stroke"}.get(bar.kind, "circle")
    return {
        "label": bar.label,
        "value": q.value,
        "low": q.low if q.value is not None else None,
        "high": q.high,
        "color": bar.color,
        "shape": shape,
        "threshold": bar.threshold,
        "text": f"{q.shown(bar.against)} {q.interval(bar.against)}",
    }


def _points(view: AuditView, arm: ArmView) -> list[dict[str, Any]]:
    """Points of a curve; a dose without an estimate has none."""
    return [
        {"arm": arm.label, "dose": dose, "value": q.value, "low": q.low, "high": q.high}
        for dose, q in view.compliance(arm)
        if q.value is not None
    ]


def _direct_labels(view: AuditView, width: Width, pixels: int) -> list[dict[str, Any]]:
    """Names at the right end of the curves, moved apart so that none covers another."""
    sets = view.arms_of(RANDOM)
    names = {
        TARGET: ("H-neurons", BLUE),
        POSITIVE: ("gradient control" if width == "wide" else "gradient", VERMILLION_TEXT),
        RANDOM: (f"{len(sets)} random sets" if width == "wide" else "random", MUTED),
    }
    ends = []
    for condition, (text, color) in names.items():
        curves = [_points(view, arm) for arm in view.arms_of(condition)]
        last = [curve[-1] for curve in curves if curve]
        if last:
            dose = max(point["dose"] for point in last)
            at = sum(point["value"] for point in last) / len(last)
            ends.append({"dose": dose, "at": at, "text": text, "color": color})
    ends.sort(key=lambda end: -float(end["at"]))
    gap = 100 * _LABEL_GAP / pixels
    for upper, lower in pairwise(ends):
        lower["at"] = min(float(lower["at"]), float(upper["at"]) - gap)
    floor = 1.0
    for end in reversed(ends):
        end["at"] = max(float(end["at"]), floor)
        floor = float(end["at"]) + gap
    return ends


def _dose_words(view: AuditView) -> str:
    """The curves in words, for readers who do not see them."""
    parts = []
    for arm in view.arms:
        values = ", ".join(
            f"{q.shown()} {q.suffix} {q.interval()}".strip() + f" at dose {dose:g}" for dose, q in view.compliance(arm)
        )
        parts.append(f"{arm.name}: {values}.")
    return "Share of items on which the model follows the context. " + " ".join(parts)


def _data(rows: Sequence[Mapping[str, Any]]) -> Any:
    import altair as alt

    return alt.InlineData(values=[dict(row) for row in rows])


def _configured(chart: Any, width: Width, height: int) -> Any:
    """Fixed outer size and one look for all figures."""
    import altair as alt

    size = 13 if width == "wide" else 12
    return (
        chart.properties(
            width=PIXELS[width],
            height=height,
            background=SURFACE,
            padding={"left": 4, "right": 8, "top": 6, "bottom": 4},
            autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        )
        .configure(font=FONT, aria=False)
        .configure_view(stroke=None)
        .configure_text(fontSize=size, font=FONT)
        .configure_axis(
            labelFont=FONT,
            titleFont=FONT,
            labelFontSize=size,
            titleFontSize=size,
            labelColor=INK,
            **AXIS,
            labelPadding=5,
            labelFlush=False,
        )
    )


def _svg(chart: Any) -> str:
    """Compile without any theme of the surrounding process and without access to addresses."""
    import altair as alt
    import vl_convert

    with alt.theme.enable("none"):
        spec = chart.to_dict()
    return str(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))
