"""What every component does on ordinary text: how often and how strongly it is active, and how much it can write.

Matched control draws and balance tables need this for all components of a model, not only for the chosen ones. One
streaming pass serves neurons, heads and dictionaries; sums are float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch

from levercheck.errors import NotEnoughDataError, UsageError
from levercheck.evidence.canonical import digest
from levercheck.lm.activations import Region, watching
from levercheck.lm.batches import right_padded, token_batches
from levercheck.lm.model import LanguageModel
from levercheck.lm.places import ATTN_OUT, O_PROJ_INPUT, Site, head_shape, place
from levercheck.lm.saes.sae import Sae
from levercheck.lm.sites import DOWN_PROJ_INPUT
from levercheck.lm.trunk import lower
from levercheck.readouts.geometry import NormGain, norm_gain, post_mlp_norm
from levercheck.readouts.unembed import final_norm, unembedding

Array = np.ndarray[Any, Any]
_CHUNK = 8192


@dataclass(frozen=True)
class NeuronStatistics:
    """Float32 [layers, neurons] each, of z at `mlp.down_proj.input` over all tokens.

    `frequency`: share of tokens with z > 0, or with |z| above the threshold that was asked for. `write_norm`: length of
    what a unit of z adds to the residual stream. `logit_norm`: length of what it adds to the logits directly, less
    their mean, through the final norm's gain.
    """

    mean: Array
    variance: Array
    mean_abs: Array
    frequency: Array
    write_norm: Array
    logit_norm: Array


@dataclass(frozen=True)
class HeadStatistics:
    """Float32 [layers, heads] each, of a head's output at `attn.o_proj.input` over all tokens.

    `mean_norm`: mean length; `variance`: summed over the head's coordinates; `write_norm`: Frobenius norm of the head's
    block of the output projection.
    """

    mean_norm: Array
    variance: Array
    write_norm: Array


@dataclass(frozen=True)
class LatentStatistics:
    """Float32 [latents] each. `rate`: share of tokens on which a latent is on; `mean_on`: its mean there, 0 where it
    never was (its rate says so); `decoder_norm`: length of its decoder row in units of the site.
    """

    rate: Array
    mean_on: Array
    decoder_norm: Array


@dataclass(frozen=True)
class ComponentStatistics:
    """Statistics of one model on given text. `latents` is keyed by the dictionary's fingerprint."""

    neurons: NeuronStatistics
    heads: HeadStatistics | None
    latents: Mapping[str, LatentStatistics]
    tokens: int
    sequences: int
    threshold: float | None
    text: str  # digest of the token sequences and regions
    model: Mapping[str, Any] = field(repr=False)

    def arrays(self) -> dict[str, Array]:
        """Every array under its name on disk."""
        groups: dict[str, Any] = {"neurons": self.neurons, "heads": self.heads}
        groups |= {f"latents.{name}": found for name, found in self.latents.items()}
        return {
            f"{group}.{entry.name}": getattr(found, entry.name)
            for group, found in groups.items()
            if found is not None
            for entry in fields(found)
        }


