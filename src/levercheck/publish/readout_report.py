"""A readout and its confounds as one self-contained page, with a Markdown twin that says the same.

Nothing is loaded and no script is run. Texts that come from data (titles, tokens, categories, reasons) are hostile
until escaped: the page escapes every text, Markdown every character that means something to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from levercheck.errors import MissingError
from levercheck.evidence.files import write_atomic
from levercheck.publish import format
from levercheck.publish.card import escape as escape_markdown
from levercheck.publish.extras import require
from levercheck.publish.figures import Width
from levercheck.publish.readout_figures import drawings, figure_words
from levercheck.publish.readout_sections import report
from levercheck.publish.readout_view import Block, Cell, Code, Est, Part, Report, Table, Text, Word, est_text, visible
from levercheck.publish.svg import inline

PAGE, TWIN, FIGURES = "report.html", "report.md", "figures"

TONES = {
    "shown": "good",
    "stable": "good",
    "not shown": "open",
    "L1 artefact": "bad",
    "balanced": "good",
    "imbalanced": "bad",
    **format.TONES,
}
MARKS = {
    "shown": "✓",
    "stable": "✓",
    "not shown": "~",
    "L1 artefact": "✗",
    "balanced": "✓",
    "imbalanced": "✗",
    **format.MARKS,
}


def write_readout_report(folder: Path, material: Mapping[str, Any]) -> list[Path]:
    """Write `report.html`, `report.md` and `figures/*.svg` under `folder` and return their paths.

    `material` has title, model, source, collect, verdicts, spans, split, probe, openings, path, audit, verbosity,
    overlap, neurons and settings; any of them may be absent or None, and the report then says that it is missing
    (without verdicts: that the ruler judged). Without the drawing
    packages the report has no figures and says so; without jinja2 it cannot be made (MissingError), and nothing is
    written. The same material always gives the same bytes.
    """
    return write_report(folder, report(material), lambda: drawings(material))


def write_report(
    folder: Path, content: Report, drawn: Callable[[], Mapping[str, Callable[[Width], str]]]
) -> list[Path]:
    """Write a report's page, its Markdown twin and its figures under `folder` and return their paths."""
    require("jinja2")
    figures: dict[str, dict[str, str]] = {}
    absent = None
    try:
        require("altair", "vl_convert")
        figures = {name: {"wide": draw("wide"), "narrow": draw("narrow")} for name, draw in drawn().items()}
    except MissingError as error:
        absent = str(error)
    pages = {PAGE: report_html(content, figures, absent), TWIN: report_markdown(content, figures, absent)}
    pages |= {f"{FIGURES}/{name}.svg": variants["wide"] for name, variants in figures.items()}
    for name, text in pages.items():
        write_atomic(folder / name, text.encode())
    return [folder / name for name in pages]


def report_html(content: Report, figures: Mapping[str, Mapping[str, str]], absent: str | None = None) -> str:
    """The page. `figures` holds finished SVG by name and width; `absent` says why there is none."""
    from markupsafe import Markup

    drawn = {
        name: {width: Markup(inline(svg)) for width, svg in variants.items()}  # noqa: S704 - re-serialised XML
        for name, variants in figures.items()
    }
    text: str = _template().render(report=content, figures=drawn, absent=absent)
    return text


def report_markdown(content: Report, figures: Mapping[str, Mapping[str, str]], absent: str | None = None) -> str:
    """The same content as Markdown."""
    lines = [f"# {escape(content.title)}", "", f"**{escape(content.headline)}**", "", escape(content.limit), ""]
    lines += [escape(content.facts), ""]
    if absent is not None:
        lines += [f"*Figures are missing: {escape(absent)}.*", ""]
    for section in content.sections:
        lines += [f"## {escape(section.title)}", "", *_markdown(section.blocks, figures)]
    return "\n".join(lines).rstrip("\n") + "\n"


def escape(text: object) -> str:
    """Text on one line with everything that Markdown or HTML would interpret made plain, addresses included."""
    plain = escape_markdown(visible(str(text)))
    return plain.replace("://", "\\://").replace("@", "\\@").replace("www.", "www\\.")


def _markdown(blocks: Sequence[Block], figures: Mapping[str, Mapping[str, str]]) -> list[str]:
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Part):
            lines += [f"### {escape(block.title)}", "", *_markdown(block.blocks, figures)]
        elif isinstance(block, Text):
            text = escape(block.text)
            lines += [f"*{text}*" if block.kind == "missing" else text, ""]
        elif isinstance(block, Table):
            lines += _markdown_table(block)
        elif block.name in figures:
            title, _ = figure_words(figures[block.name]["wide"])
            lines += [f"![{escape(title)}]({FIGURES}/{block.name}.svg)", "", escape(block.caption), ""]
    return lines


def _markdown_table(found: Table) -> list[str]:
    lines = [escape(found.caption), ""] if found.caption else []
    if not found.rows:
        return [*lines, f"*{escape(found.empty)}*", ""]
    lines += [_line([escape(name) for name in found.columns]), "|" + "---|" * len(found.columns)]
    return [*lines, *(_line([_cell(cell) for cell in row]) for row in found.rows), ""]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Est):
        return escape(est_text(cell))
    if isinstance(cell, Word):
        return f"{escape(MARKS.get(cell.text, '–'))} {escape(cell.text)}"
    return escape(cell.text if isinstance(cell, Code) else cell)


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=PackageLoader("levercheck.publish", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    environment.filters.update(tone=lambda word: TONES.get(word, "none"), shape=_shape)
    return environment.get_template("readout.html")


def _shape(cell: Cell) -> str:
    return {Est: "est", Word: "word", Code: "code"}.get(type(cell), "text")
