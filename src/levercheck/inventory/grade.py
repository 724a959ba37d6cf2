"""What stands behind a printed number: rows, a stored value, a citation, or nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from levercheck.inventory.claims import Claim
from levercheck.inventory.rederive import Derivations, Derived, What
from levercheck.inventory.values import Index, Leaf

Grade = Literal["re-derived", "value-bound", "cited-only", "unbound"]
GRADES: tuple[Grade, ...] = ("re-derived", "value-bound", "cited-only", "unbound")
_SHOWN = 3
_EXACT = 1e-9
_ENOUGH_DIGITS = 3
_CHANCE = 0.15  # a match by value alone is luck too often where more than this many are expected


@dataclass(frozen=True)
class Graded:
    """A claim, its grade, where the number was found, and what keeps it from a better grade."""

    claim: Claim
    grade: Grade
    evidence: tuple[str, ...]
    note: str


class Names:
    """Files below the folder by what a text may call them; of files with the same bytes, the one that was searched."""

    def __init__(self, searched: Mapping[str, str]) -> None:
        self._searched = dict(searched)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        for path in searched:
            self._by_name[path.rsplit("/", 1)[-1]].append(path)

    def meant(self, cite: str) -> set[str]:
        """Files whose path ends with the cited name."""
        name = re.sub(r"^(?:\.{1,2}/)+", "", cite).lstrip("/")
        near = self._by_name.get(name.rsplit("/", 1)[-1], [])
        return {self._searched[path] for path in near if path == name or path.endswith("/" + name)}


def grade(claim: Claim, index: Index, derived: Derivations, names: Names) -> Graded:
    """Grade one claim. A number that several rows or values could stand for is not bound to any of them."""
    if claim.inequality:
        return _fallback(claim, "an inequality names a bound, not a value: print the value itself")
    rows, why_not_rows = _from_rows(claim, derived)
    if rows is not None:
        return Graded(claim, "re-derived", (str(rows),), "")
    leaf, why_not_leaf = _from_values(claim, index, names)
    if leaf is not None:
        return Graded(claim, "value-bound", (f"{leaf.path}: {leaf.where} = {leaf.value!r}",), why_not_leaf)
    return _fallback(claim, "; ".join(text for text in (why_not_rows, why_not_leaf) if text))


def _fallback(claim: Claim, note: str) -> Graded:
    if claim.cited:
        shown = claim.cites[:_SHOWN] or ("a citation in the same line",)
        return Graded(claim, "cited-only", tuple(shown), note)
    return Graded(claim, "unbound", (), note)


def _from_rows(claim: Claim, derived: Derivations) -> tuple[Derived | None, str]:
    for kinds, value, half, needed in _row_targets(claim):
        found = _one_of_alike([one for what in kinds for one in _both_signs(claim, derived, what, value, half)])
        if not found:
            continue
        scores = [_support(claim, one) * 10 + _nearness(claim, one) for one in found]
        best = max(scores)
        winners = [one for one, score in zip(found, scores, strict=True) if score == best]
        support = best // 10
        if support < needed:
            return None, f"may be {winners[0]}, but the text does not name its dose and outcome"
        if len(winners) > 1:
            return None, f"ambiguous: {len(winners)} results from rows print alike ({_some(winners)})"
        chance = max(derived.by_chance(what, value, half) for what in kinds)
        if not support and chance > _CHANCE:
            return None, f"may be {winners[0]}, but {chance:.1f} results print like this by chance"
        return winners[0], ""
    return None, ""


def _row_targets(claim: Claim) -> list[tuple[tuple[What, ...], float, float, int]]:
    """What a claim can be, in the order in which it is tried: kinds, value as a fraction, precision, support needed.

    A short number or one without a unit matches something in any larger study, so the text must say more.
    """
    percent = claim.value / 100, claim.half / 100
    short = 3 if claim.digits <= 1 else 2 if claim.digits < _ENOUGH_DIGITS else 0
    if claim.unit == "pp":
        return [(("difference",), *percent, 0)]
    if claim.unit == "%":
        return [(("rate",), *percent, short), (("difference",), *percent, short)]
    if claim.decimals <= 0:
        return [(("count", "rows"), claim.value, _EXACT, max(short, 1))]
    return [
        (("rate",), claim.value, claim.half, short),
        (("difference",), claim.value, claim.half, max(short, 2)),
        (("rate", "difference"), *percent, max(short, 2)),
    ]


def _both_signs(claim: Claim, derived: Derivations, what: What, value: float, half: float) -> list[Derived]:
    """A difference that is printed without a sign ("fell by 3.2 pp") may have either."""
    found = derived.near(what, value, half)
    signed = claim.text[0] in "+-−"
    return found if what != "difference" or signed or not value else found + derived.near(what, -value, half)


def _one_of_alike(found: list[Derived]) -> list[Derived]:
    """Every dose of an arm having n rows is one statement about the arm, not as many as there are doses."""
    kept: dict[tuple[object, ...], Derived] = {}
    for one in found:
        same = (one.what, one.source, one.group) if one.what == "rows" else (one,)
        kept.setdefault(same, one)
    return list(kept.values())


def _support(claim: Claim, one: Derived) -> int:
    """What the text says beyond the number: 2 for every dose of a result or its "k of n", 1 for its outcome."""
    words = _words(claim.about)
    outcome = _ITEM_WORDS if one.what == "rows" else _words(one.outcome)
    named = bool(one.doses) and claim.doses.issuperset(one.doses)
    pairs = zip(one.numbers[::2], one.numbers[1::2], strict=False)
    counted = one.what != "rows" and all(
        re.search(rf"\b{k}\s?(?:/|(?:out )?of)\s?{n}\b", claim.whole) for k, n in pairs
    )
    return 2 * (named or counted) + bool(outcome & words)


def _nearness(claim: Claim, one: Derived) -> int:
    """How many words of a result's file and group the text has: decides between results that print alike."""
    return min(9, len((_words(one.source) | _words(one.group)) & _words(claim.about)))


