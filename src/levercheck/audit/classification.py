"""How well a detector's scores tell wrong answers from right ones, each number with its interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from levercheck.stats import Estimate, auroc, bootstrap_totals

Floats = np.ndarray[Any, np.dtype[np.float64]]
Bools = np.ndarray[Any, np.dtype[np.bool_]]

_PARTS = {
    "accuracy": lambda t: (t[:, 0] + t[:, 3]) / t.sum(axis=1),
    "precision": lambda t: t[:, 0] / (t[:, 0] + t[:, 1]),
    "recall": lambda t: t[:, 0] / (t[:, 0] + t[:, 2]),
    "f1": lambda t: 2 * t[:, 0] / (2 * t[:, 0] + t[:, 1] + t[:, 2]),
}


def classification(
    scores: Floats,
    wrong: Bools,
    clusters: np.ndarray[Any, Any],
    *,
    cluster_unit: str = "group",
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Estimate]:
    """AUROC, accuracy, precision, recall and F1 of float64 [items] log-odds against bool [items].

    The decision is score > 0, "wrong" is the positive class. Precision is undefined without a positive decision; it is
    then not estimable, never 0. Intervals: Obuchowski (1997) for AUROC, percentile cluster bootstrap for the rest.
    """
    flagged = scores > 0
    table = np.stack([flagged & wrong, flagged & ~wrong, ~flagged & wrong, ~flagged & ~wrong], axis=1).astype(float)
    found = {"auroc": auroc(scores, wrong, clusters=clusters, level=level, cluster_unit=cluster_unit)}
    for name, statistic in _PARTS.items():
        found[name] = bootstrap_totals(
            table, statistic, clusters, level, seed=seed, unit="fraction", cluster_unit=cluster_unit
        )
    return found


def confusion(scores: Floats, wrong: Bools) -> dict[str, int]:
    """Counts at score > 0."""
    flagged = scores > 0
    return {
        "wrong_flagged": int((flagged & wrong).sum()),
        "right_flagged": int((flagged & ~wrong).sum()),
        "wrong_missed": int((~flagged & wrong).sum()),
        "right_passed": int((~flagged & ~wrong).sum()),
    }
