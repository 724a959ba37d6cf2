"""Options that every command on a study file shares, and what they open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from cyclopts import Parameter
from cyclopts.validators import Number

from levercheck.cli.console import Stages
from levercheck.errors import UsageError
from levercheck.study.spec import StudySpec, read_study

if TYPE_CHECKING:
    from levercheck.lm.model import LanguageModel

StudyFile = Annotated[Path, Parameter(name="STUDY", help="The study file (YAML).")]
OutOption = Annotated[Path | None, Parameter(help="Directory of the run; default runs/NAME of the study.")]
SetOption = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set", negative="", help="Replace what the file says: key=value, dotted (items.limit=20). Repeat."
    ),
]
LimitOption = Annotated[
    int | None, Parameter(help="Ask at most so many items per benchmark and role.", validator=Number(gte=1))
]
DeviceOption = Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, mps; default cuda where there is one.")]
JsonOption = Annotated[bool, Parameter(name="--json", negative="", help="Print the result as JSON on stdout.")]


@dataclass(frozen=True)
class Opened:
    """A study file that was read, the folder it is in, and the folder of its run."""

    spec: StudySpec
    base: Path
    root: Path

    def load(self, stages: Stages, device: str | None = None) -> LanguageModel:
        """The study's model."""
        from levercheck.lm.model import load_model

        stages.notify(f"loading {self.spec.model}")
        return load_model(self.spec.model, device=device, notify=stages.notify)


def open_file(study: Path, out: Path | None, settings: tuple[str, ...], limit: int | None = None) -> Opened:
    """Read a study file with the changes of `--set` and `--limit`."""
    changed = changes(settings)
    if limit is not None:
        changed["items.limit"] = limit
    spec = read_study(study, changed)
    return Opened(spec, study.resolve().parent, out or Path("runs") / spec.study)


def changes(settings: tuple[str, ...]) -> dict[str, Any]:
    """`key=value` texts as dotted keys with YAML values."""
    found: dict[str, Any] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            raise UsageError(f"--set {text}: expected key=value, such as items.limit=20")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"--set {text}: the value is not valid YAML") from None
    return found
