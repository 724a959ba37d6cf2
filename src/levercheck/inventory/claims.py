"""Numbers in Markdown that claim a result, with their printed precision and unit; labels and settings are set aside."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

_CITED_FILE = re.compile(
    r"(?<![\w./{}*-])[\w./{}*-]{0,200}\w\.(?:jsonl|json|csv|tsv|parquet|npz|md|py|ipynb|ya?ml|txt|log|pdf)\b"
)
_YEAR = r"(?:199\d|20[0-3]\d)"
_CITATION = re.compile(
    r"\[@[^\]]{1,200}\]|\bet al\b|\barXiv\b|\bdoi\b|https?://|(?<!CI )\[\d{1,3}(?:, ?\d{1,3}){0,20}\]"
    rf"|\b[A-Z][a-z]{{1,30}}(?: & [A-Z][a-z]{{1,30}})?,? \(?{_YEAR}\b"
)
_NUMBER = re.compile(
    r"(?<![\w.,/\\#@_])"
    r"(?P<sign>[-+−](?=[\d.]))?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?P<exponent>[eE][-+−]?\d{1,3})?"
    r"(?P<unit>\s?(?:%|pp\b|percentage points?\b|percent\b))?"
    r"(?![\w@]|[.,]\d|\\|/\d)"
)
_DOSE_WORDS = r"(?:alphas?|α|doses?|λ)"
_ONE = r"[-+−]?\d+(?:\.\d+)?"
_NOT_A_RESULT = r"(?![\d.]*\d|\s?(?:%|pp\b|percent))"
_DOSES = re.compile(
    rf"(?i)\b{_DOSE_WORDS}\s{{0,3}}(?:[=:≈]|of|from)?\s{{0,3}}({_ONE}){_NOT_A_RESULT}"
    rf"(?:\s?(?:to|vs\.?|→|->|–|-|and)\s?({_ONE}){_NOT_A_RESULT})?"
)
_COUNTED = r"(?!\s{1,3}(?:rows|items|questions|samples|prompts|responses|resamples|of)\b|\s?%|[.,]\d)"
# What is blanked before numbers are looked for, in this order, and how the report calls it.
_SET_ASIDE: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("code", re.compile(r"`+[^`\n]{0,500}`+")),
    ("addresses and identifiers", re.compile(r"\b\w{1,20}://\S+|\b(?:arXiv:?\s?|doi:?\s?)\S+|\b10\.\d{4,9}/\S+")),
    ("file names", _CITED_FILE),
    (
        "citations",
        re.compile(
            r"\[@[^\]]{1,200}\]|(?<!CI )\[\d{1,3}(?:, ?\d{1,3}){0,20}\](?!\()"
            rf"|\b[A-Z][a-z]{{1,30}}(?: et al\.?)?,? \(?{_YEAR}\b{_COUNTED}\)?"
        ),
    ),
    (
        "dates and times",
        re.compile(
            rf"\b\d{{4}}-\d{{2}}(?:-\d{{2}})?\b|\b\d{{1,2}}:\d{{2}}(?::\d{{2}})?\b|(?<![\d.,]){_YEAR}\b{_COUNTED}"
        ),
    ),
    ("versions", re.compile(r"\bv?\d+\.\d+\.\d+\S*|\bv\d+(?:\.\d+)*\b|[=<>]=\s?\d[\d.]*")),
    (
        "labels",
        re.compile(
            r"(?i)\b(?:section|sec\.|figure|fig\.|table|tab\.|equation|eq\.|chapter|appendix|step|issue|page|line|layer|"
            r"seed|fold|question|item|part|phase|stage|task|level|tier|run|version|python)\s{0,3}[#-]?\d+(?:\.\d+)*"
            r"|§\s?\d[\d.]*|#\d+"
            r"|\b[A-Za-z]\w{0,60}(?:-\w{1,60}){0,10}-\d[\w.]*(?:-[\w.]+){0,10}|\b\d+(?:\.\d+)?-(?=[A-Za-z])[\w-]+"
        ),
    ),
    (
        "settings",
        re.compile(rf"(?i)\b(?:alphas|doses)\s?[:=]?\s?{_ONE}(?:,\s?(?:and\s)?{_ONE}{_NOT_A_RESULT}){{1,60}}"),
    ),
    ("settings", _DOSES),
    (
        "settings",
        re.compile(
            r"(?i)\b(?:C|k|temperature|top[-_ ]?[kp]|seeds?|batch(?: size)?)\s{0,3}[=:]"
            rf"\s{{0,3}}{_ONE}(?:,\s?{_ONE}){{0,60}}"
        ),
    ),
    (
        "interval levels",
        re.compile(r"(?i)\b\d{2}(?:\.\d)?\s?%[- ]?(?:CI|confidence|credible|interval|prediction|bootstrap|wilson)\b"),
    ),
)
_DOSE_HEADER = re.compile(rf"(?i)^\W*{_DOSE_WORDS}\W*$")
_SETTING_HEADER = re.compile(r"(?i)^\W*(?:seed|layer|fold|k|c|#|no\.?|index|year|date)\W*$")
_LIST_MARK = re.compile(r"^\s*(?:>\s*)*(?:#+\s+[\d.]*\s|\d+[.)]\s|[-*+]\s+\d+[.)]\s)")
_LINE_CHARS = 20_000
_LARGEST = 1e15
CONTEXT = 40


@dataclass(frozen=True)
class Claim:
    """A number in a line of prose or a table cell.

    `value` is in the printed unit, `half` half a unit of its last printed digit, `unit` one of "", "%", "pp". `about`
    is the line with its heading and table header; `doses` are those that the line or its dose column names.
    """

    path: str
    line: int
    column: int
    text: str
    value: float
    half: float
    decimals: int
    unit: str
    digits: int
    whole: str
    about: str
    doses: frozenset[float]
    cites: tuple[str, ...]
    cited: bool
    inequality: bool

    @property
    def context(self) -> str:
        """The number with some text around it."""
        start = max(0, self.column - CONTEXT)
        end = self.column + len(self.text) + CONTEXT
        text = self.whole[start:end].strip()
        return ("…" if start else "") + text + ("…" if end < len(self.whole) else "")


def find_claims(path: str, text: str) -> tuple[list[Claim], Counter[str]]:
    """The claims of one Markdown file, and how many numbers were set aside, by reason."""
    claims: list[Claim] = []
    aside: Counter[str] = Counter()
    fence: str | None = None
    header: list[str] | None = None
    heading = ""
    comment = False
    front = text.startswith("---\n")
    for number, full in enumerate(text.split("\n"), 1):
        line = full[:_LINE_CHARS]
        mark = line.strip()[:3]
        if front:
            front = number == 1 or mark not in ("---", "...")
            aside["front matter"] += len(_NUMBER.findall(line))
            continue
        if mark in ("```", "~~~") and fence in (None, mark):
            fence = None if fence else mark
            continue
        if fence or comment or "<!--" in line:
            aside["code" if fence else "comments"] += len(_NUMBER.findall(line))
            comment = not fence and (comment or "<!--" in line) and "-->" not in line
            continue
        if len(full) > len(line):
            aside[f"after character {_LINE_CHARS} of a line"] += len(_NUMBER.findall(full[_LINE_CHARS:]))
        if mark.startswith("#"):
            heading = line
        is_row = mark.startswith("|")
        doses = doses_in(line)
        shown = line
        if is_row and header is not None:
            shown, of_row = _without_settings(line, header, aside)
            doses |= of_row
        header = (header or line.split("|")) if is_row else None
        about = " ".join([heading, *(header or []), line])
        claims += _of_line(_Place(path, number, line, about, doses), shown, aside)
    return claims, +aside


@dataclass(frozen=True)
class _Place:
    path: str
    number: int
    line: str
    about: str
    doses: frozenset[float]


def doses_in(line: str) -> frozenset[float]:
    """The doses a line speaks of (`α = 3`, `dose 0 to 3`)."""
    found = (text for match in _DOSES.finditer(line[:_LINE_CHARS]) for text in match.groups() if text)
    return frozenset(float(text.replace("−", "-")) for text in found)


def _without_settings(line: str, header: list[str], aside: Counter[str]) -> tuple[str, frozenset[float]]:
    """A table row with the cells blanked whose column is a dose or another setting, and the doses in it."""
    cells = line.split("|")
    doses: set[float] = set()
    for index, name in enumerate(header[: len(cells)]):
        is_dose = bool(_DOSE_HEADER.match(name.strip()[:40]))
        if is_dose or _SETTING_HEADER.match(name.strip()[:40]):
            found = re.findall(_ONE, cells[index])
            aside["settings"] += len(found)
            doses |= {float(text.replace("−", "-")) for text in found if is_dose}
            cells[index] = "\x00" * len(cells[index])
    return "|".join(cells), frozenset(doses)


def _of_line(place: _Place, blanked: str, aside: Counter[str]) -> list[Claim]:
    cites = tuple(dict.fromkeys(_CITED_FILE.findall(place.line)))
    cited = bool(cites or _CITATION.search(place.line))
    marker = _LIST_MARK.match(blanked)
    if marker:
        blanked = " " * marker.end() + blanked[marker.end() :]
    for reason, pattern in _SET_ASIDE:
        for found in pattern.finditer(blanked):
            count = len(re.findall(r"\d+(?:[.,]\d+)*", found.group()))
            aside[reason] += count
        blanked = pattern.sub(lambda m: "\x00" * len(m.group()), blanked)
    claims = (_claim(place, blanked, found, cites, cited) for found in _NUMBER.finditer(blanked))
    return [claim for claim in claims if abs(claim.value) < _LARGEST]


def _claim(place: _Place, blanked: str, found: re.Match[str], cites: tuple[str, ...], cited: bool) -> Claim:
    digits = found["digits"].replace(",", "")
    exponent = int((found["exponent"] or "e0")[1:].replace("−", "-"))
    decimals = len(digits.partition(".")[2]) - exponent
    value = float(f"{digits}e{exponent}") * (-1 if found["sign"] in ("-", "−") else 1)
    unit = (found["unit"] or "").strip()
    before = blanked[: found.start()].rstrip()
    return Claim(
        path=place.path,
        line=place.number,
        column=found.start(),
        text=found.group(),
        value=value,
        half=0.5 * 10.0 ** max(-300, min(300, -decimals)),
        decimals=decimals,
        unit="" if not unit else "%" if unit in ("%", "percent") else "pp",
        digits=len(digits.replace(".", "").lstrip("0")),
        whole=place.line,
        about=place.about,
        doses=place.doses,
        cites=cites,
        cited=cited,
        inequality=before.endswith(("<", ">", "≤", "≥", "&lt;", "&gt;")),
    )
