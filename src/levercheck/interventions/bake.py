"""An intervention at one dose as a normal Hugging Face checkpoint, for any engine that loads one.

What weights can do is decided in `rewrite`. Here the new tensors become a checkpoint: where a bias is needed that the
model does not have, the architecture's own switch for it is turned on (`mlp_bias`, `attention_bias`, ...), and every
other bias that comes with the switch is zero. An architecture without such a switch is refused.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as hf_logging

from levercheck import __version__
from levercheck.errors import UsageError
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import write_json
from levercheck.evidence.identity import check_same_model
from levercheck.interventions.rewrite import Rewritten, rewritten
from levercheck.interventions.spec import Intervention
from levercheck.lm.model import LanguageModel

SCHEMA = "levercheck.baked/v1"
RECORD = "levercheck.json"
CAUTION = (
    "the checkpoint has biases that the architecture usually lacks: transformers reads them, but engines may skip a "
    "bias they do not expect without a word (vLLM reads them for Llama), so compare one answer there"
)
_SAMPLING = ("temperature", "top_p", "min_p", "top_h", "typical_p", "top_k", "epsilon_cutoff", "eta_cutoff")
_SWITCHES = ("mlp_bias", "attention_bias", "use_bias", "bias", "enable_bias")


def bake(
    lm: LanguageModel, intervention: Intervention, dose: float, folder: Path, *, untie: bool = False
) -> dict[str, Any]:
    """Write the checkpoint and `levercheck.json`; returns what stands there. The loaded model is left as it is.

    A folder that exists and is not empty, another model than the intervention's, and whatever is not exact in weights
    are UsageErrors of one line; nothing is written then.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"'{folder}' exists and is not empty: give --out a new directory")
    if not folder.name:
        raise UsageError(f"'{folder}' is where you are: give --out a new directory")
    recorded = intervention.facts.get("model")
    if recorded:
        check_same_model(recorded, lm.identity, "the intervention")
    new = rewritten(lm, intervention, dose, untie=untie)
    config, switches, zeros = _config_with(new)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        _save(new, config, zeros, partial)
        body = {
            "schema": SCHEMA,
            "levercheck": __version__,
            "model": lm.identity,
            "operator": intervention.operator,
            "dose": float(dose),
            "unit": intervention.unit,
            "scope": str(intervention.scope),
            "sites": [str(site) for site in intervention.sites],
            "intervention": intervention.fingerprint,
            "changed": sorted(set(new.tensors) | set(zeros)),
            "zero_biases": sorted(zeros),
            "config": switches,
            "caution": CAUTION if new.biases else None,
            "files": {path.name: file_digest(path) for path in sorted(partial.glob("*.safetensors"))},
            "parity": None,
        }
        write_json(partial / RECORD, body)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return body


def record_parity(folder: Path, body: dict[str, Any], parity: dict[str, Any]) -> dict[str, Any]:
    """Add a parity report to `levercheck.json`; returns the new content."""
    whole = {**body, "parity": parity}
    write_json(folder / RECORD, whole)
    return whole


def _config_with(new: Rewritten) -> tuple[Any, dict[str, Any], dict[str, torch.Tensor]]:
    """(configuration, what was changed in it, zero biases that come with it) for the biases that are needed."""
    lm = new.lm
    config = copy.deepcopy(lm.model.config)
    changed: dict[str, Any] = {}
    if new.untied:
        for part in _parts(config):
            if getattr(part, "tie_word_embeddings", False):
                part.tie_word_embeddings = False
                changed["tie_word_embeddings"] = False
    if not new.biases:
        return config, changed, {}
    held = {name: tuple(tensor.shape) for name, tensor in lm.model.state_dict().items()}
    missing = set(new.biases)
    for switch in _SWITCHES:
        found = _turned_on(config, switch)
        if found is None or not missing:
            continue
        shapes = _shapes(lm, found)
        added = set(shapes or {}) - set(held)
        same = shapes is not None and all(shapes.get(name) == shape for name, shape in held.items())
        if same and all(name.endswith(".bias") for name in added) and added & missing:
            config, missing = found, missing - added
            changed[switch] = True
    if missing:
        raise UsageError(
            f"{type(lm.model).__name__} has no bias at {_short(missing)} and no setting that adds one, so its "
            "checkpoint cannot carry this intervention: run it with hooks"
        )
    shapes = _shapes(lm, config) or {}
    dtype = next(lm.model.parameters()).dtype
    zeros = {n: torch.zeros(s, dtype=dtype) for n, s in shapes.items() if n not in held and n not in new.tensors}
    return config, changed, zeros


def _parts(config: Any) -> Iterable[Any]:
    text = config.get_text_config()
    return (config,) if text is config else (config, text)


def _turned_on(config: Any, switch: str) -> Any:
    """A copy with the switch on; None where the architecture has no such switch, or has it on."""
    if getattr(config.get_text_config(), switch, None) is not False:
        return None
    found = copy.deepcopy(config)
    setattr(found.get_text_config(), switch, True)
    return found


def _shapes(lm: LanguageModel, config: Any) -> dict[str, tuple[int, ...]] | None:
    """Names and shapes of the tensors that the architecture has under this configuration."""
    with torch.device("meta"):
        empty = type(lm.model)(config)
    return {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}


def _short(names: set[str]) -> str:
    listed = sorted(names)
    return listed[0] + (f" and {len(listed) - 1} other places" if len(listed) > 1 else "")


def _save(new: Rewritten, config: Any, zeros: dict[str, torch.Tensor], folder: Path) -> None:
    lm = new.lm
    with torch.device("meta"):
        shell = type(lm.model)(config)
    state = {**lm.model.state_dict(), **zeros, **new.tensors}
    shell.load_state_dict(state, strict=True, assign=True)
    shell.tie_weights()
    shell.generation_config = _valid(lm.model.generation_config)
    shell.config.architectures = [type(lm.model).__name__]
    shell.config._name_or_path = ""
    with _quiet():
        shell.save_pretrained(folder)
    if lm.tokenizer is not None:
        lm.tokenizer.save_pretrained(folder)


def _valid(settings: Any) -> Any:
    """A copy that can be saved: greedy settings lose a temperature or top-p, which they do not use."""
    kept = copy.deepcopy(settings)
    try:
        kept.validate(strict=True)
    except ValueError:
        for name in _SAMPLING:
            setattr(kept, name, None)
    return kept


@contextmanager
def _quiet() -> Iterator[None]:
    """Progress is shown by who calls, not by transformers."""
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()
