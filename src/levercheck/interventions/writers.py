"""A direction removed from everything that writes to the residual stream."""

from __future__ import annotations

from levercheck.interventions.build import ablate_direction
from levercheck.interventions.scopes import ALL, Scope
from levercheck.interventions.spec import Array, Intervention
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import ATTN_OUT, MLP_OUT, RESID_PRE

WRITERS = "writers"
"""Where it stands: what enters the first layer, and what every attention and MLP adds."""


def ablate_writers(lm: LanguageModel, direction: Array, *, scope: Scope = ALL) -> Intervention:
    """Remove the dose's share of one direction float [hidden] from the embedding and every attention and MLP output.

    At dose 1 the residual stream has no component along the direction anywhere, also between the attention and the MLP
    of one layer, which an ablation at `resid.post` leaves open (Arditi et al. 2024, arXiv 2406.11717, section 2.4).
    """
    layers = range(lm.shape[0])
    parts = [ablate_direction(lm, {0: direction}, site=RESID_PRE, scope=scope)]
    parts += [
        ablate_direction(lm, dict.fromkeys(layers, direction), site=site, scope=scope) for site in (ATTN_OUT, MLP_OUT)
    ]
    return Intervention("ablate", tuple(edit for part in parts for edit in part.edits), scope)
