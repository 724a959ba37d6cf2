"""Does a dictionary reconstruct this model's own activations? Asked before anything is steered with it.

Positions left out and counted: the first of every sequence (its start tokens, or where there are none its first token)
and unusually long activations (over ten times the median length): attention sinks dwarf everything else and few
dictionaries were trained on them. The splice replaces the other positions by their reconstruction, or by zero; losses
are read where it stands. One more splice replaces every position, as `sae_full` at scope `all` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence.identity import first_difference
from levercheck.lm.activations import watching
from levercheck.lm.batches import right_padded, token_batches
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import Place, place
from levercheck.lm.saes.sae import Sae
from levercheck.lm.trunk import lower, resumed
from levercheck.stats import Estimate, proportion
from levercheck.stats.resampling import bootstrap_totals

Floats = np.ndarray[Any, np.dtype[np.float64]]
Verdict = Literal["pass", "warn", "fail"]
LONG = 10.0
EXPLAINED, EXPLAINED_FAIL = 0.6, 0.2
RECOVERED, RECOVERED_FAIL = 0.9, 0.5
LENGTH = (0.75, 1.33)  # length of reconstructions against that of activations
_BATCH = 512  # tokens of a batch: the loss needs logits of every position


@dataclass(frozen=True)
class Preflight:
    """What was measured, each with its interval over sequences, and what it means for steering.

    `estimates`: explained (share of variance), cosine, length (of reconstructions, relative), l0 (latents on per
    token), dead (share of latents on nowhere in these tokens; interval over latents), nll_clean, nll_spliced, nll_zero,
    nll_everywhere (nats per token), recovered and recovered_everywhere (share of the loss between zero and clean).
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    estimates: dict[str, Estimate]
    tokens: int
    first: int  # first positions left out
    long: int  # unusually long activations left out
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        counts = {"tokens": self.tokens, "first_positions_left_out": self.first, "long_positions_left_out": self.long}
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            **counts,
            "thresholds": {
                "explained": {"pass": EXPLAINED, "fail": EXPLAINED_FAIL},
                "recovered": {"pass": RECOVERED, "fail": RECOVERED_FAIL},
                "length": list(LENGTH),
            },
            "estimates": {name: estimate.to_dict() for name, estimate in self.estimates.items()},
            **self.facts,
        }


def check_width(lm: LanguageModel, sae: Sae) -> Place:
    """The dictionary's site in the model; another width is a UsageError."""
    where = place(lm, sae.site)
    if where.width != sae.width:
        raise UsageError(
            f"the dictionary at {sae.site} is {sae.width} wide, expected {where.width} as the model's site"
        )
    return where


@torch.inference_mode()
def preflight(
    lm: LanguageModel,
    sae: Sae,
    sequences: Sequence[Sequence[int]],
    *,
    first: int | None = None,
    tick: Callable[[int], None] = lambda rows: None,
) -> Preflight:
    """Measure a dictionary on whole sequences (start tokens included); shorter ones than three tokens are left out.

    first: positions at every start to leave out; the default is the model's start tokens, at least one. Raises
    UsageError for a dictionary of another width, NotEnoughDataError where no sequence is long enough.
    """
    where = check_width(lm, sae)
    lead = max(1, len(lm.start_ids)) if first is None else first
    used = [list(s) for s in sequences if len(s) >= lead + 2]
    if not used:
        raise NotEnoughDataError(f"no sequence of {len(sequences)} has {lead + 2} tokens: give longer text")
    measured = _Measured(lm, sae, where, used, lead)
    for batch in token_batches(used, _BATCH):
        measured.take(batch)
        tick(len(batch))
    kept = int(measured.sums["tokens"].sum())
    if not kept:
        raise NotEnoughDataError("every activation is unusually long: give other text")
    estimates = measured.estimates()
    verdict, reasons = judged(estimates, _other_model(lm, sae))
    facts = {"sequences": len(used), "sequences_too_short": len(sequences) - len(used)}
    return Preflight(verdict, reasons, estimates, kept, lead * len(used), measured.long, facts)


