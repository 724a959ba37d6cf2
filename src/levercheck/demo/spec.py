"""The settings of the embedded study; their digest is the identity of a run."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from levercheck.audit.spec import AuditSpec
from levercheck.evidence.canonical import digest
from levercheck.evidence.provenance import model_label

CATEGORIES = ("capital", "capital_country", "city_country", "us_city_state", "continent", "language", "symbol")
"""Categories the embedded models answer sometimes rightly and sometimes wrongly. The others (currency, element, atomic
number) are nearly always wrong, so that the category itself would give the label away."""


class DemoSpec(BaseModel):
    """One run of the embedded study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "embedded:smollm2-135m"
    seed: int = 0
    quick: bool = False
    categories: tuple[str, ...] = CATEGORIES
    questions: int = 1911
    samples: int = 5
    role_shares: dict[str, float] = {"readout": 0.45, "select": 0.1, "confirm": 0.45}
    test_share: float = 0.4
    c_grid: tuple[float, ...] = (0.02, 0.04, 0.06, 0.08, 0.12, 0.16)
    folds: int = 5
    select_items: int = 40
    confirm_items: int = 150
    confirm_per_entity: int = 2
    known_share: float = 0.8  # of the samples that must be right for a fact to count as known
    random_sets: int = 8
    audit: AuditSpec = AuditSpec()

    def fingerprint(self, **upstream: Any) -> str:
        """Digest of the settings and of what they are applied to: model identity, facts, instrument."""
        return digest({"spec": self.model_dump(mode="json"), **upstream})


def full(model: str, seed: int) -> DemoSpec:
    """The study as the documentation describes it."""
    return DemoSpec(model=model_label(model), seed=seed, audit=AuditSpec(seed=seed))


def quick(model: str, seed: int) -> DemoSpec:
    """A smaller study for a first look; most of its gates have too few items to be decided."""
    return DemoSpec(
        model=model_label(model),
        seed=seed,
        quick=True,
        questions=480,
        select_items=12,
        confirm_items=36,
        random_sets=5,
        audit=AuditSpec(seed=seed),
    )
