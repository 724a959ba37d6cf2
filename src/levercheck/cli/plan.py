"""`levercheck plan`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from levercheck.cli.console import clean, output
from levercheck.cli.study_options import JsonOption, LimitOption, SetOption, StudyFile, open_file

if TYPE_CHECKING:
    from levercheck.study.plan import Plan


def plan(study: StudyFile, /, *, limit: LimitOption = None, set_: SetOption = (), json_: JsonOption = False) -> int:
    """Say what a study will cost and can show, before any compute: rows, tokens, smallest detectable effects.

    Needs no model, no torch and no data: counts are upper bounds, and what has to be fetched first is listed.

    Example: levercheck plan studies/gemma3_4b/faitheval_neurons.yaml
    """
    from levercheck.study.plan import plan as make

    opened = open_file(study, None, set_, limit)
    made = make(opened.spec, opened.base)
    if json_:
        print(json.dumps(made.to_dict(), ensure_ascii=False))
    else:
        _print(made)
    return 0


def _print(made: Plan) -> None:
    points = ", ".join(f"{name} {count}" for name, count in made.points.items())
    output.print(f"{clean(made.study)} on {clean(made.model)}", markup=False)
    output.print(
        f"points per lever: {points}; {made.arms} arms with the draws of controls", markup=False, soft_wrap=True
    )
    if made.calibration_rows:
        output.print(f"calibration: {made.calibration_rows:,} rows on tune items, not counted below")
    table = Table(show_edge=False, pad_edge=False, caption_justify="left")
    table.add_column("benchmark", no_wrap=True)
    for column in ("role", "items", "rows", "tokens to generate"):
        table.add_column(column, no_wrap=True, justify="left" if column == "role" else "right")
    for surface in made.surfaces:
        for number, role in enumerate(surface.items):
            items = f"{surface.items[role]:,}{'' if surface.here else '*'}"
            tokens = f"{surface.generated_tokens[role]:,}" if surface.kind == "answer" else "none"
            table.add_row("" if number else escape(surface.benchmark), role, items, f"{surface.rows[role]:,}", tokens)
    table.caption = "upper bounds; * as published, the data are not here"
    output.print(table)
    if made.primary is not None:
        one = made.primary
        output.print(f"\nprimary: {one['benchmark']}, {one['direction']}, margin {one['margin']:g} pp", markup=False)
        for role, values in one["detectable_pp"].items():
            shown = ", ".join(
                f"{100 * float(share):g} %: {'nothing' if pp is None else f'{pp:.1f} pp'}"
                for share, pp in values.items()
            )
            output.print(f"smallest detectable change on {role} items, by share of items that change: {shown}")
    for name, control in made.controls.items():
        p = control["smallest_p_two_sided"]
        output.print(f"control {name}: {control['draws']} draws, rank p at best {p:.3g}", markup=False)
    for line in made.notes:
        output.print(f"note  {clean(line)}", markup=False, soft_wrap=True)
    for line in made.to_get:
        output.print(f"first {clean(line)}", style="yellow", markup=False, soft_wrap=True)
