"""Doses of equal effort: how far a lever moves the residual stream at one common layer, measured, and inverted.

    effort(α) = mean over prompts of mean over positions in scope of ‖h_α − h_0‖ / ‖h_0‖   at resid.post of one layer

h_0 is the unhooked run of the same prompt. Unlike ‖Δ‖/‖h‖ at the sites, whose h differs between a head, an MLP and the
residual stream, this has one denominator for all families, and counts what the levers of several layers add up to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from levercheck.interventions.hooks import Hooks
from levercheck.interventions.spec import BASELINE, Intervention, Treatment
from levercheck.interventions.steps import Steps
from levercheck.lm.activations import watching
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import RESID_POST, Site
from levercheck.stats import Estimate, mean
from levercheck.sweep.engine import Block, Engine

ROUNDS = 7
ROWS = 48


@dataclass(frozen=True)
class Measured:
    """Effort of one treatment on each prompt, float64 [prompts], and its relative dose at the sites, mean over them."""

    efforts: tuple[float, ...]
    relative_dose: float | None

    @property
    def estimate(self) -> Estimate:
        """Mean over prompts with a 95 % t interval."""
        return mean(np.array(self.efforts), unit="‖Δh‖/‖h‖")

    @property
    def value(self) -> float:
        """Mean over prompts; NaN where the treatment broke the model."""
        return float(np.mean(self.efforts))


@dataclass(frozen=True)
class Found:
    """A dose for a declared effort, or the reason why there is none."""

    dose: float | None
    measured: Measured | None
    reason: str | None = None


def measure_efforts(
    lm: LanguageModel,
    prefix: Sequence[int],
    prompts: Sequence[Sequence[int]],
    treatments: Sequence[Treatment],
    layer: int,
    *,
    tick: Callable[[int], None] = lambda rows: None,
) -> list[Measured]:
    """Effort of each treatment at `resid.post` of `layer`; positions of the prefix are not counted."""
    found: list[Measured] = []
    for start in range(0, len(treatments), ROWS):
        some = [BASELINE, *treatments[start : start + ROWS]]
        engine = Engine(lm, prefix, prompts, some, share_prompt=False)
        efforts = np.empty((len(some), len(prompts)))
        doses = np.full((len(some), len(prompts)), np.nan)
        rows = max(1, engine.batch_tokens // (len(some) * max(map(len, prompts))))
        for first in range(0, len(prompts), rows):
            chosen = tuple(range(first, min(first + rows, len(prompts))))
            table = engine.resilient(Block(chosen, tuple(range(len(some)))), partial(_measure, engine, layer))
            for prompt, row in zip(chosen, table, strict=True):
                for number, (effort, dose) in enumerate(row):
                    efforts[number, prompt], doses[number, prompt] = effort, dose
        for number in range(1, len(some)):
            known = doses[number][np.isfinite(doses[number])]
            found.append(Measured(tuple(efforts[number].tolist()), float(known.mean()) if len(known) else None))
        tick(len(some) - 1)
    return found


@torch.inference_mode()
def _measure(engine: Engine, layer: int, block: Block) -> list[list[tuple[float, float]]]:
    """(effort, relative dose) per prompt and treatment; the engine's first treatment must be the baseline."""
    if block.treatments[0] != 0:  # a halved block has lost its reference
        return [row[1:] for row in _measure(engine, layer, Block(block.prompts, (0, *block.treatments)))]
    chosen = [engine.treatments[i] for i in block.treatments]
    seen: list[torch.Tensor] = []
    with Hooks(engine.lm, chosen) as hooks, watching(engine.lm, [Site(layer, RESID_POST)], lambda _, x: seen.append(x)):
        engine.prefill(hooks, block, use_cache=False)
        receipts = hooks.receipts()
    rows = seen[-1].float()  # [rows, positions, hidden]
    hidden = rows.view(len(block.prompts), len(chosen), *rows.shape[1:])
    plain = hidden[:, :1]
    ratio = (hidden - plain).norm(dim=-1) / plain.norm(dim=-1).clamp_min(1e-12)
    table = []
    for at, prompt in enumerate(block.prompts):
        steps = Steps.prompt([len(engine.prompts[prompt])], engine.lm.device).table
        assert steps is not None
        row = []
        for number, treatment in enumerate(chosen):
            inside = torch.zeros_like(steps[0], dtype=torch.bool)
            for intervention, _ in treatment.parts:
                inside |= intervention.scope.mask(steps)[0]
            values = ratio[at, number, : len(inside)][inside]
            dose = receipts[at * len(chosen) + number].relative_dose
            row.append((float(values.double().mean()) if len(values) else 0.0, math.nan if dose is None else dose))
        table.append(row)
    return table


