"""Rates corrected for a judge's measured errors (Rogan-Gladen), with both sources of uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

from levercheck.stats._scipy import two_sided_z
from levercheck.stats.estimate import Estimate, check_level
from levercheck.stats.proportions import PER_UNIT


@dataclass(frozen=True)
class JudgeErrors:
    """Gold-labelled rows under one judge: right calls among gold positives and among gold negatives.

    Raises ``ValueError`` for impossible counts.
    """

    true_positives: int
    positives: int
    true_negatives: int
    negatives: int

    def __post_init__(self) -> None:
        for right, total in ((self.true_positives, self.positives), (self.true_negatives, self.negatives)):
            if not 0 <= right <= total:
                raise ValueError(f"{right} right calls out of {total} is impossible")

    @property
    def sensitivity(self) -> float | None:
        """Share of gold positives called positive."""
        return self.true_positives / self.positives if self.positives else None

    @property
    def specificity(self) -> float | None:
        """Share of gold negatives called negative."""
        return self.true_negatives / self.negatives if self.negatives else None


def rogan_gladen(k: int, n: int, judge: JudgeErrors, level: float = 0.95, unit: str = "fraction") -> Estimate:
    """True rate behind ``k`` of ``n`` judged positive: (p + sp - 1)/(se + sp - 1), kept within 0..1.

    Interval after Lang and Reiczigel (2014): z^2/2 pseudo-items on either side of the judged rate and one
    on either side of sensitivity and specificity, then the delta method over all three with their skewness
    shift. It carries the uncertainty of the judged rows and of the gold rows, and assumes independent items
    and gold rows drawn at random within each true class.

    Not estimable: no rows, a gold class without rows, or sensitivity + specificity <= 1 (the judge is no
    better than a coin, whatever the rate). When the pseudo-counts alone push the sum to 1, the interval is
    the whole range.
    """
    level = check_level(level)
    if unit not in PER_UNIT:
        raise ValueError(f"unit {unit!r} is unknown: use {', '.join(PER_UNIT)}")
    if not 0 <= k <= n:
        raise ValueError(f"{k} positives out of {n} is impossible")
    method = "rogan_gladen_lang_reiczigel"
    se, sp = judge.sensitivity, judge.specificity
    note = None
    if n == 0:
        note = "no judged items"
    elif se is None or sp is None:
        note = f"gold rows: {judge.positives} positive, {judge.negatives} negative; both are needed"
    elif se + sp <= 1:
        note = f"sensitivity {se:.3f} + specificity {sp:.3f} <= 1: the judge carries no information"
    if se is None or sp is None or note is not None:
        return Estimate(None, None, None, level, unit, n, method, note=note)
    scale = PER_UNIT[unit]
    value = min(1.0, max(0.0, (k / n + sp - 1) / (se + sp - 1)))
    low, high = _lang_reiczigel(k, n, judge, two_sided_z(level))
    low, high = min(low, value), max(high, value)
    note = f"judge: sensitivity {se:.3f} of {judge.positives}, specificity {sp:.3f} of {judge.negatives}"
    return Estimate(scale * value, scale * low, scale * high, level, unit, n, method, note=note)


def rogan_gladen_difference(after: Estimate, before: Estimate, unit: str = "pp") -> Estimate:
    """Difference of two corrected rates whose gold rows are separate, by combining their intervals.

    Square-and-add of the distances from each value to its bounds (Newcombe 1998, method 10; Zou and Donner
    2008): it ignores the pairing of items, so it errs wide for arms over the same items; prefer
    :func:`~levercheck.stats.ppi_paired_difference` when gold labels exist in both arms. The inputs must
    share level and unit; the result is in ``unit``. Not estimable when either is not.
    """
    if (after.level, after.unit) != (before.level, before.unit):
        raise ValueError("the two rates differ in level or unit")
    if after.unit not in PER_UNIT or unit not in PER_UNIT:
        raise ValueError(f"units must be among {', '.join(PER_UNIT)}")
    scale = PER_UNIT[unit] / PER_UNIT[after.unit]
    n = min(after.n, before.n)
    parts = (after.value, after.low, after.high, before.value, before.low, before.high)
    if any(part is None for part in parts):
        return Estimate(None, None, None, after.level, unit, n, "rogan_gladen_mover", note=after.note or before.note)
    a, a_low, a_high, b, b_low, b_high = (float(part) for part in parts if part is not None)
    value = a - b
    low = value - math.hypot(a - a_low, b_high - b)
    high = value + math.hypot(a_high - a, b - b_low)
    return Estimate(scale * value, scale * low, scale * high, after.level, unit, n, "rogan_gladen_mover")


def _lang_reiczigel(k: int, n: int, judge: JudgeErrors, z: float) -> tuple[float, float]:
    z2 = z * z
    rows, gold_yes, gold_no = n + z2, judge.positives + 2, judge.negatives + 2
    p = (k + z2 / 2) / rows
    se = (judge.true_positives + 1) / gold_yes
    sp = (judge.true_negatives + 1) / gold_no
    youden = se + sp - 1
    if youden <= 0:
        return 0.0, 1.0
    rate = (p + sp - 1) / youden
    of_yes, of_no = se * (1 - se) / gold_yes, sp * (1 - sp) / gold_no
    shift = 2 * z2 * (rate * of_yes - (1 - rate) * of_no)
    half = z * math.sqrt(p * (1 - p) / rows + rate**2 * of_yes + (1 - rate) ** 2 * of_no) / youden
    return min(1.0, max(0.0, rate + shift - half)), max(0.0, min(1.0, rate + shift + half))
