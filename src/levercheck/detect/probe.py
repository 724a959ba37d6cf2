"""Stage 5: a sparse logistic readout of captured CETT; C chosen on training folds, the test role opened once.

Labels follow Gao et al. (arXiv 2512.01797): `1-vs-1` separates the answer tokens of wrong answers from those of right
ones; `3-vs-1` adds the other tokens of both as negatives, so that the probe must read the answer and not the sentence.
C is chosen, and the readout judged, on answer tokens alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from levercheck.audit.choice import choose_c, fold_aurocs
from levercheck.audit.classification import classification, confusion
from levercheck.detect.workspace import Workspace
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence import schema
from levercheck.evidence.canonical import digest
from levercheck.evidence.ledger import note
from levercheck.evidence.unit import Row
from levercheck.readouts.readout import FACTS, TENSORS, Readout, load_readout, save_readout
from levercheck.readouts.sparse_logistic import Fit, fit_path, liblinear
from levercheck.readouts.sparse_matrix import Scaling
from levercheck.readouts.store import FeatureStore
from levercheck.study.used import ITEMS, write_items

Floats = np.ndarray[Any, np.dtype[np.float64]]
Ints = np.ndarray[Any, np.dtype[np.int64]]

RAW_GRID = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
SCALED_GRID = (0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.4)


class ProbeSpec(BaseModel):
    """Settings of one probe. An empty `cs` means the default grid for raw or for standardised features."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["1-vs-1", "3-vs-1"] = "3-vs-1"
    measure: Literal["cett", "abs"] = "cett"
    reduce: Literal["mean", "max"] = "mean"
    scale: bool = False  # standardise features; the method uses them raw
    intercept: Literal["free", "penalised"] = "free"  # liblinear penalises it
    solver: Literal["working-set", "liblinear"] = "working-set"
    cs: tuple[float, ...] = ()
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _one_problem(self) -> ProbeSpec:
        if self.solver == "liblinear" and self.intercept == "free":
            raise ValueError("liblinear penalises the intercept: give intercept = penalised with it")
        return self

    @property
    def grid(self) -> tuple[float, ...]:
        """The values of C, ascending."""
        return tuple(sorted(set(self.cs))) or (SCALED_GRID if self.scale else RAW_GRID)

    def channel(self, region: str = "answer") -> str:
        """The store's channel that holds a region."""
        return f"{region}.{self.measure}.{self.reduce}"


@dataclass(frozen=True)
class Items:
    """Labelled items and where they stand in the store, arrays in one order."""

    ids: tuple[str, ...]
    wrong: np.ndarray[Any, np.dtype[np.bool_]]
    groups: np.ndarray[Any, Any]
    folds: Ints
    positions: Ints

    @classmethod
    def of(cls, rows: pl.DataFrame, store: FeatureStore) -> Items:
        """From SPLIT rows of one role."""
        rows = rows.sort("item_id")
        ids = tuple(rows["item_id"].to_list())
        return cls(
            ids,
            (rows["label"] == "wrong").to_numpy(),
            rows["group"].to_numpy(),
            rows["fold"].fill_null(-1).to_numpy(),
            store.positions(ids),
        )


