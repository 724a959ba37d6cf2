"""Run a study file in a folder: known facts, items, levers with their controls, doses, cells of rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.benchmarks.base import Benchmark, Item, Request, benchmark_names, find_benchmark, item_of, used
from levercheck.benchmarks.data import ENDINGS, Use, identity, local_file
from levercheck.benchmarks.data import found as found_at
from levercheck.benchmarks.embedded import ANSWERS
from levercheck.benchmarks.facts import facts_digest
from levercheck.benchmarks.roles import asked_items, entity_roles, listed_ids, own_items
from levercheck.errors import NotEnoughDataError, UsageError, nearest
from levercheck.evidence import schema
from levercheck.evidence.canonical import digest, file_digest
from levercheck.evidence.provenance import environment
from levercheck.evidence.reporter import Reporter
from levercheck.evidence.unit import Row, Unit, batch_names
from levercheck.lm.model import LanguageModel
from levercheck.study.spec import StudySpec, inside
from levercheck.study.uses import benchmark_of, use_of, uses_of
from levercheck.sweep.cells import BASE, LeverArm, cell_work
from levercheck.sweep.prompting import encoded

MIN_ITEMS = 5


@dataclass(frozen=True)
class StudyRun:
    """A study, the folder of its file, the folder of its run, and the model it is applied to."""

    spec: StudySpec
    base: Path
    root: Path
    lm: LanguageModel
    reporter: Reporter
    units: dict[str, str] = field(default_factory=dict, repr=False)  # names of the latest efforts and balance units
    _items: dict[tuple[str, str], list[Item]] = field(default_factory=dict, repr=False)
    _pinned: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False)

    @cached_property
    def upstream(self) -> dict[str, Any]:
        """What else decides the rows: the model and the instrument."""
        versions = environment()["packages"]
        names = ("levercheck", "torch", "transformers")
        instrument = {"facts": facts_digest(), "versions": {n: versions[n] for n in names if n in versions}}
        return {"model": self.lm.identity, "instrument": instrument}

    @cached_property
    def key(self) -> str:
        """Digest of what every unit rests on: seed, items, model, instrument. Levers are in the units' own keys.

        Benchmarks with items of their own bring entities, which shift the roles of others: then the roles count too.
        """
        declared = {"seed": self.spec.seed, "items": self.spec.items.model_dump(mode="json")}
        if own_items(uses_of(self.spec, self.base)):
            declared["roles"] = self.roles
        return digest({**declared, **self.upstream})

    def with_levers(self, spec: StudySpec) -> StudyRun:
        """The same run with other interventions; seed, items and benchmarks must be the same. What is known stays."""
        other = replace(self, spec=spec)
        for name in ("upstream", "key", "roles", "known"):
            if name in self.__dict__:
                other.__dict__[name] = self.__dict__[name]
        return other

    def digest_of(self, value: Any) -> str:
        """Short digest for a folder's name."""
        return digest(value)[:12]

    def unit(self, name: str, columns: dict[str, Any], order: Sequence[str], *upstream: Any) -> Unit:
        """A unit of this run, keyed by the run and whatever else its rows depend on."""
        return Unit(self.root, name, digest([self.key, name, *upstream]), columns, order)

    def compute(
        self, unit: Unit, title: str, batches: Sequence[Any], rows: int, work: Callable[[Any], list[Row]], **more: Any
    ) -> pl.DataFrame:
        """Run a unit under a progress bar, or show it as done; returns its rows."""
        with self.reporter.stage(title, rows, "rows") as tick:
            if unit.complete:
                tick(rows)
            else:
                unit.run(batch_names(batches), work, facts={"stage": title}, tick=lambda n: tick(min(n, rows)), **more)
        return unit.rows()

    def readout_folder(self, name: str) -> Path:
        """Where a readout is: the folder that the study names, or the place in the run of one that it declares.

        The place depends on the declaration, the seed, the model and the roles of items: another one is made anew.
        """
        declared = self.spec.readouts[name]
        if declared.folder is not None:
            return inside(self.base, declared.folder)
        source = self._source_of(name, declared.source)
        made = [declared.model_dump(mode="json"), source, self.spec.seed, self.roles, self.upstream]
        folder = self.root / "readouts" / f"{name}-{self.digest_of(made)}"
        return folder / "probes" / "default" if declared.family == "neurons" else folder

    def benchmark(self, name: str) -> Benchmark:
        """A benchmark as the study uses it."""
        return benchmark_of(self.spec, self.base, name)

    def encoded(
        self, name: str, items: Sequence[Item], instruction: str | None = None
    ) -> tuple[list[int], list[list[int]]]:
        """Prompts of a benchmark's items as tokens: what opens them all, and each item's own."""
        return encoded(self.lm, self.benchmark(name), items, instruction)

    def items(self, name: str, role: str) -> list[Item]:
        """Items of one role, at most the declared number, one per entity before a second of any."""
        if (name, role) not in self._items:
            self._items[name, role] = self._make_items(name, role)
        return self._items[name, role]

    def _make_items(self, name: str, role: str) -> list[Item]:
        declared, benchmark = self.spec.items, self.benchmark(name)
        use = use_of(self.spec, self.base, name)
        if role not in benchmark.roles:
            raise UsageError(f"items of benchmark '{name}' have no role {role}{nearest(role, benchmark.roles)}")
        knows = self.known.__contains__ if benchmark.needs_known else lambda _: True
        made = benchmark.made(Request(self.lm.answer_token, knows, self.spec.seed, use))
        listed = listed_ids(use)
        of_role = [
            item
            for item in made
            if self.roles.get(item.cluster) == role and (listed is None or item_of(item.id) in listed)
        ]
        chosen = asked_items(of_role, declared.limit, max(declared.per_entity, benchmark.per_entity), self.spec.seed)
        if len(chosen) < MIN_ITEMS:
            raise NotEnoughDataError(
                f"benchmark '{benchmark.id}' has {len(chosen)} items in role {role}, expected at least {MIN_ITEMS}: "
                "raise items.limit or the role's share, use more data or a model that knows more"
            )
        return chosen

    def _source_of(self, name: str, source: str) -> Any:
        """What pins the data of a declared readout: bytes of files, the style of a benchmark; of the hub, its name."""
        if f"readout:{name}" not in self._pinned:
            pinned: dict[str, Any] = {"source": source}
            path = self.source_file(name)
            if path is not None:
                if not path.exists():
                    raise UsageError(f"readout '{name}' is made from {path.name}, and there is no such file: give one")
                files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
                pinned["source"] = [[file.name, file_digest(file)] for file in files]
            if source.partition("/")[0] in benchmark_names():
                pinned["style"] = asdict(used(self.source_use(name)).style)
            self._pinned[f"readout:{name}"] = pinned
        return self._pinned[f"readout:{name}"]

    def source_file(self, name: str) -> Path | None:
        """The file, or folder of files, that a declared readout is made from; None where it ships or is on the hub."""
        declared = self.spec.readouts[name]
        kind, _, argument = declared.source.partition(":")
        if "/" in argument or "." in argument:
            return inside(self.base, argument)
        family = kind.partition("/")[0]
        if not argument and family in benchmark_names() and (data := find_benchmark(family).source) is not None:
            return found_at(data, self.source_use(name))
        if not argument and ("." in kind or "/" in kind):
            return inside(self.base, kind)
        return None if argument else local_file(kind, ENDINGS, declared.split)

    def source_use(self, name: str) -> Use:
        """How the study uses the benchmark whose data a declared readout is made from."""
        return use_of(self.spec, self.base, self.spec.readouts[name].source)

    def data(self, name: str) -> dict[str, Any] | None:
        """What pins a benchmark's data; asked of the disk or the hub once."""
        source = self.benchmark(name).source
        if source is not None and name not in self._pinned:
            self._pinned[name] = identity(source, use_of(self.spec, self.base, name))
        return self._pinned.get(name)

    def asked(self, name: str, role: str) -> dict[str, Any]:
        """What is asked of one role and how it is judged, as plain data: ids, and a digest of all that decides rows."""
        benchmark, items = self.benchmark(name), self.items(name, role)
        content = [
            [i.id, i.cluster, i.text, list(i.candidates), list(i.tokens), json.dumps(dict(i.facts), default=str)]
            for i in items
        ]
        style, policy = benchmark.style, asdict(benchmark.policy)
        meaning = [benchmark.kind, benchmark.metric, benchmark.better, benchmark.binary]
        put = [*meaning, style.prefix, style.chat, style.joint, style.then, policy, content]
        return {
            "ruler": benchmark.ruler,
            "role": role,
            "style": benchmark.style_name,
            "data": self.data(name),
            "items": [item.id for item in items],
            "clusters": len({item.cluster for item in items}),
            "digest": digest(put),
        }

    @cached_property
    def roles(self) -> dict[str, str]:
        """Role of every entity: a function of the study's seed, shares and benchmarks, of no model's answers."""
        return entity_roles(uses_of(self.spec, self.base), self.spec.items.shares, self.spec.seed, self.lm.answer_token)

    @cached_property
    def known(self) -> frozenset[str]:
        """Ids of the facts that the unhooked model answers rightly, greedily."""
        benchmark = find_benchmark(ANSWERS)
        everything = benchmark.made(Request(lambda _: 0, lambda _: True, self.spec.seed))
        wanted = [item for item in everything if self.roles[item.cluster] != "readout"]
        unit = self.unit("known", schema.LEVERS, ["item_id"], ANSWERS)
        engine, work = cell_work(self.lm, benchmark, wanted, [LeverArm(BASE)], "known", self.spec.seed)
        rows = self.compute(unit, "known facts", engine.blocks(), len(wanted), work)
        return frozenset(rows.filter(pl.col("positive").fill_null(False))["item_id"].to_list())
