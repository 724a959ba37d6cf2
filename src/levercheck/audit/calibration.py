"""Which cell of a K x dose grid a calibration chooses, and why. The rule is pure: a table in, a trace out.

1. The best objective (largest, or smallest where the direction is decrease) is found.
2. The tolerance is max(requested, 100/n) pp: one item of n is the finest difference there is.
3. Cells within the tolerance of the best form the shortlist.
4. Poisoned cells leave it, each with its reasons. Without a survivor the calibration is `poisoned`.
5. The larger secondary, then the smaller distance from the no-op dose, then the smaller K decide.

The objective of the chosen cell is the largest of many on the items it was chosen by, and so promises too much (the
winner's curse): `optimism` says by about how much.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from levercheck.stats import Estimate
from levercheck.stats.resampling import weight_draws

Status = Literal["selected", "poisoned"]
HARMS = ("degenerate", "no_verdict", "cap_hits", "bare_loss", "perplexity_ratio")
"""What the poison gate looks at, in the order in which reasons are given."""
WORDS = {
    "degenerate": "rows with logits that are not finite",
    "no_verdict": "answers without a verdict",
    "cap_hits": "answers cut by the token cap",
    "bare_loss": "loss of bare accuracy",
    "perplexity_ratio": "perplexity of true statements, ratio",
}
CURSE = (
    "the chosen value is the best of the grid on the items it was chosen by, so it is optimistic; the confirm run "
    "measures it afresh"
)
_SAME = 1e-9


@dataclass(frozen=True)
class Candidate:
    """One cell of the grid. Differences are against the unhooked model on the same items.

    `k` is None where the lever was taken as declared; `distance` is |dose - no-op dose|; `objective` and `secondary`
    are paired differences in pp. `harms` has an estimate per name of HARMS that was measured: shares as fractions, the
    loss in pp, the ratio as such. A name that is absent was not measured; an estimate without a value could not be
    made, which is harm.
    """

    k: int | None
    dose: float
    distance: float
    objective: Estimate
    secondary: Estimate | None = None
    harms: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How a person names it."""
        return f"dose {self.dose:g}" if self.k is None else f"K {self.k}, dose {self.dose:g}"

    @property
    def pair(self) -> dict[str, Any]:
        """How a file names it."""
        return {"k": self.k, "dose": self.dose}


@dataclass(frozen=True)
class Rule:
    """What a study declares: `tolerance` in pp; `limits` per name of HARMS."""

    direction: Literal["increase", "decrease"]
    tolerance: float
    limits: Mapping[str, float]


@dataclass(frozen=True)
class Selection:
    """The outcome with its trace, each step a plain record of what was left and why."""

    status: Status
    chosen: Candidate | None
    tolerance: float
    shortlist: tuple[Candidate, ...]
    trace: tuple[dict[str, Any], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "status": self.status,
            "selected": None if self.chosen is None else self.chosen.pair,
            "tolerance_pp": self.tolerance,
            "shortlist": [candidate.pair for candidate in self.shortlist],
            "trace": list(self.trace),
        }


