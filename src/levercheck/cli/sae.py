"""`levercheck sae inspect`, `levercheck sae train` and `levercheck sae fit`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter
from cyclopts.validators import Number
from rich.markup import escape
from rich.table import Table

from levercheck.cli import fitting as fits
from levercheck.cli.console import Stages, clean, output
from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence.files import write_json
from levercheck.evidence.folder import claimed

if TYPE_CHECKING:
    from levercheck.lm.model import LanguageModel
    from levercheck.lm.saes.sae import Sae
    from levercheck.readouts.artifact import Artifact
    from levercheck.readouts.sae_preflight import Preflight

app = cyclopts.App(
    name="sae", help="Sparse autoencoders: look at one, train a small one, fit a readout on its features."
)
REPORT = "preflight.json"
HELD_OUT, MEASURED = 10, 64  # one passage of ten is not trained on, at most so many
STYLES = {"pass": "bold green", "warn": "bold yellow", "fail": "bold red"}
_LINES = {
    "explained": "variance explained",
    "cosine": "cosine of reconstruction",
    "length": "length of reconstruction",
    "l0": "latents on per token",
    "dead": "latents on nowhere",
    "nll_clean": "loss, untouched",
    "nll_spliced": "loss, reconstructed",
    "nll_zero": "loss, zeroed",
    "recovered": "loss recovered",
    "recovered_everywhere": "loss recovered, every position",
}
SaeOption = Annotated[
    str, Parameter(name="--sae", help="The dictionary: a folder, or hf:owner/repo:folder; any known format.")
]
SiteOption = Annotated[
    str | None, Parameter(help="The site it is for, e.g. L14.resid.post, where its files do not say.")
]
TextOption = Annotated[
    Path | None, Parameter(help="Text with one passage per line; default the embedded facts as text.")
]


@app.command
def inspect(
    path: str,
    /,
    *,
    site: SiteOption = None,
    model: Annotated[
        str | None, Parameter(help="Reconstruct this model's activations, to see whether it fits.")
    ] = None,
    text: TextOption = None,
    sequences: Annotated[int, Parameter(help="Passages to reconstruct.", validator=Number(gte=2))] = 64,
    dtype: fits.DtypeOption = "float32",
    device: fits.DeviceOption = None,
    json_: fits.JsonOption = False,
) -> int:
    """Say what a dictionary is and, with a model, whether it reconstructs that model's activations.

    PATH is a folder or hf:owner/repo:folder in the format of Gemma Scope 1 or 2, SAELens, sparsify, dictionary_learning
    or this program. The exit code is 1 where the verdict is fail.

    Example: levercheck sae inspect saes/facts-L15 --model embedded:smollm2-135m
    """
    from levercheck.lm.saes.formats import load_sae

    if model is None and text is not None:
        raise UsageError("--text is reconstructed by a model: give --model too")
    sae = load_sae(path, site)
    found = None
    if model is not None:
        stages = Stages()
        passages = _passages(text, sequences, 0)
        lm = _load(model, dtype, device, stages)
        found = _preflight(lm, sae, [lm.start_ids + lm.encode(passage) for passage in passages], stages)
    if json_:
        print(json.dumps({**describe(sae), **_part(found)}, allow_nan=False))
    else:
        _print_sae(sae)
        if found is not None:
            _print_preflight(found)
    return 1 if found is not None and found.verdict == "fail" else 0


@app.command
def train(
    *,
    site: Annotated[str, Parameter(help="Where, e.g. L15.resid.post or L15.mlp.out.")],
    out: Annotated[Path, Parameter(help="New folder for the dictionary.")],
    model: fits.ModelOption = fits.DEFAULT_MODEL,
    text: TextOption = None,
    sequences: Annotated[int | None, Parameter(help="Use only so many passages.", validator=Number(gte=20))] = None,
    latents: Annotated[int, Parameter(help="Size of the dictionary.", validator=Number(gte=1))] = 4096,
    k: Annotated[int, Parameter(help="Latents on per token.", validator=Number(gte=1))] = 32,
    steps: Annotated[int, Parameter(help="Updates of 512 tokens each.", validator=Number(gte=1))] = 400,
    seed: Annotated[int, Parameter(help="Seed of every draw.", validator=Number(gte=0, lt=2**32))] = 0,
    dtype: fits.DtypeOption = "float32",
    device: fits.DeviceOption = None,
    json_: fits.JsonOption = False,
) -> int:
    """Train a small top-k dictionary on a model's activations, and measure it on passages it was not trained on.

    The default text is the embedded facts: such a dictionary is good for comparisons on those facts, not in general.

    Example: levercheck sae train --site L15.resid.post --out saes/facts-L15
    """
    from levercheck.evidence.splits import shuffled
    from levercheck.lm.places import parse_site, place
    from levercheck.lm.saes.stored import FACTS, save_sae
    from levercheck.readouts.sae_train import Recipe, train_sae

    where = parse_site(site)
    _refuse(out, FACTS)
    stages = Stages()
    with claimed(out, FACTS):
        _refuse(out, FACTS)
        passages = _passages(text, sequences, seed)
        order = shuffled([str(i) for i in range(len(passages))], seed, "held out")
        held = {int(i) for i in order[: min(MEASURED, max(2, len(order) // HELD_OUT))]}
        lm = _load(model, dtype, device, stages)
        place(lm, where)  # a site that is not there is refused before any work
        ids = [lm.start_ids + lm.encode(passage) for passage in passages]
        own = [s for i, s in enumerate(ids) if i not in held and s]
        sae = train_sae(lm, where, own, Recipe(latents, k, steps, seed), stages)
        found = _preflight(lm, sae, [ids[i] for i in sorted(held)], stages)
        write_json(out / REPORT, found.to_dict())
        save_sae(sae, out)
    if json_:
        print(json.dumps({**describe(sae), **_part(found)}, allow_nan=False))
    else:
        _print_sae(sae)
        _print_preflight(found)
        fits.print_path("written to", out)
    return 1 if found.verdict == "fail" else 0


@app.command
def fit(
    data: str,
    /,
    *,
    sae: SaeOption,
    out: fits.OutOption,
    site: SiteOption = None,
    model: fits.ModelOption = fits.DEFAULT_MODEL,
    form: fits.FormOption = "auto",
    position: fits.PositionOption = "mean",
    positive: fits.PositiveOption = None,
    limit: fits.LimitOption = None,
    held_out: fits.ShareOption = 0.3,
    folds: fits.FoldsOption = 5,
    c: Annotated[tuple[float, ...], Parameter(name="--C", negative="", help="Value of C to try; again for more.")] = (),
    seed: fits.SeedOption = 0,
    dtype: fits.DtypeOption = "float32",
    device: fits.DeviceOption = None,
    json_: fits.JsonOption = False,
) -> int:
    """Fit a sparse classifier on dictionary features, and store it with its dictionary as a readout.

    DATA is facts, a workspace of 'levercheck collect' with a split, or a .jsonl, .csv or .parquet file with prompt,
    label and, if wanted, answer, group, id and role. Features are averages over the answer; C is chosen on folds of the
    part to fit on, and AUROC is that of the held-out part.

    Example: levercheck sae fit facts --limit 300 --sae saes/facts-L15 --out readouts/truth-sae
    """
    from levercheck.lm.saes.formats import load_sae
    from levercheck.readouts.contrast import groups_of, labels_of
    from levercheck.readouts.sae_features import GRID, fit_latents, keep_dictionary, latent_means, sae_artifact

    if not all(0 < value < math.inf for value in c):
        raise UsageError("--C: expected positive finite numbers")
    dictionary = load_sae(sae, site)
    request = fits.Request(
        "sae fit", data, model, form, position, positive, limit, held_out, folds, seed, dtype, device
    )
    with fits.fitting(request, out) as job:
        examples = job.data.examples
        with job.stages.stage("read features", len(examples), "texts") as tick:
            features = latent_means(job.lm, dictionary, job.tokens, tick)
        grid = tuple(sorted(set(c))) or GRID
        with job.stages.stage("fit classifier", job.parts.count + 1, "fits") as tick:
            found = fit_latents(features, labels_of(examples), groups_of(examples), job.parts, cs=grid)
            tick(job.parts.count + 1)
        artifact = sae_artifact(found, dictionary, job.facts())
        kept = keep_dictionary(dictionary, out)
        more = {"position": position, "C": list(grid), "sae": dictionary.fingerprint}
        job.finish(artifact, None, {}, more, kept)
    if json_:
        body = {"family": artifact.family, "fingerprint": artifact.fingerprint, **artifact.facts}
        print(json.dumps({**body, "features": _rows(artifact)}, allow_nan=False))
        return 0
    fits.print_data(dict(artifact.facts))
    _print_readout(artifact)
    fits.print_path("readout", out)
    return 0


def describe(sae: Sae) -> dict[str, Any]:
    """What a dictionary is, as plain data."""
    return {
        "site": str(sae.site),
        "kind": sae.kind,
        "width": sae.width,
        "latents": sae.latents,
        "k": sae.k,
        "centred": sae.centred,
        "scale": sae.scale,
        "fingerprint": sae.fingerprint,
        "facts": sae.facts,
    }


def _passages(text: Path | None, limit: int | None, seed: int) -> list[str]:
    """Lines of a file, or the embedded facts; with a limit, a seeded draw of them."""
    from levercheck.benchmarks.passages import fact_passages
    from levercheck.evidence.splits import shuffled

    if text is None:
        found = fact_passages(seed)
    else:
        if not text.is_file():
            raise UsageError(f"no file at '{text}', expected text with one passage per line")
        try:
            found = [line.strip() for line in text.read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise UsageError(f"'{text.name}' is not UTF-8 text: expected one passage per line") from None
    if limit is not None:
        drawn = shuffled([str(i) for i in range(len(found))], seed, "passages drawn")[:limit]
        found = [found[i] for i in sorted(map(int, drawn))]
    if len(found) < 2:
        raise NotEnoughDataError(f"{len(found)} passages, expected at least 2: give a text with one per line")
    return found


def _load(model: str, dtype: str, device: str | None, stages: Stages) -> LanguageModel:
    from levercheck.evidence.provenance import model_label
    from levercheck.lm.model import load_model

    stages.notify(f"loading {model_label(model)}")
    return load_model(model, dtype=dtype, device=device, notify=stages.notify)


def _preflight(lm: LanguageModel, sae: Sae, sequences: list[list[int]], stages: Stages) -> Preflight:
    from levercheck.readouts.sae_preflight import check_width, preflight

    check_width(lm, sae)
    with stages.stage("reconstruct", len(sequences), "texts") as tick:
        return preflight(lm, sae, sequences, tick=tick)


def _refuse(out: Path, marker: str) -> None:
    if (out / marker).exists():
        raise UsageError(f"'{out}' holds a finished dictionary: give --out a new folder, or move that one away")


def _part(found: Preflight | None) -> dict[str, Any]:
    return {} if found is None else {"preflight": found.to_dict()}


def _print_sae(sae: Sae) -> None:
    kind = f"topk, k = {sae.k}" if sae.kind == "topk" else sae.kind
    output.print(f"dictionary at {sae.site}: {sae.latents} latents, {sae.width} wide, {kind}")
    known = {"format": sae.facts.get("format"), "made for": sae.facts.get("model_name")}
    if isinstance(sae.facts.get("model"), dict):
        known["made for"] = sae.facts["model"].get("name")
    known |= {"input": "centred" if sae.centred else "as it is", "scale": f"{sae.scale:.4g}"}
    known["fingerprint"] = sae.fingerprint[:12]
    output.print(", ".join(f"{name} {escape(clean(str(value)))}" for name, value in known.items() if value is not None))


def _print_preflight(found: Preflight) -> None:
    table = Table(title="Reconstruction of this model's activations", title_justify="left", show_edge=False)
    for column in ("", "value \\[95 %]", "unit"):
        table.add_column(column, justify="left" if column != "value \\[95 %]" else "right", no_wrap=True)
    for name, title in _LINES.items():
        estimate = found.estimates[name]
        table.add_row(title, fits.area(estimate.value, estimate.low, estimate.high), escape(estimate.unit))
    output.print(table)
    output.print(
        f"{found.tokens} tokens of {found.facts['sequences']} texts; left out: {found.first} first positions, "
        f"{found.long} unusually long activations. Interval of latents on nowhere: over latents; others: over texts"
    )
    output.print(f"[{STYLES[found.verdict]}]{found.verdict}[/]: " + escape("; ".join(found.reasons)))


def _rows(artifact: Artifact) -> list[dict[str, Any]]:
    """Latents by the size of their weight."""
    pairs = zip(artifact.arrays["latents"].tolist(), artifact.arrays["weights"].tolist(), strict=True)
    return [{"latent": latent, "weight": weight} for latent, weight in sorted(pairs, key=lambda pair: -abs(pair[1]))]


def _print_readout(artifact: Artifact) -> None:
    facts, rows = artifact.facts, _rows(artifact)
    area = facts["estimates"]["auroc"]
    clusters = f", {area['clusters']} groups" if area.get("clusters") else ""
    output.print(f"AUROC {fits.ends(area)} on {area['n']} held-out texts{clusters}; C = {facts['C']:g} by the folds")
    output.print(
        f"{len(rows)} of {facts['latents']} latents have a weight, {facts['positive']} towards label 1 "
        f"({facts['candidates']} were on often enough)"
    )
    table = Table(title="Heaviest latents", title_justify="left", show_edge=False)
    for column in ("latent", "weight per σ"):
        table.add_column(column, justify="right")
    for row in rows[:10]:
        table.add_row(str(row["latent"]), f"{row['weight']:+.3f}")
    output.print(table)
