"""`levercheck inventory`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from levercheck.cli.console import clean, output
from levercheck.inventory import Inventory
from levercheck.inventory import inventory as take_inventory
from levercheck.inventory.words import counted

_SHOWN = 20
_STYLE = {"re-derived": "bold green", "value-bound": "green", "cited-only": "yellow", "unbound": "bold red"}


def inventory(
    directory: Path,
    /,
    *,
    json_: Annotated[bool, Parameter(name="--json", negative="", help="Print everything found as JSON.")] = False,
    all_: Annotated[bool, Parameter(name="--all", negative="", help="Print every item of a list, not 20.")] = False,
) -> int:
    """Say what a messy results folder holds, what is broken in it, and which printed numbers rest on data.

    Lists files, rows, torn lines, duplicate ids, missing doses and items, runs that never ended, and grades every
    number in Markdown as re-derived, value-bound, cited-only or unbound. Writes nothing and follows no link.

    Example: levercheck inventory results/
    """
    found = take_inventory(directory)
    if json_:
        print(json.dumps({"directory": str(directory), **found.to_dict()}))
        return 0
    shown = None if all_ else _SHOWN
    _print_files(found)
    _print_list("Rows", _row_lines(found), shown)
    _print_list("Arms", _arm_lines(found), shown)
    _print_list("Provenance records", _record_lines(found), shown)
    _print_claims(found, shown)
    _print_list("Notes", list(found.notes), shown)
    _print_list("To do", list(found.todo), None)
    return 0


def _print_files(found: Inventory) -> None:
    table = Table("kind", "files", "bytes", title="Files", title_justify="left", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for kind, (count, size) in found.kinds.items():
        table.add_row(clean(kind), f"{count:,}", f"{size:,}")
    output.print(table)


def _row_lines(found: Inventory) -> list[str]:
    lines = []
    for one in found.jsonl:
        faults = [
            "torn last line" * one.torn,
            counted(len(one.damaged), "damaged line") * bool(one.damaged),
            counted(one.duplicate_ids, "duplicate id") * bool(one.duplicate_ids),
            f"{counted(one.rows_without_id, 'row')} without id" * bool(one.rows_without_id),
        ]
        lines.append(f"{one.path}: {counted(one.rows, 'row')}, {', '.join(f for f in faults if f) or 'whole'}")
    return lines


def _arm_lines(found: Inventory) -> list[str]:
    lines = []
    for arm in found.arms:
        doses = ", ".join(repr(dose) for dose in arm.doses)
        gaps, elsewhere = sum(gap.missing for gap in arm.id_gaps), arm.items_of_siblings_missing
        faults = [
            f"missing doses {', '.join(repr(d) for d in arm.missing_doses)}" * bool(arm.missing_doses),
            counted(gaps, "missing item") * bool(gaps),
            f"{counted(len(arm.same_dose), 'dose')} in two files" * bool(arm.same_dose),
            f"no number as dose: {len(arm.not_numeric)}" * bool(arm.not_numeric),
            f"{counted(elsewhere, 'item')} only in sibling arms" * bool(elsewhere),
        ]
        faults_text = ", ".join(f for f in faults if f) or "whole"
        lines.append(f"{arm.folder}: doses {doses or 'none'}; {counted(arm.items, 'item')}; {faults_text}")
    return lines


def _record_lines(found: Inventory) -> list[str]:
    lines = []
    for one in found.sidecars:
        faults = [
            "not finished" * (not one.terminal),
            counted(one.absolute_paths, "absolute path") * bool(one.absolute_paths),
            f"names a machine or user ({', '.join(one.machine_fields)})" * bool(one.machine_fields),
            "no content hash" * (not one.content_hashes),
            "written from changed code" * one.dirty,
        ]
        lines.append(f"{one.path}: {one.status or 'no status'}; {', '.join(f for f in faults if f) or 'clean'}")
    return lines


def _print_claims(found: Inventory, shown: int | None) -> None:
    output.print(f"\nNumbers in Markdown: {len(found.claims)} graded", style="bold")
    for name, count in found.grades.items():
        output.print(f"  {name:<12} {count:>6}", style=_STYLE[name])
    if found.set_aside:
        aside = ", ".join(f"{count} {reason}" for reason, count in found.set_aside.items())
        output.print(f"  set aside as no claims: {aside}", style="dim", soft_wrap=True)
    lines = []
    for one in sorted(found.claims, key=lambda one: -list(_STYLE).index(one.grade)):
        why = "; ".join(text for text in ("; ".join(one.evidence), one.note) if text)
        where = f"{one.claim.path}:{one.claim.line}"
        lines.append(
            f"{one.grade:<11} {where}  {one.claim.text}  {why or 'nothing prints like this: ' + one.claim.context}"
        )
    _print_list("", lines, shown)


def _print_list(title: str, lines: list[str], shown: int | None) -> None:
    if not lines:
        return
    if title:
        output.print(f"\n{title}", style="bold")
    for line in lines[:shown]:
        output.print(f"  {clean(line.replace(chr(10), ' '))}", markup=False, soft_wrap=True)
    if shown is not None and len(lines) > shown:
        output.print(f"  ... and {len(lines) - shown} more (--all)", style="dim")
