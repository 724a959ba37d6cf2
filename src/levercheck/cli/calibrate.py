"""`levercheck calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from levercheck.cli.console import Stages, clean, output
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
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.stats import Estimate
from levercheck.study.lock import CALIBRATION

HARMS = {
    "degenerate": ("broken %", 100.0, ".1f"),
    "no_verdict": ("no verdict %", 100.0, ".1f"),
    "cap_hits": ("cap hits %", 100.0, ".1f"),
    "bare_loss": ("bare loss, pp", 1.0, ".1f"),
    "perplexity_ratio": ("perplexity ratio", 1.0, ".2f"),
}


def calibrate(
    study: StudyFile,
    /,
    *,
    out: OutOption = None,
    limit: LimitOption = None,
    set_: SetOption = (),
    device: DeviceOption = None,
    json_: JsonOption = False,
) -> int:
    """Measure the K x dose grid of a study's calibrate section on its tune items, and choose one cell by its rule.

    Best objective, then everything within the tolerance (never finer than one item), then the poison gate, the larger
    secondary, the smaller dose, the smaller K. The whole trace goes to calibration.json in the run's folder. A kill
    loses nothing: the same command continues. Exits with 4 when no cell of the shortlist passes the poison gate; the
    files are written then too.

    Example: levercheck calibrate study.yaml --out runs/two-levers
    """
    from levercheck.evidence.folder import claimed
    from levercheck.sweep.calibrate import calibrate as measure
    from levercheck.sweep.run_study import STUDY

    opened, stages = open_file(study, out, set_, limit), Stages()
    if opened.spec.calibrate is None:
        raise UsageError(f"'{study.name}' has no calibrate section: add one with intervention, doses and objective")
    lm = opened.load(stages, device)
    with claimed(opened.root, STUDY):
        prepare(opened, lm, stages)
        body = measure(opened.spec, opened.base, opened.root, lm, stages, stages.notify)
    if json_:
        print(json.dumps({"out": str(opened.root), **body}, ensure_ascii=False, allow_nan=False))
    else:
        _print(body, opened.root / CALIBRATION)
    return 0 if body["status"] == "selected" else NotEnoughDataError.exit_code


def _print(body: dict[str, Any], path: Path) -> None:
    settings = body["settings"]
    effects = Table(
        title=f"Calibration of {body['intervention']} on {body['items']['role']} items, pp against no-op",
        title_justify="left", show_edge=False,
    )  # fmt: skip
    wanted = [settings["objective"], *([settings["secondary"]] if settings["secondary"] else [])]
    for column in ("", "K", "dose", *wanted, "‖Δ‖/‖h‖"):
        effects.add_column(escape(column), overflow="fold", justify="right" if column in ("K", "dose") else "left")
    measured = [name for name in HARMS if any(name in c["harms"] for c in body["candidates"])]
    harms = Table(title="Poison gate", title_justify="left", show_edge=False)
    for column in ("K", "dose", *(HARMS[name][0] for name in measured)):
        harms.add_column(column, overflow="fold", justify="right" if column in ("K", "dose") else "left")
    for cell in body["candidates"]:
        pair = {"k": cell["k"], "dose": cell["dose"]}
        mark = "chosen" if pair == body["selected"] else "poisoned" if cell["poison"] else ""
        mark = mark or ("shortlist" if pair in body["shortlist"] else "")
        at = ["" if cell["k"] is None else str(cell["k"]), f"{cell['dose']:g}"]
        moved = [_interval(cell["surfaces"][name]["difference"]) for name in wanted]
        effects.add_row(mark, *at, *moved, _number(cell["relative_dose"], 1.0, ".3f"))
        harms.add_row(*at, *(_number(cell["harms"].get(name), *HARMS[name][1:]) for name in measured))
    output.print(effects)
    output.print()
    output.print(harms)
    floor = next(step for step in body["trace"] if step["step"] == "tolerance")
    output.print(
        f"tolerance {floor['used_pp']:.2f} pp (asked {floor['requested_pp']:g}, one item of {floor['items']} is "
        f"{floor['floor_pp']:.2f}); brackets are 95 % intervals"
    )
    for cell in body["candidates"]:
        if cell["poison"] and {"k": cell["k"], "dose": cell["dose"]} in body["shortlist"]:
            k = "" if cell["k"] is None else f"K {cell['k']}, "
            output.print(
                f"rejected {k}dose {cell['dose']:g}: {'; '.join(cell['poison'])}", markup=False, soft_wrap=True
            )
    for warning in body["warnings"]:
        output.print(f"note: {clean(warning)}", markup=False, soft_wrap=True)
    chosen = body["selected"]
    if chosen is None:
        output.print("poisoned: no cell of the shortlist passes the gate", style="bold red")
    else:
        k = "" if chosen["k"] is None else f"K {chosen['k']}, "
        output.print(f"chosen  {k}dose {chosen['dose']:g}", style="bold green")
        curse = body["winners_curse"]
        extra = "" if curse["optimism"] is None else f" (about {abs(curse['optimism']['value']):.1f} pp, by bootstrap)"
        output.print(f"winner's curse{extra}: {curse['sentence']}", markup=False, soft_wrap=True)
    output.print(f"trace   {clean(str(path))}", markup=False, soft_wrap=True)


def _interval(record: dict[str, Any]) -> str:
    found = Estimate.from_dict(record)
    if not found.estimable:
        return "not estimable"
    return f"{found.value:+.1f} \\[{found.low:.1f}, {found.high:.1f}] n={found.n}"


def _number(record: dict[str, Any] | None, scale: float, form: str) -> str:
    if record is None or record["value"] is None:
        return "" if record is None else "not estimable"
    if record["low"] is None:
        return f"{scale * record['value']:{form}} n={record['n']}"
    low, high = (f"{scale * record[end]:{form}}" for end in ("low", "high"))
    return f"{scale * record['value']:{form}} \\[{low}, {high}] n={record['n']}"
