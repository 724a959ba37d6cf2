"""`levercheck demo`."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.markup import escape
from rich.table import Table

from levercheck.cli.console import STANDING_STYLE, Stages, clean, output, seconds
from levercheck.demo import spec as specs
from levercheck.demo.run import run_demo
from levercheck.stats import Estimate

DEFAULT_MODEL = "embedded:smollm2-135m"


def demo(
    *,
    out: Annotated[
        Path | None, Parameter(help="Output directory; default runs/demo, named after other settings.")
    ] = None,
    quick: Annotated[bool, Parameter(negative="", help="A smaller study: a first look in under two minutes.")] = False,
    seed: Annotated[
        int,
        Parameter(help="Seed of every draw: questions, roles, samples, controls.", validator=Number(gte=0, lt=2**32)),
    ] = 0,
    model: Annotated[
        str, Parameter(help="embedded:NAME, gguf:PATH, a directory, or a Hugging Face id.")
    ] = DEFAULT_MODEL,
    json_: Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON on stdout.")] = False,
) -> int:
    """Audit the hallucination neurons of a real model on real facts, on this computer.

    A kill or Ctrl-C loses nothing: the same command continues. A finished run is checked, not repeated.

    Example: levercheck demo --quick --out runs/first-look
    """
    started = time.monotonic()
    spec = (specs.quick if quick else specs.full)(model, seed)
    root = out or Path("runs") / _name(quick, seed, model)
    stages = Stages()
    audit = run_demo(spec, root, stages, stages.notify, source=model)
    took = time.monotonic() - started
    if json_:
        report = {"out": str(root), "report": str(root / "report.html"), "seconds": round(took, 1), "audit": audit}
        print(json.dumps(report, ensure_ascii=False))
        return 0
    _print(audit, root, took)
    return 0


def _name(small: bool, seed: int, model: str) -> str:
    """A folder of its own for every setting, so that two studies never meet."""
    parts = ["demo", "quick" if small else "", f"seed{seed}" if seed else ""]
    parts.append("".join(c if c.isalnum() or c in "-." else "-" for c in model) if model != DEFAULT_MODEL else "")
    return "-".join(part for part in parts if part)


def _print(audit: dict[str, Any], root: Path, took: float) -> None:
    estimates = {name: Estimate.from_dict(record) for name, record in audit["estimates"].items()}
    shown = Table(title="Readout: does it predict?", title_justify="left", show_edge=False)
    for column in ("score", "AUROC [95 % interval]", "among equally confident answers"):
        shown.add_column(column, no_wrap=column == "score")
    for title, name in (
        ("CETT probe", "probe"),
        ("-mean logprob", "baseline.neg_logprob"),
        ("answer length", "baseline.length"),
        ("category prior", "baseline.category_prior"),
        ("answer prior", "baseline.answer_prior"),
        ("sample disagreement", "baseline.disagreement"),
    ):
        shown.add_row(title, _interval(estimates[f"{name}.auroc"]), _interval(estimates.get(f"{name}.auroc.matched")))
    output.print()
    output.print(shown)
    moved = Table(title="Dose response: does it move?", title_justify="left", show_edge=False)
    for column in ("set", "neurons", "compliance, pp per unit dose", "bare accuracy, pp per unit dose", "‖Δ‖/‖h‖"):
        moved.add_column(column)
    for arm in audit["arms"]:
        label = arm["label"]
        slopes = (_interval(estimates[f"{label}.slope"]), _interval(estimates[f"{label}.bare_slope"]))
        stem = f"{label}.relative_dose.a"
        dose = max((float(n.removeprefix(stem)) for n in estimates if n.startswith(stem)), default=None)
        effort = None if dose is None else estimates[f"{stem}{dose:g}"].value
        shown_effort = "" if effort is None else f"{effort:.3f} at {dose:g}"
        moved.add_row(escape(label), str(arm["neurons"]), *slopes, shown_effort)
    output.print()
    output.print(moved)
    gates = Table(title="Gates", title_justify="left", show_edge=False)
    for column in ("gate", "standing", "why"):
        gates.add_column(column)
    for gate in audit["gates"]:
        style = STANDING_STYLE[gate["standing"]]
        gates.add_row(gate["name"], f"[{style}]{gate['standing'].replace('_', ' ')}[/]", escape(clean(gate["reason"])))
    output.print()
    output.print(gates)
    output.print(f"\n[bold]{escape(clean(audit['verdict']['sentence']))}[/]\n")
    output.print(f"report  {root / 'report.html'}", soft_wrap=True)
    output.print(f"check   levercheck verify {root}", soft_wrap=True)
    output.print(f"time    {seconds(took)}")


def _interval(estimate: Estimate | None) -> str:
    if estimate is None:
        return ""
    if not estimate.estimable:
        return "not estimable"
    sign = "+" if estimate.unit.startswith("pp") else ""
    return f"{estimate.value:{sign}.2f} [{estimate.low:.2f}, {estimate.high:.2f}] n={estimate.n}"
