"""Ids of items: from the text, where rows of a data set move between its releases, and never the same for two rows."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

from levercheck.benchmarks.base import Item
from levercheck.errors import UsageError


def text_id(prefix: str, text: str) -> str:
    """`PREFIX-` and 12 hex digits of the sha256 of the text in NFC and lower case, with single spaces."""
    key = " ".join(unicodedata.normalize("NFC", text).lower().split())
    return f"{prefix}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def distinct(placed: Iterable[tuple[str, Item]]) -> list[Item]:
    """The items of (place, item) pairs; `UsageError` with both places where an id comes twice."""
    places: dict[str, str] = {}
    items = []
    for place, item in placed:
        if item.id in places:
            raise UsageError(f"{place}: the id '{item.id}' is also that of {places[item.id]}: keep one of the two rows")
        places[item.id] = place
        items.append(item)
    return items