def component_statistics(
    lm: LanguageModel,
    sequences: Sequence[Sequence[int]],
    *,
    regions: Sequence[Region] | None = None,
    saes: Sequence[Sae] = (),
    threshold: float | None = None,
    tick: Callable[[int], None] = lambda rows: None,
) -> ComponentStatistics:
    """Measure every component on the tokens of `regions` (half-open, one per sequence; default all tokens).

    Sequences are whole. `threshold` counts a neuron as active where |z| exceeds it; without one, where z > 0. A model
    whose attention has no heads that can be told apart has `heads` None.
    """
    spans = [(0, len(s)) for s in sequences] if regions is None else list(regions)
    for number, (sequence, (start, stop)) in enumerate(zip(sequences, spans, strict=True)):
        if not 0 <= start < stop <= len(sequence):
            raise UsageError(f"region ({start}, {stop}) of sequence {number}: expected part of {len(sequence)} tokens")
    tokens = sum(stop - start for start, stop in spans)
    if tokens < 2:
        raise NotEnoughDataError(f"{tokens} tokens to measure components on, expected at least 2: give more text")
    layers = range(lm.shape[0])
    try:
        shape: tuple[int, int, int] | None = head_shape(lm)
    except UsageError:
        shape = None
    neurons = {Site(layer, DOWN_PROJ_INPUT): _Neurons(lm.shape[1], threshold, lm.device) for layer in layers}
    heads = {Site(layer, O_PROJ_INPUT): _Heads(shape[1:], lm.device) for layer in layers} if shape else {}
    latents = [(sae, _Latents(sae, lm.device)) for sae in saes]
    by_site: dict[Site, list[Any]] = {}
    for site, counter in [*neurons.items(), *heads.items(), *((sae.site, found) for sae, found in latents)]:
        by_site.setdefault(site, []).append(counter)
    with torch.inference_mode():
        for batch in token_batches(sequences):
            ids, _ = right_padded(lm, [sequences[i] for i in batch])
            position = torch.arange(ids.shape[1], device=lm.device)[None]
            first, end = (torch.tensor([spans[i][side] for i in batch], device=lm.device)[:, None] for side in (0, 1))
            inside = (position >= first) & (position < end)

            def see(site: Site, x: torch.Tensor, inside: torch.Tensor = inside) -> None:
                rows = x[inside].float()
                for counter in by_site[site]:
                    counter.add(rows)

            with watching(lm, list(by_site), see):
                lm.decoder(input_ids=ids, use_cache=False)
            tick(len(batch))
    mean, variance, mean_abs, frequency = (
        np.stack(columns) for columns in zip(*(counter.result() for counter in neurons.values()), strict=True)
    )
    write, logit = _write_norms(lm)
    return ComponentStatistics(
        NeuronStatistics(mean, variance, mean_abs, frequency, write, logit),
        _head_statistics(lm, heads),
        {sae.fingerprint: found.result() for sae, found in latents},
        tokens,
        len(sequences),
        threshold,
        digest([[list(s) for s in sequences], [list(r) for r in spans]]),
        dict(lm.identity),
    )


def activations_at(
    lm: LanguageModel, sequences: Sequence[Sequence[int]], sites: Sequence[Site], tokens: int, seed: int
) -> dict[Site, Array]:
    """Activations at the same `tokens` random positions of each site, float32 [tokens, width]; fewer where there are
    fewer. For covariance-matched directions, which need all layers to be seen at the same tokens.
    """
    places = [(number, at) for number, sequence in enumerate(sequences) for at in range(len(sequence))]
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.choice(len(places), min(tokens, len(places)), replace=False).tolist())
    by_sequence: dict[int, list[tuple[int, int]]] = {}
    for row, index in enumerate(chosen):
        by_sequence.setdefault(places[index][0], []).append((row, places[index][1]))
    out = {site: np.empty((len(chosen), place(lm, site).width), np.float32) for site in sites}
    names = sorted(by_sequence)
    above = max(site.layer for site in sites) + 1
    with torch.inference_mode():
        for batch in token_batches([sequences[i] for i in names]):
            found = [(at, row, column) for at, i in enumerate(batch) for row, column in by_sequence[names[i]]]
            where, rows, columns = (list(part) for part in zip(*found, strict=True))

            def see(
                site: Site,
                x: torch.Tensor,
                where: list[int] = where,
                rows: list[int] = rows,
                columns: list[int] = columns,
            ) -> None:
                out[site][rows] = x[where, columns].float().cpu().numpy()

            ids, _ = right_padded(lm, [sequences[names[i]] for i in batch])
            with watching(lm, sites, see):
                if above < lm.shape[0]:
                    lower(lm, above, input_ids=ids, use_cache=False)
                else:
                    lm.decoder(input_ids=ids, use_cache=False)
    return out


class _Moments:
    """Running count, mean and summed squared deviation per column, float64 (Chan et al. 1983)."""

    def __init__(self, width: int, device: torch.device) -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self.squares = torch.zeros_like(self.mean)

    def add(self, rows: torch.Tensor) -> None:
        """Rows float32 [tokens, width]."""
        if not len(rows):
            return
        mean = rows.mean(0)
        squares = (rows - mean).square().sum(0).double()
        count, gap = self.count + len(rows), mean.double() - self.mean
        self.squares += squares + gap.square() * (self.count * len(rows) / count)
        self.mean += gap * (len(rows) / count)
        self.count = count


class _Neurons:
    """Moments, mean |z| and frequency of one layer's neurons."""

    def __init__(self, width: int, threshold: float | None, device: torch.device) -> None:
        self.threshold, self.moments = threshold, _Moments(width, device)
        self.absolute = torch.zeros(width, dtype=torch.float64, device=device)
        self.active = torch.zeros(width, dtype=torch.int64, device=device)

    def add(self, rows: torch.Tensor) -> None:
        """Rows float32 [tokens, neurons]."""
        self.moments.add(rows)
        self.absolute += rows.abs().sum(0).double()
        self.active += (rows > 0 if self.threshold is None else rows.abs() > self.threshold).sum(0)

    def result(self) -> list[Array]:
        """Mean, variance, mean |z|, frequency: float32 [neurons] each."""
        n = self.moments.count
        found = [self.moments.mean, self.moments.squares / (n - 1), self.absolute / n, self.active.double() / n]
        return [t.float().cpu().numpy() for t in found]


