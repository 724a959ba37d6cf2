"""A readout's report as plain content: sections of sentences, tables and figures, rendered as page and as Markdown.

Everything here is text and numbers; escaping belongs to whoever renders it. What the material lacks is said in words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from levercheck.publish.format import Quoted, UnitStyle, finite, integer, number, unit_style
from levercheck.publish.view import flatten

_STYLES = {
    "d_z": UnitStyle("d_z", 2, signed=True),
    "d_z difference": UnitStyle("d_z difference", 2, signed=True),
    "|d_z length| / |d_z truth|": UnitStyle("(ratio)", 2),
    "log-odds difference": UnitStyle("log-odds", 2, signed=True),
    "nats per item": UnitStyle("nats per item", 4, signed=True),
    "answers per question": UnitStyle("answers per question", 2),
    "tokens per response": UnitStyle("tokens", 1),
    "components": UnitStyle("components", 1),
    "tokens": UnitStyle("tokens", 2),
    "characters": UnitStyle("characters", 1),
    "tokens more": UnitStyle("tokens", 2, signed=True),
    "characters more": UnitStyle("characters", 1, signed=True),
}
_COUNTED = {"percentile_over_draws": "draw", "jackknife_pseudo_values": "refit"}
_SHARES = {"fraction", "share of samples"}
_PLACE = re.compile(r"(?:~|[A-Za-z]:)?(?:[/\\][^\s/\\'\",:]+){2,}[/\\]?")

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # letters of some scripts need them


class Number(Quoted):
    """An estimate as this report writes it."""

    @property
    def style(self) -> UnitStyle:
        """How this estimate's unit is written."""
        return _STYLES.get(self.unit) or unit_style(self.unit)


@dataclass(frozen=True)
class Est:
    """A cell that holds an estimate; `against` is the value it is compared with."""

    quote: Number
    against: float | None = None


@dataclass(frozen=True)
class Word:
    """A cell that holds the outcome of a check."""

    text: str


@dataclass(frozen=True)
class Code:
    """A cell whose text is quoted letter by letter."""

    text: str


Cell = str | Est | Word | Code


@dataclass(frozen=True)
class Text:
    """One paragraph."""

    text: str
    kind: str = "text"


@dataclass(frozen=True)
class Table:
    """Rows under columns; the first cell of a row names it. Without rows it says why."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    empty: str = "nothing is recorded"
    kind: str = "table"


@dataclass(frozen=True)
class Figure:
    """A figure by name, with what is to be seen in it."""

    name: str
    caption: str
    kind: str = "figure"


@dataclass(frozen=True)
class Part:
    """A headed part of a section; a closed one is folded away on the page."""

    title: str
    blocks: Sequence[Text | Table | Figure]
    closed: bool = False
    kind: str = "part"


Block = Text | Table | Figure | Part


@dataclass(frozen=True)
class Section:
    """One section of the report."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """The whole report."""

    title: str
    headline: str
    limit: str
    facts: str
    sections: Sequence[Section]
    strip: Sequence[tuple[str, str]] = field(default_factory=tuple)
    kicker: str = "levercheck readout report"
    source: str = "the rows of a workspace"


def at(found: Any, *path: str) -> Any:
    """The value at a path of keys, or None."""
    for key in path:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def table(found: Any, *path: str) -> dict[str, Any]:
    """The mapping at a path of keys; empty when there is none."""
    value = at(found, *path)
    return dict(value) if isinstance(value, Mapping) else {}


def records(found: Any, *path: str) -> list[dict[str, Any]]:
    """The list of mappings at a path of keys; empty when there is none."""
    value = at(found, *path)
    return [dict(row) for row in value if isinstance(row, Mapping)] if isinstance(value, list | tuple) else []


def quote(found: Any, *path: str, difference: bool = False, counted: str | None = None) -> Number:
    """The estimate at a path of keys. Shares read as %, a `difference` of shares as percentage points.

    `counted` names what n counts where that is no item (a refit, a component).

    An estimate that is not there, at whatever depth its path ends, gives its reason: the recorded one, or that it is
    not recorded.
    """
    record, absent = found, None
    for key in path:
        if isinstance(record, Mapping) and isinstance(record.get("absent"), str):
            absent = record["absent"]
        record = record.get(key) if isinstance(record, Mapping) else None
    if isinstance(record, Mapping) and isinstance(record.get("absent"), str):
        absent = record["absent"]
    name = ".".join(path)
    if not isinstance(record, Mapping) or "value" not in record:
        return Number(name, note=absent or "not recorded")
    known = Number.read(name, record)
    assert isinstance(known, Number)
    counted = counted or _COUNTED.get(known.method)
    if counted is not None and known.clusters is None:
        known = replace(known, n=None, clusters=known.n, cluster_unit=counted)
    if known.unit not in _SHARES:
        return replace(known, unit=f"{known.unit} more") if difference and f"{known.unit} more" in _STYLES else known
    if not difference:
        return replace(known, unit="fraction")
    value, low, high = (None if end is None else 100 * end for end in (known.value, known.low, known.high))
    return replace(known, unit="pp", value=value, low=low, high=high)


def est(
    found: Any, *path: str, against: float | None = None, difference: bool = False, counted: str | None = None
) -> Est:
    """The same as a cell."""
    return Est(quote(found, *path, difference=difference, counted=counted), against)


def est_text(cell: Est) -> str:
    """An estimate in one line: value, unit, interval, counts and its note."""
    q = cell.quote
    text = q.sentence(cell.against)
    return f"{text} — {q.note}" if q.note and q.value is not None else text


def counts(rows: Mapping[str, Any]) -> str:
    """Counts by name on one line; "none" when there are none."""
    return "; ".join(f"{name}: {plain(rows[name])}" for name in sorted(rows, key=str)) or "none"


def plain(value: object, digits: int = 3) -> str:
    """A count, a setting or a descriptive number as text; None is said."""
    if value is None:
        return "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    real = finite(value)
    if real is None:
        return str(value)
    if isinstance(value, int):
        return integer(value)
    if real == 0 or abs(real) >= 10**-digits:
        return number(real, digits)
    return f"{real:.1e}".replace("-", "−")


def setting(value: object) -> str:
    """A value of C or another setting as it was given."""
    real = finite(value)
    return "not recorded" if real is None else f"{real:g}".replace("-", "−")


def settings_rows(value: Any) -> list[tuple[Cell, Cell]]:
    """Nested settings as rows; of a path on a machine only its last part is kept."""
    return [(Code(placeless(name)), Code(placeless(text))) for name, text in flatten(value)]


def placeless(text: str) -> str:
    """Text with every path on a machine cut to its last part; addresses on the net stay."""

    def cut(match: re.Match[str]) -> str:
        before = text[: match.start()]
        if before.endswith((":", "/")) or (before and (before[-1].isalnum() or before[-1] in "._-")):
            return match[0]
        return re.split(r"[/\\]", match[0].rstrip("/\\"))[-1]

    return _PLACE.sub(cut, text)


def missing(what: str, how: str) -> Text:
    """The sentence for a part that the material lacks."""
    return Text(f"Missing: {what}. {how}", "missing")


def visible(text: str) -> str:
    """Text whose control, direction and other unseen characters are written out, so that none hides or reorders any."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(c) for c in text)


def _visible(c: str) -> str:
    if c in _JOINERS or unicodedata.category(c) not in _HIDDEN:
        return c
    return {"\n": "⏎", "\t": "⇥", "\r": "␍"}.get(c) or f"\\u{ord(c):04x}"
