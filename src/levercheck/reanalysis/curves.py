"""Dose response: slopes, changes between doses, differences of arms, trends and the tests that go with them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from levercheck.errors import UsageError
from levercheck.evidence.documents import Model
from levercheck.reanalysis.pairs import sign_flip_parts
from levercheck.reanalysis.registry import (
    NoParameters,
    Parts,
    dropped_note,
    estimator,
    from_samples,
    percentile,
    plain,
    resampled_means,
    scale_of,
)
from levercheck.reanalysis.selection import Floats, Selection
from levercheck.stats import Estimate, item_slopes, mean, paired_difference, slope, slope_difference, spearman
from levercheck.stats.slopes import slope_weights
from levercheck.stats.specificity import Side

UNIT = "pp/dose"
Draws = Literal["by_resample", "by_dose"]


class CurveParameters(Model):
    """`noop` is the dose that does nothing; `round_rates` rounds the per-dose rates before the slope is fitted.

    `draws` (for `pairing: independent`): one generator serves all doses, ascending, in every resample or dose by dose;
    by default as the stream does it, `serial` by resample and `blocks` by dose.
    """

    interval: Literal["adjusted", "t", "bootstrap", "none"] = "adjusted"
    noop: float | None = None
    round_rates: int | None = None
    draws: Draws | None = None


@estimator("curve", CurveParameters)
def curve(selection: Selection, parameters: CurveParameters) -> Parts:
    """Slope over the doses, and the changes from the first and from the no-op dose to the last.

    Parts `slope`, `first_to_last`, `noop_to_last` (with `noop`); a bootstrap resamples items once for all of them.
    `pairing: independent` resamples the rows of every dose on their own, so doses may hold different items.
    """
    spec = selection.spec
    unit = spec.unit or UNIT
    scale = scale_of(unit)
    if spec.pairing == "independent":
        return _independent_curve(selection, unit, scale, parameters.draws)
    grid = selection.grid
    table, clusters, doses = grid.outcomes, grid.clusters, grid.doses
    binary = bool(np.isin(table, (0.0, 1.0)).all())
    value = None
    if parameters.round_rates is not None:
        rates = np.round(table.mean(axis=0), parameters.round_rates)
        value = float(rates @ slope_weights(doses)) * scale
    starts = {"first_to_last": 0}
    if parameters.noop is not None:
        starts["noop_to_last"] = _position(selection, doses, parameters.noop)
    slopes, n, note, change = item_slopes(table, doses), len(table), dropped_note(grid.dropped), unit.split("/")[0]
    fitted = float(slopes.mean()) * scale if value is None else value
    if parameters.interval == "none":
        return {"slope": plain(selection, fitted, unit, n, "least squares", note)}
    parts: Parts = {}
    if parameters.interval == "bootstrap":
        columns = np.column_stack([slopes, *(table[:, -1] - table[:, start] for start in starts.values())])
        drawn = resampled_means(selection, columns, clusters) * scale
        parts["slope"] = from_samples(selection, fitted, drawn[:, 0], unit, n, clusters, note)
        for number, name in enumerate(starts, 1):
            point = float(columns[:, number].mean()) * scale
            parts[name] = from_samples(selection, point, drawn[:, number], change, n, clusters, note)
        return parts
    method: Literal["adjusted", "t"] = parameters.interval
    found = slope(table, doses, clusters, spec.level, unit, scale, binary, method, spec.cluster_unit)
    parts["slope"] = replace(found, value=fitted)
    for name, start in starts.items():
        last, first = table[:, -1], table[:, start]
        if binary and change in ("pp", "%", "fraction"):
            parts[name] = paired_difference(last, first, clusters, spec.level, change, spec.cluster_unit)
        else:
            parts[name] = mean(last - first, clusters, spec.level, change, scale, spec.cluster_unit)
    return {name: replace(part, note=part.note or note) for name, part in parts.items()}


def _position(selection: Selection, doses: Floats, wanted: float) -> int:
    where = np.flatnonzero(np.isclose(doses, wanted, rtol=0, atol=1e-12))
    if len(where) != 1:
        raise UsageError(f"{selection.where}: the no-op dose {wanted:g} is not one of {doses.tolist()}")
    return int(where[0])


def _independent_curve(selection: Selection, unit: str, scale: float, order: Draws | None) -> Parts:
    by_dose = selection.by_dose(selection.only)
    value, samples, n = independent_slopes(selection, by_dose, order)
    note = "rows of each dose resampled on their own: " + ", ".join(f"{d:g}: {len(v)}" for d, v in by_dose.items())
    return {
        "slope": from_samples(
            selection, value * scale, samples * scale, unit, n, None, note, "independent_bootstrap_percentile"
        )
    }


def independent_slopes(
    selection: Selection, by_dose: dict[float, Floats], order: Draws | None, rng: np.random.Generator | None = None
) -> tuple[float, Floats, int]:
    """Slope of the per-dose means, its resampled values `float64 [resamples]` and the number of rows."""
    spec = selection.spec
    weights = slope_weights(list(by_dose))
    columns = list(by_dose.values())
    value = float(np.array([column.mean() for column in columns]) @ weights)
    rng = rng or np.random.default_rng(spec.seed)
    if (order or ("by_resample" if spec.stream == "serial" else "by_dose")) == "by_resample":
        samples = np.empty(spec.resamples)
        for index in range(spec.resamples):
            means = [column[rng.integers(0, len(column), len(column))].mean() for column in columns]
            samples[index] = np.asarray(means) @ weights
    else:
        samples = np.zeros(spec.resamples)
        for column, weight in zip(columns, weights, strict=True):
            for start in range(0, spec.resamples, 250):
                rows = min(250, spec.resamples - start)
                drawn = column[rng.integers(0, len(column), (rows, len(column)))]
                samples[start : start + rows] += drawn.mean(axis=1) * weight
    return value, samples, sum(len(column) for column in columns)


class SlopeDifferenceParameters(Model):
    """`interval` and `draws` as for `curve`."""

    interval: Literal["adjusted", "t", "bootstrap"] = "adjusted"
    draws: Draws | None = None


@estimator("slope_difference", SlopeDifferenceParameters)
def difference_of_slopes(selection: Selection, parameters: SlopeDifferenceParameters) -> Parts:
    """Slope of the first arm minus that of the second over the same items and doses.

    Parts `difference`, `first`, `second`. `pairing: independent` resamples every dose of every arm on its own.
    """
    spec = selection.spec
    unit = spec.unit or UNIT
    scale = scale_of(unit)
    first_rows, second_rows = selection.two
    if spec.pairing == "independent":
        rng = np.random.default_rng(spec.seed) if spec.stream == "serial" else None
        a, draws_a, n_a = independent_slopes(selection, selection.by_dose(first_rows), parameters.draws, rng)
        rng = rng or np.random.default_rng([spec.seed, 1])
        b, draws_b, n_b = independent_slopes(selection, selection.by_dose(second_rows), parameters.draws, rng)
        method = "independent_bootstrap_percentile"
        gap = from_samples(selection, (a - b) * scale, (draws_a - draws_b) * scale, unit, n_a + n_b, method=method)
        return {
            "difference": gap,
            "first": plain(selection, a * scale, unit, n_a, "least squares"),
            "second": plain(selection, b * scale, unit, n_b, "least squares"),
        }
    first, second = selection.grids()
    slopes = [item_slopes(grid.outcomes, first.doses) for grid in (first, second)]
    if parameters.interval == "bootstrap":
        found = percentile(selection, slopes[0] - slopes[1], unit, scale, first.clusters, first.dropped)
    else:
        tables = np.stack([first.outcomes, second.outcomes])
        binary = bool(np.isin(tables, (0.0, 1.0)).all())
        found = slope_difference(
            first.outcomes, second.outcomes, first.doses, first.clusters, spec.level, unit, scale, binary,
            parameters.interval, spec.cluster_unit,
        )  # fmt: skip
    n = len(slopes[0])
    return {
        "difference": found,
        "first": plain(selection, float(slopes[0].mean()) * scale, unit, n, "least squares"),
        "second": plain(selection, float(slopes[1].mean()) * scale, unit, n, "least squares"),
    }


class TestParameters(Model):
    """`side` of the alternative."""

    side: Side = "greater"


@estimator("slope_sign_flip", TestParameters)
def slope_sign_flip(selection: Selection, parameters: TestParameters) -> Parts:
    """Paired test of two slopes: each item's difference changes sign at random. Parts `p`, `extreme`, `observed`."""
    if len(selection.arms) == 1:
        grid = selection.grid
        return sign_flip_parts(selection, item_slopes(grid.outcomes, grid.doses), grid.clusters, parameters.side)
    selection.two  # noqa: B018 - refuses more than two arms
    first, second = selection.grids()
    gaps = item_slopes(first.outcomes, first.doses) - item_slopes(second.outcomes, first.doses)
    return sign_flip_parts(selection, gaps, first.clusters, parameters.side)


