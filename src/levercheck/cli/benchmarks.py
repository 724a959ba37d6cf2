"""`levercheck benchmarks`: what can be measured, real items of it, and manifests of its items."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table

from levercheck.cli.console import clean, output
from levercheck.errors import NotEnoughDataError, UsageError

if TYPE_CHECKING:
    from levercheck.benchmarks.base import Benchmark, Item
    from levercheck.benchmarks.data import Use

app = cyclopts.App(name="benchmarks", help="Behavioural surfaces: list them, look at their items, draw manifests.")

Name = Annotated[str, Parameter(name="ID", help="A benchmark, or benchmark/style.")]
DataOption = Annotated[Path | None, Parameter(help="Its data file; default: the data folder, then the hub.")]
SplitOption = Annotated[str | None, Parameter(help="Split of the data, where there are several.")]
SeedOption = Annotated[int, Parameter(help="Seed of what is drawn.", validator=Number(gte=0, lt=2**32))]
JsonOption = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON on stdout.")]


@app.default
def list_(*, json_: JsonOption = False) -> int:
    """List every benchmark with its construct, metric, styles and whether its data are on this machine.

    Example: levercheck benchmarks
    """
    from levercheck.benchmarks.base import benchmark_names, find_benchmark
    from levercheck.benchmarks.data import Use

    rows = [_told(find_benchmark(name), Use(name)) for name in benchmark_names()]
    if json_:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    table = Table(show_edge=False, pad_edge=False)
    for column in ("benchmark", "better", "kind", "styles", "data"):
        table.add_column(column, no_wrap=column != "styles", overflow="fold")
    for row in rows:
        data = row["data"].partition(":")[0].replace("to get", "missing")
        table.add_row(row["id"], row["better"] or "-", row["kind"], ", ".join(row["styles"]), data)
    output.print(table)
    for row in rows:
        _say(f"{row['id']}: {row['construct']}")
    _say("levercheck benchmarks show ID prints metric, caution, licence, and real items with their prompts")
    return 0


@app.command
def show(
    name: Name,
    /,
    *,
    items: Annotated[int, Parameter(name=["--items", "-n"], help="How many items.", validator=Number(gte=0))] = 3,
    data: DataOption = None,
    split: SplitOption = None,
    prompt_file: Annotated[Path | None, Parameter(help="A prompt template that replaces the style's.")] = None,
    seed: SeedOption = 0,
    json_: JsonOption = False,
) -> int:
    """Show what a benchmark measures, its cautions, and real items as a model reads them.

    A prompt in a chat is shown before the model's template is put around it. Items of benchmarks that need the model's
    tokenizer or what it knows are shown for a model that knows every fact.

    Example: levercheck benchmarks show faitheval/standard -n 2
    """
    from levercheck.benchmarks.base import used
    from levercheck.benchmarks.data import Use
    from levercheck.evidence.splits import shuffled

    use = Use(name, data=data, split=split, prompt_file=prompt_file)
    benchmark = used(use)
    told = {**_told(benchmark, use), **_policy(benchmark)}
    if not json_:
        for part, value in told.items():
            if value not in (None, "", []):
                text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
                _say(f"{part.replace('_', ' '):<13} {text}")
    made = {item.id: item for item in _items(benchmark, use, seed)} if items else {}
    chosen = [made[i] for i in shuffled(list(made), seed, "show")[:items]]
    if json_:
        print(json.dumps({**told, "items": [_shown(i) for i in chosen], "count": len(made)}, ensure_ascii=False))
        return 0
    if items:
        _say(f"{'items':<13} {len(made)}")
    for item in chosen:
        output.print()
        output.rule(clean(item.id), align="left", characters="-")
        _say(f"{benchmark.style.prefix}{item.text}")
        if benchmark.style.then:
            _say(f"[the model's answer]\n{benchmark.style.then}")
        for number, candidate in enumerate(item.candidates):
            _say(f"  candidate {number}: {candidate}")
        facts = json.dumps(dict(item.facts), ensure_ascii=False, default=str)
        _say(f"  cluster {item.cluster}; {facts[:400]}")
    return 0


@app.command
def manifest(
    name: Name,
    /,
    *,
    out: Annotated[Path, Parameter(help="New file, .json; with --folds a new folder.")],
    size: Annotated[
        tuple[str, ...], Parameter(name="--size", negative="", help="role=items, such as confirm=500. Repeat.")
    ] = (),
    folds: Annotated[
        int | None,
        Parameter(help="Cross-fitting: so many manifests, each confirming another part.", validator=Number(gte=2)),
    ] = None,
    calibration: Annotated[
        float, Parameter(help="With --folds: share of items in role tune of every fold.", validator=Number(gte=0, lt=1))
    ] = 0.1,
    data: DataOption = None,
    split: SplitOption = None,
    seed: SeedOption = 0,
    json_: JsonOption = False,
) -> int:
    """Draw which items have which role, once, into a file that a study names (settings: ID: {manifest: FILE}).

    The file pins the data it was drawn from; a study with another revision of them is refused.

    Example: levercheck benchmarks manifest triviaqa-bridge --size tune=100 --size confirm=500 --out bridge.json
    """
    from levercheck.benchmarks.base import used
    from levercheck.benchmarks.data import Use, identity
    from levercheck.benchmarks.manifests import draw, source_name
    from levercheck.benchmarks.manifests import folds as cross_fit
    from levercheck.evidence.files import write_json

    use = Use(name, data=data, split=split)
    benchmark = used(use)
    if (folds is None) == (not size):
        raise UsageError("expected either --size role=items or --folds")
    if out.exists():
        raise UsageError(f"'{out}' exists: give another --out, or remove it")
    items = _items(benchmark, use, seed)
    pinned: dict[str, Any] = {} if benchmark.source is None else identity(benchmark.source, use)
    common: dict[str, Any] = {"source": source_name(benchmark), "data": pinned}
    if folds is None:
        made = {out: draw(items, _sizes(size), seed, **common)}
    else:
        parts = cross_fit(items, seed, count=folds, calibration=calibration, **common)
        made = {out / f"fold-{number}.json": one for number, one in enumerate(parts)}
    for path, one in made.items():
        write_json(path, one.to_dict())
    if json_:
        print(json.dumps({str(path): one.to_dict() for path, one in made.items()}, ensure_ascii=False))
        return 0
    for role, wanted in (_sizes(size) if folds is None else {}).items():
        if len(made[out].roles[role]) < wanted:
            _say(f"role {role} has {len(made[out].roles[role])} of {wanted} items: items of an entity stay together")
    for path, one in made.items():
        counts = ", ".join(f"{len(ids)} {role}" for role, ids in one.roles.items())
        output.print(f"{clean(str(path))}: {counts}", markup=False, soft_wrap=True)
    return 0


def _say(text: str) -> None:
    """One line or text of a benchmark, which is nobody's markup."""
    output.print(clean(text), markup=False, highlight=False, soft_wrap=True)


