"""Judge labels on every item, gold on a random few: prediction-powered means and paired differences."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from levercheck.stats._checks import Floats, codes, finite
from levercheck.stats._scipy import two_sided_t
from levercheck.stats.estimate import Estimate, check_level
from levercheck.stats.means import fit_mean, t_estimate, unit_of_clusters


def ppi_mean(
    judged: npt.ArrayLike,
    gold: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    unit: str = "fraction",
    scale: float = 1.0,
    tuning: float | None = None,
    cluster_unit: str | None = None,
) -> Estimate:
    """Mean gold label of all items, from the judge's on all and gold on some; PPI++ (Angelopoulos et al.
    2023).

    ``judged``: ``float64 [items]``, complete. ``gold``: ``float64 [items]``, NaN where not labelled; the
    labelled items must be a random sample (per arm), or the result inherits their selection. With L the
    labelled and U the other items the estimate is lambda * mean_U(judged) + mean_L(gold - lambda * judged):
    unbiased for any lambda whatever the judge's errors. ``tuning`` fixes lambda; by default it is
    cov_L(gold, judged)/var(judged) divided by (1 + |L|/|U|), kept within 0..1. At 0 the judge is ignored,
    at 1 this is plain PPI.

    The variance sums each cluster's contributions from both parts; degrees of freedom are labelled units - 1.
    Fewer than two labelled units: no interval (none at all: not estimable). ``n`` counts all items.
    """
    level = check_level(level)
    values = finite(judged, "judged", 1)
    truth = np.asarray(gold, dtype=np.float64)
    if truth.shape != values.shape:
        raise ValueError(f"gold has shape {truth.shape}, judged {values.shape}")
    if np.isinf(truth).any():
        raise ValueError("gold has infinite entries")
    if tuning is not None and not 0 <= tuning <= 1:
        raise ValueError(f"tuning is {tuning}: it must lie in 0..1")
    n = len(values)
    label, count = (np.arange(n), n) if clusters is None else codes(clusters, n)
    kept = None if clusters is None else count
    name = unit_of_clusters(kept, cluster_unit)
    known = np.isfinite(truth)
    labelled = int(known.sum())
    method = "ppi++" if clusters is None else "cluster_ppi++"
    if labelled == 0:
        return Estimate(None, None, None, level, unit, n, method, kept, name, note="no gold labels")
    if labelled == n:
        note = "every item has a gold label: the judge is not used"
        estimate = t_estimate(fit_mean(truth, clusters), level, unit, method, scale, cluster_unit)
        return estimate if estimate.note else _with_note(estimate, note)
    weight = _tuning(values, truth, known) if tuning is None else tuning
    rest = weight * values[~known]
    rectifier = truth[known] - weight * values[known]
    value = float(rest.mean() + rectifier.mean())
    pull = np.empty(n)
    pull[~known] = (rest - rest.mean()) / len(rest)
    pull[known] = (rectifier - rectifier.mean()) / labelled
    sums = np.bincount(label, weights=pull, minlength=count)
    units = len(np.unique(label[known]))
    note = f"{labelled} gold labels, lambda {weight:.2f}"
    if units < 2:
        return Estimate(value * scale, None, None, level, unit, n, method, kept, name, note=f"{note}; too few")
    variance = units / (units - 1) * float(sums @ sums)
    if variance <= (1e-13 * max(1.0, abs(value))) ** 2 or float(np.ptp(rectifier)) == 0.0:
        note += "; the rectifier does not vary among the gold labels"
        return Estimate(value * scale, None, None, level, unit, n, method, kept, name, note=note)
    half = two_sided_t(level, units - 1) * variance**0.5
    low, high = sorted(((value - half) * scale, (value + half) * scale))
    return Estimate(value * scale, low, high, level, unit, n, method, kept, name, note=note)


def ppi_paired_difference(
    judged_after: npt.ArrayLike,
    judged_before: npt.ArrayLike,
    gold_after: npt.ArrayLike,
    gold_before: npt.ArrayLike,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    unit: str = "pp",
    scale: float = 100.0,
    tuning: float | None = None,
    cluster_unit: str | None = None,
) -> Estimate:
    """Mean change of the gold label over the same items, with :func:`ppi_mean` applied to per-item changes.

    All inputs ``float64 [items]``; an item counts as labelled when it has gold labels in *both* arms. A
    judge whose errors are the same in both arms cancels out; one whose errors shift with the dose is
    corrected.
    """
    after, before = finite(judged_after, "judged_after", 1), finite(judged_before, "judged_before", 1)
    if after.shape != before.shape:
        raise ValueError(f"lengths differ: judged_after {len(after)}, judged_before {len(before)}")
    change = np.asarray(gold_after, dtype=np.float64) - np.asarray(gold_before, dtype=np.float64)
    return ppi_mean(after - before, change, clusters, level, unit, scale, tuning, cluster_unit)


def _tuning(values: Floats, truth: Floats, known: npt.NDArray[np.bool_]) -> float:
    """Variance-minimising lambda, within 0..1 (Angelopoulos, Duchi and Zrnic 2023)."""
    labelled = int(known.sum())
    spread = float(values.var())
    if labelled < 2 or spread == 0.0:
        return 0.0
    covariance = float(np.cov(truth[known], values[known])[0, 1])
    return min(1.0, max(0.0, covariance / spread / (1 + labelled / (len(values) - labelled))))


def _with_note(estimate: Estimate, note: str) -> Estimate:
    return Estimate.from_dict(estimate.to_dict() | {"note": note})
