"""What an intervention is: edits at sites, an operator, a scope and a unit of dose. Plain numpy, no model.

The dose itself is not part of it: `(intervention, dose)` is a part of a `Treatment`, which is what one row of a batch
undergoes. Builders for every family stand in `levercheck.interventions.build`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from levercheck.errors import UsageError
from levercheck.evidence.canonical import array_digest, digest
from levercheck.interventions.operators import OPERATORS
from levercheck.interventions.scopes import ALL, Scope
from levercheck.lm.places import Site

if TYPE_CHECKING:
    from levercheck.lm.saes.sae import Sae

Unit = Literal["absolute", "sigma", "relative"]
"""absolute: the dose multiplies the edit as it is; sigma: the edit's `sigma` (standard deviation of projections) too;
relative: an added direction gets the length dose · ‖h‖ at every position."""
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Edit:
    """What happens at one site. Its operator says which arrays it has:

    `indices` int64 [k], sorted, of the site's components; `values` float32 [k]; `direction` float32 [width]; `latents`
    int64 [k] of the edit's dictionary. Unit sigma needs `sigma` float32 [1] or [k] beside them.
    """

    site: Site
    arrays: Mapping[str, Array] = field(repr=False)
    sae: Sae | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Intervention:
    """Edits of one family with one operator. Arrays are taken as they are: `build` checks and normalises them."""

    operator: str
    edits: tuple[Edit, ...] = field(repr=False)
    scope: Scope = ALL
    unit: Unit = "absolute"
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = OPERATORS.find(self.operator)
        if self.unit not in known.units:
            raise UsageError(f"unit '{self.unit}' of operator {self.operator}: expected {' or '.join(known.units)}")
        if not self.edits:
            raise UsageError(f"an intervention by {self.operator} has no edits: it would change nothing")
        sites = [edit.site for edit in self.edits]
        if len(set(sites)) != len(sites):
            raise UsageError("an intervention has two edits at one site: merge them, or compose two interventions")
        needed = (*known.arrays, *(("sigma",) if self.unit == "sigma" else ()))
        for edit in self.edits:
            missing = [name for name in needed if name not in edit.arrays]
            if missing:
                raise UsageError(f"the edit at {edit.site} has no {missing[0]}, which {self.operator} needs")
            for name, array in edit.arrays.items():
                if not np.isfinite(array).all():
                    raise UsageError(f"{name} of the edit at {edit.site} has numbers that are not finite")
            if known.needs_sae and edit.sae is None:
                raise UsageError(f"the edit at {edit.site} has no dictionary, which {self.operator} needs")

    @property
    def noop(self) -> float:
        """The dose that changes nothing."""
        return OPERATORS.find(self.operator).noop

    @property
    def sites(self) -> tuple[Site, ...]:
        """Sites in layer order."""
        return tuple(sorted(edit.site for edit in self.edits))

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what the intervention computes: operator, scope, unit, sites and every number."""
        edits = [
            [
                str(edit.site),
                {name: array_digest(array) for name, array in sorted(edit.arrays.items())},
                None if edit.sae is None else edit.sae.fingerprint,
            ]
            for edit in sorted(self.edits, key=lambda e: e.site)
        ]
        return digest([self.operator, str(self.scope), self.unit, edits])


@dataclass(frozen=True)
class Treatment:
    """What one row undergoes: interventions with their doses, applied in this order where they meet at one site."""

    parts: tuple[tuple[Intervention, float], ...] = ()

    def __post_init__(self) -> None:
        for intervention, dose in self.parts:
            if not np.isfinite(dose):
                raise UsageError(f"a dose of {dose} for {intervention.operator}: expected a finite number")

    @property
    def hooked(self) -> bool:
        """Whether any hook is needed."""
        return bool(self.parts)

    @property
    def first_layer(self) -> int | None:
        """The lowest layer that is touched."""
        layers = [edit.site.layer for intervention, _ in self.parts for edit in intervention.edits]
        return min(layers) if layers else None

    @property
    def touches_prompt(self) -> bool:
        """Whether positions before the last prompt token can change."""
        return any(intervention.scope.touches_prompt for intervention, _ in self.parts)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the parts in their order."""
        return digest([[intervention.fingerprint, float(dose)] for intervention, dose in self.parts])


BASELINE = Treatment()
"""The unhooked model."""
