"""Flip matrices: where each item's outcome went between two arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Ints
from levercheck.stats._scipy import chi2_upper


@dataclass(frozen=True)
class ChiSquare:
    """A chi-square test; ``p`` is ``None`` without degrees of freedom (nothing flipped). ``note`` names
    doubts.
    """

    statistic: float
    df: int
    p: float | None
    note: str | None = None


@dataclass(frozen=True)
class FlipMatrix:
    """Counts ``int64 [before, after]`` over the same ``outcomes`` (row: outcome before, column: after)."""

    outcomes: tuple[str, ...]
    counts: Ints

    @property
    def n(self) -> int:
        """Number of items."""
        return int(self.counts.sum())

    @property
    def flipped(self) -> int:
        """Items whose outcome changed."""
        return self.n - int(np.trace(self.counts))

    def net(self, outcome: str) -> int:
        """Items that came to ``outcome`` less items that left it."""
        index = self._index(outcome)
        return int(self.counts[:, index].sum() - self.counts[index].sum())

    def moved(self, before: str, after: str) -> int:
        """Items that went from ``before`` to ``after``."""
        return int(self.counts[self._index(before), self._index(after)])

    def retained(self, outcome: str) -> float | None:
        """Share of the items with ``outcome`` before that kept it; ``None`` when there were none."""
        index = self._index(outcome)
        total = int(self.counts[index].sum())
        return None if total == 0 else int(self.counts[index, index]) / total

    def bowker(self) -> ChiSquare:
        """Bowker's (1948) test of symmetry: flips go both ways equally between every two outcomes.

        Sum of (n_ij - n_ji)^2 / (n_ij + n_ji) over pairs of outcomes with any flip between them, and as
        many degrees of freedom. With two outcomes this is McNemar's test without correction.
        """
        upper = np.triu_indices(len(self.outcomes), 1)
        there, back = self.counts[upper].astype(float), self.counts.T[upper].astype(float)
        any_flip = there + back > 0
        df = int(any_flip.sum())
        if df == 0:
            return ChiSquare(0.0, 0, None, "nothing flipped")
        gap, total = (there - back)[any_flip], (there + back)[any_flip]
        statistic = float((gap**2 / total).sum())
        small = int((total < 10).sum())
        note = f"{small} of {df} outcome pairs have fewer than 10 flips: p is approximate" if small else None
        return ChiSquare(statistic, df, chi2_upper(statistic, df), note)

    def stuart_maxwell(self) -> ChiSquare:
        """Stuart (1955) and Maxwell's (1970) test that every outcome is as frequent after as before.

        Outcomes that nothing left or joined are put aside; degrees of freedom are the rank of the
        covariance of the marginal differences (outcomes in play less one, less one more for each separate
        group of outcomes).
        """
        counts = self.counts.astype(float)
        np.fill_diagonal(counts, 0.0)
        gap = counts.sum(axis=1) - counts.sum(axis=0)
        covariance = np.diag(counts.sum(axis=1) + counts.sum(axis=0)) - counts - counts.T
        df = int(np.linalg.matrix_rank(covariance)) if counts.any() else 0
        if df == 0:
            return ChiSquare(0.0, 0, None, "nothing flipped")
        statistic = float(gap @ np.linalg.pinv(covariance, hermitian=True) @ gap)
        note = f"only {self.flipped} flips: p is approximate" if self.flipped < 10 * df else None
        return ChiSquare(statistic, df, chi2_upper(statistic, df), note)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"outcomes": list(self.outcomes), "counts": self.counts.tolist()}

    def _index(self, outcome: str) -> int:
        if outcome not in self.outcomes:
            raise ValueError(f"outcome {outcome!r} is not one of {', '.join(self.outcomes)}")
        return self.outcomes.index(outcome)


def flip_matrix(before: npt.ArrayLike, after: npt.ArrayLike, outcomes: Sequence[str] | None = None) -> FlipMatrix:
    """Count outcome labels before against after, ``str [items]`` each.

    ``outcomes`` fixes the order of rows and columns (default: sorted labels); a label outside it, a missing
    label or unequal lengths is a ``ValueError``.
    """
    first, second = np.asarray(before).tolist(), np.asarray(after).tolist()
    if len(first) != len(second):
        raise ValueError(f"lengths differ: before {len(first)}, after {len(second)}")
    missing = sum(label is None or label != label for label in first + second)
    if missing:
        raise ValueError(f"{missing} outcomes are missing: give them a label of their own")
    seen = {str(label) for label in first + second}
    names = tuple(sorted(seen)) if outcomes is None else tuple(outcomes)
    unknown = sorted(seen - set(names))
    if unknown:
        raise ValueError(f"unknown outcomes: {', '.join(unknown)}")
    if len(set(names)) != len(names):
        raise ValueError("an outcome is listed twice")
    index = {name: position for position, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for one, other in zip(first, second, strict=True):
        counts[index[str(one)], index[str(other)]] += 1
    return FlipMatrix(names, counts)
