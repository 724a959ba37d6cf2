"""Errors a user can act on: one line each, with the exit code the command line returns.

| code | meaning |
|---|---|
| 0 | done |
| 1 | a check failed (`verify` found a difference) |
| 2 | the request was wrong: unknown option, model, category, or a directory that cannot be used |
| 3 | something has to be fetched or installed first |
| 4 | not enough data for the question that was asked |
| 5 | stored data are damaged |
| 130 | interrupted; what was finished is kept and the same command continues |
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LevercheckError(Exception):
    """Base of every error that is the user's to solve; the message says what was got, expected and what to do."""

    exit_code = 2


class UsageError(LevercheckError):
    """The request itself is wrong."""

    exit_code = 2


class MissingError(LevercheckError):
    """A model, package or file has to be fetched or installed first."""

    exit_code = 3


class NotEnoughDataError(LevercheckError):
    """Too few items for the analysis that was asked for."""

    exit_code = 4


class IntegrityError(LevercheckError):
    """Stored bytes do not match their recorded digest, or a file cannot be read."""

    exit_code = 5


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the closest valid word, or the list of valid words."""
    options = sorted(valid)
    match = difflib.get_close_matches(word, options, n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else f" (valid: {', '.join(options)})"
