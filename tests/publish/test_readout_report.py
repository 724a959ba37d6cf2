from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from levercheck.errors import MissingError
from levercheck.publish import extras
from levercheck.publish.readout_figures import drawings
from levercheck.publish.readout_report import escape, report_html, report_markdown, write_readout_report
from levercheck.publish.readout_sections import fold_interval, headline, report
from levercheck.publish.readout_view import Number, placeless, quote, visible

HOSTILE = "<script>alert(1)</script>|`x` [l](javascript:alert(1)) \"'>\n# h\u202e\x07 {{ 7*7 }} https://evil.example"
PLACE = "/" + "home/somebody/models/secret/weights.bin"
AUDIT_PARTS = ("baselines", "matched", "incremental", "selectivity", "transfer", "stability", "components", "selection")


def e(value: float | None, unit: str = "AUROC", half: float = 0.1, **more: Any) -> dict[str, Any]:
    known = value is not None
    record = {
        "value": value,
        "low": value - half if known else None,
        "high": value + half if known else None,
        "level": 0.95,
        "unit": unit,
        "n": 42,
        "clusters": 34,
        "cluster_unit": "group",
        "method": "test",
    }
    return {**record, **more}


def over_draws(value: float, unit: str = "AUROC") -> dict[str, Any]:
    return e(value, unit, 0.05, n=10, clusters=None, cluster_unit=None, method="percentile_over_draws")


def classified() -> dict[str, Any]:
    rates = {name: e(0.8, "fraction") for name in ("accuracy", "recall", "f1")}
    cells = ("wrong_flagged", "right_flagged", "wrong_missed", "right_passed")
    none = e(None, "fraction", note="nothing is flagged")
    return {"auroc": e(0.8), **rates, "precision": none, "confusion": dict.fromkeys(cells, 7)}


