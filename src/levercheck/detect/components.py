"""What the selected components say on their own: features of the heaviest, AUROC of each, and their nearest double."""

from __future__ import annotations

import numpy as np
import polars as pl

from levercheck.audit.heaviest import COMPONENTS, HEAVIEST, ranked
from levercheck.detect.probe import Floats, Ints, Items, Training
from levercheck.detect.workspace import Workspace
from levercheck.evidence.unit import Row
from levercheck.readouts.sparse_matrix import Columns, Scaling
from levercheck.stats import auroc


def component_rows(training: Training, train: Items, test: Items, selected: list[tuple[int, int]]) -> list[Row]:
    """COMPONENTS rows of the selected components, heaviest first.

    Only the first `HEAVIEST` get the features of every test item and the correlation; that one is looked for among all
    components of the model, because an exact double of a selected component never enters the path of C.
    """
    neurons = training.store.array.shape[3]
    at = np.array([layer * neurons + index for layer, index in selected], dtype=np.int64)
    features = training.matrix[np.ix_(training.answers(test.positions), at)].astype(np.float64)
    rows: list[Row] = []
    for column, (layer, index) in enumerate(selected):
        place = {"layer": layer, "index": index}
        rows.append({"metric": "auroc", **place, "value": auroc(features[:, column], test.wrong).value})
        if column < HEAVIEST:
            rows += [
                {"metric": "feature", **place, "item_id": item, "value": float(value)}
                for item, value in zip(test.ids, features[:, column], strict=True)
            ]
    top = at[:HEAVIEST]
    for place_of, other, value in zip(selected, *_nearest(training, train, top), strict=False):
        rows.append(
            {
                "metric": "correlation",
                "layer": place_of[0],
                "index": place_of[1],
                "other_layer": int(other // neurons),
                "other_index": int(other % neurons),
                "value": float(value),
            }
        )
    return rows


def _nearest(training: Training, train: Items, at: Ints) -> tuple[Ints, Floats]:
    """For some columns the other column that correlates most (absolute) on training answers, and the correlation."""
    rows = training.answers(train.positions)
    columns = Columns(training.matrix, rows, Scaling.of(training.matrix, rows))
    order = np.argsort(at)
    own = np.empty((len(rows), len(at)))
    own[:, order] = columns.gather(at[order])
    correlation = columns.gradients(own) / len(rows)
    correlation[np.arange(len(at)), at] = 0.0
    other = np.abs(correlation).argmax(axis=1)
    return other, np.clip(correlation[np.arange(len(at)), other], -1.0, 1.0)


def components(
    ws: Workspace, name: str, training: Training, train: Items, test: Items, path: pl.DataFrame, c: float
) -> pl.DataFrame:
    """COMPONENTS rows of a probe, under `probes/<name>/components`."""
    folder = f"probes/{name}"
    selected = [component for component, _ in ranked(path, c)]
    return ws.compute(
        f"{folder}/components",
        {"heaviest": HEAVIEST},
        ["split", "capture", folder, f"{folder}/path"],
        COMPONENTS,
        ["metric", "layer", "index", "item_id"],
        title=f"components of probe {name}",
        batches=[None] if selected else [],
        rows=len(selected) + min(HEAVIEST, len(selected)) * (len(test.ids) + 1),
        work=lambda _: component_rows(training, train, test, selected),
    )
