"""How numbers, counts and standings are written, the same on the page, on the card and in the figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOT_ESTIMABLE = "not estimable"


@dataclass(frozen=True)
class UnitStyle:
    """How values of one unit are written: `factor` turns a stored value into the one shown."""

    suffix: str
    digits: int
    signed: bool = False
    factor: float = 1.0


_UNITS = {
    "%": UnitStyle("%", 1),
    "fraction": UnitStyle("%", 1, factor=100.0),
    "pp": UnitStyle("pp", 1, signed=True),
    "pp/dose": UnitStyle("pp per unit dose", 2, signed=True),
    "logit/dose": UnitStyle("logit per unit dose", 3, signed=True),
    "AUROC difference": UnitStyle("AUROC difference", 3, signed=True),
    "‖Δ‖/‖h‖": UnitStyle("‖Δ‖/‖h‖", 4),
    "rho": UnitStyle("ρ", 2, signed=True),
}

_PLURALS = {"entity": "entities", "category": "categories", "study": "studies", "query": "queries"}

STANDINGS = {
    "supported": "supported",
    "contradicted": "contradicted",
    "inconclusive": "inconclusive",
    "uninformative": "uninformative",
    "not_graded": "not graded",
    "missing": "missing",
}
"""Standings and outcomes are always shown as an icon together with one of these words."""

OUTCOMES = {"met": "met", "violated": "violated", "undecided": "undecided", "missing": "missing"}

MARKS = {
    "supported": "✓",
    "contradicted": "✗",
    "inconclusive": "~",
    "uninformative": "⊘",
    "not_graded": "·",
    "missing": "–",
    "met": "✓",
    "violated": "✗",
    "undecided": "~",
}
"""Plain-text icons, for Markdown."""

TONES = {
    "supported": "good",
    "met": "good",
    "contradicted": "bad",
    "violated": "bad",
    "inconclusive": "open",
    "undecided": "open",
}
"""How a standing or outcome is coloured; any other is neutral."""


@dataclass(frozen=True)
class Quoted:
    """An estimate as it is quoted; a field that the record lacks, or holds badly, is None."""

    id: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    unit: str = ""
    n: int | None = None
    clusters: int | None = None
    cluster_unit: str | None = None
    method: str = ""
    seed: int | None = None
    resamples: int | None = None
    note: str | None = None

    @classmethod
    def read(cls, id: str, record: object) -> Quoted:
        """Read an estimate record; anything that is not one gives an estimate that is not estimable."""
        if not isinstance(record, Mapping):
            return cls(id, note="no estimate of this name in the audit")
        low, high = finite(record.get("low")), finite(record.get("high"))
        if low is None or high is None:
            low = high = None
        return cls(
            id,
            finite(record.get("value")),
            low,
            high,
            finite(record.get("level")),
            _text(record.get("unit")) or "",
            whole(record.get("n")),
            whole(record.get("clusters")),
            _text(record.get("cluster_unit")),
            _text(record.get("method")) or "",
            whole(record.get("seed")),
            whole(record.get("resamples")),
            _text(record.get("note")),
        )

    @property
    def style(self) -> UnitStyle:
        """How this estimate's unit is written."""
        return unit_style(self.unit)

    @property
    def suffix(self) -> str:
        """The unit in words; empty when there is no value to carry it."""
        return self.style.suffix if self.value is not None else ""

    def shown(self, against: float | None = None) -> str:
        """The point value without its unit, or "not estimable"."""
        if self.value is None:
            return NOT_ESTIMABLE
        return number(self.value * self.style.factor, self._digits(against), signed=self.style.signed)

    def interval(self, against: float | None = None) -> str:
        """The interval as "[low, high]", prefixed with its level unless that is 95 %; never half of one.

        A bound that would read the same as the threshold it is compared `against` gets more digits.
        """
        if self.value is None:
            return ""
        if self.low is None or self.high is None:
            return "[interval not estimable]"
        digits, style = self._digits(against), self.style
        low, high = (number(end * style.factor, digits, signed=style.signed) for end in (self.low, self.high))
        usual = self.level is None or math.isclose(self.level, 0.95)
        prefix = "" if usual or self.level is None else f"{100 * self.level:g} % "
        return f"{prefix}[{low}, {high}]"

    def counts(self) -> str:
        """How many items, and how many independent units: "n = 110, 69 entities"."""
        parts = [] if self.n is None else [f"n = {integer(self.n)}"]
        if self.clusters is not None:
            parts.append(plural(self.clusters, self.cluster_unit or "cluster"))
        return ", ".join(parts)

    def sentence(self, against: float | None = None) -> str:
        """Everything in one line: value, unit, interval, counts, and why there is none where there is none."""
        if self.value is None:
            text = f"{NOT_ESTIMABLE}: {self.note}" if self.note else NOT_ESTIMABLE
        else:
            text = " ".join(part for part in (self.shown(against), self.suffix, self.interval(against)) if part)
        counts = self.counts()
        return f"{text} ({counts})" if counts else text

    def _digits(self, against: float | None) -> int:
        digits, factor = self.style.digits, self.style.factor
        ends = [end * factor for end in (self.low, self.high) if end is not None]
        if against is None:
            return digits
        goal = against * factor
        while digits < 5 and any(end != goal and round(end, digits) == round(goal, digits) for end in ends):
            digits += 1
        return digits


