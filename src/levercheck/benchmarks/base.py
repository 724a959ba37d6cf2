"""What a benchmark is, and the registry that a plug-in adds to (entry-point group `levercheck.benchmarks`).

A benchmark knows no model. It makes items from the embedded facts, a generator or a data file, says how they are put to
a model (styles), how an answer is produced (policy) and what it is worth (ruler). Three kinds:

* `choice`: the first tokens of an item's candidates are compared after one forward pass;
* `options`: whole candidates are scored by log-likelihood, nothing is generated;
* `answer`: a response is generated and scored.

A study names a benchmark, or a benchmark and one of its styles: `faitheval`, `faitheval/standard`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from levercheck.benchmarks.data import NOWHERE, DataSource, Use
from levercheck.benchmarks.outcomes import Outcome, Response
from levercheck.benchmarks.templates import read_template, render
from levercheck.errors import UsageError, nearest
from levercheck.registry import Registry

Kind = Literal["choice", "options", "answer"]
ROLES = ("readout", "select", "tune", "confirm")
"""Roles that items may have in a study."""
FILE = "file:"
"""Begins the name of a style that is a local prompt file."""
REPLICATE = "~"
"""Stands in a row's item id between the item and the number of its replicate, from the second on."""


@dataclass(frozen=True)
class Style:
    """How items are put to a model. In `template` a name in braces stands for a field of the item.

    With `chat` the rendered text is the user's turn; else it follows `prefix`, which all prompts share. `joint` stands
    between a prompt and a candidate that is scored. `then` is a second user turn, put after the model's own answer to
    the first: the response to it is scored too.
    """

    template: str
    chat: bool = True
    prefix: str = ""
    joint: str = " "
    then: str | None = None


@dataclass(frozen=True)
class Policy:
    """How a response is generated. Sampled draws depend on the item, the replicate and the seed: arms share them."""

    max_new_tokens: int = 1
    stop: str = ""  # a response ends before the first token whose text contains this
    greedy: bool = True
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    replicates: int = 1  # responses to every item, each a row of its own


@dataclass(frozen=True)
class Item:
    """One item. `fields` are what templates may name, `text` is the prompt rendered from them.

    `candidates` of a choice: the first is the counted one, and `tokens` are their first tokens. `candidates` of
    options: the continuations to score. `facts` is what the ruler needs.
    """

    id: str
    cluster: str  # what items share that are not independent: the unit of roles and of intervals
    text: str = ""
    candidates: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Scored:
    """One candidate of an `options` item: summed natural log-probability of its tokens, how many they are, and how many
    of them were the most probable at their place.
    """

    logprob: float
    tokens: int
    top: int = 0


@dataclass(frozen=True)
class Labelled:
    """One text of a benchmark's data with a label 0 or 1, to fit a readout on; directions point to 1."""

    id: str
    cluster: str
    prompt: str
    answer: str | None
    label: int


@dataclass(frozen=True)
class Request:
    """What items are made from. `knows` says whether the model answered a fact rightly without help; `first_token`
    gives the first token of an answer, as the model's tokenizer cuts it; `use` says where the data are.
    """

    first_token: Callable[[str], int]
    knows: Callable[[str], bool]
    seed: int
    use: Use = NOWHERE


