"""Choosing a probe's regularisation from out-of-fold scores, so that `verify` can repeat the choice from rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from levercheck.errors import NotEnoughDataError
from levercheck.stats import auroc

Array = np.ndarray[Any, np.dtype[Any]]


def fold_aurocs(scores: Array, labels: Array, folds: Array) -> Array:
    """AUROC of each row of scores [cs, items] in each fold that holds both classes, float64 [cs, folds]."""
    both = [f for f in np.unique(folds) if 0 < labels[folds == f].sum() < (folds == f).sum()]
    if len(both) < 2:
        raise NotEnoughDataError(f"{len(both)} folds hold both classes, expected at least 2: ask more questions")
    return np.array([[auroc(row[folds == f], labels[folds == f] > 0).value for f in both] for row in scores])


def choose_c(cs: Sequence[float], aurocs: Array) -> float:
    """The C with the best mean fold AUROC, the smallest (sparsest) among equals: the selection key of Gao et al."""
    return float(cs[int(aurocs.mean(axis=1).argmax())])
