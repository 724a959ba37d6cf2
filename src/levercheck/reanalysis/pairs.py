"""Two arms on the same items: differences, flips, agreement, McNemar, sign flips, minimum detectable effects."""

from __future__ import annotations

from typing import Literal

import numpy as np

from levercheck.evidence.documents import Model
from levercheck.reanalysis.rates import count_of
from levercheck.reanalysis.registry import (
    NoParameters,
    Parts,
    dropped_note,
    estimator,
    from_samples,
    percentile,
    plain,
    scale_of,
)
from levercheck.reanalysis.selection import Floats, Labels, Selection
from levercheck.stats import (
    Estimate,
    bootstrap_means,
    cohen_kappa,
    flip_matrix,
    gwet_ac1,
    mcnemar,
    mde,
    mean,
    paired_difference,
    proportion,
    sign_flip,
    tost,
)
from levercheck.stats.specificity import Side


class DifferenceParameters(Model):
    """`score` is Tango's interval for yes/no outcomes; `bootstrap` resamples items (or clusters)."""

    interval: Literal["auto", "score", "t", "bootstrap", "none"] = "auto"


@estimator("paired_difference", DifferenceParameters)
def difference(selection: Selection, parameters: DifferenceParameters) -> Parts:
    """Mean of the first arm minus that of the second, item by item; pp for yes/no outcomes unless a unit is stated."""
    pairs = selection.pairs()
    spec = selection.spec
    binary = bool(np.isin(np.concatenate([pairs.first, pairs.second]), (0.0, 1.0)).all())
    unit = spec.unit or ("pp" if binary else "value")
    interval = parameters.interval
    if interval == "auto":
        interval = "score" if binary and unit in ("pp", "%", "fraction") else "t"
    if interval == "score":
        found = paired_difference(pairs.first, pairs.second, pairs.clusters, spec.level, unit, spec.cluster_unit)
        return {"difference": found}
    gap = pairs.first - pairs.second
    scale = scale_of(unit)
    if interval == "bootstrap":
        return {"difference": percentile(selection, gap, unit, scale, pairs.clusters, pairs.dropped)}
    if interval == "none":
        return {"difference": plain(selection, float(gap.mean()) * scale, unit, len(gap), "difference of means")}
    return {"difference": mean(gap, pairs.clusters, spec.level, unit, scale, spec.cluster_unit)}


@estimator("independent_difference")
def independent(selection: Selection, _parameters: NoParameters) -> Parts:
    """Mean of the first arm minus that of the second, each arm resampled on its own: no pairing is used.

    One generator draws all resamples of the first arm, then all of the second.
    """
    spec = selection.spec
    first, second = selection.two
    a, b = selection.values(first), selection.values(second)
    unit = spec.unit or "pp"
    rng = np.random.default_rng(spec.seed)
    means = []
    for values in (a, b):
        parts = []
        for start in range(0, spec.resamples, 250):
            rows = min(250, spec.resamples - start)
            parts.append(values[rng.integers(0, len(values), (rows, len(values)))].mean(axis=1))
        means.append(np.concatenate(parts))
    scale = scale_of(unit)
    value, n = float(a.mean() - b.mean()) * scale, len(a) + len(b)
    samples = (means[0] - means[1]) * scale
    return {"difference": from_samples(selection, value, samples, unit, n, method="independent_bootstrap_percentile")}


@estimator("mcnemar")
def mcnemar_test(selection: Selection, _parameters: NoParameters) -> Parts:
    """McNemar tests; parts `exact`, `mid`, `continuity` (p), `statistic`, `gained`, `lost`."""
    pairs = selection.pairs()
    found = mcnemar(pairs.first, pairs.second)
    n = found.n
    return {
        "exact": plain(selection, found.p_exact, "p", n, "mcnemar_exact"),
        "mid": plain(selection, found.p_mid, "p", n, "mcnemar_mid_p"),
        "continuity": plain(selection, found.p_continuity, "p", n, "mcnemar_continuity"),
        "statistic": plain(selection, found.statistic, "chi-square", n, "mcnemar_continuity"),
        "gained": count_of(selection, found.gained, n),
        "lost": count_of(selection, found.lost, n),
    }


@estimator("flips")
def flips(selection: Selection, _parameters: NoParameters) -> Parts:
    """Where yes/no outcomes went from the second arm (before) to the first (after).

    Parts `gained`, `lost`, `net`, `flipped`, `ratio` (gained to lost), `retained` (share of the yes kept) and
    `rescued` (share of the no turned).
    """
    pairs = selection.pairs()
    after, before = pairs.first == 1, pairs.second == 1
    n, gained, lost = len(after), int((after & ~before).sum()), int((~after & before).sum())
    yes = int(before.sum())
    level, unit = selection.spec.level, "fraction"
    return {
        "flipped": count_of(selection, gained + lost, n),
        "gained": count_of(selection, gained, n),
        "lost": count_of(selection, lost, n),
        "net": plain(selection, gained - lost, "items", n, "gained minus lost"),
        "ratio": plain(selection, gained / lost if lost else None, "ratio", gained + lost, "gained to lost"),
        "retained": proportion(yes - lost, yes, level, unit=unit),
        "rescued": proportion(gained, n - yes, level, unit=unit),
    }


