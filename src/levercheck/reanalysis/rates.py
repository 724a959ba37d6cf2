"""One arm at one dose: rates, counts, means, ratios, and what unscored rows could change."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import polars as pl

from levercheck.errors import UsageError
from levercheck.evidence.documents import Model
from levercheck.reanalysis.registry import Parts, dropped_note, estimator, from_samples, percentile, plain, scale_of
from levercheck.reanalysis.selection import VALUE, Floats, Selection
from levercheck.reanalysis.spec import Measure
from levercheck.stats import Estimate, mean, proportion, rate_bounds
from levercheck.stats.resampling import weight_draws


class RateParameters(Model):
    """`z` overrides the critical value of a Wilson interval (1.96 in some publications)."""

    interval: Literal["wilson", "exact", "bootstrap"] = "wilson"
    z: float | None = None


def _level(selection: Selection, z: float | None) -> float:
    return selection.spec.level if z is None else math.erf(z / math.sqrt(2))


def _proportion(selection: Selection, k: int, n: int, unit: str, parameters: RateParameters) -> Estimate:
    method: Literal["wilson", "exact"] = "exact" if parameters.interval == "exact" else "wilson"
    level = _level(selection, parameters.z)
    return replace(proportion(k, n, level, method, unit), level=selection.spec.level)


@estimator("rate", RateParameters)
def rate(selection: Selection, parameters: RateParameters) -> Parts:
    """Share of rows with the measure; one part per dose (`at 1.5`) when the rows hold several doses."""
    unit = selection.spec.unit or "fraction"
    rows = selection.rows()
    parts: Parts = {}
    if selection.spec.dose in rows.columns and rows[selection.spec.dose].n_unique() > 1:
        for dose in selection.doses(rows):
            here = rows.filter(pl.col(selection.spec.dose) == dose)
            parts[f"at {dose:g}"] = _rate(selection, here, unit, parameters)
        return parts
    return {"rate": _rate(selection, rows, unit, parameters)}


def _rate(selection: Selection, rows: pl.DataFrame, unit: str, parameters: RateParameters) -> Estimate:
    yes = selection.yes(rows)
    if parameters.interval == "bootstrap" or selection.spec.clusters is not None:
        kept = selection.measured(selection.ordered(rows))
        return percentile(selection, yes.astype(np.float64), unit, scale_of(unit), selection.clusters(kept))
    return _proportion(selection, int(yes.sum()), len(yes), unit, parameters)


@estimator("count", RateParameters)
def count(selection: Selection, parameters: RateParameters) -> Parts:
    """Rows with the measure. The interval is that of the share, times the number of rows."""
    yes = selection.yes(selection.rows())
    return {"count": count_of(selection, int(yes.sum()), len(yes), parameters.z)}


def count_of(selection: Selection, k: int, n: int, z: float | None = None) -> Estimate:
    """A count with the Wilson interval of its share, on the scale of the count."""
    share = proportion(k, n, _level(selection, z))
    low, high = (None, None) if share.low is None or share.high is None else (share.low * n, share.high * n)
    method = "count; wilson interval of the share"
    return Estimate(k, low, high, selection.spec.level, selection.spec.unit or "items", n, method)


class RescoredParameters(Model):
    """`report` a count or the rate."""

    report: Literal["count", "rate"] = "rate"


@estimator("rescored", RescoredParameters)
def rescored(selection: Selection, parameters: RescoredParameters) -> Parts:
    """Rate after a second scoring of some items: rows of the second arm replace the first arm's rows of their items."""
    first, second = selection.two
    for name, arm in selection.arms.items():
        selection.unique(arm, selection.spec.key, f"arm '{name}'")
    key = selection.spec.key
    stray = second.join(first, on=key, how="anti", nulls_equal=True)
    if len(stray):
        raise UsageError(f"{selection.where}: {len(stray)} of {len(second)} rescored items are not in the first arm")
    kept = selection.measured(first).join(second, on=key, how="anti", nulls_equal=True)
    k = round(kept[VALUE].to_numpy().sum() + selection.measured(second)[VALUE].to_numpy().sum())
    n = len(first)
    unit = selection.spec.unit or "fraction"
    whole = {"count": count_of(selection, k, n), "rate": proportion(k, n, selection.spec.level, unit=unit)}
    return {parameters.report: whole[parameters.report], **whole}


class MeanParameters(Model):
    """`ddof` of the standard deviation."""

    interval: Literal["t", "bootstrap"] = "t"
    ddof: Literal[0, 1] = 1


