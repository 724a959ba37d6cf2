"""`levercheck run`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.markup import escape
from rich.table import Table

from levercheck.cli.console import STANDING_STYLE, Stages, clean, output, seconds
from levercheck.cli.study_options import DeviceOption, JsonOption, OutOption, SetOption, StudyFile, open_file
from levercheck.stats import Estimate
from levercheck.study.lock import read_lock


def run(
    study: StudyFile,
    /,
    *,
    out: OutOption = None,
    confirm: Annotated[
        bool, Parameter(negative="", help="Open the confirm items, once, under the study's lock.")
    ] = False,
    set_: SetOption = (),
    device: DeviceOption = None,
    json_: JsonOption = False,
) -> int:
    """Turn every lever of a study file over its doses, beside its controls, on every benchmark, and report.

    Without --confirm the items are those of the tune role: exploratory, as often as you like. With it, the study must
    be locked; nothing may differ from the lock, and the confirm items are opened once. A kill or Ctrl-C loses nothing:
    the same command continues. More doses, levers or draws in the file add to what is there.

    Example: levercheck run study.yaml --set items.limit=20
    """
    from levercheck.evidence.folder import claimed
    from levercheck.sweep.confirm import run_confirm
    from levercheck.sweep.levers_audit import audit_study
    from levercheck.sweep.run_study import STUDY, run_study

    started = time.monotonic()
    opened, stages = open_file(study, out, set_), Stages()
    if confirm:
        read_lock(opened.root)  # nothing needs loading where nothing is locked
    lm = opened.load(stages, device)
    with claimed(opened.root, STUDY):
        where = opened.spec, opened.base, opened.root, lm, stages
        done, names = run_confirm(*where, stages.notify) if confirm else run_study(*where, notify=stages.notify)
        folder = opened.root / ("confirmed" if confirm else "explored")
        audit = audit_study(done, names, folder)
    took = time.monotonic() - started
    if json_:
        report = {
            "out": str(opened.root),
            "report": str(folder / "report.html"),
            "seconds": round(took, 1),
            "audit": audit,
        }
        print(json.dumps(report, ensure_ascii=False, allow_nan=False))
        return 0
    _print(audit, folder, took)
    return 0


def _print(audit: dict[str, Any], folder: Path, took: float) -> None:
    for benchmark, base in audit["baseline"].items():
        table = Table(
            title=f"{escape(benchmark)}: baseline {_interval(base, '%')}", title_justify="left", show_edge=False
        )
        for column in ("lever", "change, pp", "lever minus draws, pp", "rank p", "a new draw, pp", "‖Δ‖/‖h‖"):
            table.add_column(column)
        for point in (p for p in audit["points"] if p["benchmark"] == benchmark):
            name = point["lever"] if point["at"] is None else f"{point['lever']} at {point['kind']} {point['at']:g}"
            first = [escape(clean(name)), _interval(point["change"])]
            dose = point["relative_dose"]["value"]
            last = "" if dose is None else f"{dose:.3f}"
            rows = [
                [_interval(c["rate"]["difference"]), f"{c['rate']['p']:.3g}", _interval(c["rate"]["prediction"])]
                for c in point["controls"].values()
                if c["rate"] is not None
            ] or [["", "", ""]]
            for number, row in enumerate(rows):
                table.add_row(*(first if number == 0 else ["", ""]), *row, last if number == 0 else "")
        output.print()
        output.print(table)
    if audit["standings"]:
        gates = Table(title="Standings", title_justify="left", show_edge=False)
        for column in ("lever", "gate", "standing", "why"):
            gates.add_column(column)
        for s in audit["standings"]:
            style = STANDING_STYLE[s["standing"]]
            word = f"[{style}]{s['standing'].replace('_', ' ')}[/]"
            gates.add_row(escape(s["lever"]), s["name"], word, escape(clean(s["reason"])))
        output.print()
        output.print(gates)
    for name in ("arms_without_receipts", "arms_without_any_change"):
        if audit["instrument"][name]:
            output.print(f"\n[bold red]{len(audit['instrument'][name])} {name.replace('_', ' ')}[/]: see the report")
    output.print(f"\nreport  {folder / 'report.html'}", soft_wrap=True)
    output.print(f"time    {seconds(took)}")


def _interval(record: dict[str, Any], unit: str = "") -> str:
    estimate = Estimate.from_dict(record)
    if estimate.value is None:
        return "not estimable"
    sign = "" if unit == "%" else "+"
    ends = "" if estimate.low is None else f" \\[{estimate.low:{sign}.1f}, {estimate.high:{sign}.1f}]"
    return f"{estimate.value:{sign}.1f}{unit}{ends} n={estimate.n}"
