"""Are the selected components a property of the data, or of one draw and one C?

A component counts as selected when its weight is positive (an H-neuron). Sets are compared by their Jaccard index; what
two random sets of the same sizes share is given beside it. Reads PATH and REFITS rows only.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.classification import Floats
from levercheck.audit.refitted import LEVEL, Component, draw_areas, failed, over_draws
from levercheck.stats import Estimate, mean, proportion

LISTED = 50
OFTEN, MOSTLY = 0.8, 0.5


def path_stability(path: pl.DataFrame, chosen: float) -> list[dict[str, Any]]:
    """Per C, ascending: how many weights, how many positive, and what the positive set shares with its neighbour's."""
    weights = path.filter(pl.col("layer").is_not_null())
    cs = sorted(path["c"].unique().to_list())
    sets = [positive(weights.filter(pl.col("c") == c)) for c in cs]
    reference = sets[cs.index(chosen)]
    return [
        {
            "c": c,
            "chosen": c == chosen,
            "nonzero": weights.filter(pl.col("c") == c).height,
            "positive": len(own),
            "with_previous": None if k == 0 else overlap(sets[k - 1], own),
            "with_chosen": overlap(reference, own),
        }
        for k, (c, own) in enumerate(zip(cs, sets, strict=True))
    ]


def overlap(a: set[Component], b: set[Component]) -> dict[str, Any]:
    """Counts of two sets and their Jaccard index, null when both are empty."""
    union = len(a | b)
    return {"shared": len(a & b), "union": union, "jaccard": len(a & b) / union if union else None}


def positive(rows: pl.DataFrame, value: str = "weight") -> set[Component]:
    """(layer, index) of the positive weights."""
    return {(int(i), int(j)) for i, j in rows.filter(pl.col(value) > 0).select("layer", "index").rows()}


def positive_sets(refits: pl.DataFrame, purpose: str) -> list[set[Component]]:
    """The selected components of every refit that has a solution, in the order of draws."""
    rows = refits.filter(pl.col("purpose") == purpose)
    weights = rows.filter(pl.col("metric") == "weight")
    fitted = rows.filter(pl.col("metric") == "intercept")["draw"].sort().to_list()
    return [positive(weights.filter(pl.col("draw") == draw), "value") for draw in fitted]


def refit_stability(
    refits: pl.DataFrame, purpose: str, items: pl.DataFrame, readout: set[Component], total: int, seed: int = 0
) -> dict[str, Any]:
    """How the refits of a purpose (bootstrap, half) agree on components and how they detect.

    `readout`: the components selected by the probe itself; `total`: components there are.
    """
    sets = positive_sets(refits, purpose)
    sizes = [len(s) for s in sets]
    found: dict[str, Any] = {"refits": len(sets), "failed": failed(refits, purpose)}
    if not sets:
        return {**found, "absent": "no refit"}
    counts: dict[Component, int] = {}
    for own in sets:
        for component in own:
            counts[component] = counts.get(component, 0) + 1
    areas = draw_areas(refits, purpose, items)
    full = [s for s in sets if s]
    table = np.array([[_jaccard(a, b) for b in full] for a in full])
    order = sorted(counts, key=lambda c: (-counts[c], c))
    listed = [c for k, c in enumerate(order) if k < LISTED or c in readout]
    listed += sorted(readout - counts.keys())
    found |= {
        "selected": over_draws([float(s) for s in sizes], "components", seed).to_dict(),
        "empty": len(sets) - len(full),  # refits that selected nothing, left out of the Jaccard indices
        "jaccard": mean_pairwise(table).to_dict(),
        "jaccard_by_chance": chance_jaccard([len(s) for s in full], total),
        "with_readout": over_draws([_jaccard(s, readout) for s in full], "Jaccard", seed).to_dict(),
        "ever_selected": len(counts),
        "in_half_of_refits": sum(k >= MOSTLY * len(sets) for k in counts.values()),
        "in_80_percent_of_refits": sum(k >= OFTEN * len(sets) for k in counts.values()),
        "readout_in_80_percent_of_refits": sum(counts.get(c, 0) >= OFTEN * len(sets) for c in readout),
        "readout_components": len(readout),
        "auroc": over_draws(areas, "AUROC", seed).to_dict(),
        "aurocs": areas,
        "frequencies": [
            {
                "layer": c[0],
                "index": c[1],
                "in_readout": c in readout,
                "frequency": proportion(counts.get(c, 0), len(sets)).to_dict(),
            }
            for c in listed
        ],
    }
    if purpose == "half":
        found["expected_false_in_80_percent"] = false_selections(float(np.mean(sizes)), total)
    return found


def mean_pairwise(table: Floats) -> Estimate:
    """Mean of the entries off the diagonal of a symmetric float64 [refits, refits], jackknifed over refits.

    The pairs share refits, so that their spread alone would say too little; Tukey's pseudo-values have the mean of the
    pairs as theirs and Student's interval. It holds for more refits of the same data, not for new data.
    """
    n = len(table)
    note = "interval over refits of the same items"
    if n < 2:
        return Estimate(None, None, None, LEVEL, "Jaccard", n, "jackknife_pseudo_values", note="fewer than two refits")
    rows = table.sum(axis=1) - table.diagonal()
    whole = float(rows.sum()) / (n * (n - 1))
    if n < 3:
        return Estimate(whole, None, None, LEVEL, "Jaccard", n, "jackknife_pseudo_values", note="two refits only")
    left_out = (rows.sum() - 2 * rows) / ((n - 1) * (n - 2))
    found = mean(n * whole - (n - 1) * left_out, unit="Jaccard")
    low, high = found.low, found.high
    if low is not None and high is not None:
        low, high = max(low, 0.0), min(high, 1.0)
    method = "jackknife_pseudo_values"
    return Estimate(whole, low, high, LEVEL, "Jaccard", n, method, note=note if low is not None else "all pairs alike")


def chance_jaccard(sizes: list[int], total: int) -> float | None:
    """Mean Jaccard index, over all pairs, of random sets of these sizes (none is 0) out of `total` components."""
    pairs = [(min(a, b), max(a, b)) for k, a in enumerate(sizes) for b in sizes[:k]]
    return float(np.mean([_expected_jaccard(a, b, total) for a, b in pairs])) if pairs else None


def false_selections(selected: float, total: int, threshold: float = OFTEN) -> float:
    """Bound on the expected number of irrelevant components selected in at least `threshold` of half-samples.

    q² / ((2π - 1) p) with q components selected per half of p (Meinshausen and Bühlmann 2010, Theorem 1); it assumes
    that irrelevant components are exchangeable, which correlated neurons are not: a guide, not a guarantee.
    """
    return selected**2 / ((2 * threshold - 1) * total)


@cache
def _expected_jaccard(a: int, b: int, total: int) -> float:
    """E[k / (a + b - k)] for k hypergeometric: common members of random sets of sizes 1 <= a <= b."""
    least = max(0, a + b - total)
    log_p, logs = 0.0, []
    for k in range(least, a + 1):
        logs.append(log_p)
        if k < a:
            log_p += np.log((a - k) * (b - k)) - np.log((k + 1) * (total - a - b + k + 1))
    p = np.exp(np.array(logs) - max(logs))
    shared = np.arange(least, a + 1)
    return float((p * (shared / (a + b - shared))).sum() / p.sum())


def _jaccard(a: set[Component], b: set[Component]) -> float:
    return len(a & b) / len(a | b)