def unit_style(unit: str) -> UnitStyle:
    """The style of a unit; one that is not known is written as it stands."""
    known = _UNITS.get(unit)
    if known is not None:
        return known
    return UnitStyle(unit, 3, signed="difference" in unit or unit.endswith("/dose"))


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """Fixed-point text with a true minus sign; a value that rounds to zero carries no sign."""
    tidy = round(value, digits) + 0.0
    text = f"{abs(tidy):.{digits}f}"
    if tidy < 0:
        return f"−{text}"
    return f"+{text}" if signed and tidy > 0 else text


def integer(value: int) -> str:
    """A count, with thin spaces between thousands from 10 000 on."""
    return f"{value:,}".replace(",", " ") if abs(value) >= 10_000 else str(value)


def plural(count: int, noun: str) -> str:
    """A count with its noun: "1 entity", "69 entities"."""
    return f"{integer(count)} {noun if count == 1 else _PLURALS.get(noun, noun + 's')}"


def bare(value: object, digits: int = 3) -> str:
    """A number of the audit that is no estimate (a count, a standard deviation, a smallest p), or "not recorded"."""
    count = whole(value)
    if count is not None:
        return integer(count)
    real = finite(value)
    if real is None:
        return "not recorded"
    if real == 0 or abs(real) >= 10**-digits:
        return number(real, digits)
    return f"{real:.1e}".replace("-", "−")


def p_value(value: object) -> str:
    """A p value with its relation: "p = 0.778", "p < 0.001"."""
    real = finite(value)
    if real is None:
        return f"p {NOT_ESTIMABLE}"
    return "p < 0.001" if real < 0.001 else f"p = {real:.3f}"


def threshold(relation: str, value: object, unit: str) -> str:
    """A criterion's threshold in words: "above +2 pp per unit dose"."""
    real = finite(value)
    words = {">": "above", "<": "below", "=": "exactly"}
    if real is None:
        return "no threshold declared"
    style = unit_style(unit)
    text = f"{abs(real * style.factor):.10g}"
    sign = "−" if real < 0 else "+" if style.signed and real > 0 else ""
    return " ".join(part for part in (words.get(relation, relation), sign + text, style.suffix) if part)


def standing(word: object) -> str:
    """A standing or outcome as a reader sees it."""
    text = str(word)
    return STANDINGS.get(text) or OUTCOMES.get(text) or text.replace("_", " ")


def finite(value: object) -> float | None:
    """`value` as a float when it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def whole(value: object) -> int | None:
    """`value` when it is an integer, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
