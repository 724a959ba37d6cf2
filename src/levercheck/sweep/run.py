"""Run a whole sweep in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from levercheck.benchmarks.counterfactual import WITH_CONTEXT, WITHOUT_CONTEXT, ContextItem
from levercheck.evidence import schema
from levercheck.lm.model import LanguageModel
from levercheck.sweep.arms import Arm, CellRunner, plan_cells


def run_sweep(
    lm: LanguageModel, arms: Sequence[Arm], items: Sequence[ContextItem], *, doses: Sequence[float]
) -> pl.DataFrame:
    """Every arm at every dose, with and without context: SWEEP rows. Called as `levercheck.sweep(...)`."""
    rows: list[dict[str, Any]] = []
    for cell in plan_cells(arms, doses, (WITH_CONTEXT, WITHOUT_CONTEXT)):
        runner = CellRunner(lm, cell, items)
        for batch in runner.batches():
            rows += runner.score(batch)
    return pl.DataFrame(rows, schema=schema.SWEEP, orient="row")
