"""Steer dictionary features: f_i ← α · f_i, passed on by one of two ways.

`sae_delta`: x + D(f′) − D(f): only what the selected latents write changes; the dictionary's error stays in x.
`sae_full`: D(f′) in place of x at every dose: α = 1 is a pure reconstruction, so a dose curve has no step there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from levercheck.interventions.operators.base import RowEdit, blend, operator
from levercheck.lm.saes.sae import Sae


@dataclass(frozen=True)
class SaeKernel:
    """`latents` int64 [k] is the union over the rows; `factor` float32 [rows, 1, k]; `treated` bool [rows, 1, 1]."""

    sae: Sae
    latents: torch.Tensor
    factor: torch.Tensor
    treated: torch.Tensor
    full: bool

    def __call__(self, z: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """New activations; see `Kernel`."""
        inside = self.treated if mask is None else mask & self.treated
        if self.full:
            latent = self.sae.encode(z)
            latent = latent.index_copy(-1, self.latents, latent[..., self.latents] * self.factor)
            return blend(self.sae.decode(latent), z, inside)
        change = self.sae.encode_some(z, self.latents) * (self.factor - 1.0)
        written = change @ self.sae.on(z.device)["w_dec"][self.latents]
        return blend(z + written / self.sae.scale, z, inside)

    def select(self, rows: torch.Tensor) -> SaeKernel:
        """The kernel of some of the rows."""
        return SaeKernel(self.sae, self.latents, self.factor[rows], self.treated[rows], self.full)


def _compile(rows: Sequence[RowEdit | None], device: torch.device, full: bool) -> SaeKernel:
    edits = [row for row in rows if row is not None]
    sae = edits[0].edit.sae
    assert sae is not None
    union = np.unique(np.concatenate([row.edit.arrays["latents"] for row in edits]))
    factor, treated = np.ones((len(rows), 1, len(union)), np.float32), np.zeros((len(rows), 1, 1), bool)
    for number, row in enumerate(rows):
        if row is not None:
            factor[number, 0, np.searchsorted(union, row.edit.arrays["latents"])] = row.dose
            treated[number] = True
    on_device = [torch.from_numpy(a).to(device) for a in (union, factor, treated)]
    return SaeKernel(sae, on_device[0], on_device[1], on_device[2], full)


@operator("sae_delta", noop=1.0, arrays=("latents",), reach="whole", needs_sae=True)
def sae_delta(
    rows: Sequence[RowEdit | None], _columns: torch.Tensor | None, _width: int, device: torch.device
) -> SaeKernel:
    """Compile; α = 1 changes nothing."""
    return _compile(rows, device, full=False)


@operator("sae_full", noop=1.0, arrays=("latents",), reach="whole", needs_sae=True)
def sae_full(
    rows: Sequence[RowEdit | None], _columns: torch.Tensor | None, _width: int, device: torch.device
) -> SaeKernel:
    """Compile; α = 1 reconstructs."""
    return _compile(rows, device, full=True)