@dataclass(frozen=True)
class Training:
    """The store seen as one matrix, and which of its rows are negatives and positives for a set of items.

    Nothing is copied: a row of `matrix`, [channels * items, neurons of all layers], is one channel of one item.
    """

    store: FeatureStore
    spec: ProbeSpec

    @cached_property
    def matrix(self) -> np.ndarray[Any, Any]:
        """The whole store, [channels * items, layers * neurons]."""
        channels, items, layers, neurons = self.store.array.shape
        return self.store.array.reshape(channels * items, layers * neurons)

    def rows(self, positions: Ints, wrong: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[Ints, Floats]:
        """Rows of the matrix to fit on and the label of every row of the matrix (0 where it is not used)."""
        count = len(self.store.item_ids)
        answer = self._offset("answer") * count + positions
        labels = np.zeros(len(self.matrix))
        labels[answer] = wrong
        if self.spec.mode == "1-vs-1":
            return answer, labels
        return np.concatenate([answer, self._offset("other") * count + positions]), labels

    def answers(self, positions: Ints) -> Ints:
        """Rows of the answer channel."""
        return self._offset("answer") * len(self.store.item_ids) + positions

    def _offset(self, region: str) -> int:
        name = self.spec.channel(region)
        self.store.channel(name)  # names the nearest channel when there is none
        return self.store.channels.index(name)

    def fit(
        self, positions: Ints, wrong: np.ndarray[Any, np.dtype[np.bool_]], cs: Sequence[float]
    ) -> list[tuple[Fit, Scaling | None]]:
        """Solutions for ascending C on the given items; both classes are needed."""
        if not 0 < wrong.sum() < len(wrong):
            raise NotEnoughDataError(
                f"{int(wrong.sum())} of {len(wrong)} items are wrong: a probe needs both classes in every fold; "
                "collect more questions or use fewer folds"
            )
        rows, labels = self.rows(positions, wrong)
        scaling = Scaling.of(self.matrix, rows) if self.spec.scale else None
        if self.spec.solver == "liblinear":
            fits = [liblinear(self.matrix, labels, c, rows=rows, scaling=scaling) for c in cs]
            return [(fit, scaling) for fit in fits]
        fits = fit_path(self.matrix, labels, cs, rows=rows, scaling=scaling, intercept=self.spec.intercept)
        return [(fit, scaling) for fit in fits]

    def scores(self, fit: Fit, scaling: Scaling | None, positions: Ints) -> Floats:
        """Log-odds of "wrong" of the items' answers; reads the support's columns only."""
        support = np.flatnonzero(fit.coefficients)
        x = self.matrix[np.ix_(self.answers(positions), support)].astype(np.float64)
        if scaling is not None:
            x = (x - scaling.mean[support]) / scaling.deviation[support]
        found: Floats = x @ fit.coefficients[support] + fit.intercept
        return found


def probe(ws: Workspace, store: FeatureStore, spec: ProbeSpec, name: str = "default") -> Readout:
    """Fit a readout, write its rows, files and results under `probes/<name>`, and return it."""
    folder = f"probes/{checked_name(name)}"
    split = ws.rows("split")
    train = Items.of(split.filter(pl.col("role") == "train"), store)
    test = Items.of(split.filter(pl.col("role") == "test"), store)
    capture = ws.sidecar("capture")
    facts = {
        "channel": spec.channel(),
        "mode": spec.mode,
        "model": capture["settings"].get("model"),
        "capture": capture["key"],
        "split": ws.sidecar("split")["key"],
        "train_items": len(train.ids),
        "train_sha256": digest(list(train.ids)),
    }
    finder = _Finder(Training(store, spec), train, test)

    def work(fold: int | None) -> list[Row]:
        if fold is not None:
            return finder.fold_rows(fold)
        rows = finder.final_rows()
        save_readout(finder.readout(facts), ws.root / folder)
        asked = ws.rows("questions")
        write_items(ws.root / folder, asked["item_id"], asked["entity"])
        note(ws.root, "test opened", probe=name, c=finder.c, items=len(test.ids))
        return rows

    ws.compute(
        folder,
        {**spec.model_dump(mode="json"), "cs": list(spec.grid)},
        ["split", "capture"],
        schema.PROBE_SCORES,
        ["purpose", "c", "item_id"],
        title=f"probe {name}",
        batches=[*finder.folds, None],
        rows=len(train.ids) * (len(spec.grid) + 1) + len(test.ids),
        work=work,
        files=[ws.root / folder / part for part in (TENSORS, FACTS, ITEMS)],
        summarise=lambda rows: results(rows, split, spec),
    )
    path_rows(ws, folder, finder, spec)
    return load_readout(ws.root / folder)


def path_rows(ws: Workspace, folder: str, finder: _Finder, spec: ProbeSpec) -> pl.DataFrame:
    """PATH rows: the weights at every C."""
    return ws.compute(
        f"{folder}/path",
        {"cs": list(spec.grid)},
        [folder],
        schema.PATH,
        ["c", "layer", "index"],
        title="C path",
        batches=[None],
        rows=len(spec.grid),
        work=lambda _: finder.weights(),
        summarise=lambda rows: {"path": path_table(rows)},
    )


class _Finder:
    """Fits lazily, so that a finished probe costs nothing to read."""

    def __init__(self, training: Training, train: Items, test: Items) -> None:
        self.training, self.train, self.test = training, train, test

    @cache  # noqa: B019 - lives as long as one command
    def fold(self, fold: int) -> Floats:
        """Log-odds of the items of one fold at every C, from fits on the others, float64 [cs, items of the fold]."""
        train, held = self.train, self.train.folds == fold
        fitted = self.training.fit(train.positions[~held], train.wrong[~held], self.training.spec.grid)
        return np.stack([self.training.scores(fit, scaling, train.positions[held]) for fit, scaling in fitted])

    @cached_property
    def out_of_fold(self) -> Floats:
        """Held-out log-odds of every training item at every C, float64 [cs, items]."""
        scores = np.empty((len(self.training.spec.grid), len(self.train.ids)))
        for fold in self.folds:
            scores[:, self.train.folds == fold] = self.fold(fold)
        return scores

    @property
    def folds(self) -> list[int]:
        """Numbers of the folds."""
        return [int(fold) for fold in np.unique(self.train.folds)]

    @cached_property
    def path(self) -> list[tuple[Fit, Scaling | None]]:
        """Solutions on all training items at every C."""
        return self.training.fit(self.train.positions, self.train.wrong, self.training.spec.grid)

    @cached_property
    def c(self) -> float:
        """The C with the best mean out-of-fold AUROC on answer tokens."""
        areas = fold_aurocs(self.out_of_fold, self.train.wrong.astype(float), self.train.folds)
        return choose_c(self.training.spec.grid, areas)

    @property
    def chosen(self) -> tuple[Fit, Scaling | None]:
        """The solution at that C."""
        return self.path[self.training.spec.grid.index(self.c)]

    def readout(self, facts: Mapping[str, Any]) -> Readout:
        """The chosen solution as a readout."""
        fit, scaling = self.chosen
        shape = self.training.store.array.shape[2:]
        dense = fit.coefficients.reshape(shape)
        more = {"c": fit.c, "kkt_residual": fit.kkt_residual}
        if scaling is None:
            return Readout.of_dense(dense, fit.intercept, {**facts, **more})
        return Readout.of_dense(
            dense, fit.intercept, {**facts, **more}, scaling.mean.reshape(shape), scaling.deviation.reshape(shape)
        )

    def fold_rows(self, fold: int) -> list[Row]:
        """Out-of-fold scores of one fold at every C."""
        held = [item for item, f in zip(self.train.ids, self.train.folds, strict=True) if f == fold]
        return [
            {"item_id": item, "purpose": "cv", "c": c, "fold": fold, "score": float(score)}
            for c, scores in zip(self.training.spec.grid, self.fold(fold), strict=True)
            for item, score in zip(held, scores, strict=True)
        ]

    def final_rows(self) -> list[Row]:
        """Training and test scores at the chosen C."""
        fit, scaling = self.chosen
        rows: list[Row] = []
        for purpose, items in (("train", self.train), ("test", self.test)):
            scores = self.training.scores(fit, scaling, items.positions)
            rows += [
                {"item_id": item, "purpose": purpose, "c": fit.c, "fold": -1, "score": float(score)}
                for item, score in zip(items.ids, scores, strict=True)
            ]
        return rows

    def weights(self) -> list[Row]:
        """PATH rows of all solutions."""
        neurons = self.training.store.array.shape[3]
        rows: list[Row] = []
        for fit, scaling in self.path:
            rows.append({"c": fit.c, "weight": fit.intercept, "kkt": fit.kkt_residual})
            for at in np.flatnonzero(fit.coefficients):
                rows.append(
                    {
                        "c": fit.c,
                        "layer": int(at // neurons),
                        "index": int(at % neurons),
                        "weight": float(fit.coefficients[at]),
                        "mean": None if scaling is None else float(scaling.mean[at]),
                        "deviation": None if scaling is None else float(scaling.deviation[at]),
                    }
                )
        return rows


def results(rows: pl.DataFrame, split: pl.DataFrame, spec: ProbeSpec) -> dict[str, Any]:
    """Estimates of a probe from its PROBE_SCORES rows: the choice of C, and train and test performance."""
    labelled = rows.join(split.select("item_id", "label", "group"), on="item_id").sort("item_id")
    found: dict[str, Any] = {}
    for purpose in ("train", "test"):
        part = labelled.filter(pl.col("purpose") == purpose)
        wrong, score = (part["label"] == "wrong").to_numpy(), part["score"].to_numpy()
        estimates = classification(score, wrong, part["group"].to_numpy(), seed=spec.seed)
        found[purpose] = {name: e.to_dict() for name, e in estimates.items()}
        found[purpose]["confusion"] = confusion(score, wrong)
    cv = labelled.filter(pl.col("purpose") == "cv")
    by_c = [cv.filter(pl.col("c") == c).sort("item_id") for c in spec.grid]
    areas = fold_aurocs(
        np.stack([f["score"].to_numpy() for f in by_c]),
        (by_c[0]["label"] == "wrong").to_numpy().astype(float),
        by_c[0]["fold"].to_numpy(),
    )
    found["c"] = choose_c(spec.grid, areas)
    found["c_is_the_largest_tried"] = found["c"] == spec.grid[-1]
    found["c_grid"] = [
        {"c": c, "mean_fold_auroc": float(a.mean()), "sd": float(a.std(ddof=1)), "folds": len(a)}
        for c, a in zip(spec.grid, areas, strict=True)
    ]
    return found


def path_table(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Per C: how many weights are not zero, how many positive, and the positive ones per layer."""
    table = []
    for c in sorted(rows["c"].unique().to_list()):
        part = rows.filter((pl.col("c") == c) & pl.col("layer").is_not_null())
        positive = part.filter(pl.col("weight") > 0)
        layers = positive.group_by("layer").len().sort("layer").rows()
        table.append(
            {
                "c": c,
                "kkt_residual": rows.filter(pl.col("c") == c)["kkt"].max(),
                "nonzero": len(part),
                "positive": len(positive),
                "layers": {str(layer): count for layer, count in layers},
            }
        )
    return table


def checked_name(name: str) -> str:
    """A probe's name as a folder name; anything else is a UsageError."""
    if not name or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
        raise UsageError(f"probe name '{name}' is no plain name: use letters, digits, '-', '_' and '.'")
    return name
