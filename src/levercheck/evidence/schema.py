"""Columns of every row table a run writes. Unused columns of a table stay null; missing is never a number."""

from __future__ import annotations

from typing import Any

import polars as pl

Columns = dict[str, Any]  # column name to polars type

ANSWERS: Columns = {
    "item_id": pl.String,
    "category": pl.String,
    "entity": pl.String,  # the unit of splits and of clustered intervals
    "role": pl.String,  # readout, select or confirm
    "sample": pl.Int64,
    "text": pl.String,
    "tokens": pl.List(pl.Int64),
    "correct": pl.Boolean,
    "mean_logprob": pl.Float64,  # natural log, mean over the answer's tokens
    "first_logprob": pl.Float64,
    "stopped": pl.Boolean,  # False: cut by the token cap
}

CAPTURED: Columns = {"item_id": pl.String, "index": pl.Int64, "tokens": pl.Int64}
"""Which row of the array beside this table belongs to which item."""

PROBE_SCORES: Columns = {
    "item_id": pl.String,
    "purpose": pl.String,  # cv (out-of-fold, to choose C), test (opened once)
    "c": pl.Float64,
    "fold": pl.Int64,
    "score": pl.Float64,  # log-odds of "consistently wrong"
}

READOUT: Columns = {
    "c": pl.Float64,
    "layer": pl.Int64,  # null: the intercept
    "index": pl.Int64,
    "weight": pl.Float64,  # per standard deviation of the component
    "mean": pl.Float64,  # of the component over the training items
    "deviation": pl.Float64,
}

ITEMS: Columns = {
    "item_id": pl.String,
    "category": pl.String,
    "entity": pl.String,
    "role": pl.String,
    "asserted": pl.String,
    "true": pl.String,
    "asserted_token": pl.Int64,
    "true_token": pl.Int64,
    "dropped": pl.String,  # why the item is not used, null when it is
}

SETS: Columns = {"condition": pl.String, "control_seed": pl.Int64, "layer": pl.Int64, "index": pl.Int64}

SWEEP: Columns = {
    "benchmark": pl.String,
    "condition": pl.String,
    "control_seed": pl.Int64,
    "alpha": pl.Float64,
    "split": pl.String,
    "item_id": pl.String,
    "cluster_id": pl.String,
    "ruler": pl.String,
    "positive": pl.Boolean,  # complied with the asserted answer, or, without context, preferred the true one
    "value": pl.Float64,  # logit(asserted) - logit(true)
    "mass": pl.Float64,  # joint probability of the two candidate tokens
    "relative_dose": pl.Float64,  # ‖Δ‖/‖h‖ at the site, null where nothing was hooked
}
