"""Readouts of any family on disk: named arrays in safetensors, what they mean in JSON; no pickle.

direction
    directions float32 [layers, hidden] of length 1 at `resid.post`; sigma float32 [layers]: population standard
    deviation of the fit examples' projections; auroc float64 [layers], held out; cv_auroc float64 [layers]: over folds
    of the fit part; threshold float64 [layers].
heads
    layers, heads int64 [n]; directions float32 [n, head width]; sigma float32 [n]; auroc, balanced_accuracy,
    direction_auroc float64 [n], held out; cv_auroc, cv_balanced_accuracy float64 [n]: over folds of the fit part, what
    ranks rest on; gradient float64 [n] where it was measured; threshold float64 [n]; NAME_low and NAME_high: intervals,
    NaN where there is none.
sae
    latents int64 [k]; weights float64 [k]; the dictionary lies beside them in `sae/`.

`facts` holds the identity of the model under "model", and plain data about how the readout was made. The family
`neurons` has a class of its own, `levercheck.readouts.readout.Readout`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.canonical import array_digest, digest
from levercheck.evidence.files import read_json
from levercheck.lm.tensor_files import Pair
from levercheck.readouts.readout import FACTS, TENSORS

FILES = Pair(TENSORS, FACTS, "levercheck.readout/v2")
Family = Literal["direction", "heads", "sae"]
NEEDED = {
    "direction": ("directions", "sigma"),
    "heads": ("layers", "heads", "directions", "sigma", "auroc"),
    "sae": ("latents", "weights"),
}
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Artifact:
    """A readout of one family."""

    family: str
    arrays: Mapping[str, Array] = field(repr=False)
    facts: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        if self.family not in NEEDED:
            raise UsageError(f"readout family '{self.family}' is unknown, expected {', '.join(NEEDED)}")
        missing = [name for name in NEEDED[self.family] if name not in self.arrays]
        if missing:
            raise UsageError(f"a {self.family} readout has no array '{missing[0]}', expected {NEEDED[self.family]}")
        broken = [name for name in NEEDED[self.family] if not np.isfinite(self.arrays[name]).all()]
        if broken:
            raise UsageError(f"array '{broken[0]}' of a {self.family} readout has numbers that are not finite")

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the arrays, the family and the model."""
        arrays = {name: array_digest(array) for name, array in sorted(self.arrays.items())}
        return digest([self.family, arrays, self.facts.get("model")])


def save_artifact(artifact: Artifact, folder: Path) -> list[Path]:
    """Write both files; returns their paths."""
    body = {"family": artifact.family, "fingerprint": artifact.fingerprint, "facts": dict(artifact.facts)}
    return FILES.write(folder, artifact.arrays, body)


def load_artifact(folder: Path) -> Artifact:
    """Read both files; damage is an IntegrityError, an absent readout a UsageError."""
    folder = folder.parent if folder.is_file() else folder
    if (folder / FACTS).is_file() and family_of(folder) == "neurons":
        raise UsageError(f"'{folder}' holds a readout of family neurons, expected {', '.join(NEEDED)}")
    body = FILES.body(folder, "make a readout first (levercheck direction, heads or sae fit)")
    arrays = FILES.arrays(folder, body)
    try:
        artifact = Artifact(body["family"], arrays, body["facts"])
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"{TENSORS} in '{folder.name}' cannot be read ({error}): restore it") from None
    FILES.check(folder, body, artifact.fingerprint)
    return artifact


def family_of(folder: Path) -> str:
    """The family of the readout in a folder."""
    body = read_json(folder / FACTS) if (folder / FACTS).is_file() else None
    if not isinstance(body, dict) or "family" not in body:
        raise UsageError(f"'{folder}' holds no readable {FACTS}: give the folder of a readout")
    return str(body["family"])
