"""What a person sees: progress, tables, colour only on a terminal, control characters never."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

output = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

STANDING_STYLE = {
    "supported": "bold green",
    "contradicted": "bold red",
    "inconclusive": "bold yellow",
    "uninformative": "bold magenta",
    "not_graded": "dim",
    "missing": "dim",
}


def clean(text: str) -> str:
    """`text` without control characters, so that model output or a file name cannot drive the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def seconds(value: float) -> str:
    """A duration a person reads at a glance."""
    return f"{value:.1f} s" if value < 60 else f"{int(value // 60)} min {int(value % 60):02d} s"


class Stages:
    """Progress of the stages of a run, on stderr: live bars with an ETA on a terminal, one line per stage elsewhere."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}

    @contextmanager
    def stage(self, title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        """Show one stage; the value yielded advances it."""
        started = time.monotonic()
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as progress:
            task = progress.add_task(title, total=total)
            yield lambda done: progress.update(task, advance=done)
        self.times[title] = time.monotonic() - started
        errors.print(f"  {title:<18} {total:>6} {unit:<6} {seconds(self.times[title]):>12}")

    def notify(self, line: str) -> None:
        """Say one line about something slow that is about to happen, or about what was left out."""
        errors.print(f"  {clean(line)}", style="dim", markup=False, soft_wrap=True)
