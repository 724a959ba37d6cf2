"""What single items do over the doses: always, never, turning once, turning back."""

from __future__ import annotations

from typing import Literal

import numpy as np

from levercheck.errors import UsageError, nearest
from levercheck.evidence.documents import Model
from levercheck.reanalysis.rates import count_of
from levercheck.reanalysis.registry import Parts, estimator, plain
from levercheck.reanalysis.selection import Floats, Selection

Kind = Literal["always", "never", "swing", "up", "down", "mixed"]
_SWINGS = ("up", "down", "mixed")


def kinds(outcomes: Floats) -> list[Kind]:
    """The path of every item of `float64 [items, doses]`: up and down turn exactly once, mixed more often."""
    found: list[Kind] = []
    for row in outcomes == 1:
        turns = int((row[1:] != row[:-1]).sum())
        if turns == 0:
            found.append("always" if row[0] else "never")
        else:
            found.append("mixed" if turns > 1 else "up" if row[-1] else "down")
    return found


def first_turns(outcomes: Floats, doses: Floats) -> Floats:
    """The dose at which each item first differs from the dose before; NaN for items that never turn."""
    turned = outcomes[:, 1:] != outcomes[:, :-1]
    return np.where(turned.any(axis=1), doses[1:][turned.argmax(axis=1)], np.nan)


class PathParameters(Model):
    """`kind` of path; counts are shares of all items or (`of: swing`) of those that turn."""

    kind: Kind
    of: Literal["all", "swing"] = "all"
    early: float | None = None
    z: float | None = None


@estimator("paths", PathParameters)
def paths(selection: Selection, parameters: PathParameters) -> Parts:
    """Items of one kind of path; parts `count`, `mean_turn` (dose of the first turn), `early` (turned by that dose)."""
    grid = selection.grid
    kind = np.array(kinds(grid.outcomes))
    swing = np.isin(kind, _SWINGS)
    chosen = swing if parameters.kind == "swing" else kind == parameters.kind
    n = int(swing.sum()) if parameters.of == "swing" else len(kind)
    parts = {"count": count_of(selection, int(chosen.sum()), n, parameters.z)}
    turns = first_turns(grid.outcomes, grid.doses)[chosen & swing]
    if len(turns):
        parts["mean_turn"] = plain(selection, float(turns.mean()), "dose", len(turns), "mean")
        if parameters.early is not None:
            early = int((turns <= parameters.early).sum())
            parts["early"] = count_of(selection, early, len(turns), parameters.z)
    return parts


@estimator("turn_test")
def turn_test(selection: Selection, _parameters: object) -> Parts:
    """Do items that turn up do so at other doses than items that turn down? Two-sided Mann-Whitney."""
    import scipy.stats

    grid = selection.grid
    kind, turns = np.array(kinds(grid.outcomes)), first_turns(grid.outcomes, grid.doses)
    up, down = turns[kind == "up"], turns[kind == "down"]
    n = len(up) + len(down)
    if not len(up) or not len(down):
        return {"p": plain(selection, None, "p", n, "mann_whitney", "no item of one of the two kinds")}
    found = scipy.stats.mannwhitneyu(up, down, alternative="two-sided")
    return {
        "p": plain(selection, float(found.pvalue), "p", n, "mann_whitney"),
        "statistic": plain(selection, float(found.statistic), "U", n, "mann_whitney"),
    }


class ChurnParameters(Model):
    """Doses before and after, and a second such pair."""

    start: float
    end: float
    other_end: float | None = None


@estimator("churn", ChurnParameters)
def churn(selection: Selection, parameters: ChurnParameters) -> Parts:
    """Turned items between two doses: `up`, `down`, `net`, `total`; with `other_end`, `up_in_both`."""
    grid = selection.grid

    def at(dose: float) -> Floats:
        where = np.flatnonzero(np.isclose(grid.doses, dose, rtol=0, atol=1e-12))
        if len(where) != 1:
            raise UsageError(f"{selection.where}: dose {dose:g}{nearest(str(dose), map(str, grid.doses.tolist()))}")
        return grid.outcomes[:, int(where[0])]

    before, after = at(parameters.start), at(parameters.end)
    rose, fell, n = after > before, after < before, len(before)
    parts = {
        "up": count_of(selection, int(rose.sum()), n),
        "down": count_of(selection, int(fell.sum()), n),
        "total": count_of(selection, int(rose.sum() + fell.sum()), n),
        "net": plain(selection, int(rose.sum()) - int(fell.sum()), "items", n, "up minus down"),
    }
    if parameters.other_end is not None:
        both = rose & (at(parameters.other_end) > before)
        parts["up_in_both"] = count_of(selection, int(both.sum()), n)
    return parts
