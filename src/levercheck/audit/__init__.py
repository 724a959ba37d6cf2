"""Audits: labels, estimates, gates and `verify`, from rows alone; `levercheck.audit(...)` audits rows in memory."""

from __future__ import annotations

import sys
import types
from typing import Any


class _Room(types.ModuleType):
    """The room and its main verb share a name: calling the package runs an audit."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from levercheck.audit.derive import audit_rows

        return audit_rows(*arguments, **options)


sys.modules[__name__].__class__ = _Room
