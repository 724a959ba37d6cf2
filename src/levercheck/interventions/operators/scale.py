"""Scale components: z_i ← α · z_i. At `mlp.down_proj.input` this is what Gao et al. do (arXiv 2512.01797)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from levercheck.interventions.operators.affine import Affine, affine
from levercheck.interventions.operators.base import RowEdit, operator


@operator("scale", noop=1.0, arrays=("indices",), reach="components")
def scale(rows: Sequence[RowEdit | None], columns: torch.Tensor | None, width: int, device: torch.device) -> Affine:
    """Compile; α = 1 is the no-op, α = 0 zero-ablation."""

    def fill(row: RowEdit, where: np.ndarray, gain: np.ndarray, _bias: np.ndarray) -> None:
        gain[where] = row.dose

    return affine(rows, columns, width, device, fill)
