"""Length against truth, from VERBOSITY rows alone: which of the two moves a readout and its components more.

Each item has four responses, {short, long} x {true, false}. Per item,

    length effect = mean over truth of (long - short)        truth effect = mean over length of (false - true)

and each is reported as Cohen's d_z, the mean of the per-item effects over their standard deviation (n - 1), so that the
two can be compared though one is about words and the other about facts. Groups of the split (the column `entity`), not
items, count as independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.baselines import CLUSTER
from levercheck.errors import IntegrityError, NotEnoughDataError
from levercheck.stats import Estimate, benjamini_hochberg, bootstrap_totals, holm, mean, proportion

Floats = np.ndarray[Any, np.dtype[np.float64]]

EFFECTS = ("length", "truth")
DIFFERENCE = "d_z difference"
DEFINITION = "mean of per-item paired effects / their standard deviation (n - 1); length: long - short averaged over "
DEFINITION += "truth; truth: false - true averaged over length"
_CELLS = ("long.true", "long.false", "short.true", "short.false")


def verbosity_effects(
    rows: pl.DataFrame, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> dict[str, Any]:
    """Effects per reduction (mean, max) as plain data; estimates are `Estimate.to_dict()`.

    `score`: both effects of the whole readout as d_z and in its own unit (log-odds), Wilcoxon p, and `ratio`, the size
    of the length effect over that of the truth effect. `components`: both d_z of each component, Wilcoxon p with its
    Holm and Benjamini-Hochberg adjustments over the components (of one reduction and effect), and `dominance`,
    |length| - |truth|. `length_dominant`: the share of components with a positive dominance; `clearly_length` and
    `clearly_truth`: those whose interval of it lies above and below zero, without adjustment. An effect that is the
    same on every item has no d_z; one that is zero on every item counts as 0 beside another. A component that cannot be
    compared counts in no share, and `not_comparable` says how many there are.

    Wilcoxon's signed-rank test is two-sided and takes one value per group, the mean of its items, as independent.
    Raises NotEnoughDataError without rows, IntegrityError when an item lacks one of its four responses.
    """
    if rows.is_empty():
        raise NotEnoughDataError("there are no verbosity rows: run the verbosity audit of a readout first")
    return {
        "definition": DEFINITION,
        **{
            reduce: _reduction(rows.filter(pl.col("reduce") == reduce), level, resamples, seed)
            for reduce in sorted(rows["reduce"].unique().to_list())
        },
    }


def paired_effects(rows: pl.DataFrame) -> pl.DataFrame:
    """Per item and component of one reduction: entity, `length` and `truth` effects in the unit of `value`."""
    keys = ["layer", "index", "item_id", "entity"]
    cell = pl.concat_str(pl.col("length"), pl.lit("."), pl.col("truth").cast(pl.String))
    counts = rows.group_by(*keys, "length", "truth").len()
    if (counts["len"] != 1).any():
        raise IntegrityError("the verbosity rows hold a response twice: restore them or compute them again")
    wide = rows.with_columns(cell.alias("cell")).pivot("cell", index=keys, values="value")
    absent = [name for name in _CELLS if name not in wide.columns]
    if absent or wide.select(pl.any_horizontal(pl.col(n).is_null() for n in _CELLS if n in wide.columns).any()).item():
        raise IntegrityError("an item of the verbosity rows lacks one of its four responses: compute them again")
    a, b, c, d = (pl.col(name) for name in _CELLS)
    return wide.select(
        *keys,
        ((a + b - c - d) / 2).alias("length"),
        ((b + d - a - c) / 2).alias("truth"),
    ).sort(*keys)


def _reduction(rows: pl.DataFrame, level: float, resamples: int, seed: int) -> dict[str, Any]:
    effects = paired_effects(rows)
    found: dict[str, Any] = {}
    whole = effects.filter(pl.col("layer").is_null())
    if len(whole):
        found["score"] = _score(whole, level, resamples, seed)
    parts = effects.filter(pl.col("layer").is_not_null()).partition_by("layer", "index", maintain_order=True)
    components = [_component(part, level) for part in parts]
    _adjust(components)
    known = [Estimate.from_dict(c["dominance"]) for c in components if c["dominance"]["value"] is not None]
    found["components"] = components
    for name, count in (
        ("length_dominant", sum(e.value is not None and e.value > 0 for e in known)),
        ("clearly_length", sum(e.low is not None and e.low > 0 for e in known)),
        ("clearly_truth", sum(e.high is not None and e.high < 0 for e in known)),
    ):
        share = proportion(count, len(known), level=level)
        note = "share of components, each counted as one unit though all were read on the same items"
        found[name] = replace(share, note=share.note or note).to_dict()
    found["not_comparable"] = len(components) - len(known)
    return found


def _score(effects: pl.DataFrame, level: float, resamples: int, seed: int) -> dict[str, Any]:
    entity = effects["entity"].to_list()
    columns = {name: effects[name].to_numpy() for name in EFFECTS}
    found: dict[str, Any] = {}
    for name, values in columns.items():
        found[name] = standardised(values, entity, level).to_dict()
        shift = mean(values, clusters=entity, level=level, unit="log-odds difference", cluster_unit=CLUSTER)
        found[f"{name}_shift"] = shift.to_dict()
        found[f"p_{name}"] = wilcoxon(values, entity)
    found["dominance"] = dominance(columns, entity, level).to_dict()
    found["ratio"] = _ratio(columns, entity, level, resamples, seed).to_dict()
    return found


def _component(effects: pl.DataFrame, level: float) -> dict[str, Any]:
    entity = effects["entity"].to_list()
    columns = {name: effects[name].to_numpy() for name in EFFECTS}
    found: dict[str, Any] = {"layer": effects["layer"][0], "index": effects["index"][0]}
    for name, values in columns.items():
        found[name] = standardised(values, entity, level).to_dict()
        found[f"p_{name}"] = wilcoxon(values, entity)
    found["dominance"] = dominance(columns, entity, level).to_dict()
    return found


def _adjust(components: list[dict[str, Any]]) -> None:
    """Add both adjustments of every p to the components."""
    for name in EFFECTS:
        p = [component[f"p_{name}"] for component in components]
        if not p:
            return
        for method, adjusted in (("holm", holm(p)), ("bh", benjamini_hochberg(p))):
            for component, value in zip(components, adjusted.tolist(), strict=True):
                component[f"p_{name}_{method}"] = value


def standardised(values: Floats, clusters: Sequence[str], level: float = 0.95) -> Estimate:
    """Cohen's d_z of per-item effects, float64 [items], with a cluster-robust interval by the delta method.

    Each item's influence on d = m/s is z - d (z² - 1)/2 with z = (x - m)/s; summed within clusters they give the
    variance, with Student's t of G - 1 degrees of freedom (normal effects: variance (1 + d²/2)/n). Simulated coverage
    at a nominal 95 %: 93-96 % for normal effects, 89-95 % for skewed or heavy-tailed ones when |d| is 1 or more.
    """
    summands = _summands(values)
    if summands is None:
        return _undefined(values, clusters, level, "d_z", "the effect is the same on every item")
    return _by_delta(summands, clusters, level, "d_z")


def dominance(columns: Mapping[str, Floats], clusters: Sequence[str], level: float = 0.95) -> Estimate:
    """|d_z of length| - |d_z of truth| on the same items; an effect that is zero everywhere counts as 0."""
    sizes = []
    for name in EFFECTS:
        summands = _summands(columns[name])
        if summands is None and not columns[name].any():
            sizes.append(np.zeros(len(columns[name])))
        elif summands is None:
            return _undefined(
                columns[name], clusters, level, DIFFERENCE, f"the {name} effect is the same on every item"
            )
        else:
            sizes.append(summands * np.sign(summands.mean()))
    if not any(size.any() for size in sizes):
        return _undefined(columns[EFFECTS[0]], clusters, level, DIFFERENCE, "neither effect is there on any item")
    return _by_delta(sizes[0] - sizes[1], clusters, level, DIFFERENCE)


def _summands(values: Floats) -> Floats | None:
    """d_z plus each item's centred influence on it, so that their mean is d_z; None without spread."""
    if len(values) < 2:
        return None
    spread = float(values.std(ddof=1))
    if spread <= 1e-12 * float(np.abs(values).max(initial=0.0)):
        return None
    z = (values - values.mean()) / spread
    d = float(values.mean()) / spread
    influence = z - d / 2 * (z**2 - 1)
    found: Floats = d + influence - influence.mean()
    return found


