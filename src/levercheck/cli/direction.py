"""`levercheck direction fit` and `levercheck direction show`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.markup import escape
from rich.table import Table

from levercheck.cli import fitting as fits
from levercheck.cli.console import clean, output
from levercheck.errors import NotEnoughDataError, UsageError

if TYPE_CHECKING:
    from levercheck.readouts.artifact import Artifact

SANITY = "sanity.jsonl"
app = cyclopts.App(name="direction", help="Residual directions from contrast data: fit one per layer, look at them.")


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
    seed: fits.SeedOption = 0,
    sanity: Annotated[
        bool, Parameter(negative="", help="Also write greedy answers under the direction, to see where text breaks.")
    ] = False,
    sanity_doses: Annotated[
        tuple[float, ...],
        Parameter(
            name="--sanity-dose",
            negative="",
            help="Relative dose of those answers, run with both signs; again for more.",
        ),
    ] = (0.1, 0.25, 0.5, 1.0),
    sanity_prompts: Annotated[int, Parameter(help="Held-out prompts of those answers.", validator=Number(gte=1))] = 8,
    sanity_tokens: Annotated[int, Parameter(help="Tokens per answer.", validator=Number(gte=1))] = 32,
    shuffled: fits.ShuffledOption = 0,
    dtype: fits.DtypeOption = "float32",
    device: fits.DeviceOption = None,
    json_: fits.JsonOption = False,
) -> int:
    """Fit a difference in means per layer, and measure on held-out groups how well it separates the labels.

    DATA is facts, a workspace of 'levercheck collect' with a split, or a .jsonl, .csv or .parquet file with prompt,
    label and, if wanted, answer, group, id and role. The layer is chosen by cross-validation on the part to fit on.

    Example: levercheck direction fit facts --limit 200 --position mean --out readouts/truth --sanity
    """
    if sanity and not (sanity_doses and all(0 < dose < math.inf for dose in sanity_doses)):
        raise UsageError("--sanity-dose: expected a positive finite number, both signs are run")
    request = fits.Request(
        "direction fit", data, model, form, position, positive, limit, held_out, folds, seed, dtype, device
    )
    with fits.fitting(request, out) as job:
        artifact, drawn = fitted(job, shuffled, (sanity_doses, sanity_prompts, sanity_tokens) if sanity else None)
    if json_:
        _json(artifact)
        return 0
    fits.print_data(dict(artifact.facts))
    _print(artifact, None)
    fits.print_path("readout", out)
    if drawn:
        fits.print_path("figure", out / fits.FIGURE)
    return 0


def fitted(
    job: fits.Fitting, shuffled: int, sanity: tuple[tuple[float, ...], int, int] | None
) -> tuple[Artifact, bool]:
    """Fit, write and return the readout, and whether its figure was drawn; `sanity` is doses, prompts and tokens."""
    from levercheck.publish.readout_maps import layers_svg
    from levercheck.readouts.contrast import groups_of, labels_of
    from levercheck.readouts.direction import direction_artifact, fit_direction, residuals, shuffled_artifact

    examples, request = job.data.examples, job.request
    with job.stages.stage("read activations", len(examples), "texts") as tick:
        features = residuals(job.lm, job.tokens, tick)
    with job.stages.stage("fit layers", job.lm.shape[0], "layers") as tick:
        found = fit_direction(features, labels_of(examples), groups_of(examples), job.parts, seed=request.seed)
        tick(job.lm.shape[0])
    facts, extra = job.facts(), {}
    if sanity is not None:
        summary, rows = _sanity(job, found, *sanity)
        facts["sanity"], extra[SANITY] = summary, fits.as_lines(rows)
    artifact = direction_artifact(found, facts)
    identity = {"model": job.lm.identity}
    refits = job.shuffled(shuffled, lambda labels: shuffled_artifact(features, labels, job.parts, identity))
    rows_of = _figure_rows(artifact)
    more = {"position": request.position, "sanity": sanity is not None, "shuffled": shuffled}
    return artifact, job.finish(artifact, lambda: layers_svg(rows_of, found.best), extra, more, refits)


@app.command
def show(
    folder: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    top: Annotated[
        int | None, Parameter(help="Only so many layers, best of the fit part first.", validator=Number(gte=1))
    ] = None,
    json_: fits.JsonOption = False,
) -> int:
    """Show how well each layer's direction separates the labels, and what chance reaches.

    Example: levercheck direction show readouts/truth --top 5
    """
    artifact = fits.loaded(folder, "direction")
    if "layers" not in artifact.facts:
        raise UsageError(f"the readout in '{folder}' was not fitted here: it records no separation to show")
    if json_:
        _json(artifact)
        return 0
    fits.print_data(dict(artifact.facts))
    _print(artifact, top)
    return 0


def _sanity(
    job: fits.Fitting, found: Any, doses: tuple[float, ...], prompts: int, tokens: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary for the readout's facts, and every answer."""
    from levercheck.sweep.sanity import corruption_doses, sanity, summaries

    held = [e for e, fit in zip(job.data.examples, job.parts.fit, strict=True) if not fit]
    asked = list(dict.fromkeys(e.prompt for e in held))[:prompts]
    if not asked:
        raise NotEnoughDataError("no held-out prompt to answer: give more examples")
    direction = found.mass.directions[found.best]
    plan = 2 + 2 * len(doses)
    with job.stages.stage("sanity answers", plan * len(asked), "rows") as tick:
        samples = sanity(
            job.lm,
            {found.best: direction},
            dict.fromkeys(range(job.lm.shape[0]), direction),
            [job.data.prompt(job.lm, prompt, job.form) for prompt in asked],
            asked,
            doses,
            max_new_tokens=tokens,
            tick=tick,
        )
    table = summaries(samples)
    summary = {
        "unit": "relative",
        "added_at": [found.best],
        "ablated_at": "all layers",
        "prompts": len(asked),
        "max_new_tokens": tokens,
        "doses": [
            {
                "operator": row.operator,
                "dose": row.dose,
                "broken": row.broken.to_dict(),
                "newly_broken": row.newly_broken.to_dict(),
                "relative_dose": row.relative_dose,
            }
            for row in table
        ],
        "corruption_dose": corruption_doses(table),
    }
    return summary, [{**asdict(sample), "marks": list(sample.marks)} for sample in samples]


