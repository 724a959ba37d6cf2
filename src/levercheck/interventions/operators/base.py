"""What an operator is, and the registry that a plug-in adds to (entry-point group `levercheck.operators`).

An operator compiles the edits that the rows of a batch have at one place into a `Kernel`: a function of the activations
with one parameter set per row. Rows without that edit get parameters that change nothing, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch

from levercheck.registry import Registry

if TYPE_CHECKING:
    from levercheck.interventions.spec import Array, Edit, Unit

Reach = Literal["components", "whole"]


@dataclass(frozen=True)
class RowEdit:
    """The edit one row has at a place, its dose and the unit of the dose."""

    edit: Edit
    dose: float
    unit: Unit

    def sized(self, name: str) -> Array:
        """dose · array, times its sigma where the dose counts standard deviations; float64."""
        sigma = self.edit.arrays["sigma"].astype(np.float64) if self.unit == "sigma" else 1.0
        sized: Array = self.dose * sigma * self.edit.arrays[name].astype(np.float64)
        return sized


class Kernel(Protocol):
    """The compiled edits of a batch at one place."""

    def __call__(self, z: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """New activations float32 [rows, positions, width] from float32 `z`; only positions in `mask` (bool [rows,
        positions, 1]; None means all) may differ.
        """

    def select(self, rows: torch.Tensor) -> Kernel:
        """The kernel of some of the rows (int64 indices)."""


Compile = Callable[[Sequence[RowEdit | None], "torch.Tensor | None", int, torch.device], Kernel]
"""(edit per row, the place's components that z holds or None for all, width of z, device) -> kernel."""


@dataclass(frozen=True)
class Operator:
    """`arrays` are what an edit must have; `reach` says whether it touches the whole site or some components."""

    name: str
    noop: float
    arrays: tuple[str, ...]
    reach: Reach
    compile: Compile
    units: tuple[str, ...] = ("absolute",)
    needs_sae: bool = False


OPERATORS: Registry[Operator] = Registry("operator", "levercheck.operators")


def operator(
    name: str,
    *,
    noop: float,
    arrays: tuple[str, ...],
    reach: Reach,
    units: tuple[str, ...] = ("absolute",),
    needs_sae: bool = False,
) -> Callable[[Compile], Compile]:
    """Register a compile function as the operator `name`."""

    def add(compile_rows: Compile) -> Compile:
        OPERATORS.register(name)(Operator(name, noop, arrays, reach, compile_rows, units, needs_sae))
        return compile_rows

    return add


def blend(new: torch.Tensor, old: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """`new` inside the mask, `old` outside."""
    return new if mask is None else torch.where(mask, new, old)
