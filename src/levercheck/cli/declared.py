"""Readouts that a study declares instead of naming a folder: made once, in the run, from items no other role asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from levercheck.errors import NotEnoughDataError
from levercheck.study.spec import Readout, inside

if TYPE_CHECKING:
    from levercheck.benchmarks.questions import QuestionSet
    from levercheck.cli.console import Stages
    from levercheck.cli.study_options import Opened
    from levercheck.lm.model import LanguageModel
    from levercheck.sweep.study import StudyRun

ROLE = "readout"


def make_readouts(run: StudyRun, stages: Stages) -> None:
    """Make every declared readout that is not there yet; a kill loses no finished stage of it."""
    for name, declared in run.spec.readouts.items():
        if isinstance(declared, Readout) and not _finished(run.readout_folder(name)):
            stages.notify(f"making the readout '{name}' ({declared.family}, from {declared.source})")
            (_neurons if declared.family == "neurons" else _contrast)(run, declared, run.readout_folder(name), stages)


def prepare(opened: Opened, lm: LanguageModel, stages: Stages) -> None:
    """Write or check the run's `study.json`, and make the readouts that the study declares."""
    from levercheck.sweep.run_study import open_study

    if any(isinstance(declared, Readout) for declared in opened.spec.readouts.values()):
        make_readouts(open_study(opened.spec, opened.base, opened.root, lm, stages), stages)


def _finished(folder: Path) -> bool:
    from levercheck.evidence.provenance import read_sidecar

    found = read_sidecar(folder) if folder.is_dir() else None
    return found is not None and found.get("status") == "complete"


def _neurons(run: StudyRun, declared: Readout, folder: Path, stages: Stages) -> None:
    from levercheck.detect.capture import capture
    from levercheck.detect.collect import collect
    from levercheck.detect.probe import ProbeSpec, probe
    from levercheck.detect.prompting import prompting_for
    from levercheck.detect.spans import spans
    from levercheck.detect.split import SplitSpec, split
    from levercheck.detect.stored import CaptureSpec
    from levercheck.detect.workspace import workspace
    from levercheck.lm.sample import Sampling

    questions, seed = _questions(run, declared), run.spec.seed
    prompting = prompting_for(run.lm, "auto")
    sampling = Sampling(samples=declared.samples or 10, max_new_tokens=50, stop=prompting.stop)
    settings = {"mode": declared.mode, "cs": None if declared.C is None else (declared.C,)}
    with workspace(folder.parents[1], stages, create=True) as ws:
        collect(ws, run.lm, questions, prompting=prompting, sampling=sampling, seed=seed)
        spans(ws, run.lm)
        split(ws, SplitSpec(seed=seed))
        store = capture(ws, run.lm, CaptureSpec())
        probe(ws, store, ProbeSpec(seed=seed, **{k: v for k, v in settings.items() if v is not None}))


def _questions(run: StudyRun, declared: Readout) -> QuestionSet:
    """Questions of the source whose entity is of role readout, or of none: no benchmark of the study asks those."""
    from levercheck.benchmarks.questions import load_questions
    from levercheck.evidence.splits import shuffled

    found = load_questions(_local(run, declared.source), seed=run.spec.seed, split=declared.split)
    free = [q for q in found.questions if run.roles.get(q.entity or "", ROLE) == ROLE]
    if declared.limit is not None:
        wanted = set(shuffled([q.id for q in free], run.spec.seed, "questions")[: declared.limit])
        free = [q for q in free if q.id in wanted]
    if not free:
        raise NotEnoughDataError(f"no question of '{declared.source}' is left for role {ROLE}: raise its share")
    return replace(found, questions=tuple(free), identity={**found.identity, "role": ROLE, "asked": len(free)})


def _local(run: StudyRun, source: str) -> str:
    """A question source with its path resolved in the study's folder, or found in the data folder."""
    from levercheck.benchmarks.data import data_folder

    name, colon, argument = source.partition(":")
    if colon and ("/" in argument or "." in argument):
        return f"{name}:{inside(run.base, argument)}"
    if not colon and "." in name:
        return str(inside(run.base, source))
    places = [data_folder() / f"{name}.{ending}" for ending in ("parquet", "jsonl", "json", "csv")]
    for path in (*places, data_folder() / name):
        if not colon and path.exists():
            return f"{name}:{path}"
    return source


def _contrast(run: StudyRun, declared: Readout, folder: Path, stages: Stages) -> None:
    from levercheck.cli import direction, fitting, heads
    from levercheck.cli.contrast_data import labelled_names

    known = declared.source in ("facts", *labelled_names())
    source = declared.source if known else str(inside(run.base, declared.source))
    request = fitting.Request(
        f"{declared.family} fit", source, run.spec.model, "auto", declared.position or "last", None, declared.limit,
        0.3, 5, run.spec.seed, "float32", None,
    )  # fmt: skip
    with fitting.fitting(request, folder, lm=run.lm, allowed=lambda entity: run.roles.get(entity, ROLE) == ROLE) as job:
        job.stages = stages
        if declared.family == "direction":
            direction.fitted(job, declared.shuffled or 0, None)
        else:
            heads.fitted(job, declared.C or 1.0, "auto", declared.shuffled or 0)
