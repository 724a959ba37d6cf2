"""`levercheck bake`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table

from levercheck.cli.console import Stages, clean, output
from levercheck.cli.lever_options import ByOption, DtypeOption, KOption, LayersOption, OperatorOption, UnitOption
from levercheck.errors import UsageError
from levercheck.stats.estimate import Estimate


def bake(
    model: Annotated[str, Parameter(name="MODEL")],
    /,
    *,
    readout: Annotated[Path, Parameter(help="Folder of a readout or of a saved intervention.")],
    dose: Annotated[float, Parameter(help="Dose to write into the weights, in the operator's own unit.")],
    out: Annotated[Path, Parameter(help="New directory for the checkpoint.")],
    operator: OperatorOption = None,
    unit: UnitOption = None,
    layers: LayersOption = None,
    k: KOption = None,
    by: ByOption = "auroc",
    untie: Annotated[
        bool, Parameter(negative="", help="Give the head a matrix of its own where an ablation needs it.")
    ] = False,
    prompts: Annotated[
        Path | None, Parameter(help="Prompts of the parity report, one per line; default facts.")
    ] = None,
    n: Annotated[int, Parameter(help="Embedded questions of the parity report.", validator=Number(gte=1))] = 24,
    max_new_tokens: Annotated[int, Parameter(help="Tokens per answer of the report.", validator=Number(gte=1))] = 24,
    dtype: DtypeOption = "float32",
    device: Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, mps; default cuda where there is one.")] = None,
    json_: Annotated[bool, Parameter(name="--json", negative="", help="Print the record as JSON on stdout.")] = False,
) -> int:
    """Write an intervention into a copy of the weights where that is exact, and check the copy against the hooks.

    The result is a normal Hugging Face checkpoint with `levercheck.json` beside it: what was changed, and a parity
    report of the reloaded checkpoint. What weights cannot compute (scopes, relative doses, dictionaries, an ablation
    beside a norm) is refused in one line. Exits with 1 when the copy does not compute what the hooks do.

    Example: levercheck bake embedded:smollm2-135m --readout runs/facts/probes/h --dose 3 --out baked
    """
    from levercheck.interventions.bake import bake as write
    from levercheck.interventions.bake import record_parity
    from levercheck.interventions.spec import Treatment
    from levercheck.lm.model import load_model
    from levercheck.sweep.levers import intervention_of
    from levercheck.sweep.parity import compare, default_prompts

    stages = Stages()
    asked = None if prompts is None else _lines(prompts)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"'{out}' exists and is not empty: give --out a new directory")
    if not readout.exists():
        raise UsageError(f"no folder at '{readout}', expected a readout or a saved intervention")
    stages.notify(f"loading {model}")
    lm = load_model(model, dtype=dtype, device=device, notify=stages.notify)
    chosen = None if layers is None else list(layers)
    intervention = intervention_of(lm, readout, operator=operator, unit=unit, layers=chosen, k=k, by=by)
    with stages.stage("bake", 1, "copy") as advance:
        record = write(lm, intervention, dose, out, untie=untie)
        advance(1)
    tokens = default_prompts(lm, n) if asked is None else [lm.start_ids + lm.encode(line) for line in asked]
    with stages.stage("parity", len(tokens), "prompts") as advance:
        again = load_model(str(out), dtype=dtype, device=device)
        treatment = Treatment(((intervention, dose),))
        parity = compare(lm, treatment, again, tokens, max_new_tokens=max_new_tokens, advance=advance)
    record = record_parity(out, record, parity.to_dict())
    if json_:
        print(json.dumps(record, ensure_ascii=False, allow_nan=False))
    else:
        _print(record, parity.exact, parity.changed, out)
    return 1 if parity.verdict == "different" else 0


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UsageError(f"no file at '{path}', expected prompts, one per line")
    try:
        found = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise UsageError(f"'{path.name}' is not UTF-8 text, expected prompts, one per line") from None
    if not found:
        raise UsageError(f"'{path.name}' has no prompt, expected one per line")
    return found


def _print(record: dict[str, Any], exact: Estimate, changed: Estimate, out: Path) -> None:
    parity = record["parity"]
    table = Table(title="Checkpoint against hooks", title_justify="left", show_edge=False, show_header=False)
    table.add_column("what", no_wrap=True)
    table.add_column("found")
    table.add_row("intervention", f"{record['operator']}, dose {record['dose']:g}, {len(record['sites'])} sites")
    table.add_row("tensors changed", str(len(record["changed"])))
    sizes = (parity[name] for name in ("max_logit_difference", "max_logit", "effect"))
    gap, largest, effect = ("not finite" if size is None else f"{size:.3g}" for size in sizes)
    table.add_row("largest |Δlogit|", f"{gap} of {largest} (at {parity['positions']} positions; effect {effect})")
    table.add_row("token-exact answers", str(exact).replace("[", "\\["))
    table.add_row("answers changed by it", str(changed).replace("[", "\\["))
    output.print(table)
    output.print(parity["sentence"], style="bold" if parity["verdict"] == "equal" else "bold red")
    if record["caution"]:
        output.print(record["caution"], markup=False, soft_wrap=True)
    output.print(f"checkpoint {clean(str(out))}", markup=False, soft_wrap=True)
