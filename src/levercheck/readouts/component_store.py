"""Component statistics on disk: safetensors for the arrays, JSON for what they were measured on."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import read_json, write_atomic, write_json
from levercheck.readouts.component_statistics import (
    ComponentStatistics,
    HeadStatistics,
    LatentStatistics,
    NeuronStatistics,
)

SCHEMA = "levercheck.components/v1"
TENSORS, FACTS = "components.safetensors", "components.json"


def save_statistics(found: ComponentStatistics, folder: Path) -> list[Path]:
    """Write both files into a folder that holds none yet; returns their paths."""
    if (folder / FACTS).exists():
        raise UsageError(f"'{folder}' holds component statistics already: give another folder, or use those")
    plain = {name: np.ascontiguousarray(array) for name, array in found.arrays().items()}
    write_atomic(folder / TENSORS, save(plain, metadata={"schema": SCHEMA}))
    facts = {name: getattr(found, name) for name in ("tokens", "sequences", "threshold", "text")}
    body = {"schema": SCHEMA, **facts, "model": dict(found.model), "sha256": file_digest(folder / TENSORS)}
    write_json(folder / FACTS, body)
    return [folder / TENSORS, folder / FACTS]


def load_statistics(folder: Path) -> ComponentStatistics:
    """Read both files; damage is an IntegrityError, absence a UsageError."""
    if not (folder / FACTS).is_file():
        raise UsageError(f"'{folder}' holds no {FACTS}: measure components with 'levercheck controls preview' first")
    body: Any = read_json(folder / FACTS)
    if not isinstance(body, dict) or body.get("schema") != SCHEMA:
        raise IntegrityError(f"{FACTS} in '{folder.name}' is not of {SCHEMA}: measure again")
    if not (folder / TENSORS).is_file() or file_digest(folder / TENSORS) != body.get("sha256"):
        raise IntegrityError(f"{TENSORS} in '{folder.name}' does not match {FACTS}: measure again")
    try:
        arrays = load((folder / TENSORS).read_bytes())
        names = sorted({name.rpartition(".")[0].removeprefix("latents.") for name in arrays} - {"neurons", "heads"})
        return ComponentStatistics(
            NeuronStatistics(**_group(arrays, "neurons", NeuronStatistics)),
            HeadStatistics(**_group(arrays, "heads", HeadStatistics)) if "heads.variance" in arrays else None,
            {name: LatentStatistics(**_group(arrays, f"latents.{name}", LatentStatistics)) for name in names},
            **{name: body[name] for name in ("tokens", "sequences", "threshold", "text", "model")},
        )
    except (SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"{TENSORS} in '{folder.name}' cannot be read ({error}): measure again") from None


def _group(arrays: dict[str, Any], group: str, kind: Any) -> dict[str, Any]:
    return {entry.name: arrays[f"{group}.{entry.name}"] for entry in fields(kind)}
