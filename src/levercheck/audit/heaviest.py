"""The components a probe leans on: does weight mean importance, or did L1 pick one of many that say the same?

L1 gives the whole weight of correlated components to one of them, and the rank of a weight may change with C. Reads
PATH, REFITS and COMPONENTS rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.baselines import area
from levercheck.audit.refitted import Component, component_name
from levercheck.audit.stability import positive_sets
from levercheck.evidence.schema import Columns
from levercheck.stats import proportion

COMPONENTS: Columns = {
    "metric": pl.String,  # feature (of a test item), auroc (on test items), correlation (on training items)
    "layer": pl.Int64,
    "index": pl.Int64,
    "item_id": pl.String,
    "other_layer": pl.Int64,  # the component it correlates with most, of all there are
    "other_index": pl.Int64,
    "value": pl.Float64,
}

HEAVIEST = 10
RULES = {"frequency": 0.8, "auroc_rank": 5, "path_rank": 5, "correlation": 0.9}
"""A component is stable when it is selected in at least `frequency` of the bootstrap refits, is among the `auroc_rank`
best selected components on its own, is among the `path_rank` heaviest at the values of C next to the chosen one, and
correlates with no other component by `correlation` or more (absolute)."""


def ranked(path: pl.DataFrame, c: float) -> list[tuple[Component, float]]:
    """Components with a positive weight at a C and that weight, heaviest first."""
    rows = path.filter((pl.col("c") == c) & pl.col("layer").is_not_null() & (pl.col("weight") > 0))
    rows = rows.sort("weight", "layer", "index", descending=[True, False, False])
    return [((int(i), int(j)), float(w)) for i, j, w in rows.select("layer", "index", "weight").rows()]


def heaviest(
    path: pl.DataFrame, chosen: float, refits: pl.DataFrame, components: pl.DataFrame, items: pl.DataFrame
) -> list[dict[str, Any]]:
    """The heaviest components at the chosen C, each with what decides between stable and artefact."""
    cs = sorted(path["c"].unique().to_list())
    by_c = {c: {component: (k + 1, w) for k, (component, w) in enumerate(ranked(path, c))} for c in cs}
    sets = positive_sets(refits, "bootstrap")
    places = _refit_ranks(refits)
    test = items.filter(pl.col("role") == "test").sort("item_id")
    singles = {(i, j): v for i, j, v in _of(components, "auroc").select("layer", "index", "value").rows()}
    best = sorted(singles, key=lambda c: (-singles[c] if singles[c] is not None else 0.0, c))
    at = cs.index(chosen)
    near = [c for k, c in enumerate(cs) if abs(k - at) == 1]
    found = []
    for (layer, index), weight in ranked(path, chosen)[:HEAVIEST]:
        own = (pl.col("layer") == layer) & (pl.col("index") == index)
        feature = _of(components, "feature").filter(own).sort("item_id")["value"].to_numpy()
        partner = _of(components, "correlation").filter(own).row(0, named=True)
        ranks = {c: by_c[c].get((layer, index)) for c in cs}
        places_here = [p[layer, index] for p in places if (layer, index) in p]
        entry = {
            "component": component_name(layer, index),
            "layer": layer,
            "index": index,
            "weight": weight,
            "auroc": area(test, feature).to_dict(),
            "auroc_rank": best.index((layer, index)) + 1,
            "path": [{"c": c, "rank": r[0] if r else None, "weight": r[1] if r else None} for c, r in ranks.items()],
            "frequency": proportion(sum((layer, index) in s for s in sets), len(sets)).to_dict(),
            "heaviest_in_refits": sum(rank == 1 for rank in places_here),
            "median_rank_in_refits": float(np.median(places_here)) if places_here else None,
            "correlation": {
                "with": component_name(partner["other_layer"], partner["other_index"]),
                "value": partner["value"],
                "in_path": _in_path(path, partner["other_layer"], partner["other_index"]),
            },
        }
        neighbours = [ranks[c] for c in near]
        found.append(entry | _verdict(entry, [r[0] if r else None for r in neighbours]))
    return found


def _verdict(entry: dict[str, Any], neighbours: list[int | None]) -> dict[str, Any]:
    """The word by the declared rules; without refits it is open whether a component is stable, not that it is not."""
    frequency = entry["frequency"]["value"]
    passed = {
        "frequency": None if frequency is None else frequency >= RULES["frequency"],
        "auroc_rank": entry["auroc_rank"] <= RULES["auroc_rank"],
        "path_rank": all(rank is not None and rank <= RULES["path_rank"] for rank in neighbours)
        if neighbours
        else None,
        "correlation": abs(entry["correlation"]["value"]) < RULES["correlation"],
    }
    undecided = "not estimable" if None in passed.values() else "stable"
    return {"verdict": "L1 artefact" if False in passed.values() else undecided, "rules_passed": passed}


def _of(components: pl.DataFrame, metric: str) -> pl.DataFrame:
    return components.filter(pl.col("metric") == metric)


def _in_path(path: pl.DataFrame, layer: int, index: int) -> bool:
    return not path.filter((pl.col("layer") == layer) & (pl.col("index") == index)).is_empty()


def _refit_ranks(refits: pl.DataFrame) -> list[dict[Component, int]]:
    """Per bootstrap refit the rank of every selected component by weight."""
    rows = refits.filter(
        (pl.col("purpose") == "bootstrap") & (pl.col("metric") == "weight") & (pl.col("value") > 0)
    ).sort("draw", "value", "layer", "index", descending=[False, True, False, False])
    return [
        {(int(i), int(j)): k + 1 for k, (i, j) in enumerate(part.select("layer", "index").rows())}
        for part in rows.partition_by("draw", maintain_order=True)
    ]