def _words(text: str) -> set[str]:
    return {word for word in re.split(r"[\W_]+", text.lower()) if len(word) > 2 and not word.isdigit()} - _COMMON


_COMMON = {"the", "and", "for", "with", "from", "jsonl", "json", "csv", "parquet", "results", "data", "rate", "value"}
_ITEM_WORDS = {"rows", "items", "questions", "samples", "prompts", "responses"}


def _from_values(claim: Claim, index: Index, names: Names) -> tuple[Leaf | None, str]:
    cited = set[str]().union(*(names.meant(cite) for cite in claim.cites))
    found = _matching_leaves(claim, index.near)
    inside = [leaf for leaf in found if leaf.path in cited]
    if len(inside) == 1:
        return inside[0], ""
    pool = inside or found
    if len(pool) > 1:
        return None, f"ambiguous: {len(pool)} stored values print alike ({_some(pool)})"
    if not pool:
        return None, f"not in the cited {', '.join(sorted(cited)[:_SHOWN])}" if cited else ""
    leaf = pool[0]
    aside = f"found here, not in the cited {', '.join(sorted(cited)[:_SHOWN])}" if cited else ""
    place = f"{leaf.path}: {leaf.where}"
    named = bool(_words(leaf.where) & _words(claim.about))
    short = claim.digits < _ENOUGH_DIGITS - (not _is_whole(claim))
    if short or (not named and not claim.unit and abs(abs(leaf.value) - abs(claim.value)) > 2 * claim.half):
        return None, f"may be {place}, but the number is short or scaled and the text does not name the file"
    scales = [(claim.value, claim.half), (claim.value / 100, claim.half / 100)][: 2 if claim.unit else 1]
    chance = sum(index.by_chance(value, 0.5 if _is_whole(claim) else half) for value, half in scales)
    if not named and chance > _CHANCE:
        return None, f"may be {place}, but {chance:.1f} values print like this by chance"
    return leaf, aside


def _is_whole(claim: Claim) -> bool:
    return not claim.unit and claim.decimals <= 0


def _matching_leaves(claim: Claim, near: Callable[[float, float], list[Leaf]]) -> list[Leaf]:
    whole = _is_whole(claim)
    signs = (1, -1) if claim.unit and claim.text[0] not in "+-−" and claim.value else (1,)
    found = [leaf for sign in signs for leaf in near(sign * claim.value, _EXACT if whole else claim.half)]
    if claim.unit or (not whole and not found):
        found += [leaf for sign in signs for leaf in near(sign * claim.value / 100, claim.half / 100)]
    return list(dict.fromkeys(found))


def _some(found: Sequence[Derived] | Sequence[Leaf]) -> str:
    shown = [str(one) if isinstance(one, Derived) else f"{one.path}: {one.where}" for one in found[:_SHOWN]]
    return ", ".join(shown) + (", ..." if len(found) > _SHOWN else "")
