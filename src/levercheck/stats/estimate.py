"""The record in which every estimator reports: a number never travels without interval, unit and n."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

_ALWAYS = ("value", "low", "high")


@dataclass(frozen=True)
class Estimate:
    """A point estimate with its interval.

    ``None`` in ``value``, ``low`` or ``high`` means *not estimable*: it is never replaced by zero. ``low``
    and ``high`` are both present or both absent. ``n`` counts items; ``clusters`` counts the units that
    were treated as independent when those are groups of items, and ``cluster_unit`` says what they are
    ("passage", "prompt"). ``seed`` and ``resamples`` are set when the interval used random numbers.

    Raises ``ValueError`` for non-finite numbers, half an interval, a reversed interval, a level outside (0,
    1) or a negative ``n``.
    """

    value: float | None
    low: float | None
    high: float | None
    level: float
    unit: str
    n: int
    method: str
    clusters: int | None = None
    cluster_unit: str | None = None
    seed: int | None = None
    resamples: int | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        for name in _ALWAYS:
            number = getattr(self, name)
            if number is not None:
                number = float(number)
                if not math.isfinite(number):
                    raise ValueError(f"{name} is {number}: an estimate that does not exist is None, not {number}")
                object.__setattr__(self, name, number + 0.0)
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval needs both ends, or neither")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"interval is reversed: {self.low} > {self.high}")
        object.__setattr__(self, "level", check_level(self.level))
        for name in ("n", "clusters", "seed", "resamples"):
            count = getattr(self, name)
            if count is not None:
                object.__setattr__(self, name, int(count))
        if self.n < 0:
            raise ValueError(f"n is {self.n}: it cannot be negative")

    @property
    def has_value(self) -> bool:
        """Whether there is a point estimate, with or without an interval."""
        return self.value is not None

    @property
    def estimable(self) -> bool:
        """Whether both the point estimate and its interval exist: only then may a decision rest on it."""
        return self.value is not None and self.low is not None and self.high is not None

    @property
    def width(self) -> float | None:
        """Length of the interval, in the estimate's unit."""
        if self.low is None or self.high is None:
            return None
        return self.high - self.low

    def excludes(self, reference: float = 0.0) -> bool | None:
        """Whether the interval lies strictly on one side of ``reference``; ``None`` without an interval."""
        if self.low is None or self.high is None:
            return None
        return self.low > reference or self.high < reference

    def to_dict(self) -> dict[str, float | int | str | None]:
        """Plain JSON types; absent optional fields are left out, an absent value or bound is kept as null."""
        pairs = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: item for name, item in pairs if item is not None or name in _ALWAYS}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Estimate:
        """Inverse of :meth:`to_dict`; an unknown key or a missing required one is a ``ValueError``."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(record) - known)
        if unknown:
            raise ValueError(f"unknown estimate fields: {', '.join(unknown)}")
        missing = sorted({"value", "low", "high", "level", "unit", "n", "method"} - set(record))
        if missing:
            raise ValueError(f"estimate lacks fields: {', '.join(missing)}")
        return cls(**record)

    def __str__(self) -> str:
        counts = f"n={self.n}"
        if self.clusters is not None:
            noun = self.cluster_unit or "cluster"
            several = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
            counts += f", {self.clusters} {noun if self.clusters == 1 else several}"
        if self.value is None:
            reason = f": {self.note}" if self.note else ""
            return f"not estimable{reason} ({counts})"
        digits = 2 if self.unit.startswith(("pp", "%")) else 3
        sign = "+" if self.unit.startswith("pp") or "/" in self.unit or "difference" in self.unit else ""
        text = f"{_rounded(self.value, digits, sign)} {self.unit}"
        if self.low is None or self.high is None:
            return f"{text} [interval not estimable] ({counts})"
        return f"{text} [{_rounded(self.low, digits)}, {_rounded(self.high, digits)}] ({counts})"


def _rounded(number: float, digits: int, sign: str = "") -> str:
    """Fixed-point text; a value that rounds to zero carries no minus sign."""
    tidy = round(number, digits) + 0.0
    return f"{tidy:{sign}.{digits}f}"


def check_level(level: float) -> float:
    """``level`` as a float, or ``ValueError`` unless it lies strictly between 0 and 1."""
    level = float(level)
    if not 0.0 < level < 1.0:
        raise ValueError(f"level is {level}: it must lie strictly between 0 and 1")
    return level
