"""`levercheck verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from levercheck.audit.verify import verify as find_differences
from levercheck.cli.console import clean, output


def verify(
    directory: Path,
    /,
    *,
    json_: Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Recompute every digest and every number of DIRECTORY/audit.json from its rows. Needs no torch, no model.

    Exit code 0 when everything agrees, 1 with a list when anything differs.

    Example: levercheck verify runs/demo
    """
    problems = find_differences(directory)
    if json_:
        print(json.dumps({"directory": str(directory), "agrees": not problems, "differences": problems}))
    elif problems:
        for problem in problems:
            output.print(f"differs  {clean(problem)}", markup=False, soft_wrap=True)
        output.print(f"{len(problems)} differences", style="bold red")
    else:
        output.print("every digest and every number of audit.json follows from the rows", style="bold green")
    return 1 if problems else 0
