"""EleutherAI sparsify: `cfg.json` and `sae.safetensors`, top-k dictionaries in folders called after a module.

The folder's name is the hook: `layers.10` is the output of a layer; `layers.10.mlp` that of its MLP, which is `mlp.out`
except in decoders with a norm behind the MLP (there, give the site only if it was trained behind it).
"""

from __future__ import annotations

import re

from levercheck.errors import UsageError
from levercheck.lm.places import ATTN_OUT, MLP_OUT, RESID_POST, Site
from levercheck.lm.saes.formats import FORMATS, Format
from levercheck.lm.saes.plain import chosen_site, plain, renamed, transposed
from levercheck.lm.saes.sae import Sae
from levercheck.lm.saes.source import Source

CONFIG, TENSORS = "cfg.json", "sae.safetensors"
_NAMES = {"w_enc": "encoder.weight", "b_enc": "encoder.bias", "w_dec": "W_dec", "b_dec": "b_dec"}
_OTHERWISE = ("skip_connection", "embed_skip", "gram_lookup", "signed")
_MODULES = {"": RESID_POST, ".mlp": MLP_OUT, ".attn": ATTN_OUT, ".attention": ATTN_OUT, ".self_attn": ATTN_OUT}


def read(source: Source, site: Site | None) -> Sae:
    """Autoencoders with the top-k activation."""
    config = source.json(CONFIG)
    if config.get("transcode"):
        raise UsageError(
            f"{source.name} predicts a module's output from its input: it is a transcoder, expected an SAE"
        )
    active = [name for name in _OTHERWISE if config.get(name)]
    if active or config.get("activation", "topk") != "topk":
        what = active[0] if active else f"the activation {config['activation']}"
        raise UsageError(f"{source.name} uses {what}, expected a plain topk dictionary")
    if not isinstance(config.get("k"), int):
        raise UsageError(f"{source.name} has k = {config.get('k')}, expected a whole number in {CONFIG}")
    arrays = transposed(renamed(source.tensors(TENSORS), _NAMES, source.name), ["w_enc"])
    return plain(
        arrays,
        chosen_site(_from_name(source), site, source.name, certain=False),
        "topk",
        source.facts("sparsify"),
        centred=True,
        k=config["k"],
        width=config.get("d_in"),
    )


def _from_name(source: Source) -> Site | None:
    found = re.fullmatch(r"(?:\w+\.)*(?:layers|h)\.(\d+)((?:\.\w+)?)", source.path.name)
    name = _MODULES.get(found[2]) if found else None
    return Site(int(found[1]), name) if found and name else None


FORMATS.register("sparsify")(Format((CONFIG, TENSORS), read))
