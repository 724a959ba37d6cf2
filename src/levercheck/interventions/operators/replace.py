"""Replace components: z_i ← z_i + α · (v_i − z_i). With v their mean activations and α = 1 this is mean-ablation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from levercheck.interventions.operators.affine import Affine, affine
from levercheck.interventions.operators.base import RowEdit, operator


@operator("replace", noop=0.0, arrays=("indices", "values"), reach="components")
def replace(rows: Sequence[RowEdit | None], columns: torch.Tensor | None, width: int, device: torch.device) -> Affine:
    """Compile; α = 0 is the no-op, α = 1 puts `values` in place."""

    def fill(row: RowEdit, where: np.ndarray, gain: np.ndarray, bias: np.ndarray) -> None:
        gain[where] = 1.0 - row.dose
        bias[where] = row.dose * row.edit.arrays["values"]

    return affine(rows, columns, width, device, fill)
