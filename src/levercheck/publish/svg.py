"""Tidying the SVG that the drawing library returns: ids that stay unique on a page, a title and a description."""

from __future__ import annotations

import re
from xml.etree import ElementTree

_SVG = "http://www.w3.org/2000/svg"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def finish(svg: str, prefix: str, title: str, description: str) -> str:
    """Prefix all ids, drop inner roles and classes, and name the whole as one image for assistive software."""
    ElementTree.register_namespace("", _SVG)
    root = ElementTree.fromstring(svg)  # noqa: S314 - text made two lines earlier by the renderer, not by a user
    for element in root.iter():
        for name in list(element.attrib):
            if name == "class" or name == "role" or name.startswith("aria-"):
                del element.attrib[name]
            elif name == "id":
                element.attrib[name] = f"{prefix}-{element.attrib[name]}"
            else:
                element.attrib[name] = _REFERENCE.sub(rf"url(#{prefix}-\1)", element.attrib[name])
    root.set("id", prefix)
    root.set("role", "img")
    root.set("aria-labelledby", f"{prefix}-title {prefix}-desc")
    for place, (kind, text) in enumerate((("title", title), ("desc", description))):
        child = ElementTree.Element(f"{{{_SVG}}}{kind}", {"id": f"{prefix}-{kind}"})
        child.text = text
        root.insert(place, child)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def inline(svg: str) -> str:
    """The same image for use inside HTML, where the namespace is implied."""
    return svg.replace(f' xmlns="{_SVG}"', "", 1).strip()