def judged(found: dict[str, Estimate], doubts: Sequence[str] = ()) -> tuple[Verdict, tuple[str, ...]]:
    """A bound must clear a threshold for a pass, and must miss the lower one entirely for a fail; doubts warn."""
    fails, warns = [], list(doubts)
    if found["nll_spliced"].value is None and found["nll_clean"].value is not None:
        fails.append("the model's losses are not finite where reconstructions stand")
    for name, good, bad in (("explained", EXPLAINED, EXPLAINED_FAIL), ("recovered", RECOVERED, RECOVERED_FAIL)):
        estimate = found[name]
        what = {"explained": "of the variance is explained", "recovered": "of the loss is recovered"}[name]
        if estimate.value is None:
            warns.append(f"the share {what} cannot be estimated ({estimate.note})")
            continue
        low = estimate.value if estimate.low is None else estimate.low
        high = estimate.value if estimate.high is None else estimate.high
        shown = f"{estimate.value:.2f} {what}, interval {low:.2f} to {high:.2f}"
        if high < bad:
            fails.append(f"{shown}: below {bad:g}")
        elif low < good:
            warns.append(f"{shown}: not surely {good:g}")
        elif (estimate.clusters or 0) < 2:
            warns.append(f"{shown}: one text has no interval")
    length, l0 = found["length"].value, found["l0"].value
    if length is not None and not LENGTH[0] <= length <= LENGTH[1]:
        warns.append(
            f"reconstructions are {length:.2f} times as long as activations: was the scale of activations folded in?"
        )
    if l0 == 0:
        fails.append("no latent is ever on")
    everywhere = found["recovered_everywhere"]
    if everywhere.high is not None and everywhere.high < RECOVERED_FAIL:
        warns.append(
            f"replacing every position, first and long ones too, recovers {everywhere.value:.2f}: steer with "
            "sae_delta, or with a scope that leaves them alone"
        )
    verdict: Verdict = "fail" if fails else "warn" if warns else "pass"
    return verdict, tuple(fails + warns) or (
        f"at least {EXPLAINED:g} of the variance explained and {RECOVERED:g} of the loss recovered, interval included",
    )


def _other_model(lm: LanguageModel, sae: Sae) -> list[str]:
    made_on = sae.facts.get("model")
    different = first_difference(made_on, lm.identity) if isinstance(made_on, dict) else None
    return [] if different is None else [f"it was trained on another model ({different} differs)"]


