"""`.pt` files, read with `weights_only=True`: what needs unpickling is refused.

| content | program | meaning |
|---|---|---|
| dict by hookpoint, or list of dicts | lm-evaluation-harness, model `steered` | `lm_eval` |
| tensor [hidden] with `direction_metadata.json` | refusal_direction, `direction.pt` | the input of the block it names |
| tensor [positions, layers, hidden] | refusal_direction, `mean_diffs.pt` | row N is the input of block N |
| tensor [layers, hidden] | others | rows are block outputs, with or without the embedding first |
| dict or list of tensors by layer | others (steering-vectors' `layer_activations`) | block outputs |
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.files import read_json
from levercheck.interventions.formats import lm_eval
from levercheck.interventions.formats.vectors import (
    OUTPUTS,
    Floats,
    Vector,
    VectorFile,
    layer_key,
    rows_as_layers,
    stream_site,
)

METADATA = "direction_metadata.json"
INPUTS = "layer N of the file is the input of block N, counted from 0; read as the output of block N - 1"


def read(path: Path, layers: int | None, layer: int | None) -> VectorFile:
    """Read any of the above; `layers` is the model's number of blocks, `layer` the block of a lone vector."""
    content = load(path)
    if lm_eval.is_steering(content):
        return lm_eval.read(content, path.name)
    if isinstance(content, torch.Tensor):
        return _tensor(path, numbers(content), layers, layer)
    pairs: Any = (
        content.items() if isinstance(content, Mapping) else enumerate(content) if isinstance(content, list) else ()
    )
    vectors = []
    for key, value in pairs:
        site = layer_key(key)
        if site is None or not isinstance(value, torch.Tensor):
            break
        vectors.append(Vector(site, numbers(value).reshape(-1)))
    else:
        if vectors:
            return VectorFile("pt", tuple(vectors), {"layers": OUTPUTS})
    raise UsageError(
        f"'{path.name}' holds none of the layouts known for .pt: expected tensors by layer or by hookpoint"
    )


def load(path: Path) -> Any:
    """The content, of tensors and plain data only."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in as many ways as the unpickler has instructions
        if type(error).__name__ == "UnpicklingError":
            raise UsageError(
                f"'{path.name}' needs unpickling, which runs whatever code it holds: convert it to safetensors where "
                "you trust it"
            ) from None
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IntegrityError(f"'{path.name}' cannot be read ({first}): restore it") from None


def numbers(tensor: torch.Tensor) -> Floats:
    """float32 of any float tensor."""
    found: Floats = tensor.detach().to(torch.float32).cpu().numpy()
    return found


def _tensor(path: Path, values: Floats, layers: int | None, layer: int | None) -> VectorFile:
    stated = _metadata(path)
    if values.ndim == 1:
        if stated is not None:
            site = stream_site(int(stated["layer"]), inputs=True)
            return VectorFile("refusal_direction", (Vector(site, values),), {**stated, "layers": INPUTS})
        if layer is None:
            raise UsageError(f"'{path.name}' holds one vector and does not say of which layer: give --layer")
        return VectorFile("pt", (Vector(stream_site(layer), values),), {"layers": OUTPUTS})
    if values.ndim == 3:
        position = -1 if stated is None else int(stated["pos"])
        if not -len(values) <= position < len(values):
            raise UsageError(f"'{path.name}' has {len(values)} positions, {METADATA} asks for {position}")
        chosen = values[position]
        if stated is not None and not 0 <= stated["layer"] < len(chosen):
            raise UsageError(f"'{path.name}' has {len(chosen)} layers, {METADATA} asks for {stated['layer']}")
        rows = enumerate(chosen) if stated is None else [(int(stated["layer"]), chosen[int(stated["layer"])])]
        vectors = tuple(Vector(stream_site(n, inputs=True), row) for n, row in rows if row.any())
        return VectorFile("refusal_direction", vectors, {"pos": position, "layers": INPUTS})
    if values.ndim == 2 and layers is not None:
        found, convention = rows_as_layers(values, layers, f"'{path.name}'")
        return VectorFile("pt", found, {"layers": convention})
    raise UsageError(
        f"'{path.name}' holds a tensor of shape {list(values.shape)}, expected [layers, hidden] or [hidden]"
    )


def _metadata(path: Path) -> dict[str, int] | None:
    """`pos` and `layer` of the selected direction, beside the file or one folder up."""
    for folder in (path.parent, path.parent.parent):
        if (folder / METADATA).is_file():
            body = read_json(folder / METADATA)
            if isinstance(body, dict) and isinstance(body.get("pos"), int) and isinstance(body.get("layer"), int):
                return {"pos": body["pos"], "layer": body["layer"]}
            raise IntegrityError(f"{METADATA} beside '{path.name}' has no pos and layer: restore it")
    return None
