"""Gates: a claim, the criteria it must meet, and the standing that follows. One rule for all of them.

A criterion compares an estimate's whole interval with a declared threshold. It is `met` when the interval lies beyond
the threshold on the claimed side, `violated` when it lies on the other side, `undecided` when the threshold is inside,
and `missing` when the estimate does not exist. A point estimate alone never decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from levercheck.stats import Estimate

Outcome = Literal["met", "violated", "undecided", "missing"]
Standing = Literal["supported", "contradicted", "inconclusive", "uninformative", "not_graded", "missing"]
GATES = ("measurement", "localization", "control", "externality")


@dataclass(frozen=True)
class Criterion:
    """One condition of a gate, already compared with its estimate."""

    id: str
    text: str
    estimate: str  # id of the estimate it rests on
    relation: Literal[">", "<", "="]
    threshold: float
    outcome: Outcome


@dataclass(frozen=True)
class Gate:
    """A claim and its standing."""

    name: str
    claim: str
    standing: Standing
    reason: str
    criteria: tuple[Criterion, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "criteria": [asdict(criterion) for criterion in self.criteria]}


def compare(
    id: str, text: str, estimates: dict[str, Estimate], name: str, relation: Literal[">", "<"], threshold: float
) -> Criterion:
    """Compare the interval of `estimates[name]` with a threshold."""
    estimate = estimates.get(name)
    outcome: Outcome
    if estimate is None or estimate.low is None or estimate.high is None:
        outcome = "missing"
    elif relation == ">":
        outcome = "met" if estimate.low > threshold else "violated" if estimate.high < threshold else "undecided"
    else:
        outcome = "met" if estimate.high < threshold else "violated" if estimate.low > threshold else "undecided"
    return Criterion(id, text, name, relation, threshold, outcome)


def judge(
    name: str, claim: str, criteria: Sequence[Criterion], *, blind: str | None = None, broken: str | None = None
) -> Gate:
    """Derive a gate's standing: any missing, then all met, then any violated, else inconclusive.

    `blind` says why a negative answer would mean nothing (the assay has not been shown to detect a real effect); then
    `contradicted` and `inconclusive` become `uninformative`. `broken` says why no answer means anything (the instrument
    failed its own checks): every graded standing becomes `uninformative`.
    """
    by_outcome = {o: [c.id for c in criteria if c.outcome == o] for o in ("missing", "violated", "undecided")}
    standing: Standing
    if not criteria:
        standing, reason = "not_graded", "no margin was declared"
    elif by_outcome["missing"]:
        standing, reason = "missing", f"no estimate for {', '.join(by_outcome['missing'])}"
    elif broken is not None:
        standing, reason = "uninformative", broken
    elif all(c.outcome == "met" for c in criteria):
        standing, reason = "supported", "every criterion is met with its whole interval"
    elif blind is not None:
        standing, reason = "uninformative", blind
    elif by_outcome["violated"]:
        standing, reason = (
            "contradicted",
            f"the whole interval is on the wrong side: {', '.join(by_outcome['violated'])}",
        )
    else:
        standing, reason = (
            "inconclusive",
            f"the threshold lies inside the interval: {', '.join(by_outcome['undecided'])}",
        )
    return Gate(name, claim, standing, reason, tuple(criteria))
