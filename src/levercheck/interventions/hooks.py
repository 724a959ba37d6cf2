"""The one hook machine: every operator, per-row treatments, any scope, and receipts of what was changed.

    with Hooks(lm, treatments) as hooks:      # distinct treatments; hooks are installed at all their sites
        hooks.assign([0, 0, 1])               # which treatment each row of the next passes has
        hooks.at(Steps.prompt(lengths, lm.device))  # where the next pass stands
        lm.model(...)
        receipts = hooks.receipts()

Activations are edited out of place, in float32, and cast back. A row whose treatment has no edit at a place, or a no-op
dose, keeps its bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch

from levercheck.errors import LevercheckError
from levercheck.interventions.operators import OPERATORS, Kernel, RowEdit
from levercheck.interventions.receipts import Ledger, RowReceipt
from levercheck.interventions.scopes import Scope
from levercheck.interventions.spec import Treatment
from levercheck.interventions.steps import Steps
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import Place, place


class HookNeverFiredError(LevercheckError):
    """An intervention was in force but its hook did not run: the sweep would have measured nothing."""

    exit_code = 1


@dataclass
class _Group:
    """One kernel of a place: edits of one operator and scope that stand at one turn of their rows' treatments."""

    kernel: Kernel  # compiled for the distinct treatments
    scope: Scope
    edited: torch.Tensor  # bool [treatments]
    chosen: Kernel | None = None  # of the rows assigned
    rows: torch.Tensor | None = None  # bool [rows]


