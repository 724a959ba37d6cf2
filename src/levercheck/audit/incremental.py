"""Does the probe add anything to what is known without it?

Two logistic models are fitted on the training items: all baselines, and the same with the probe's out-of-fold score
(its in-sample score is overfitted and would be trusted too much). Both are judged on the test items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.baselines import BASELINES, CLUSTER, LENGTHS, area, surface, wrong_of
from levercheck.audit.classification import Bools, Floats
from levercheck.stats import auroc_difference, mean

RIDGE = 1.0
"""Weight of ½‖w‖² beside the summed log-loss, on standardised columns: enough for separable data, little otherwise."""

COVERAGE = 0.9
"""A baseline enters when at least this share of the items of both roles have it; items that lack one are left out."""


def incremental(items: pl.DataFrame) -> dict[str, Any]:
    """Test AUROC of both models, their paired difference, and the mean gain in log-loss (nats per item).

    `items`: ITEMS rows. A positive `log_loss_gain` means that the probe's score makes the labels more probable.
    """
    columns = surface(items)
    train_rows = (items["role"] == "train").to_numpy()
    used, left_out = [], {}
    for name in BASELINES:
        present = columns[name].is_not_null().to_numpy()
        coverage = min(present[train_rows].mean(), present[~train_rows].mean())
        if coverage < COVERAGE:
            left_out[name] = f"{coverage:.0%} of a role's items have it, expected {COVERAGE:.0%}"
        elif columns[name].filter(pl.Series(train_rows)).drop_nulls().n_unique() < 2:
            left_out[name] = "the same for every training item"
        else:
            used.append(name)
    complete = columns.select(pl.all_horizontal(pl.lit(True), *(pl.col(n).is_not_null() for n in used))).to_series()
    kept, columns = items.filter(complete), columns.filter(complete)
    found: dict[str, Any] = {
        "baselines": used,
        "left_out": left_out,
        "ridge": RIDGE,
        "incomplete_items": int((~complete).sum()),
    }
    train = (kept["role"] == "train").to_numpy()
    wrong = wrong_of(kept)
    if not used or not 0 < wrong[train].sum() < train.sum() or not (~train).any():
        return {**found, "absent": "no baseline or no second class to fit on"}
    plain = _standardised(np.column_stack([_tamed(n, columns[n].to_numpy()) for n in used]), train)
    with_probe = np.column_stack([plain, _standardised(kept["score"].to_numpy()[:, None], train)])
    test = kept.filter(pl.Series(~train))
    groups = test["group"].to_numpy()
    margins = [x[~train] @ w[1:] + w[0] for x in (plain, with_probe) for w in [ridge_logistic(x[train], wrong[train])]]
    losses = [np.logaddexp(0, np.where(wrong[~train], -m, m)) for m in margins]
    return {
        **found,
        "train_items": int(train.sum()),
        "surface": area(test, margins[0]).to_dict(),
        "surface_and_probe": area(test, margins[1]).to_dict(),
        "difference": auroc_difference(
            margins[1], margins[0], wrong[~train], clusters=groups, cluster_unit=CLUSTER
        ).to_dict(),
        "log_loss_gain": mean(
            losses[0] - losses[1], clusters=groups, unit="nats per item", cluster_unit=CLUSTER
        ).to_dict(),
    }


def ridge_logistic(x: Floats, wrong: Bools, ridge: float = RIDGE) -> Floats:
    """Minimise Σ log-loss + ½ ridge ‖w‖² by Newton's method; float64 [1 + columns], the free intercept first."""
    design = np.column_stack([np.ones(len(x)), x])
    penalty = np.array([0.0] + [ridge] * x.shape[1])
    y = wrong.astype(np.float64)
    w = np.zeros(design.shape[1])

    def loss(at: Floats) -> float:
        margin = design @ at
        return float(np.logaddexp(0, np.where(wrong, -margin, margin)).sum() + 0.5 * penalty @ at**2)

    for _ in range(100):
        p = np.exp(-np.logaddexp(0, -(design @ w)))
        gradient = design.T @ (p - y) + penalty * w
        if np.abs(gradient).max() < 1e-9 * len(x):
            break
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty + 1e-12)
        step, size, before = np.linalg.solve(hessian, gradient), 1.0, loss(w)
        while loss(w - size * step) > before and size > 1e-8:
            size /= 2
        w = w - size * step
    return w


def _tamed(name: str, values: Floats) -> Floats:
    """Lengths on a logarithmic scale with their sign (one very long response must not decide); others as they are."""
    return np.sign(values) * np.log1p(np.abs(values)) if name in LENGTHS else values


def _standardised(x: Floats, train: Bools) -> Floats:
    deviation = x[train].std(axis=0)
    scaled: Floats = (x - x[train].mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    return scaled
