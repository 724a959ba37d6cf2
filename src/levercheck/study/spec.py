"""The study file: what a person declares before any row exists.

    study: two-levers
    model: embedded:smollm2-135m
    readouts:
      d: readouts/direction                      # the folder of a readout or of a saved intervention
      h: {family: neurons, source: facts}        # or what the run is to make one from
    interventions:
      push: {readout: d, operator: add, efforts: [0.05, 0.1]}
      tell: {instruction: "Rely on what you know, not on the context."}
    controls:
      random: {of: [push], draws: 20}
    benchmarks: [counterfactual-context, bare-facts]

Paths are relative to the study file and stay inside its folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from levercheck.benchmarks.base import ROLES
from levercheck.errors import UsageError, nearest
from levercheck.evidence.canonical import digest
from levercheck.evidence.documents import Model, read_yaml, validated

Shares = dict[str, float]
RESERVED = ("baseline", "noop")
"""Names that rows give to what is always run."""


def checked_shares(value: Shares) -> Shares:
    """Shares of roles: known names, not negative, sum 1."""
    unknown = sorted(set(value) - set(ROLES))
    if unknown:
        raise ValueError(f"unknown role '{unknown[0]}'{nearest(unknown[0], ROLES)}")
    if not math.isclose(sum(value.values()), 1.0, abs_tol=1e-9) or min(value.values()) < 0:
        raise ValueError("shares of the roles must not be negative and sum to 1")
    return value


class Intervention(Model):
    """One lever with its doses: a readout that is turned, or an instruction that is added to the prompt.

    `doses` are in the operator's own unit; `efforts` are shares of the residual stream's length by which it is to move
    at one common layer, and the dose that does it is measured for every arm (negative efforts turn the other way). `k`
    and `by` choose heads, `layers` the layers of a direction.
    """

    readout: str | None = None
    instruction: str | None = Field(default=None, min_length=1)
    operator: str | None = None
    doses: tuple[float, ...] | None = None
    efforts: tuple[float, ...] | None = None
    unit: Literal["absolute", "sigma", "relative"] | None = None
    scope: str = "all"
    layers: tuple[int, ...] | None = None
    k: int | None = Field(default=None, ge=1)
    by: str | None = None

    @property
    def is_prompt(self) -> bool:
        """Whether it is an instruction."""
        return self.instruction is not None

    @model_validator(mode="after")
    def _whole(self) -> Intervention:
        if (self.readout is None) == (self.instruction is None):
            raise ValueError("it needs either a readout to turn or an instruction to add")
        if self.is_prompt and any(v is not None for v in (self.operator, self.doses, self.efforts, self.unit, self.k)):
            raise ValueError("an instruction has no operator, doses, efforts, unit or k: it is there or not")
        if not self.is_prompt and (self.doses is None) == (self.efforts is None):
            raise ValueError("it needs either doses or efforts")
        for name in ("doses", "efforts"):
            _once(getattr(self, name) or (), name)
        if any(value == 0 for value in self.efforts or ()):
            raise ValueError("an effort of 0 is the baseline, which is always run: leave it out")
        return self


class Readout(Model):
    """A readout: the `folder` of one that is there (a text alone means that), or one that the run makes itself.

    What is made rests on items that no other role asks.

    neurons: H-neurons of the model's own answers to the questions of `source` (`facts`, `triviaqa`, `jsonl:FILE`, ...;
    `samples` answers each), by the sparse probe (`mode`; `C`, or chosen on folds). direction and heads: from contrast
    data (`facts`, a benchmark that has some, or a file with prompt, label and, if wanted, answer), read at `position`
    in `form` (of a benchmark's data: as its style asks); `shuffled` refits on permuted labels serve controls of that
    kind. `limit` questions or examples at most.
    """

    folder: str | None = None
    family: Literal["neurons", "direction", "heads"] | None = None
    source: str = "facts"
    split: str | None = None
    limit: int | None = Field(default=None, ge=1)
    samples: int | None = Field(default=None, ge=1)
    mode: Literal["1-vs-1", "3-vs-1"] | None = None
    C: float | None = Field(default=None, gt=0)
    position: Literal["last", "mean"] | None = None
    form: Literal["plain", "chat"] | None = None
    shuffled: int | None = Field(default=None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _folder(cls, value: Any) -> Any:
        return {"folder": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _of_family(self) -> Readout:
        if (self.folder is None) == (self.family is None):
            raise ValueError("it needs either a folder or a family (neurons, direction, heads) to make one of")
        others: tuple[str, ...] = ("samples", "mode", "split")
        if self.family == "neurons":
            others = ("position", "shuffled", "form")
        if self.folder is not None:
            others = ("split", "limit", "samples", "mode", "C", "position", "shuffled", "form")
        for name in others:
            if getattr(self, name) is not None:
                what = "in a folder" if self.folder is not None else f"of family {self.family}"
                raise ValueError(f"a readout {what} has no '{name}'")
        return self


class Control(Model):
    """Matched negative draws. `of` names the interventions (default: all that turn a readout).

    kind: random (other components, or random vectors for a direction), directions (the same heads along random
    directions), shuffled (the readout refitted on permuted labels: the folders in its `shuffled/`).
    """

    of: tuple[str, ...] | None = None
    kind: Literal["random", "directions", "shuffled"] = "random"
    match: Literal["none", "layer", "activation"] = "layer"
    draws: int = Field(default=20, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    orthogonal: bool = Field(default=False, description="take the target's direction out of control directions")


class Settings(Model):
    """How a benchmark is used where that differs from what it declares. Paths are relative to the study file.

    `data` is a file of the benchmark's format, `revision` a commit of its data set or `sha256:` and the file's digest,
    `prompt_file` a template that replaces the style's, `chat` whether the prompt is a user's turn, `manifest` the list
    of its items by role.
    """

    _roles = field_validator("shares")(lambda value: None if value is None else checked_shares(value))

    data: str | None = None
    split: str | None = None
    revision: str | None = None
    prompt_file: str | None = None
    chat: bool | None = None
    manifest: str | None = None
    shares: Shares | None = Field(default=None, description="of its items by role, instead of items.shares")
    max_new_tokens: int | None = Field(default=None, ge=1)
    replicates: int | None = Field(default=None, ge=1, le=1000)


class Primary(Model):
    """The comparison that the control gate reads; `margin` in pp."""

    benchmark: str
    direction: Literal["increase", "decrease", "either"] = "either"
    margin: float = Field(default=2.0, gt=0, description="pp of the benchmark's metric that count as moving it")


class Externality(Model):
    """Surfaces that must stay intact; `non_inferiority` in pp."""

    surfaces: tuple[str, ...]
    non_inferiority: float = Field(default=5.0, gt=0)


class Items(Model):
    """Which items are asked. Shares split entities into roles; an entity has one role in the whole study."""

    limit: int | None = Field(default=None, ge=1, description="items per benchmark and role")
    shares: Shares = Field(default={"readout": 0.4, "select": 0.1, "tune": 0.2, "confirm": 0.3})
    per_entity: int = Field(default=2, ge=1)

    _roles = field_validator("shares")(lambda value: checked_shares(value))


class Effort(Model):
    """How doses of equal effort are found: on `prompts` tune items, at `resid.post` of `layer` (default: the last)."""

    layer: int | None = None
    prompts: int = Field(default=8, ge=1)
    tolerance: float = Field(default=0.05, gt=0, lt=1, description="largest relative miss of an effort")
    largest: float = Field(default=1000.0, gt=0, description="largest dose to try, from the no-op dose")


class Poison(Model):
    """What no chosen setting may do on the tune items; unset limits are not checked."""

    degenerate: float = Field(default=0.0, ge=0, le=1, description="largest share of degenerate rows")
    no_verdict: float = Field(default=0.1, ge=0, le=1, description="largest share of answers that cannot be judged")
    cap_hits: float = Field(default=0.1, ge=0, le=1, description="largest share of answers cut by the token cap")
    bare_loss: float = Field(default=10.0, ge=0, description="largest loss of bare accuracy, pp")
    perplexity_ratio: float = Field(default=1.5, ge=1, description="largest ratio of the perplexity of true statements")


class Calibrate(Model):
    """A grid K x dose on the tune items, and the rule that picks from it."""

    intervention: str
    ks: tuple[int, ...] | None = None
    doses: tuple[float, ...]
    objective: str
    direction: Literal["increase", "decrease"] = "increase"
    secondary: str | None = None
    tolerance: float = Field(default=1.5, ge=0, description="pp within the best that still count as best")
    poison: Poison = Poison()

    @model_validator(mode="after")
    def _distinct(self) -> Calibrate:
        _once(self.doses, "doses")
        _once(self.ks or (), "ks")
        return self


class StudySpec(Model):
    """A whole study file."""

    study: str = Field(pattern=r"^[A-Za-z0-9][\w.-]{0,63}$")
    model: str
    seed: int = Field(default=0, ge=0, lt=2**32)
    readouts: dict[str, Readout] = Field(default={}, description="a folder, or what to make it from")
    interventions: dict[str, Intervention]
    controls: dict[str, Control] = Field(default={})
    benchmarks: tuple[str, ...] = Field(min_length=1)
    settings: dict[str, Settings] = Field(default={}, description="by benchmark, or by its name without the style")
    items: Items = Items()
    effort: Effort = Effort()
    primary: Primary | None = None
    externality: Externality | None = None
    calibrate: Calibrate | None = None

    @model_validator(mode="after")
    def _names_agree(self) -> StudySpec:
        for name in (*self.interventions, *self.controls):
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"the name '{name}' of an intervention or control: use letters, digits, - and _")
            if name in RESERVED:
                raise ValueError(f"the name '{name}' is reserved for what is always run: give it another")
        _once(self.benchmarks, "benchmarks")
        for name, lever in self.interventions.items():
            if lever.readout is not None and lever.readout not in self.readouts:
                raise ValueError(
                    f"intervention '{name}' turns '{lever.readout}'{nearest(lever.readout, self.readouts)}"
                )
        asked = [*self.benchmarks, *(readout.source for readout in self.readouts.values())]
        families = [name.partition("/")[0] for name in asked]
        for name in self.settings:
            if name not in (*asked, *families):
                raise ValueError(f"settings are of '{name}'{nearest(name, (*asked, *families))}")
        turned = [name for name, lever in self.interventions.items() if not lever.is_prompt]
        for name, control in self.controls.items():
            for of in control.of or ():
                if of not in turned:
                    raise ValueError(f"control '{name}' is of '{of}'{nearest(of, turned)}")
        surfaces = [self.primary.benchmark] if self.primary else []
        surfaces += self.externality.surfaces if self.externality else []
        surfaces += (
            [self.calibrate.objective, self.calibrate.secondary or self.calibrate.objective] if self.calibrate else []
        )
        for surface in surfaces:
            if surface not in self.benchmarks:
                raise ValueError(f"'{surface}' is not among the benchmarks{nearest(surface, self.benchmarks)}")
        if self.calibrate and self.calibrate.intervention not in turned:
            named = self.calibrate.intervention
            raise ValueError(f"calibrate names the intervention '{named}'{nearest(named, turned)}")
        return self

    @property
    def fingerprint(self) -> str:
        """Digest of everything declared."""
        return digest(self.model_dump(mode="json"))

    def controlled(self, control: str) -> tuple[str, ...]:
        """Interventions that a control is of."""
        named = self.controls[control].of
        return named or tuple(name for name, lever in self.interventions.items() if not lever.is_prompt)


def _once(values: Iterable[Any], name: str) -> None:
    listed = list(values)
    if len(set(listed)) != len(listed):
        raise ValueError(f"{name} holds a value twice")


def read_study(path: Path, changes: dict[str, Any] | None = None) -> StudySpec:
    """Read a study file; `changes` maps dotted keys to values that replace what it says (`items.limit`: 20)."""
    document = read_yaml(path, "a study file")
    if not isinstance(document, dict):
        raise UsageError(f"'{path.name}' holds {type(document).__name__}, expected keys such as study and model")
    for key, value in (changes or {}).items():
        *parents, last = key.split(".")
        at = document
        for parent in parents:
            at = at.setdefault(parent, {})
            if not isinstance(at, dict):
                raise UsageError(f"--set {key}: '{parent}' holds a value, expected keys")
        at[last] = value
    return validated(StudySpec, document, f"'{path.name}'")


def inside(base: Path, relative: str) -> Path:
    """A path of the study file, which must stay inside the folder the file is in."""
    path = (base / relative).resolve()
    if Path(relative).is_absolute() or not path.is_relative_to(base.resolve()):
        raise UsageError(f"path '{relative}' leaves the study's folder: give one relative to the study file, inside it")
    return path
