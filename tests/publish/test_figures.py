from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

from levercheck.publish import figures
from levercheck.publish.svg import finish

DRAW = [figures.dose_response_svg, figures.forest_svg, figures.readout_svg]
SVG = "{http://www.w3.org/2000/svg}"


def lines(svg: str, color: str, width: str) -> int:
    root = ElementTree.fromstring(svg)
    return sum(e.get("stroke") == color and e.get("stroke-width") == width for e in root.iter(f"{SVG}path"))


@pytest.mark.parametrize("sets", [1, 3, 20])
@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_one_line_per_arm(audit_with: Callable[[int], dict[str, Any]], sets: int, width: figures.Width) -> None:
    svg = figures.dose_response_svg(audit_with(sets), width)
    assert lines(svg, figures.GREY, "1.2") == sets
    assert lines(svg, figures.BLUE, "2.5") == 1
    assert lines(svg, figures.VERMILLION, "2.5") == 1


def test_curves_are_named_directly(audit: dict[str, Any]) -> None:
    texts = [e.text for e in ElementTree.fromstring(figures.dose_response_svg(audit)).iter(f"{SVG}text")]
    assert {"H-neurons", "gradient control", "3 random sets", "no change"} <= set(texts)
    assert "compliance, % of items" in texts
    assert "dose α (1 = no change)" in texts


def test_direct_labels_do_not_cover_each_other(audit: dict[str, Any]) -> None:
    root = ElementTree.fromstring(figures.dose_response_svg(audit))
    names = {"H-neurons", "gradient control", "3 random sets"}
    heights = []
    for element in root.iter(f"{SVG}text"):
        if element.text in names:
            found = re.search(r"translate\([^,]+,([^)]+)\)", element.get("transform", ""))
            assert found
            heights.append(float(found[1]))
    assert len(heights) == 3
    heights.sort()
    assert min(b - a for a, b in pairwise(heights)) >= 14


def test_a_dose_without_an_estimate_is_left_out_not_drawn_at_zero(audit: dict[str, Any]) -> None:
    audit["estimates"]["h_neurons.compliance.a3"] |= {"value": None, "low": None, "high": None}
    svg = figures.dose_response_svg(audit)
    (path,) = (
        e.get("d")
        for e in ElementTree.fromstring(svg).iter(f"{SVG}path")
        if e.get("stroke") == figures.BLUE and e.get("stroke-width") == "2.5"
    )
    assert path is not None
    assert path.count("L") == 2
    assert "not estimable at dose 3" in svg


def test_the_readout_says_what_is_not_estimable(audit: dict[str, Any]) -> None:
    assert ">not estimable<" in figures.readout_svg(audit)


def test_the_forest_holds_every_arm_and_the_margin(audit: dict[str, Any]) -> None:
    svg = figures.forest_svg(audit)
    for name in ("H-neurons", "gradient control", "random set 2", "H-neurons − random", "a new random set"):
        assert f">{name}<" in svg
    assert f'fill="{figures.BAND}"' in svg
    assert "margin ±2 pp" in svg


@pytest.mark.parametrize("draw", DRAW)
def test_figures_describe_themselves_and_load_nothing(audit: dict[str, Any], draw: Any) -> None:
    ids: list[str] = []
    for width in ("wide", "narrow"):
        svg = draw(audit, width)
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        labelled = (root.get("aria-labelledby") or "").split()
        found = [e.get("id") for e in root.iter() if e.get("id")]
        assert set(labelled) <= set(found)
        assert root[0].tag == f"{SVG}title"
        assert len(root[1].text or "") > 50
        assert "script" not in {e.tag.removeprefix(SVG) for e in root.iter()}
        assert not re.findall(r'(?:href|src)="', svg)
        ids += [str(i) for i in found]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("draw", DRAW)
def test_figures_are_deterministic(audit: dict[str, Any], draw: Any) -> None:
    assert draw(audit) == draw(audit)


@pytest.mark.parametrize("draw", DRAW)
def test_an_empty_audit_draws_without_failing(draw: Any) -> None:
    assert draw({}).startswith("<svg")


def test_inner_ids_and_their_references_are_prefixed() -> None:
    raw = (
        '<svg xmlns="http://www.w3.org/2000/svg"><clipPath id="clip0"/><g clip-path="url(#clip0)" class="marks"/></svg>'
    )
    svg = finish(raw, "fig", "A & b", "<desc>")
    assert 'id="fig-clip0"' in svg
    assert "url(#fig-clip0)" in svg
    assert "A &amp; b" in svg
    assert "class=" not in svg
