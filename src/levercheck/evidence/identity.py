"""Whether two records of a model mean the same one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levercheck.errors import UsageError

IDENTITY = ("tokenizer", "weights", "revision", "architecture", "layers")
"""What must agree; the name may differ, and so may device, kernel and number format."""


def first_difference(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """The first part of the identity in which two recorded models differ, or None."""
    return next((name for name in IDENTITY if recorded.get(name) != found.get(name)), None)


def check_same_model(recorded: Mapping[str, Any], found: Mapping[str, Any], what: str) -> None:
    """UsageError when `found` is not the model that made `what` (e.g. "the answers")."""
    name = first_difference(recorded, found)
    if name is not None:
        raise UsageError(
            f"{what} came from {recorded.get('name')}, whose {name} differs from that of {found.get('name')}: load the "
            "model that made them"
        )