@dataclass(frozen=True)
class Benchmark:
    """A behavioural surface. Its metric is the mean of `Outcome.score`, in per cent."""

    id: str
    construct: str  # what is measured
    metric: str  # what a score of 1 means
    better: Literal["higher", "lower"] | None  # whether a larger metric is good; None: neither
    kind: Kind
    ruler: str  # version of the scorer
    items: Callable[[Request], list[Item]]
    styles: Mapping[str, Style]  # the first one is the default
    licence: str
    item_id: str  # how items are named
    caution: str = ""
    source: DataSource | None = None  # None: made by this package
    score: Callable[[Item, Response], Outcome] | None = None  # of an answer
    decide: Callable[[Item, Sequence[Scored]], Outcome] | None = None  # of options
    labelled: Callable[[Request], list[Labelled]] | None = None  # contrast data, where the benchmark has some
    policy: Policy = Policy()
    needs_known: bool = False  # whether items must be facts the model knows
    binary: bool = True  # whether scores are 0 or 1, so that the metric is a share of items
    value_unit: str = "logit"  # of `Outcome.value`
    roles: tuple[str, ...] = ROLES
    per_entity: int = 1  # items of one entity that belong together, such as its framings: no study asks fewer
    published: int | None = None  # items that the published data make, where they do not ship with the package
    chosen: str = ""  # name of the style in use, or file:NAME of a template that replaces it

    @property
    def style(self) -> Style:
        """The style in use."""
        return next(iter(self.styles.values())) if not self.chosen else self.styles[self.chosen]

    @property
    def style_name(self) -> str:
        """What rows record of the prompt."""
        return self.chosen or next(iter(self.styles))

    def made(self, request: Request) -> list[Item]:
        """All items, with their prompts rendered in the style in use, once per replicate; ids must differ."""
        found = []
        for item in self.items(request):
            if REPLICATE in item.id:
                raise UsageError(f"benchmark '{self.id}' has the item id '{item.id}': '{REPLICATE}' is for replicates")
            if item.text and self.chosen.startswith(FILE):
                raise UsageError(f"benchmark '{self.id}' writes its prompts itself: leave out prompt_file")
            text = item.text or render(self.style.template, item.fields, f"benchmark '{self.id}'")
            for number in range(self.policy.replicates):
                name = item.id if number == 0 else f"{item.id}{REPLICATE}{number + 1}"
                found.append(replace(item, id=name, text=text))
        seen: set[str] = set()
        for item in found:
            if item.id in seen:
                raise UsageError(f"benchmark '{self.id}' has the item id '{item.id}' twice: ids must differ")
            seen.add(item.id)
        return found


BENCHMARKS: Registry[Benchmark] = Registry("benchmark", "levercheck.benchmarks")


def find_benchmark(name: str) -> Benchmark:
    """The benchmark called `name` (with `/style`, in that style), or a UsageError with the nearest word."""
    from levercheck.benchmarks import builtin  # noqa: F401 - registers the built-in ones

    family, slash, style = name.partition("/")
    found = BENCHMARKS.find(family)
    if not slash:
        return found
    if style not in found.styles:
        raise UsageError(f"benchmark '{family}' has no style '{style}'{nearest(style, found.styles)}")
    return replace(found, id=name, chosen=style)


def benchmark_names() -> list[str]:
    """Every benchmark that can be named, those of plug-ins included."""
    from levercheck.benchmarks import builtin  # noqa: F401

    return BENCHMARKS.names()


def used(use: Use) -> Benchmark:
    """The benchmark that a study uses, with the prompt, the token cap and the replicates it asks for."""
    found = find_benchmark(use.name)
    if found.source is None:
        given = [name for name in ("data", "split", "revision") if getattr(use, name) is not None]
        if given:
            raise UsageError(f"'{use.name}' ships with its items: leave out '{given[0]}'")
    style, chosen = found.style, found.chosen
    if use.prompt_file is not None:
        template, digest = read_template(use.prompt_file)
        style, chosen = replace(style, template=template), f"{FILE}{use.prompt_file.name}@{digest[:12]}"
    if use.chat is not None and use.chat != found.style.chat:
        style = replace(style, chat=use.chat, joint="" if use.chat else " ")
        chosen = f"{chosen or found.style_name}+{'chat' if use.chat else 'plain'}"
    policy = found.policy
    if found.kind != "answer" and (use.max_new_tokens is not None or use.replicates is not None):
        raise UsageError(f"'{use.name}' generates nothing: leave out max_new_tokens and replicates")
    if use.max_new_tokens is not None:
        policy = replace(policy, max_new_tokens=use.max_new_tokens)
    if use.replicates is not None:
        if policy.greedy and use.replicates > 1:
            raise UsageError(
                f"benchmark '{use.name}' is answered greedily: replicates would all be alike, leave them out"
            )
        policy = replace(policy, replicates=use.replicates)
    styles = found.styles if chosen == found.chosen else {chosen: style, **found.styles}
    return replace(found, styles=styles, chosen=chosen, policy=policy)


def item_of(name: str) -> str:
    """The item that a replicate's id is of."""
    return name.partition(REPLICATE)[0]


def labelled_names() -> list[str]:
    """Benchmarks whose data are contrast data too."""
    return [name for name in benchmark_names() if find_benchmark(name).labelled is not None]


def instructed(item: Item, instruction: str | None) -> str:
    """The item's own text, behind an instruction where there is one."""
    return item.text if instruction is None else f"{instruction}\n{item.text}"
