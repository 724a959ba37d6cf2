"""Two answers side by side: live panels on a terminal, alternating lines elsewhere."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING

from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from levercheck.cli.console import clean, output

if TYPE_CHECKING:
    from levercheck.sweep.stream import Growing

NAMES = ("unsteered", "steered")
_ENDS = {
    "end": "ended by itself",
    "stop": "stopped",
    "length": "cut at the limit",
    "non_finite": "broke: the dose made the logits not finite",
}
Answers = Iterable[tuple["Growing", ...]]


def shown(answers: Answers) -> None:
    """Show answers while they grow, then how they ended and how far the activations were moved."""
    try:
        last = _live(answers) if output.is_terminal else _lines(answers)
    finally:
        if isinstance(answers, Generator):
            answers.close()  # takes the hooks off the model, also when Ctrl-C came between two tokens
    if last is not None:
        output.print(_ending(last), markup=False, soft_wrap=True)


def _live(answers: Answers) -> tuple[Growing, ...] | None:
    last = None
    with Live(console=output, refresh_per_second=12) as live:
        for last in answers:
            live.update(_panels(last))
    return last


def _panels(answers: tuple[Growing, ...]) -> Table:
    grid = Table.grid(expand=True, padding=(0, 1))
    for _ in NAMES:
        grid.add_column(ratio=1)
    styles = ("dim", "cyan")
    panels = [
        Panel(Text(clean(answer.text)), title=name, title_align="left", border_style=style)
        for name, answer, style in zip(NAMES, answers, styles, strict=True)
    ]
    grid.add_row(*panels)
    return grid


def _lines(answers: Answers) -> tuple[Growing, ...] | None:
    """Every finished line as soon as it is there."""
    told = [0, 0]
    last = None
    for last in answers:
        for row, answer in enumerate(last):
            lines = clean(answer.text).split("\n")
            ready = len(lines) if answer.reason is not None else len(lines) - 1
            for line in lines[told[row] : ready]:
                output.print(f"{NAMES[row]:<9} | {line}", markup=False, soft_wrap=True)
            told[row] = max(told[row], ready)
    return last


def _ending(answers: tuple[Growing, ...]) -> str:
    plain, steered = answers
    parts = [f"{name} {_ENDS[a.reason]}" for name, a in zip(NAMES, answers, strict=True) if a.reason is not None]
    receipt = steered.receipt
    if receipt is None or receipt.relative_dose is None:
        parts.append("nothing was edited")
    else:
        positions = receipt.prompt + receipt.decode
        parts.append(
            f"relative dose {receipt.relative_dose:.4f} (‖Δ‖/‖h‖, mean over {positions} positions and {receipt.sites} "
            f"site{'' if receipt.sites == 1 else 's'})"
        )
    if plain.tokens == steered.tokens:
        parts.append("the answers are the same")
    return "; ".join(parts)
