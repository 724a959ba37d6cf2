"""Shift components: z_i ← z_i + α · v_i.

At `attn.o_proj.input`, with v the concatenated σ_h · d_h of the selected heads, this is inference-time intervention (Li
et al. 2023, arXiv 2306.03341, equation 2): every selected head's output moves by α standard deviations along its
direction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from levercheck.interventions.operators.affine import Affine, affine
from levercheck.interventions.operators.base import RowEdit, operator


@operator("shift", noop=0.0, arrays=("indices", "values"), reach="components", units=("absolute", "sigma"))
def shift(rows: Sequence[RowEdit | None], columns: torch.Tensor | None, width: int, device: torch.device) -> Affine:
    """Compile; `values` are v, or the directions alone where the unit is sigma."""

    def fill(row: RowEdit, where: np.ndarray, _gain: np.ndarray, bias: np.ndarray) -> None:
        bias[where] = row.sized("values")

    return affine(rows, columns, width, device, fill)
