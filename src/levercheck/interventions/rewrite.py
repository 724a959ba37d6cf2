"""Weights that compute what an intervention at one dose computes, where such weights exist.

z is what a linear module reads, W z + b what it writes, h what a site holds:

    scale      z_i ← α z_i                W_·i ← α W_·i
    replace    z_i ← z_i + α (v_i − z_i)  W_·i ← (1 − α) W_·i,  b ← b + α W v
    shift      z ← z + α v                b ← b + α W v         (heads at the o_proj input among them)
    add        h ← h + β d                b ← b + β d           at the module whose output h takes over unchanged
    ablate     h ← h − β (h·d) d          W ← (I − β d dᵀ) W, b alike, at attention and MLP outputs, where nothing
                                          stands between the module and the residual stream

Ablation of the residual stream itself is exact in weights only where nothing is left to remove there: β = 1, and the
embedding and every writer below it lose the same direction (Arditi et al. 2024, arXiv 2406.11717, section 4.1).
Everything else is refused with its reason. Arithmetic is float64; results are rounded once to the model's dtype.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from levercheck.errors import UsageError
from levercheck.interventions.operators import RowEdit
from levercheck.interventions.scopes import ALL
from levercheck.interventions.spec import Array, Edit, Intervention
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import ATTN_OUT, MLP_OUT, O_PROJ_INPUT, RESID_POST, RESID_PRE, Site, place
from levercheck.lm.sites import decoder_layers

BAKED = ("scale", "replace", "shift", "add", "ablate")
_PROBE = 7  # tokens
Call = tuple[tuple[Any, ...], dict[str, Any]]
"""What a layer is called with."""


@dataclass
class Rewritten:
    """New tensors by their name in the model's state dict; `biases` names those that the model does not have yet."""

    lm: LanguageModel
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    biases: set[str] = field(default_factory=set)
    untied: bool = False

    def __post_init__(self) -> None:
        self._names: dict[nn.Module, str] = {module: name for name, module in self.lm.model.named_modules()}
        self._state: dict[str, torch.Tensor] = dict(self.lm.model.state_dict())

    @cached_property
    def calls(self) -> list[Call]:
        """What every layer is called with on a few tokens, in layer order."""
        found: list[Call] = []
        layers = decoder_layers(self.lm.decoder)[1]
        note = lambda _module, args, kwargs: found.append((args, kwargs))  # noqa: E731
        handles = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
        try:
            self.lm.decoder(input_ids=_tokens(self.lm), use_cache=False)
        finally:
            for handle in handles:
                handle.remove()
        return found

    def name(self, module: nn.Module) -> str:
        """The module's path in the model."""
        return self._names[module]

    def weight(self, module: nn.Module) -> torch.Tensor:
        """float64 [out, in] (an embedding's: [tokens, width])."""
        name = f"{self.name(module)}.weight"
        stored = self.tensors.get(name, self._state[name]).to(_device(self.lm))
        if not stored.is_floating_point():
            raise UsageError(f"{name} is stored as {stored.dtype}: bake into weights that are not quantised")
        return stored.double() if isinstance(module, nn.Linear | nn.Embedding) else stored.double().T

    def put_weight(self, module: nn.Module, weight: torch.Tensor) -> None:
        """Store a weight as `weight` gives it."""
        name = f"{self.name(module)}.weight"
        plain = weight if isinstance(module, nn.Linear | nn.Embedding) else weight.T
        self.tensors[name] = plain.to(self._state[name].dtype).contiguous()

    def bias(self, module: nn.Module) -> torch.Tensor | None:
        """float64 [out], or None."""
        name = f"{self.name(module)}.bias"
        stored = self.tensors.get(name, self._state.get(name))
        return None if stored is None else stored.to(_device(self.lm)).double()

    def add_bias(self, module: nn.Module, vector: torch.Tensor) -> None:
        """Add float64 [out] to a bias; one that is not there begins at 0. A vector of zeros needs no bias."""
        if not bool(vector.any()):
            return
        name = f"{self.name(module)}.bias"
        held = self.bias(module)
        if held is None:
            self.biases.add(name)
        dtype = self._state[f"{self.name(module)}.weight"].dtype
        self.tensors[name] = (vector if held is None else held + vector).to(dtype)


def rewritten(lm: LanguageModel, intervention: Intervention, dose: float, *, untie: bool = False) -> Rewritten:
    """The tensors that change; a UsageError of one line where weights cannot do what the hooks do.

    `untie` lets an ablation give the language-model head a copy of its own of the embedding it shares.
    """
    _check_bakeable(intervention, dose)
    new = Rewritten(lm)
    with torch.no_grad():
        if intervention.operator == "ablate":
            _ablate(lm, new, intervention, dose, untie)
            return new
        for edit in sorted(intervention.edits, key=lambda e: e.site):
            row = RowEdit(edit, dose, intervention.unit)
            where = place(lm, edit.site)
            if where.write is not None:
                _rewrite_input(new, where.module, intervention.operator, row)
            elif intervention.operator == "add":
                site = _stream(edit.site)
                new.add_bias(_passing(new, site), _tensor(lm, row.sized("direction")))
            else:
                raise UsageError(
                    f"{intervention.operator} at {edit.site} cannot be baked: expected a site that a linear module "
                    "reads (mlp.down_proj.input, attn.o_proj.input)"
                )
    return new


