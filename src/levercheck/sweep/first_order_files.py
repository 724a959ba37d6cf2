"""What an attribution leaves on disk: arrays per item, the strongest components, and what both rest on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from levercheck.errors import UsageError
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import write_atomic, write_json
from levercheck.sweep.pair_items import PairItem

SCHEMA = "levercheck.attribution/v1"
ARRAYS, ITEMS, TOP, FACTS = "effects.safetensors", "items.jsonl", "top.csv", "attribution.json"
COLUMNS = ("family", "layer", "index", "effect", "low", "high", "n", "same_sign")


def check_free(folder: Path) -> None:
    """UsageError unless the folder is absent or empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"'{folder}' exists and is not empty: give --out a new directory")


def write_attribution(
    folder: Path,
    arrays: Mapping[str, np.ndarray[Any, Any]],
    items: Sequence[PairItem],
    top: Sequence[Mapping[str, Any]],
    facts: Mapping[str, Any],
) -> list[Path]:
    """Write all four files into a free folder; returns their paths. Rows of the arrays are those of the items."""
    check_free(folder)
    plain = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    write_atomic(folder / ARRAYS, save(plain, metadata={"schema": SCHEMA}))
    lines = [
        {"id": item.id, "cluster": item.cluster, "tokens": len(item.tokens), "better": item.better, "worse": item.worse}
        for item in items
    ]
    write_atomic(folder / ITEMS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(top)
    write_atomic(folder / TOP, text.getvalue().encode())
    digests = {name: file_digest(folder / name) for name in (ARRAYS, ITEMS, TOP)}
    shapes = {name: list(array.shape) for name, array in plain.items()}
    write_json(folder / FACTS, {"schema": SCHEMA, "shapes": shapes, "sha256": digests, **facts})
    return [folder / name for name in (ARRAYS, ITEMS, TOP, FACTS)]