class _Heads:
    """Mean norm and variance of one layer's heads."""

    def __init__(self, shape: tuple[int, int], device: torch.device) -> None:
        self.shape, self.moments = shape, _Moments(shape[0] * shape[1], device)
        self.norm = torch.zeros(shape[0], dtype=torch.float64, device=device)

    def add(self, rows: torch.Tensor) -> None:
        """Rows float32 [tokens, heads * head width]."""
        self.moments.add(rows)
        self.norm += rows.view(len(rows), *self.shape).norm(dim=-1).sum(0).double()

    def result(self) -> list[Array]:
        """Mean norm, variance: float32 [heads] each."""
        n = self.moments.count
        variance = (self.moments.squares / (n - 1)).view(self.shape).sum(-1)
        return [t.float().cpu().numpy() for t in (self.norm / n, variance)]


class _Latents:
    """Rate and mean of one dictionary's latents."""

    def __init__(self, sae: Sae, device: torch.device) -> None:
        self.sae, self.count = sae, 0
        self.on = torch.zeros(sae.latents, dtype=torch.float64, device=device)
        self.total = torch.zeros_like(self.on)

    def add(self, rows: torch.Tensor) -> None:
        """Rows float32 [tokens, width]."""
        latents = self.sae.encode(rows)
        self.on += (latents > 0).sum(0).double()
        self.total += latents.sum(0).double()
        self.count += len(rows)

    def result(self) -> LatentStatistics:
        """See `LatentStatistics`."""
        mean = self.total / self.on.clamp_min(1)
        norm = np.linalg.norm(self.sae.w_dec.astype(np.float64), axis=1) / self.sae.scale
        rate = self.on / self.count
        return LatentStatistics(*(np.asarray(t).astype(np.float32) for t in (rate.cpu(), mean.cpu(), norm)))


def _head_statistics(lm: LanguageModel, heads: Mapping[Site, _Heads]) -> HeadStatistics | None:
    if not heads:
        return None
    measured, write = [], []
    for site, counter in heads.items():
        measured.append(counter.result())
        matrix = place(lm, site).write
        assert matrix is not None
        gain = _attention_gain(lm, site.layer, len(matrix))
        columns = matrix.detach().T.cpu().double()
        read = columns if gain is None else gain(columns)
        write.append(read.reshape(*counter.shape, -1).square().sum((1, 2)).sqrt().float().numpy())
    mean_norm, variance = (np.stack(columns) for columns in zip(*measured, strict=True))
    return HeadStatistics(mean_norm, variance, np.stack(write))


def _attention_gain(lm: LanguageModel, layer: int, hidden: int) -> NormGain | None:
    """The gain of the norm between an attention and the residual stream; None where there is none."""
    found = place(lm, Site(layer, ATTN_OUT))
    return norm_gain(found.module, hidden) if found.path.endswith("_layernorm") else None


def _write_norms(lm: LanguageModel) -> tuple[Array, Array]:
    """Lengths of every neuron's write vector and of its direct effect on the logits, float32 [layers, neurons] each.

    The second comes from the Gram matrix of the centred unembedding, ‖U v‖² = vᵀ(UᵀU)v: no [neurons, vocabulary] table.
    """
    matrix = unembedding(lm)
    hidden = matrix.shape[1]
    centre = matrix.double().mean(0).float() if matrix.dtype != torch.float32 else matrix.mean(0)
    gram = torch.zeros(hidden, hidden, dtype=torch.float64)
    for start in range(0, len(matrix), _CHUNK):
        part = matrix[start : start + _CHUNK].float() - centre
        gram += (part.T @ part).double().cpu()
    last = norm_gain(final_norm(lm), hidden)
    write, logit = [], []
    for site in lm.sites:
        vectors = site.write.detach().T.cpu().double()
        norm = post_mlp_norm(lm, site.layer)
        vectors = vectors if norm is None else norm_gain(norm[1], hidden)(vectors)
        write.append(vectors.norm(dim=1).float().numpy())
        read = last(vectors)
        logit.append(((read @ gram) * read).sum(1).clamp_min(0).sqrt().float().numpy())
    return np.stack(write), np.stack(logit)
