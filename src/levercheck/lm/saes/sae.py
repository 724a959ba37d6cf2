"""Sparse autoencoders over a site's activations: one plain form for every published format.

    pre = (x − [b_dec if centred]) @ W_enc + b_enc
    f   = pre · 1[pre > threshold]   jumprelu (thresholds below 0 never occur)
          max(pre, 0)                standard
          max(pre, 0) where it is among the k largest   topk
    x̂   = f @ W_dec + b_dec

Activations are multiplied by `scale` before the encoder and reconstructions divided by it, for dictionaries that were
trained on normalised activations. Arithmetic is float32.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from levercheck.errors import UsageError
from levercheck.evidence.canonical import array_digest, digest
from levercheck.lm.places import Site

Kind = Literal["jumprelu", "standard", "topk"]
Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Sae:
    """A dictionary at one site. Arrays: w_enc float32 [width, latents], b_enc [latents], w_dec [latents, width],
    b_dec [width], threshold [latents] (jumprelu only).
    """

    site: Site
    kind: Kind
    w_enc: Floats = field(repr=False)
    b_enc: Floats = field(repr=False)
    w_dec: Floats = field(repr=False)
    b_dec: Floats = field(repr=False)
    threshold: Floats | None = field(default=None, repr=False)
    k: int | None = None  # topk only
    centred: bool = False  # whether the encoder subtracts b_dec first
    scale: float = 1.0
    facts: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        width, latents = self.w_enc.shape
        expected = {"b_enc": (latents,), "w_dec": (latents, width), "b_dec": (width,)}
        if self.kind == "jumprelu":
            expected["threshold"] = (latents,)
        for name, shape in expected.items():
            array = getattr(self, name)
            if array is None or array.shape != shape:
                got = None if array is None else list(array.shape)
                raise UsageError(f"{name} of a dictionary has shape {got}, expected {list(shape)} as w_enc has")
        if (self.kind == "topk") != (self.k is not None):
            raise UsageError(f"a {self.kind} dictionary with k = {self.k}: only topk has a k")
        if self.k is not None and self.k < 1:
            raise UsageError(f"a topk dictionary with k = {self.k}: expected at least 1")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise UsageError(f"a dictionary with scale = {self.scale}: expected a positive number")
        for name in expected:
            if not np.isfinite(getattr(self, name)).all():
                raise UsageError(f"{name} of a dictionary has numbers that are not finite")

    @property
    def width(self) -> int:
        """Width of the site."""
        return int(self.w_enc.shape[0])

    @property
    def latents(self) -> int:
        """Number of latents (features)."""
        return int(self.w_enc.shape[1])

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what it computes and where."""
        arrays = [self.w_enc, self.b_enc, self.w_dec, self.b_dec]
        arrays += [] if self.threshold is None else [self.threshold]
        plain = [self.kind, self.k, self.centred, self.scale, str(self.site)]
        return digest([plain, [array_digest(a) for a in arrays]])

    @cached_property
    def _tensors(self) -> dict[str, dict[str, torch.Tensor]]:
        return {}

    def on(self, device: torch.device | str) -> dict[str, torch.Tensor]:
        """The arrays as float32 tensors on a device, made once."""
        key = str(device)
        if key not in self._tensors:
            names = ("w_enc", "b_enc", "w_dec", "b_dec", "threshold")
            arrays = {name: getattr(self, name) for name in names}
            self._tensors[key] = {n: torch.from_numpy(a).to(device) for n, a in arrays.items() if a is not None}
        return self._tensors[key]

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Latent activations, float32 [..., latents], of activations [..., width]."""
        t = self.on(x.device)
        h = x.float() * self.scale
        pre = (h - t["b_dec"] if self.centred else h) @ t["w_enc"] + t["b_enc"]
        if self.kind == "jumprelu":
            return torch.where(pre > t["threshold"], pre.clamp_min(0), 0.0)
        latent = pre.clamp_min(0)
        if self.kind == "topk":
            assert self.k is not None
            top = latent.topk(min(self.k, self.latents), dim=-1)
            latent = torch.zeros_like(latent).scatter(-1, top.indices, top.values)
        return latent

    def encode_some(self, x: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Activations of some latents only, float32 [..., k]; equal to `encode(x)[..., latents]`."""
        if self.kind == "topk":  # which latents are on depends on all of them
            return self.encode(x)[..., latents]
        t = self.on(x.device)
        h = x.float() * self.scale
        pre = (h - t["b_dec"] if self.centred else h) @ t["w_enc"][:, latents] + t["b_enc"][latents]
        if self.kind == "jumprelu":
            return torch.where(pre > t["threshold"][latents], pre.clamp_min(0), 0.0)
        return pre.clamp_min(0)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """Reconstruction, float32 [..., width]."""
        t = self.on(latent.device)
        return (latent @ t["w_dec"] + t["b_dec"]) / self.scale