@estimator("mean", MeanParameters)
def mean_of(selection: Selection, parameters: MeanParameters) -> Parts:
    """Mean of a column; parts `mean`, `sd`, `median`, `min`, `max`."""
    unit = selection.spec.unit or "value"
    rows = selection.measured(selection.ordered(selection.rows()))
    values = rows[VALUE].to_numpy().astype(np.float64)
    clusters, scale = selection.clusters(rows), scale_of(unit)
    if parameters.interval == "bootstrap":
        main = percentile(selection, values, unit, scale, clusters)
    else:
        main = mean(values, clusters, selection.spec.level, unit, scale, selection.spec.cluster_unit)
    n = len(values)
    sd = float(values.std(ddof=parameters.ddof)) if n > parameters.ddof else None
    return {
        "mean": main,
        "sd": plain(selection, None if sd is None else sd * scale, unit, n, f"sd(ddof={parameters.ddof})"),
        "median": plain(selection, float(np.median(values)) * scale, unit, n, "median"),
        "min": plain(selection, float(values.min()) * scale, unit, n, "minimum"),
        "max": plain(selection, float(values.max()) * scale, unit, n, "maximum"),
    }


class RatioParameters(Model):
    """`of` is the condition counted in the denominator; the measure counts within it."""

    of: Measure
    undefined: Literal["drop", "zero"] = "drop"


def ratio_parts(selection: Selection, frame: pl.DataFrame, parameters: RatioParameters) -> Floats:
    """Per row, measure and denominator as 0/1: `float64 [rows, 2]`; the measure counts only inside the denominator."""
    below = selection.measured(frame, parameters.of)[VALUE].to_numpy()
    above = selection.measured(frame)[VALUE].to_numpy()
    if len(below) != len(frame) or len(above) != len(frame):
        raise UsageError(f"{selection.where}: a ratio needs a yes or no on every row: missing: no or yes")
    return np.column_stack([above * below, below])


@estimator("ratio", RatioParameters)
def ratio(selection: Selection, parameters: RatioParameters) -> Parts:
    """Share of the rows meeting `of` that have the measure (precision among the attempted), items resampled."""
    rows = selection.ordered(selection.rows())
    table = ratio_parts(selection, rows, parameters)
    unit = selection.spec.unit or "fraction"
    samples = ratio_samples(selection, [table], parameters)[0] * scale_of(unit)
    total = table.sum(axis=0)
    if total[1] == 0:
        return {"ratio": plain(selection, None, unit, len(table), "ratio", "no row meets the denominator")}
    value = float(total[0] / total[1]) * scale_of(unit)
    return {"ratio": from_samples(selection, value, samples, unit, int(total[1]))}


@estimator("ratio_difference", RatioParameters)
def ratio_difference(selection: Selection, parameters: RatioParameters) -> Parts:
    """Ratio of the first arm minus that of the second; the items are drawn for both arms together."""
    selection.two  # noqa: B018 - refuses anything but two arms
    (first, second), dropped = selection.aligned({f"arm '{name}'": arm for name, arm in selection.arms.items()})
    tables = [ratio_parts(selection, frame, parameters) for frame in (first, second)]
    unit = selection.spec.unit or "pp"
    scale, n = scale_of(unit), len(first)
    samples = ratio_samples(selection, tables, parameters)
    totals = [table.sum(axis=0) for table in tables]
    if min(total[1] for total in totals) == 0 and parameters.undefined == "drop":
        return {"difference": plain(selection, None, unit, n, "ratio", "an arm has no row in the denominator")}
    values = [float(total[0] / total[1]) if total[1] else 0.0 for total in totals]
    gap = (samples[0] - samples[1]) * scale
    return {
        "difference": from_samples(
            selection, (values[0] - values[1]) * scale, gap, unit, n, None, dropped_note(dropped)
        )
    }


def ratio_samples(selection: Selection, tables: list[Floats], parameters: RatioParameters) -> list[Floats]:
    """Resampled ratios of each table, `float64 [resamples]`, the same draws for all."""
    spec = selection.spec
    results: list[list[Floats]] = [[] for _ in tables]
    for weights in weight_draws(len(tables[0]), spec.resamples, spec.seed, spec.stream):
        for table, result in zip(tables, results, strict=True):
            sums = weights @ table
            empty = 0.0 if parameters.undefined == "zero" else np.nan
            safe = np.where(sums[:, 1] > 0, sums[:, 1], 1.0)
            result.append(np.where(sums[:, 1] > 0, sums[:, 0] / safe, empty))
    return [np.concatenate(result) for result in results]


@estimator("rate_bounds")
def bounds(selection: Selection, _parameters: object) -> Parts:
    """Rate if every row without the measure were a no (`low`), a yes (`high`), or left out (`scored`)."""
    unit = selection.spec.unit or "fraction"
    rows = selection.rows()
    scored = selection.counting("drop").measured(rows.with_row_index("__row"))
    numbers = np.full(len(rows), np.nan)
    numbers[scored["__row"].to_numpy()] = scored[VALUE].to_numpy()
    found = rate_bounds(numbers, selection.spec.level, unit)
    return {"low": found.lowest, "high": found.highest, "scored": found.scored}
