"""Receipts: what the hooks did to every row, measured while they did it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from levercheck.interventions.scopes import Scope
from levercheck.interventions.steps import Steps


@dataclass(frozen=True)
class RowReceipt:
    """One row's receipt.

    `relative_dose` is ‖Δ‖/‖h‖, mean over the positions in scope, then over sites; h is what the site's module would
    have put out (its own activation at output sites) and Δ the change of that, after the edit was rounded to the
    model's dtype. `change` is ‖Δ‖ alone. Both are None where nothing was to be hooked. `prompt` and `decode` count the
    positions edited in prefill and in cached decoding; those of a shared prefix and of rows that have ended are left
    out.
    """

    sites: int
    prompt: int
    decode: int
    relative_dose: float | None
    change: float | None


class Ledger:
    """Running sums per site and row; rows may leave while others go on."""

    def __init__(self, sites: int, rows: int, device: torch.device) -> None:
        self.recording = True
        self._ids = torch.arange(rows, device=device)
        self._counted = torch.ones(rows, dtype=torch.bool, device=device)
        zeros = torch.zeros(sites, rows, dtype=torch.float64, device=device)
        self._ratio, self._change = zeros, zeros.clone()
        self._positions = {"prompt": zeros.clone(), "decode": zeros.clone()}
        self._notes: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._covers: dict[int, list[tuple[Scope, torch.Tensor]]] = {}
        self._steps: Steps | None = None

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with some of the rows."""
        self.close()
        self._ids, self._counted = self._ids[rows], self._counted[rows]

    def count(self, rows: Sequence[int]) -> None:
        """From the next pass on, add up only these of the present rows."""
        self.close()
        self._counted = torch.zeros_like(self._counted)
        self._counted[list(rows)] = True

    def open(self, steps: Steps) -> None:
        """Begin a pass."""
        self._steps = steps

    def cover(self, site: int, scope: Scope, rows: torch.Tensor) -> None:
        """Note that a kernel was in force for these rows (bool [rows])."""
        self._covers.setdefault(site, []).append((scope, rows))

    def note(self, site: int, change: torch.Tensor, size: torch.Tensor) -> None:
        """Note ‖Δ‖ and ‖h‖, float32 [rows, positions]; Δ is 0 outside the scope."""
        self._notes[site] = (change, size)

    @torch.inference_mode()  # sums that a pass in inference mode began can be changed in that mode only
    def close(self) -> None:
        """End a pass: add what it noted."""
        notes, covers, steps = self._notes, self._covers, self._steps
        self._notes, self._covers, self._steps = {}, {}, None
        if not covers or steps is None or not self.recording:
            return
        sites = torch.tensor(sorted(covers), device=self._ids.device)
        rows = torch.stack([_any(covers[site]) for site in sorted(covers)]) & self._counted
        noted = [notes[site] for site in sorted(covers)]
        change = torch.stack([c for c, _ in noted])
        size = torch.stack([s for _, s in noted]).clamp_min(1e-12)
        at = (sites[:, None], self._ids[None])
        for total, values in ((self._ratio, change / size), (self._change, change)):
            total[at] += torch.where(self._counted, values.sum(-1).double(), 0.0)
        if steps.uniform is not None:
            kind = "decode" if steps.uniform > 1 else "prompt"
            self._positions[kind][at] += rows.double() * noted[0][0].shape[1]
            return
        counts = torch.stack([_counted(covers[site], steps) for site in sorted(covers)])
        kind = "decode" if steps.cached else "prompt"
        self._positions[kind][at] += torch.where(self._counted, counts.double(), 0.0)

    def receipts(self) -> list[RowReceipt]:
        """One receipt per row, in the order of `assign`."""
        positions = self._positions["prompt"] + self._positions["decode"]
        touched = positions > 0
        sites = touched.sum(0)
        per_site = positions.clamp_min(1)
        ratio = (self._ratio / per_site).sum(0) / sites.clamp_min(1)
        change = (self._change / per_site).sum(0) / sites.clamp_min(1)
        prompt, decode = (
            self._positions[kind].amax(0) if len(touched) else torch.zeros(touched.shape[1])
            for kind in ("prompt", "decode")
        )
        columns = [t.tolist() for t in (sites, prompt, decode, ratio, change)]
        return [
            RowReceipt(n, int(p), int(d), r if n else None, c if n else None)
            for n, p, d, r, c in zip(*columns, strict=True)
        ]


def _any(covers: list[tuple[Scope, torch.Tensor]]) -> torch.Tensor:
    total = covers[0][1]
    for _, rows in covers[1:]:
        total = total | rows
    return total


def _counted(covers: list[tuple[Scope, torch.Tensor]], steps: Steps) -> torch.Tensor:
    """Positions of each row that any kernel covered, int64 [rows]."""
    assert steps.table is not None
    inside = torch.zeros_like(steps.table, dtype=torch.bool)
    for scope, rows in covers:
        inside |= scope.mask(steps.table) & rows[:, None]
    return inside.sum(1)
