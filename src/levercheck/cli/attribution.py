"""`levercheck attribution`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table

from levercheck.cli.console import Stages, clean, output
from levercheck.cli.lever_options import ByOption, DtypeOption, KOption, LayersOption, OperatorOption, UnitOption
from levercheck.errors import UsageError
from levercheck.stats.estimate import Estimate

SCOPES: dict[Literal["all", "last"], str] = {"all": "all", "last": "first_1"}


def attribution(
    *,
    model: Annotated[str, Parameter(help="embedded:NAME, gguf:PATH, a directory or a Hugging Face id.")],
    out: Annotated[Path, Parameter(help="New directory for the arrays and the table.")],
    items: Annotated[
        Path | None,
        Parameter(help='JSONL of {"id", "prompt", "better", "worse"}; default counterfactual contexts of known facts.'),
    ] = None,
    chat: Annotated[bool, Parameter(negative="", help="Read the prompts of --items as a user's turns.")] = False,
    limit: Annotated[int, Parameter(help="Embedded facts to use.", validator=Number(gte=5))] = 40,
    scope: Annotated[Literal["all", "last"], Parameter(help="Positions an intervention would touch.")] = "all",
    sae: Annotated[
        tuple[str, ...] | None,
        Parameter(negative="", help="Dictionary: a folder or hf:owner/repo:folder; again for more."),
    ] = None,
    readout: Annotated[Path | None, Parameter(help="Readout whose predicted slope is ranked among controls.")] = None,
    operator: OperatorOption = None,
    unit: UnitOption = None,
    layers: LayersOption = None,
    k: KOption = None,
    by: ByOption = "auroc",
    match: Annotated[
        Literal["none", "layer", "activation"], Parameter(help="How the controls of --readout are matched.")
    ] = "layer",
    draws: Annotated[int, Parameter(help="Controls to rank among; none is run.", validator=Number(gte=100))] = 2000,
    top: Annotated[int, Parameter(help="Rows per family in the table.", validator=Number(gte=1))] = 20,
    seed: Annotated[int, Parameter(help="Seed of items and draws.", validator=Number(gte=0))] = 0,
    dtype: DtypeOption = "float32",
    device: Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, mps; default cuda where there is one.")] = None,
    json_: Annotated[bool, Parameter(name="--json", negative="", help="Print the record as JSON on stdout.")] = False,
) -> int:
    """First-order effects of every neuron, head, direction and latent from one backward pass per item.

    An effect is the derivative of logit(better) - logit(worse) by the dose. The strongest components are candidates for
    a positive control; judge them on other items. With --readout, its predicted slope is ranked among thousands of
    matched controls that need not be run. Large doses are not predicted.

    Example: levercheck attribution --model embedded:smollm2-135m --out attribution --readout runs/facts/probes/h
    """
    from levercheck.evidence.canonical import digest
    from levercheck.evidence.provenance import environment
    from levercheck.interventions.controls import ControlSpec
    from levercheck.interventions.controls.draw import draw_controls, family_of
    from levercheck.interventions.scopes import parse_scope
    from levercheck.lm.model import load_model
    from levercheck.lm.saes.formats import load_sae
    from levercheck.readouts.component_statistics import component_statistics
    from levercheck.sweep.control_pools import excluded, pool_of
    from levercheck.sweep.first_order import attribute_items, check_predictable, null_of, strongest
    from levercheck.sweep.first_order_files import check_free, write_attribution
    from levercheck.sweep.levers import intervention_of
    from levercheck.sweep.pair_items import embedded_pairs, read_pairs

    check_free(out)
    if chat and items is None:
        raise UsageError("--chat says how to read --items: give --items, or leave --chat out")
    if readout is None and any(option is not None for option in (operator, unit, layers, k)):
        raise UsageError("--operator, --unit, --layer and --k say how to use --readout: give --readout")
    stages = Stages()
    stages.notify(f"loading {model}")
    lm = load_model(model, dtype=dtype, device=device, notify=stages.notify)
    target = None
    if readout is not None:
        chosen = None if layers is None else list(layers)
        where = parse_scope(SCOPES[scope])
        target = intervention_of(lm, readout, operator=operator, unit=unit, scope=where, layers=chosen, k=k, by=by)
        check_predictable(target)
    saes = [load_sae(path) for path in sae or ()]
    held = [] if target is None else [edit.sae for edit in target.edits if edit.sae is not None]
    saes += [one for one in held if one.fingerprint not in {known.fingerprint for known in saes}]
    if items is not None:
        pairs = read_pairs(lm, items, chat=chat)
    else:
        with stages.stage("known facts", limit, "facts") as tick:
            pairs = embedded_pairs(lm, limit, seed, tick=tick)
    sequences = [list(pair.tokens) for pair in pairs]
    controls = []
    if readout is not None and target is not None:
        found = None
        if match == "activation" and family_of(target) != "direction":
            with stages.stage("measure components", len(pairs), "items") as tick:
                found = component_statistics(lm, sequences, saes=held, tick=tick)
        pool = pool_of(lm, target, readout, statistics=found, sequences=sequences, seed=seed)
        spec = ControlSpec(match=match, draws=draws, seed=seed)
        controls = draw_controls(target, spec, pool, exclude=excluded(readout, target))
    with stages.stage("attribute", len(pairs), "items") as tick:
        arrays = attribute_items(lm, pairs, saes=saes, reach=scope, tick=tick)
    rows = strongest(arrays, top, pairs)
    source = items.name if items is not None else "embedded counterfactual contexts"
    facts: dict[str, Any] = {
        "model": lm.identity,
        "items": {"source": source, "n": len(pairs), "digest": digest([[p.id, list(p.tokens)] for p in pairs])},
        "explains": "logit(better) - logit(worse)" if items else "logit(asserted answer) - logit(true answer)",
        "scope": scope,
        "seed": seed,
        "dictionaries": {str(one.site): one.fingerprint for one in saes},
        "packages": environment()["packages"],
        "null": None,
    }
    if target is not None:
        with stages.stage("first-order null", draws, "draws") as tick:
            null = null_of(target, controls, arrays, pairs)
            tick(draws)
        facts["null"] = {
            "readout": target.facts.get("readout", target.fingerprint),
            "operator": target.operator,
            "unit": target.unit,
            "match": match,
            **null.to_dict(),
        }
    files = write_attribution(out, arrays, pairs, rows, facts)
    if json_:
        print(json.dumps({**facts, "top": rows}, ensure_ascii=False, allow_nan=False))
        return 0
    _print(rows, min(top, 5))
    output.print(f"effects on {facts['explains']} at {len(pairs)} items, scope {scope}", markup=False)
    if facts["null"]:
        _print_null(facts["null"])
    for path in files:
        output.print(clean(str(path)), markup=False, soft_wrap=True)
    return 0


def _print(rows: list[dict[str, Any]], shown: int) -> None:
    table = Table(title="Strongest first-order effects", title_justify="left", show_edge=False)
    for column in ("family", "component", "logit/dose \\[95 %]", "items of this sign"):
        table.add_column(column, no_wrap=True, justify="left" if column in ("family", "component") else "right")
    seen: dict[str, int] = {}
    for row in rows:
        seen[row["family"]] = seen.get(row["family"], 0) + 1
        if seen[row["family"]] > shown:
            continue
        where = f"layer {row['layer']}" if row["index"] is None else f"{row['layer']}:{row['index']}"
        interval = "" if row["low"] is None else f" \\[{row['low']:+.3g}, {row['high']:+.3g}]"
        sign = f"{row['same_sign']:.0%} of {row['n']}"
        table.add_row(row["family"], where, f"{row['effect']:+.3g}{interval}", sign)
    output.print(table)
    output.print("directions: length of the mean gradient, the slope along the layer's best direction")


def _print_null(null: dict[str, Any]) -> None:
    slope, below = (Estimate.from_dict(null[name]) for name in ("slope", "below"))
    output.print(f"readout    {slope}", markup=False)
    spread = null["controls"]
    output.print(
        f"controls   {null['draws']} {null['match']}-matched draws: mean {spread['mean']:+.3g}, sd {spread['sd']:.3g}, "
        f"central 95 % [{spread['low']:+.3g}, {spread['high']:+.3g}]",
        markup=False,
        soft_wrap=True,
    )
    output.print(
        f"rank       {below.value:.3f} [{below.low:.3f}, {below.high:.3f}] of the draws lie below; two-sided p = "
        f"{null['p']:.3g} (at best {null['attainable_p']:.3g})",
        markup=False,
        soft_wrap=True,
    )