def _by_delta(summands: Floats, clusters: Sequence[str], level: float, unit: str) -> Estimate:
    found = mean(summands, clusters=clusters, level=level, unit=unit, cluster_unit=CLUSTER)
    return replace(found, method="delta_cluster_t")


def _undefined(values: Floats, clusters: Sequence[str], level: float, unit: str, note: str) -> Estimate:
    groups = len(set(clusters))
    return Estimate(None, None, None, level, unit, len(values), "delta_cluster_t", groups, CLUSTER, note=note)


def _ratio(columns: Mapping[str, Floats], clusters: Sequence[str], level: float, resamples: int, seed: int) -> Estimate:
    """|d_z of length| / |d_z of truth| with a percentile interval that resamples whole clusters.

    A truth effect that may be zero makes the upper end very large: the interval then says only that it is.
    """
    unit = "|d_z length| / |d_z truth|"
    parts, centres = [], []
    for name in EFFECTS:
        values = columns[name]
        if _summands(values) is None:
            return _undefined(values, clusters, level, unit, f"the {name} effect is the same on every item")
        spread = float(values.std(ddof=1))
        z = (values - values.mean()) / spread
        centres.append(float(values.mean()) / spread)
        parts += [np.ones(len(z)), z, z**2]

    def size(totals: Floats, which: int) -> Floats:
        n, total, squares = totals[:, 3 * which : 3 * which + 3].T
        variance = (squares - total**2 / n) / (n - 1)
        found: Floats = np.abs(centres[which] + total / n) / np.sqrt(np.where(variance > 1e-12, variance, np.nan))
        return found

    def statistic(totals: Floats) -> Floats:
        truth = size(totals, 1)
        found: Floats = size(totals, 0) / np.where(truth > 0, truth, np.nan)
        return found

    return bootstrap_totals(np.stack(parts, axis=1), statistic, clusters, level, resamples, seed, unit, CLUSTER)


def wilcoxon(values: Floats, clusters: Sequence[str]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test over the clusters' means; 1 when none differs from zero.

    Exact for few clusters without ties or zeros, else normal; zeros are split evenly (Pratt's ranks).
    """
    _, label = np.unique(np.asarray(clusters), return_inverse=True)
    means = np.bincount(label, weights=values) / np.bincount(label)
    if not np.any(means):
        return 1.0
    stats = import_module("scipy.stats")
    return float(min(1.0, stats.wilcoxon(means, zero_method="zsplit").pvalue))