def select(candidates: Sequence[Candidate], rule: Rule, items: int) -> Selection:
    """Apply the rule to a grid whose objective was measured on `items` items (at least 1).

    Cells without an objective (nothing was left to compare) cannot be chosen and are named in the trace. An empty grid
    is a ValueError.
    """
    if not candidates or items < 1:
        raise ValueError(f"a grid of {len(candidates)} cells on {items} items: expected at least one of each")
    sign = 1.0 if rule.direction == "increase" else -1.0
    floor = 100 / items
    tolerance = max(rule.tolerance, floor)
    valued = [c for c in candidates if c.objective.value is not None]
    trace: list[dict[str, Any]] = [
        {"step": "tolerance", "requested_pp": rule.tolerance, "floor_pp": floor, "items": items, "used_pp": tolerance}
    ]
    lost = [c.pair for c in candidates if c.objective.value is None]
    if lost:
        trace.append({"step": "no objective", "left_out": lost})
    if not valued:
        return Selection("poisoned", None, tolerance, (), tuple(trace))
    best = max(_gain(c, sign) for c in valued)
    winners = [c.pair for c in valued if _gain(c, sign) >= best - _SAME]
    trace.append({"step": "best objective", "value_pp": sign * best, "direction": rule.direction, "cells": winners})
    shortlist = [c for c in valued if _gain(c, sign) >= best - tolerance - _SAME]
    trace.append({"step": "shortlist", "cells": [c.pair for c in shortlist]})
    reasons = [(c, poison_reasons(c, rule.limits)) for c in shortlist]
    rejected = [{**c.pair, "reasons": found} for c, found in reasons if found]
    left = [c for c, found in reasons if not found]
    trace.append({"step": "poison gate", "rejected": rejected, "cells": [c.pair for c in left]})
    if not left:
        healthy = [c for c in valued if not poison_reasons(c, rule.limits)]
        top = max((_gain(c, sign) for c in healthy), default=0.0)
        elsewhere = [c.pair for c in healthy if _gain(c, sign) >= top - _SAME]
        trace.append({"step": "best cell outside the shortlist that passes the gate", "cells": elsewhere})
        return Selection("poisoned", None, tolerance, tuple(shortlist), tuple(trace))
    steps: tuple[tuple[str, Callable[[Candidate], float]], ...] = (
        ("largest secondary", lambda c: -_secondary(c)),
        ("smallest distance from the no-op dose", lambda c: c.distance),
        ("smallest K", lambda c: float(c.k or 0)),
        ("smaller dose", lambda c: c.dose),
    )
    for name, key in steps:
        if len(left) == 1:
            break
        least = min(map(key, left))
        kept = [c for c in left if key(c) <= least + _SAME]
        if len(kept) < len(left):
            trace.append({"step": name, "cells": [c.pair for c in kept]})
        left = kept
    return Selection("selected", left[0], tolerance, tuple(shortlist), tuple(trace))


def poison_reasons(candidate: Candidate, limits: Mapping[str, float]) -> list[str]:
    """Why a cell may not be chosen; empty where every harm that was measured is within its limit."""
    found = []
    for name in HARMS:
        if name not in candidate.harms or name not in limits:
            continue
        value, limit = candidate.harms[name].value, limits[name]
        if value is None:
            found.append(f"{WORDS[name]}: not estimable ({candidate.harms[name].note or 'no data'})")
        elif value > limit + _SAME:
            found.append(f"{WORDS[name]}: {_shown(name, value)}, at most {_shown(name, limit)}")
    return found


def optimism(
    changes: npt.NDArray[np.float64],
    clusters: Sequence[str],
    direction: Literal["increase", "decrease"] = "increase",
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """By how much the best of a grid exceeds what it is worth, in pp: mean over cluster resamples of the best cell's
    value in the resample minus the same cell's value in the data (Efron's optimism of a maximum).

    `changes`: float64 [cells, items], treated minus untreated outcome of every item, in [-1, 1]. Signed as the
    objective: negative where the direction is decrease. A number without interval, since it is itself a bootstrap mean.
    """
    sign = 1.0 if direction == "increase" else -1.0
    names = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    member = np.zeros((len(names), changes.shape[1]))
    member[[names[name] for name in clusters], np.arange(changes.shape[1])] = 1.0
    sums, sizes = member @ changes.T * sign, member.sum(axis=1)  # [clusters, cells], [clusters]
    own = sums.sum(axis=0) / sizes.sum()
    gaps = []
    for weights in weight_draws(len(names), resamples, seed):
        means = weights @ sums / (weights @ sizes)[:, None]
        best = means.argmax(axis=1)
        gaps.append(means[np.arange(len(means)), best] - own[best])
    value = 100 * sign * float(np.concatenate(gaps).mean())
    return Estimate(
        value, None, None, 0.95, "pp", changes.shape[1], "bootstrap_optimism", len(names), "entity", seed, resamples,
        f"of the best of {len(changes)} cells",
    )  # fmt: skip


def _gain(candidate: Candidate, sign: float) -> float:
    assert candidate.objective.value is not None
    return sign * candidate.objective.value


def _secondary(candidate: Candidate) -> float:
    """Larger is better; none is worse than any."""
    value = None if candidate.secondary is None else candidate.secondary.value
    return -np.inf if value is None else value


def _shown(name: str, value: float) -> str:
    if name == "bare_loss":
        return f"{value:.1f} pp"
    return f"{value:.2f}" if name == "perplexity_ratio" else f"{100 * value:.1f} %"
