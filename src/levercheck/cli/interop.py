"""`levercheck import-h-neurons` and `levercheck export-h-neurons`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from levercheck.cli.console import Stages, clean, output
from levercheck.errors import UsageError

if TYPE_CHECKING:
    from levercheck.lm.model import LanguageModel

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON on stdout.")]
Reduce = Literal["mean", "max"]
_MODEL = "embedded:NAME, gguf:PATH, a directory, or a Hugging Face id."


def import_h_neurons(
    *,
    out: Annotated[Path, Parameter(help="Workspace: a new folder, or one to continue.")],
    samples: Annotated[
        Path | None, Parameter(help="Consistency samples (JSONL): questions, answers, verdicts.")
    ] = None,
    answer_tokens: Annotated[Path | None, Parameter(help="Answer tokens (JSONL), as decoded strings.")] = None,
    train_ids: Annotated[Path | None, Parameter(help='Training ids: {"t": [...], "f": [...]}.')] = None,
    test_ids: Annotated[Path | None, Parameter(help="Test ids; none may be a training id.")] = None,
    activations: Annotated[
        list[Path] | None,
        Parameter(negative="", help="Folder of LOCATION/act_QID.npy; again for items kept elsewhere."),
    ] = None,
    classifier: Annotated[Path | None, Parameter(help="Coefficients of scikit-learn, .json or .npz.")] = None,
    shape: Annotated[str | None, Parameter(help="LAYERSxNEURONS, e.g. 34x10240; needed without activations.")] = None,
    model: Annotated[str | None, Parameter(help=f"Model that wrote the answers: {_MODEL}")] = None,
    instruction: Annotated[
        str, Parameter(help="Sentence after every question in the chat turn; taken off where the files have it.")
    ] = "",
    reduce: Annotated[
        Reduce | None, Parameter(help="How tokens were reduced, when metadata.json does not say.")
    ] = None,
    locations: Annotated[
        list[str] | None, Parameter(negative="", help="Only these folders of the activations; default all there are.")
    ] = None,
    max_missing: Annotated[
        float, Parameter(help="Largest share of a role that may lack activations.", validator=Number(gte=0, lt=1))
    ] = 0.02,
    json_: Json = False,
) -> int:
    """Continue a half-done H-neurons run of another program: read its files into a workspace.

    Every part is optional and checked against the others; nothing is repaired. Pickled classifiers are refused. The
    same files again change nothing, other files are an error.

    Example: levercheck import-h-neurons --out runs/h --samples samples.jsonl --model google/gemma-3-4b-it
    """
    from levercheck.interop.h_neurons_read import Files, Options
    from levercheck.interop.h_neurons_read import import_h_neurons as run

    files = Files(samples, answer_tokens, train_ids, test_ids, tuple(activations or ()), classifier)
    options = Options(instruction, _shape(shape), reduce, tuple(locations or ()), max_missing)
    stages = Stages()
    done = run(out, files, stages, lm=_load(model, stages), options=options)
    _print({"out": str(out), **done.to_dict()}, done.notes, json_)
    return 0


def export_h_neurons(
    directory: Path,
    /,
    *,
    out: Annotated[Path, Parameter(help="New or empty folder for the files.")],
    model: Annotated[str | None, Parameter(help=f"Model that wrote the answers, for token strings: {_MODEL}")] = None,
    reduce: Annotated[Reduce | None, Parameter(help="Which activations, where there are both; default mean.")] = None,
    probe: Annotated[str | None, Parameter(help="Which readout, where there are several.")] = None,
    json_: Json = False,
) -> int:
    """Write the workspace DIRECTORY as the files that other H-neurons programs read.

    Consistency samples, answer tokens, ids, activations and classifier: whatever is finished. The folder appears whole
    or not at all; export.json in it says what these formats cannot hold.

    Example: levercheck export-h-neurons runs/h --out exported/ --model embedded:smollm2-135m
    """
    from levercheck.interop.h_neurons_write import export_h_neurons as run

    stages = Stages()
    done = run(directory, out, stages, lm=_load(model, stages), reduce=reduce, probe=probe)
    _print({"out": str(out), **done.to_dict()}, [f"left out: {line}" for line in done.left_out], json_)
    return 0


def _load(model: str | None, stages: Stages) -> LanguageModel | None:
    if model is None:
        return None
    from levercheck.evidence.provenance import model_label
    from levercheck.lm.model import load_model

    stages.notify(f"loading {model_label(model)}")
    return load_model(model, notify=stages.notify)


def _shape(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})[xX×]([1-9][0-9]{0,7})", text)
    if found is None:
        raise UsageError(f"--shape '{text}' is not understood: give LAYERSxNEURONS, e.g. 34x10240")
    return int(found[1]), int(found[2])


def _print(report: dict[str, Any], notes: list[str], as_json: bool) -> None:
    if as_json:
        print(json.dumps(report, ensure_ascii=False))
        return
    for name, facts in report["parts"].items():
        facts = {key.replace("_", " "): value for key, value in facts.items() if key != "fingerprint"}
        shown = ", ".join(f"{key} {_short(value)}" for key, value in facts.items())
        output.print(f"{name:<14} {clean(shown)}", markup=False, soft_wrap=True)
    for note in notes:
        output.print(clean(note), markup=False, soft_wrap=True, style="yellow")
    output.print(f"written to {clean(report['out'])}", style="bold green", markup=False, soft_wrap=True)


def _short(value: Any) -> str:
    if isinstance(value, dict) and {"value", "low", "high", "n"} <= value.keys():
        return (
            f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]" if value["value"] is not None else "none"
        )
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key}: {_short(entry)}" for key, entry in value.items()) + ")" if value else "none"
    if isinstance(value, list):
        return " x ".join(map(str, value)) if all(isinstance(v, int) for v in value) else ", ".join(map(str, value))
    return "unknown" if value is None else str(value)[:80]