@estimator("slope_permutation", TestParameters)
def slope_permutation(selection: Selection, parameters: TestParameters) -> Parts:
    """Unpaired test of two slopes: at every dose the yes/no outcomes of both arms are pooled and dealt out again.

    It ignores that the arms share their items, so it is less sensitive than the paired test. Parts `p`, `extreme`.
    """
    spec = selection.spec
    doses = [selection.by_dose(arm) for arm in selection.two]
    if list(doses[0]) != list(doses[1]):
        raise UsageError(f"{selection.where}: the arms have doses {list(doses[0])} and {list(doses[1])}")
    weights = slope_weights(list(doses[0]))
    rng = np.random.default_rng(spec.seed)
    observed, drawn, n = 0.0, np.zeros(spec.resamples), 0
    for weight, a, b in zip(weights, doses[0].values(), doses[1].values(), strict=True):
        pooled = np.concatenate([a, b])
        if not np.isin(pooled, (0.0, 1.0)).all():
            raise UsageError(f"{selection.where}: slope_permutation needs yes/no outcomes")
        yes = int(pooled.sum())
        got = rng.hypergeometric(yes, len(pooled) - yes, len(a), spec.resamples)
        drawn += weight * (got / len(a) - (yes - got) / len(b))
        observed += weight * float(a.mean() - b.mean())
        n += len(pooled)
    reach = {"greater": drawn - observed, "less": observed - drawn, "two-sided": np.abs(drawn) - abs(observed)}
    extreme = int((reach[parameters.side] >= -1e-12).sum())
    p = (extreme + 1) / (spec.resamples + 1)
    method = f"unpaired_permutation({parameters.side})"
    return {
        "p": Estimate(p, None, None, spec.level, "p", n, method, seed=spec.seed, resamples=spec.resamples),
        "extreme": plain(selection, extreme, "permutations", n, method),
        "observed": plain(selection, observed * 100, UNIT, n, "least squares"),
    }