def make_audit() -> dict[str, Any]:
    names = ("neg_logprob", "answer_tokens", "category_prior")
    refits = {
        "refits": 10,
        "failed": 0,
        "empty": 0,
        "selected": over_draws(20.0, "components"),
        "jaccard": e(0.13, "Jaccard", 0.04, n=10, clusters=None, method="jackknife_pseudo_values"),
        "jaccard_by_chance": 0.0002,
        "with_readout": over_draws(0.2, "Jaccard"),
        "ever_selected": 100,
        "in_80_percent_of_refits": 2,
        "readout_in_80_percent_of_refits": 2,
        "readout_components": 21,
        "auroc": over_draws(0.9),
    }
    top = {
        "component": "L20:911",
        "weight": 0.39,
        "auroc": e(0.7),
        "frequency": e(0.8, "fraction", clusters=None, n=10),
        "correlation": {"with": "L23:707", "value": -0.6},
        "heaviest_in_refits": 2,
        "median_rank_in_refits": 2.0,
        "verdict": "L1 artefact",
        "rules_passed": {"auroc_rank": False, "frequency": True, "path_rank": None},
    }
    lengths = {"right": e(1.2, "tokens"), "wrong": e(1.7, "tokens"), "difference": e(0.5, "tokens")}
    shares = {"right": e(0.1, "fraction"), "wrong": e(0.4, "fraction"), "difference": e(0.3, "fraction")}
    return {
        "c": 0.1,
        "detector": classified(),
        "baselines": {
            name: {"description": f"about {name}", "auroc": e(0.6), "probe_minus_baseline": e(0.2, "AUROC difference")}
            for name in names
        }
        | {"answer_prior": {"description": "d", "absent": f"no test item has {HOSTILE}"}},
        "matched": {
            "caliper": 0.1,
            "confidence": e(0.7, "matched AUROC"),
            "confidence_check": e(0.5, "matched AUROC"),
            "answer_tokens": e(None, "matched AUROC", note="no pairs"),
            "response_tokens": e(0.7, "matched AUROC"),
            "category": {"absent": "no test item has a category"},
        },
        "incremental": {
            "baselines": list(names),
            "left_out": {HOSTILE: HOSTILE},
            "ridge": 1.0,
            "incomplete_items": 0,
            "surface": e(0.85),
            "surface_and_probe": e(0.86),
            "difference": e(0.01, "AUROC difference"),
            "log_loss_gain": e(0.02, "nats per item", 0.01),
        },
        "selectivity": {
            "labels": "one label per string",
            "draws": 20,
            "failed": 0,
            "seen_answers": 3,
            "real": e(0.8),
            "control": over_draws(0.6),
            "control_accuracy": over_draws(0.6, "fraction"),
            "in_sample": {"real": e(1.0, low=0.9, high=1.0), "control": over_draws(0.9)},
            "selectivity": e(0.2, "AUROC difference"),
            "p": 0.048,
            "attainable_p": 0.048,
        },
        "transfer": {
            "answers": {"unseen": e(0.75), "seen": e(None, note="one class only")},
            "categories": {
                HOSTILE: {"right": 7, "wrong": 7, "left_out": e(0.6), "full": e(0.7), "left_out_minus_full": e(-0.1)},
                "small": {"right": 1, "wrong": 7, "absent": "fewer than 5 test items of a class"},
            },
        },
        "stability": {
            "components": 46080,
            "path": [
                {"c": 0.05, "chosen": False, "nonzero": 1, "positive": 0, "with_previous": None, "with_chosen": None},
                {
                    "c": 0.1,
                    "chosen": True,
                    "nonzero": 9,
                    "positive": 5,
                    "with_previous": {"shared": 0, "union": 5, "jaccard": 0.0},
                    "with_chosen": {"shared": 5, "union": 5, "jaccard": 1.0},
                },
            ],
            "bootstrap": refits,
            "half": {"refits": 0, "failed": 0, "absent": "no refit"},
        },
        "top_component": {**top, "without": {"auroc": e(0.79), "minus_full": e(-0.01, "AUROC difference", 0.05)}},
        "components": {
            "rules": {"frequency": 0.8, "auroc_rank": 5, "path_rank": 5, "correlation": 0.9},
            "heaviest": [top, {**top, "component": HOSTILE, "verdict": HOSTILE}],
        },
        "selection": {
            "spans": {"found": shares},
            "reserve": {HOSTILE: shares},
            "lengths": {"answer_tokens": lengths},
        },
        "checks": {
            "heaviest component": "L1 artefact",
            "detects": "shown",
            "detects at equal confidence": "not shown",
            "beats answer_prior": "not estimable",
            "adds to all baselines": "shown",
            f"a new check {HOSTILE}": HOSTILE,
        },
    }


def make_verbosity() -> dict[str, Any]:
    def component(index: int) -> dict[str, Any]:
        return {
            "layer": 3,
            "index": index,
            "length": e(0.5 * index, "d_z", cluster_unit="group"),
            "truth": e(0.2, "d_z") if index else e(None, "d_z", note="the effect is the same on every item"),
            "dominance": e(0.3, "d_z difference"),
            "p_length_holm": 0.01,
            "p_truth_holm": 1.0,
        }

    def reduction() -> dict[str, Any]:
        score = {
            "length": e(-1.2, "d_z"),
            "truth": e(0.7, "d_z"),
            "length_shift": e(-1.3, "log-odds difference"),
            "truth_shift": e(0.9, "log-odds difference"),
            "dominance": e(0.5, "d_z difference"),
            "ratio": e(1.7, "|d_z length| / |d_z truth|"),
            "p_length": 1e-6,
            "p_truth": 0.2,
        }
        shares = {name: e(0.5, "fraction") for name in ("length_dominant", "clearly_length", "clearly_truth")}
        return {"score": score, "components": [component(i) for i in range(3)], "not_comparable": 1, **shares}

    return {
        "items": 42,
        "test_items": 44,
        "skipped": {HOSTILE: 2},
        "false_answers": {"of test items": 42},
        "sentences": {"template": 42},
        "tokens": {"long.true": e(10.0, "tokens per response"), "short.true": e(2.0, "tokens per response")},
        "effects": {"definition": "paired effects", "mean": reduction(), "max": reduction()},
    }


