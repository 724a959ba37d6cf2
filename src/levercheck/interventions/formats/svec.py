"""`.svec`: JSON of activation-steering (CAST) and AISteer360.

`{"model_type": ..., "directions": {"N": [...] or [[...]]}, ...}`. Layer N was fitted on the output of block N, counted
from 0, in both programs. AISteer360 adds it there; activation-steering adds it to the input of block N.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.files import write_atomic
from levercheck.interventions.formats.vectors import Floats, Vector, VectorFile, block_outputs, stream_site
from levercheck.lm.places import Site

CONVENTION = "layer N is the output of block N, counted from 0 (AISteer360 adds there, activation-steering in front)"


def read(path: Path) -> VectorFile:
    """Read one direction per layer; per-head and per-position directions are UsageErrors."""
    try:
        body = json.loads(path.read_bytes())
        directions: dict[str, Any] = dict(body["directions"])
        layers = {int(layer): np.asarray(values, np.float32) for layer, values in directions.items()}
        hint = body.get("model_type")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"'{path.name}' cannot be read as .svec ({error}): expected model_type, directions"
        ) from None
    if body.get("num_heads") is not None:
        raise UsageError(
            f"'{path.name}' holds directions per head (ITI): only directions of whole layers can be imported"
        )
    vectors = []
    for layer, values in layers.items():
        rows = values.reshape(1, -1) if values.ndim == 1 else values
        if rows.ndim != 2 or len(rows) != 1:
            raise UsageError(
                f"layer {layer} of '{path.name}' has shape {list(values.shape)}: expected one direction, not one per "
                "position or a plane"
            )
        vectors.append(Vector(stream_site(layer), rows[0]))
    return VectorFile("svec", tuple(vectors), {"model_hint": hint, "layers": CONVENTION})


def write(path: Path, vectors: Mapping[Site, Floats], model_type: str) -> None:
    """Write one row per layer and explained variances of None, which activation-steering expects to be there."""
    found = block_outputs(vectors, "an .svec file")
    body = {
        "model_type": model_type,
        "directions": {str(layer): [vector.astype(np.float64).tolist()] for layer, vector in found.items()},
        "explained_variances": {str(layer): None for layer in found},
    }
    write_atomic(path, json.dumps(body, allow_nan=False).encode() + b"\n")
