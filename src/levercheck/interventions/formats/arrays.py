"""Plain arrays: safetensors by layer or site, and `.npy`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.files import write_atomic
from levercheck.interventions.formats.vectors import (
    OUTPUTS,
    Floats,
    Vector,
    VectorFile,
    layer_key,
    rows_as_layers,
    stream_site,
)
from levercheck.lm.places import Site


def read_safetensors(path: Path, layers: int | None, layer: int | None) -> VectorFile:
    """One vector per tensor (`3`, `layer.3`, `L3.resid.post`), or one table float [layers, hidden]."""
    try:
        with safe_open(path, "pt") as handle:
            facts = dict(handle.metadata() or {})
        found = {name: t.float().numpy() for name, t in load_tensors(path.read_bytes()).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise IntegrityError(f"'{path.name}' cannot be read as safetensors ({error}): restore it") from None
    if len(found) == 1:
        ((name, values),) = found.items()
        if values.ndim == 2 or layer_key(name) is None:
            return _lone(path, values, layers, layer, "safetensors", facts)
    vectors = []
    for name, values in found.items():
        site = layer_key(name)
        if site is None:
            raise UsageError(
                f"tensor '{name}' of '{path.name}' names no layer, expected e.g. 3, layer.3 or L3.resid.post"
            )
        vectors.append(Vector(site, values.astype(np.float32).reshape(-1)))
    return VectorFile("safetensors", tuple(vectors), {"metadata": facts, "layers": OUTPUTS})


def read_npy(path: Path, layers: int | None, layer: int | None) -> VectorFile:
    """A vector [hidden], or a table [layers, hidden]."""
    try:
        values = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy parses a damaged header as Python
        if "allow_pickle" in str(error):
            raise UsageError(
                f"'{path.name}' needs unpickling, which runs whatever code it holds: save plain numbers"
            ) from None
        raise IntegrityError(f"'{path.name}' cannot be read as .npy ({error}): restore it") from None
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
        raise UsageError(f"'{path.name}' holds no array of floats")
    return _lone(path, values.astype(np.float32), layers, layer, "npy", {})


def write_safetensors(path: Path, vectors: Mapping[Site, Floats], metadata: Mapping[str, str]) -> None:
    """One tensor per site, under the site's name."""
    from safetensors.numpy import save

    plain = {str(site): np.ascontiguousarray(vector) for site, vector in vectors.items()}
    write_atomic(path, save(plain, metadata=dict(metadata)))


def _lone(
    path: Path, values: Floats, layers: int | None, layer: int | None, kind: str, facts: Mapping[str, str]
) -> VectorFile:
    """An array without names."""
    told = {"metadata": dict(facts)} if facts else {}
    if values.ndim == 1:
        if layer is None:
            raise UsageError(f"'{path.name}' holds one vector and does not say of which layer: give --layer")
        return VectorFile(kind, (Vector(stream_site(layer), values),), {**told, "layers": OUTPUTS})
    if values.ndim != 2 or layers is None:
        raise UsageError(
            f"'{path.name}' holds an array of shape {list(values.shape)}, expected [hidden] or [layers, hidden]"
        )
    found, convention = rows_as_layers(values, layers, f"'{path.name}'")
    return VectorFile(kind, found, {**told, "layers": convention})
