"""Our own files of a dictionary: arrays in safetensors, what they mean in JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import write_atomic, write_json
from levercheck.lm.places import Site, parse_site
from levercheck.lm.saes.formats import FORMATS, Format
from levercheck.lm.saes.plain import chosen_site
from levercheck.lm.saes.sae import Sae
from levercheck.lm.saes.source import Source

SCHEMA = "levercheck.sae/v1"
FACTS, TENSORS = "dictionary.json", "dictionary.safetensors"
_ARRAYS = ("w_enc", "b_enc", "w_dec", "b_dec", "threshold")


def save_sae(sae: Sae, folder: Path) -> list[Path]:
    """Write both files and return their paths; a folder that holds another dictionary is a UsageError."""
    if (folder / FACTS).exists():
        raise UsageError(f"'{folder}' already holds a dictionary: give another folder")
    arrays = {name: np.ascontiguousarray(getattr(sae, name)) for name in _ARRAYS if getattr(sae, name) is not None}
    write_atomic(folder / TENSORS, save(arrays, metadata={"schema": SCHEMA}))
    body: dict[str, Any] = {
        "schema": SCHEMA,
        "site": str(sae.site),
        "kind": sae.kind,
        "k": sae.k,
        "centred": sae.centred,
        "scale": sae.scale,
        "width": sae.width,
        "latents": sae.latents,
        "fingerprint": sae.fingerprint,
        "tensors": TENSORS,
        "tensors_sha256": file_digest(folder / TENSORS),
        "facts": sae.facts,
    }
    write_json(folder / FACTS, body)
    return [folder / TENSORS, folder / FACTS]


def read(source: Source, site: Site | None) -> Sae:
    """Read both files; damage is an IntegrityError."""
    body = source.json(FACTS)
    if body.get("schema") != SCHEMA:
        raise IntegrityError(f"{FACTS} of {source.name} is not of {SCHEMA}: restore it")
    path = source.file(TENSORS)
    if source.used[TENSORS] != body.get("tensors_sha256"):
        raise IntegrityError(f"{TENSORS} of {source.name} does not match {FACTS}: restore both")
    try:
        where = chosen_site(parse_site(body["site"]), site, source.name)
        sae = Sae(
            where,
            body["kind"],
            **load(path.read_bytes()),
            k=body["k"],
            centred=body["centred"],
            scale=body["scale"],
            facts=body["facts"],
        )
    except (SafetensorError, KeyError, TypeError) as error:
        raise IntegrityError(f"{TENSORS} of {source.name} cannot be read ({error}): restore it") from None
    if sae.fingerprint != body.get("fingerprint"):
        raise IntegrityError(f"{FACTS} of {source.name} states another fingerprint than its arrays have: restore both")
    return sae


FORMATS.register("levercheck")(Format((FACTS, TENSORS), read))
