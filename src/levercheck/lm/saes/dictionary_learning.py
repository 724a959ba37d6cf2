"""dictionary_learning (Marks et al.): `ae.pt`, a plain state dict, with the trainer's `config.json` beside it.

The file is read without unpickling objects. Its class decides how its arrays are used; batch-top-k dictionaries are
used with their threshold, as that library does by default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from levercheck.errors import IntegrityError, UsageError
from levercheck.lm.places import ATTN_OUT, MLP_OUT, RESID_POST, Site
from levercheck.lm.saes.formats import FORMATS, Format
from levercheck.lm.saes.plain import Arrays, chosen_site, folded_norms, plain, renamed, transposed
from levercheck.lm.saes.sae import Kind, Sae
from levercheck.lm.saes.source import Source

CONFIG, TENSORS = "config.json", "ae.pt"
_LINEAR = {"w_enc": "encoder.weight", "b_enc": "encoder.bias", "w_dec": "decoder.weight"}
_MATRICES = {"w_enc": "W_enc", "b_enc": "b_enc", "w_dec": "W_dec", "b_dec": "b_dec", "threshold": "threshold"}
_SITES = {"resid_post": RESID_POST, "mlp_out": MLP_OUT, "attn_out": ATTN_OUT}
CLASSES = (
    "AutoEncoder",
    "AutoEncoderNew",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
    "JumpReluAutoEncoder",
)


def read(source: Source, site: Site | None) -> Sae:
    """One of `CLASSES`; a gated dictionary has two encoders and is refused."""
    config = source.json(CONFIG) if source.has(CONFIG) else {}
    found = _state(source)
    stated = config.get("trainer")
    trainer: dict[str, Any] = stated if isinstance(stated, dict) else {}
    name = trainer.get("dict_class") or _class_of(found)
    if name not in CLASSES:
        known = "has no class in its settings" if name is None else f"is a {name}"
        raise UsageError(f"{source.name} {known}, expected one of {', '.join(CLASSES)}")
    _refuse_pairs(source, config)
    kind, arrays, centred = _plain_arrays(name, found, source)
    k = None
    if kind == "topk":
        k = int(found["k"]) if "k" in found else trainer.get("k")
        if not isinstance(k, int):
            raise UsageError(f"{source.name} has k = {k}, expected a whole number in {CONFIG}")
    facts = {"model_name": trainer.get("lm_name"), "dict_class": name}
    return plain(
        arrays,
        chosen_site(_stated(trainer), site, source.name),
        kind,
        source.facts("dictionary_learning", **facts),
        centred=centred,
        k=k,
        width=trainer.get("activation_dim"),
    )


def _plain_arrays(name: str, found: Mapping[str, Any], source: Source) -> tuple[Kind, Arrays, bool]:
    """(kind, arrays, whether the input is centred) of a class."""
    if name in ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"):
        arrays = renamed(found, _MATRICES, source.name)
        jumps = name == "JumpReluAutoEncoder"  # its latents are in decoder lengths, its input is not centred
        return "jumprelu", folded_norms(arrays) if jumps else arrays, not jumps
    bias = {"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(name, "b_dec")
    names = {**_LINEAR, "b_dec": bias, **({"threshold": "threshold"} if name == "BatchTopKSAE" else {})}
    arrays = transposed(renamed(found, names, source.name), ["w_enc", "w_dec"])
    kinds: dict[str, Kind] = {"AutoEncoderTopK": "topk", "BatchTopKSAE": "jumprelu"}
    return kinds.get(name, "standard"), arrays, name != "AutoEncoderNew"


def _state(source: Source) -> dict[str, Any]:
    path = source.file(TENSORS)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in as many ways as the unpickler has instructions
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:120]
        raise IntegrityError(
            f"{TENSORS} of {source.name} is no plain state dict ({reason}): get it again; objects are never unpickled"
        ) from None
    if not isinstance(found, Mapping) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UsageError(f"{TENSORS} of {source.name} holds {type(found).__name__}, expected a state dict of tensors")
    return dict(found)


def _class_of(found: Mapping[str, Any]) -> str | None:
    """The class where only one of them has these names; top-k and batch-top-k cannot be told apart."""
    if "r_mag" in found:
        return "GatedAutoEncoder"
    if "group_sizes" in found:
        return "MatryoshkaBatchTopKSAE"
    if "W_enc" in found and "k" not in found:
        return "JumpReluAutoEncoder"
    if "bias" in found:
        return "AutoEncoder"
    return "AutoEncoderNew" if "decoder.bias" in found else None


def _refuse_pairs(source: Source, config: Mapping[str, Any]) -> None:
    buffer = config.get("buffer")
    if isinstance(buffer, dict) and buffer.get("io") == "in_and_out":
        raise UsageError(f"{source.name} maps a module's input to its output: it is a transcoder, expected an SAE")


def _stated(trainer: Mapping[str, Any]) -> Site | None:
    layer, name = trainer.get("layer"), str(trainer.get("submodule_name") or "")
    kind = next((_SITES[m[0]] for m in [re.match("|".join(_SITES), name)] if m), None)
    return Site(layer, kind) if isinstance(layer, int) and kind else None


FORMATS.register("dictionary_learning")(Format((TENSORS,), read))
