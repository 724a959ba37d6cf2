"""SAELens: `cfg.json` and `sae_weights.safetensors`, from its first versions to version 6.

Their settings say whether b_dec is subtracted from the input (`apply_b_dec_to_input`), whether latents are measured in
decoder lengths (`rescale_acts_by_decoder_norm`: folded into the arrays here) and how activations are normalised:
factors that change from token to token, or that are not in the files, do not fit the plain form and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from levercheck.errors import UsageError
from levercheck.lm.places import Site, parse_site
from levercheck.lm.saes.formats import FORMATS, Format
from levercheck.lm.saes.plain import Arrays, chosen_site, float32, folded_norms, plain, refuse_transcoder, renamed
from levercheck.lm.saes.sae import Kind, Sae
from levercheck.lm.saes.source import Source

CONFIG, TENSORS = "cfg.json", "sae_weights.safetensors"
_NAMES = {"w_enc": "W_enc", "b_enc": "b_enc", "w_dec": "W_dec", "b_dec": "b_dec"}
_OLD = {"hook_point": "hook_name", "activation_fn_str": "activation_fn"}


def read(source: Source, site: Site | None) -> Sae:
    """Architectures standard, jumprelu and topk; trained batch-top-k dictionaries are stored as jumprelu."""
    config = _flat(source.json(CONFIG))
    kind = _kind(source, config)
    _refuse(source, config)
    found = source.tensors(TENSORS)
    names = {**_NAMES, **({"threshold": "threshold"} if kind == "jumprelu" else {})}
    arrays = _finetuned(renamed(found, names, source.name), found, config, source)
    if config.get("rescale_acts_by_decoder_norm"):
        arrays = folded_norms(arrays)
    told = ("model_name", "prepend_bos", "context_size", "dataset_path", "sae_lens_version")
    facts = {name: config[name] for name in told if config.get(name) is not None}
    return plain(
        arrays,
        _site(source, config, site),
        kind,
        source.facts("saelens", **facts),
        centred=bool(config.get("apply_b_dec_to_input", True)),
        k=_k(source, config) if kind == "topk" else None,
        width=config.get("d_in"),
    )


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings under their newest names, whichever level they stand on."""
    inner = config.get("metadata") or config.get("meta") or {}
    merged = {**inner, **config} if isinstance(inner, dict) else dict(config)
    return {_OLD.get(name, name): value for name, value in merged.items()}


def _kind(source: Source, config: Mapping[str, Any]) -> Kind:
    architecture, activation = config.get("architecture", "standard"), config.get("activation_fn", "relu")
    if "transcoder" in str(architecture):
        raise UsageError(f"{source.name} is a {architecture}, expected an autoencoder")
    if architecture == "standard" and activation == "topk":
        return "topk"
    if architecture == "standard" and activation not in ("relu", None):
        raise UsageError(f"{source.name} has the activation function {activation}, expected relu or topk")
    if architecture == "standard":
        return "standard"
    if architecture == "jumprelu":
        return "jumprelu"
    if architecture == "topk":
        return "topk"
    raise UsageError(
        f"{source.name} has the architecture {architecture}, expected standard, jumprelu or topk (SAELens saves "
        "batch-top-k dictionaries as jumprelu for use)"
    )


def _refuse(source: Source, config: Mapping[str, Any]) -> None:
    refuse_transcoder(source.name, config.get("hook_name"), config.get("hook_name_out"))
    refuse_transcoder(source.name, config.get("d_in"), config.get("d_out"))
    if config.get("hook_head_index") is not None:
        raise UsageError(f"{source.name} is for the single head {config['hook_head_index']}, expected a whole site")
    normalised = config.get("normalize_activations")
    if normalised in (None, False, "none"):
        return
    if normalised in (True, "expected_average_only_in"):
        raise UsageError(
            f"{source.name} expects activations of a fixed average length, and its factor is not in its files: save it "
            "after fold_activation_norm_scaling_factor"
        )
    raise UsageError(
        f"{source.name} normalises every token by itself ({normalised}), expected none: one scale cannot do that"
    )


def _finetuned(arrays: Arrays, found: Mapping[str, Any], config: Mapping[str, Any], source: Source) -> Arrays:
    """A finetuning factor per latent, which old versions multiply latents by before the decoder."""
    if "scaling_factor" not in found:
        return arrays
    factor = float32(found["scaling_factor"])
    if (factor == 1).all():
        return arrays
    if not config.get("finetuning_scaling_factor"):
        raise UsageError(f"{source.name} has a scaling_factor that its settings do not use: get its files again")
    return {**arrays, "w_dec": arrays["w_dec"] * factor[:, None]}


def _k(source: Source, config: Mapping[str, Any]) -> int:
    options = config.get("activation_fn_kwargs")
    k = config.get("k", options.get("k") if isinstance(options, dict) else None)
    if not isinstance(k, int | float) or k != int(k):
        raise UsageError(f"{source.name} is a topk dictionary with k = {k}, expected a whole number in {CONFIG}")
    return int(k)


def _site(source: Source, config: Mapping[str, Any], given: Site | None) -> Site:
    name = config.get("hook_name")
    try:
        stated = parse_site(str(name)) if name else None
    except UsageError as error:
        if given is None:
            raise UsageError(f"{source.name} is for the hook '{name}': {error}") from None
        stated = None
    return chosen_site(stated, given, source.name)


FORMATS.register("saelens")(Format((CONFIG, TENSORS), read))
