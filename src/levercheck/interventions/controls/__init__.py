"""Matched negative controls of every family: what the target is compared with.

| module | what it draws |
|---|---|
| `components` | sets of neurons, heads or latents: unconstrained, layer-matched |
| `matching` | sets whose members resemble the target's on covariates |
| `heads` | directions and dose budgets of random heads |
| `directions` | isotropic and covariance-matched directions |
| `labels` | refits on shuffled labels |
| `draw` | interventions like a target, with swapped components (needs the model runtime) |

Every draw has its own stream of random numbers, so asking for more draws later leaves the first ones unchanged.
"""

from __future__ import annotations

from levercheck.interventions.controls.components import layer_matched, unconstrained
from levercheck.interventions.controls.directions import covariance_matched, isotropic
from levercheck.interventions.controls.labels import permuted, shuffled_refits
from levercheck.interventions.controls.matching import log_scale, matched
from levercheck.interventions.controls.spec import Attainability, ControlSpec, attainability

__all__ = [
    "Attainability",
    "ControlSpec",
    "attainability",
    "covariance_matched",
    "isotropic",
    "layer_matched",
    "log_scale",
    "matched",
    "permuted",
    "shuffled_refits",
    "unconstrained",
]
