"""Figures of a study's levers: each lever's curve over the draws of its control, and all levers at their strongest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from levercheck.publish.extras import require
from levercheck.publish.figures import (
    AXIS,
    BLUE,
    FONT,
    GREY,
    INK,
    MUTED,
    PIXELS,
    SURFACE,
    Bar,
    Width,
    _data,
    _intervals,
    _svg,
)  # fmt: skip
from levercheck.publish.readout_view import Number, records, table
from levercheck.publish.svg import finish

Material = Mapping[str, Any]
PER_ROW: dict[Width, int] = {"wide": 2, "narrow": 1}


def drawings(material: Material) -> dict[str, Callable[[Width], str]]:
    """The figures that the material has data for, by name."""
    found: dict[str, Callable[[Width], str]] = {}
    for benchmark in benchmarks(material):
        if any(point["kind"] != "instruction" for point in points(material, benchmark)):
            found[f"curves-{slug(benchmark)}"] = partial(curves_svg, material, benchmark)
        if points(material, benchmark):
            found[f"levers-{slug(benchmark)}"] = partial(forest_svg, material, benchmark)
    return found


def slug(benchmark: str) -> str:
    """A benchmark's name as part of a file's."""
    return benchmark.replace("/", "-")


def benchmarks(material: Material) -> list[str]:
    """Benchmarks in the order of the study."""
    return list(dict.fromkeys(str(point["benchmark"]) for point in records(material, "audit", "points")))


def points(material: Material, benchmark: str) -> list[dict[str, Any]]:
    """Points of every lever on one benchmark."""
    return [p for p in records(material, "audit", "points") if p["benchmark"] == benchmark]


def strongest(material: Material, benchmark: str) -> list[dict[str, Any]]:
    """The last point of every lever."""
    last = {point["lever"]: point for point in points(material, benchmark)}
    return list(last.values())


def curves_svg(material: Material, benchmark: str, width: Width = "wide") -> str:
    """One panel per lever: change of the rate against effort or dose, with the draws of its controls behind it."""
    require("altair", "vl_convert")
    import altair as alt

    curves = [p for p in points(material, benchmark) if p["kind"] != "instruction"]
    levers = list(dict.fromkeys(p["lever"] for p in curves))
    reach = max((abs(v) for p in curves for v in _heights(p)), default=1.0) * 1.05 or 1.0
    panel = (PIXELS[width] - 70 * PER_ROW[width]) // PER_ROW[width]
    charts = []
    for lever in levers:
        own = [p for p in curves if p["lever"] == lever]
        kind = own[0]["kind"]
        title = "effort, % of the residual stream" if kind == "effort" else "dose"
        x = alt.X("at:Q", title=title, axis=alt.Axis(grid=False, tickCount=5))
        y = alt.Y(
            "value:Q",
            title="change, pp",
            scale=alt.Scale(domain=[-reach, reach]),
            axis=alt.Axis(tickCount=5, grid=True),
        )
        rows = [{"at": _at(p), **table(p, "change")} for p in own]
        origin = (
            [{"at": 0.0, "value": 0.0, "low": None, "high": None}] if kind == "effort" else []
        )  # the baseline itself
        names = {f"{control} {each['draw']}" for p in own for control, f in p["controls"].items() for each in f["each"]}
        draws = [{**point, "draw": name} for name in sorted(names) for point in origin]
        draws += [
            {"at": _at(p), "value": each["value"], "draw": f"{control} {each['draw']}"}
            for p in own
            for control, found in p["controls"].items()
            for each in found["each"]
            if each["value"] is not None
        ]
        zero = alt.Chart(_data([{"value": 0}])).mark_rule(color=MUTED, strokeDash=[4, 3]).encode(y=y)
        behind = alt.Chart(_data(draws)).mark_line(
            color=GREY, strokeWidth=1, opacity=0.55, point={"size": 12, "color": GREY}
        )
        bounded = alt.Chart(_data([r for r in rows if r["low"] is not None])).mark_rule(color=BLUE, strokeWidth=2)
        charts.append(
            alt.layer(
                zero,
                behind.encode(x=x, y=y, detail="draw:N"),
                bounded.encode(x=x, y=alt.Y("low:Q"), y2="high:Q"),
                alt.Chart(_data([*origin, *rows])).mark_line(color=BLUE, strokeWidth=2.5).encode(x=x, y=y),
                alt.Chart(_data(rows)).mark_point(color=BLUE, fill=BLUE, size=50, opacity=1).encode(x=x, y=y),
            ).properties(width=panel, height=200, title=alt.TitleParams(lever, anchor="start", fontSize=14, color=INK))
        )  # fmt: skip
    chart = alt.concat(*charts, columns=PER_ROW[width]).properties(background=SURFACE)
    chart = (
        chart.configure(font=FONT, aria=False)
        .configure_view(stroke=None)
        .configure_axis(labelFont=FONT, titleFont=FONT, labelFontSize=12, titleFontSize=12, labelColor=INK, **AXIS)
        .configure_title(font=FONT)
    )
    words = " ".join(f"{p['lever']} at {p['kind']} {p['at']:g}: {_number(p, 'change').sentence()}." for p in curves)
    return finish(_svg(chart), f"curves-{benchmark}-{width}", f"Levers on {benchmark}", words)


def forest_svg(material: Material, benchmark: str, width: Width = "wide") -> str:
    """Every lever at its strongest point: change, and change beyond each control's draws."""
    bars = []
    for point in strongest(material, benchmark):
        name = point["lever"] if point["at"] is None else f"{point['lever']} ({_shown(point)})"
        bars.append(Bar("h_neurons", name, _number(point, "change")))
        for control, found in point["controls"].items():
            if found["rate"] is not None:
                bars.append(
                    Bar("difference", f"{point['lever']} minus {control}", _read("minus", found["rate"]["difference"]))
                )
                bars.append(Bar("prediction", f"a new {control} draw", _read("new", found["rate"]["prediction"])))
    labels: dict[str, int] = {}
    unique = []
    for bar in bars:
        labels[bar.label] = labels.get(bar.label, 0) + 1
        again = labels[bar.label]
        unique.append(bar if again == 1 else Bar(bar.kind, bar.label + " " * (again - 1), bar.estimate))
    drawn = _intervals(unique, width, f"change on {benchmark}, pp", line=0.0, note=None)
    words = " ".join(f"{bar.label}: {bar.estimate.sentence()}." for bar in bars)
    return finish(drawn, f"levers-{benchmark}-{width}", f"Strongest points on {benchmark}", words)


def _heights(point: Mapping[str, Any]) -> list[float]:
    own = [table(point, "change").get(name) for name in ("value", "low", "high")]
    own += [each["value"] for found in point["controls"].values() for each in found["each"]]
    return [float(v) for v in own if v is not None]


def _at(point: Mapping[str, Any]) -> float:
    return float(point["at"]) * (100.0 if point["kind"] == "effort" else 1.0)


def _shown(point: Mapping[str, Any]) -> str:
    return f"{100 * point['at']:g} % effort" if point["kind"] == "effort" else f"dose {point['at']:g}"


def _number(point: Mapping[str, Any], name: str) -> Number:
    return _read(name, point[name])


def _read(name: str, record: Any) -> Number:
    found = Number.read(name, record)
    assert isinstance(found, Number)
    return found
