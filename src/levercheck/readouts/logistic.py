"""Ridge logistic probes of many sites at once: one small Newton problem per site, solved side by side.

Every site minimises ½‖w‖² + C Σᵢ log(1 + exp(−yᵢ (w · xᵢ + b))) over features standardised by the items it is fitted
on, with the intercept b free: the problem of scikit-learn's `LogisticRegression(C=C)`. Objective and gradient are
float64; the curvature that gives the step may be float32, which changes the path and not where it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from levercheck.errors import NotEnoughDataError, UsageError

Floats = np.ndarray[Any, np.dtype[np.float64]]
TOLERANCE = 1e-7
"""Largest entry of the gradient at the solution, per item and unit of C."""
STEPS = 100
CHUNK = 1 << 25
"""Numbers of float64 that a chunk of sites may hold."""


@dataclass(frozen=True)
class Probes:
    """`weights`, `mean` and `deviation` float64 [sites, width], `intercepts` [sites]; weights are per deviation."""

    weights: Floats
    intercepts: Floats
    mean: Floats
    deviation: Floats

    def scores(self, features: np.ndarray[Any, Any]) -> Floats:
        """Log-odds of label 1, float64 [items, sites], of features [items, sites, width]."""
        slopes = self.weights / self.deviation
        offset = self.intercepts - (slopes * self.mean).sum(-1)
        columns = [features[:, site].astype(np.float64) @ slopes[site] for site in range(len(slopes))]
        found: Floats = np.stack(columns, axis=1) + offset
        return found


def fit_probes(
    features: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    *,
    c: float = 1.0,
    device: torch.device | None = None,
    start: Probes | None = None,
) -> Probes:
    """Fit one probe per site of features [items, sites, width] to labels bool [items].

    `start` begins at another fit of the same sites, which saves steps. A label that is missing is a NotEnoughDataError;
    a number that is not finite, or a C that is not positive, a UsageError.
    """
    if not c > 0:
        raise UsageError(f"C = {c}: expected a positive number")
    if labels.all() or not labels.any():
        raise NotEnoughDataError(
            f"{int(labels.sum())} of {len(labels)} examples have label 1: a probe needs both labels"
        )
    if not np.isfinite(features).all():
        raise UsageError("features of a probe are not finite: load the model in float32 or bfloat16")
    place = device if device is not None and device.type == "cuda" else torch.device("cpu")
    items, sites, width = features.shape
    step = max(1, CHUNK // ((items + width) * (width + 1)))
    parts = []
    for at in range(0, sites, step):
        some = slice(at, at + step)
        before = None if start is None else (start.weights[some], start.intercepts[some])
        parts.append(_fit(features[:, some], labels, c, place, before))
    return Probes(*(np.concatenate([getattr(p, name) for p in parts]) for name in Probes.__dataclass_fields__))


@torch.inference_mode()
def _fit(
    features: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    c: float,
    device: torch.device,
    start: tuple[Floats, Floats] | None,
) -> Probes:
    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(features, 1, 0))).to(device).double()  # [sites, items, width]
    mean = x.mean(1)
    deviation = x.std(1, correction=0)
    deviation = torch.where(deviation > 0, deviation, 1.0)
    x = (x - mean[:, None]) / deviation[:, None]
    design = torch.cat([x, torch.ones_like(x[..., :1])], dim=2)
    ridge = torch.ones(design.shape[2], dtype=torch.float64, device=device)
    ridge[-1] = 0.0
    truth = torch.from_numpy(labels.astype(np.float64)).to(device)
    beta = torch.zeros(len(design), design.shape[2], dtype=torch.float64, device=device)
    beta[:, -1] = torch.logit(truth.mean())
    if start is not None:
        beta = torch.from_numpy(np.concatenate([start[0], start[1][:, None]], axis=1)).to(device)
    live = torch.arange(len(design), device=device)
    for _ in range(STEPS):
        own, at = design[live], beta[live]
        p = torch.sigmoid(torch.matmul(own, at[..., None])[..., 0])
        gradient = c * torch.matmul((p - truth)[:, None], own)[:, 0] + ridge * at
        unsolved = gradient.abs().amax(1) > TOLERANCE * c * len(truth)
        if not unsolved.any():
            break
        if not unsolved.all():
            live, own, at, p, gradient = (a[unsolved] for a in (live, own, at, p, gradient))
        direction = _newton(own, c * p * (1 - p), ridge, gradient)
        beta[live] = _step(own, truth, at, gradient, direction, c, ridge)
    else:
        raise UsageError(f"{len(live)} probes did not converge in {STEPS} Newton steps at C = {c:g}: use a smaller C")
    return Probes(*(t.cpu().numpy() for t in (beta[:, :-1], beta[:, -1], mean, deviation)))


def _newton(design: torch.Tensor, weight: torch.Tensor, ridge: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """−H⁻¹ g; float32 where that factorises, else float64."""
    for dtype in (torch.float32, torch.float64):
        x = design.to(dtype)
        curvature = torch.bmm((x * weight.to(dtype)[..., None]).transpose(1, 2), x)
        curvature.diagonal(dim1=1, dim2=2).add_(ridge.to(dtype))
        factor, info = torch.linalg.cholesky_ex(curvature)
        found = torch.cholesky_solve(-gradient.to(dtype)[..., None], factor)[..., 0].double()
        downhill = (found * gradient).sum(1) < 0
        if not info.any() and downhill.all():
            break
    return torch.where(downhill[:, None], found, -gradient)


def _step(
    design: torch.Tensor,
    truth: torch.Tensor,
    at: torch.Tensor,
    gradient: torch.Tensor,
    direction: torch.Tensor,
    c: float,
    ridge: torch.Tensor,
) -> torch.Tensor:
    """Each site's longest step of 1, ½, ¼, ... that lowers its objective enough (Armijo)."""
    before = _objective(design, truth, at, c, ridge)
    slope = (gradient * direction).sum(1)
    length = torch.ones_like(before)
    for _ in range(40):
        new = at + length[:, None] * direction
        bad = _objective(design, truth, new, c, ridge) > before + 1e-4 * length * slope + 1e-12 * before.abs()
        if not bad.any():
            break
        length[bad] /= 2
    return new


def _objective(
    design: torch.Tensor, truth: torch.Tensor, beta: torch.Tensor, c: float, ridge: torch.Tensor
) -> torch.Tensor:
    margin = torch.matmul(design, beta[..., None])[..., 0]
    loss = torch.nn.functional.softplus(margin) - truth * margin
    return c * loss.sum(1) + 0.5 * (ridge * beta**2).sum(1)
