"""`levercheck verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from levercheck.audit.lever_verify import is_lever_study, verify_levers
from levercheck.audit.verify import verify as find_differences
from levercheck.cli.console import clean, output
from levercheck.errors import UsageError
from levercheck.reanalysis.run import is_reanalysis
from levercheck.reanalysis.run import verify as find_changes


def verify(
    directory: Path,
    /,
    *,
    rows: Annotated[Path | None, Parameter(help="Directory of the tables, to check the output of reanalyze.")] = None,
    json_: Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Recompute every digest and every number of DIRECTORY from its rows. Needs no torch, no model.

    DIRECTORY is a finished study (of demo or run) or a workspace of the H-neuron pipeline, whose readouts need
    safetensors to be read. The output of `levercheck reanalyze` is made again from its analysis and the tables in
    --rows.

    Exit code 0 when everything agrees, 1 with a list when anything differs.

    Example: levercheck verify runs/demo
    """
    numbers = "audit.json"
    if is_reanalysis(directory):
        if rows is None:
            raise UsageError(f"'{directory}' holds a reanalysis: give the directory of its tables with --rows")
        problems, numbers = find_changes(directory, rows), "results.json"
    elif rows is not None:
        raise UsageError(f"'{directory}' holds no reanalysis: --rows is for the output of levercheck reanalyze")
    elif (directory / "workspace.json").is_file():
        from levercheck.detect.verify import verify_workspace  # reads weights, which plain studies do not have

        problems, numbers = verify_workspace(directory), "the workspace"
    elif is_lever_study(directory):
        problems, numbers = verify_levers(directory), "levers.json"
    else:
        problems = find_differences(directory)
    if json_:
        print(json.dumps({"directory": str(directory), "agrees": not problems, "differences": problems}))
    elif problems:
        for problem in problems:
            output.print(f"differs  {clean(problem)}", markup=False, soft_wrap=True)
        output.print(f"{len(problems)} differences", style="bold red")
    else:
        output.print(f"every digest and every number of {numbers} follows from the rows", style="bold green")
    return 1 if problems else 0
