"""Groups of items and pairs of columns: rank tests, contingency tables, rank correlation."""

from __future__ import annotations

from itertools import combinations
from typing import Literal

import numpy as np
import polars as pl

from levercheck.errors import UsageError
from levercheck.evidence.documents import Model
from levercheck.reanalysis.registry import Parts, estimator, from_samples, plain
from levercheck.reanalysis.selection import VALUE, Floats, Selection
from levercheck.reanalysis.spec import Measure
from levercheck.stats import proportion, spearman
from levercheck.stats.resampling import weight_draws


class GroupParameters(Model):
    """`by` is the column of groups."""

    by: str


def _groups(selection: Selection, by: str) -> dict[str, Floats]:
    rows = selection.measured(selection.rows())
    selection.column(rows, by)
    names = sorted(str(name) for name in rows[by].drop_nulls().unique())
    if len(names) < 2:
        raise UsageError(f"{selection.where}: '{by}' holds {len(names)} group, expected two or more")
    return {name: rows.filter(pl.col(by).cast(pl.String) == name)[VALUE].to_numpy() for name in names}


@estimator("kruskal", GroupParameters)
def kruskal(selection: Selection, parameters: GroupParameters) -> Parts:
    """Kruskal-Wallis over the groups (`p`, `statistic`), and every pair by two-sided Mann-Whitney.

    Pairs are parts `A vs B` (p times the number of pairs, at most 1) and `effect A vs B` (rank-biserial).
    """
    import scipy.stats

    groups = _groups(selection, parameters.by)
    n = sum(len(values) for values in groups.values())
    whole = scipy.stats.kruskal(*groups.values())
    parts = {
        "p": plain(selection, float(whole.pvalue), "p", n, "kruskal_wallis"),
        "statistic": plain(selection, float(whole.statistic), "H", n, "kruskal_wallis"),
    }
    pairs = list(combinations(groups, 2))
    for first, second in pairs:
        a, b = groups[first], groups[second]
        test = scipy.stats.mannwhitneyu(a, b, alternative="two-sided")
        p = min(1.0, float(test.pvalue) * len(pairs))
        effect = 1 - 2 * float(test.statistic) / (len(a) * len(b))
        size = len(a) + len(b)
        parts[f"{first} vs {second}"] = plain(selection, p, "p", size, f"mann_whitney, Bonferroni x{len(pairs)}")
        parts[f"effect {first} vs {second}"] = plain(selection, effect, "rank-biserial", size, "mann_whitney")
    return parts


class ChiSquareParameters(Model):
    """Two columns; values of the first with fewer than `least` rows are left out."""

    rows: str
    columns: str
    least: int = 0


@estimator("chi_square", ChiSquareParameters)
def chi_square(selection: Selection, parameters: ChiSquareParameters) -> Parts:
    """Independence of two columns: parts `p`, `statistic`, `cramers_v`."""
    import scipy.stats

    rows = selection.rows()
    for column in (parameters.rows, parameters.columns):
        selection.column(rows, column)
    counts = rows.group_by(parameters.rows, parameters.columns).len()
    table = counts.pivot(on=parameters.columns, index=parameters.rows, values="len").fill_null(0)
    numbers = table.drop(parameters.rows).to_numpy().astype(np.float64)
    kept = numbers[numbers.sum(axis=1) >= parameters.least]
    kept = kept[:, kept.sum(axis=0) > 0]
    if min(kept.shape, default=0) < 2:
        raise UsageError(f"{selection.where}: the table has shape {kept.shape}, expected two or more on each side")
    found = scipy.stats.chi2_contingency(kept)
    n = int(kept.sum())
    v = float(np.sqrt(found.statistic / (n * (min(kept.shape) - 1))))
    left = len(numbers) - len(kept)
    note = f"{left} values of '{parameters.rows}' with fewer than {parameters.least} rows left out" if left else None
    return {
        "p": plain(selection, float(found.pvalue), "p", n, "chi_square", note),
        "statistic": plain(selection, float(found.statistic), "chi-square", n, "chi_square", note),
        "cramers_v": plain(selection, v, "V", n, "cramers_v", note),
    }


