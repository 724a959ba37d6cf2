"""Figures of directions and heads."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

pytest.importorskip("altair", reason="needs levercheck[report]")
pytest.importorskip("vl_convert", reason="needs levercheck[report]")

from levercheck.publish.readout_maps import head_words, heads_svg, layer_words, layers_svg

LAYERS = [
    {
        "layer": i,
        "cv_auroc": 0.5 + i / 20,
        "auroc": 0.52 + i / 20,
        "auroc_low": 0.4 + i / 20,
        "auroc_high": 0.6 + i / 20,
    }
    for i in range(6)
]
HEADS = [
    {"layer": i, "head": j, "auroc": 0.45 + (i + j) / 30, "auroc_low": 0.3, "auroc_high": 0.9}
    for i in range(4)
    for j in range(3)
]


@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_figures_are_plain_svg_with_words(width):
    for svg, title in (
        (layers_svg(LAYERS, 4, width), "Separation by layer"),
        (heads_svg(HEADS, width), "Separation by head"),
    ):
        root = ElementTree.fromstring(svg)
        assert root.get("role") == "img"
        assert root.find("{http://www.w3.org/2000/svg}title").text == title
        assert "<script" not in svg and "http" not in svg.replace("http://www.w3.org", "")


def test_every_head_with_a_number_has_one_cell():
    fills = heads_svg(HEADS).count('stroke="#')
    fewer = heads_svg([{**row, "auroc": None} if row["layer"] == 3 else row for row in HEADS]).count('stroke="#')
    assert fills - fewer == 3


def test_the_words_state_the_choice_and_what_is_missing():
    assert layer_words(LAYERS, 4) == (
        "Directions of 6 layers; layer 4 was chosen on the fit part: AUROC 0.720 [0.600, 0.800] held out."
    )
    broken = [{**HEADS[0], "auroc": None, "auroc_low": None, "auroc_high": None}]
    assert head_words(broken) == "1 head; first by rank: layer 0 head 0: AUROC not estimable."
    assert "0.5" not in layer_words([{**LAYERS[0], "auroc": None}], 0)
