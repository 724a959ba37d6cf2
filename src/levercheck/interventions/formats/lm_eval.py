"""Steering files of lm-evaluation-harness (`--model steered`, `steer_path=....pt`).

`{hookpoint: {steering_vector, steering_coefficient, action: add | clamp, bias, head_index}}`; the hookpoint is a module
of the base model, whose output is edited at every position: `layers.3` is the output of block 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from levercheck.errors import UsageError
from levercheck.interventions.formats.vectors import Floats, Vector, VectorFile, block_outputs
from levercheck.lm.places import ATTN_OUT, MLP_OUT, RESID_POST, Site, parse_site

_HOOKPOINT = re.compile(r"(?:.*\.)?((?:layers|h|blocks)\.(\d+)(?:\.(mlp|feed_forward|self_attn|attn|attention))?)")
_INSIDE = {None: RESID_POST, "mlp": MLP_OUT, "feed_forward": MLP_OUT}


def is_steering(content: Any) -> bool:
    """Whether a .pt file's content is such a dict, or the list of dicts that older versions document."""
    entries = content.values() if isinstance(content, Mapping) else content if isinstance(content, list) else ()
    return bool(entries) and all(isinstance(entry, Mapping) and "steering_vector" in entry for entry in entries)


def read(content: Any, name: str) -> VectorFile:
    """Read the content; hookpoints that are none of our sites and edits of single heads are UsageErrors."""
    if isinstance(content, list):
        hookpoints = [str(entry.get("hookpoint")) for entry in content]
        if len(set(hookpoints)) != len(hookpoints):
            raise UsageError(f"'{name}' has two entries for one hookpoint, expected one each")
        content = dict(zip(hookpoints, content, strict=True))
    return VectorFile(
        "lm-eval", tuple(_vector(str(k), v, name) for k, v in content.items()), {"hookpoints": list(content)}
    )


def write(path: Path, vectors: Mapping[Site, Floats], layer_path: str) -> None:
    """Write additions with coefficient 1; `layer_path` is the base model's list of blocks (`layers`, GPT-2: `h`)."""
    body = {
        f"{layer_path}.{layer}": {
            "steering_vector": torch.from_numpy(vector.copy()),
            "steering_coefficient": 1.0,
            "action": "add",
            "bias": None,
            "head_index": None,
        }
        for layer, vector in block_outputs(vectors, "a steering file of ours").items()
    }
    torch.save(body, path)


def _vector(hookpoint: str, entry: Mapping[str, Any], name: str) -> Vector:
    if entry.get("head_index") is not None:
        raise UsageError(
            f"'{hookpoint}' of '{name}' edits one head of a module's output: only whole outputs can be imported"
        )
    action = entry.get("action", "add")
    if action not in ("add", "clamp"):
        raise UsageError(f"'{hookpoint}' of '{name}' has action '{action}', expected add or clamp")
    vector, bias = entry["steering_vector"], entry.get("bias")
    if not isinstance(vector, torch.Tensor) or not (bias is None or isinstance(bias, torch.Tensor)):
        raise UsageError(f"'{hookpoint}' of '{name}' has no tensor as steering_vector or bias")
    if action == "add" and bias is not None and bool(bias.any()):
        raise UsageError(
            f"'{hookpoint}' of '{name}' has a bias with action add, which lm-evaluation-harness refuses too"
        )
    coefficient = entry.get("steering_coefficient", 1.0)
    if not isinstance(coefficient, int | float):
        raise UsageError(f"'{hookpoint}' of '{name}' has steering_coefficient {coefficient!r}, expected a number")
    site, module = _site(hookpoint, name)
    values = vector.detach().float().reshape(-1).numpy()
    shift = None if bias is None or action == "add" else bias.detach().float().reshape(-1).numpy()
    return Vector(site, values, float(coefficient), action, shift, module)


def _site(hookpoint: str, name: str) -> tuple[Site, str | None]:
    found = _HOOKPOINT.fullmatch(hookpoint)
    if found:
        inside = found[3]
        site = Site(int(found[2]), _INSIDE.get(inside, ATTN_OUT))
        return site, found[1] if inside else None
    try:
        return parse_site(hookpoint), None
    except UsageError:
        raise UsageError(
            f"hookpoint '{hookpoint}' of '{name}' is none of our sites, expected e.g. layers.3, layers.3.mlp or "
            "blocks.3.hook_resid_post"
        ) from None