class TransitionParameters(Model):
    """Labels before (second arm) and after (first arm)."""

    before: str
    after: str


@estimator("transition", TransitionParameters)
def transition(selection: Selection, parameters: TransitionParameters) -> Parts:
    """Items that went from one label (second arm) to another (first arm); parts `count`, `share`."""
    after, before = selection.labels()
    matrix = flip_matrix(before, after)
    moved = matrix.moved(parameters.before, parameters.after)
    left = int(matrix.counts[matrix.outcomes.index(parameters.before)].sum())
    share = proportion(moved, left, selection.spec.level)
    return {"count": count_of(selection, moved, matrix.n), "share": share}


@estimator("changed")
def changed(selection: Selection, _parameters: NoParameters) -> Parts:
    """Items whose column (a label, a response hash) differs between two arms; parts `count`, `rate`, `bowker`."""
    first, second = selection.labels()
    n = len(first)
    moved = sum(a != b for a, b in zip(first, second, strict=True))
    parts = {"count": count_of(selection, moved, n), "rate": proportion(moved, n, selection.spec.level)}
    if len(set(first) | set(second)) <= 20:
        test = flip_matrix(second, first).bowker()
        parts["bowker"] = plain(selection, test.p, "p", n, "bowker", test.note)
    return parts


@estimator("agreement")
def agreement(selection: Selection, _parameters: NoParameters) -> Parts:
    """Two rulers on the same items: parts `agreement` (Wilson), `kappa`, `ac1`."""
    pairs = selection.pairs()
    spec = selection.spec
    n = len(pairs.first)
    same = int((pairs.first == pairs.second).sum())
    options = {"clusters": pairs.clusters, "level": spec.level, "seed": spec.seed, "cluster_unit": spec.cluster_unit}
    resamples = min(spec.resamples, 2000)
    return {
        "agreement": proportion(same, n, spec.level, unit=spec.unit or "fraction"),
        "kappa": cohen_kappa(pairs.first, pairs.second, resamples=resamples, **options),  # type: ignore[arg-type]
        "ac1": gwet_ac1([pairs.first, pairs.second], [0.0, 1.0], resamples=resamples, **options),  # type: ignore[arg-type]
    }


class FlipTestParameters(Model):
    """`side` of the alternative."""

    side: Side = "greater"


@estimator("sign_flip", FlipTestParameters)
def sign_flip_test(selection: Selection, parameters: FlipTestParameters) -> Parts:
    """Sign-flip test of the paired difference; `resamples` flips. Parts `p`, `extreme`, `observed`."""
    pairs = selection.pairs()
    return sign_flip_parts(selection, pairs.first - pairs.second, pairs.clusters, parameters.side)


def sign_flip_parts(selection: Selection, gaps: Floats, clusters: Labels | None, side: Side) -> Parts:
    """p, extreme count and observed mean of a sign-flip test of per-item differences."""
    spec = selection.spec
    test = sign_flip(gaps, clusters, side, spec.resamples, spec.seed)
    units = None if clusters is None else test.units
    unit = spec.cluster_unit if units else None
    flips = None if test.exact else test.flips
    method = f"sign_flip({side})"
    p = Estimate(test.p, None, None, spec.level, "p", test.n, method, units, unit, test.seed, flips)
    return {
        "p": p,
        "extreme": plain(selection, test.extreme, "flips", test.n, "sign_flip"),
        "observed": plain(selection, test.observed, "value", test.n, "mean difference"),
    }


class MdeParameters(Model):
    """`error` of the difference: from the item differences (with `ddof`), or the spread of the bootstrap."""

    alpha: float = 0.05
    power: float = 0.8
    error: Literal["items", "bootstrap"] = "items"
    ddof: Literal[0, 1] = 1


@estimator("mde", MdeParameters)
def detectable(selection: Selection, parameters: MdeParameters) -> Parts:
    """Smallest paired difference that these items would detect: (z + z_power) times the standard error."""
    pairs = selection.pairs()
    unit = selection.spec.unit or "pp"
    gap, n = pairs.first - pairs.second, len(pairs.first)
    if parameters.error == "items":
        deviation = float(gap.std(ddof=parameters.ddof))
    else:
        spec = selection.spec
        deviation = float(bootstrap_means(gap, pairs.clusters, spec.resamples, spec.seed, spec.stream).std()) * n**0.5
    value = mde(deviation, n, parameters.alpha, parameters.power) * scale_of(unit)
    return {"mde": plain(selection, value, unit, n, f"mde({parameters.error})", dropped_note(pairs.dropped))}


class MarginParameters(Model):
    """`margin` in the unit of the estimate, on either side of zero."""

    margin: float
    alpha: float = 0.05


@estimator("equivalence", MarginParameters)
def equivalence(selection: Selection, parameters: MarginParameters) -> Parts:
    """Two one-sided tests that the paired difference lies within the margin; parts `p`, `difference`."""
    pairs = selection.pairs()
    unit = selection.spec.unit or "pp"
    gap, options = pairs.first - pairs.second, (parameters.alpha, unit, scale_of(unit), selection.spec.cluster_unit)
    test = tost(gap, parameters.margin, pairs.clusters, *options)
    return {"p": plain(selection, test.p, "p", len(gap), "tost"), "difference": test.interval}
