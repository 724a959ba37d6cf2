"""Where a forward pass stands: the step of every position (see `scopes`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from levercheck.interventions.scopes import Scope


@dataclass(frozen=True)
class Steps:
    """Either one step for every position of the pass (`uniform`), or a table int64 [rows, positions]."""

    uniform: int | None = None
    table: torch.Tensor | None = None
    cached: bool = False  # of a table: the pass continues a cache, so that its positions count as decoded ones

    @classmethod
    def before_answer(cls) -> Steps:
        """Prompt positions that are not the last one of any row."""
        return cls(uniform=0)

    @classmethod
    def generated(cls, number: int) -> Steps:
        """The position that produces generated token `number` (the last prompt token produces 1)."""
        return cls(uniform=number)

    @classmethod
    def prompt(cls, lengths: Sequence[int], device: torch.device) -> Steps:
        """Whole prompts filled up on the right; the last position of each has step 1."""
        size = torch.tensor(list(lengths), device=device)[:, None]
        place = torch.arange(int(max(lengths)), device=device)[None]
        table = torch.where(place < size - 1, 0, torch.where(place == size - 1, 1, -1))
        return cls(table=table)

    @classmethod
    def sequence(cls, prompts: Sequence[int], lengths: Sequence[int], device: torch.device) -> Steps:
        """Prompts of the given lengths with their answers, filled up on the right to the longest, in one pass."""
        place = torch.arange(int(max(lengths)), device=device)[None]
        start = torch.tensor(list(prompts), device=device)[:, None] - 1
        stop = torch.tensor(list(lengths), device=device)[:, None]
        return cls(table=torch.where(place >= stop, -1, (place - start + 1).clamp_min(0)))

    @classmethod
    def continued(cls, lengths: Sequence[int], device: torch.device) -> Steps:
        """Answers that continue a prompt's cache, filled up on the right: the first position has step 2."""
        place = torch.arange(int(max(lengths)), device=device)[None]
        size = torch.tensor(list(lengths), device=device)[:, None]
        return cls(table=torch.where(place < size, place + 2, -1), cached=True)

    def inside(self, scope: Scope) -> torch.Tensor | bool | None:
        """False where the scope covers no position, None where it covers all, else bool [rows, positions, 1]."""
        if self.table is None:
            assert self.uniform is not None
            return None if scope.covers(self.uniform) else False
        return scope.mask(self.table)[..., None]