def _check_bakeable(intervention: Intervention, dose: float) -> None:
    if not np.isfinite(dose):
        raise UsageError(f"a dose of {dose} cannot be baked: expected a finite number")
    if intervention.operator not in BAKED:
        why = "a dictionary is not linear" if intervention.operator.startswith("sae") else "its formula is not known"
        raise UsageError(f"{intervention.operator} cannot be baked into weights ({why}): run it with hooks")
    if intervention.scope != ALL:
        raise UsageError(
            f"scope {intervention.scope} cannot be baked: weights act on every position; bake with scope all, or run "
            "it with hooks"
        )
    if intervention.unit == "relative":
        raise UsageError(
            "a relative dose cannot be baked: it follows the length of every activation, a bias does not; give the "
            "dose in unit absolute or sigma"
        )
    if dose == intervention.noop:
        raise UsageError(f"dose {dose:g} is the no-op of {intervention.operator}: nothing to bake")


def _rewrite_input(new: Rewritten, module: nn.Module, operator: str, row: RowEdit) -> None:
    """An edit of what a linear module reads."""
    lm, arrays = new.lm, row.edit.arrays
    weight = new.weight(module)
    if operator == "add":
        new.add_bias(module, weight @ _tensor(lm, row.sized("direction")))
        return
    columns = torch.from_numpy(np.asarray(arrays["indices"], np.int64)).to(_device(lm))
    if operator == "shift":
        new.add_bias(module, weight[:, columns] @ _tensor(lm, row.sized("values")))
        return
    factor = row.dose
    if operator == "replace":
        new.add_bias(module, weight[:, columns] @ _tensor(lm, row.sized("values")))
        factor = 1.0 - row.dose
    weight = weight.clone()
    weight[:, columns] *= factor
    new.put_weight(module, weight)


def _ablate(lm: LanguageModel, new: Rewritten, intervention: Intervention, dose: float, untie: bool) -> None:
    stem, writers, stream = None, {}, []
    for edit in intervention.edits:
        site = _stream(edit.site)
        where = place(lm, site)
        if where.write is not None:
            weight = new.weight(where.module)
            along = _direction(lm, edit)
            new.put_weight(where.module, weight - dose * torch.outer(weight @ along, along))
        elif site.name == RESID_PRE:
            stem = edit
        elif site.name in (ATTN_OUT, MLP_OUT):
            writers[site] = edit
        else:
            stream.append((site, edit))  # two edits may name one place: both are checked
    for site, edit in stream:
        _check_already_removed(site, edit, dose, stem, writers)
    for site, edit in writers.items():
        module, along = _passing(new, site), _direction(lm, edit)
        weight, bias = new.weight(module), new.bias(module)
        new.put_weight(module, weight - dose * torch.outer(along, along @ weight))
        if bias is not None:
            new.add_bias(module, -dose * (along @ bias) * along)
    if stem is not None:
        _project_embeddings(lm, new, _direction(lm, stem), dose, untie)


def _check_already_removed(site: Site, edit: Edit, dose: float, stem: Edit | None, writers: dict[Site, Edit]) -> None:
    """Ablating the stream is exact only where it does nothing any more."""
    below = [Site(layer, name) for layer in range(site.layer + 1) for name in (ATTN_OUT, MLP_OUT)]
    others = [stem, *(writers.get(at) for at in below)]
    if dose != 1.0 or any(other is None or not _parallel(edit, other) for other in others):
        raise UsageError(
            f"ablating at {site} is not exact in weights: the MLP of a layer reads what its attention wrote before the "
            "hook; ablate with dose 1 at all writers (site 'writers': embedding, attention and MLP outputs) instead"
        )


def _parallel(a: Edit, b: Edit) -> bool:
    x, y = (np.asarray(edit.arrays["direction"], np.float64) for edit in (a, b))
    return bool(abs(x @ y) >= (1 - 1e-6) * np.linalg.norm(x) * np.linalg.norm(y))


def _project_embeddings(lm: LanguageModel, new: Rewritten, along: torch.Tensor, dose: float, untie: bool) -> None:
    tables = _embeddings(lm)
    head = lm.model.get_output_embeddings()
    if head is not None and any(head.weight is table.weight for table in tables):
        if not untie:
            raise UsageError(
                "the language-model head shares its matrix with the embedding, which the ablation changes: give "
                "--untie to bake with a head of its own (the checkpoint grows by that matrix)"
            )
        new.untied = True
        new.tensors[f"{new.name(head)}.weight"] = head.weight.detach().clone()
    for table in tables:
        weight = new.weight(table)
        new.put_weight(table, weight - dose * torch.outer(weight @ along, along))


