"""A detector or a judge against known labels: accuracy, precision, recall, F1, AUROC, and their intervals."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

import numpy as np

from levercheck.errors import UsageError
from levercheck.evidence.documents import Model
from levercheck.reanalysis.rates import count_of
from levercheck.reanalysis.registry import Parts, estimator, from_samples, plain
from levercheck.reanalysis.selection import VALUE, Floats, Labels, Selection
from levercheck.reanalysis.spec import Measure
from levercheck.stats import Estimate, auroc, auroc_difference, proportion
from levercheck.stats.resampling import weight_draws

METRICS = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auroc")


class ClassifierParameters(Model):
    """`truth` is the known label; the measure is a score (cut at `threshold`) or already a yes/no prediction.

    `resample`: `stratified` draws positives, then negatives, each at its own number; `items` draws rows; `clusters`
    draws whole clusters of the spec's `clusters` column. `convention: order_statistics` draws clusters with Python's
    own generator over sorted names and takes order statistics as bounds.
    """

    truth: Measure = Measure(column="gold")
    threshold: float = 0.5
    interval: Literal["bootstrap", "analytic"] = "bootstrap"
    resample: Literal["stratified", "items", "clusters"] = "stratified"
    convention: Literal["percentile", "order_statistics"] = "percentile"


@estimator("classifier", ClassifierParameters)
def classifier(selection: Selection, parameters: ClassifierParameters) -> Parts:
    """Parts: each metric, and the counts `true_positives`, `false_positives`, `true_negatives`, `false_negatives`.

    A ratio without anything in its denominator is 0 within a resample, and not estimable as a value.
    """
    rows = selection.ordered(selection.rows())
    scored = selection.measured(rows)
    known = selection.measured(rows, parameters.truth)[VALUE].to_numpy()
    scores = scored[VALUE].to_numpy().astype(np.float64)
    if len(scored) != len(rows) or len(known) != len(rows):
        raise UsageError(f"{selection.where}: rows without a score or a label must be filtered out first")
    truth, said = known == 1, scores >= parameters.threshold
    n, spec = len(truth), selection.spec
    if parameters.convention == "order_statistics" and parameters.resample != "clusters":
        raise UsageError(f"{selection.where}: order_statistics is a convention for resample: clusters")
    if truth.all() or not truth.any():
        raise UsageError(f"{selection.where}: all {n} rows have the same label: both are needed")
    counts = {
        "true_positives": int((truth & said).sum()),
        "false_positives": int((~truth & said).sum()),
        "true_negatives": int((~truth & ~said).sum()),
        "false_negatives": int((truth & ~said).sum()),
    }
    groups = np.unique(scores, return_inverse=True)[1]
    points = metrics(np.ones((1, n)), truth, said, groups)
    parts: Parts = {}
    if parameters.interval == "analytic":
        parts["accuracy"] = proportion(counts["true_positives"] + counts["true_negatives"], n, spec.level)
        parts["recall"] = proportion(counts["true_positives"], int(truth.sum()), spec.level)
        parts["precision"] = proportion(counts["true_positives"], int(said.sum()), spec.level)
        clusters = selection.clusters(rows)
        parts["auroc"] = auroc(scores, truth, clusters, spec.level, spec.cluster_unit)
        for name in ("balanced_accuracy", "f1"):
            parts[name] = plain(selection, float(points[name][0]), name, n, name)
    else:
        drawn: dict[str, list[Floats]] = {name: [] for name in METRICS}
        for weights in _draws(selection, parameters, truth):
            for name, values in metrics(weights, truth, said, groups).items():
                drawn[name].append(values)
        clusters = selection.clusters(rows) if parameters.resample == "clusters" else None
        prefix = {"stratified": "stratified_", "items": "", "clusters": ""}[parameters.resample]
        method = f"{prefix}bootstrap_{parameters.convention}"
        for name in METRICS:
            samples, value = np.concatenate(drawn[name]), float(points[name][0])
            if parameters.convention == "order_statistics":
                parts[name] = _order_statistics(selection, value, samples, name, n, clusters)
            else:
                parts[name] = from_samples(selection, value, samples, name, n, clusters, method=method)
    return parts | {name: count_of(selection, value, n) for name, value in counts.items()}


def metrics(weights: Floats, truth: np.ndarray, said: np.ndarray, groups: np.ndarray) -> dict[str, Floats]:
    """Every metric for `float64 [resamples, items]` weights; `groups` ranks the scores, ties sharing a number."""
    table = np.column_stack([truth & said, ~truth & said, ~truth & ~said, truth & ~said]).astype(np.float64)
    tp, fp, tn, fn = (weights @ table).T

    def share(top: Floats, bottom: Floats) -> Floats:
        return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)

    recall, specificity = share(tp, tp + fn), share(tn, tn + fp)
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    ranked = weights[:, order]
    positive, negative = ranked * truth[order], ranked * ~truth[order]
    if len(starts) < len(order):
        positive, negative = np.add.reduceat(positive, starts, axis=1), np.add.reduceat(negative, starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = (tp + fn) * (tn + fp)
    area = np.divide(np.einsum("ri,ri->r", positive, below), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
    return {
        "accuracy": share(tp + tn, tp + fp + tn + fn),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": share(tp, tp + fp),
        "recall": recall,
        "f1": share(2 * tp, 2 * tp + fp + fn),
        "auroc": area,
    }


def _draws(selection: Selection, parameters: ClassifierParameters, truth: np.ndarray) -> Iterator[Floats]:
    """How often each row is drawn, `float64 [block, rows]`."""
    spec, n = selection.spec, len(truth)
    if parameters.resample == "items":
        yield from weight_draws(n, spec.resamples, spec.seed, spec.stream)
    elif parameters.resample == "stratified":
        rng = np.random.default_rng(spec.seed)
        classes = [np.flatnonzero(truth), np.flatnonzero(~truth)]
        for start in range(0, spec.resamples, 250):
            rows = min(250, spec.resamples - start)
            drawn = [[members[rng.integers(0, len(members), len(members))] for members in classes] for _ in range(rows)]
            flat = np.concatenate([part + row * n for row, both in enumerate(drawn) for part in both])
            yield np.bincount(flat, minlength=rows * n).reshape(rows, n).astype(np.float64)
    else:
        labels = selection.clusters(selection.ordered(selection.only))
        if labels is None:
            raise UsageError(f"{selection.where}: name the column of clusters (clusters: cluster_id)")
        names, code = np.unique(labels, return_inverse=True)
        if parameters.convention == "percentile":
            for weights in weight_draws(len(names), spec.resamples, spec.seed, spec.stream):
                yield weights[:, code]
        else:
            source = random.Random(spec.seed)  # noqa: S311 - a published convention, not a secret
            everyone = range(len(names))
            for start in range(0, spec.resamples, 250):
                picks = [source.choices(everyone, k=len(names)) for _ in range(min(250, spec.resamples - start))]
                yield np.stack([np.bincount(pick, minlength=len(names)) for pick in picks])[:, code].astype(np.float64)


def _order_statistics(
    selection: Selection, value: float, samples: Floats, unit: str, n: int, clusters: Labels | None
) -> Estimate:
    """Bounds by position in the sorted resamples, without interpolation."""
    spec = selection.spec
    ordered, tail = np.sort(samples), (1 - spec.level) / 2
    low = ordered[max(0, int(np.floor(tail * len(ordered) + 1e-9)) - 1)]
    high = ordered[int(np.ceil((1 - tail) * len(ordered) - 1e-9)) - 1]
    count = None if clusters is None else len(set(clusters.tolist()))
    method = f"{'' if clusters is None else 'cluster_'}bootstrap_order_statistics"
    bounds = (float(low), float(high), spec.level)
    return Estimate(value, *bounds, unit, n, method, count, spec.cluster_unit, spec.seed, spec.resamples)


class AurocDifferenceParameters(Model):
    """`truth` is the known label, the same in both arms."""

    truth: Measure = Measure(column="gold")


@estimator("auroc_difference", AurocDifferenceParameters)
def difference_of_aurocs(selection: Selection, parameters: AurocDifferenceParameters) -> Parts:
    """AUROC of the first arm's scores minus the second's on the same items (DeLong); labels must agree."""
    scores, truth = selection.pairs(), selection.pairs(parameters.truth)
    odd = int((truth.first != truth.second).sum())
    if odd:
        raise UsageError(f"{selection.where}: {odd} of {len(truth.first)} items have different labels in the two arms")
    spec = selection.spec
    known = truth.first == 1
    found = auroc_difference(scores.first, scores.second, known, scores.clusters, spec.level, spec.cluster_unit)
    return {"difference": found}
