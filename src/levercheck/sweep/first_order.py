"""Effects of every component on given items, without running any intervention: tables and the first-order null."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from levercheck.errors import UsageError
from levercheck.interventions.controls.draw import family_of
from levercheck.interventions.spec import Edit, Intervention
from levercheck.lm.batches import token_batches
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import RESID_POST
from levercheck.lm.saes.sae import Sae
from levercheck.readouts.attribution import ATTRIBUTION_TOKENS, FAMILIES, Reach, attribute
from levercheck.readouts.attribution_rank import FirstOrder, first_order
from levercheck.stats import mean
from levercheck.sweep.pair_items import PairItem

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
_FORMULAS = (("neurons", "scale"), ("heads", "scale"), ("heads", "shift"), ("sae", "sae_delta"))
_NAMES = ("neurons", "heads", "head_gradients", "residual", "residual_relative")


def attribute_items(
    lm: LanguageModel,
    items: Sequence[PairItem],
    *,
    families: Sequence[str] = FAMILIES,
    saes: Sequence[Sae] = (),
    reach: Reach = "all",
    tick: Callable[[int], None] = lambda items: None,
) -> Arrays:
    """The arrays of `Attributions`, one row per item, float32 [items, ...]; dictionaries under `latents.SITE`."""
    sequences = [list(item.tokens) for item in items]
    out: Arrays = {}
    for batch in token_batches(sequences, ATTRIBUTION_TOKENS):
        pairs = [(items[i].better, items[i].worse) for i in batch]
        found = attribute(lm, [sequences[i] for i in batch], pairs, families=families, saes=saes, reach=reach)
        parts = {name: getattr(found, name) for name in _NAMES}
        parts |= {f"latents.{sae.site}": table for sae, table in zip(saes, found.latents, strict=True)}
        for name, part in parts.items():
            if part is not None:
                rows = out.setdefault(name, np.zeros((len(items), *part.shape[1:]), np.float32))
                rows[batch] = part.numpy()
        tick(len(batch))
    return out


def predicted(intervention: Intervention, arrays: Mapping[str, Array]) -> Array:
    """Derivative of every item's D by the dose at the no-op dose, float64 [items].

    For scaled neurons, heads and latents (delta form), neurons replaced by zero, shifted heads and directions added at
    `resid.post`. The derivatives of the other operators need more than sums of gradients: a UsageError.
    """
    check_predictable(intervention)
    slopes: Array = np.sum([_slope(intervention, edit, arrays) for edit in intervention.edits], axis=0)
    return slopes


def check_predictable(intervention: Intervention) -> None:
    """UsageError where `predicted` has no formula for an intervention."""
    name = (family_of(intervention), intervention.operator)
    for edit in intervention.edits:
        added = name == ("direction", "add") and edit.site.name == RESID_POST
        zeroed = name == ("neurons", "replace") and not edit.arrays["values"].any()
        if not (name in _FORMULAS or added or zeroed):
            raise UsageError(
                f"{intervention.operator} at {edit.site} has no first-order prediction: expected scale, replace by "
                f"zero, shift, sae_delta, or add at {RESID_POST}"
            )


def _slope(intervention: Intervention, edit: Edit, arrays: Mapping[str, Array]) -> Array:
    name, layer = (family_of(intervention), intervention.operator), edit.site.layer

    def of(key: str) -> Array:
        if key not in arrays:
            raise UsageError(f"the effects of '{key}' were not measured: attribute to that family too")
        return arrays[key]

    slope: Array
    if name[0] == "neurons":
        slope = of("neurons")[:, layer, edit.arrays["indices"]].sum(axis=1, dtype=np.float64)
        return slope if name[1] == "scale" else -slope  # z ← (1 - α) z
    if name[0] == "sae":
        slope = of(f"latents.{edit.site}")[:, edit.arrays["latents"]].sum(axis=1, dtype=np.float64)
    elif name == ("heads", "scale"):
        whole = np.unique(edit.arrays["indices"] // of("head_gradients").shape[-1])
        slope = of("heads")[:, layer, whole].sum(axis=1, dtype=np.float64)
    elif name == ("heads", "shift"):
        gradients = of("head_gradients")[:, layer].reshape(len(of("head_gradients")), -1)
        sigma = edit.arrays["sigma"].astype(np.float64) if intervention.unit == "sigma" else 1.0
        slope = gradients[:, edit.arrays["indices"]].astype(np.float64) @ (edit.arrays["values"] * sigma)
    else:
        gradients = of("residual_relative" if intervention.unit == "relative" else "residual")[:, layer]
        sigma = float(edit.arrays["sigma"][0]) if intervention.unit == "sigma" else 1.0
        slope = sigma * (gradients.astype(np.float64) @ edit.arrays["direction"].astype(np.float64))
    return slope


def null_of(
    target: Intervention, draws: Sequence[Intervention], arrays: Mapping[str, Array], items: Sequence[PairItem]
) -> FirstOrder:
    """The target's predicted slope among those of its control `draws` (of `draw_controls`), none of which is run."""
    clusters = _clusters(items)
    return first_order(
        predicted(target, arrays),
        np.stack([predicted(one, arrays) for one in draws]),
        clusters=clusters,
        cluster_unit=None if clusters is None else "cluster",
    )


def _clusters(items: Sequence[PairItem]) -> list[str] | None:
    """Clusters of items, None where every item is its own."""
    clusters = [item.cluster for item in items]
    return clusters if len(set(clusters)) < len(clusters) else None


def strongest(arrays: Mapping[str, Array], count: int, items: Sequence[PairItem]) -> list[dict[str, Any]]:
    """Rows of the `count` largest effects of either sign in every family: candidates for a positive control.

    `effect` is the mean over items with a Student interval (cluster-robust where items share clusters), in logits per
    dose; of a direction, the length of the mean
    gradient, which is the slope along the best direction of that layer (its interval is left empty: a length is biased
    upwards). `same_sign` is the share of items with the sign of the mean. Candidates were chosen on these items: judge
    them on others.
    """
    rows: list[dict[str, Any]] = []
    clusters = _clusters(items)
    for name in ("neurons", "heads", *(key for key in arrays if key.startswith("latents."))):
        if name not in arrays:
            continue
        table = arrays[name]
        average = table.mean(axis=0, dtype=np.float64)
        order = np.argsort(-np.abs(average), axis=None, kind="stable")[:count]
        flat = table.reshape(len(table), -1)
        for at in order.tolist():
            estimate = mean(flat[:, at].astype(np.float64), clusters, unit="logit/dose")
            site = name.removeprefix("latents.")
            layers, index = divmod(at, table.shape[-1])
            same = float((np.sign(flat[:, at]) == np.sign(estimate.value or 0.0)).mean())
            layer = int(site.partition(".")[0].removeprefix("L")) if table.ndim == 2 else layers
            family = "sae" if table.ndim == 2 else name
            rows.append(_row(family, layer, index, estimate.value, estimate.low, estimate.high, len(table), same))
    if "residual" in arrays:
        table = arrays["residual"].astype(np.float64)
        average = table.mean(axis=0)
        sizes = np.linalg.norm(average, axis=1)
        for layer in np.argsort(-sizes, kind="stable")[:count].tolist():
            same = float((table[:, layer] @ average[layer] > 0).mean())
            rows.append(_row("directions", layer, None, float(sizes[layer]), None, None, len(table), same))
    return rows


def _row(family: str, *values: Any) -> dict[str, Any]:
    names = ("layer", "index", "effect", "low", "high", "n", "same_sign")
    return {"family": family, **dict(zip(names, values, strict=True))}
