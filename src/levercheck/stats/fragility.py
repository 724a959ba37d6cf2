"""The smallest change of the data that would undo a conclusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Ints, boolean, codes, finite, same_length
from levercheck.stats.means import fit_mean, t_estimate
from levercheck.stats.paired import tango_bounds


@dataclass(frozen=True)
class Fragility:
    """How little undoes "the interval excludes zero".

    ``count``: labels to flip, or items (clusters) to drop; 0 when the conclusion does not hold to begin
    with, ``None`` when nothing short of everything undoes it. ``of``: how many there are. ``share`` = count
    / of. ``reverses``: how many would turn the point estimate's sign instead. ``kind`` says what is
    counted.
    """

    kind: str
    count: int | None
    of: int
    reverses: int | None
    note: str | None = None

    @property
    def share(self) -> float | None:
        """``count`` as a share of all labels, items or clusters."""
        return None if self.count is None or self.of == 0 else self.count / self.of

    def to_dict(self) -> dict[str, float | int | str | None]:
        """Plain JSON types."""
        return asdict(self) | {"share": self.share}


def labels_to_flip(after: npt.ArrayLike, before: npt.ArrayLike, level: float = 0.95) -> Fragility:
    """Fewest ``after`` labels that must be wrong for the paired difference to lose its sign claim.

    The claim is that Tango's interval of ``bool [items]`` after against before excludes zero. Against a
    gain, a label can be flipped to undo a gain or to turn an unchanged yes into a loss; every mix is tried.
    Related to the fragility index (Walsh et al. 2014), for paired data.
    """
    first, second = boolean(after, "after"), boolean(before, "before")
    n = same_length(after=first, before=second)
    gained, lost = int((first & ~second).sum()), int((~first & second).sum())
    stay_yes, stay_no = int((first & second).sum()), int((~first & ~second).sum())
    kind = "labels"
    if n == 0 or gained == lost:
        return Fragility(kind, 0, n, 0, "there is no difference")
    room = stay_yes if gained > lost else stay_no
    many, few = max(gained, lost), min(gained, lost)

    def holds(undone: int, turned: int) -> bool:
        return tango_bounds(many - undone, few + turned, n, level)[0] > 0

    reverses = many - few + 1
    if not holds(0, 0):
        return Fragility(kind, 0, n, reverses if reverses <= many + room else None, "not established to begin with")
    count = _fewest(many + room, lambda k: any(not holds(k - t, t) for t in _splits(k, many, room)))
    return Fragility(kind, count, n, reverses if reverses <= many + room else None)


def items_to_drop(values: npt.ArrayLike, clusters: npt.ArrayLike | None = None, level: float = 0.95) -> Fragility:
    """Fewest items (or whole clusters) whose removal makes the mean of ``float64 [items]`` lose its sign
    claim.

    The claim is that the (cluster-robust) Student interval excludes zero. Units are removed in order of
    their pull on the mean (sum of value), which is exact for reversing the sign and a close upper bound for
    the claim (Broderick, Giordano and Meager 2020). At least two units are always kept.
    """
    array = finite(values, "values", 1)
    n = len(array)
    label, count = (np.arange(n), n) if clusters is None else codes(clusters, n)
    kind = "items" if clusters is None else "clusters"

    def holds(keep: npt.NDArray[np.bool_]) -> bool | None:
        part = array[keep]
        fit = fit_mean(part, None if clusters is None else label[keep])
        interval = t_estimate(fit, level, "value", "t")
        return interval.excludes(0.0)

    whole = holds(np.ones(n, dtype=np.bool_)) if n else None
    if not whole:
        note = "interval not estimable" if whole is None else "not established to begin with"
        return Fragility(kind, 0, count, None, note)
    sums = np.bincount(label, weights=array, minlength=count)
    sign = 1.0 if array.mean() > 0 else -1.0
    order: Ints = np.argsort(-sign * sums, kind="stable")
    left = sign * (sums.sum() - np.cumsum(sums[order]))
    reversing = np.flatnonzero(left[:-1] < 0)
    dropped = np.zeros(count, dtype=np.bool_)
    for size, unit in enumerate(order[: count - 2].tolist(), start=1):
        dropped[unit] = True
        if holds(~dropped[label]) is False:
            return Fragility(kind, size, count, int(reversing[0]) + 1 if len(reversing) else None)
    return Fragility(kind, None, count, int(reversing[0]) + 1 if len(reversing) else None)


def _splits(k: int, many: int, room: int) -> range:
    """How many of k flips may turn unchanged labels, the rest undoing gains."""
    return range(max(0, k - many), min(k, room) + 1)


def _fewest(most: int, undone: Callable[[int], bool]) -> int | None:
    """Smallest k in 1..most with ``undone(k)``, which stays true once true."""
    if most < 1 or not undone(most):
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if undone(middle) else (middle, high)
    return high
