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
from levercheck.cli.declared import prepare
from levercheck.cli.study_options import (
    DeviceOption,
    JsonOption,
    LimitOption,
    OutOption,
    SetOption,
    StudyFile,
    open_file,
)
from levercheck.stats import Estimate
from levercheck.study.lock import check_locked


def run(
    study: StudyFile,
    /,
    *,
    out: OutOption = None,
    confirm: Annotated[
        bool, Parameter(negative="", help="Open the confirm items, once, under the study's lock.")
    ] = False,
    limit: LimitOption = None,
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
    opened, stages = open_file(study, out, set_, limit), Stages()
    if confirm:
        check_locked(opened.root, opened.spec)  # nothing is loaded or made where nothing, or something else, is locked
    lm = opened.load(stages, device)
    with claimed(opened.root, STUDY):
        prepare(opened, lm, stages)
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
            title=f"{escape(benchmark)}: baseline {_interval(base, '%')}", title_justify="left", show_edge=False,
            caption="brackets: 95 % intervals, uncorrected for the number of rows", caption_justify="left",
        )  # fmt: skip
        columns = ("lever", "change, pp", "control", "lever minus draws, pp", "rank p", "a new draw, pp", "‖Δ‖/‖h‖")
        for column in columns:
            table.add_column(column)
        for point in (p for p in audit["points"] if p["benchmark"] == benchmark):
            name = point["lever"] if point["at"] is None else f"{point['lever']} at {point['kind']} {point['at']:g}"
            first = [escape(clean(name)), _interval(point["change"])]
            dose = point["relative_dose"]
            last = "" if dose["value"] is None else _interval(dose, digits=3, signed=False)
            rows = [_control(name, found) for name, found in point["controls"].items()] or [[""] * 4]
            for number, row in enumerate(rows):
                table.add_row(*(first if number == 0 else ["", ""]), *row, last if number == 0 else "")
        output.print()
        output.print(table)
    if audit["standings"]:
        gates = Table(title=f"Standings on items of role {audit['role']}", title_justify="left", show_edge=False)
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
    output.print(f"\nreport  {clean(str(folder / 'report.html'))}", markup=False, soft_wrap=True)
    output.print(f"time    {seconds(took)}")


def _control(name: str, found: dict[str, Any]) -> list[str]:
    rate, told = found["rate"], f"{escape(name)}, {found['draws']} draws"
    if rate is None:
        return [told, "not estimable", "", ""]
    p = f"{rate['p']:.3g} (at best {rate['attainable_p']:.3g})"
    return [told, _interval(rate["difference"]), p, _interval(rate["prediction"])]


def _interval(record: dict[str, Any], unit: str = "", *, digits: int = 1, signed: bool = True) -> str:
    estimate = Estimate.from_dict(record)
    if estimate.value is None:
        return "not estimable"
    form = f"{'+' if signed and unit != '%' else ''}.{digits}f"
    ends = "" if estimate.low is None else f" \\[{estimate.low:{form}}, {estimate.high:{form}}]"
    return f"{estimate.value:{form}}{unit}{ends} n={estimate.n}"
