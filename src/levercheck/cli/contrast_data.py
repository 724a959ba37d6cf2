"""Where contrast data come from: a file, a workspace of the H-neuron pipeline, or the embedded facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence.splits import shuffled

if TYPE_CHECKING:
    from levercheck.benchmarks.data import Use
    from levercheck.benchmarks.facts import Fact
    from levercheck.lm.model import LanguageModel
    from levercheck.readouts.contrast import Example, Form, Position, Tokens

FACTS = "facts"
Allowed = Callable[[str], bool]


@dataclass(frozen=True)
class Data:
    """Examples and, where they hold recorded tokens, how those are read."""

    examples: list[Example]
    facts: dict[str, Any]
    recorded: Callable[[LanguageModel, Position], Tokens] | None = field(default=None, repr=False)
    asked: Callable[[LanguageModel, str], list[int]] | None = field(default=None, repr=False)
    items: tuple[list[str], list[str | None]] | None = field(default=None, repr=False)  # ids and entities, where known

    def prompt(self, lm: LanguageModel, prompt: str, form: Form) -> list[int]:
        """Tokens of a prompt alone, as the examples have it."""
        from levercheck.readouts.contrast import prompt_and_answer

        return prompt_and_answer(lm, prompt, None, form)[0] if self.asked is None else self.asked(lm, prompt)

    def tokens(self, lm: LanguageModel, form: Form, position: Position) -> Tokens:
        """The examples' tokens in the form asked for, or as they were recorded."""
        from levercheck.readouts.contrast import tokenise

        if self.recorded is not None:
            return self.recorded(lm, position)
        return tokenise(lm, self.examples, form, position)


def load_data(
    source: str,
    *,
    positive: str | None,
    limit: int | None,
    seed: int,
    allowed: Allowed = lambda entity: True,
    use: Use | None = None,
) -> Data:
    """Contrast data by name; no model is needed for it. Facts and items of benchmarks are of `allowed` entities.

    `use` says where a benchmark's data are and in which style they are put; else it is as the benchmark declares.
    """
    from levercheck.benchmarks.base import labelled_names
    from levercheck.benchmarks.data import Use
    from levercheck.readouts.contrast_files import read_examples

    path = Path(source).expanduser()
    if source.partition("/")[0] in labelled_names():
        return of_benchmark(use or Use(source), positive, limit, seed=seed, allowed=allowed)
    if source == FACTS:
        if positive not in (None, "true"):
            raise UsageError("--positive does not apply to facts: label 1 is the true answer")
        return of_facts(limit, seed=seed, allowed=allowed)
    if path.is_dir():
        data = of_workspace(path, positive or "right")
    elif path.suffix == "":
        raise UsageError(
            f"data '{source}' are unknown: give {FACTS}, {', '.join(labelled_names())}, a .jsonl, .csv or .parquet "
            "file, or a workspace that 'levercheck collect' started"
        )
    else:
        examples = read_examples(path, positive=positive)
        data = Data(examples, {"source": "file", "name": path.name, "positive": positive})
    return data if limit is None else _limited(data, limit, seed)


def of_benchmark(use: Use, positive: str | None, limit: int | None, *, seed: int, allowed: Allowed) -> Data:
    """Labelled texts of a benchmark's data, of `allowed` entities; label 1 is what the benchmark says."""
    from levercheck.benchmarks.base import Request, used
    from levercheck.benchmarks.data import identity
    from levercheck.readouts.contrast import Example

    if positive is not None:
        raise UsageError(f"--positive does not apply to {use.name}: its data say which label is which")
    benchmark = used(use)
    assert benchmark.labelled is not None and benchmark.source is not None
    found = benchmark.labelled(Request(lambda _: 0, lambda _: True, seed, use))
    kept = [one for one in found if allowed(one.cluster)]
    examples = [Example(one.id, one.prompt, one.answer, one.label, one.cluster) for one in kept]
    told = {"source": use.name, "style": benchmark.style_name, "data": identity(benchmark.source, use)}
    clusters: list[str | None] = [*sorted({one.cluster for one in kept})]
    items = sorted({one.id.partition(":")[0] for one in kept}), clusters
    data = Data(examples, told, items=items)
    return data if limit is None else replace(_limited(data, limit, seed), items=items)


def _limited(data: Data, limit: int, seed: int) -> Data:
    """At most `limit` examples, whole groups drawn by the seed."""
    if data.recorded is not None:
        raise UsageError("--limit does not apply to a workspace: its split says which items are used")
    chosen: set[str] = set()
    sizes: dict[str, int] = {}
    for example in data.examples:
        sizes[example.group] = sizes.get(example.group, 0) + 1
    total = 0
    for group in shuffled(list(sizes), seed, "limit"):
        if total + sizes[group] <= limit:
            chosen.add(group)
            total += sizes[group]
    kept = [example for example in data.examples if example.group in chosen]
    return Data(kept, {**data.facts, "limit": limit})


