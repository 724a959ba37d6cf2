"""Area under the ROC curve of one readout, and the difference between two readouts on the same items."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Bools, Floats, boolean, codes, finite, same_length
from levercheck.stats._scipy import two_sided_t, two_sided_z
from levercheck.stats.estimate import Estimate, check_level
from levercheck.stats.means import unit_of_clusters
from levercheck.stats.proportions import exact_bounds


@dataclass(frozen=True)
class Placements:
    """Placement values of one score vector.

    ``positive`` ``float64 [positives]``: share of negatives that each positive outranks (ties 1/2);
    ``negative`` ``float64 [negatives]``: share of positives that outrank each negative. Both average to
    ``area``.
    """

    area: float
    positive: Floats
    negative: Floats


def placements(scores: Floats, labels: Bools) -> Placements:
    """Placement values in O(n log n) time; both classes must be present."""
    positive, negative = scores[labels], scores[~labels]
    above = _share_below(positive, negative)
    below = 1.0 - _share_below(negative, positive)
    return Placements(float(above.mean()), above, below)


def _share_below(points: Floats, reference: Floats) -> Floats:
    """Share of ``reference`` below each point, ties counting one half."""
    ordered = np.sort(reference)
    left = np.searchsorted(ordered, points, side="left")
    right = np.searchsorted(ordered, points, side="right")
    return np.asarray((left + right) / (2 * len(ordered)), dtype=np.float64)


def auroc(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    cluster_unit: str | None = None,
) -> Estimate:
    """P(score of a positive > score of a negative), ties one half, for ``float64 [items]`` and ``bool
    [items]``.

    Variance after DeLong, DeLong and Clarke-Pearson (1988); with ``clusters`` the non-parametric clustered
    version of Obuchowski (1997), which allows positives and negatives in one cluster. The interval is
    symmetric on the logit scale, with a normal critical value (Student's t with G - 1 degrees of freedom
    when clustered).

    At an area of exactly 0 or 1 the variance is zero; the interval is then the exact binomial one for m out
    of m, m being the most positive-negative pairs that share no item (no cluster). It is conservative: a
    perfect ranking implies m disjoint, independent pairs all ranked rightly, whose probability is area^m.

    A missing class is not estimable; a single positive or negative unit, or scores that are all tied, leave
    the interval empty with a note. Raises ``ValueError`` for missing scores or unequal lengths.
    """
    level = check_level(level)
    values, truth = finite(scores, "scores", 1), boolean(labels, "labels")
    n = same_length(scores=values, labels=truth)
    label, count = _cluster_codes(clusters, n)
    method = "delong_logit" if count is None else "obuchowski_logit"
    name = unit_of_clusters(count, cluster_unit)

    def report(value: float | None, low: float | None, high: float | None, note: str | None) -> Estimate:
        return Estimate(value, low, high, level, "AUROC", n, method, count, name, note=note)

    missing = _missing_class(truth)
    if missing is not None:
        return report(None, None, None, missing)
    place = placements(values, truth)
    positives = len(np.unique(label[truth]))
    negatives = len(np.unique(label[~truth]))
    if place.area in (0.0, 1.0):
        m = _disjoint_units(label, truth)
        if m == 0:
            return report(place.area, None, None, "one cluster only")
        low, high = exact_bounds(place.area * m, m, level)
        return report(place.area, low, high, f"complete separation: exact bound from {m} disjoint pairs")
    variance = placement_covariance(place, place, label, truth)
    if variance is None:
        return report(place.area, None, None, f"{positives} positive and {negatives} negative units: too few")
    if variance <= 1e-28:
        return report(place.area, None, None, "no variation in placements (are all scores tied?)")
    critical = two_sided_z(level) if count is None else two_sided_t(level, count - 1)
    half = critical * math.sqrt(variance) / (place.area * (1 - place.area))
    centre = math.log(place.area / (1 - place.area))
    return report(place.area, _expit(centre - half), _expit(centre + half), None)


def auroc_difference(
    scores_a: npt.ArrayLike,
    scores_b: npt.ArrayLike,
    labels: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    cluster_unit: str | None = None,
) -> Estimate:
    """AUROC of ``scores_a`` minus AUROC of ``scores_b`` over the same items, with a paired (clustered)
    interval.

    The variance is that of the per-item differences of placement values (DeLong 1988; clustered: Obuchowski
    1997), which takes the correlation of the two readouts into account. Symmetric interval, cut at -1 and
    1. The missing class and too-few-units rules are those of :func:`auroc`; readouts that rank every pair
    alike give a difference without an interval and a note.
    """
    level = check_level(level)
    first, second = finite(scores_a, "scores_a", 1), finite(scores_b, "scores_b", 1)
    truth = boolean(labels, "labels")
    n = same_length(scores_a=first, scores_b=second, labels=truth)
    label, count = _cluster_codes(clusters, n)
    method = "delong_paired" if count is None else "obuchowski_paired"
    name = unit_of_clusters(count, cluster_unit)

    def report(value: float | None, low: float | None, high: float | None, note: str | None) -> Estimate:
        return Estimate(value, low, high, level, "AUROC difference", n, method, count, name, note=note)

    missing = _missing_class(truth)
    if missing is not None:
        return report(None, None, None, missing)
    a, b = placements(first, truth), placements(second, truth)
    gap = Placements(a.area - b.area, a.positive - b.positive, a.negative - b.negative)
    variance = placement_covariance(gap, gap, label, truth)
    if variance is None:
        return report(gap.area, None, None, "too few positive or negative units")
    if variance <= 1e-28:
        return report(gap.area, None, None, "no variation: the two readouts differ alike on every item")
    critical = two_sided_z(level) if count is None else two_sided_t(level, count - 1)
    half = critical * math.sqrt(variance)
    return report(gap.area, max(-1.0, gap.area - half), min(1.0, gap.area + half), None)


def placement_covariance(
    first: Placements, second: Placements, label: npt.NDArray[np.int64], truth: Bools
) -> float | None:
    """Covariance of two areas over the same items (Obuchowski 1997); every item its own cluster:
    DeLong.

    ``label`` ``int64 [items]``: cluster codes 0..G-1. ``None`` with fewer than two positive or negative
    clusters.
    """
    groups = int(label.max()) + 1
    sums = []
    for place in (first, second):
        positive = np.bincount(label[truth], weights=place.positive - place.area, minlength=groups)
        negative = np.bincount(label[~truth], weights=place.negative - place.area, minlength=groups)
        sums.append((positive, negative))
    with_positive = len(np.unique(label[truth]))
    with_negative = len(np.unique(label[~truth]))
    if with_positive < 2 or with_negative < 2:
        return None
    m, n = int(truth.sum()), int((~truth).sum())
    (p1, q1), (p2, q2) = sums
    result = with_positive / (with_positive - 1) * float(p1 @ p2) / m**2
    result += with_negative / (with_negative - 1) * float(q1 @ q2) / n**2
    result += groups / (groups - 1) * float(p1 @ q2 + q1 @ p2) / (m * n)
    return result


def _cluster_codes(clusters: npt.ArrayLike | None, n: int) -> tuple[npt.NDArray[np.int64], int | None]:
    return (np.arange(n), None) if clusters is None else codes(clusters, n)


def _missing_class(truth: Bools) -> str | None:
    positives = int(truth.sum())
    if positives == 0 or positives == len(truth):
        return f"one class is missing: {positives} positives, {len(truth) - positives} negatives"
    return None


def _disjoint_units(label: npt.NDArray[np.int64], truth: Bools) -> int:
    """Most positive-negative pairs across clusters that use every cluster at most once."""
    positive, negative = set(label[truth].tolist()), set(label[~truth].tolist())
    return min(len(positive), len(negative), len(positive | negative) // 2)


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
