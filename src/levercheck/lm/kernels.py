"""Matrix products on CPUs: oneDNN's float32 kernel instead of the BLAS that torch picks for `nn.Linear`.

On AMD processors torch's default BLAS runs float32 at about half the speed of oneDNN, which ships with torch. Products
and sums are float32 in both cases.
"""

from __future__ import annotations

import torch
from torch import nn


class OneDnnLinear(nn.Linear):
    """`nn.Linear` computed by oneDNN wherever no gradient is asked for."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Same as `nn.Linear.forward`, up to float32 rounding."""
        if torch.is_grad_enabled() and input.requires_grad:
            return super().forward(input)
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")
        return product


def use_fast_kernels(model: nn.Module) -> str:
    """Switch the linear layers of a float32 CPU model to oneDNN where torch has it; returns the kernel's name."""
    parameter = next(model.parameters())
    if parameter.device.type != "cpu" or parameter.dtype != torch.float32 or not _works():
        return "torch"
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = OneDnnLinear
    return "onednn"


def _works() -> bool:
    """Whether this build of torch has the operator and it computes a product."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        one = torch.eye(8)
        return bool(torch.equal(torch.ops.mkldnn._linear_pointwise(one, one, None, "none", [], ""), one))
    except (AttributeError, RuntimeError):
        return False
