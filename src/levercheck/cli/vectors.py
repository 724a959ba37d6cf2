"""`levercheck import-vector` and `levercheck export-vector`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.table import Table

from levercheck.cli.console import Stages, clean, output
from levercheck.cli.lever_options import DtypeOption
from levercheck.errors import UsageError

Layers = Annotated[
    tuple[int, ...] | None,
    Parameter(name="--layer", negative="", help="Block (from 0) to take; again for more. Default all in the file."),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print what was done as JSON on stdout.")]
RECORD = ".levercheck.json"


def import_vector(
    file: Annotated[Path, Parameter(name="FILE")],
    /,
    *,
    model: Annotated[str, Parameter(help="The model it was made for: embedded:NAME, gguf:PATH, a directory or an id.")],
    out: Annotated[Path, Parameter(help="New directory for the intervention.")],
    layer: Layers = None,
    unit: Annotated[
        Literal["absolute", "relative"],
        Parameter(help="absolute: dose 1 is the file's own strength; relative: its directions alone."),
    ] = "absolute",
    dtype: DtypeOption = "float32",
    device: Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, mps; default cuda where there is one.")] = None,
    json_: Json = False,
) -> int:
    """Read another program's vector file (GGUF, .svec, .pt, .safetensors, .npy) into an intervention of this model.

    Layers are converted to ours (resid.post of block i) and the file's convention is recorded. Nothing is unpickled. A
    clamp becomes two interventions, `1-ablate` and `2-add`, to be used together.

    Example: levercheck import-vector happy.gguf --model embedded:smollm2-135m --out happy
    """
    from levercheck.interventions.files import save_intervention
    from levercheck.interventions.formats import interventions_of, read_vectors
    from levercheck.lm.model import load_model

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"'{out}' exists and is not empty: give --out a new directory")
    chosen = None if layer is None else list(layer)
    alone = chosen[0] if chosen is not None and len(chosen) == 1 else None
    if file.suffix.lower() in (".gguf", ".svec"):  # these need no model: mistakes show before it is loaded
        read_vectors(file).only(chosen)
    elif not file.is_file():
        raise UsageError(f"no file at '{file}', expected a vector file")
    stages = Stages()
    stages.notify(f"loading {model}")
    lm = load_model(model, dtype=dtype, device=device, notify=stages.notify)
    found = read_vectors(file, layers=lm.shape[0], layer=alone).only(chosen)
    parts = interventions_of(lm, found, unit=unit)
    folders = [out] if len(parts) == 1 else [out / f"{n}-{p.operator}" for n, p in enumerate(parts, 1)]
    for part, folder in zip(parts, folders, strict=True):
        save_intervention(part, folder)
    report = {
        "file": file.name,
        "format": found.format,
        **found.facts,
        "vectors": [
            {"site": str(v.site), "length": float((v.values.astype(float) ** 2).sum() ** 0.5), **_plain(v)}
            for v in found.vectors
        ],
        "interventions": [
            {"folder": str(f), "operator": p.operator, "unit": p.unit, "fingerprint": p.fingerprint}
            for p, f in zip(parts, folders, strict=True)
        ],
    }
    if json_:
        print(json.dumps(report, allow_nan=False))
        return 0
    _print(report)
    return 0


def export_vector(
    folder: Annotated[Path, Parameter(name="DIR")],
    /,
    *,
    to: Annotated[Literal["gguf", "repeng", "lm-eval", "svec", "safetensors"], Parameter(help="Format of the file.")],
    out: Annotated[Path, Parameter(help="File to write.")],
    dose: Annotated[float, Parameter(help="Dose to fold into the vectors.")] = 1.0,
    unit: Annotated[
        Literal["absolute", "sigma"] | None,
        Parameter(help="Unit of the dose, for direction readouts; default absolute."),
    ] = None,
    layer: Layers = None,
    json_: Json = False,
) -> int:
    """Write a direction readout or an addition as another program's vector file, with the dose folded in.

    Such a file knows neither a scope nor a relative dose; what it cannot say is refused. A record of what was folded
    lies beside it (FILE.levercheck.json).

    Example: levercheck export-vector readouts/truth --to gguf --out truth.gguf --dose 4 --layer 14
    """
    from levercheck.evidence.canonical import file_digest
    from levercheck.evidence.files import write_json
    from levercheck.interventions.formats import write_vectors

    if not math.isfinite(dose) or dose == 0:
        raise UsageError(f"--dose {dose:g}: expected a finite number that is not 0")
    if out.with_name(out.name + RECORD).exists():
        raise UsageError(f"'{out.name + RECORD}' exists beside '{out}': give another --out")
    chosen = None if layer is None else list(layer)
    vectors, model, source = _source(folder, dose, unit, chosen)
    kind = str(model.get("architecture", ""))
    record: dict[str, Any] = {
        "file": out.name,
        "format": to,
        "dose": dose,
        "unit": source["unit"],
        "source": source["fingerprint"],
        "model": dict(model),
        "layers": "N is the output of block N, counted from 0 (resid.post)",
        "lengths": {str(site): float((v.astype(float) ** 2).sum() ** 0.5) for site, v in sorted(vectors.items())},
    }
    plain = {
        "format": "levercheck",
        "source": source["fingerprint"],
        "dose": f"{dose:g}",
        "model": str(model.get("name")),
    }
    write_vectors(out, to, vectors, model_type=_model_type(kind), layer_path=_layer_path(kind), metadata=plain)
    record["sha256"] = file_digest(out)
    write_json(out.with_name(out.name + RECORD), record)
    if json_:
        print(json.dumps(record, allow_nan=False))
        return 0
    output.print(f"{len(vectors)} vectors, dose {dose:g} folded in, layers: {record['layers']}", markup=False)
    output.print(f"file {clean(str(out))}", markup=False, soft_wrap=True)
    return 0


def _source(
    folder: Path, dose: float, unit: str | None, layers: list[int] | None
) -> tuple[dict[Any, Any], Mapping[str, Any], dict[str, str]]:
    """(vectors by site, identity of the model, unit and fingerprint)."""
    from levercheck.interventions.files import SIDECAR, load_intervention
    from levercheck.interventions.formats import folded
    from levercheck.lm.places import RESID_POST, Site
    from levercheck.readouts.artifact import load_artifact

    if (folder / SIDECAR).is_file():
        found = load_intervention(folder)
        if unit is not None and unit != found.unit:
            raise UsageError(f"'{folder.name}' is a saved intervention of unit {found.unit}, asked for {unit}")
        vectors = folded(found, dose)
        if layers is not None:
            vectors = {site: v for site, v in vectors.items() if site.layer in layers}
        fingerprint, model, used = found.fingerprint, found.facts["model"], str(found.unit)
    else:
        artifact = load_artifact(folder)
        if artifact.family != "direction":
            raise UsageError(f"a {artifact.family} readout is no vector in the residual stream, expected a direction")
        rows = range(len(artifact.arrays["directions"])) if layers is None else layers
        inside = [n for n in rows if 0 <= n < len(artifact.arrays["directions"])]
        size = artifact.arrays["sigma"] * dose if unit == "sigma" else [dose] * len(artifact.arrays["directions"])
        vectors = {
            Site(n, RESID_POST): (float(size[n]) * artifact.arrays["directions"][n].astype(float)).astype("float32")
            for n in inside
        }
        fingerprint, model, used = artifact.fingerprint, artifact.facts.get("model") or {}, unit or "absolute"
    missing = [] if layers is None else sorted(set(layers) - {site.layer for site in vectors})
    if missing or not vectors:
        raise UsageError(f"layer {missing[0] if missing else '?'} is not in '{folder.name}': choose layers that are")
    return vectors, model, {"fingerprint": fingerprint, "unit": used}


def _model_type(architecture: str) -> str:
    """The architecture's name in Hugging Face configurations, or the class's own where it is not known."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as KNOWN

    found = [kind for kind, name in KNOWN.items() if name == architecture]
    return min(found, key=len) if found else architecture


