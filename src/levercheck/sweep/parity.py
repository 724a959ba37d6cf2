"""Whether baked weights do what the hooks did, and whether there was anything to do.

Both models answer the same prompts greedily; then the hooked model's prompt and answer go through both in one pass and
every logit is compared. Equality without an effect proves nothing, so the unhooked model answers too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from levercheck.benchmarks.facts import load_facts
from levercheck.benchmarks.prompts import PREFIX, question_prompt
from levercheck.interventions.spec import BASELINE, Treatment
from levercheck.interventions.steering import steered
from levercheck.lm.model import LanguageModel
from levercheck.lm.sample import Sampling
from levercheck.stats.estimate import Estimate
from levercheck.stats.proportions import proportion
from levercheck.sweep.engine import Engine
from levercheck.sweep.generate import generate

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
"""Largest |Δlogit| over largest |logit| that rounding explains: hooks round activations, baking rounds weights."""
Verdict = Literal["equal", "different", "no_effect"]


@dataclass(frozen=True)
class Parity:
    """Logits are compared at every position of prompt and answer; shares are of prompts.

    different: the logits are further apart than rounding explains; no_effect: no answer changed, or the checkpoint is
    not clearly nearer to the hooked model (by half of `effect`) than the unhooked one is.
    """

    verdict: Verdict
    prompts: int
    max_new_tokens: int
    positions: int
    max_logit_difference: float
    max_logit: float  # the largest |logit| of the hooked model
    tolerance: float  # of the ratio of the two
    exact: Estimate  # answers that agree token for token
    changed: Estimate  # answers that differ from the unhooked model's
    effect: float  # max |Δlogit| between hooked and unhooked model

    @property
    def sentence(self) -> str:
        """What it means, in one line."""
        if self.verdict == "different":
            return "the checkpoint does not compute what the hooks do: do not use it"
        if self.verdict == "no_effect":
            return (
                "hooks and checkpoint agree, but a checkpoint without the intervention would nearly do so too, which "
                "proves nothing: ask other prompts, or bake in float32"
            )
        if self.exact.value != 100:
            return (
                f"the checkpoint computes what the hooks do up to rounding (|Δlogit| within {self.tolerance:g} of the "
                "largest logit), and answers part at near ties; bake in float32 to see that it is rounding"
            )
        return "the checkpoint computes what the hooks do, and the intervention changes answers"

    def to_dict(self) -> dict[str, Any]:
        """Plain data; numbers of logits that are not finite are None."""
        plain = {n: getattr(self, n) for n in ("verdict", "prompts", "max_new_tokens", "positions", "tolerance")}
        sizes = {n: getattr(self, n) for n in ("max_logit_difference", "max_logit", "effect")}
        plain |= {name: size if math.isfinite(size) else None for name, size in sizes.items()}
        return {**plain, "exact": self.exact.to_dict(), "changed": self.changed.to_dict(), "sentence": self.sentence}


def default_prompts(lm: LanguageModel, count: int) -> list[list[int]]:
    """Embedded questions, spread over their categories, as chats where the model has a template, else few-shot."""
    facts = load_facts()
    chosen = [facts[i * len(facts) // count] for i in range(count)]
    if getattr(lm.tokenizer, "chat_template", None) is not None:
        return [lm.chat([{"role": "user", "content": fact.question}]) for fact in chosen]
    return [lm.start_ids + lm.encode(PREFIX + question_prompt(fact.question)) for fact in chosen]


def compare(
    lm: LanguageModel,
    treatment: Treatment,
    baked: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 24,
    advance: Callable[[int], None] = lambda done: None,
) -> Parity:
    """Compare `lm` under hooks with the reloaded `baked` model on token ids; `advance` hears of finished prompts."""
    hooked, plain = (answers(lm, t, prompts, max_new_tokens) for t in (treatment, BASELINE))
    written = answers(baked, BASELINE, prompts, max_new_tokens)
    worst = largest = effect = 0.0
    positions = 0
    for prompt, answer in zip(prompts, hooked, strict=True):
        ids = torch.tensor([[*prompt, *answer]], device=lm.device)
        with torch.inference_mode():
            unhooked = lm.model(input_ids=ids, use_cache=False).logits.float()
            with steered(lm, treatment):
                wanted = lm.model(input_ids=ids, use_cache=False).logits.float()
            found = baked.model(input_ids=ids.to(baked.device), use_cache=False).logits.float().to(lm.device)
        worst = max(worst, _largest(wanted - found))
        largest = max(largest, _largest(wanted))
        effect = max(effect, _largest(wanted - unhooked))
        positions += ids.shape[1]
        advance(1)
    tolerance = TOLERANCE.get(str(next(lm.model.parameters()).dtype).removeprefix("torch."), TOLERANCE["bfloat16"])
    changed = sum(a != b for a, b in zip(hooked, plain, strict=True))
    verdict: Verdict = "equal" if changed and worst < effect / 2 else "no_effect"
    if not (math.isfinite(worst) and worst <= tolerance * largest):
        verdict = "different"
    n = len(prompts)
    exact = sum(a == b for a, b in zip(hooked, written, strict=True))
    shares = proportion(exact, n, unit="%"), proportion(changed, n, unit="%")
    return Parity(verdict, n, max_new_tokens, positions, worst, largest, tolerance, *shares, effect)


def answers(
    lm: LanguageModel, treatment: Treatment, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[tuple[int, ...]]:
    """Greedy tokens of every prompt under one treatment."""
    engine = Engine(lm, [], prompts, [treatment])
    sampling = Sampling(samples=1, max_new_tokens=max_new_tokens, stop="")
    found: dict[int, tuple[int, ...]] = {}
    for block in engine.blocks():
        rows = generate(engine, block, sampling, [""] * len(prompts))
        found |= {prompt: row[0].tokens for prompt, row in zip(block.prompts, rows, strict=True)}
    return [found[number] for number in range(len(prompts))]


def _largest(values: torch.Tensor) -> float:
    """The largest |value|; infinite where any is not finite."""
    found = float(values.abs().max())
    return found if found == found else float("inf")
