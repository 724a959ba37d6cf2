"""Readouts that a study declares instead of naming a folder: made once, in the run, from items no other role asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
        if declared.folder is None and not _finished(run.readout_folder(name)):
            stages.notify(f"making the readout '{name}' ({declared.family}, from {declared.source})")
            try:
                (_neurons if declared.family == "neurons" else _contrast)(run, name, declared, stages)
            except NotEnoughDataError as error:
                raise NotEnoughDataError(f"readout '{name}' (see readouts.{name}.limit): {error}") from None


def prepare(opened: Opened, lm: LanguageModel, stages: Stages) -> None:
    """Check what a run would miss late, write or check its `study.json`, and make the readouts the study declares."""
    from levercheck.study.uses import check_ready
    from levercheck.sweep.prompting import check_chat
    from levercheck.sweep.run_study import open_study

    check_ready(opened.spec, opened.base)
    run = open_study(opened.spec, opened.base, opened.root, lm, stages)
    for name in opened.spec.benchmarks:
        if (benchmark := run.benchmark(name)).style.chat:
            check_chat(lm, benchmark)
    make_readouts(run, stages)


def _finished(folder: Path) -> bool:
    from levercheck.evidence.provenance import read_sidecar

    found = read_sidecar(folder) if folder.is_dir() else None
    return found is not None and found.get("status") == "complete"


def _neurons(run: StudyRun, name: str, declared: Readout, stages: Stages) -> None:
    from levercheck.detect.capture import capture
    from levercheck.detect.collect import collect
    from levercheck.detect.probe import ProbeSpec, probe
    from levercheck.detect.prompting import prompting_for
    from levercheck.detect.spans import spans
    from levercheck.detect.split import SplitSpec, split
    from levercheck.detect.stored import CaptureSpec
    from levercheck.detect.workspace import workspace
    from levercheck.lm.sample import Sampling

    questions, seed = _questions(run, name, declared), run.spec.seed
    prompting = prompting_for(run.lm, "auto")
    sampling = Sampling(samples=declared.samples or 10, max_new_tokens=50, stop=prompting.stop)
    settings = {"mode": declared.mode, "cs": None if declared.C is None else (declared.C,)}
    with workspace(run.readout_folder(name).parents[1], stages, create=True) as ws:
        collect(ws, run.lm, questions, prompting=prompting, sampling=sampling, seed=seed)
        spans(ws, run.lm)
        split(ws, SplitSpec(seed=seed))
        store = capture(ws, run.lm, CaptureSpec())
        probe(ws, store, ProbeSpec(seed=seed, **{k: v for k, v in settings.items() if v is not None}))


def _questions(run: StudyRun, name: str, declared: Readout) -> QuestionSet:
    """Questions of the source whose entity is of role readout, or of none: no benchmark of the study asks those."""
    from levercheck.benchmarks.questions import load_questions
    from levercheck.evidence.splits import shuffled

    source, split = _local(run, name, declared)
    found = load_questions(source, seed=run.spec.seed, split=split)
    free = [q for q in found.questions if run.roles.get(q.entity or "", ROLE) == ROLE]
    if declared.limit is not None:
        wanted = set(shuffled([q.id for q in free], run.spec.seed, "questions")[: declared.limit])
        free = [q for q in free if q.id in wanted]
    if not free:
        raise NotEnoughDataError(f"no question of '{declared.source}' is left for role {ROLE}: raise its share")
    return replace(found, questions=tuple(free), identity={**found.identity, "role": ROLE, "asked": len(free)})


def _local(run: StudyRun, name: str, declared: Readout) -> tuple[str, str | None]:
    """A question source with the file it is in, where that is on this machine, and the split to choose inside it."""
    from levercheck.benchmarks.data import split_within

    kind, path = declared.source.partition(":")[0], run.source_file(name)
    if path is None:
        return declared.source, declared.split
    return (str(path) if "." in kind or "/" in kind else f"{kind}:{path}"), split_within(path, declared.split)


def _contrast(run: StudyRun, name: str, declared: Readout, stages: Stages) -> None:
    from levercheck.benchmarks.base import labelled_names, used
    from levercheck.cli import direction, fitting, heads

    source, use = declared.source, None
    form: Literal["auto", "plain", "chat"] = declared.form or "auto"
    if source.partition("/")[0] in labelled_names():
        use = run.source_use(name)
        form = declared.form or ("chat" if used(use).style.chat else "plain")  # a readout is read as it is turned
    elif source != "facts":
        source = str(inside(run.base, source))
    request = fitting.Request(
        f"{declared.family} fit", source, run.spec.model, form, declared.position or "last", None, declared.limit,
        0.3, 5, run.spec.seed, "float32", None,
    )  # fmt: skip
    free: dict[str, Any] = {"allowed": lambda entity: run.roles.get(entity, ROLE) == ROLE, "use": use}
    with fitting.fitting(request, run.readout_folder(name), lm=run.lm, **free) as job:
        job.stages = stages
        if declared.family == "direction":
            direction.fitted(job, declared.shuffled or 0, None)
        else:
            heads.fitted(job, declared.C or 1.0, "auto", declared.shuffled or 0)