def make_material() -> dict[str, Any]:
    found = {name: e(0.9, "fraction", clusters=None) for name in ("found", "whole", "extracted", "alias")}
    ranked = {
        "value": 0.1,
        "controls": {"mean": 0.0, "sd": 0.1, "low": -0.1, "high": 0.1},
        "below": e(0.8, "fraction", clusters=None, n=200),
        "p": 0.3,
        "attainable_p": 0.01,
        "sets": 200,
    }
    labels = ("right", "wrong", "mixed", "uncertain", "error", "incomplete")
    return {
        "title": f"Readout {HOSTILE}",
        "model": {"name": f"m {HOSTILE}", "layers": 30, "path": PLACE, "weights": {"a": "ab" * 32}},
        "source": {HOSTILE: HOSTILE, "files": [{"name": "facts.jsonl"}]},
        "collect": {
            "questions": 400,
            "labels": {name: e(0.2, "fraction", clusters=None, n=400) for name in labels},
            "answers": {
                "distinct_answers": e(2.6, "answers per question"),
                "cut_by_token_cap": e(0.03, "share of samples", 0.01),
                "substring_only_matches": e(0.01, "share of samples", 0.005),
            },
        },
        "spans": {"per_label": {"right": found, "wrong": found}, "reasons": {HOSTILE: 3}},
        "split": {
            "roles": {role: {"right": 21, "wrong": 21, "groups": 34, "answers": 33} for role in ("test", "train")},
            "reserve": {HOSTILE: 55},
            "shared": {"questions": 0, "answers": 11},
            "test_items_with_an_answer_seen_in_training": 19,
        },
        "probe": {
            "train": classified(),
            "test": classified(),
            "c": 0.1,
            "c_grid": [
                {"c": 0.05, "mean_fold_auroc": 0.5, "sd": 0.0, "folds": 5},
                {"c": 0.1, "mean_fold_auroc": 0.9, "sd": 0.05, "folds": 5},
            ],
        },
        "path": {
            "path": [
                {"c": 0.05, "kkt_residual": 0.0, "nonzero": 0, "positive": 0, "layers": {}},
                {"c": 0.1, "kkt_residual": 1e-8, "nonzero": 9, "positive": 5, "layers": {"3": 4, "20": 1, "x": 1}},
            ]
        },
        "audit": make_audit(),
        "verbosity": make_verbosity(),
        "overlap": [
            {
                "direction": f"refusal {HOSTILE}",
                "basis": "columns of the down-projection",
                "controls": 200,
                "cosine": ranked,
                "fraction": ranked,
                "dominant_layer": 12,
                "layers": [{"layer": 12, "cosine_without": ranked}],
            }
        ],
        "neurons": [
            {
                "layer": 3,
                "index": index,
                "weight": 0.4 - index / 100,
                "auroc": None if index == 1 else 0.7,
                "auroc_low": 0.6,
                "auroc_high": 0.8,
                "auroc_note": "one class" if index == 1 else None,
                "n": 42,
                "clusters": 34,
                "promoted": [HOSTILE, " the", "\ud800"],
                "suppressed": ["|", "`"],
            }
            for index in range(25)
        ],
        "settings": {
            "collect": {"seed": 0, "where": PLACE},
            f"odd {HOSTILE}": {HOSTILE: HOSTILE},
            "nothing": None,
        },
    }