def find_doses(
    lm: LanguageModel,
    prefix: Sequence[int],
    prompts: Sequence[Sequence[int]],
    wanted: Sequence[tuple[Intervention, float]],
    layer: int,
    *,
    tolerance: float = 0.05,
    largest: float = 1000.0,
    tick: Callable[[int], None] = lambda rows: None,
) -> list[Found]:
    """The dose of each intervention whose effort is as wanted, within a relative `tolerance`.

    A negative effort asks for a dose on the other side of the no-op dose. All searches advance together, so that their
    trials share batches, and every trial of an intervention serves all of its efforts: a first step, then power laws
    through the nearest trials on either side. An effort that no dose up to `largest` from the no-op reaches, or that
    only broken logits reach, is reported as such.
    """
    searches = [_Search(i, e, tolerance, largest) for i, e in wanted]
    for _ in range(ROUNDS):
        open_ = [s for s in searches if not s.done]
        if not open_:
            break
        trials = {s.trial: Treatment(((s.intervention, s.trial[1]),)) for s in open_}
        measured = dict(zip(trials, measure_efforts(lm, prefix, prompts, list(trials.values()), layer), strict=True))
        for search in open_:
            search.hear({dose: result for (name, dose), result in measured.items() if name == search.trial[0]})
        tick(sum(s.done for s in open_))
    return [search.found() for search in searches]


class _Search:
    """One dose being looked for; steps > 0 are distances from the no-op dose."""

    def __init__(self, intervention: Intervention, effort: float, tolerance: float, largest: float) -> None:
        self.intervention, self.goal = intervention, abs(effort)
        self.side = 1.0 if effort > 0 else -1.0
        self.tolerance, self.largest = tolerance, largest
        self.step = min(0.02 if intervention.unit == "relative" else 1.0, largest)
        self.points: dict[float, Measured] = {}
        self.done = False

    @property
    def trial(self) -> tuple[str, float]:
        """The intervention and the dose to measure next."""
        return self.intervention.fingerprint, self.dose(self.step)

    def dose(self, step: float) -> float:
        """The dose at a distance from the no-op."""
        return self.intervention.noop + self.side * step

    def hear(self, trials: Mapping[float, Measured]) -> None:
        """Take measurements of the intervention in, by dose, and choose the next step."""
        for dose, result in trials.items():
            step = self.side * (dose - self.intervention.noop)
            if step > 0:
                self.points[step] = result
        if self.reached is not None:
            self.done = True
            return
        known = sorted((step, result.value) for step, result in self.points.items())
        below = [(step, value) for step, value in known if math.isfinite(value) and value < self.goal]
        above = [(step, value) for step, value in known if not (math.isfinite(value) and value < self.goal)]
        if not above:
            step, value = below[-1]
            if step >= self.largest:
                self.done = True
                return
            self.step = min(step * min(max(self.goal / max(value, 1e-9), 1.2), 30.0), self.largest)
            return
        high, f_high = above[0]
        low, f_low = next((pair for pair in reversed(below) if pair[0] < high), (0.0, 0.0))
        if not math.isfinite(f_high):
            self.step = (low + high) / 2
        elif f_low <= 0:
            self.step = high * max(self.goal / f_high, 0.03)
        else:
            power = math.log(high / low) / max(math.log(f_high / f_low), 1e-9)
            guess = low * (self.goal / f_low) ** power
            self.step = min(max(guess, low + 0.05 * (high - low)), high - 0.05 * (high - low))

    @property
    def reached(self) -> float | None:
        """The best step within the tolerance."""
        step = self.nearest
        if step is None or abs(self.points[step].value - self.goal) > self.tolerance * self.goal:
            return None
        return step

    @property
    def nearest(self) -> float | None:
        """The step whose effort is nearest to the goal; None where every trial broke the model's numbers."""
        finite = [step for step, result in self.points.items() if math.isfinite(result.value)]
        return min(finite, key=lambda step: abs(self.points[step].value - self.goal), default=None)

    def found(self) -> Found:
        """The result: within tolerance, or a reason with the nearest that was measured."""
        step = self.nearest
        if step is None:
            return Found(None, None, "every dose that was tried broke the model's numbers")
        result = self.points[step]
        if self.reached is not None:
            return Found(self.dose(step), result)
        limit = f" (doses up to {self.largest:g} from the no-op)" if step >= self.largest else ""
        return Found(None, result, f"the nearest effort was {result.value:.4g} at dose {self.dose(step):.4g}{limit}")
