"""From a readout to a lever: what a folder's numbers turn into when they are used on a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from levercheck.errors import UsageError, nearest
from levercheck.evidence.identity import check_same_model
from levercheck.interventions import build
from levercheck.interventions.files import SIDECAR, load_intervention
from levercheck.interventions.scopes import ALL, Scope
from levercheck.interventions.spec import Intervention, Unit
from levercheck.interventions.writers import ablate_writers
from levercheck.lm.model import LanguageModel
from levercheck.readouts.artifact import Artifact, family_of, load_artifact
from levercheck.readouts.head_selection import head_interventions, select_heads
from levercheck.readouts.readout import load_readout
from levercheck.readouts.sae_features import load_sae_readout

OPERATORS_OF = {
    "neurons": ("scale", "replace"),
    "direction": ("add", "ablate", "ablate_writers"),
    "heads": ("shift",),
    "sae": ("sae_delta", "sae_full"),
}
"""Operators per family, the default first. `ablate_writers` removes a direction from everything that writes to the
residual stream, which is what can be baked; `replace` moves neurons towards 0."""
DEFAULT_K = 16


def intervention_of(
    lm: LanguageModel,
    folder: Path,
    *,
    operator: str | None = None,
    unit: str | None = None,
    scope: Scope | None = None,
    layers: Sequence[int] | None = None,
    k: int | None = None,
    by: str = "auroc",
) -> Intervention:
    """The intervention that the readout (or saved intervention) in a folder makes on `lm`.

    neurons: `scale` those of positive weight, or the `k` largest of them. direction: `add` (unit relative unless said
    otherwise) or `ablate`, at `layers` or else the best one. heads: `shift` the first `k` of the ranking `by`, in σ.
    sae: scale the latents of positive weight, or the `k` largest, `sae_delta` or `sae_full`. A saved intervention is
    taken as it is; asking for another operator, unit or scope than it has is a UsageError, and so is a readout of
    another model or an option its family does not have.
    """
    if (folder / SIDECAR).is_file():
        return _saved(lm, folder, {"operator": operator, "unit": unit, "scope": scope, "layers": layers, "k": k})
    family = family_of(folder)
    if family not in OPERATORS_OF:
        raise UsageError(f"readout family '{family}' has no lever, expected {', '.join(OPERATORS_OF)}")
    known = OPERATORS_OF[family]
    chosen = known[0] if operator is None else operator
    if chosen not in known:
        raise UsageError(f"operator '{chosen}' of a {family} readout{nearest(chosen, known)}")
    if k is not None and family == "direction":
        raise UsageError(f"k = {k} of a direction readout: it has no components to choose from")
    if layers is not None and family != "direction":
        raise UsageError(f"layers of a {family} readout: only directions are chosen by layer")
    if by != "auroc" and family != "heads":
        raise UsageError(f"ranking '{by}' of a {family} readout: only heads are chosen by a ranking")
    if unit is not None and family in ("neurons", "sae") and unit != "absolute":
        raise UsageError(f"unit '{unit}' of a {family} readout: expected absolute, its dose is a factor")
    made, facts, fingerprint = _MAKERS[family](lm, folder, chosen, unit, scope or ALL, layers, k, by)
    return replace(
        made, facts={"family": family, "readout": fingerprint, "model": lm.identity, "operator": chosen, **facts}
    )


Made = tuple[Intervention, dict[str, Any], str]


def _saved(lm: LanguageModel, folder: Path, asked: Mapping[str, Any]) -> Intervention:
    found = load_intervention(folder)
    if found.facts.get("model"):
        check_same_model(found.facts["model"], lm.identity, "the intervention")
    for name in ("operator", "unit", "scope"):
        if asked[name] is not None and asked[name] != getattr(found, name):
            raise UsageError(
                f"'{folder.name}' is a saved intervention with {name} {getattr(found, name)}, asked for {asked[name]}: "
                f"ask for {getattr(found, name)}, or give a readout"
            )
    for name in ("layers", "k"):
        if asked[name] is not None:
            raise UsageError(f"'{folder.name}' is a saved intervention: {name} cannot be chosen any more")
    return found


def _neurons(
    lm: LanguageModel,
    folder: Path,
    operator: str,
    _unit: str | None,
    scope: Scope,
    _layers: Any,
    k: int | None,
    *_: Any,
) -> Made:
    readout = load_readout(folder)
    _check_model(lm, readout.facts.get("model"))
    if not readout.neurons:
        raise UsageError(f"the readout in '{folder.name}' has no positive weight: there is nothing to turn")
    builder = build.scale_neurons if operator == "scale" else build.replace_neurons
    kept = _heaviest(readout.weights, k, folder)
    chosen = [(int(readout.layers[i]), int(readout.indices[i])) for i in kept]
    return builder(lm, chosen, scope=scope), {"components": len(chosen)}, readout.fingerprint


def _direction(
    lm: LanguageModel,
    folder: Path,
    operator: str,
    unit: str | None,
    scope: Scope,
    layers: Sequence[int] | None,
    *_: Any,
) -> Made:
    artifact = _artifact(lm, folder)
    directions = artifact.arrays["directions"]
    at = [best_layer(artifact)] if layers is None else [int(layer) for layer in layers]
    outside = [layer for layer in at if not 0 <= layer < len(directions)]
    if outside or not at or len(set(at)) != len(at):
        raise UsageError(f"layers {at} of a direction readout: expected some of 0 to {len(directions) - 1}, each once")
    facts = {"layers": at}
    if operator == "ablate_writers":
        if len(at) != 1:
            raise UsageError(f"ablate_writers removes one direction everywhere, got layers {at}: expected one layer")
        return ablate_writers(lm, directions[at[0]], scope=scope), facts, artifact.fingerprint
    chosen = {layer: directions[layer] for layer in at}
    if operator == "ablate":
        if unit not in (None, "absolute"):
            raise UsageError(f"unit '{unit}' of ablate: expected absolute, its dose is the share removed")
        return build.ablate_direction(lm, chosen, scope=scope), facts, artifact.fingerprint
    used = cast(Unit, unit or "relative")
    sigma = {layer: float(artifact.arrays["sigma"][layer]) for layer in at} if used == "sigma" else None
    return build.add_direction(lm, chosen, sigma=sigma, unit=used, scope=scope), facts, artifact.fingerprint


def _heads(
    lm: LanguageModel,
    folder: Path,
    _operator: str,
    unit: str | None,
    scope: Scope,
    _layers: Any,
    k: int | None,
    by: str,
) -> Made:
    artifact = _artifact(lm, folder)
    count = min(DEFAULT_K, len(artifact.arrays["layers"])) if k is None else k
    chosen = head_interventions(artifact, select_heads(artifact, count, by))
    used = cast(Unit, unit or "sigma")
    made = build.shift_heads(lm, chosen.heads, chosen.directions, chosen.sigmas.tolist(), unit=used, scope=scope)
    return made, {"heads": [list(head) for head in chosen.heads], "by": by, "k": count}, artifact.fingerprint


def _heaviest(weights: np.ndarray[Any, Any], k: int | None, folder: Path) -> list[int]:
    """Positions of the `k` largest positive weights (None: all), in the readout's order; ties go to the earlier one."""
    positive = np.flatnonzero(weights > 0)
    if k is None:
        return [int(i) for i in positive]
    if not 1 <= k <= len(positive):
        raise UsageError(f"K = {k}: expected 1 to {len(positive)}, the positive weights of '{folder.name}'")
    order = positive[np.argsort(-weights[positive], kind="stable")]
    return sorted(int(i) for i in order[:k])