class Page(HTMLParser):
    VOID = frozenset({"meta", "link", "br", "circle", "path", "line", "rect"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.tags: list[str] = []
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


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("altair", reason="needs levercheck[report]")
    folder = tmp_path_factory.mktemp("report")
    write_readout_report(folder, make_material())
    return folder


@pytest.fixture
def html(written: Path) -> str:
    return (written / "report.html").read_text()


@pytest.fixture
def markdown(written: Path) -> str:
    return (written / "report.md").read_text()


def rendered(material: dict[str, Any]) -> tuple[str, str]:
    """Both texts without figures, which take most of the time."""
    content = report(material)
    return report_html(content, {}), report_markdown(content, {})


def texts(folder: Path, material: dict[str, Any]) -> tuple[str, str]:
    write_readout_report(folder, material)
    return (folder / "report.html").read_text(), (folder / "report.md").read_text()


def test_the_files_are_named_and_the_same_every_time(written: Path, tmp_path: Path) -> None:
    paths = write_readout_report(tmp_path, make_material())
    names = ["report.html", "report.md", *(f"figures/{n}.svg" for n in ("aurocs", "c-path", "layers", "length-truth"))]
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == names
    assert all((tmp_path / name).read_bytes() == (written / name).read_bytes() for name in names)


def test_the_headline_says_what_was_found_and_what_was_not(html: str, markdown: str) -> None:
    for text in (html, markdown.replace("\\", "")):
        assert "tells consistently wrong from consistently right answers on 42 held-out questions in 34 groups" in text
        assert "AUROC 0.800 [0.700, 0.900]" in text
        assert "This is detection only. Nothing was intervened on" in text
    assert html.index("detection only") < html.index('id="checks"')


@pytest.mark.parametrize(
    ("value", "half", "words"),
    [
        (0.8, 0.1, "The readout tells consistently wrong"),
        (0.55, 0.1, "It is not shown that the readout tells"),
        (0.3, 0.1, "ranks consistently wrong below"),
        (None, 0.1, "is not estimable (too few)"),
    ],
)
def test_the_headline_follows_the_interval(value: float | None, half: float, words: str) -> None:
    assert words in headline(quote({"auroc": e(value, half=half, note="too few")}, "auroc"))
    without = quote({"auroc": e(0.9, low=None, high=None)}, "auroc")
    assert "without an interval it shows nothing" in headline(without)


def test_hostile_text_is_shown_not_run(html: str) -> None:
    page = Page(html)
    assert not {"script", "iframe", "object", "embed", "img", "form", "foreignobject"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert not [value for value in page.values("href") if not value.startswith(("#", "data:"))]
    assert "default-src 'none'" in html
    assert "&lt;script&gt;" in html
    assert "{{ 7*7 }}" in html
    assert not {"\u202e", "\x07"} & set(html)


def test_nothing_is_loaded() -> None:
    calm = make_material()
    text = calm_text(calm)
    assert not re.findall(r"https?://", text)
    page = Page(text)
    assert not page.values("src")
    assert not page.values("srcset")
    assert "@import" not in text
    assert "url(http" not in text


def calm_text(material: dict[str, Any]) -> str:
    def calm(value: Any) -> Any:
        if isinstance(value, dict):
            return {calm(key): calm(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [calm(entry) for entry in value]
        return value.replace("https://", "") if isinstance(value, str) else value

    found = calm(material)
    figures = {name: {w: draw(w) for w in ("wide", "narrow")} for name, draw in drawings(found).items()}
    return report_html(report(found), figures)


def test_figures_hold_no_address_but_their_namespace(written: Path) -> None:
    for path in (written / "figures").iterdir():
        text = path.read_text()
        values = [v for element in ElementTree.fromstring(text).iter() for v in element.attrib.values()]
        assert not [value for value in values if "//" in value or "url(h" in value]
        assert re.findall(r'="(https?://[^"]+)"', text) == ["http://www.w3.org/2000/svg"]
        assert "<script" not in text


def test_tags_are_balanced_and_ids_unique(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert page.broken == []
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    targets = {value.removeprefix("#") for value in page.values("href") if value.startswith("#")}
    targets |= {name for value in page.values("aria-labelledby") for name in value.split()}
    assert targets <= set(ids)


def test_every_estimate_has_an_interval_or_says_why_not(html: str, markdown: str) -> None:
    cells = re.findall(r'<span class="est".*?</span>(?=</td>|\n|</th>)', html, re.DOTALL)
    assert len(cells) > 80
    for cell in cells:
        assert "[" in cell or "not estimable" in cell, cell
        assert "(" in cell or "not estimable" in cell, cell
    for row in markdown.splitlines():
        for cell in row.split(" | ") if row.startswith("|") else []:
            if re.search(r"\d AUROC", cell):
                assert "\\[" in cell, cell


def test_numbers_carry_counts_units_and_reasons(html: str, markdown: str) -> None:
    plain = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))
    twin = markdown.replace("\\", "")
    for text in (plain, twin):
        assert "(n = 42, 34 groups)" in text
        assert "not estimable: no pairs" in text
        assert "not estimable: no test item has a category" in text
        assert "+30.0 pp [+20.0, +40.0]" in text
        assert "(10 draws)" in text
        assert "(10 refits)" in text
        assert "3.0 % [2.0, 4.0]" in text
        assert "fails: among the best alone" in text
        assert "Missing: other questions." in text
    assert "0.900 AUROC [0.838, 0.962] (5 folds)" in plain


def test_checks_stand_in_their_order_with_the_number_behind_them(markdown: str) -> None:
    section = markdown.partition("## Checks")[2].partition("## ")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line.startswith("| ")][1:]
    assert rows[:5] == [
        "detects",
        "detects at equal confidence",
        "adds to all baselines",
        "beats answer prior",
        "heaviest component",
    ]
    assert rows[5].startswith("a new check")
    assert "| detects | ✓ shown | 0.800 AUROC \\[0.700, 0.900\\] (n = 42, 34 groups) | 0.5 |" in section


def test_the_head_names_the_checks_that_are_not_shown(markdown: str) -> None:
    head = markdown.partition("## ")[0]
    assert "2 of 6 checks shown; not shown: detects at equal confidence; not estimable: beats answer prior" in head
    assert "L1 artefact: heaviest component" in head


def test_many_components_are_cut_and_said_to_be() -> None:
    material = make_material()
    effects = material["verbosity"]["effects"]["mean"]
    effects["components"] = [{**effects["components"][1], "index": index} for index in range(250)]
    html, markdown = rendered(material)
    for text in (html, markdown):
        assert "Of 250 components, the 200 with the largest dominance in size are listed." in text


def test_markdown_escapes_what_data_brings(markdown: str) -> None:
    assert "<script" not in markdown
    assert not re.search(r"(?<!\\)\]\(javascript", markdown)
    assert "https://" not in markdown
    assert "\n# h" not in markdown
    assert not {"\u202e", "\x07"} & set(markdown)
    width = None
    for line in markdown.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line))
        if not line.startswith("|"):
            width = None
            continue
        width = width or cells
        assert cells == width, line
        assert not re.search(r"(?<!\\)`", line)


def test_both_say_the_same_sections(html: str, markdown: str) -> None:
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", html)
    assert titles == [line.removeprefix("## ") for line in markdown.splitlines() if line.startswith("## ")]
    assert titles[0] == "Checks"
    assert titles[1] == "Confounds"
    assert titles[-1] == "Limits"


def test_no_place_on_a_machine_is_told(html: str, markdown: str) -> None:
    for text in (html, markdown):
        assert "/home" not in text
        assert "somebody" not in text
        assert "weights.bin" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (PLACE, "weights.bin"),
        ("C:\\Users\\x\\model.gguf", "model.gguf"),
        ("~/a/b", "b"),
        ('{"a": "/srv/data/x.jsonl"}', '{"a": "x.jsonl"}'),
        ("levercheck/answer-span/v1", "levercheck/answer-span/v1"),
        ("https://host.example/v1/chat", "https://host.example/v1/chat"),
        ("org/model", "org/model"),
    ],
)
def test_paths_are_cut_and_names_are_not(text: str, shown: str) -> None:
    assert placeless(text) == shown


