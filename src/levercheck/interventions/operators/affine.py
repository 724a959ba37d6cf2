"""z ← gain · z + bias on a site's components, a gain and a bias per row: the kernel of scale, shift and replace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from levercheck.interventions.operators.base import RowEdit, blend

Fill = Callable[[RowEdit, "Array1", "Array1", "Array1"], None]
Array1 = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Affine:
    """`gain` and `bias` float32 [rows, 1, width]; None where every row's is 1 (0)."""

    gain: torch.Tensor | None
    bias: torch.Tensor | None

    def __call__(self, z: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """New activations; see `Kernel`."""
        new = z
        if self.gain is not None:
            new = new * self.gain
        if self.bias is not None:
            new = new + self.bias
        return blend(new, z, mask)

    def select(self, rows: torch.Tensor) -> Affine:
        """The kernel of some of the rows."""
        return Affine(*(None if t is None else t[rows] for t in (self.gain, self.bias)))


def affine(
    rows: Sequence[RowEdit | None],
    columns: torch.Tensor | None,
    width: int,
    device: torch.device,
    fill: Callable[[RowEdit, np.ndarray, np.ndarray, np.ndarray], None],
) -> Affine:
    """Compile with `fill(edit, where, gain, bias)`, which writes one row's gain and bias at positions `where`."""
    gain, bias = np.ones((len(rows), width)), np.zeros((len(rows), width))
    known = None if columns is None else columns.cpu().numpy()
    for number, row in enumerate(rows):
        if row is not None:
            indices = row.edit.arrays["indices"]
            where = indices if known is None else np.searchsorted(known, indices)
            fill(row, where, gain[number], bias[number])
    return Affine(_tensor(gain, 1.0, device), _tensor(bias, 0.0, device))


def _tensor(values: np.ndarray, idle: float, device: torch.device) -> torch.Tensor | None:
    if (values == idle).all():
        return None
    return torch.from_numpy(values[:, None].astype(np.float32)).to(device)
