"""`levercheck controls`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import cyclopts
from cyclopts import Parameter
from cyclopts.validators import Number
from rich import box
from rich.markup import escape
from rich.table import Table

from levercheck.cli.console import Stages, clean, output
from levercheck.cli.lever_options import ByOption, DtypeOption, KOption, LayersOption, OperatorOption, UnitOption
from levercheck.errors import UsageError

if TYPE_CHECKING:
    from levercheck.lm.model import LanguageModel
    from levercheck.lm.saes.sae import Sae
    from levercheck.readouts.component_statistics import ComponentStatistics
    from levercheck.sweep.control_preview import Preview

app = cyclopts.App(name="controls", help="Matched negative controls: what they can show, before any run.")
MISSES_SHOWN = 5


@app.command
def preview(
    readout: Annotated[Path, Parameter(name="READOUT", help="Folder of a readout or of a saved intervention.")],
    /,
    *,
    model: Annotated[str, Parameter(help="embedded:NAME, gguf:PATH, a directory or a Hugging Face id.")],
    match: Annotated[
        Literal["none", "layer", "activation"], Parameter(help="What the draws have in common with the target.")
    ] = "layer",
    kind: Annotated[
        Literal["random", "directions"], Parameter(help="Other components, or the same heads with random directions.")
    ] = "random",
    draws: Annotated[int, Parameter(help="Control draws.", validator=Number(gte=1))] = 20,
    seed: Annotated[int, Parameter(help="Seed of the draws.", validator=Number(gte=0))] = 0,
    orthogonal: Annotated[
        bool, Parameter(negative="", help="Take the target's own direction out of control directions.")
    ] = False,
    nearest: Annotated[int, Parameter(help="Closest components a matched draw picks among.")] = 20,
    caliper: Annotated[float, Parameter(help="Largest difference that is a match, in sd of the layer.")] = 0.5,
    operator: OperatorOption = None,
    unit: UnitOption = None,
    layers: LayersOption = None,
    k: KOption = None,
    by: ByOption = "auroc",
    dose: Annotated[
        float | None, Parameter(help="Measure the relative dose of the target and of every draw at this dose too.")
    ] = None,
    texts: Annotated[Path | None, Parameter(help="Prompts to measure on, one per line; default facts.")] = None,
    n: Annotated[int, Parameter(help="Embedded questions to measure on.", validator=Number(gte=4))] = 64,
    statistics: Annotated[
        Path | None, Parameter(help="Folder with component statistics; measured and kept there when it holds none.")
    ] = None,
    dtype: DtypeOption = "float32",
    device: Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, mps; default cuda where there is one.")] = None,
    json_: Annotated[bool, Parameter(name="--json", negative="", help="Print the table as JSON on stdout.")] = False,
) -> int:
    """Draw the controls of a readout and compare them with it, without running any of them.

    Prints the smallest p that so many draws can show, and the balance table: where the draws differ from the target in
    activation, frequency or what they write, they are another kind of control. Flagged: a standardised mean difference
    beyond 0.25.

    Example: levercheck controls preview runs/facts/probes/h --model embedded:smollm2-135m --match activation
    """
    from levercheck.interventions.controls import ControlSpec
    from levercheck.interventions.controls.draw import family_of
    from levercheck.lm.model import load_model
    from levercheck.sweep.control_pools import excluded, pool_of
    from levercheck.sweep.control_preview import measured_doses, preview
    from levercheck.sweep.levers import intervention_of

    spec = ControlSpec(kind, match, draws, seed, orthogonal=orthogonal, nearest=nearest, caliper=caliper)
    stages = Stages()
    if not json_:
        output.print(spec.attainable.sentence, markup=False, soft_wrap=True)
    stages.notify(f"loading {model}")
    lm = load_model(model, dtype=dtype, device=device, notify=stages.notify)
    chosen = None if layers is None else list(layers)
    target = intervention_of(lm, readout, operator=operator, unit=unit, layers=chosen, k=k, by=by)
    sequences = _sequences(lm, texts, n)
    found = None
    if family_of(target) != "direction":
        saes = [edit.sae for edit in target.edits if edit.sae is not None]
        found = _statistics(lm, sequences, saes, statistics, stages)
    pool = pool_of(lm, target, readout, statistics=found, sequences=sequences, seed=seed)
    shown = preview(target, spec, pool, found, exclude=excluded(readout, target))
    if dose is not None:
        some = sequences[:8]
        with stages.stage("measure doses", draws + 1, "sets") as tick:
            shown = shown.with_row(measured_doses(lm, target, shown.draws, dose, some))
            tick(draws + 1)
    if json_:
        print(json.dumps(shown.to_dict(), ensure_ascii=False, allow_nan=False))
        return 0
    _print(shown)
    return 0


def _sequences(lm: LanguageModel, texts: Path | None, n: int) -> list[list[int]]:
    from levercheck.sweep.parity import default_prompts

    if texts is None:
        return default_prompts(lm, n)
    try:
        lines = [line for line in texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UsageError(f"'{texts.name}' cannot be read ({reason}): give a text file, one prompt per line") from None
    if not lines:
        raise UsageError(f"'{texts.name}' holds no line: give a text file, one prompt per line")
    return [lm.start_ids + lm.encode(line) for line in lines]


def _statistics(
    lm: LanguageModel, sequences: list[list[int]], saes: list[Sae], folder: Path | None, stages: Stages
) -> ComponentStatistics:
    from levercheck.evidence.identity import check_same_model
    from levercheck.readouts.component_statistics import component_statistics
    from levercheck.readouts.component_store import FACTS, load_statistics, save_statistics

    if folder is not None and (folder / FACTS).is_file():
        found = load_statistics(folder)
        check_same_model(found.model, lm.identity, "the component statistics")
        return found
    with stages.stage("measure components", len(sequences), "texts") as tick:
        found = component_statistics(lm, sequences, saes=saes, tick=tick)
    if folder is not None:
        save_statistics(found, folder)
    return found


def _print(shown: Preview) -> None:
    from levercheck.audit.balance import COLUMNS, cells, legend

    title = f"Balance of {shown.spec.draws} draws, match {shown.spec.match}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == COLUMNS[0] else "right", overflow="fold")
    for row in shown.rows:
        table.add_row(
            *(escape(cell) for cell in cells(row, "{:.3g}".format)), style="bold yellow" if row.flagged else None
        )
    output.print(table)
    output.print(legend(shown.spec.draws), markup=False, soft_wrap=True)
    if shown.misses:
        listed = ", ".join(f"{layer}:{index} ({gap:.2f} sd)" for layer, index, gap in shown.misses[:MISSES_SHOWN])
        more = f" and {len(shown.misses) - MISSES_SHOWN} more" if len(shown.misses) > MISSES_SHOWN else ""
        output.print(f"no counterpart within the caliper: {clean(listed)}{more}", markup=False, soft_wrap=True)
