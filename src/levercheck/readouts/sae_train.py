"""Train a small top-k dictionary on a model's own activations (Gao et al. 2024, arXiv 2406.04093), on a CPU in minutes.

Activations are centred at the mean of ordinary tokens and scaled so that their mean squared length is the site's width.
Decoder rows start as centred activations of random tokens, the encoder as their transpose; rows keep length 1. The loss
is the squared error, divided for unusually long activations by their own squared length: in many models a few positions
(the first, some marks) are a hundred times longer than all others, and would be all that a plain squared error sees. An
auxiliary loss lets latents that have not fired of late explain what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence.canonical import digest
from levercheck.evidence.reporter import Reporter
from levercheck.lm.activations import per_token
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import Site
from levercheck.lm.saes.sae import Sae

BATCH = 512  # tokens of a step
RATE = 1e-3
WARM, COOL = 0.05, 0.3  # shares of the steps over which the rate rises, and falls to zero
DEAD_AFTER = 8192  # tokens without firing
AUXILIARY = 1 / 32
LONG = 4.0  # times the mean squared length: from here on the loss is relative


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run."""

    latents: int = 4096
    k: int = 32
    steps: int = 400
    seed: int = 0


def train_sae(
    lm: LanguageModel,
    site: Site,
    sequences: Sequence[Sequence[int]],
    recipe: Recipe | None = None,
    reporter: Reporter | None = None,
) -> Sae:
    """A dictionary for one site from the tokens of whole sequences; the same inputs give the same bits on one machine.

    The reporter shows two stages. Raises NotEnoughDataError for too few tokens, UsageError for a recipe that cannot be
    trained.
    """
    recipe = recipe or Recipe()
    _check(recipe)
    with _stage(reporter, "read activations", len(sequences), "texts") as tick:
        x = per_token(lm, sequences, site, [(0, len(s)) for s in sequences], tick=tick)
    with _stage(reporter, "train dictionary", recipe.steps, "steps") as tick:
        sae = fit_sae(x, site, recipe, tick=tick)
    facts = {
        "format": "levercheck",
        "model": lm.identity,
        "tokens": len(x),
        "sequences": len(sequences),
        "sequences_sha256": digest([list(map(int, s)) for s in sequences]),
    }
    sae.facts.update(facts)
    return sae


def fit_sae(x: torch.Tensor, site: Site, recipe: Recipe, *, tick: Callable[[int], None] = lambda done: None) -> Sae:
    """The dictionary of activations float32 [tokens, width]."""
    _check(recipe)
    if len(x) < 4 * recipe.k:
        raise NotEnoughDataError(
            f"{len(x)} tokens, expected at least {4 * recipe.k} for k = {recipe.k}: give more text"
        )
    if not torch.isfinite(x).all():
        raise UsageError("some activations are not finite: load the model in float32 or bfloat16")
    trainer = _Trainer(x, recipe)
    for step in range(recipe.steps):
        trainer.step(step)
        tick(1)
    found = {name: p.detach().cpu() for name, p in trainer.parameters.items()}
    facts: dict[str, Any] = {
        "recipe": {"latents": recipe.latents, "k": recipe.k, "steps": recipe.steps, "seed": recipe.seed},
        "dead_latents_in_training": int(trainer.dead.sum()),
    }
    return Sae(
        site,
        "topk",
        found["w_enc"].T.contiguous().numpy(),
        found["b_enc"].numpy(),
        found["w_dec"].numpy(),
        found["b_dec"].numpy(),
        k=recipe.k,
        centred=True,
        scale=trainer.scale,
        facts=facts,
    )


