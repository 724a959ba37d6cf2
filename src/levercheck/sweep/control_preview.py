"""Control draws before any run: what so many can show, and how much they resemble the target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from levercheck.audit.balance import BalanceRow, balance, layer_balance, set_balance
from levercheck.errors import UsageError
from levercheck.interventions.controls import Attainability, ControlSpec
from levercheck.interventions.controls.components import Component
from levercheck.interventions.controls.draw import Pool, components_of, draw_controls, family_of
from levercheck.interventions.spec import Intervention, Treatment
from levercheck.lm.model import LanguageModel
from levercheck.readouts.component_statistics import ComponentStatistics
from levercheck.sweep.engine import Engine

Array = np.ndarray[Any, Any]
UNITS = {"write norm": "residual / unit", "direct logit norm": "logit / unit", "frequency": "share of tokens"}


@dataclass(frozen=True)
class Preview:
    """Draws of one control and their balance. `misses`: [layer, index, distance in sd] of unmatched components."""

    family: str
    spec: ControlSpec
    attainable: Attainability
    rows: tuple[BalanceRow, ...]
    misses: tuple[tuple[int, int, float], ...]
    draws: tuple[Intervention, ...]

    def with_row(self, row: BalanceRow) -> Preview:
        """The preview with one more covariate."""
        return replace(self, rows=(*self.rows, row))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "family": self.family,
            "kind": self.spec.kind,
            "match": self.spec.match,
            "draws": self.spec.draws,
            "seed": self.spec.seed,
            "attainable": {**self.attainable.to_dict(), "sentence": self.attainable.sentence},
            "balance": [row.to_dict() for row in self.rows],
            "misses": [list(miss) for miss in self.misses],
        }


def preview(
    target: Intervention,
    spec: ControlSpec,
    pool: Pool,
    statistics: ComponentStatistics | None,
    *,
    exclude: Sequence[Component] = (),
) -> Preview:
    """Draw the controls and compare them with the target on everything that was measured.

    Components need `statistics`. Directions are compared on the variance of `pool.activations` along them.
    """
    family = family_of(target)
    draws = draw_controls(target, spec, pool, exclude=exclude)
    if family == "direction":
        rows = _directions(target, draws, pool)
    elif statistics is None:
        raise UsageError(f"{family} are compared on statistics of the components: measure them")
    else:
        rows = _components(target, draws, pool, statistics)
    misses = tuple((int(a), int(b), float(c)) for a, b, c in draws[0].facts["misses"])
    return Preview(family, spec, spec.attainable, tuple(rows), misses, tuple(draws))


def measured_doses(
    lm: LanguageModel,
    target: Intervention,
    draws: Sequence[Intervention],
    dose: float,
    prompts: Sequence[Sequence[int]],
) -> BalanceRow:
    """Relative dose of the target and of every draw at one dose, measured by the hooks on whole prompts."""
    engine = Engine(lm, [], prompts, [Treatment(((one, dose),)) for one in (target, *draws)])
    found: dict[int, list[float]] = {}
    for block in engine.blocks():
        for row in engine.score(block, [[0]] * len(prompts)):
            for at, scored in zip(block.treatments, row, strict=True):
                if scored.receipt.relative_dose is not None:
                    found.setdefault(at, []).append(scored.receipt.relative_dose)
    means = [float(np.mean(found[at])) for at in range(len(draws) + 1)]
    return set_balance(f"relative dose at {dose:g}", means[0], means[1:], unit="‖Δ‖/‖h‖")


def _components(
    target: Intervention, draws: Sequence[Intervention], pool: Pool, statistics: ComponentStatistics
) -> list[BalanceRow]:
    tables = _tables(target, statistics)
    own = components_of(target, pool.head_width)
    others = [components_of(one, pool.head_width) for one in draws]
    layers = layer_balance([at for at, _ in own], [[at for at, _ in one] for one in others])
    picked = {name: [table[at] for at in own] for name, table in tables.items()}
    drawn = {name: [[table[at] for at in one] for one in others] for name, table in tables.items()}
    return [layers, *balance(picked, drawn, units=UNITS)]


def _tables(target: Intervention, statistics: ComponentStatistics) -> dict[str, dict[Component, float] | Array]:
    family = family_of(target)
    if family == "neurons":
        n = statistics.neurons
        return {
            "mean activation": n.mean,
            "mean |activation|": n.mean_abs,
            "activation variance": n.variance,
            "frequency": n.frequency,
            "write norm": n.write_norm,
            "direct logit norm": n.logit_norm,
        }
    if family == "heads":
        h = statistics.heads
        if h is None:
            raise UsageError("the statistics hold no heads: measure them on a model whose heads can be told apart")
        return {"mean norm": h.mean_norm, "activation variance": h.variance, "write norm": h.write_norm}
    found: dict[str, dict[Component, float] | Array] = {}
    for name, field in (("firing rate", "rate"), ("mean when on", "mean_on"), ("decoder norm", "decoder_norm")):
        merged: dict[Component, float] = {}
        for edit in target.edits:
            latents = statistics.latents.get(edit.sae.fingerprint) if edit.sae is not None else None
            if latents is None:
                raise UsageError(f"the statistics do not cover the dictionary at {edit.site}: measure them with it")
            merged |= {(edit.site.layer, i): float(v) for i, v in enumerate(getattr(latents, field))}
        found[name] = merged
    return found


def _directions(target: Intervention, draws: Sequence[Intervention], pool: Pool) -> list[BalanceRow]:
    """Share of the activations' variance along the direction and size of its mean projection, mean over layers."""
    activations = pool.activations
    if not activations:
        raise UsageError("directions are compared on activations: give sequences to measure them on")

    def measured(one: Intervention) -> tuple[float, float]:
        shares, means = [], []
        for edit in one.edits:
            table = activations.get(edit.site.layer)
            if table is None:
                continue
            vector = edit.arrays["direction"].astype(np.float64)
            along = table.astype(np.float64) @ (vector / np.linalg.norm(vector))
            shares.append(float(along.var() / table.astype(np.float64).var(axis=0).sum()))
            means.append(float(abs(along.mean()) / np.linalg.norm(table.astype(np.float64), axis=1).mean()))
        return float(np.mean(shares)), float(np.mean(means))

    own, others = measured(target), [measured(one) for one in draws]
    names = ("share of activation variance", "|mean projection| / mean norm")
    return [set_balance(name, own[i], [other[i] for other in others], unit="share") for i, name in enumerate(names)]
