"""The page of a study's levers and the terminal: nothing unmarked, nothing dropped, no text that commands."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import polars as pl

from levercheck.audit.lever_effects import lever_effects
from levercheck.cli.console import output
from levercheck.cli.run import _print
from levercheck.publish.lever_report import lever_report
from levercheck.publish.readout_report import report_html, report_markdown

planted = run_path(str(Path(__file__).parents[1] / "audit" / "test_lever_effects.py"))
SPEC, study = planted["SPEC"], planted["study"]
HOSTILE = "<script>alert(1)</script> [/b] \x1b[31m"


def material(role="tune", **changes):
    audit = lever_effects(study(60, broken=10).with_columns(role=pl.lit(role)), SPEC)
    return {"spec": {**SPEC, "study": HOSTILE}, "audit": audit, "model": {"name": HOSTILE}, **changes}


def test_an_exploration_is_not_headlined_as_a_confirmation():
    assert "items that choices may rest on" in lever_report(material()).headline
    assert "items that choices may rest on" not in lever_report(material("confirm")).headline


def test_looking_at_many_is_said_and_items_left_out_are_counted():
    page = report_markdown(lever_report(material()), {})
    assert "nothing is corrected for how many" in page
    assert "10 items without an outcome in some arm left out" in page


def test_hostile_text_stays_text():
    page = report_html(lever_report(material()), {})
    assert "<script>alert" not in page and "\x1b" not in page


def test_the_terminal_names_controls_and_survives_odd_paths():
    audit = lever_effects(study(60), SPEC)
    with output.capture() as shown:
        _print(audit, Path("runs/[/b]\x1b[31m"), 1.0)
    text = shown.get()
    assert "runs/[/b]" in text and "\x1b[31m" not in text
    assert "random" in text and "95 % intervals" in text
