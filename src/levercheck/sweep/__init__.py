"""Sweeps: arms, the cells that are run for them, and `levercheck.sweep(...)` to run them in memory."""

from __future__ import annotations

import sys
import types
from typing import Any


class _Room(types.ModuleType):
    """The room and its main verb share a name: calling the package runs a sweep."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from levercheck.sweep.run import run_sweep

        return run_sweep(*arguments, **options)


sys.modules[__name__].__class__ = _Room
