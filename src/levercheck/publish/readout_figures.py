"""Figures of a readout's report: AUROCs, the C path, length against truth, and the layers of the components."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from levercheck.publish.extras import require
from levercheck.publish.figures import (
    AXIS,
    BAND,
    BLUE,
    FONT,
    GREY,
    INK,
    MUTED,
    PIXELS,
    SURFACE,
    VERMILLION,
    Bar,
    Width,
    _data,
    _intervals,
    _svg,
)
from levercheck.publish.format import finite, plural, whole
from levercheck.publish.readout_sections import path_entries
from levercheck.publish.readout_view import Number, at, quote, records, setting, table, visible
from levercheck.publish.svg import finish
from levercheck.publish.view import TARGET

Material = Mapping[str, Any]

AUROCS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (TARGET, "probe", ("detector", "auroc")),
    (TARGET, "probe: equally confident", ("matched", "confidence")),
    (TARGET, "probe: equal answer length", ("matched", "answer_tokens")),
    (TARGET, "probe: equal response length", ("matched", "response_tokens")),
    (TARGET, "probe: same category", ("matched", "category")),
    (TARGET, "probe: unseen answers", ("transfer", "answers", "unseen")),
    ("baseline", "log-probability", ("baselines", "neg_logprob", "auroc")),
    ("baseline", "disagreement of samples", ("baselines", "disagreement", "auroc")),
    ("baseline", "answer length", ("baselines", "answer_tokens", "auroc")),
    ("baseline", "response length", ("baselines", "response_tokens", "auroc")),
    ("baseline", "question length", ("baselines", "question_characters", "auroc")),
    ("baseline", "category prior", ("baselines", "category_prior", "auroc")),
    ("baseline", "answer prior", ("baselines", "answer_prior", "auroc")),
    ("baseline", "all baselines", ("incremental", "surface")),
    (TARGET, "all baselines and probe", ("incremental", "surface_and_probe")),
)
NON_ZERO, POSITIVE = "any weight", "positive weight"
MEAN, MAX = "mean", "maximum"


def drawings(material: Material) -> dict[str, Callable[[Width], str]]:
    """The figures that the material has data for, by name."""
    found: dict[str, Callable[[Width], str]] = {}
    if table(material, "audit"):
        found["aurocs"] = lambda width: aurocs_svg(material, width)
    entries = path_entries(material)
    if entries:
        found["c-path"] = lambda width: c_path_svg(material, width)
    if any(entry["chosen"] and entry["layers"] for entry in entries):
        found["layers"] = lambda width: layers_svg(material, width)
    if effect_points(material):
        found["length-truth"] = lambda width: length_truth_svg(material, width)
    return found


def aurocs_svg(material: Material, width: Width = "wide") -> str:
    """AUROC with intervals of the probe, on all and on comparable items, and of what needs no probe."""
    bars = [Bar(kind, label, quote(material, "audit", *path)) for kind, label, path in AUROCS]
    others = records(material, "audit", "transferred")
    for other in reversed(others):
        label = "other questions" if len(others) == 1 else f"set {other.get('name')}"
        bars.insert(6, Bar(TARGET, f"probe: {label}", quote(other, "auroc_without_shared")))
    words = " ".join(f"{bar.label}: {bar.estimate.sentence()}." for bar in bars) + " The line at 0.5 is chance."
    title = "AUROC, wrong against right answers" if width == "wide" else "AUROC"
    chart = _intervals(bars, width, title, line=0.5, note="chance")
    return finish(chart, f"aurocs-{width}", "What tells wrong from right answers", visible(words))


def c_path_svg(material: Material, width: Width = "wide") -> str:
    """Out-of-fold AUROC with intervals, and sizes of the support, over C."""
    require("altair", "vl_convert")
    import altair as alt

    entries = path_entries(material)
    points = [_point(entry) for entry in entries if entry["auroc"].value is not None]
    order = [setting(entry["c"]) for entry in entries]
    axis = alt.Axis(labelAngle=0, grid=False, labelOverlap=True)
    x = alt.X("c:N", title="C", sort=order, scale=alt.Scale(domain=order, type="point", padding=0.5), axis=axis)
    y = alt.Y("value:Q", title="out-of-fold AUROC", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5))
    chosen = alt.Chart(_data([{"c": setting(e["c"])} for e in entries if e["chosen"]]))
    rule = chosen.mark_rule(color=MUTED, strokeDash=[4, 3]).encode(x=x)
    upper = alt.layer(
        rule,
        chosen.mark_text(text="chosen", baseline="bottom", dy=-4, color=MUTED).encode(x=x, y=alt.value(0)),
        alt.Chart(_data([p for p in points if p["low"] is not None]))
        .mark_rule(color=BLUE, strokeWidth=2, opacity=0.6)
        .encode(x=x, y=alt.Y("low:Q", title="out-of-fold AUROC"), y2="high:Q"),
        alt.Chart(_data(points)).mark_line(color=BLUE, strokeWidth=2).encode(x=x, y=y),
        alt.Chart(_data(points)).mark_point(color=BLUE, fill=BLUE, opacity=1, size=55).encode(x=x, y=y),
    ).properties(width=PIXELS[width] - 90, height=190)
    sizes = [
        {"c": setting(entry["c"]), "count": entry[key], "kind": kind}
        for entry in entries
        for key, kind in (("nonzero", NON_ZERO), ("positive", POSITIVE))
        if entry[key] is not None
    ]
    color = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=[POSITIVE, NON_ZERO], range=[BLUE, GREY]),
        legend=alt.Legend(orient="top", title=None, symbolOpacity=1),
    )
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=[POSITIVE, NON_ZERO], range=["circle", "square"]), legend=None)
    count = alt.Y("count:Q", title="components", axis=alt.Axis(tickMinStep=1, tickCount=5, format="d"))
    counted = alt.Chart(_data(sizes))
    lower = alt.layer(
        rule,
        counted.mark_line(strokeWidth=2).encode(x=x, y=count, color=color),
        counted.mark_point(size=55, filled=True, opacity=1).encode(x=x, y=count, color=color, shape=shape),
    ).properties(width=PIXELS[width] - 90, height=150)
    words = " ".join(
        f"C = {setting(e['c'])}{' (chosen)' if e['chosen'] else ''}: {e['auroc'].sentence()}, "
        f"{_said(e['nonzero'])} non-zero, {_said(e['positive'])} positive."
        for e in entries
    )
    chart = _looks(alt.vconcat(upper, lower, spacing=14), width)
    return finish(_svg(chart), f"c-path-{width}", "Choice of C", visible(words))


def layers_svg(material: Material, width: Width = "wide") -> str:
    """Components of positive weight per layer at the chosen C."""
    require("altair", "vl_convert")
    import altair as alt

    counts = next(entry["layers"] for entry in path_entries(material) if entry["chosen"])
    last = max([*counts, (whole(at(material, "model", "layers")) or 0) - 1])
    rows = [{"layer": layer, "count": count} for layer, count in sorted(counts.items())]
    chart = (
        alt.Chart(_data(rows))
        .mark_bar(color=BLUE)
        .encode(
            x=alt.X(
                "layer:O",
                title="layer",
                scale=alt.Scale(domain=list(range(last + 1))),
                axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False),
            ),
            y=alt.Y("count:Q", title="components", axis=alt.Axis(tickMinStep=1, tickCount=4, format="d")),
        )
        .properties(width=PIXELS[width] - 90, height=150)
    )
    words = "Components of positive weight: " + "; ".join(f"layer {row['layer']}: {row['count']}" for row in rows)
    return finish(_svg(_looks(chart, width)), f"layers-{width}", "Layers of the components", f"{words}.")


def length_truth_svg(material: Material, width: Width = "wide") -> str:
    """d_z of length against d_z of truth: components with a small mark, scores with a diamond and both intervals."""
    require("altair", "vl_convert")
    import altair as alt

    points = effect_points(material)
    ends = [
        p[key] for p in points for key in ("length", "truth", "length_low", "length_high", "truth_low", "truth_high")
    ]
    size = 1.05 * max([1.0, *(abs(end) for end in ends if end is not None)])
    domain = alt.Scale(domain=[-size, size], nice=False)
    axis = alt.Axis(tickCount=7)
    x = alt.X("truth:Q", title="truth: false − true, d_z", scale=domain, axis=axis)
    along = "length: long − short, d_z"
    y = alt.Y("length:Q", title=along, scale=domain, axis=axis)
    color = alt.Color(
        "reduce:N",
        scale=alt.Scale(domain=[MEAN, MAX], range=[BLUE, VERMILLION]),
        legend=alt.Legend(orient="top", title=None, symbolOpacity=1),
    )
    shape = alt.Shape("reduce:N", scale=alt.Scale(domain=[MEAN, MAX], range=["circle", "square"]), legend=None)
    wedge = [{"truth": t, "low": abs(t), "high": size} for t in (-size, 0.0, size)]
    lines = [
        {"truth": t, "length": s * t, "side": side} for side, s in (("up", 1), ("down", -1)) for t in (-size, size)
    ]
    score, components = ([p for p in points if p["score"] is wanted] for wanted in (True, False))
    bounded = [p for p in score if p["length_low"] is not None and p["truth_low"] is not None]
    area = alt.Chart(_data(wedge)).mark_area(color=BAND)
    mirrored = alt.Chart(_data([{**w, "low": -w["low"], "high": -size} for w in wedge])).mark_area(color=BAND)
    chart = alt.layer(
        *(
            one.encode(x=x, y=alt.Y("low:Q", scale=domain, axis=axis, title=along), y2="high:Q")
            for one in (area, mirrored)
        ),
        alt.Chart(_data(lines))
        .mark_line(color=MUTED, strokeDash=[4, 3], strokeWidth=1)
        .encode(x=x, y=y, detail="side:N"),
        alt.Chart(_data([{"at": 0}])).mark_rule(color=MUTED, strokeWidth=0.7).encode(y=alt.Y("at:Q")),
        alt.Chart(_data([{"at": 0}])).mark_rule(color=MUTED, strokeWidth=0.7).encode(x=alt.X("at:Q")),
        alt.Chart(_data(components))
        .mark_point(size=32, opacity=0.85, strokeWidth=1.3)
        .encode(x=x, y=y, color=color, shape=shape),
        alt.Chart(_data(bounded))
        .mark_rule(strokeWidth=2)
        .encode(x=alt.X("truth_low:Q"), x2="truth_high:Q", y=y, color=color),
        alt.Chart(_data(bounded))
        .mark_rule(strokeWidth=2)
        .encode(y=alt.Y("length_low:Q"), y2="length_high:Q", x=x, color=color),
        alt.Chart(_data(score))
        .mark_point(size=150, filled=True, opacity=1, shape="diamond", stroke=SURFACE, strokeWidth=1)
        .encode(x=x, y=y, color=color),
    ).properties(width=PIXELS[width] - 90, height=400 if width == "wide" else 270)
    return finish(_svg(_looks(chart, width)), f"length-truth-{width}", "Length against truth", _effect_words(material))


def effect_points(material: Material) -> list[dict[str, Any]]:
    """Both d_z of every component and score that has both; intervals have both ends or neither."""
    points = []
    for reduce, label in (("mean", MEAN), ("max", MAX)):
        found = table(material, "verbosity", "effects", reduce)
        for entry in (*records(found, "components"), table(found, "score")):
            length, truth = quote(entry, "length"), quote(entry, "truth")
            if length.value is None or truth.value is None:
                continue
            ends = {
                f"{name}_{end}": getattr(q, end) for name, q in (("length", length), ("truth", truth)) for end in _ENDS
            }
            point = {"length": length.value, "truth": truth.value, "reduce": label, "score": "layer" not in entry}
            points.append(point | ends)
    return points


_ENDS = ("low", "high")


def _effect_words(material: Material) -> str:
    parts = []
    for reduce, label in (("mean", MEAN), ("max", MAX)):
        found = table(material, "verbosity", "effects", reduce)
        if not found:
            continue
        length, truth, share = (
            quote(found, *path).sentence() for path in (("score", "length"), ("score", "truth"), ("length_dominant",))
        )
        count = plural(len(records(found, "components")), "component")
        parts.append(f"{label}: score, length {length}; score, truth {truth}; {count}, length moves more: {share}.")
    return visible(" ".join(parts))


def _point(entry: Mapping[str, Any]) -> dict[str, Any]:
    q: Number = entry["auroc"]
    return {"c": setting(entry["c"]), "value": q.value, "low": q.low, "high": q.high}


def _said(value: object) -> str:
    real = finite(value)
    return "an unknown number" if real is None else f"{real:g}"


def _looks(chart: Any, width: Width) -> Any:
    """One look for charts of several panels, whose width is that of the plot alone."""
    size = 13 if width == "wide" else 12
    axis = {"labelFont": FONT, "titleFont": FONT, "labelFontSize": size, "titleFontSize": size, "labelColor": INK}
    return (
        chart.properties(background=SURFACE, padding={"left": 4, "right": 8, "top": 6, "bottom": 4})
        .configure(font=FONT, aria=False)
        .configure_view(stroke=None)
        .configure_text(fontSize=size, font=FONT)
        .configure_legend(labelFont=FONT, labelFontSize=size, labelColor=INK)
        .configure_axis(
            **axis,
            **AXIS,
        )
        .configure_axisY(minExtent=42, maxExtent=42)
    )


def figure_words(svg: str) -> Sequence[str]:
    """Title and description of a finished figure."""
    from xml.etree import ElementTree

    root = ElementTree.fromstring(svg)  # noqa: S314 - text that `finish` has just written
    return [str(child.text or "") for child in list(root)[:2]]
