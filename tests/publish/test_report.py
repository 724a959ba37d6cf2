from __future__ import annotations

import copy
import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest

from levercheck.publish.report import report_html


class Page(HTMLParser):
    """Tags, attributes and ids of a page; unbalanced tags are remembered."""

    VOID = frozenset({"meta", "link", "br", "circle", "path", "line", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.open: list[str] = []
        self.broken: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        elif tag not in self.VOID:
            self.broken.append(tag)

    def values(self, name: str) -> list[str]:
        return [value or "" for _, found, value in self.attributes if found == name]


@pytest.fixture
def text(audit: dict[str, Any]) -> str:
    return report_html(audit)


def test_hostile_text_is_shown_not_run(text: str) -> None:
    assert "<script" not in text.lower()
    assert "A finding &lt;script&gt;alert(1)&lt;/script&gt;" in text
    page = Page(text)
    assert not {"script", "iframe", "object", "embed", "img", "form", "foreignobject"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "default-src 'none'" in text


def test_nothing_is_loaded(text: str) -> None:
    assert not re.findall(r"https?://", text)
    page = Page(text)
    assert all(value.startswith(("#", "data:")) for value in page.values("href"))
    assert not page.values("src")
    assert "@import" not in text
    assert "url(" not in text


def test_tags_are_balanced_and_ids_unique(text: str) -> None:
    page = Page(text)
    assert page.open == []
    assert page.broken == []
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = {value.removeprefix("#") for value in page.values("href") if value.startswith("#")}
    targets |= {name for value in page.values("aria-labelledby") for name in value.split()}
    assert targets <= set(ids)


def test_every_estimate_is_on_the_page(audit: dict[str, Any], text: str) -> None:
    shown = set(Page(text).values("data-estimate"))
    assert set(audit["estimates"]) <= shown
    rested = {c["estimate"] for gate in audit["gates"] for c in gate["criteria"]}
    assert rested <= shown


def test_what_is_not_estimable_is_said_with_its_note(text: str) -> None:
    row = re.search(r'<tr data-estimate="probe.auroc.within_category"><th scope="row"><code>.*?</tr>', text)
    assert row
    assert "not estimable" in row[0]
    assert "one class only &lt;script&gt;" in row[0]
    card = text[text.index('id="gate-externality"') :]
    assert "not estimable" in card[: card.index("</article>")]


def test_standings_have_a_word_and_an_icon(audit: dict[str, Any], text: str) -> None:
    for gate in audit["gates"]:
        card = text[text.index(f'id="gate-{gate["name"]}"') :]
        head = card[: card.index("</header>")]
        assert gate["standing"] in head
        assert '<svg class="icon"' in head


def test_the_page_has_language_viewport_and_ordered_headings(text: str) -> None:
    assert text.startswith("<!doctype html>")
    assert '<html lang="en">' in text
    assert 'name="viewport"' in text
    levels = [int(tag[1]) for tag in Page(text).tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_the_same_audit_gives_the_same_bytes(audit: dict[str, Any], text: str) -> None:
    before = copy.deepcopy(audit)
    assert report_html(audit) == text
    assert audit == before


def test_an_audit_without_a_sweep_still_makes_a_page(rowless_audit: dict[str, Any]) -> None:
    text = report_html(rowless_audit)
    page = Page(text)
    assert page.open == []
    assert set(rowless_audit["estimates"]) <= set(page.values("data-estimate"))
    assert "Dose response" not in text
    assert "What the readout predicts" in text


def test_an_empty_audit_makes_a_page_that_claims_nothing() -> None:
    text = report_html({})
    assert "The audit holds no verdict." in text
    assert "supported" not in text.split("</style>")[1]


@pytest.mark.parametrize("key", ["counts", "probe", "instrument", "specificity", "null", "design", "rows", "findings"])
def test_a_missing_table_is_no_failure(audit: dict[str, Any], key: str) -> None:
    del audit[key]
    assert Page(report_html(audit)).open == []
