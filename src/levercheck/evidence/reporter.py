"""How stages say how far they are, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Reporter(Protocol):
    """Where stages say how far they are."""

    def stage(self, title: str, total: int, unit: str) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage of `total` rows; the value yielded is called with every number of rows that got done."""