def _sae(
    lm: LanguageModel,
    folder: Path,
    operator: str,
    _unit: str | None,
    scope: Scope,
    _layers: Any,
    k: int | None,
    *_: Any,
) -> Made:
    artifact, sae = load_sae_readout(folder)
    _check_model(lm, artifact.facts.get("model"))
    weights = np.asarray(artifact.arrays["weights"])
    if not (weights > 0).any():
        raise UsageError(f"the readout in '{folder.name}' has no positive weight: there is nothing to turn")
    chosen = [int(latent) for latent in np.asarray(artifact.arrays["latents"])[_heaviest(weights, k, folder)]]
    made = build.scale_latents(lm, [(sae, chosen)], full=operator == "sae_full", scope=scope)
    return made, {"latents": chosen, "sae": sae.fingerprint}, artifact.fingerprint


_MAKERS: dict[str, Callable[..., Made]] = {
    "neurons": _neurons,
    "direction": _direction,
    "heads": _heads,
    "sae": _sae,
}


def best_layer(artifact: Artifact) -> int:
    """The layer a direction readout chose, or else the one with the best held-out AUROC."""
    stated = artifact.facts.get("best_layer")
    if isinstance(stated, int):
        return stated
    area = artifact.arrays.get("auroc")
    if area is None or not np.isfinite(area).any():
        raise UsageError("the direction readout does not say which layer is best: give the layer")
    return int(np.nanargmax(area))


def _artifact(lm: LanguageModel, folder: Path) -> Artifact:
    artifact = load_artifact(folder)
    _check_model(lm, artifact.facts.get("model"))
    return artifact


def _check_model(lm: LanguageModel, recorded: Any) -> None:
    if not isinstance(recorded, Mapping) or not recorded:
        raise UsageError("the readout does not record which model it is of: fit or import it again")
    check_same_model(recorded, lm.identity, "the readout")
