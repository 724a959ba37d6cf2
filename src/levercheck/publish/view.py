"""The one place that knows where things lie in an audit; the page, the card and the figures read through it.

Every accessor tolerates what is absent: an absent estimate reads as "not estimable", an absent table as an empty one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from levercheck.publish.format import Quoted, bare, finite, integer, whole

_DOSE = re.compile(r"\.compliance\.a(-?[0-9.]+(?:e[+-]?[0-9]+)?)$")

TARGET, POSITIVE, RANDOM = "h_neurons", "gradient", "random"

READOUT_ROWS = (
    ("probe.auroc", "probe: all answers"),
    ("probe.auroc.matched", "probe: equally confident"),
    ("probe.auroc.within_category", "probe: within category"),
    ("baseline.neg_logprob.auroc", "log-probability"),
    ("baseline.neg_logprob.auroc.matched", "log-prob.: equally confident"),
    ("baseline.disagreement.auroc", "answer disagreement"),
    ("baseline.category_prior.auroc", "category prior"),
    ("baseline.answer_prior.auroc", "answer prior"),
    ("baseline.length.auroc", "answer length"),
)
"""AUROCs in the order in which they are shown; others of the audit follow under their own id."""


@dataclass(frozen=True)
class ArmView:
    """One set of neurons that was scaled."""

    label: str
    condition: str
    name: str
    neurons: int | None
    layers: tuple[tuple[int, int], ...]  # (layer, neurons in it)


class AuditView:
    """Reading access to the dictionary that `levercheck.audit.derive.derive` returns."""

    def __init__(self, audit: Mapping[str, Any]) -> None:
        self.audit = audit

    def at(self, *path: str) -> Any:
        """The value at a path of keys, or None."""
        found: Any = self.audit
        for key in path:
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def table(self, *path: str) -> dict[str, Any]:
        """The mapping at a path of keys; empty when there is none."""
        found = self.at(*path)
        return dict(found) if isinstance(found, Mapping) else {}

    def rows(self, *path: str) -> list[dict[str, Any]]:
        """The list of mappings at a path of keys; empty when there is none."""
        found = self.at(*path)
        return [dict(row) for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []

    def quote(self, name: str) -> Quoted:
        """The estimate called `name`."""
        return Quoted.read(name, self.table("estimates").get(name))

    @cached_property
    def estimates(self) -> list[Quoted]:
        """Every estimate, by id."""
        return [Quoted.read(str(name), record) for name, record in sorted(self.table("estimates").items())]

    @cached_property
    def arms(self) -> list[ArmView]:
        """Every arm in the audit's order: the H-neurons, the positive control, the random sets."""
        return [self._arm(row) for row in self.rows("arms")]

    def arms_of(self, condition: str) -> list[ArmView]:
        """The arms of one condition."""
        return [arm for arm in self.arms if arm.condition == condition]

    def _arm(self, row: dict[str, Any]) -> ArmView:
        label, condition = str(row.get("label", "")), str(row.get("condition", ""))
        counts = row.get("layers") if isinstance(row.get("layers"), Mapping) else {}
        assert isinstance(counts, Mapping)
        layers = sorted((int(k), v) for k, v in counts.items() if str(k).isdecimal() and whole(v) is not None)
        return ArmView(label, condition, arm_name(label, condition), whole(row.get("neurons")), tuple(layers))

    @property
    def doses(self) -> list[float]:
        """The dose grid."""
        found = self.at("study", "spec", "audit", "doses")
        if isinstance(found, list | tuple):
            return [dose for dose in map(finite, found) if dose is not None]
        named = {match[1] for match in map(_DOSE.search, self.table("estimates")) if match}
        return sorted(float(dose) for dose in named)

    @property
    def noop_dose(self) -> float | None:
        """The dose that changes nothing."""
        return finite(self.at("study", "spec", "audit", "noop_dose"))

    @property
    def changed_doses(self) -> list[float]:
        """The doses at which something is changed."""
        return [dose for dose in self.doses if dose != self.noop_dose]

    def margin(self, name: str) -> float | None:
        """A declared margin."""
        return finite(self.at("study", "spec", "audit", "margins", name))

    @property
    def model_name(self) -> str:
        """What the model is called."""
        for found in (self.at("study", "model", "name"), self.at("study", "spec", "model")):
            if isinstance(found, str) and found:
                return found
        return "an unnamed model"

    @property
    def verdict(self) -> str:
        """The audit's verdict sentence."""
        return str(self.at("verdict", "sentence") or "The audit holds no verdict.")

    def compliance(self, arm: ArmView) -> list[tuple[float, Quoted]]:
        """Dose and compliance of one arm."""
        return [(dose, self.quote(f"{arm.label}.compliance.a{dose:g}")) for dose in self.doses]

    @property
    def has_readout(self) -> bool:
        """Whether the audit holds any AUROC."""
        return any(q.unit.endswith("AUROC") for q in self.estimates)

    def readout_rows(self) -> list[tuple[str, Quoted]]:
        """AUROCs of the probe and of everything that needs no probe, with what they are called."""
        known = dict(READOUT_ROWS)
        extra = [
            q.id
            for q in self.estimates
            if q.id not in known and q.id.startswith(("probe.", "baseline.")) and q.unit.endswith("AUROC")
        ]
        held = self.table("estimates")
        shown = [(name, label) for name, label in READOUT_ROWS if name in held or name.startswith("probe.auroc")]
        return [(label, self.quote(name)) for name, label in [*shown, *((name, name) for name in extra)]]

    def slope_rows(self) -> list[tuple[str, str, Quoted]]:
        """(kind, label, slope) of every arm, then H-neurons minus random, then the interval for a new random set."""
        rows = [(arm.condition, arm.name, self.quote(f"{arm.label}.slope")) for arm in self.arms]
        rows.append(("difference", "H-neurons − random", self.quote(f"{TARGET}.minus_random")))
        rows.append(("prediction", "a new random set", self.quote("random.new_set")))
        return rows

    def criteria(self) -> list[dict[str, Any]]:
        """The criteria of all gates."""
        lists = (gate.get("criteria") for gate in self.rows("gates"))
        return [dict(c) for found in lists if isinstance(found, list | tuple) for c in found if isinstance(c, Mapping)]

    def evidence(self, criterion: Mapping[str, Any]) -> Quoted | str:
        """What a criterion rests on: an estimate, or a plain fact about the instrument in words."""
        name = str(criterion.get("estimate", ""))
        if name in self.table("estimates") or not name.startswith("instrument."):
            return self.quote(name)
        value = self.at(*name.split("."))
        if value is None:
            return compact(None)
        if name == "instrument.noop_largest_difference":
            rows, expected = self.at("instrument", "noop_rows"), self.at("instrument", "noop_expected")
            return f"largest difference {compact(value)} in {bare(rows)} of {bare(expected)} rows"
        if name == "instrument.rows_without_receipt":
            return f"{compact(value)} rows without a receipt"
        return compact(value)


def arm_name(label: str, condition: str) -> str:
    """What an arm is called in a figure."""
    if condition == TARGET:
        return "H-neurons"
    if condition == POSITIVE:
        return "gradient control"
    if condition == RANDOM and label.startswith(f"{RANDOM}-"):
        return f"random set {label.removeprefix(f'{RANDOM}-')}"
    return label


def compact(value: Any) -> str:
    """Any JSON value on one line; absent is said, not left blank."""
    if value is None:
        return "not recorded"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return integer(value) if isinstance(value, int) else f"{value:g}"
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def flatten(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, text), sorted by name."""
    if isinstance(value, Mapping) and value:
        stem = f"{prefix}." if prefix else ""
        return [pair for key in sorted(value) for pair in flatten(value[key], f"{stem}{key}")]
    return [(prefix, compact(value))] if prefix else []
