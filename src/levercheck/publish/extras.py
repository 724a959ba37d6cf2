"""The optional packages that drawing needs, asked for only when something is drawn."""

from __future__ import annotations

from importlib.util import find_spec

from levercheck.errors import MissingError

REPORT = ("altair", "vl_convert", "jinja2")


def require(*modules: str) -> None:
    """Raise MissingError, in one line, when any of `modules` is not installed."""
    absent = [module for module in modules if find_spec(module) is None]
    if absent:
        raise MissingError(f"the report needs {', '.join(absent)}: run pip install 'levercheck[report]'")
