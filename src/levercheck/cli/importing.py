"""`levercheck import`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from levercheck.cli.console import clean, output
from levercheck.evidence.foreign import import_rows
from levercheck.evidence.foreign_map import load_mapping


def import_(
    mapping: Path,
    /,
    *,
    rows: Annotated[Path, Parameter(help="Folder that holds the foreign files; nothing outside it is read.")],
    out: Annotated[Path, Parameter(help="New or empty folder for rows.parquet and provenance.json.")],
    json_: Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Turn somebody else's result files (per-dose JSONL, CSV, parquet) into rows that levercheck can analyse.

    MAPPING.yaml says which column is the id, the label, the outcome, the response and the ruler, and how the dose is
    read from a file's name. Torn lines, duplicate ids and missing columns are errors that name file and line.

    Example: levercheck import mapping.yaml --rows results/ --out imported/
    """
    done = import_rows(load_mapping(mapping), rows, out)
    if json_:
        print(json.dumps({"out": str(out), **done.to_dict()}))
        return 0
    doses = ", ".join(f"{dose:g}" if float(f"{dose:g}") == dose else repr(dose) for dose in done.doses) or "none"
    output.print(f"{done.rows} rows from {done.files} files, doses {doses}", style="bold green", soft_wrap=True)
    for group in done.groups:
        output.print(f"  {clean(group)}", markup=False, soft_wrap=True)
    return 0
