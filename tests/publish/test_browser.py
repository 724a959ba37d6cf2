from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from levercheck.publish import publish

WIDTHS = (390, 1400)


@pytest.fixture
def page_file(audit: dict[str, Any], tmp_path: Path) -> Path:
    return publish(audit, tmp_path)[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_is_silent(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    console: list[str] = []
    failed: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: console.append(message.text))
    page.on("pageerror", lambda error: console.append(str(error)))
    page.on("dialog", lambda dialog: console.append(dialog.message))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    try:
        assert console == []
        assert failed == []
        assert [url for url in requests if url != page_file.as_uri() and not url.startswith("data:")] == []
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
        boxes = page.evaluate(
            "[...document.querySelectorAll('figure')].map(f => [...f.querySelectorAll('svg')]"
            ".map(s => s.getBoundingClientRect()).filter(b => b.width > 200 && b.height > 100)"
            ".map(b => [b.left, b.right]))"
        )
        assert len(boxes) == 3
        for visible in boxes:
            assert len(visible) == 1, "exactly one variant of a figure is shown"
            assert visible[0][0] >= 0
            assert visible[0][1] <= width
        smallest = page.evaluate(
            "Math.min(...[...document.querySelectorAll('figure svg text')].filter(t => t.checkVisibility())"
            ".map(t => t.getBoundingClientRect()).map(b => Math.min(b.width, b.height) > 0 ? b.height : 99))"
        )
        assert smallest >= 10
    finally:
        context.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_text_of_a_figure_is_cut_off(browser: Any, page_file: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(page_file.as_uri())
    try:
        outside = page.evaluate(
            "[...document.querySelectorAll('figure svg')].filter(s => s.checkVisibility()).flatMap(s => {"
            " const b = s.getBoundingClientRect();"
            " return [...s.querySelectorAll('text')].filter(t => { const r = t.getBoundingClientRect();"
            "  return r.left < b.left - 1 || r.right > b.right + 1 || r.top < b.top - 1 || r.bottom > b.bottom + 1; })"
            ".map(t => t.textContent); })"
        )
        assert outside == []
    finally:
        page.close()


def test_everything_is_open_on_paper(browser: Any, page_file: Path) -> None:
    page = browser.new_page()
    page.goto(page_file.as_uri())
    try:
        page.emulate_media(media="print")
        assert page.evaluate("document.querySelector('section:last-of-type details table').offsetHeight") > 100
    finally:
        page.close()


def test_endless_words_do_not_widen_the_page(browser: Any, audit: dict[str, Any], tmp_path: Path) -> None:
    audit["study"]["model"]["name"] = "x" * 400
    audit["findings"][0]["text"] = "y" * 400
    audit["gates"][0]["reason"] = "z" * 400
    audit["gates"][0]["criteria"][0]["text"] = "w" * 400
    audit["verdict"]["sentence"] = "v" * 400
    page = browser.new_page(viewport={"width": 390, "height": 900})
    page.goto(publish(audit, tmp_path)[0].as_uri())
    try:
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    finally:
        page.close()
