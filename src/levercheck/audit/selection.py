"""Did the way items entered the probe depend on their label? Then the probe may read the way, not the answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.baselines import CLUSTER, LENGTHS, wrong_of
from levercheck.audit.classification import Bools, Floats
from levercheck.stats import Estimate, bootstrap_totals, proportion

LABELS = ("right", "wrong")


def selection(spans: pl.DataFrame, split: pl.DataFrame, items: pl.DataFrame, seed: int = 0) -> dict[str, Any]:
    """Shares per label of spans found, of methods and of reserve reasons, and mean lengths, from rows.

    `spans`: SPANS rows; `split`: SPLIT rows; `items`: ITEMS rows. Every `difference` is wrong minus right.
    """
    return {
        "spans": _shares(
            spans,
            {"found": spans["reason"].is_null()}
            | {f"method {m}": spans["method"] == m for m in sorted(spans["method"].drop_nulls().unique().to_list())},
            None,
            seed,
        ),
        "reserve": _shares(
            split,
            {reason: split["reason"] == reason for reason in sorted(split["reason"].drop_nulls().unique().to_list())},
            "group",
            seed,
        ),
        "lengths": {name: _lengths(items.filter(pl.col(name).is_not_null()), name, seed) for name in LENGTHS},
    }


def label_difference(
    values: Floats, wrong: Bools, clusters: Any = None, unit: str = "value", seed: int = 0
) -> Estimate:
    """Mean of float64 [items] over wrong minus over right items, percentile (cluster) bootstrap."""
    parts = np.stack([values * wrong, wrong, values * ~wrong, ~wrong], axis=1).astype(np.float64)
    return bootstrap_totals(
        parts,
        lambda t: t[:, 0] / t[:, 1] - t[:, 2] / t[:, 3],
        clusters,
        seed=seed,
        unit=unit,
        cluster_unit=None if clusters is None else CLUSTER,
    )


def _shares(rows: pl.DataFrame, events: dict[str, pl.Series], cluster: str | None, seed: int) -> dict[str, Any]:
    wrong = wrong_of(rows)
    clusters = None if cluster is None else rows[cluster].to_numpy()
    found: dict[str, Any] = {}
    for name, event in events.items():
        happened = event.fill_null(False).to_numpy()
        found[name] = {
            "right": proportion(int(happened[~wrong].sum()), int((~wrong).sum())).to_dict(),
            "wrong": proportion(int(happened[wrong].sum()), int(wrong.sum())).to_dict(),
            "difference": label_difference(happened.astype(float), wrong, clusters, "fraction", seed).to_dict(),
        }
    return found


def _lengths(part: pl.DataFrame, name: str, seed: int) -> dict[str, Any]:
    values, wrong = part[name].cast(pl.Float64).to_numpy(), wrong_of(part)
    unit = "characters" if name.endswith("characters") else "tokens"
    clusters = part["group"].to_numpy()
    found: dict[str, Any] = {}
    for label, chosen in zip(LABELS, (~wrong, wrong), strict=True):
        totals = np.stack([values[chosen], np.ones(int(chosen.sum()))], axis=1)
        found[label] = bootstrap_totals(
            totals, lambda t: t[:, 0] / t[:, 1], clusters[chosen], seed=seed, unit=unit, cluster_unit=CLUSTER
        ).to_dict()
    return {**found, "difference": label_difference(values, wrong, clusters, unit, seed).to_dict()}