class _Measured:
    """Sums per sequence. A first pass over all activations is not kept: variance is taken from raw moments."""

    def __init__(
        self, lm: LanguageModel, sae: Sae, where: Place, sequences: Sequence[Sequence[int]], lead: int
    ) -> None:
        self.lm, self.sae, self.where, self.sequences, self.lead = lm, sae, where, sequences, lead
        names = ("tokens", "residual", "square", "cosine", "l0", "out", "in", "predicted", *_LOSSES)
        self.sums: dict[str, Floats] = {name: np.zeros(len(sequences)) for name in names}
        self.totals = np.zeros((len(sequences), sae.width))  # Σ x per sequence
        self.fired = torch.zeros(sae.latents, dtype=torch.bool, device=lm.device)
        self.median = self._median_length()
        self.long = 0

    def take(self, batch: list[int]) -> None:
        """Four passes of one batch: clean, spliced, zeroed, spliced at every position; the layers below run once."""
        ids, last = right_padded(self.lm, [self.sequences[i] for i in batch])
        with self._above(ids):
            self._passes(batch, ids, last)

    def _above(self, ids: torch.Tensor) -> AbstractContextManager[None]:
        first = self.sae.site.layer
        if first == 0:
            return nullcontext()
        return resumed(self.lm, first, lower(self.lm, first, input_ids=ids, use_cache=False))

    def _passes(self, batch: list[int], ids: torch.Tensor, last: torch.Tensor) -> None:
        position = torch.arange(ids.shape[1], device=ids.device)[None]
        real = (position >= self.lead) & (position <= last[:, None])
        seen: list[torch.Tensor] = []
        with watching(self.lm, [self.sae.site], lambda _site, x: seen.append(x)):
            clean = self._losses(ids)
        x = seen[0].float()
        kept = real & (x.norm(dim=-1) <= LONG * self.median)
        self.long += int(real.sum() - kept.sum())
        self._reconstruction(batch, x, kept)
        predicting = kept[:, :-1] & (position[:, :-1] < last[:, None])
        self.sums["predicted"][batch] = predicting.sum(1).cpu().numpy()
        every = torch.ones_like(kept)
        runs = {"nll_clean": clean, "nll_spliced": self._spliced(ids, kept, zero=False)}
        runs |= {"nll_zero": self._spliced(ids, kept, zero=True)}
        runs |= {"nll_everywhere": self._spliced(ids, every, zero=False)}
        for name, losses in runs.items():
            self.sums[name][batch] = torch.where(predicting, losses.double(), 0.0).sum(1).cpu().numpy()

    def estimates(self) -> dict[str, Estimate]:
        """Every number with its interval."""
        s = self.sums
        mean = self.totals.sum(0) / s["tokens"].sum()
        around = s["square"] - 2 * self.totals @ mean + s["tokens"] * float(mean @ mean)
        found = {
            "explained": _share(np.column_stack([s["residual"], around]), lambda t: 1 - t[:, 0] / t[:, 1], "share"),
            "cosine": _ratio(s["cosine"], s["tokens"], "cosine"),
            "length": _ratio(s["out"], s["in"], "ratio"),
            "l0": _ratio(s["l0"], s["tokens"], "latents/token"),
            "dead": proportion(int((~self.fired).sum()), self.sae.latents),
        }
        for name in _LOSSES:
            found[name] = _ratio(s[name], s["predicted"], "nats/token")
        for name, run in (("recovered", "nll_spliced"), ("recovered_everywhere", "nll_everywhere")):
            parts = np.column_stack([s["nll_clean"], s[run], s["nll_zero"]])
            found[name] = _share(parts, _recovered, "share")
        return found

    def _reconstruction(self, batch: list[int], x: torch.Tensor, kept: torch.Tensor) -> None:
        latent = self.sae.encode(x)
        out = self.sae.decode(latent)
        self.fired |= (latent > 0)[kept].any(0)
        per_token = {
            "residual": (x - out).double().pow(2).sum(-1),
            "square": x.double().pow(2).sum(-1),
            "cosine": torch.cosine_similarity(x, out, dim=-1).double(),
            "l0": (latent > 0).sum(-1).double(),
            "out": out.norm(dim=-1).double(),
            "in": x.norm(dim=-1).double(),
            "tokens": torch.ones_like(kept, dtype=torch.float64),
        }
        for name, values in per_token.items():
            self.sums[name][batch] = torch.where(kept, values, 0.0).sum(1).cpu().numpy()
        self.totals[batch] = torch.where(kept[..., None], x.double(), 0.0).sum(1).cpu().numpy()

    def _spliced(self, ids: torch.Tensor, kept: torch.Tensor, *, zero: bool) -> torch.Tensor:
        def change(x: torch.Tensor) -> torch.Tensor:
            new = torch.zeros_like(x) if zero else self.sae.decode(self.sae.encode(x)).to(x.dtype)
            return torch.where(kept[..., None], new, x)

        with _replacing(self.where, change):
            return self._losses(ids)

    def _losses(self, ids: torch.Tensor) -> torch.Tensor:
        """Negative log-probability of every token but the first, float32 [rows, positions - 1]."""
        logits = self.lm.model(input_ids=ids, use_cache=False).logits.float().flatten(0, 1)
        after = ids.roll(-1, 1).flatten()  # the last of a row wraps round and is dropped
        return torch.nn.functional.cross_entropy(logits, after, reduction="none").view(ids.shape)[:, :-1]

    def _median_length(self) -> float:
        """Median length of the activations of the first sequences, without first positions."""
        some = self.sequences[:16]
        ids, last = right_padded(self.lm, some)
        seen: list[torch.Tensor] = []
        with watching(self.lm, [self.sae.site], lambda _site, x: seen.append(x)):
            self.lm.decoder(input_ids=ids, use_cache=False)
        position = torch.arange(ids.shape[1], device=ids.device)[None]
        inside = (position >= self.lead) & (position <= last[:, None])
        return float(seen[0].float().norm(dim=-1)[inside].median())


_LOSSES = ("nll_clean", "nll_spliced", "nll_zero", "nll_everywhere")


def _recovered(totals: Floats) -> Floats:
    clean, spliced, zero = totals.T
    with np.errstate(divide="ignore", invalid="ignore"):
        share: Floats = np.where(zero > clean, (zero - spliced) / (zero - clean), np.nan)
    return share


def _ratio(top: Floats, bottom: Floats, unit: str) -> Estimate:
    return _share(np.column_stack([top, bottom]), lambda t: t[:, 0] / t[:, 1], unit)


def _share(parts: Floats, statistic: Callable[[Floats], Floats], unit: str) -> Estimate:
    return bootstrap_totals(parts, statistic, unit=unit, clusters=np.arange(len(parts)), cluster_unit="sequence")


@contextmanager
def _replacing(where: Place, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Within the block, the activation at a place is what `change` makes of it."""

    def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    def after(_module: Any, _args: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    if where.side == "input":
        handle = where.module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = where.module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()
