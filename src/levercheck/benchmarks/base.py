"""What a benchmark is, and the registry that a plug-in adds to (entry-point group `levercheck.benchmarks`).

A benchmark knows no model. It gives items whose prompts share a prefix; a `choice` item names candidate continuations
whose first tokens are compared after one forward pass, an `answer` item is generated and judged by the benchmark's
ruler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from levercheck.registry import Registry

Kind = Literal["choice", "answer"]


@dataclass(frozen=True)
class Item:
    """One item. `candidates` of a choice item: the first is the counted one; `tokens` are their first tokens."""

    id: str
    cluster: str
    text: str  # what follows the benchmark's prefix
    candidates: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Request:
    """What items are made from. `knows` says whether the model answered a fact rightly without help; `first_token`
    gives the first token of an answer, as the model's tokenizer cuts it.
    """

    first_token: Callable[[str], int]
    knows: Callable[[str], bool]
    seed: int


@dataclass(frozen=True)
class Benchmark:
    """A behavioural surface. `metric` is the share of items whose outcome is positive, in per cent."""

    id: str
    construct: str
    metric: str
    kind: Kind
    prefix: str
    ruler: str
    items: Callable[[Request], list[Item]]
    judge: Callable[[Item, str], bool | None] | None = None  # of answers; None: no verdict
    max_new_tokens: int = 1
    stop: str = ""
    needs_known: bool = False  # whether items must be facts the model knows
    caution: str = ""


BENCHMARKS: Registry[Benchmark] = Registry("benchmark", "levercheck.benchmarks")


def find_benchmark(name: str) -> Benchmark:
    """The benchmark called `name`, or a UsageError with the nearest word."""
    from levercheck.benchmarks import embedded  # noqa: F401 - registers the built-in ones

    return BENCHMARKS.find(name)


def instructed(item: Item, instruction: str | None) -> str:
    """The item's own text, behind an instruction where there is one."""
    return item.text if instruction is None else f"{instruction}\n{item.text}"
