"""Add a direction: h ← h + β · d, with d as it is (absolute), times its σ (sigma), or times ‖h‖ (relative).

Source of the absolute form: activation addition (Turner et al. 2023, arXiv 2308.10248). In the relative form the added
vector has β times the length of the activation it is added to, at every position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from levercheck.interventions.operators.base import RowEdit, blend, operator


@dataclass(frozen=True)
class Add:
    """`fixed` and `per_norm` float32 [rows, 1, width]: h + fixed + ‖h‖ · per_norm; None where no row has one."""

    fixed: torch.Tensor | None
    per_norm: torch.Tensor | None

    def __call__(self, z: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """New activations; see `Kernel`."""
        new = z
        if self.fixed is not None:
            new = new + self.fixed
        if self.per_norm is not None:
            new = new + z.norm(dim=-1, keepdim=True) * self.per_norm
        return blend(new, z, mask)

    def select(self, rows: torch.Tensor) -> Add:
        """The kernel of some of the rows."""
        return Add(*(None if t is None else t[rows] for t in (self.fixed, self.per_norm)))


@operator("add", noop=0.0, arrays=("direction",), reach="whole", units=("absolute", "sigma", "relative"))
def add(rows: Sequence[RowEdit | None], _columns: torch.Tensor | None, width: int, device: torch.device) -> Add:
    """Compile."""
    vectors = {"fixed": np.zeros((len(rows), 1, width)), "per_norm": np.zeros((len(rows), 1, width))}
    for number, row in enumerate(rows):
        if row is not None:
            vectors["per_norm" if row.unit == "relative" else "fixed"][number, 0] = row.sized("direction")
    tensors = {n: torch.from_numpy(v.astype(np.float32)).to(device) if v.any() else None for n, v in vectors.items()}
    return Add(**tensors)
