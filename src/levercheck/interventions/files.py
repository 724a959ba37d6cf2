"""Interventions on disk: `intervention.safetensors` for the numbers, `intervention.json` for what they mean; no pickle.

Arrays are named by their edit, `edit.0.direction`; dictionaries stand once each under `sae.0.`. The sidecar holds
operator, scope, unit, sites, fingerprint, the identity of the model and the digest of the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from levercheck.errors import IntegrityError, UsageError
from levercheck.interventions.scopes import parse_scope
from levercheck.interventions.spec import Array, Edit, Intervention
from levercheck.lm.places import Site, parse_site
from levercheck.lm.saes.sae import Sae
from levercheck.lm.tensor_files import Pair

TENSORS, SIDECAR = "intervention.safetensors", "intervention.json"
FILES = Pair(TENSORS, SIDECAR, "levercheck.intervention/v1")
_SAE_ARRAYS = ("w_enc", "b_enc", "w_dec", "b_dec", "threshold")


def save_intervention(
    intervention: Intervention, folder: Path, *, model: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write both files and return their paths; a folder that holds an intervention is a UsageError.

    `model` is the identity of the model it is for (`LanguageModel.identity`); by default the one in its facts.
    """
    if (folder / SIDECAR).exists():
        raise UsageError(f"'{folder}' holds an intervention: give another folder")
    tensors: dict[str, Array] = {}
    saes: dict[str, int] = {}
    edits: list[dict[str, Any]] = []
    dictionaries: list[dict[str, Any]] = []
    for number, edit in enumerate(intervention.edits):
        tensors |= {f"edit.{number}.{name}": np.ascontiguousarray(array) for name, array in edit.arrays.items()}
        record: dict[str, Any] = {"site": str(edit.site), "arrays": sorted(edit.arrays)}
        if edit.sae is not None:
            if edit.sae.fingerprint not in saes:
                saes[edit.sae.fingerprint] = len(saes)
                tensors |= _sae_tensors(edit.sae, len(dictionaries))
                dictionaries.append(_sae_record(edit.sae))
            record["sae"] = saes[edit.sae.fingerprint]
        edits.append(record)
    facts = dict(intervention.facts)
    body = {
        "operator": intervention.operator,
        "scope": str(intervention.scope),
        "unit": intervention.unit,
        "noop": intervention.noop,
        "edits": edits,
        "saes": dictionaries,
        "fingerprint": intervention.fingerprint,
        "model": dict(facts.pop("model", {}) if model is None else model),
        "facts": {name: value for name, value in facts.items() if name != "model"},
    }
    return FILES.write(folder, tensors, body)


def load_intervention(folder: Path) -> Intervention:
    """Read both files; damage is an IntegrityError, an absent intervention a UsageError.

    `facts` holds what was saved, and the model's identity under "model".
    """
    folder = folder.parent if folder.is_file() else folder
    body = FILES.body(folder, "give the folder of a saved intervention")
    tensors = FILES.arrays(folder, body)
    try:
        saes = [_sae(record, number, tensors) for number, record in enumerate(body["saes"])]
        intervention = Intervention(
            body["operator"],
            tuple(_edit(record, number, tensors, saes) for number, record in enumerate(body["edits"])),
            parse_scope(body["scope"]),
            body["unit"],
            {**body["facts"], "model": body["model"]},
        )
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, UsageError) as error:
        raise IntegrityError(f"the intervention in '{folder.name}' cannot be read ({error}): restore it") from None
    FILES.check(folder, body, intervention.fingerprint)
    return intervention


def _edit(record: Mapping[str, Any], number: int, tensors: Mapping[str, Array], saes: list[Sae]) -> Edit:
    arrays = {name: tensors[f"edit.{number}.{name}"] for name in record["arrays"]}
    return Edit(parse_site(record["site"]), arrays, saes[record["sae"]] if "sae" in record else None)


def _sae_tensors(sae: Sae, number: int) -> dict[str, Array]:
    arrays = {name: getattr(sae, name) for name in _SAE_ARRAYS}
    return {f"sae.{number}.{name}": np.ascontiguousarray(a) for name, a in arrays.items() if a is not None}


def _sae_record(sae: Sae) -> dict[str, Any]:
    plain = {name: getattr(sae, name) for name in ("kind", "k", "centred", "scale", "facts")}
    return {"site": [sae.site.layer, sae.site.name], "fingerprint": sae.fingerprint, **plain}


def _sae(record: Mapping[str, Any], number: int, tensors: Mapping[str, Array]) -> Sae:
    arrays: dict[str, Any] = {name: tensors.get(f"sae.{number}.{name}") for name in _SAE_ARRAYS}
    plain: dict[str, Any] = {name: record[name] for name in ("kind", "k", "centred", "scale", "facts")}
    return Sae(site=Site(*record["site"]), **arrays, **plain)