def _sizes(texts: tuple[str, ...]) -> dict[str, int]:
    found = {}
    for text in texts:
        role, equals, count = text.partition("=")
        if not equals or not count.isdecimal() or int(count) < 1:
            raise UsageError(f"--size {text}: expected role=items, such as confirm=500")
        if role in found:
            raise UsageError(f"--size gives role {role} twice")
        found[role] = int(count)
    return found


def _items(benchmark: Benchmark, use: Use, seed: int) -> list[Item]:
    from levercheck.benchmarks.base import Request

    made = benchmark.made(Request(_stand_in, lambda _: True, seed, use))
    if not made:
        raise NotEnoughDataError(f"the data of '{benchmark.id}' hold no item: get other data")
    return made


def _stand_in(answer: str) -> int:
    """A token id per first word: without a model, answers that begin alike share their first token."""
    return int.from_bytes(answer.split(" ")[0].encode()[:6], "big")


def _told(benchmark: Benchmark, use: Use) -> dict[str, Any]:
    from levercheck.benchmarks.data import found

    source = benchmark.source
    where = "shipped"
    if source is not None:
        where = "here" if found(source, use) else f"to get: {source.get}"
    return {
        "id": benchmark.id,
        "construct": benchmark.construct,
        "metric": benchmark.metric,
        "better": benchmark.better,
        "caution": benchmark.caution,
        "kind": benchmark.kind,
        "styles": list(benchmark.styles),
        "ruler": benchmark.ruler,
        "item_id": benchmark.item_id,
        "roles": list(benchmark.roles),
        "licence": benchmark.licence,
        "data": where,
        "dataset": None if source is None or source.hub is None else source.hub.id,
        "revision": None if source is None or source.hub is None else source.hub.revision,
    }


def _policy(benchmark: Benchmark) -> dict[str, Any]:
    policy, style = benchmark.policy, benchmark.style
    told: dict[str, Any] = {"style": f"{benchmark.style_name} ({'chat' if style.chat else 'plain'})"}
    if benchmark.kind != "answer":
        return told
    how = "greedy"
    if not policy.greedy:
        how = f"sampled: T {policy.temperature:g}, top-k {policy.top_k}, top-p {policy.top_p:g}"
    return {**told, "generation": f"{how}, at most {policy.max_new_tokens} tokens, {policy.replicates} per item"}


def _shown(item: Item) -> dict[str, Any]:
    return {
        "id": item.id,
        "cluster": item.cluster,
        "prompt": item.text,
        "candidates": list(item.candidates),
        "facts": json.loads(json.dumps(dict(item.facts), default=str)),
    }
