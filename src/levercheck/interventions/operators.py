"""Operators: change activations at a site while the model runs, and leave a receipt of what was changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from levercheck.errors import LevercheckError, UsageError
from levercheck.lm.model import LanguageModel
from levercheck.lm.sites import MlpSite


class HookNeverFiredError(LevercheckError):
    """An intervention was in force but its hook did not run: the sweep would have measured nothing."""

    exit_code = 1


@dataclass
class Receipt:
    """What the hooks of one intervention did since the last `collect`."""

    layers: tuple[int, ...]
    _ratios: dict[int, torch.Tensor] = field(default_factory=dict, repr=False)

    def collect(self, lengths: Sequence[int]) -> list[float]:
        """Relative dose ‖Δ‖/‖h‖ of each row of the last pass: mean over its `lengths` positions, then over layers.

        h is the output of the site's down-projection without the intervention and Δ the change of that output. Raises
        HookNeverFiredError when a layer's hook did not run.
        """
        silent = [layer for layer in self.layers if layer not in self._ratios]
        if silent:
            raise HookNeverFiredError(
                f"no hook fired in layers {silent}, expected one pass: the model skipped the site"
            )
        per_layer = [self._ratios[layer].double() for layer in self.layers]
        self._ratios.clear()
        real = torch.tensor(list(lengths), device=per_layer[0].device)
        inside = torch.arange(per_layer[0].shape[1], device=real.device) < real[:, None]  # padding is not measured
        rows = torch.stack([(ratio * inside).sum(1) / real for ratio in per_layer])
        means: list[float] = rows.mean(0).tolist()
        return means

    def discard(self) -> None:
        """Forget passes that belong to no row (a shared prefix)."""
        self._ratios.clear()

    def record(self, layer: int, ratio: torch.Tensor) -> None:
        """Note the relative dose of one pass, float [rows, positions]."""
        self._ratios[layer] = ratio


@contextmanager
def scale_neurons(lm: LanguageModel, neurons: Sequence[tuple[int, int]], dose: float) -> Iterator[Receipt]:
    """Multiply the down-projection input of each (layer, index) by `dose` at every position (no-op dose: 1).

    Exactly equal to scaling those columns of the down-projection weights. Nothing is written in place, and a dose of 1
    gives bit-identical activations. Source: Gao et al., arXiv 2512.01797 (intervention by activation scaling).
    """
    layers, width = lm.shape
    by_layer: dict[int, list[int]] = {}
    for layer, index in neurons:
        if not (0 <= layer < layers and 0 <= index < width):
            raise UsageError(f"neuron ({layer}, {index}) is outside the model's {layers} layers of {width} neurons")
        by_layer.setdefault(layer, []).append(index)
    receipt = Receipt(tuple(sorted(by_layer)))
    handles = []
    for layer, indices in by_layer.items():
        hook = _ScaleHook(lm.sites[layer], indices, dose, receipt, lm.device)
        handles.append(hook.site.module.register_forward_pre_hook(hook.before))
        handles.append(hook.site.module.register_forward_hook(hook.after))
    try:
        yield receipt
    finally:
        for handle in handles:
            handle.remove()


class _ScaleHook:
    """The pair of hooks of one site: scale on the way in, measure on the way out."""

    def __init__(
        self, site: MlpSite, indices: Sequence[int], dose: float, receipt: Receipt, device: torch.device
    ) -> None:
        self.site, self.dose, self.receipt = site, dose, receipt
        self.indices = torch.tensor(sorted(set(indices)), device=device)
        self.factor = torch.ones(site.neurons, dtype=site.write.dtype, device=device)
        self.factor[self.indices] = dose
        self.write = site.write[:, self.indices].detach()
        self.selected: torch.Tensor | None = None

    def before(self, _module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.selected = args[0][..., self.indices]
        return (args[0] * self.factor, *args[1:])

    def after(self, _module: Any, _args: Any, output: torch.Tensor) -> None:
        assert self.selected is not None
        change = (self.dose - 1.0) * (self.selected @ self.write.T)
        size = (output - change).float().norm(dim=-1).clamp_min(1e-12)
        ratio = change.float().norm(dim=-1) / size
        self.receipt.record(self.site.layer, ratio)
        self.selected = None
