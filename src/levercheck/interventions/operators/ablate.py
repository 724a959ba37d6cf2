"""Ablate a direction: h ← h − β (h · d) d with d of length 1 (Arditi et al. 2024, arXiv 2406.11717, equation 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from levercheck.interventions.operators.base import RowEdit, blend, operator


@dataclass(frozen=True)
class Ablate:
    """`direction` float32 [rows, width, 1], unit length; `dose` float32 [rows, 1, 1], 0 for rows without the edit."""

    direction: torch.Tensor
    dose: torch.Tensor

    def __call__(self, z: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """New activations; see `Kernel`."""
        along = torch.bmm(z, self.direction) * self.dose
        return blend(z - along * self.direction.transpose(1, 2), z, mask)

    def select(self, rows: torch.Tensor) -> Ablate:
        """The kernel of some of the rows."""
        return Ablate(self.direction[rows], self.dose[rows])


@operator("ablate", noop=0.0, arrays=("direction",), reach="whole")
def ablate(rows: Sequence[RowEdit | None], _columns: torch.Tensor | None, width: int, device: torch.device) -> Ablate:
    """Compile; β = 0 is the no-op, β = 1 removes the direction, β = 2 mirrors the activation."""
    direction, dose = np.zeros((len(rows), width, 1)), np.zeros((len(rows), 1, 1))
    for number, row in enumerate(rows):
        if row is not None:
            vector = row.edit.arrays["direction"].astype(np.float64)
            direction[number, :, 0], dose[number] = vector / np.linalg.norm(vector), row.dose
    return Ablate(*(torch.from_numpy(a.astype(np.float32)).to(device) for a in (direction, dose)))
