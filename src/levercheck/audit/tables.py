"""The rows of a finished run, read once and checked against each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.labels import consistency
from levercheck.audit.spec import AuditSpec
from levercheck.errors import IntegrityError
from levercheck.evidence.files import read_json
from levercheck.evidence.rows import content_digest, read_part
from levercheck.evidence.unit import read_array

Floats = np.ndarray[Any, np.dtype[np.float64]]
STUDY = "study.json"
TARGET, POSITIVE, RANDOM = "h_neurons", "gradient", "random"
BASELINE, NOOP = "baseline", "noop"
SWEEP_KEY = ("benchmark", "condition", "control_seed", "alpha", "item_id")
UNITS = ("answers", "capture", "probe", "readout", "items", "attribution", "sets")


@dataclass(frozen=True)
class ArmRows:
    """One arm over the dose grid: tables of [items, doses] in item-id order."""

    label: str
    condition: str
    neurons: tuple[tuple[int, int], ...]
    items: tuple[str, ...]
    entities: tuple[str, ...]
    complied: np.ndarray[Any, np.dtype[np.bool_]]  # with context
    logit: Floats  # with context, asserted minus true
    correct: np.ndarray[Any, np.dtype[np.bool_]]  # without context
    mass: Floats  # without context, joint probability of the two candidate answers
    relative_dose: Floats  # with context; NaN where nothing was hooked


@dataclass(frozen=True)
class RunTables:
    """Everything an audit reads. What was not measured is None or absent, and its gates are then missing."""

    spec: AuditSpec
    study: dict[str, Any]
    frames: dict[str, pl.DataFrame]
    train: pl.DataFrame | None  # labelled items the probe was fitted on
    test: pl.DataFrame | None  # labelled items with the probe's score
    sweep: pl.DataFrame | None
    effects: np.ndarray[Any, np.dtype[np.float32]] | None  # first-order, [select items, layers, neurons]

    def digests(self) -> dict[str, str]:
        """Content digest of every row table, by unit."""
        named = {name: content_digest(frame) for name, frame in self.frames.items()}
        return named if self.sweep is None else {**named, "cells": content_digest(self.sweep)}

    def neurons(self, condition: str, control_seed: int | None) -> tuple[tuple[int, int], ...]:
        """The neuron set of an arm; empty when the sets are not among the rows."""
        if "sets" not in self.frames:
            return ()
        rows = self.frames["sets"].filter(_of(condition, control_seed))
        return tuple(zip(rows["layer"].to_list(), rows["index"].to_list(), strict=True))

    def arms(self) -> list[ArmRows]:
        """Every arm, H-neurons first, then the positive control, then the random sets in order."""
        if self.sweep is None:
            return []
        own = self.sweep.filter(~pl.col("condition").is_in([BASELINE, NOOP]))
        pairs = own.select("condition", "control_seed").unique().rows()
        order = {TARGET: 0, POSITIVE: 1}
        return [self._arm(c, s) for c, s in sorted(pairs, key=lambda p: (order.get(p[0], 2), p[0], p[1] or 0))]

    def _arm(self, condition: str, control_seed: int | None) -> ArmRows:
        assert self.sweep is not None
        shared = (pl.col("condition") == BASELINE) & (pl.col("alpha") == self.spec.noop_dose)
        rows = self.sweep.filter(_of(condition, control_seed) | shared)
        label = condition if control_seed is None else f"{condition}-{control_seed}"
        context = self._grid(rows, "counterfactual-context", label)
        bare = self._grid(rows, "bare-facts", label)
        first = context[0]
        return ArmRows(
            label,
            condition,
            self.neurons(condition, control_seed),
            tuple(first["item_id"].to_list()),
            tuple(first["cluster_id"].to_list()),
            np.column_stack([f["positive"].to_numpy() for f in context]),
            np.column_stack([f["value"].to_numpy() for f in context]),
            np.column_stack([f["positive"].to_numpy() for f in bare]),
            np.column_stack([f["mass"].to_numpy() for f in bare]),
            np.column_stack([f["relative_dose"].cast(pl.Float64).fill_null(float("nan")).to_numpy() for f in context]),
        )

    def _grid(self, rows: pl.DataFrame, benchmark: str, label: str) -> list[pl.DataFrame]:
        """One frame per dose, all with the same items in the same order."""
        frames = []
        for dose in self.spec.doses:
            frame = rows.filter((pl.col("benchmark") == benchmark) & (pl.col("alpha") == dose)).sort("item_id")
            frames.append(frame)
            if frame["item_id"].to_list() != frames[0]["item_id"].to_list() or frame["item_id"].n_unique() != len(
                frame
            ):
                raise IntegrityError(
                    f"arm {label} has {len(frame)} rows at dose {dose:g} on {benchmark} and {len(frames[0])} at dose "
                    f"{self.spec.doses[0]:g}, expected the same items once each: run the study again"
                )
        if frames[0].is_empty():
            raise IntegrityError(f"arm {label} has no rows on {benchmark}: run the study again")
        return frames


def _of(condition: str, control_seed: int | None) -> pl.Expr:
    """Rows of one arm."""
    return (pl.col("condition") == condition) & pl.col("control_seed").eq_missing(pl.lit(control_seed, pl.Int64))


def read_tables(root: Path) -> RunTables:
    """Read a run directory; a missing or unreadable piece is an error that names it."""
    path = root / STUDY
    if not path.is_file():
        raise IntegrityError(f"'{root.name}' has no {STUDY}, expected the output directory of a levercheck run")
    study = read_json(path)
    frames = {name: read_part(root / name) for name in UNITS}
    cells = sorted(p for p in (root / "cells").glob("*") if p.is_dir())
    if not cells:
        raise IntegrityError(f"'{root.name}' has no cells: the sweep has not run; repeat the command to continue it")
    sweep = pl.concat([read_part(cell) for cell in cells]).sort(SWEEP_KEY)
    effects = read_array(root / "attribution" / "effects.npy")
    if len(effects) != len(frames["attribution"]):
        raise IntegrityError(f"effects.npy has {len(effects)} items, its rows {len(frames['attribution'])}: restore it")
    labels, scores = consistency(frames["answers"]), frames["probe"]
    trained = scores.filter(pl.col("purpose") == "cv").select("item_id").unique()
    opened = scores.filter(pl.col("purpose") == "test").select("item_id", "score")
    spec = AuditSpec.model_validate(study["spec"]["audit"])
    return RunTables(
        spec,
        study,
        frames,
        train=labels.join(trained, on="item_id", how="semi").sort("item_id"),
        test=labels.join(opened, on="item_id", validate="1:1").sort("item_id"),
        sweep=sweep,
        effects=effects,
    )
