"""Which positions an intervention touches, counted the same with and without a cache.

Every position has a step: 0 before the last prompt token, 1 at it (it produces the first generated token), k where the
k-th generated token is produced, -1 in padding. A scope is a set of steps, so prefill, cached decoding and one pass
over prompt and answer agree by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from levercheck.errors import UsageError

Kind = Literal["all", "prompt", "decode", "first_n"]
KINDS = ("all", "prompt", "decode", "first_n")


@dataclass(frozen=True)
class Scope:
    """all: every token; prompt: the prompt with its last token; decode: the last prompt token and what follows it;
    first_n: the `n` positions that produce the first n generated tokens.
    """

    kind: Kind = "all"
    n: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"scope '{self.kind}' is unknown, expected {', '.join(KINDS)}")
        if (self.kind == "first_n") != (self.n is not None) or (self.n is not None and self.n < 1):
            raise UsageError(f"scope {self.kind} with n = {self.n}: only first_n has an n, of at least 1")

    def __str__(self) -> str:
        return self.kind if self.n is None else f"first_{self.n}"

    @property
    def touches_prompt(self) -> bool:
        """Whether positions before the last prompt token are inside."""
        return self.kind in ("all", "prompt")

    def covers(self, step: int) -> bool:
        """Whether positions of this step are inside."""
        if step < 0:
            return False
        return {"all": True, "prompt": step <= 1, "decode": step >= 1, "first_n": 1 <= step <= (self.n or 0)}[self.kind]

    def mask(self, steps: torch.Tensor) -> torch.Tensor:
        """Bool tensor like `steps` (integers [rows, positions])."""
        low = 1 if self.kind in ("decode", "first_n") else 0
        inside = steps >= low
        if self.kind == "prompt":
            inside &= steps <= 1
        elif self.n is not None:
            inside &= steps <= self.n
        return inside


ALL = Scope()


def parse_scope(text: str) -> Scope:
    """`all`, `prompt`, `decode` or `first_N`."""
    if text.startswith("first_") and text.removeprefix("first_").isdecimal():
        return Scope("first_n", int(text.removeprefix("first_")))
    if text in ("all", "prompt", "decode"):
        return Scope(text)  # type: ignore[arg-type]
    raise UsageError(f"scope '{text}' is unknown, expected all, prompt, decode or first_N (e.g. first_3)")
