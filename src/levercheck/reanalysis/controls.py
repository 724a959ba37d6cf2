"""Control sets: what random draws do, and where the target stands among them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from levercheck.errors import UsageError
from levercheck.evidence.documents import Model
from levercheck.reanalysis.registry import Parts, estimator, plain, scale_of
from levercheck.reanalysis.selection import VALUE, Selection
from levercheck.stats import Estimate, item_slopes, largest_slope, percentile_bounds, two_level
from levercheck.stats.slopes import slope_weights
from levercheck.stats.specificity import Side


class ControlParameters(Model):
    """`over` tells the control sets apart; `statistic` of each set; rounding as some publications do it."""

    over: str = "control_seed"
    statistic: Literal["slope", "rate"] = "slope"
    dose: float | None = None
    round_rates: int | None = None
    round_statistic: int | None = None
    round_center: int | None = None
    center: Literal["mean", "median"] = "mean"


@estimator("control_interval", ControlParameters)
def control_interval(selection: Selection, parameters: ControlParameters) -> Parts:
    """Where control sets fall: percentiles (linear) of one statistic per set. Parts `center`, `sd`, `min`, `max`.

    A range of the sets that were drawn, not a confidence interval.
    """
    spec = selection.spec
    unit = spec.unit or ("pp/dose" if parameters.statistic == "slope" else "%")
    selection.column(selection.only, parameters.over)
    rows = selection.rows(parameters.over)
    values = []
    for group in rows.partition_by(parameters.over, maintain_order=True):
        label = group[parameters.over][0]
        if label is None:
            raise UsageError(f"{selection.where}: {len(group)} rows have no '{parameters.over}'")
        measured = selection.measured(group)
        rates = measured.group_by(spec.dose).agg(pl.col(VALUE).mean()).sort(spec.dose)
        level = rates[VALUE].to_numpy()
        if parameters.round_rates is not None:
            level = np.round(level, parameters.round_rates)
        if parameters.statistic == "slope":
            value = float(level @ slope_weights(rates[spec.dose].to_numpy()))
        else:
            doses = rates[spec.dose].to_numpy().astype(np.float64)
            chosen = float(doses.max()) if parameters.dose is None else parameters.dose
            at = np.flatnonzero(doses == chosen)
            if len(at) != 1:
                raise UsageError(f"{selection.where}: {parameters.over} {label} has no rows at dose {chosen:g}")
            value = float(level[at[0]])
        value *= scale_of(unit)
        values.append(value if parameters.round_statistic is None else round(value, parameters.round_statistic))
    array, n = np.array(values), len(values)
    low, high = percentile_bounds(array, spec.level)
    center = float(array.mean() if parameters.center == "mean" else np.median(array))
    if parameters.round_center is not None:
        center = round(center, parameters.round_center)
    note = f"{n} control sets"
    return {
        "center": Estimate(center, low, high, spec.level, unit, n, "percentiles_of_control_sets", note=note),
        "sd": plain(selection, float(array.std()), unit, n, "sd(ddof=0)"),
        "min": plain(selection, float(array.min()), unit, n, "minimum"),
        "max": plain(selection, float(array.max()), unit, n, "maximum"),
    }


class SpecificityParameters(Model):
    """`over` tells the control sets of the second arm apart."""

    over: str = "control_seed"
    side: Side = "greater"


@estimator("specificity", SpecificityParameters)
def specificity(selection: Selection, parameters: SpecificityParameters) -> Parts:
    """Slope of the first arm against every control set of the second: items and sets are both uncertain.

    Parts `difference`, `prediction` (of one further set), `p` (rank among the sets, smallest attainable 1/(K+1)).
    """
    spec = selection.spec
    unit = spec.unit or "pp/dose"
    scale = scale_of(unit)
    target_rows, control_rows = selection.two
    sets = selection.column(control_rows, parameters.over).unique().sort().to_list()
    if None in sets:
        raise UsageError(f"{selection.where}: some control rows have no '{parameters.over}'")
    doses = selection.doses(target_rows)
    frames = {}
    for name, rows in [("target", target_rows)] + [
        (f"{parameters.over} {value}", control_rows.filter(pl.col(parameters.over) == value)) for value in sets
    ]:
        if selection.doses(rows) != doses:
            raise UsageError(f"{selection.where}: {name} has doses {selection.doses(rows)}, expected {doses}")
        measured = selection.measured(rows)
        for dose in doses:
            frames[f"{name} at dose {dose:g}"] = measured.filter(pl.col(spec.dose) == dose)
    tables, _ = selection.aligned(frames)
    clusters, width = selection.clusters(tables[0]), len(doses)
    slopes = [
        item_slopes(np.column_stack([table[VALUE].to_numpy() for table in tables[start : start + width]]), doses)
        for start in range(0, len(tables), width)
    ]
    found = two_level(
        slopes[0], np.stack(slopes[1:]), clusters, spec.level, unit, scale, parameters.side, spec.cluster_unit,
        largest_slope(doses),
    )  # fmt: skip
    note = f"smallest attainable p {found.attainable_p:.3g}"
    return {
        "difference": found.difference,
        "prediction": found.prediction,
        "p": plain(selection, found.p, "p", found.sets, f"rank_among_control_sets({parameters.side})", note),
    }
