"""Gemma Scope (Lieberum et al. 2024) and Gemma Scope 2: JumpReLU dictionaries of Gemma 2 and Gemma 3.

The first has `params.npz` and nothing else: its site stands in the names of its folders. The second has
`params.safetensors` beside a `config.json` with Hugging Face paths. Neither subtracts b_dec from its input.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from levercheck.errors import IntegrityError, UsageError
from levercheck.lm.places import ATTN_OUT, MLP_OUT, O_PROJ_INPUT, RESID_POST, Site
from levercheck.lm.saes.formats import FORMATS, Format
from levercheck.lm.saes.plain import chosen_site, plain, refuse_transcoder, renamed
from levercheck.lm.saes.sae import Sae
from levercheck.lm.saes.source import Source

NPZ, TENSORS, CONFIG = "params.npz", "params.safetensors", "config.json"
_UPPER = {"w_enc": "W_enc", "b_enc": "b_enc", "w_dec": "W_dec", "b_dec": "b_dec", "threshold": "threshold"}
_LOWER = {name: name for name in _UPPER}
_PATHS = {
    "output": RESID_POST,
    "post_feedforward_layernorm.output": MLP_OUT,
    "post_attention_layernorm.output": ATTN_OUT,
    "self_attn.o_proj.input": O_PROJ_INPUT,
}
_REPOSITORIES = {"res": RESID_POST, "mlp": MLP_OUT, "att": O_PROJ_INPUT}  # gemma-scope-2b-pt-res and its kin
_FOLDERS = {"resid_post": RESID_POST, "mlp_out": MLP_OUT, "attn_out": O_PROJ_INPUT}  # of Gemma Scope 2


def read_first(source: Source, site: Site | None) -> Sae:
    """Gemma Scope: `.../gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz`."""
    path = source.file(NPZ)
    try:
        with np.load(path, allow_pickle=False) as found:
            held = {name: found[name] for name in found.files}
    except Exception as error:  # a damaged archive fails in as many ways as there are fields
        raise IntegrityError(f"{NPZ} of {source.name} cannot be read ({error}): get it again") from None
    arrays = renamed(held, _UPPER, source.name)
    where = chosen_site(_from_names(source), site, source.name, certain=False)
    return plain(arrays, where, "jumprelu", source.facts("gemma-scope"), centred=False)


def read_second(source: Source, site: Site | None) -> Sae:
    """Gemma Scope 2: `params.safetensors` with lower-case names."""
    config = source.json(CONFIG)
    kind, architecture = config.get("type", "sae"), config.get("architecture", "jump_relu")
    refuse_transcoder(source.name, config.get("hf_hook_point_in"), config.get("hf_hook_point_out"))
    if kind != "sae" or architecture not in ("jump_relu", "jumprelu"):
        raise UsageError(f"{source.name} is a {kind} of architecture {architecture}, expected a jump_relu sae")
    found = source.tensors(TENSORS)
    if "affine_skip_connection" in found:
        raise UsageError(f"{source.name} has a skip connection: it is a transcoder, expected an autoencoder")
    stated = _from_path(config.get("hf_hook_point_in"))
    where = chosen_site(stated or _from_names(source), site, source.name, certain=stated is not None)
    facts: dict[str, Any] = {"model_name": config.get("model_name"), "stated_l0": config.get("l0")}
    return plain(
        renamed(found, _LOWER, source.name),
        where,
        "jumprelu",
        source.facts("gemma-scope-2", **facts),
        centred=bool(config.get("apply_b_dec_to_input", False)),
    )


def _from_path(path: Any) -> Site | None:
    """A site from a Hugging Face path such as `model.layers.17.output`."""
    found = re.fullmatch(r"(?:\w+\.)*layers\.(\d+)\.([\w.]+)", str(path))
    name = _PATHS.get(found[2]) if found else None
    return Site(int(found[1]), name) if found and name else None


def _from_names(source: Source) -> Site | None:
    """A site from the names of the folders and of the repository."""
    parts = [*(source.repo or "").split("/"), *source.path.parts]
    layer = next((m for part in reversed(parts) if (m := re.search(r"(?:^|_)layer_(\d+)(?:_|$)", part))), None)
    kind = next((_FOLDERS[m[1]] for p in reversed(parts) if (m := re.match(r"(resid_post|mlp_out|attn_out)", p))), None)
    for part in reversed(parts):
        found = re.search(r"gemma-scope-.*-(res|mlp|att)(?:-|$)", part)
        kind = kind or (_REPOSITORIES[found[1]] if found else None)
    return Site(int(layer[1]), kind) if layer and kind else None


FORMATS.register("gemma-scope")(Format((NPZ,), read_first))
FORMATS.register("gemma-scope-2")(Format((TENSORS, CONFIG), read_second))
