"""`levercheck reanalyze` and `levercheck compare`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from levercheck.cli.console import Stages, clean, errors, output, seconds
from levercheck.evidence.provenance import now
from levercheck.reanalysis.compare import compare_files
from levercheck.reanalysis.run import evaluate, write
from levercheck.reanalysis.spec import read_analysis
from levercheck.reanalysis.tables import Tables
from levercheck.stats import Estimate

STATUS_STYLE = {"agree": "green", "tolerance": "yellow", "disagree": "bold red", "absent": "dim"}


def reanalyze(
    analysis: Path,
    /,
    *,
    rows: Annotated[Path, Parameter(help="Directory that holds the tables of rows (.parquet or .csv).")],
    out: Annotated[Path | None, Parameter(help="Store results, analysis and provenance in this directory.")] = None,
    archive: Annotated[bool, Parameter(negative="", help="Keep other results found in --out under archive/.")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Make every estimate that the file ANALYSIS lists from tables of rows. Needs no torch, no model.

    What is stored with --out is checked by `levercheck verify OUT --rows DIR`.

    Example: levercheck reanalyze examples/reanalysis/reference.yaml --rows rows --out runs/reference
    """
    started, clock = now(), time.monotonic()
    spec, tables = read_analysis(analysis), Tables(rows)
    with Stages().stage("estimates", len(spec.estimates), "made") as tick:
        results = evaluate(spec, tables, tick)
    if out is not None:
        write(results, analysis, out, started, archive)
    if json_:
        print(json.dumps(results, ensure_ascii=False, allow_nan=False))
        return 0
    _print(results)
    output.print(f"time    {seconds(time.monotonic() - clock)}")
    if out is not None:
        output.print(f"stored  {clean(str(out))}", markup=False, soft_wrap=True)
        output.print(
            f"check   levercheck verify {clean(str(out))} --rows {clean(str(rows))}", markup=False, soft_wrap=True
        )
    return 0


def _print(results: dict[str, Any]) -> None:
    table = Table(title=clean(results["analysis"]), title_justify="left", show_edge=False)
    for column in ("estimate", "value", "method"):
        table.add_column(column, overflow="fold")
    for name, record in results["entries"].items():
        table.add_row(
            clean(name), clean(_text(Estimate.from_dict(record))).replace("[", "\\["), clean(record["method"])
        )
    output.print(table)
    for name, reason in results["not_expressible"].items():
        output.print(f"left out  {clean(name)}: {clean(reason)}", markup=False, soft_wrap=True)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _text(estimate: Estimate) -> str:
    """The estimate as usual; a number that has no interval by nature (a p-value, a count of sets) without one."""
    if estimate.value is None or estimate.low is not None:
        return str(estimate)
    value = f"{estimate.value:.4g}"
    return f"p = {value} (n={estimate.n})" if estimate.unit == "p" else f"{value} {estimate.unit} (n={estimate.n})"


def compare(
    results: Path,
    golden: Path,
    /,
    *,
    json_: Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Compare RESULTS (a results.json or its directory) with the expected statistics of the file GOLDEN.

    agree: equal to the last printed digit. tolerance: inside the stated Monte-Carlo tolerance. absent: not in RESULTS.
    Exit code 1 when anything disagrees.

    Example: levercheck compare runs/reference golden.json
    """
    found = compare_files(results, golden)
    counts, code = found["counts"], 1 if found["counts"]["disagree"] else 0
    if json_:
        print(json.dumps(found, ensure_ascii=False, allow_nan=False))
        return code
    table = Table(show_edge=False)
    for column in ("status", "id", "value", "expected", "why"):
        table.add_column(column, overflow="fold", no_wrap=column == "status")
    for entry in found["entries"]:
        style = STATUS_STYLE[entry["status"]]
        value, expected = (_number(number) for number in (entry["value"], entry["expected"]["value"]))
        table.add_row(f"[{style}]{entry['status']}[/]", clean(entry["id"]), value, expected,
                      clean(entry["reason"]).replace("[", "\\["))  # fmt: skip
    output.print(table)
    output.print(", ".join(f"{number} {status}" for status, number in counts.items()))
    if code:
        errors.print(f"{counts['disagree']} of {len(found['entries'])} disagree", style="bold red")
    return code
