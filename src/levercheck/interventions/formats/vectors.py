"""What every vector file holds, in our sites, and what it makes of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from levercheck.errors import UsageError
from levercheck.interventions.operators import RowEdit
from levercheck.interventions.scopes import ALL, Scope
from levercheck.interventions.spec import Array, Edit, Intervention, Unit
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import RESID_POST, RESID_PRE, Site, parse_site, place

OUTPUTS = "layer N of the file is the output of block N, counted from 0 (resid.post)"
Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Vector:
    """One vector float32 [width] at a site, with the file's own coefficient, not yet multiplied.

    add: h + coefficient · v. clamp: the component of h − bias along v / ‖v‖ becomes the coefficient. `module` is the
    path of a module, where the file names one instead of a place in the residual stream.
    """

    site: Site
    values: Floats = field(repr=False)
    coefficient: float = 1.0
    action: Literal["add", "clamp"] = "add"
    bias: Floats | None = field(default=None, repr=False)
    module: str | None = None


@dataclass(frozen=True)
class VectorFile:
    """A file's vectors; `facts` says what the file says of itself and how its layers were read."""

    format: str
    vectors: tuple[Vector, ...]
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        if not self.vectors:
            raise UsageError(f"the {self.format} file holds no vector")
        sites = [vector.site for vector in self.vectors]
        if len(set(sites)) != len(sites):
            raise UsageError(f"the {self.format} file has two vectors for one site, expected one each")
        for vector in self.vectors:
            numbers = [vector.values, np.array([vector.coefficient])] + ([] if vector.bias is None else [vector.bias])
            if not all(np.isfinite(n).all() for n in numbers):
                raise UsageError(f"the vector at {vector.site} has numbers that are not finite")
            if vector.values.ndim != 1 or not vector.values.any():
                shape = list(vector.values.shape)
                raise UsageError(
                    f"the vector at {vector.site} has shape {shape}, expected one row that is not all zero"
                )

    def only(self, layers: Sequence[int] | None) -> VectorFile:
        """The vectors at some blocks of ours; one that the file lacks is a UsageError."""
        if layers is None:
            return self
        held = sorted({vector.site.layer for vector in self.vectors})
        missing = [layer for layer in layers if layer not in held]
        if missing:
            raise UsageError(f"layer {missing[0]} is not in the {self.format} file, expected some of {held}")
        kept = tuple(vector for vector in self.vectors if vector.site.layer in layers)
        return VectorFile(self.format, kept, self.facts)


def stream_site(layer: int, *, inputs: bool = False) -> Site:
    """The residual stream behind block `layer`, or with `inputs` in front of it (which is behind the one below)."""
    if not inputs or layer < 0:
        return Site(layer, RESID_POST)  # one below 0 is refused by every model
    return Site(layer - 1, RESID_POST) if layer > 0 else Site(0, RESID_PRE)


def layer_key(key: object) -> Site | None:
    """The site that a tensor's name means: a number, a site, or a word with one number (`layer.3`, `direction.3`)."""
    text = str(key)
    found = re.fullmatch(r"(?:(?:layers?|blocks?|direction|directions)[._]?)?(\d+)(?:\.(?:weight|direction))?", text)
    if found:
        return stream_site(int(found[1]))
    try:
        return parse_site(text)
    except UsageError:
        return None


def rows_as_layers(table: Floats, layers: int, what: str) -> tuple[tuple[Vector, ...], str]:
    """Vectors of a table float [rows, width] for a model of that many layers, and the convention in words."""
    first = len(table) - layers
    if first not in (0, 1):
        raise UsageError(
            f"{what} has {len(table)} rows, expected {layers} (block outputs) or {layers + 1} (embeddings first)"
        )
    convention = OUTPUTS if first == 0 else "row 0 is the embedding, row N + 1 the output of block N; row 0 left out"
    rows = enumerate(table[first:])
    return tuple(Vector(stream_site(n), row.astype(np.float32)) for n, row in rows if row.any()), convention


