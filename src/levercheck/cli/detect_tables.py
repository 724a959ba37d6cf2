"""What the commands of the H-neuron pipeline print."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from rich.table import Table

from levercheck.cli.console import clean, output
from levercheck.stats import Estimate


def show(as_json: bool, results: dict[str, Any], draw: Callable[[], None]) -> int:
    """Print results as JSON or draw them; returns exit code 0."""
    if as_json:
        print(json.dumps(results, ensure_ascii=False))
    else:
        draw()
    return 0


def interval(record: dict[str, Any], scale: float = 1.0, digits: int = 2) -> str:
    """`value [low, high]` of an estimate's record."""
    e = Estimate.from_dict(record)
    if e.value is None:
        return f"not estimable ({e.note})" if e.note else "not estimable"
    value, *ends = (None if v is None else f"{v * scale:.{digits}f}" for v in (e.value, e.low, e.high))
    return f"{value}" if None in ends else f"{value} [{ends[0]}, {ends[1]}]"


def table(title: str, *columns: str) -> Table:
    """An empty table in the house style."""
    shown = Table(title=title, title_justify="left", show_edge=False)
    for column in columns:
        shown.add_column(column)
    return shown


def funnel(results: dict[str, Any]) -> None:
    """What became of the questions by the ruler, and how far a judge, whose verdicts then count, agrees with it."""
    shown = table(f"{results['questions']} questions", "all samples", "% of questions [95 % interval]")
    for label, record in results["labels"].items():
        shown.add_row(label, interval(record, 100, 1))
    output.print(shown)
    output.print(f"  labels by the ruler {clean(str(results['ruler']))}", markup=False, soft_wrap=True)
    judge = results.get("judge")
    if judge is None:
        return
    agreed = table("Distinct answers by judge and ruler", "judge", "ruler", "answers")
    for row in judge["table"]:
        agreed.add_row(str(row["judge"]), str(row["ruler"]), str(row["answers"]))
    output.print(agreed)
    output.print(
        f"  later stages take their labels from the judge {clean(str(judge['model']))}: {judge['distinct_answers']} "
        f"distinct answers, kappa with the ruler {interval(judge['kappa_with_ruler'])}",
        markup=False,
        soft_wrap=True,
    )


def spans(results: dict[str, Any]) -> None:
    """How spans were found, per label."""
    shown = table("Answer spans, % of responses [95 % interval]", "", "right", "wrong")
    for name in results["per_label"]["right"]:
        shown.add_row(name, *(interval(results["per_label"][label][name], 100, 1) for label in ("right", "wrong")))
    output.print(shown)
    for reason, count in results["reasons"].items():
        output.print(f"  {count} without a span: {clean(reason)}", markup=False)


def split(results: dict[str, Any]) -> None:
    """Counts of the roles and what they share."""
    shown = table("Roles", "role", "right", "wrong", "groups", "answers")
    for role, counts in results["roles"].items():
        shown.add_row(role, *(str(counts[k]) for k in ("right", "wrong", "groups", "answers")))
    output.print(shown)
    shared = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in results["shared"].items())
    output.print(f"  shared by train and test: {shared}", soft_wrap=True)
    for reason, count in results["reserve"].items():
        output.print(f"  {count} in reserve: {clean(reason)}", markup=False)


def probe(results: dict[str, Any]) -> None:
    """Test and training performance, and the C path."""
    n, clusters = results["test"]["auroc"]["n"], results["test"]["auroc"]["clusters"]
    chosen = next(row for row in results["path"] if row["c"] == results["c"])
    shown = table(
        f"Readout: {chosen['positive']} H-neurons of {chosen['nonzero']} weights, C = {results['c']:g}",
        "",
        f"test [95 % interval], n = {n}, {clusters} groups",
        "training",
    )
    for name in ("auroc", "accuracy", "precision", "recall", "f1"):
        shown.add_row(name, interval(results["test"][name]), interval(results["train"][name]))
    output.print(shown)
    path = table("C path", "C", "out-of-fold AUROC (sd of folds)", "weights", "positive", "KKT residual")
    for row, fit in zip(results["c_grid"], results["path"], strict=True):
        area = f"{row['mean_fold_auroc']:.3f} ({row['sd']:.3f})"
        path.add_row(f"{row['c']:g}", area, str(fit["nonzero"]), str(fit["positive"]), f"{fit['kkt_residual']:.0e}")
    output.print(path)
    if results["c_is_the_largest_tried"] and len(results["c_grid"]) > 1:
        output.print("  the best C is the largest that was tried: --c can name larger ones", style="yellow")


def audit(results: dict[str, Any]) -> None:
    """What every check shows, and the numbers behind it."""
    shown = table("Readout audit: what the test role shows", "check", "", "")
    for name, word in results["checks"].items():
        shown.add_row(name, word, clean(results["not_applicable"].get(name, "")))
    output.print(shown)
    detector = results["detector"]["auroc"]
    rows = table(
        f"AUROC on {detector['n']} test items, {detector['clusters']} {results['cluster_unit']}s",
        "score",
        "AUROC [95 % interval]",
        "probe minus it",
    )
    rows.add_row("probe", interval(detector), "")
    for name, entry in results["baselines"].items():
        if "auroc" in entry:
            rows.add_row(name, interval(entry["auroc"]), interval(entry["probe_minus_baseline"]))
        else:
            rows.add_row(name, clean(str(entry.get("absent", "absent"))), "")
    output.print(rows)
    moved = table(
        "What moves the score: designed responses", "over the response", "length d_z", "truth d_z", "|length| - |truth|"
    )
    for reduce, found in results.get("verbosity", {}).get("effects", {}).items():
        if isinstance(found, dict) and "score" in found:
            moved.add_row(reduce, *(interval(found["score"][k]) for k in ("length", "truth", "dominance")))
    if moved.row_count:
        output.print(moved)
    for line in results.get("report", [])[:1]:
        output.print(f"report {clean(line)}", markup=False, soft_wrap=True)
