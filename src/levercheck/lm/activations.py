"""Activations at sites: what directions, head probes and dictionaries are made from.

One pass through the trunk serves all sites; layers above the highest one are not computed. Reductions are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from levercheck.errors import UsageError
from levercheck.lm.batches import right_padded, token_batches
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import Place, Site, place
from levercheck.lm.trunk import lower

Region = tuple[int, int]
"""Half-open positions of a sequence."""


@contextmanager
def watching(lm: LanguageModel, sites: Sequence[Site], see: Callable[[Site, torch.Tensor], None]) -> Iterator[None]:
    """Within the block, `see(site, activation [rows, positions, width])` is called whenever a site is passed."""
    handles = [_watch(place(lm, site), see) for site in dict.fromkeys(sites)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _watch(where: Place, see: Callable[[Site, torch.Tensor], None]) -> Any:
    if where.side == "input":

        def before(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            see(where.site, args[0] if args else kwargs["hidden_states"])

        return where.module.register_forward_pre_hook(before, with_kwargs=True)

    def after(_module: Any, _args: Any, output: Any) -> None:
        see(where.site, output[0] if isinstance(output, tuple) else output)

    return where.module.register_forward_hook(after)


@torch.inference_mode()
def pooled(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    sites: Sequence[Site],
    regions: Sequence[Region],
    *,
    tick: Callable[[int], None] = lambda rows: None,
) -> dict[Site, torch.Tensor]:
    """Mean activation over each sequence's region, float32 [sequences, width] per site, on the CPU.

    For the last prompt token give `(len(s) - 1, len(s))`. Sequences are whole: start tokens and prefixes included.
    """
    _check(sequences, regions)
    out = {site: torch.empty(len(sequences), place(lm, site).width) for site in sites}
    for batch in token_batches(sequences):
        mask = _mask(lm, sequences, regions, batch)
        share = (mask / mask.sum(1, keepdim=True))[:, None]  # [rows, 1, positions]

        def see(site: Site, x: torch.Tensor, share: torch.Tensor = share, batch: list[int] = batch) -> None:
            out[site][batch] = torch.bmm(share, x.float())[:, 0].cpu()

        _pass(lm, [sequences[i] for i in batch], sites, see)
        tick(len(batch))
    return out


@torch.inference_mode()
def per_token(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    site: Site,
    regions: Sequence[Region],
    *,
    tick: Callable[[int], None] = lambda rows: None,
) -> torch.Tensor:
    """Activations of every token of every region, float32 [tokens, width] in the order of the sequences, on the CPU."""
    _check(sequences, regions)
    found: dict[int, torch.Tensor] = {}
    for batch in token_batches(sequences):

        def see(_site: Site, x: torch.Tensor, batch: list[int] = batch) -> None:
            for row, i in enumerate(batch):
                found[i] = x[row, regions[i][0] : regions[i][1]].float().cpu()

        _pass(lm, [sequences[i] for i in batch], [site], see)
        tick(len(batch))
    return torch.cat([found[i] for i in range(len(sequences))])


def _pass(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    sites: Sequence[Site],
    see: Callable[[Site, torch.Tensor], None],
) -> None:
    ids, _ = right_padded(lm, sequences)
    above = max(site.layer for site in sites) + 1
    with watching(lm, sites, see):
        if above < lm.shape[0]:
            lower(lm, above, input_ids=ids, use_cache=False)
        else:
            lm.decoder(input_ids=ids, use_cache=False)


def _mask(
    lm: LanguageModel, sequences: Sequence[Sequence[int]], regions: Sequence[Region], batch: Sequence[int]
) -> torch.Tensor:
    position = torch.arange(max(len(sequences[i]) for i in batch), device=lm.device)[None]
    start, stop = (torch.tensor([regions[i][end] for i in batch], device=lm.device)[:, None] for end in (0, 1))
    return ((position >= start) & (position < stop)).float()


def _check(sequences: Sequence[Sequence[int]], regions: Sequence[Region]) -> None:
    for number, (sequence, (start, stop)) in enumerate(zip(sequences, regions, strict=True)):
        if not 0 <= start < stop <= len(sequence):
            raise UsageError(
                f"region ({start}, {stop}) of sequence {number} with {len(sequence)} tokens: expected 0 <= start < stop"
                " <= length"
            )
