"""Randomisation tests that exchange the arms of items or clusters: one comparison, or the best of many."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, codes, finite
from levercheck.stats.specificity import Side, check_side

_CELLS = 250_000  # small enough for a processor's cache: twice as fast as 4 million, and the same numbers
_EXACT_UNITS = 16


@dataclass(frozen=True)
class SignFlip:
    """A sign-flip test: the observed mean, how many flips reached it, and p.

    ``p`` = (extreme + 1)/(flips + 1) for random flips; ``extreme``/``flips`` when all 2^units were
    enumerated (the observed arrangement is then one of them).
    """

    observed: float
    p: float
    extreme: int
    flips: int
    exact: bool
    side: str
    n: int
    units: int
    seed: int | None

    def to_dict(self) -> dict[str, float | int | str | bool | None]:
        """Plain JSON types."""
        return asdict(self)


def sign_flip(
    differences: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    side: Side = "greater",
    flips: int = 50_000,
    seed: int = 43,
) -> SignFlip:
    """Test that the mean of paired differences ``float64 [items]`` is zero by exchanging the two arms.

    Exchanging arms within an item (or within all items of a cluster) multiplies its differences by -1 with
    probability one half, which is valid when the arms are exchangeable under the null (Phipson and Smyth
    2010 for the +1). Random numbers: ``default_rng(seed).random(units)`` per flip, below 1/2 flips. Up to
    16 units with 2^units <= ``flips`` all arrangements are enumerated instead. Two-sided compares absolute
    means.
    """
    check_side(side)
    values = finite(differences, "differences", 1)
    n = len(values)
    if n == 0:
        raise ValueError("no differences to permute")
    if flips < 1:
        raise ValueError(f"{flips} flips")
    label, units = (np.arange(n), n) if clusters is None else codes(clusters, n)
    sums = np.bincount(label, weights=values, minlength=units)
    total = float(sums.sum())
    reach = {"greater": total, "less": -total, "two-sided": abs(total)}[side]
    reach -= 1e-12 * float(np.abs(sums).sum())
    exact = units <= _EXACT_UNITS and 2**units <= flips
    extreme = 0
    for signs in _all_signs(units) if exact else _random_signs(units, flips, seed):
        drawn = signs @ sums
        drawn = {"greater": drawn, "less": -drawn, "two-sided": np.abs(drawn)}[side]
        extreme += int((drawn >= reach).sum())
    done = 2**units if exact else flips
    p = extreme / done if exact else (extreme + 1) / (done + 1)
    return SignFlip(total / n, p, extreme, done, exact, side, n, units, None if exact else seed)


@dataclass(frozen=True)
class MaxStatistic:
    """Westfall-Young results: the standardised statistic and the adjusted p-value of every component.

    ``single_step`` compares each component with the best of all; ``step_down`` is at least as powerful and
    is the one to report. Both control the family-wise error whatever the dependence between components.
    """

    statistic: Floats
    single_step: Floats
    step_down: Floats
    flips: int
    seed: int

    @property
    def best(self) -> int:
        """Index of the component with the largest statistic."""
        return int(np.argmax(self.statistic))


def westfall_young(
    differences: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    side: Side = "greater",
    flips: int = 10_000,
    seed: int = 43,
) -> MaxStatistic:
    """Sign-flip max-statistic test of many components at once (Westfall and Young 1993).

    ``differences``: ``float64 [items, components]``, paired differences of each component on the same
    items. Every flip exchanges the arms of an item for all components together, so their dependence is
    kept. The statistic is the total over the root of the sum of squared unit totals, a monotone function of
    Student's t; a component without any difference has statistic 0 and p = 1. p = (k + 1)/(flips + 1).
    """
    check_side(side)
    table = finite(differences, "differences", 2)
    n, components = table.shape
    if n == 0 or components == 0:
        raise ValueError(f"differences have shape {table.shape}: nothing to test")
    label, units = (np.arange(n), n) if clusters is None else codes(clusters, n)
    sums = np.zeros((units, components))
    np.add.at(sums, label, table)
    size = np.sqrt((sums**2).sum(axis=0))
    sums = np.divide(sums, size, out=np.zeros_like(sums), where=size > 0)
    observed = _oriented(sums.sum(axis=0), side)
    order = np.argsort(-observed, kind="stable")
    reach = observed - 1e-12
    single, down = np.zeros(components), np.zeros(components)
    for signs in _random_signs(units, flips, seed, components):
        drawn = _oriented(signs @ sums, side)[:, order]
        successive = np.maximum.accumulate(drawn[:, ::-1], axis=1)[:, ::-1]
        down += (successive >= reach[order]).sum(axis=0)
        single += (successive[:, :1] >= reach).sum(axis=0)
    step = np.maximum.accumulate((down + 1) / (flips + 1))
    step_down = np.empty(components)
    step_down[order] = step
    return MaxStatistic(observed, (single + 1) / (flips + 1), step_down, flips, seed)


def _oriented(statistic: Floats, side: Side) -> Floats:
    if side == "two-sided":
        return np.abs(statistic)
    return statistic if side == "greater" else -statistic


def _random_signs(units: int, flips: int, seed: int, columns: int = 1) -> Iterator[Floats]:
    """Blocks of random signs ``float64 [block, units]``; one serial stream whatever the block size."""
    rng = np.random.default_rng(seed)
    block = max(1, _CELLS // max(units, columns))
    for start in range(0, flips, block):
        drawn = rng.random((min(block, flips - start), units))
        drawn -= 0.5
        yield np.copysign(1.0, drawn, out=drawn)


def _all_signs(units: int) -> Iterator[Floats]:
    bits = (np.arange(2**units)[:, None] >> np.arange(units)) & 1
    yield np.where(bits == 1, -1.0, 1.0)