@pytest.mark.parametrize("name", sorted(set(make_material()) - {"title"}))
@pytest.mark.parametrize("gone", [None, "absent", "empty"])
def test_a_missing_part_is_said_to_be_missing(tmp_path: Path, name: str, gone: str | None) -> None:
    material = make_material()
    if gone == "absent":
        del material[name]
    else:
        material[name] = None if gone is None else type(material[name])()
    html, markdown = texts(tmp_path, material) if gone is None else rendered(material)
    full = html.count("Missing: ")
    assert full >= 2
    assert markdown.count("Missing: ") == full
    assert html.count("<section") == 9


@pytest.mark.parametrize("name", AUDIT_PARTS)
def test_an_audit_without_a_part_is_still_a_report(name: str) -> None:
    material = make_material()
    del material["audit"][name]
    html, _ = rendered(material)
    assert "not recorded" in html


def test_nothing_at_all_is_a_report_of_what_is_missing(tmp_path: Path) -> None:
    html, markdown = texts(tmp_path, {})
    assert "is not estimable (not recorded)" in html
    assert "<figure" not in html
    assert markdown.count("Missing: ") >= 10


def test_without_drawing_packages_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = extras.find_spec
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "altair" else real(name))
    html, markdown = texts(tmp_path, make_material())
    assert "Figures are missing: the report needs altair" in html
    assert "Figures are missing: the report needs altair" in markdown
    assert "<figure" not in html
    assert "![" not in markdown
    assert not (tmp_path / "figures").exists()