class _Trainer:
    """Parameters in the layout of rows: w_enc and w_dec are both [latents, width] here."""

    def __init__(self, x: torch.Tensor, recipe: Recipe) -> None:
        self.recipe, width = recipe, x.shape[1]
        self.draw = torch.Generator().manual_seed(recipe.seed)
        lengths = x.norm(dim=1)
        ordinary = x[lengths <= 10 * lengths.median()]
        mean = ordinary.mean(0)
        spread = float((ordinary - mean).double().pow(2).sum(1).mean())
        if not spread > 0:
            raise NotEnoughDataError("all activations are alike: give other text, or another site")
        self.scale = math.sqrt(width / spread)
        self.x = x * self.scale
        centre = mean * self.scale
        rows = self.x[torch.randint(len(x), (recipe.latents,), generator=self.draw)] - centre
        rows = rows + 0.1 * torch.randn(rows.shape, generator=self.draw)
        rows = functional.normalize(rows, dim=1)
        start = {
            "w_enc": rows * self._gain(rows, centre),
            "b_enc": torch.zeros(recipe.latents),
            "w_dec": rows,
            "b_dec": centre,
        }
        self.parameters = {name: value.requires_grad_(True) for name, value in start.items()}
        self.optimizer = torch.optim.Adam(list(self.parameters.values()), lr=RATE, betas=(0.9, 0.999), fused=True)
        self.silent = torch.zeros(recipe.latents, dtype=torch.long)
        self.order = torch.empty(0, dtype=torch.long)

    def _gain(self, rows: torch.Tensor, centre: torch.Tensor) -> float:
        """The encoder's length that makes first reconstructions as long as what they reconstruct."""
        h = self.x[torch.randint(len(self.x), (BATCH,), generator=self.draw)] - centre
        values, chosen = (h @ rows.T).topk(self.recipe.k, dim=1)
        out = _decoded(chosen, values.relu(), rows)
        return float(((h * out).sum(1) / out.pow(2).sum(1).clamp_min(1e-12)).median())

    @property
    def dead(self) -> torch.Tensor:
        """Latents that have not fired of late, bool [latents]."""
        return self.silent >= DEAD_AFTER

    def step(self, number: int) -> None:
        """One update on the next batch of a shuffled pass over the tokens."""
        batch = self._batch()
        p = self.parameters
        h = batch - p["b_dec"]
        pre = functional.linear(h, p["w_enc"], p["b_enc"])
        values, chosen = pre.topk(min(self.recipe.k, self.recipe.latents), dim=1)
        values = values.relu()
        error = h - _decoded(chosen, values, p["w_dec"])
        weight = 1 / (h.detach().pow(2).sum(1) / (LONG * batch.shape[1])).clamp_min(1.0)
        loss = (error.pow(2).sum(1) * weight).mean() / batch.shape[1]
        dead = self.dead
        if dead.any():
            loss = loss + AUXILIARY * self._auxiliary(pre, error.detach(), dead, weight)
        for group in self.optimizer.param_groups:
            group["lr"] = RATE * _rate(number, self.recipe.steps)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        self._remove_parallel()
        self.optimizer.step()
        with torch.no_grad():
            p["w_dec"].copy_(functional.normalize(p["w_dec"], dim=1))
            self.silent += len(batch)
            self.silent[chosen[values > 0]] = 0

    def _auxiliary(
        self, pre: torch.Tensor, error: torch.Tensor, dead: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        count = min(int(dead.sum()), 2 * self.recipe.k)
        values, chosen = pre.masked_fill(~dead, -torch.inf).topk(count, dim=1)
        left = error - _decoded(chosen, values.relu(), self.parameters["w_dec"])
        loss: torch.Tensor = (left.pow(2).sum(1) * weight).mean() / error.shape[1]
        return loss

    def _remove_parallel(self) -> None:
        rows, gradient = self.parameters["w_dec"], self.parameters["w_dec"].grad
        assert gradient is not None
        with torch.no_grad():
            gradient.sub_((gradient * rows).sum(1, keepdim=True) * rows)

    def _batch(self) -> torch.Tensor:
        size = min(BATCH, len(self.x))
        if len(self.order) < size:
            self.order = torch.randperm(len(self.x), generator=self.draw)
        taken, self.order = self.order[:size], self.order[size:]
        return self.x[taken]


def _decoded(chosen: torch.Tensor, values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Σ values · rows[chosen], float32 [tokens, width], without a dense latent vector."""
    out: torch.Tensor = functional.embedding_bag(chosen, rows, per_sample_weights=values, mode="sum")
    return out


def _rate(step: int, steps: int) -> float:
    """Share of the full rate: up, flat, down to zero."""
    up, down = max(1.0, WARM * steps), max(1.0, COOL * steps)
    return min(1.0, (step + 1) / up, (steps - step) / down)


def _stage(
    reporter: Reporter | None, title: str, total: int, unit: str
) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda done: None) if reporter is None else reporter.stage(title, total, unit)


def _check(recipe: Recipe) -> None:
    if not (1 <= recipe.k <= recipe.latents and recipe.steps >= 1):
        raise UsageError(
            f"k = {recipe.k} of {recipe.latents} latents in {recipe.steps} steps: expected 1 <= k <= latents and at "
            "least one step"
        )