def _layer_path(architecture: str) -> str:
    """Where the blocks are inside the base model."""
    if architecture.startswith(("GPT2", "GPTJ", "GPTNeoForCausalLM", "Bloom", "Falcon")):
        return "h"
    return "language_model.layers" if architecture.endswith("ForConditionalGeneration") else "layers"


def _plain(vector: Any) -> dict[str, Any]:
    return {"coefficient": vector.coefficient, "action": vector.action}


def _print(report: dict[str, Any]) -> None:
    table = Table(title=f"Vectors of a {report['format']} file", title_justify="left", show_edge=False)
    for column in ("site", "action", "‖v‖", "coefficient"):
        table.add_column(column, no_wrap=True, justify="right" if column in ("‖v‖", "coefficient") else "left")
    for row in report["vectors"]:
        table.add_row(row["site"], row["action"], f"{row['length']:.4g}", f"{row['coefficient']:g}")
    output.print(table)
    if "layers" in report:
        output.print(f"layers  {clean(str(report['layers']))}", markup=False, soft_wrap=True)
    for made in report["interventions"]:
        what = f"{made['operator']}, unit {made['unit']}"
        output.print(
            f"saved   {clean(made['folder'])} ({what}); dose 1 is the file's own"
            if made["unit"] == "absolute"
            else f"saved   {clean(made['folder'])} ({what})",
            markup=False,
            soft_wrap=True,
        )
