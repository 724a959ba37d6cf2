"""`levercheck neurons`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.markup import escape
from rich.table import Table

from levercheck.cli import detect
from levercheck.cli.console import Stages, clean, output
from levercheck.errors import MissingError
from levercheck.evidence.files import write_atomic
from levercheck.publish.neurons import neurons_svg

TABLE, FIGURE = "neurons.csv", "neurons.svg"


def neurons(
    root: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    name: Annotated[str | None, Parameter(help="Which readout; needless when there is only one.")] = None,
    top: Annotated[int, Parameter(help="Rows to print, largest weights first.", validator=Number(gte=1))] = 20,
    tokens: Annotated[
        int, Parameter(help="Tokens to show that a component promotes and suppresses.", validator=Number(gte=1, lte=20))
    ] = 5,
    model: Annotated[str | None, Parameter(help="Where the captured model is, if not under its recorded name.")] = None,
    json_: Annotated[bool, Parameter(name="--json", negative="", help="Print all rows as JSON on stdout.")] = False,
) -> int:
    """Describe the components of a readout one by one: what each predicts alone, and which tokens it writes.

    Rows, a table (CSV) and a figure (SVG) go to DIR/probes/NAME/neurons. Tokens are those of positive activation: gated
    neurons are negative as often, and then promote what is listed as suppressed.

    Example: levercheck neurons runs/facts --top 10
    """
    from levercheck.detect.neurons import as_csv, neurons, probe_name, ranked, summary
    from levercheck.detect.workspace import workspace
    from levercheck.readouts.readout import load_readout

    stages = Stages()
    with workspace(root, stages) as ws:
        chosen = probe_name(root, name)
        folder = root / "probes" / chosen
        readout = load_readout(folder)
        frame = neurons(ws, readout, chosen, lambda: detect.load(ws, model, None, None))
        rows = ranked(frame)
        write_atomic(folder / "neurons" / TABLE, as_csv(rows, tokens).encode())
        try:
            write_atomic(folder / "neurons" / FIGURE, neurons_svg(rows, readout.shape[0]).encode())
            drawn = True
        except MissingError as error:
            stages.notify(f"no figure: {error}")
            drawn = False
    if json_:
        report = {"readout": chosen, "fingerprint": readout.fingerprint, **summary(frame), "rows": rows}
        print(json.dumps(report, ensure_ascii=False, allow_nan=False))
        return 0
    _print(rows[:top], tokens)
    if len(rows) > top:
        output.print(f"{len(rows) - top} more components: raise --top, or read {TABLE}")
    _print_layers(summary(frame), readout.shape[0])
    for what, file in (("table", TABLE), ("figure", FIGURE)):
        if what == "table" or drawn:
            output.print(f"{what:<7} {clean(str(folder / 'neurons' / file))}", markup=False, soft_wrap=True)
    return 0


def _print(rows: list[dict[str, Any]], tokens: int) -> None:
    table = Table(title="Components of the readout", title_justify="left", show_edge=False)
    for column in ("neuron", "weight", "AUROC alone \\[95 %]", "right", "wrong", "‖w‖"):
        table.add_column(column, no_wrap=True, justify="left" if column == "neuron" else "right")
    for column in ("promotes", "suppresses"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            f"{row['layer']}:{row['index']}",
            f"{row['weight']:+.3f}",
            _area(row),
            _number(row["feature_right"]),
            _number(row["feature_wrong"]),
            _number(row["write_norm"]),
            *(escape(_shown(row[side][:tokens])) for side in ("promoted", "suppressed")),
        )
    output.print(table)
    if rows:
        output.print(f"AUROC of one component's feature on {rows[0]['n']} test items, {rows[0]['clusters']} groups")


def _print_layers(found: dict[str, Any], layers: int) -> None:
    counts = {int(layer): count for layer, count in found["positive_per_layer"].items()}
    listed = ", ".join(f"{layer}: {count}" for layer, count in counts.items())
    output.print(f"{found['positive']} of {found['components']} weights are positive; per layer of {layers}: {listed}")


def _area(row: dict[str, Any]) -> str:
    if row["auroc"] is None:
        return "not estimable"
    if row["auroc_low"] is None:
        return f"{row['auroc']:.3f}"
    return f"{row['auroc']:.3f} \\[{row['auroc_low']:.3f}, {row['auroc_high']:.3f}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _shown(texts: list[str]) -> str:
    return " ".join(f"'{clean(text)}'" for text in texts)
