"""`levercheck heads fit` and `levercheck heads show`."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.table import Table

from levercheck.cli import fitting as fits
from levercheck.cli.console import output
from levercheck.errors import UsageError

if TYPE_CHECKING:
    from levercheck.cli.contrast_data import Data
    from levercheck.readouts.artifact import Artifact
    from levercheck.readouts.contrast import Split

app = cyclopts.App(name="heads", help="Attention heads from contrast data: probe every head, rank them, look at them.")
By = Literal["auroc", "balanced_accuracy", "gradient", "random", "layer_matched_random"]
Ranking = Literal["auroc", "balanced_accuracy", "gradient"]


@app.command
def fit(
    data: str,
    /,
    *,
    out: fits.OutOption,
    model: fits.ModelOption = fits.DEFAULT_MODEL,
    form: fits.FormOption = "auto",
    position: fits.PositionOption = "last",
    positive: fits.PositiveOption = None,
    limit: fits.LimitOption = None,
    held_out: fits.ShareOption = 0.3,
    folds: fits.FoldsOption = 5,
    c: Annotated[
        float, Parameter(name="--C", help="Inverse strength of the probes' ridge.", validator=Number(gt=0, lt=math.inf))
    ] = 1.0,
    gradient: Annotated[
        Literal["auto", "last_prompt", "all", "off"],
        Parameter(help="Causal ranks by gradient x activation at the last prompt token, or over all positions."),
    ] = "auto",
    seed: fits.SeedOption = 0,
    shuffled: fits.ShuffledOption = 0,
    dtype: fits.DtypeOption = "float32",
    device: fits.DeviceOption = None,
    json_: fits.JsonOption = False,
) -> int:
    """Fit a probe and a mass-mean direction per attention head, and rank heads by what they tell or what they do.

    DATA is facts, a workspace of 'levercheck collect' with a split, or a .jsonl, .csv or .parquet file with prompt,
    label and, if wanted, answer, group, id and role. Ranks rest on the part to fit on; the held-out part is reported.
    Gradient ranks need answers of both labels to one prompt; auto measures them where there are some.

    Example: levercheck heads fit facts --limit 200 --out readouts/truth-heads
    """
    request = fits.Request(
        "heads fit", data, model, form, position, positive, limit, held_out, folds, seed, dtype, device
    )

    def check(found: Data, parts: Split) -> None:
        if gradient in ("last_prompt", "all") and not _paired(found, parts):
            raise UsageError(
                f"--gradient {gradient} compares answers of both labels to one prompt, and the data have none to fit "
                "on: use --gradient off"
            )

    with fits.fitting(request, out, check) as job:
        artifact, drawn, left_out = fitted(job, c, gradient, shuffled)
    rows = table_rows(artifact, "auroc")
    if json_:
        _json(artifact, rows, {"grid": _grid(artifact)})
        return 0
    fits.print_data(dict(artifact.facts))
    _print_heads(artifact, rows[:10], "Heads by AUROC on the folds", False)
    if rows[0]["cv_auroc"] <= 0.5:
        output.print("[yellow]no head separates the labels on the folds: this ranking says nothing[/yellow]")
    if artifact.facts["gradient"] is not None:
        _print_heads(artifact, table_rows(artifact, "gradient")[:10], "Heads by gradient", True)
    _print_grid(artifact)
    if left_out:
        output.print(f"left out, both labels have one mean: {', '.join(f'{a}:{b}' for a, b in left_out)}")
    fits.print_path("readout", out)
    if drawn:
        fits.print_path("figure", out / fits.FIGURE)
    return 0


def fitted(
    job: fits.Fitting, c: float, gradient: Literal["auto", "last_prompt", "all", "off"], shuffled: int
) -> tuple[Artifact, bool, Sequence[tuple[int, int]]]:
    """Fit, write and return the readout, whether its figure was drawn, and the heads that were left out."""
    from levercheck.publish.readout_maps import heads_svg
    from levercheck.readouts.contrast import groups_of, labels_of
    from levercheck.readouts.head_gradients import head_effects
    from levercheck.readouts.heads import continuations, fit_heads, head_activations, heads_artifact

    examples = job.data.examples
    with job.stages.stage("read activations", len(examples), "texts") as tick:
        features = head_activations(job.lm, job.tokens, tick)
    with job.stages.stage("fit probes", job.parts.count + 1, "fits") as tick:
        found = fit_heads(
            features, labels_of(examples), groups_of(examples), job.parts, c=c, device=job.lm.device, tick=tick
        )
    effects = None
    where: Literal["last_prompt", "all"] = "all" if gradient == "all" else "last_prompt"
    if gradient != "off" and _paired(job.data, job.parts):
        sides = continuations(job.lm, examples, job.form, job.parts.fit)
        with job.stages.stage("gradients", len(sides), "texts") as tick:
            effects = head_effects(job.lm, sides, where=where, tick=tick)
    else:
        job.stages.notify("no gradient ranks: no prompt has answers of both labels, or they were turned off")
    facts = {**job.facts(), "C": c, "gradient": None if effects is None else where}
    artifact = heads_artifact(found, facts, effects)
    rows = table_rows(artifact, "auroc")
    more = {"position": job.request.position, "C": c, "gradient": facts["gradient"], "shuffled": shuffled}
    refits = job.shuffled(
        shuffled,
        lambda labels: heads_artifact(
            fit_heads(features, labels, groups_of(examples), job.parts, c=c, device=job.lm.device),
            {"model": job.lm.identity, "labels": "shuffled"},
        ),
    )
    return artifact, job.finish(artifact, lambda: heads_svg(rows), {}, more, refits), found.left_out


@app.command
def show(
    folder: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    by: Annotated[By, Parameter(help="Ranking, or a random draw outside the target's first K.")] = "auroc",
    k: Annotated[int, Parameter(help="How many heads.", validator=Number(gte=1))] = 16,
    seed: Annotated[int, Parameter(help="Seed of a random draw.", validator=Number(gte=0, lt=2**32))] = 0,
    target: Annotated[Ranking, Parameter(help="Ranking whose first K a random draw is matched to.")] = "auroc",
    json_: fits.JsonOption = False,
) -> int:
    """Show the heads that a selection would move, with their held-out separation, effect and σ.

    Example: levercheck heads show readouts/truth-heads --by gradient --k 16
    """
    from levercheck.readouts.head_selection import DRAWN, head_interventions, select_heads

    artifact = fits.loaded(folder, "heads")
    chosen = select_heads(artifact, k, by, seed, target=target)
    budget = select_heads(artifact, k, target) if by in DRAWN else None
    moved = head_interventions(artifact, chosen, budget=budget)
    every = {(row["layer"], row["head"]): row for row in table_rows(artifact, None)}
    rows = [{**every[head], "sigma_used": float(s)} for head, s in zip(chosen, moved.sigmas, strict=True)]
    total = float(moved.sigmas.sum(dtype="float64"))
    if json_:
        _json(
            artifact, rows, {"by": by, "k": k, "seed": seed, "target": target if budget else None, "sigma_total": total}
        )
        return 0
    _print_heads(artifact, rows, f"{k} heads by {by.replace('_', ' ')}", by == "gradient")
    matched = f", matched to that of the first {k} by {target.replace('_', ' ')}" if budget else ""
    output.print(f"σ in all {total:.4g}{matched}")
    return 0


def table_rows(artifact: Artifact, by: str | None) -> list[dict[str, Any]]:
    """Every head with its numbers, in the order of a ranking or of (layer, head)."""
    from levercheck.readouts.head_selection import ranked

    arrays = artifact.arrays
    names = [
        name
        for name in (
            "cv_auroc",
            "cv_balanced_accuracy",
            "auroc",
            "balanced_accuracy",
            "direction_auroc",
            "gradient",
            "sigma",
        )
        if name in arrays
    ]
    rows = {}
    for i, (layer, head) in enumerate(zip(arrays["layers"].tolist(), arrays["heads"].tolist(), strict=True)):
        row: dict[str, Any] = {"layer": layer, "head": head}
        for name in names:
            for end in ("", "_low", "_high"):
                if name + end in arrays:
                    value = float(arrays[name + end][i])
                    row[name + end] = value if math.isfinite(value) else None
        rows[layer, head] = row
    order = sorted(rows) if by is None else ranked(artifact, by)
    return [rows[head] for head in order]


def _paired(data: Data, parts: Split) -> bool:
    sides: dict[str, set[int]] = {}
    for example, inside in zip(data.examples, parts.fit, strict=True):
        if inside and example.answer and data.recorded is None:
            sides.setdefault(example.prompt, set()).add(example.label)
    return any(len(labels) == 2 for labels in sides.values())


def _grid(artifact: Artifact) -> list[dict[str, Any]]:
    """What each published K would take: per ranking its layers, σ and overlap with the AUROC ranking."""
    from levercheck.readouts.head_selection import (
        RANKINGS,
        head_interventions,
        k_grid,
        layer_matched_exist,
        select_heads,
    )

    found = []
    for k in k_grid(artifact):
        first = select_heads(artifact, k, "auroc")
        for by in RANKINGS:
            if by == "gradient" and "gradient" not in artifact.arrays:
                continue
            heads = select_heads(artifact, k, by)
            found.append(
                {
                    "k": k,
                    "by": by,
                    "layers": len({layer for layer, _ in heads}),
                    "sigma_total": float(head_interventions(artifact, heads).sigmas.sum(dtype="float64")),
                    "also_by_auroc": len(set(heads) & set(first)),
                    "layer_matched_draws": layer_matched_exist(artifact, k, by),
                }
            )
    return found


def _json(artifact: Artifact, rows: list[dict[str, Any]], more: dict[str, Any]) -> None:
    body = {"family": artifact.family, "fingerprint": artifact.fingerprint, **artifact.facts, **more, "heads": rows}
    print(json.dumps(body, ensure_ascii=False, allow_nan=False))


def _print_heads(artifact: Artifact, rows: list[dict[str, Any]], title: str, causal: bool) -> None:
    """A table with the balanced accuracy, or with the gradient instead."""
    table = Table(title=title, title_justify="left", show_edge=False)
    third = ("gradient", "gradient, nat/token") if causal else ("balanced_accuracy", "balanced accuracy")
    for column in ("head", "AUROC, folds", "AUROC, held out \\[95 %]", f"{third[1]} \\[95 %]", "σ"):
        table.add_column(column, justify="left" if column == "head" else "right")
    for row in rows:
        cells = (f"{row['layer']}:{row['head']}", f"{row['cv_auroc']:.3f}", _cell(row, "auroc"), _cell(row, third[0]))
        table.add_row(*cells, f"{row.get('sigma_used', row['sigma']):.3g}")
    output.print(table)
    judged = artifact.facts["estimates"]["gradient" if causal else "auroc"]
    clusters = f" in {judged['clusters']} groups" if judged["clusters"] else ""
    kind = "prompts of the part to fit on" if causal else "held-out examples"
    output.print(f"{judged['n']} {kind}{clusters}; an interval is for one head, not for the best of many")


def _cell(row: dict[str, Any], name: str) -> str:
    return fits.area(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _print_grid(artifact: Artifact) -> None:
    table = Table(title="How many heads", title_justify="left", show_edge=False)
    for column in ("K", "by", "layers", "σ in all", "also by auroc", "layer-matched"):
        table.add_column(column, justify="left" if column == "by" else "right")
    for row in _grid(artifact):
        table.add_row(
            str(row["k"]),
            row["by"].replace("_", " "),
            str(row["layers"]),
            f"{row['sigma_total']:.4g}",
            str(row["also_by_auroc"]),
            "yes" if row["layer_matched_draws"] else "no",
        )
    output.print(table)
    output.print("layer-matched: whether every layer has enough other heads for a random draw of the same profile")