class TrendParameters(Model):
    """`round_rates` rounds the rates before they are ranked."""

    round_rates: int | None = None


@estimator("dose_trend", TrendParameters)
def trend(selection: Selection, parameters: TrendParameters) -> Parts:
    """Spearman correlation of dose and rate over the doses; parts `rho`, `p`, `steps_up`, `steps_down`.

    Constant rates have no correlation: it is then not estimable.
    """
    import scipy.stats

    by_dose = selection.by_dose(selection.only)
    rates = np.array([column.mean() for column in by_dose.values()])
    if parameters.round_rates is not None:
        rates = np.round(rates, parameters.round_rates)
    n, steps = len(rates), np.diff(rates)
    found = spearman(list(by_dose), rates, selection.spec.level)
    p = None if found.value is None else float(scipy.stats.spearmanr(list(by_dose), rates).pvalue)
    rho = found if found.value is not None else plain(selection, None, "rho", n, "spearman", found.note)
    return {
        "rho": rho,
        "p": plain(selection, p, "p", n, "spearman"),
        "steps_up": plain(selection, int((steps > 0).sum()), "steps", n, "count"),
        "steps_down": plain(selection, int((steps < 0).sum()), "steps", n, "count"),
    }


@estimator("slope_bounds")
def slope_bounds(selection: Selection, _parameters: NoParameters) -> Parts:
    """Slope if every unscored row were a yes (`as_yes`), a no (`as_no`), or left out of its dose (`scored`)."""
    unit = selection.spec.unit or UNIT
    scale = scale_of(unit)
    rows = selection.only
    parts: Parts = {}
    answers: dict[str, Literal["yes", "no", "drop"]] = {"as_yes": "yes", "as_no": "no", "scored": "drop"}
    for part, missing in answers.items():
        by_dose = selection.counting(missing).by_dose(rows)
        value = float(np.array([c.mean() for c in by_dose.values()]) @ slope_weights(list(by_dose))) * scale
        n = sum(len(column) for column in by_dose.values())
        parts[part] = plain(selection, value, unit, n, "least squares")
    return parts