def test_without_templates_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match="jinja2"):
        write_readout_report(tmp_path / "out", make_material())
    assert not (tmp_path / "out").exists()


def test_a_transfer_to_other_questions_is_shown() -> None:
    material = make_material()
    first = {
        "name": "0123456789ab",
        "detector": classified(),
        "shared_with_training": {"ids": 0, "near_duplicates": 4},
        "auroc_without_shared": e(0.66),
    }
    material["audit"]["transferred"] = [first]
    html, markdown = rendered(material)
    assert "(0123456789ab). Shared with training here: ids: 0; near duplicates: 4" in html
    assert "Missing: other questions" not in html
    assert "was not tried on questions from another source" not in html
    assert "0.660 AUROC" in markdown
    material["audit"]["transferred"] = [first, {**first, "name": "ba9876543210", "auroc_without_shared": e(0.71)}]
    html, markdown = rendered(material)
    assert "0.660 AUROC" in markdown
    assert "0.710 AUROC" in markdown
    pytest.importorskip("altair", reason="needs levercheck[report]")
    drawn = drawings(material)["aurocs"]("wide")
    assert drawn.index("probe: set 0123456789ab: 0.660") < drawn.index("probe: set ba9876543210: 0.710")


def test_checks_that_could_not_fail_are_told_and_not_counted() -> None:
    material = make_material()
    material["audit"]["checks"] |= {"beats answer_prior": "not applicable", "selective": "not applicable"}
    material["audit"]["not_applicable"] = {
        "beats answer_prior": "every test answer is new: no training item has it",
    }
    _, markdown = rendered(material)
    assert "2 of 5 checks shown; not shown: detects at equal confidence;" in markdown
    assert "not applicable: selective, beats answer prior" in markdown
    assert (
        "| beats answer prior | – not applicable | every test answer is new: no training item has it | – |" in markdown
    )
    assert "| selective | – not applicable | no reason recorded | – |" in markdown


def test_it_says_how_often_the_test_role_was_opened() -> None:
    material = make_material()
    assert "how often the test role was opened is not recorded" in rendered(material)[0]
    material["openings"] = ["default"]
    assert "the test role was opened once, after C was chosen" in rendered(material)[0]
    material["openings"] = ["default", HOSTILE]
    html, markdown = rendered(material)
    for text in (html, markdown):
        assert "the test role was opened by 2 probes (default, " in text
        assert "choosing among them by test numbers would make these numbers too good" in text
        assert "opened once" not in text
        assert "<script>" not in text


def test_it_says_who_judged_the_answers() -> None:
    material = make_material()
    assert "judged by the ruler, which compares them with the accepted ones, and by no model" in rendered(material)[0]
    material["settings"]["answers"] = {"imported": {}}
    assert "who judged them is not known here" in rendered(material)[0]
    material["verdicts"] = {
        "distinct_answers": 210,
        "kappa_with_ruler": e(0.83, "kappa", cluster_unit="question"),
        "table": [{"judge": "correct", "ruler": "incorrect", "answers": 9}],
    }
    material["settings"]["verdicts"] = {"model": f"judge {HOSTILE}"}
    _, markdown = rendered(material)
    assert "The answers were judged by a model (judge " in markdown
    assert "210 distinct ones" in markdown
    assert "0.830 kappa \\[0.730, 0.930\\] (n = 42, 34 questions)" in markdown
    assert "| judge correct, ruler incorrect | 9 |" in markdown
    assert "<script>" not in markdown


def test_the_interval_over_folds_is_students() -> None:
    row = {"mean_fold_auroc": 0.9, "sd": 0.05, "folds": 5}
    q = fold_interval(row)
    assert q.low == pytest.approx(0.9 - 2.7764 * 0.05 / 5**0.5, abs=1e-4)
    assert q.high == pytest.approx(0.9 + 2.7764 * 0.05 / 5**0.5, abs=1e-4)
    assert fold_interval({**row, "sd": 0.0}).interval() == "[interval not estimable]"
    assert fold_interval({}).value is None


