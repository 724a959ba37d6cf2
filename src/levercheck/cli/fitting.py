"""What the commands that fit readouts from contrast data share: options, the order of checks, and what they write."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from levercheck.cli.console import Stages, clean, output
from levercheck.cli.contrast_data import Data, load_data
from levercheck.errors import MissingError, UsageError
from levercheck.evidence.files import write_atomic
from levercheck.evidence.folder import claimed
from levercheck.evidence.provenance import SIDECAR, now, read_sidecar, write_sidecar
from levercheck.study.used import write_items

if TYPE_CHECKING:
    from levercheck.benchmarks.data import Use
    from levercheck.lm.model import LanguageModel
    from levercheck.readouts.artifact import Artifact
    from levercheck.readouts.contrast import Bools, Form, Position, Split, Tokens

SPLIT, FIGURE = "split.jsonl", "separation.svg"
ModelOption = Annotated[str, Parameter(help="embedded:NAME, gguf:PATH, a directory, or a Hugging Face id.")]
OutOption = Annotated[Path, Parameter(help="New folder for the readout.")]
FormOption = Annotated[
    Literal["auto", "plain", "chat"],
    Parameter(help="Text as it stands, or as a chat turn; it must be the form the model will be used in."),
]
PositionOption = Annotated[
    Literal["last", "mean"],
    Parameter(help="Read at the last token of the answer (or prompt), or as a mean over the answer."),
]
PositiveOption = Annotated[
    str | None, Parameter(help="The label that is 1, where labels are words; right or wrong of a workspace.")
]
LimitOption = Annotated[
    int | None, Parameter(help="Use so many facts or rows, drawn by the seed.", validator=Number(gte=1))
]
ShareOption = Annotated[float, Parameter(help="Share of examples to judge on, by group.", validator=Number(gt=0, lt=1))]
FoldsOption = Annotated[int, Parameter(help="Folds of the part to fit on.", validator=Number(gte=2))]
SeedOption = Annotated[int, Parameter(help="Seed of the split and of every draw.", validator=Number(gte=0, lt=2**32))]
DtypeOption = Annotated[Literal["float32", "bfloat16", "float16"], Parameter(help="Number format of the weights.")]
DeviceOption = Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, mps; default cuda where there is one.")]
JsonOption = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON on stdout.")]
ShuffledOption = Annotated[
    int,
    Parameter(help="Also refit on so many permutations of the labels: controls of a study.", validator=Number(gte=0)),
]
DEFAULT_MODEL = "embedded:smollm2-135m"


@dataclass(frozen=True)
class Request:
    """What a fit was asked for."""

    command: str
    source: str
    model: str
    form: Literal["auto", "plain", "chat"]
    position: Position
    positive: str | None
    limit: int | None
    held_out: float
    folds: int
    seed: int
    dtype: str
    device: str | None

    def settings(self) -> dict[str, Any]:
        """What the sidecar records, without places on this machine."""
        return {"held_out": self.held_out, "folds": self.folds, "seed": self.seed, "limit": self.limit}


@dataclass
class Fitting:
    """A fit in progress: audited data, the loaded model, and where results go."""

    request: Request
    out: Path
    stages: Stages
    data: Data
    parts: Split
    lm: LanguageModel
    tokens: Tokens
    started: str

    @property
    def form(self) -> Form:
        """The form in which examples were read."""
        form: Form = self.tokens.facts["form"]
        return "chat" if form == "chat" else "plain"

    def facts(self) -> dict[str, Any]:
        """What a readout states of its making."""
        from levercheck.readouts.contrast import data_digest

        data = {**self.data.facts, "examples": len(self.data.examples), "sha256": data_digest(self.data.examples)}
        return {"model": self.lm.identity, "data": data, "prompt": self.tokens.facts, "split": self.parts.facts}

    def finish(
        self,
        artifact: Artifact,
        draw: Callable[[], str] | None,
        extra: dict[str, bytes],
        more: dict[str, Any],
        also: Sequence[Path] = (),
    ) -> bool:
        """Write readout, split, figure and, last, the sidecar that says it is complete; whether a figure was drawn.

        `also`: files beside them that are already written.
        """
        from levercheck.readouts.artifact import save_artifact

        facts = {
            "command": self.request.command,
            "started": self.started,
            "settings": {**self.request.settings(), **more},
            "model": self.lm.identity,
            "data": artifact.facts["data"],
            "prompt": artifact.facts["prompt"],
        }
        write_sidecar(self.out, self.out, facts, [], "started")
        for name, body in {SPLIT: self._split_rows(), **extra}.items():
            write_atomic(self.out / name, body)
        drawn = draw is not None
        try:
            if draw is not None:
                write_atomic(self.out / FIGURE, draw().encode())
        except MissingError as error:
            self.stages.notify(f"no figure: {error}")
            drawn = False
        if self.data.items is not None:
            also = [*also, write_items(self.out, *self.data.items)]
        paths = [*save_artifact(artifact, self.out), *(self.out / name for name in (SPLIT, *extra)), *also]
        paths += [self.out / FIGURE] if drawn else []
        ended = {**facts, "ended": now(), "fingerprint": artifact.fingerprint}
        write_sidecar(self.out, self.out, ended, paths, "complete")
        return drawn

    def shuffled(self, draws: int, make: Callable[[Bools], Artifact]) -> list[Path]:
        """Refit on `draws` permutations of the fit part's labels, into `shuffled/`; returns the files.

        They are what controls of kind shuffled turn: everything of the fit but the meaning of its labels.
        """
        from levercheck.interventions.controls import permuted
        from levercheck.readouts.artifact import save_artifact
        from levercheck.readouts.contrast import labels_of

        if not draws:
            return []
        labels, inside = labels_of(self.data.examples), self.parts.fit
        written = []
        with self.stages.stage("shuffled labels", draws, "fits") as tick:
            for number, one in enumerate(permuted(labels[inside], draws=draws, seed=self.request.seed)):
                mixed = labels.copy()
                mixed[inside] = one
                written += save_artifact(make(mixed), self.out / "shuffled" / f"{number:03d}")
                tick(1)
        return written

    def _split_rows(self) -> bytes:
        rows = zip(self.data.examples, self.parts.fit.tolist(), self.parts.folds.tolist(), strict=True)
        lines = [
            {"id": e.id, "label": e.label, "group": e.group, "role": "fit" if fit else "held_out", "fold": fold}
            for e, fit, fold in rows
        ]
        return as_lines([{**line, "fold": None} if line["fold"] == -1 else line for line in lines])


@contextmanager
def fitting(
    request: Request,
    out: Path,
    check: Callable[[Data, Split], None] | None = None,
    *,
    lm: LanguageModel | None = None,
    allowed: Callable[[str], bool] = lambda entity: True,
    use: Use | None = None,
) -> Iterator[Fitting]:
    """Refuse a finished folder, load and audit the data, and only then claim the folder and load the model.

    `lm` is a model that is loaded already; data of ours are of entities that are `allowed`, and those of a benchmark
    are where `use` says.
    """
    from levercheck.readouts.contrast import split

    refuse_finished(out)
    data = load_data(
        request.source,
        positive=request.positive,
        limit=request.limit,
        seed=request.seed,
        allowed=allowed,
        use=use,
    )
    if data.recorded is not None and request.form != "auto":
        raise UsageError("--form does not apply to a workspace: its answers were written in a form of their own")
    parts = split(data.examples, held_out=request.held_out, folds=request.folds, seed=request.seed)
    if check is not None:
        check(data, parts)
    stages = Stages()
    with claimed(out, SIDECAR):
        refuse_finished(out)
        from levercheck.evidence.provenance import model_label
        from levercheck.lm.model import load_model

        if lm is None:
            stages.notify(f"loading {model_label(request.model)}")
            lm = load_model(request.model, dtype=request.dtype, device=request.device, notify=stages.notify)
        tokens = data.tokens(lm, form_of(lm, request, data), request.position)
        started = now()  # with the sidecar there, an interrupted fit can be started again in its folder
        write_sidecar(out, out, {"command": request.command, "started": started}, [], "started")
        yield Fitting(request, out, stages, data, parts, lm, tokens, started)


def form_of(lm: LanguageModel, request: Request, data: Data) -> Form:
    """The form asked for; auto is chat for models with a chat template that are not embedded."""
    if data.recorded is not None:
        return "plain"  # not read: a workspace's tokens are recorded
    if request.form != "auto":
        return request.form
    has_template = getattr(lm.tokenizer, "chat_template", None) is not None
    return "chat" if has_template and not lm.name.startswith("embedded:") else "plain"


def refuse_finished(out: Path) -> None:
    """UsageError when a folder holds a finished readout."""
    found = read_sidecar(out) if out.is_dir() else None
    if found is not None and found.get("status") == "complete":
        raise UsageError(f"'{out}' holds a finished readout: give --out a new folder, or move that one away")


def loaded(folder: Path, family: str) -> Artifact:
    """A readout of the family that a command is about."""
    from levercheck.readouts.artifact import load_artifact

    artifact = load_artifact(folder)
    if artifact.family != family:
        raise UsageError(f"'{folder}' holds a readout of family {artifact.family}, expected {family}")
    return artifact


def as_lines(rows: Sequence[dict[str, Any]]) -> bytes:
    """JSON lines."""
    return b"".join(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n" for row in rows)


def area(value: float | None, low: float | None, high: float | None) -> str:
    """A number with its interval, for a table; brackets are escaped for rich."""
    if value is None:
        return "not estimable"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} \\[{low:.2f}, {high:.2f}]"


def ends(estimate: dict[str, Any]) -> str:
    """An estimate of a readout's facts as `area` prints it."""
    return area(estimate["value"], estimate["low"], estimate["high"])


def print_data(facts: dict[str, Any]) -> None:
    """What was read, in which form, and how it was divided."""
    prompt, split = facts["prompt"], facts["split"]
    output.print(
        f"form {prompt['form']}, read at the {prompt['position']} {prompt['read_at']} token"
        f"{'s' if prompt['position'] == 'mean' else ''}, start tokens {prompt['start_ids'] or 'none'}"
    )
    for side in ("fit", "held_out"):
        part = split[side]
        output.print(
            f"{side.replace('_', ' '):<9} {part['label_1']} of label 1, {part['label_0']} of label 0, "
            f"{part['groups']} groups"
        )


def print_path(what: str, path: Path) -> None:
    """Where something was written."""
    output.print(f"{what:<9} {clean(str(path))}", markup=False, soft_wrap=True)