class Hooks:
    """Installs the hooks of a set of treatments; see the module."""

    def __init__(self, lm: LanguageModel, treatments: Sequence[Treatment]) -> None:
        self.lm, self.treatments = lm, tuple(treatments)
        sites = sorted({edit.site for t in treatments for intervention, _ in t.parts for edit in intervention.edits})
        self.spots = [_Spot(self, place(lm, site), number) for number, site in enumerate(sites)]
        self.steps: Steps | None = None
        self._active: dict[Scope, torch.Tensor | bool | None] = {}
        self._handles: list[Any] = []
        self.present: list[int] = []
        self.ledger = Ledger(len(sites), 0, lm.device)

    def __enter__(self) -> Self:
        for spot in self.spots:
            module = spot.place.module
            if spot.place.side == "input":
                self._handles.append(module.register_forward_pre_hook(spot.before, with_kwargs=True))
                if spot.write is not None:
                    self._handles.append(module.register_forward_hook(spot.measure))
            else:
                self._handles.append(module.register_forward_hook(spot.after))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def touches_prompt(self) -> bool:
        """Whether any treatment can change what comes before the last prompt token."""
        return any(t.touches_prompt for t in self.treatments)

    @property
    def first_layer(self) -> int:
        """The lowest layer that any treatment touches; 0 without one."""
        return min((t.first_layer for t in self.treatments if t.first_layer is not None), default=0)

    def assign(self, rows: Sequence[int]) -> None:
        """Give every row of the next passes one of the treatments; receipts start anew."""
        self.present = list(rows)
        index = torch.tensor(list(rows), dtype=torch.long, device=self.lm.device)
        for spot in self.spots:
            spot.assign(index)
        self.ledger = Ledger(len(self.spots), len(rows), self.lm.device)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with some of the rows (int64 positions among the present ones); receipts of the others are kept."""
        for spot in self.spots:
            spot.keep(rows)
        self.ledger.keep(rows)

    def count(self, rows: Sequence[int]) -> None:
        """Keep all rows, but let receipts count only these of the present ones from here on: the others have ended."""
        self.ledger.count(rows)

    def at(self, steps: Steps | None, *, record: bool = True) -> None:
        """Say where the next pass stands; None switches every hook off, `record=False` leaves it out of receipts.

        Before rows are assigned this is a ValueError: the pass would run without its edits.
        """
        if steps is not None and not self.present:
            raise ValueError("no rows have a treatment yet: call assign before at")
        self.ledger.close()
        self.steps, self.ledger.recording = steps, record
        self._active.clear()
        if steps is not None:
            self.ledger.open(steps)

    def active(self, scope: Scope) -> torch.Tensor | bool | None:
        """Of the present pass: False where the scope covers nothing, None where all, else bool [rows, positions, 1]."""
        if scope not in self._active:
            self._active[scope] = False if self.steps is None else self.steps.inside(scope)
        return self._active[scope]

    def receipts(self) -> list[RowReceipt]:
        """What was done to each row since `assign`. A site whose hook never fired is a HookNeverFiredError."""
        self.ledger.close()
        silent = [str(spot.place.site) for spot in self.spots if spot.wanted and not spot.fired]
        if silent:
            raise HookNeverFiredError(
                f"no hook fired at {', '.join(silent[:4])}{' and others' if len(silent) > 4 else ''}, expected one "
                "pass: the model skipped the site"
            )
        return self.ledger.receipts()


class _Spot:
    """The hooks of one place."""

    def __init__(self, hooks: Hooks, where: Place, number: int) -> None:
        self.hooks, self.place, self.number = hooks, where, number
        self.fired, self.wanted = 0, False
        device = hooks.lm.device
        turns: dict[tuple[Any, ...], list[RowEdit | None]] = {}
        whole = False
        for at, treatment in enumerate(hooks.treatments):
            turn = 0
            for intervention, dose in treatment.parts:
                edit = next((e for e in intervention.edits if e.site == where.site), None)
                if edit is None:
                    continue
                operator = OPERATORS.find(intervention.operator)
                whole |= operator.reach == "whole"
                sae = None if edit.sae is None else edit.sae.fingerprint
                slot = turns.setdefault((turn, operator.name, intervention.scope, sae), [None] * len(hooks.treatments))
                slot[at] = RowEdit(edit, dose, intervention.unit)
                turn += 1
        self.columns = None if whole else _union(turns, device)
        width = where.width if self.columns is None else len(self.columns)
        self.groups = []
        for (_, name, scope, _), edits in sorted(turns.items(), key=lambda entry: entry[0][0]):
            kernel = OPERATORS.find(name).compile(edits, self.columns, width, device)
            edited = torch.tensor([edit is not None for edit in edits], device=device)
            self.groups.append(_Group(kernel, scope, edited))
        write = where.write
        self.write = None
        if write is not None:  # carries a change of the input to the module's output, where it is measured
            chosen = write if self.columns is None else write[:, self.columns]
            self.write = chosen.detach().float().T.contiguous()
        self.change: torch.Tensor | None = None

    def assign(self, index: torch.Tensor) -> None:
        self.fired, self.wanted = 0, False
        for group in self.groups:
            group.chosen, group.rows = group.kernel.select(index), group.edited[index]
            self.wanted |= bool(group.rows.any())

    def keep(self, rows: torch.Tensor) -> None:
        for group in self.groups:
            assert group.chosen is not None and group.rows is not None
            group.chosen, group.rows = group.chosen.select(rows), group.rows[rows]

    def _edit(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
        """(edited activation, its columns before, their change as rounded), or None where nothing is in force."""
        live = [(g, self.hooks.active(g.scope)) for g in self.groups]
        live = [(g, mask) for g, mask in live if mask is not False]
        if not live:
            return None
        self.fired += 1
        before = (x if self.columns is None else x[..., self.columns]).float()
        z = before
        for group, mask in live:
            assert group.chosen is not None and group.rows is not None
            z = group.chosen(z, mask if isinstance(mask, torch.Tensor) else None)
            self.hooks.ledger.cover(self.number, group.scope, group.rows)
        new = z.to(x.dtype)
        edited = new if self.columns is None else x.index_copy(-1, self.columns, new)
        return edited, before, new.float() - before

    def before(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Edit a module's input."""
        x = args[0] if args else kwargs["hidden_states"]
        done = self._edit(x)
        if done is None:
            return None
        edited, before, change = done
        if self.write is None:
            self.hooks.ledger.note(self.number, change.norm(dim=-1), before.norm(dim=-1))
        else:
            self.change = change @ self.write
        return ((edited, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": edited})

    def measure(self, _module: Any, _args: Any, output: torch.Tensor) -> None:
        """Relate the change of a linear layer's output to what the output would have been."""
        if self.change is not None:
            size = (output.float() - self.change).norm(dim=-1)
            self.hooks.ledger.note(self.number, self.change.norm(dim=-1), size)
            self.change = None

    def after(self, _module: Any, _args: Any, output: Any) -> Any:
        """Edit a module's output."""
        x = output[0] if isinstance(output, tuple) else output
        done = self._edit(x)
        if done is None:
            return None
        edited, before, change = done
        self.hooks.ledger.note(self.number, change.norm(dim=-1), before.norm(dim=-1))
        return (edited, *output[1:]) if isinstance(output, tuple) else edited


def _union(turns: dict[tuple[Any, ...], list[RowEdit | None]], device: torch.device) -> torch.Tensor:
    found = [edit.edit.arrays["indices"] for edits in turns.values() for edit in edits if edit is not None]
    union: torch.Tensor = torch.unique(torch.cat([torch.from_numpy(indices) for indices in found]))
    return union.to(device)