class CorrelationParameters(Model):
    """`with` which column the measure is correlated."""

    other: str
    interval: Literal["fisher", "bootstrap"] = "fisher"


@estimator("spearman", CorrelationParameters)
def correlation(selection: Selection, parameters: CorrelationParameters) -> Parts:
    """Spearman rank correlation of the measure with another column over items; rows lacking either are left out."""
    rows = selection.ordered(selection.rows())
    names = (selection.measure.column, parameters.other)
    for name in names:
        selection.column(rows, name)
    kept = rows.drop_nulls(list(names))
    if len(kept) < len(rows) and selection.spec.missing != "drop":
        raise UsageError(
            f"{selection.where}: {len(rows) - len(kept)} of {len(rows)} rows lack one of the two columns: missing: drop"
        )
    x = selection.measured(kept)[VALUE].to_numpy().astype(np.float64)
    y = selection.measured(kept, Measure(column=parameters.other))[VALUE].to_numpy().astype(np.float64)
    found = spearman(x, y, selection.spec.level)
    if parameters.interval == "fisher" or found.value is None:
        return {"rho": found}
    spec = selection.spec
    draws = weight_draws(len(x), spec.resamples, spec.seed, spec.stream)
    samples = np.concatenate([weighted_spearman(weights, x, y) for weights in draws])
    return {"rho": from_samples(selection, found.value, samples, "rho", len(x))}


def weighted_spearman(weights: Floats, x: Floats, y: Floats) -> Floats:
    """Spearman correlation when item i occurs `weights[r, i]` times, `float64 [resamples]`; NaN when constant."""
    total = weights.sum(axis=1)
    middle = ((total + 1) / 2)[:, None]
    a, b = _ranks(weights, x) - middle, _ranks(weights, y) - middle
    left, right = weights * a, weights * b
    top = np.einsum("ri,ri->r", left, b)
    scale = np.sqrt(np.einsum("ri,ri->r", left, a) * np.einsum("ri,ri->r", right, b))
    return np.asarray(np.divide(top, scale, out=np.full(len(top), np.nan), where=scale > 0))


def _ranks(weights: Floats, values: Floats) -> Floats:
    """Average ranks of every item in every resample, `float64 [resamples, items]`."""
    _, code = np.unique(values, return_inverse=True)
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    sums = np.add.reduceat(weights[:, order], starts, axis=1)
    return np.asarray((np.cumsum(sums, axis=1) - (sums - 1) / 2)[:, code])


@estimator("concordance")
def concordance(selection: Selection, _parameters: object) -> Parts:
    """Graded scores of two arms on the same items: `spearman`, `pearson`, `exact` share, `mean_gap` (absolute)."""
    pairs = selection.pairs()
    a, b, n = pairs.first, pairs.second, len(pairs.first)
    varies = n > 1 and float(np.ptp(a)) > 0 and float(np.ptp(b)) > 0
    pearson = float(np.corrcoef(a, b)[0, 1]) if varies else None
    return {
        "spearman": spearman(a, b, selection.spec.level),
        "pearson": plain(selection, pearson, "r", n, "pearson"),
        "exact": proportion(int((a == b).sum()), n, selection.spec.level),
        "mean_gap": plain(selection, float(np.abs(a - b).mean()), "value", n, "mean absolute difference"),
    }


@estimator("wilcoxon")
def wilcoxon(selection: Selection, _parameters: object) -> Parts:
    """Wilcoxon signed-rank test of two arms (`p`), with Cohen's d of the paired difference (`d`)."""
    import scipy.stats

    pairs = selection.pairs()
    gap, n = pairs.first - pairs.second, len(pairs.first)
    deviation = float(gap.std(ddof=1)) if n > 1 else 0.0
    if not gap.any():
        return {"p": plain(selection, 1.0, "p", n, "wilcoxon", "no item differs")}
    test = scipy.stats.wilcoxon(gap)
    d = float(gap.mean()) / deviation if deviation else None
    return {
        "p": plain(selection, float(test.pvalue), "p", n, "wilcoxon"),
        "d": plain(selection, d, "d", n, "mean over sd(ddof=1) of differences"),
    }
