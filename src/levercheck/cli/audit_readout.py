"""`levercheck audit-readout` and `levercheck h-neurons`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.validators import Number

from levercheck.cli import detect
from levercheck.cli import detect_tables as tables
from levercheck.cli.console import Stages, clean, output
from levercheck.errors import MissingError, NotEnoughDataError, UsageError

if TYPE_CHECKING:
    from levercheck.detect.workspace import Workspace
    from levercheck.lm.model import LanguageModel


def audit_readout(
    directory: detect.Directory,
    /,
    *,
    name: detect.Name = "default",
    refits: Annotated[int, Parameter(help="Bootstrap refits for selection stability.", validator=Number(gte=0))] = 50,
    transfer: Annotated[Path | None, Parameter(help="Score the test items of this other workspace too.")] = None,
    direction: Annotated[
        Path | None, Parameter(help="Compare write-out with this direction (.safetensors or .npy).")
    ] = None,
    rows_only: Annotated[bool, Parameter(negative="", help="Skip the parts that load the model.")] = False,
    seed: detect.Seed = 0,
    model: detect.Model = None,
    device: detect.Device = None,
    json_: detect.Json = False,
) -> int:
    """Lay a readout's confounds open: baselines, length, transfer, stability, selectivity.

    Writes a report (HTML, Markdown, figures) beside the probe. An interrupted audit continues.

    Example: levercheck audit-readout runs/h --refits 50
    """
    if direction is not None and rows_only:
        raise UsageError("--direction needs the model, --rows-only leaves it out: give one of them")
    with detect.opened(directory) as ws:
        _check(ws, name, transfer, direction)
        results = audit(
            ws,
            name,
            refits=refits,
            seed=seed,
            transfer=transfer,
            direction=direction,
            lm=None if rows_only else detect.load(ws, model, None, device),
        )
    return tables.show(json_, results, lambda: tables.audit(results))


def _check(ws: Workspace, name: str, transfer: Path | None, direction: Path | None) -> None:
    """Refuse what can be known to be wrong before a model is loaded or anything is computed."""
    from levercheck.detect.neurons import probe_name
    from levercheck.detect.workspace import MARKER

    if "imported" in ws.settings(f"probes/{probe_name(ws.root, name)}"):
        raise UsageError(f"probe '{name}' was fitted by another program and cannot be refitted: run 'levercheck probe'")
    if transfer is not None:
        if not (transfer / MARKER).is_file():
            raise UsageError(f"--transfer '{transfer}' is no workspace (it has no {MARKER})")
        if transfer.resolve() == ws.root.resolve():
            raise UsageError(f"--transfer '{transfer}' is the workspace itself: give another one")
    if direction is not None:
        if not direction.is_file():
            raise UsageError(f"--direction: no file '{direction.name}', expected .safetensors or .npy")
        recorded = detect.recorded_model(ws)
        if {"hidden", "layers"} <= recorded.keys():
            from levercheck.readouts.geometry import read_direction

            read_direction(direction, int(recorded["hidden"]), int(recorded["layers"]))


def audit(
    ws: Workspace,
    name: str,
    *,
    refits: int,
    seed: int,
    transfer: Path | None,
    direction: Path | None,
    lm: LanguageModel | None,
) -> dict[str, Any]:
    """All audits of one probe and its report; without a model, those that need none.

    An optional part that cannot be made is a line under `notes` and on stderr, and hides none of the others.
    """
    from levercheck.detect.audit import audit_readout as run
    from levercheck.detect.audit import with_length
    from levercheck.detect.material import material
    from levercheck.detect.neurons import check_same, neurons
    from levercheck.publish.readout_report import write_readout_report
    from levercheck.readouts.readout import load_readout

    notes: list[str] = []

    def note(line: str) -> None:
        notes.append(line)
        Stages().notify(line)

    def optional(part: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except (MissingError, NotEnoughDataError) as error:
            return note(f"no {part}: {error}")

    folder = ws.root / "probes" / name
    readout = load_readout(folder)
    if lm is not None:
        from levercheck.detect.capture import check_model

        check_model(ws, lm)
        check_same(ws, lm, readout)
    if transfer is None:
        results = run(ws, name, refits=refits, seed=seed)
    else:
        with detect.opened(transfer) as other:
            results = run(ws, name, refits=refits, seed=seed, transfer=other)
    if lm is not None and not readout.components:
        note("no comparison of length and truth, no description of neurons: the readout has no non-zero weight")
    elif lm is not None:
        from levercheck.detect.verbosity import VerbositySpec, verbosity

        if optional("length and truth", lambda: verbosity(ws, lm, readout, name, VerbositySpec(seed=seed))) is not None:
            length = ws.results(f"probes/{name}/verbosity")
            results = {**with_length(results, length), "verbosity": length}
        optional("description of neurons", lambda: neurons(ws, readout, name, lambda: lm))
    if direction is not None and not readout.neurons:
        note("no overlap: the readout has no positive weight")
    elif lm is not None and direction is not None:
        from levercheck.detect.overlap import direction_overlap

        overlap = optional("overlap", lambda: direction_overlap(ws, lm, readout, name, direction, seed=seed))
        results = results if overlap is None else {**results, "overlap": overlap}
    written = optional("report", lambda: write_readout_report(folder / "report", material(ws, name))) or []
    return {**results, "report": [path.relative_to(ws.root).as_posix() for path in written], "notes": notes}


def h_neurons(
    source: str,
    /,
    *,
    out: Annotated[Path, Parameter(help="Workspace: a new folder, or one to continue.")],
    model: Annotated[
        str, Parameter(help="embedded:NAME, gguf:PATH, a directory, or a Hugging Face id.")
    ] = detect.DEFAULT_MODEL,
    limit: Annotated[int | None, Parameter(help="Ask this many questions, drawn by the seed.")] = None,
    samples: Annotated[int, Parameter(help="Answers per question.", validator=Number(gte=1))] = 10,
    refits: Annotated[int, Parameter(help="Bootstrap refits for selection stability.", validator=Number(gte=0))] = 50,
    seed: detect.Seed = 0,
    dtype: detect.Dtype = "float32",
    device: detect.Device = None,
    json_: detect.Json = False,
) -> int:
    """Find H-neurons: collect, spans, split, capture, probe and audit-readout, with their defaults.

    Every stage can be repeated alone with other settings in another workspace. A kill or Ctrl-C loses nothing.

    Example: levercheck h-neurons triviaqa:validation.parquet --limit 3500 --model google/gemma-3-4b-it --out runs/h
    """
    from levercheck.benchmarks.questions import load_questions
    from levercheck.detect.capture import capture, plan
    from levercheck.detect.collect import collect
    from levercheck.detect.probe import ProbeSpec, probe
    from levercheck.detect.prompting import prompting_for
    from levercheck.detect.spans import spans
    from levercheck.detect.split import SplitSpec, split
    from levercheck.detect.stored import CaptureSpec
    from levercheck.lm.model import load_model
    from levercheck.lm.sample import Sampling

    stages = Stages()
    questions = load_questions(source, limit=limit, seed=seed)
    with detect.opened(out, create=True) as ws:
        lm = load_model(model, dtype=dtype, device=device, notify=stages.notify)
        prompting = prompting_for(lm, "auto")
        sampling = Sampling(samples=samples, max_new_tokens=50, stop=prompting.stop)
        collect(ws, lm, questions, prompting=prompting, sampling=sampling, seed=seed)
        spans(ws, lm)
        split(ws, SplitSpec(seed=seed))
        stages.notify(plan(ws, lm, CaptureSpec()).line())
        store = capture(ws, lm, CaptureSpec())
        probe(ws, store, ProbeSpec(seed=seed))
        results = audit(ws, "default", refits=refits, seed=seed, transfer=None, direction=None, lm=lm)
        found = {**ws.results("probes/default"), **ws.results("probes/default/path")}
    report = {"out": str(out), "probe": found, "audit": results}

    def draw() -> None:
        tables.probe(found)
        tables.audit(results)
        for page in results["report"][:1]:
            output.print(f"report {clean(str(out / page))}", markup=False, soft_wrap=True)

    return tables.show(json_, report, draw)