def _embeddings(lm: LanguageModel) -> list[nn.Embedding]:
    """The tables whose sum the first layer reads; anything else in between is a UsageError."""
    first = place(lm, Site(0, RESID_PRE))
    name, _ = decoder_layers(lm.decoder)
    tables = [m for n, m in lm.decoder.named_modules() if isinstance(m, nn.Embedding) and not n.startswith(f"{name}.")]
    held: dict[nn.Module, torch.Tensor] = {}
    handles = [
        t.register_forward_hook(lambda m, _a, out: held.__setitem__(m, out.detach().cpu().double())) for t in tables
    ]
    read: list[torch.Tensor] = []
    handles.append(
        first.module.register_forward_pre_hook(
            lambda _m, args, kwargs: read.append(
                (args[0] if args else kwargs["hidden_states"]).detach().cpu().double()
            ),
            with_kwargs=True,
        )
    )
    try:
        lm.decoder(input_ids=_tokens(lm), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    fitting = [t for t in tables if t in held and held[t].shape[-1] == first.width]
    total = torch.zeros_like(read[0])
    for table in fitting:
        total = total + held[table]
    factor = float((total * read[0]).sum() / (total * total).sum().clamp_min(1e-30))
    if float((read[0] - factor * total).norm() / read[0].norm()) > _tolerance(lm):
        raise UsageError(
            f"{type(lm.model).__name__} does more between its embedding and its first layer than add tables: an "
            "ablation there cannot be baked; run it with hooks"
        )
    return fitting


def _stream(site: Site) -> Site:
    """The input of a layer is the output of the one below."""
    return Site(site.layer - 1, RESID_POST) if site.name == RESID_PRE and site.layer > 0 else site


def _passing(new: Rewritten, site: Site) -> nn.Module:
    """The linear module whose output the site takes over unchanged; a UsageError where there is none."""
    lm = new.lm
    if site.name == RESID_PRE:
        raise UsageError(
            f"an addition at {site} cannot be baked: what enters the first layer has no bias; run it with hooks"
        )
    where = place(lm, site)
    writer = place(lm, Site(site.layer, O_PROJ_INPUT)) if site.name == ATTN_OUT else None
    path, module = (writer.path, writer.module) if writer else (lm.sites[site.layer].path, lm.sites[site.layer].module)
    outlet = place(lm, Site(site.layer, MLP_OUT)) if site.name == RESID_POST else where
    if path != outlet.path and not path.startswith(f"{outlet.path}."):
        norm = outlet.path.rpartition(".")[2]
        raise UsageError(
            f"{site} cannot be baked for {type(lm.model).__name__}: {norm} stands between the weights and the site, "
            "and a norm is not linear; run it with hooks"
        )
    error = _pass_error(lm, site, module, new.calls)
    if error > _tolerance(lm):
        raise UsageError(
            f"{site} cannot be baked for {type(lm.model).__name__}: the layer does not pass {path} on unchanged (off "
            f"by {error:.0%}); run it with hooks"
        )
    return module


def _pass_error(lm: LanguageModel, site: Site, module: nn.Module, calls: list[Call]) -> float:
    """‖change of the site − change of the module's output‖ / ‖the latter‖, measured on one layer."""
    where = place(lm, site)
    layer = decoder_layers(lm.decoder)[1][site.layer]
    args, kwargs = calls[site.layer]
    push: list[torch.Tensor] = []

    def output(pushed: bool) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        handles = [
            where.module.register_forward_hook(
                lambda _m, _a, out: seen.append((out[0] if isinstance(out, tuple) else out).detach().cpu().double())
            )
        ]
        if pushed:
            handles.append(module.register_forward_hook(lambda _m, _a, out: out + push[0].to(out.device, out.dtype)))
        try:
            layer(*args, **kwargs)
        finally:
            for one in handles:
                one.remove()
        return seen[0]

    plain = output(False)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=where.width))
    push.append(noise * plain.norm(dim=-1).mean() / noise.norm())
    return float((output(True) - plain - push[0]).norm() / push[0].expand_as(plain).norm())


def _tokens(lm: LanguageModel) -> torch.Tensor:
    size = int(lm.model.get_input_embeddings().weight.shape[0])
    return (torch.arange(_PROBE, device=lm.device) * 131 + 3)[None] % size


def _tolerance(lm: LanguageModel) -> float:
    return 1e-4 if next(lm.model.parameters()).dtype == torch.float32 else 0.05


def _direction(lm: LanguageModel, edit: Edit) -> torch.Tensor:
    vector = np.asarray(edit.arrays["direction"], np.float64)
    return _tensor(lm, vector / np.linalg.norm(vector))


def _tensor(lm: LanguageModel, array: Array) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, np.float64)).to(_device(lm))


def _device(lm: LanguageModel) -> torch.device:
    """Where to compute in float64."""
    return torch.device("cpu") if lm.device.type == "mps" else lm.device
