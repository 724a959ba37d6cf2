"""What every part of an import needs: the files, the workspace, and the checks between parts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from levercheck.audit.labels import judged_labels
from levercheck.detect.labelling import judged_samples
from levercheck.detect.workspace import Workspace
from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.canonical import file_digest
from levercheck.interop.h_neurons_activations import Reduce
from levercheck.interop.h_neurons_formats import FORMAT
from levercheck.lm.model import LanguageModel


@dataclass(frozen=True)
class Files:
    """What to read; every part may be left out. Several activation folders may each hold some of the items."""

    samples: Path | None = None
    answer_tokens: Path | None = None
    train_ids: Path | None = None
    test_ids: Path | None = None
    activations: tuple[Path, ...] = ()
    classifier: Path | None = None

    def identity(self, *names: str) -> dict[str, Any]:
        """What a unit records of the named files."""
        listed = {
            name: {"name": path.name, "sha256": file_digest(path)}
            for name in names
            if (path := getattr(self, name)) is not None
        }
        return {"format": FORMAT, "files": listed}


@dataclass(frozen=True)
class Options:
    """How to read it."""

    instruction: str = ""  # sentence that follows every question in a chat turn; taken off where the files have it
    shape: tuple[int, int] | None = None
    reduce: Reduce | None = None
    locations: tuple[str, ...] = ()  # of the activations; none named: all there are
    max_missing: float = 0.02  # largest share of a role's items that may lack activations

    def bare(self, question: str) -> str:
        """A question without the instruction."""
        text, ending = question.strip(), self.instruction.strip()
        return text.removesuffix(ending).rstrip() if ending else text


@dataclass
class Imported:
    """What became of every part, and what a reader should know."""

    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {"parts": self.parts, "notes": self.notes}


@dataclass
class Context:
    """One import into one workspace."""

    ws: Workspace
    files: Files
    options: Options
    lm: LanguageModel | None
    report: Imported

    @property
    def model(self) -> dict[str, Any] | None:
        """Identity of the model that was given."""
        return self.lm.identity if self.lm else None

    @cached_property
    def labels(self) -> dict[str, str]:
        """Label of every judged item, read when the answers are there; empty when there are none."""
        if not self.ws.has("answers"):
            return {}
        frame = judged_labels(judged_samples(self.ws), self.ws.settings("answers")["sampling"]["samples"])
        return dict(frame.select("item_id", "label").iter_rows())

    def check_known(self, qids: Sequence[str], what: str) -> None:
        """Ids that the workspace's questions do not have are a UsageError; without questions nothing is known."""
        if not self.ws.has("questions"):
            return
        known: Collection[str] = set(self.ws.rows("questions")["item_id"])
        unknown = [qid for qid in qids if qid not in known]
        if unknown:
            raise UsageError(
                f"{len(unknown)} of {len(qids)} qids of the {what} (first '{unknown[0]}') are not among the "
                f"workspace's {len(known)} questions: give the files of one run"
            )

    def check_labels(self, labels: dict[str, str | None], where: str) -> None:
        """A right item that is called wrong, or the other way round, is an IntegrityError."""
        conflicts = [qid for qid, label in labels.items() if {label, self.labels.get(qid)} == {"right", "wrong"}]
        if conflicts:
            raise IntegrityError(
                f"the {where} and the verdicts disagree on {len(conflicts)} items (first '{conflicts[0]}'), expected "
                "none: give the files of one run"
            )