def of_facts(limit: int | None, *, seed: int, allowed: Allowed = lambda entity: True) -> Data:
    """Facts' statements with their true answers (1) and with each other's (0).

    Entities are paired, and two facts of one category swap their answers: every prompt and every answer stands once
    with label 1 and once with label 0 within the pair, so neither tells the label, on any side of any split by group.
    (Answers dealt out over a whole side would do the same there, and the opposite in every fold of it.)
    """
    from levercheck.benchmarks.facts import facts_digest, load_facts
    from levercheck.readouts.contrast import Example

    swaps = _swaps([fact for fact in load_facts() if allowed(fact.entity)], seed)
    order = shuffled(list(swaps), seed, "limit")
    chosen = order if limit is None else order[: limit // 2]
    if not chosen:
        raise NotEnoughDataError(f"--limit {limit}: two facts swap their answers, expected at least 2")
    examples = []
    for name in sorted(chosen):
        group, first, second = swaps[name]
        for fact, other in ((first, second), (second, first)):
            prompt = fact.statement.partition("{}")[0].rstrip()
            examples.append(Example(f"{fact.id}:1", prompt, fact.answer, 1, group))
            examples.append(Example(f"{fact.id}:0", prompt, other.answer, 0, group))
    told = {"source": FACTS, "facts_sha256": facts_digest(), "facts": 2 * len(chosen)}
    used = [fact for name in chosen for fact in swaps[name][1:]]
    items: tuple[list[str], list[str | None]] = ([fact.id for fact in used], [fact.entity for fact in used])
    return Data(examples, {**told, "limit": limit, "positive": "true"}, items=items)


def _swaps(facts: Sequence[Fact], seed: int) -> dict[str, tuple[str, Fact, Fact]]:
    """(group, fact, fact) of every pair of facts that can swap answers, by the first one's id; seeded."""
    from levercheck.benchmarks.facts import normalise

    owned: dict[str, dict[str, list[Fact]]] = {}
    for fact in facts:
        owned.setdefault(fact.entity, {}).setdefault(fact.category, []).append(fact)
    found = {}
    for kind in sorted({entity.partition(":")[0] for entity in owned}):
        members = shuffled([e for e in owned if e.partition(":")[0] == kind], seed, "pair")
        for one, two in zip(members[::2], members[1::2], strict=False):
            for category in sorted(owned[one].keys() & owned[two].keys()):
                for a, b in zip(owned[one][category], owned[two][category], strict=False):
                    accepted = [{normalise(alias) for alias in fact.aliases} for fact in (a, b)]
                    if normalise(b.answer) not in accepted[0] and normalise(a.answer) not in accepted[1]:
                        found[a.id] = (f"{one} {two}", a, b)
    return found


def of_workspace(root: Path, positive: str) -> Data:
    """Answers of a workspace, with its split and folds: tokens as the model wrote them, up to the answer's end."""
    from levercheck.cli.console import Stages
    from levercheck.detect.capture import check_model
    from levercheck.detect.prompting import from_identity
    from levercheck.detect.workspace import workspace
    from levercheck.readouts.contrast import FIT, HELD_OUT, Example, Tokens

    if positive not in ("right", "wrong"):
        raise UsageError(f"--positive {positive}: a workspace's labels are right and wrong")
    with workspace(root, Stages()) as ws:
        split = ws.rows("split").filter(_not_reserve()).select("item_id", "group", "role", "fold")
        spans = ws.rows("spans").select("item_id", "label", "tokens", "text", "start", "stop")
        records = (
            split.join(spans, on="item_id")
            .join(ws.rows("questions").select("item_id", "question"), on="item_id")
            .sort("item_id")
            .to_dicts()
        )
        everything = ws.rows("questions")
        items = (everything["item_id"].to_list(), everything["entity"].to_list())
        told = {"source": "workspace", "positive": positive, "split": ws.state("split"), "spans": ws.state("spans")}
        prompting = ws.settings("answers")["prompting"]
    sides = {"train": FIT, "test": HELD_OUT}
    examples = [
        Example(
            r["item_id"], r["question"], r["text"], int(r["label"] == positive), r["group"], sides[r["role"]], r["fold"]
        )
        for r in records
    ]

    style = from_identity(prompting)

    def asked(lm: LanguageModel, question: str) -> list[int]:
        return style.shared(lm) + style.own(lm, question)

    def recorded(lm: LanguageModel, position: Position) -> Tokens:
        with workspace(root, Stages()) as opened:
            check_model(opened, lm)
        sequences, regions = [], []
        for record in records:
            prompt = asked(lm, record["question"])
            stop = len(prompt) + record["stop"]
            sequences.append(prompt + list(record["tokens"][: record["stop"]]))
            regions.append((len(prompt) + record["start"] if position == "mean" else stop - 1, stop))
        told = {"form": style.style, "position": position, "read_at": "answer", "start_ids": lm.start_ids}
        opens = bool(lm.start_ids) and all(s[: len(lm.start_ids)] == lm.start_ids for s in sequences)
        return Tokens(sequences, regions, {**told, "opens_with_start_ids": opens})

    return Data(examples, told, recorded, asked, items)


def _not_reserve() -> Any:
    import polars as pl

    return pl.col("role") != "reserve"