def test_differences_of_shares_are_points_and_reasons_are_kept() -> None:
    record = {"d": e(-0.25, "fraction", 0.05)}
    assert quote(record, "d", difference=True).sentence() == "−25.0 pp [−30.0, −20.0] (n = 42, 34 groups)"
    assert quote(record, "d").sentence().startswith("−25.0 % [")
    assert quote({"a": {"absent": "why"}}, "a", "b", "c").sentence() == "not estimable: why"
    assert quote(None, "a").sentence() == "not estimable: not recorded"
    assert isinstance(quote(record, "d"), Number)


def test_unseen_characters_become_visible() -> None:
    assert visible("a\u202eb\x1b\ud800") == "a\\u202eb\\u001b\\ud800"
    assert visible("Zürich, ελ, 東京") == "Zürich, ελ, 東京"
    assert escape("a@b.c www.x http://y <b> | `") == "a\\@b.c www\\.x http\\://y &lt;b&gt; \\| \\`"


@pytest.fixture(scope="module")
def long_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    material = copy.deepcopy(make_material())
    material["title"] = "x" * 400
    material["model"]["name"] = "y" * 400
    material["audit"]["checks"]["z" * 300] = "w" * 300
    material["audit"]["transfer"]["categories"]["v" * 300] = {"right": 1, "wrong": 1, "absent": "u" * 300}
    material["neurons"][0]["promoted"] = ["t" * 300]
    material["settings"]["s" * 300] = {"r" * 300: "q" * 300}
    folder = tmp_path_factory.mktemp("long")
    write_readout_report(folder, material)
    return folder / "report.html"


@pytest.fixture
def page_at(browser: Any) -> Iterator[Any]:
    opened = []

    def go(path: Path, width: int, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(context)
        page = context.new_page()
        page.said = []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("dialog", lambda dialog: page.said.append(dialog.message))
        page.on("request", lambda r: page.said.append(r.url) if r.url.split(":")[0] not in ("file", "data") else None)
        page.goto(path.as_uri())
        page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        return page

    yield go
    for context in opened:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_fits_and_is_silent(page_at: Any, written: Path, width: int, scheme: str) -> None:
    page = page_at(written / "report.html", width, scheme)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.said == []
    boxes = page.evaluate(
        "[...document.querySelectorAll('figure')].map(f => [...f.querySelectorAll('svg')]"
        ".map(s => s.getBoundingClientRect()).filter(b => b.width > 200 && b.height > 60).map(b => [b.left, b.right]))"
    )
    assert len(boxes) == 4
    for shown in boxes:
        assert len(shown) == 1, "exactly one variant of a figure is shown"
        assert 0 <= shown[0][0] < shown[0][1] <= width
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('figure svg text')].filter(t => t.checkVisibility())"
        ".map(t => t.getBoundingClientRect()).map(b => Math.min(b.width, b.height) > 0 ? b.height : 99))"
    )
    assert smallest >= 10
    outside = page.evaluate(
        "[...document.querySelectorAll('figure svg')].filter(s => s.checkVisibility()).flatMap(s => {"
        " const b = s.getBoundingClientRect();"
        " return [...s.querySelectorAll('text')].filter(t => { const r = t.getBoundingClientRect();"
        "  return r.left < b.left - 1 || r.right > b.right + 1 || r.top < b.top - 1 || r.bottom > b.bottom + 1; })"
        ".map(t => t.textContent); })"
    )
    assert outside == []


@pytest.mark.parametrize("width", [390, 1400])
def test_no_table_needs_sideways_scrolling(page_at: Any, written: Path, width: int) -> None:
    page = page_at(written / "report.html", width)
    wide = page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(s => s.scrollWidth > s.clientWidth + 1)"
        ".map(s => s.getAttribute('aria-label'))"
    )
    assert wide == []


@pytest.mark.parametrize("width", [390, 1400])
def test_endless_words_do_not_widen_the_page(page_at: Any, long_words: Path, width: int) -> None:
    page = page_at(long_words, width)
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
