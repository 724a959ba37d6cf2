"""The balance table: do the control draws resemble the target in everything but what it was chosen for?

A control that writes less, or is rarely active, is weaker for that reason alone. Per covariate the table compares the
target's mean with those of the draws. The standardised mean difference divides by the pooled standard deviation of
components, √((s² of the target + s² of the draws)/2), so it does not shrink with more draws; beyond 0.25 in size it is
flagged (Rubin 2001; Stuart 2010). A number that a set has only one of, such as a measured dose, has no components to
pool: it is flagged where the target's differs by more than a quarter from the mean of the draws. No model is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.stats import Estimate, mean, monte_carlo_p

THRESHOLD = 0.25
"""Largest size of a standardised mean difference, of a set's relative difference, or of a distance between layer
histograms, that is not flagged."""

Kind = Literal["components", "set", "distance"]


@dataclass(frozen=True)
class BalanceRow:
    """One covariate.

    `kind`: components (the target's value is the mean over its components), set (one value per set, e.g. a dose; the
    difference is in standard deviations of the draws), distance (between the target's layers and a draw's, 0 to 1: the
    share of components that would have to change layer).

    `controls`: mean over draws, with a Student interval for the mean of further draws. `smd`: None where nothing
    varies and the means differ, and for distances. `rank` of the target among `of` = draws + 1 values, from 1 for the
    smallest, ties counted half; `p` is the two-sided Monte-Carlo p of that rank. `flagged`: beyond THRESHOLD in |SMD|
    (components), in |target / mean of draws - 1| (set) or in distance.
    """

    covariate: str
    kind: Kind
    target: float
    controls: Estimate
    smd: float | None
    rank: float | None
    of: int
    p: float | None
    flagged: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain = {name: getattr(self, name) for name in ("covariate", "kind", "target", "smd", "rank", "of", "p")}
        return {**plain, "controls": self.controls.to_dict(), "flagged": self.flagged}


def balance(
    target: Mapping[str, npt.ArrayLike],
    controls: Mapping[str, npt.ArrayLike],
    *,
    units: Mapping[str, str] | None = None,
) -> list[BalanceRow]:
    """Compare components: `target` float [components] and `controls` float [draws, components] per covariate."""
    if set(target) != set(controls):
        odd = sorted(set(target) ^ set(controls))[0]
        raise UsageError(f"covariate '{odd}' is known of the target or of the controls alone: measure it of both")
    rows = []
    for name in target:
        own, others = _finite(target[name], name, 1), _finite(controls[name], name, 2)
        spreads = [float(part.var(ddof=1)) for part in (own, others.ravel()) if len(part) > 1]
        spread = float(np.sqrt(np.mean(spreads))) if spreads else 0.0
        unit = (units or {}).get(name, "value")
        rows.append(_row(name, "components", float(own.mean()), others.mean(axis=1), spread, unit))
    return rows


def set_balance(name: str, target: float, controls: npt.ArrayLike, *, unit: str = "value") -> BalanceRow:
    """Compare one number per set, e.g. its measured relative dose; `controls` float [draws]."""
    others = _finite(controls, name, 1)
    if not np.isfinite(target):
        raise UsageError(f"{name} of the target is {target}: measure it again")
    return _row(name, "set", float(target), others, float(others.std(ddof=1)) if len(others) > 1 else 0.0, unit)


def layer_balance(target: Sequence[int], controls: Sequence[Sequence[int]]) -> BalanceRow:
    """Total variation distance between the target's layers and each draw's: 0 the same counts, 1 no layer shared."""
    if not len(target) or not len(controls):
        raise NotEnoughDataError("layers of no component or of no draw: there is nothing to compare")
    size = max(max(target), *(max(one) for one in controls)) + 1
    own = np.bincount(target, minlength=size) / len(target)
    gaps = [0.5 * float(np.abs(np.bincount(one, minlength=size) / len(one) - own).sum()) for one in controls]
    found = mean(gaps, unit="share of components")
    flagged = found.value is not None and found.value > THRESHOLD
    return BalanceRow("layers", "distance", 0.0, found, None, None, len(gaps) + 1, None, flagged)


def dose_balance(
    rows: pl.DataFrame, target: str, *, control: str | None = None, dose: str = "dose"
) -> list[BalanceRow]:
    """Measured ‖Δ‖/‖h‖ of the lever `target` and of its control draws, one row per dose at which both were run.

    `rows` needs the columns lever, control (null for the lever itself), draw, relative_dose and the one named `dose`;
    with `control`, only draws of that control count. Rows without a measured dose are left out.
    """
    needed = ("lever", "control", "draw", "relative_dose", dose)
    missing = [name for name in needed if name not in rows.columns]
    if missing:
        raise UsageError(f"rows have no column '{missing[0]}', expected {', '.join(needed)}")
    measured = rows.filter((pl.col("lever") == target) & pl.col("relative_dose").is_finite())
    own = measured.filter(pl.col("control").is_null())
    others = measured.filter(pl.col("control").is_not_null() if control is None else pl.col("control") == control)
    found = []
    for value in sorted(set(own[dose].drop_nulls()) & set(others[dose].drop_nulls())):
        mine = own.filter(pl.col(dose) == value)["relative_dose"].to_numpy()
        per_draw = others.filter(pl.col(dose) == value).group_by("control", "draw").agg(pl.col("relative_dose").mean())
        name = f"relative dose at {value:g}"
        found.append(set_balance(name, float(mine.mean()), per_draw["relative_dose"].to_numpy(), unit="‖Δ‖/‖h‖"))
    if not found:
        raise NotEnoughDataError(f"no dose of '{target}' was measured both of it and of a control draw: run both")
    return found


COLUMNS = ("covariate", "target", "mean of draws", "SMD", "rank", "balanced")


def cells(row: BalanceRow, number: Callable[[float], str] = "{:.4g}".format) -> tuple[str, ...]:
    """A row as text, under COLUMNS."""
    found = row.controls
    shown = "not estimable" if found.value is None else number(found.value)
    if found.low is not None and found.high is not None:
        shown += f" [{number(found.low)}, {number(found.high)}]"
    smd = "" if row.smd is None else f"{row.smd:+.2f}"
    rank = "" if row.rank is None else f"{row.rank:g} of {row.of}"
    return row.covariate, number(row.target), shown, smd, rank, "no" if row.flagged else "yes"


def legend(draws: int) -> str:
    """One sentence on how to read the table."""
    return (
        f"{draws} draws; interval: 95 % Student over draws; SMD: standardised mean difference, target minus draws; "
        f"balanced: |SMD| at most {THRESHOLD:g} (layers: distance; doses and shares of a set: within {THRESHOLD:.0%})."
    )


def _row(name: str, kind: Kind, own: float, others: np.ndarray[Any, Any], spread: float, unit: str) -> BalanceRow:
    centre = float(others.mean())
    gap = own - centre
    still = 1e-9 * max(abs(own), abs(centre), float(np.abs(others).max()))
    without_spread = 0.0 if abs(gap) <= still else None
    smd = gap / spread if spread > still else without_spread
    rank = 1 + float((others < own - still).sum()) + 0.5 * float((np.abs(others - own) <= still).sum())
    apart = abs(gap) > max(THRESHOLD * abs(centre), still)
    flagged = apart if kind == "set" else smd is None or abs(smd) > THRESHOLD
    p = monte_carlo_p(own, np.where(np.abs(others - own) <= still, own, others), "two-sided")
    return BalanceRow(name, kind, own, mean(others, unit=unit), smd, rank, len(others) + 1, p, flagged)


def _finite(values: npt.ArrayLike, name: str, ndim: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    array = np.asarray(values, np.float64)
    if array.ndim != ndim or not array.size:
        raise UsageError(f"{name} has shape {list(array.shape)}, expected {ndim} dimensions and at least one value")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} has numbers that are not finite: measure it again")
    return array