def _figure_rows(artifact: Artifact) -> list[dict[str, Any]]:
    return [
        {
            "layer": row["layer"],
            "cv_auroc": row["cv_auroc"],
            "auroc": row["auroc"]["value"],
            "auroc_low": row["auroc"]["low"],
            "auroc_high": row["auroc"]["high"],
        }
        for row in artifact.facts["layers"]
    ]


def _json(artifact: Artifact) -> None:
    body = {"family": artifact.family, "fingerprint": artifact.fingerprint, **artifact.facts}
    print(json.dumps(body, ensure_ascii=False, allow_nan=False))


def _print(artifact: Artifact, top: int | None) -> None:
    facts = artifact.facts
    rows, best = list(facts["layers"]), facts["best_layer"]
    shown = sorted(rows, key=lambda r: -r["cv_auroc"])[:top] if top is not None else rows
    table = Table(title="Directions by layer", title_justify="left", show_edge=False)
    for column in ("layer", "AUROC, folds", "AUROC, held out \\[95 %]", "accuracy \\[95 %]"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in shown:
        table.add_row(
            f"{'* ' if row['layer'] == best else ''}{row['layer']}",
            f"{row['cv_auroc']:.3f}",
            fits.ends(row["auroc"]),
            fits.ends(row["accuracy"]),
        )
    output.print(table)
    chosen, folds = rows[best], facts["split"]["folds"]
    clusters = f", {chosen['auroc']['clusters']} groups" if chosen["auroc"].get("clusters") else ""
    output.print(
        f"* layer {best}: best on {folds} folds of the part to fit on. Held out: {chosen['auroc']['n']} texts{clusters}"
    )
    if chosen["cv_auroc"] <= 0.5:
        output.print("[yellow]no layer separates the labels on the folds: this direction says nothing[/yellow]")
    stable = chosen["stability"]
    output.print(
        f"fitted on halves of the examples, layer {best}: cosine {fits.ends(stable)} ({stable['resamples']} halvings); "
        f"labels {chosen['gap_in_sigma']:.2f} σ apart"
    )
    for name, what in (("random", "random directions"), ("shuffled", "shuffled labels")):
        chance = facts["references"][name]
        output.print(
            f"by chance at layer {best}, {what}: AUROC {chance['mean']:.3f}, 2.5 to 97.5 % {chance['low']:.3f} to "
            f"{chance['high']:.3f} ({chance['draws']} draws), p = {chance['p']:.3g}"
        )
    if "sanity" in facts:
        _print_sanity(facts["sanity"])


def _print_sanity(found: dict[str, Any]) -> None:
    table = Table(title="Greedy answers under the direction", title_justify="left", show_edge=False)
    for column in ("operator", "dose", "‖Δ‖/‖h‖", "broken \\[95 %]", "newly broken \\[95 %]"):
        table.add_column(column, justify="left" if column == "operator" else "right")
    for row in found["doses"]:
        measured = row["relative_dose"]
        table.add_row(
            escape(clean(row["operator"])),
            f"{row['dose']:g}",
            "" if measured is None else f"{measured:.3g}",
            fits.ends(row["broken"]),
            fits.ends(row["newly_broken"]),
        )
    output.print(table)
    ends = found["corruption_dose"]
    shown = ", ".join("none" if ends[side] is None else f"{ends[side]:+g}" for side in ("positive", "negative"))
    output.print(
        f"{found['prompts']} prompts. Doses that break half of the answers or more: {shown}. The answers: {SANITY}"
    )
