"""levercheck: is an internal readout of a language model a lever? Detection is not enough.

The public functions are imported on first use, so that `import levercheck` needs neither torch nor a model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "load_model": "levercheck.lm.model",
    "load_facts": "levercheck.benchmarks.facts",
    "load_questions": "levercheck.benchmarks.questions",
    "load_readout": "levercheck.readouts.readout",
    "workspace": "levercheck.detect.workspace",
    "counterfactual_items": "levercheck.api",
    "sample_answers": "levercheck.api",
    "consistency": "levercheck.audit.labels",
    "split_by_entity": "levercheck.api",
    "attribution": "levercheck.api",
    "capture_cett": "levercheck.api",
    "fit_probe": "levercheck.readouts.probe",
    "Arm": "levercheck.sweep.arms",
    "random_arms": "levercheck.sweep.arms",
    "strongest_arm": "levercheck.sweep.arms",
    "verify": "levercheck.audit.verify",
    "Treatment": "levercheck.interventions.spec",
    "steered": "levercheck.interventions.steering",
    "scale_neurons": "levercheck.interventions.build",
    "replace_neurons": "levercheck.interventions.build",
    "add_direction": "levercheck.interventions.build",
    "ablate_direction": "levercheck.interventions.build",
    "shift_heads": "levercheck.interventions.build",
    "scale_latents": "levercheck.interventions.build",
    "save_intervention": "levercheck.interventions.files",
    "load_intervention": "levercheck.interventions.files",
    "intervention_of": "levercheck.sweep.levers",
    "load_sae": "levercheck.lm.saes.formats",
    "read_study": "levercheck.study.spec",
}

__all__ = [*sorted(_HOMES), "audit", "sweep"]

if TYPE_CHECKING:
    from levercheck.api import (
        attribution as attribution,
    )
    from levercheck.api import (
        capture_cett as capture_cett,
    )
    from levercheck.api import (
        counterfactual_items as counterfactual_items,
    )
    from levercheck.api import (
        sample_answers as sample_answers,
    )
    from levercheck.api import (
        split_by_entity as split_by_entity,
    )
    from levercheck.audit.labels import consistency as consistency
    from levercheck.audit.verify import verify as verify
    from levercheck.benchmarks.facts import load_facts as load_facts
    from levercheck.benchmarks.questions import load_questions as load_questions
    from levercheck.detect.workspace import workspace as workspace
    from levercheck.interventions.build import ablate_direction as ablate_direction
    from levercheck.interventions.build import add_direction as add_direction
    from levercheck.interventions.build import replace_neurons as replace_neurons
    from levercheck.interventions.build import scale_latents as scale_latents
    from levercheck.interventions.build import scale_neurons as scale_neurons
    from levercheck.interventions.build import shift_heads as shift_heads
    from levercheck.interventions.files import load_intervention as load_intervention
    from levercheck.interventions.files import save_intervention as save_intervention
    from levercheck.interventions.spec import Treatment as Treatment
    from levercheck.interventions.steering import steered as steered
    from levercheck.lm.model import load_model as load_model
    from levercheck.lm.saes.formats import load_sae as load_sae
    from levercheck.readouts.probe import fit_probe as fit_probe
    from levercheck.readouts.readout import load_readout as load_readout
    from levercheck.study.spec import read_study as read_study
    from levercheck.sweep.arms import Arm as Arm
    from levercheck.sweep.arms import random_arms as random_arms
    from levercheck.sweep.arms import strongest_arm as strongest_arm
    from levercheck.sweep.levers import intervention_of as intervention_of


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in ("audit", "sweep"):
        return importlib.import_module(f"levercheck.{name}")
    raise AttributeError(f"module 'levercheck' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
