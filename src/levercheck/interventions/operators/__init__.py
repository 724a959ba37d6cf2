"""Operators, one module each; importing the room registers them."""

from __future__ import annotations

from levercheck.interventions.operators import ablate, add, replace, sae, scale, shift
from levercheck.interventions.operators.base import OPERATORS, Kernel, Operator, RowEdit, operator

BUILT_IN = (scale, shift, replace, add, ablate, sae)

__all__ = ["BUILT_IN", "OPERATORS", "Kernel", "Operator", "RowEdit", "operator"]