def interventions_of(
    lm: LanguageModel, file: VectorFile, *, unit: Unit = "absolute", scope: Scope = ALL
) -> list[Intervention]:
    """Interventions that together, at dose 1 each and in this order, do what the file's own program does.

    An `add` keeps the file's lengths and coefficients in its vectors; in unit relative it has unit vectors, and the
    dose is yours. Clamping is an `ablate` followed by an `add`. Vectors of another width, layers that are not there and
    modules that are none of our sites in this model are UsageErrors.
    """
    for vector in file.vectors:
        where = place(lm, vector.site)
        if vector.values.shape != (where.width,):
            raise UsageError(
                f"the vector at {vector.site} is {len(vector.values)} wide, expected {where.width} as {lm.name}'s site"
            )
        if vector.module is not None and not f".{where.path}".endswith(f".{vector.module}"):
            raise UsageError(
                f"'{vector.module}' of the file is not what this model adds to the residual stream ({where.path} is): "
                "it cannot be imported as a site"
            )
    clamped = [v for v in file.vectors if v.action == "clamp"]
    if unit == "relative" and clamped:
        raise UsageError("a clamp has no relative dose: import it in unit absolute")
    adds = {v.site: _addition(v, unit) for v in file.vectors}
    parts = []
    facts = {**file.facts, "format": file.format, "model": lm.identity}
    facts["lengths"] = {str(v.site): float(np.linalg.norm(v.values)) for v in file.vectors}
    facts["coefficients"] = {str(v.site): float(v.coefficient) for v in file.vectors}
    if clamped:
        edits = tuple(Edit(v.site, {"direction": _unit(v.values)}) for v in clamped)
        parts.append(Intervention("ablate", edits, scope, "absolute", facts))
    moved = tuple(Edit(site, {"direction": vector}) for site, vector in sorted(adds.items()) if vector.any())
    if moved:
        parts.append(Intervention("add", moved, scope, unit, facts))
    if not parts:
        raise UsageError(f"every coefficient of the {file.format} file is 0: it changes nothing")
    return parts


def folded(intervention: Intervention, dose: float) -> dict[Site, Floats]:
    """What an addition adds at every site at this dose, float32 [width]: what any other program has to add.

    Only `add` with scope all and a fixed length can be said in such a file; anything else is a UsageError.
    """
    if not np.isfinite(dose) or dose == 0:
        raise UsageError(f"dose {dose:g} cannot be folded in: expected a finite number that is not 0")
    if intervention.operator != "add":
        raise UsageError(
            f"a vector file can only say 'add', got {intervention.operator}: use levercheck bake for weights"
        )
    if intervention.scope != ALL:
        raise UsageError(f"a vector file has no scope, the intervention has {intervention.scope}: expected all")
    if intervention.unit == "relative":
        raise UsageError("a vector file holds fixed lengths, the intervention has unit relative: use absolute or sigma")
    found: dict[Site, Floats] = {}
    for edit in intervention.edits:
        site = stream_site(edit.site.layer, inputs=True) if edit.site.name == RESID_PRE else edit.site
        vector = RowEdit(edit, dose, intervention.unit).sized("direction")
        found[site] = (found[site] + vector if site in found else vector).astype(np.float32)
    return found


def block_outputs(vectors: Mapping[Site, Floats], what: str) -> dict[int, Floats]:
    """Vectors by block, for formats that know only block outputs."""
    other = [site for site in vectors if site.name != RESID_POST]
    if other:
        raise UsageError(f"{what} holds vectors at block outputs only, got {other[0]}")
    return {site.layer: vector for site, vector in sorted(vectors.items())}


def _addition(vector: Vector, unit: Unit) -> Array:
    """What dose 1 adds."""
    if vector.action == "add":
        return _unit(vector.values) if unit == "relative" else (vector.coefficient * vector.values).astype(np.float32)
    along = _unit(vector.values).astype(np.float64)
    goal = vector.coefficient + (0.0 if vector.bias is None else float(vector.bias.astype(np.float64) @ along))
    clamped: Floats = (goal * along).astype(np.float32)
    return clamped


def _unit(values: Floats) -> Floats:
    long = values.astype(np.float64)
    unit: Floats = (long / np.linalg.norm(long)).astype(np.float32)
    return unit
