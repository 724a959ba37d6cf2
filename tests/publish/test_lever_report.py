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
answered = run_path(str(Path(__file__).parents[1] / "audit" / "test_lever_responses.py"))
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
    assert "10 items without an outcome in the lever or any draw left out" in page


def test_outcomes_that_draws_lack_are_counted():
    lost = (pl.col("control") == "random") & (pl.col("item_id") == "i0007") & (pl.col("draw") < 2)
    table = study(60).with_columns(positive=pl.when(lost).then(None).otherwise("positive"))
    page = report_markdown(lever_report({**material(), "audit": lever_effects(table, SPEC)}), {})
    assert "random, 20 draws, 2 outcomes of draws missing" in page
    assert "outcomes of draws missing" not in report_markdown(lever_report(material()), {})


def test_rows_that_a_noop_changed_are_a_violated_check():
    def check(table):
        page = report_markdown(lever_report({**material(), "audit": lever_effects(table, SPEC)}), {})
        row = next(one for one in page.splitlines() if "rows that hooks at their no-op dose changed" in one)
        return row.split("|")[2].strip(), row.split("|")[3].split()[-1]

    table, noop = study(60), (pl.col("lever") == "noop") & (pl.col("item_id") == "i0003")
    assert check(table) == ("0", "met")
    assert check(table.with_columns(text=pl.when(noop).then(pl.lit("x")).otherwise("text"))) == ("2", "violated")
    assert check(table.filter(pl.col("lever") != "noop"))[1] == "missing"


def test_the_test_of_flips_is_named():
    arm, frame, base, spec = (answered[name] for name in ("arm", "frame", "BASE", "SPEC"))
    after = base[::-1]
    for clusters, test in (({}, "exact McNemar"), ({"cluster_id": [f"c{n // 10}" for n in range(100)]}, "arms of ent")):
        audit = lever_effects(frame(arm("baseline", base, **clusters), arm("push", after, dose=2.0, **clusters)), spec)
        (flips,) = (one["changes"]["flips"] for one in audit["responses"] if one["lever"] == "push")
        page = report_markdown(lever_report({**material(), "spec": spec, "audit": audit}), {})
        assert f"{flips['up']} to 1, {flips['down']} to 0, of {flips['n']}; p " in page and f"({test}" in page


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
