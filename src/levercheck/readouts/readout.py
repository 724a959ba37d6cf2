"""A readout on disk: safetensors for its numbers, JSON for what they mean; no pickle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.canonical import digest
from levercheck.lm.tensor_files import Pair

SCHEMA = "levercheck.readout/v1"
TENSORS = "readout.safetensors"
FACTS = "readout.json"
FILES = Pair(TENSORS, FACTS, SCHEMA)

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Readout:
    """A linear readout over MLP neurons: log-odds of "wrong" = intercept + Σ weight · (feature - mean) / deviation.

    Only components with a non-zero weight are held, in (layer, index) order. `mean` is 0 and `deviation` 1 where the
    probe reads raw features. `facts` is plain data: channel, mode, C, training digest, model identity.
    """

    shape: tuple[int, int]  # layers, neurons per layer
    layers: Ints  # int64 [components]
    indices: Ints
    weights: Floats  # float64 [components]
    mean: Floats
    deviation: Floats
    intercept: float
    facts: dict[str, Any] = field(repr=False)
    family: str = "neurons"

    def __post_init__(self) -> None:
        sizes = {len(self.layers), len(self.indices), len(self.weights), len(self.mean), len(self.deviation)}
        if len(sizes) != 1:
            raise UsageError(f"a readout's arrays have lengths {sorted(sizes)}, expected one length")
        if len(self.layers) and not (
            0 <= self.layers.min() <= self.layers.max() < self.shape[0]
            and 0 <= self.indices.min() <= self.indices.max() < self.shape[1]
        ):
            raise UsageError(f"a component lies outside {self.shape[0]} layers x {self.shape[1]} neurons")
        numbers = np.concatenate([self.weights, self.mean, self.deviation, [self.intercept]])
        if not np.isfinite(numbers).all():
            raise UsageError("a readout's numbers must be finite")

    @classmethod
    def of_dense(
        cls,
        weights: Floats,
        intercept: float,
        facts: dict[str, Any],
        mean: Floats | None = None,
        deviation: Floats | None = None,
    ) -> Readout:
        """From dense float64 [layers, neurons] arrays."""
        layers, indices = (a.astype(np.int64) for a in np.nonzero(weights))
        at = (layers, indices)
        ones = np.ones(len(layers))
        return cls(
            (int(weights.shape[0]), int(weights.shape[1])),
            layers,
            indices,
            weights[at].astype(np.float64),
            ones * 0 if mean is None else mean[at].astype(np.float64),
            ones if deviation is None else deviation[at].astype(np.float64),
            float(intercept),
            facts,
        )

    @property
    def neurons(self) -> tuple[tuple[int, int], ...]:
        """The H-neurons: (layer, index) of every positive weight, in layer order."""
        return tuple(
            (int(layer), int(index))
            for layer, index, weight in zip(self.layers, self.indices, self.weights, strict=True)
            if weight > 0
        )

    @property
    def components(self) -> tuple[tuple[int, int], ...]:
        """(layer, index) of every weight that is not zero."""
        return tuple((int(layer), int(index)) for layer, index in zip(self.layers, self.indices, strict=True))

    def select(self, features: np.ndarray[Any, Any]) -> Floats:
        """The readout's components of float [items, layers, neurons], float64 [items, components]; reads only them."""
        if features.shape[1:] != self.shape:
            raise UsageError(f"features have shape {features.shape[1:]}, expected {self.shape} as the readout's model")
        picked: Floats = features[:, self.layers, self.indices].astype(np.float64)
        return picked

    def score(self, selected: Floats) -> Floats:
        """Log-odds of "wrong", float64 [items], from `select`ed features."""
        scores: Floats = (selected - self.mean) / self.deviation @ self.weights + self.intercept
        return scores

    @cached_property
    def fingerprint(self) -> str:
        """Digest of what the readout computes: components, weights, scaling, intercept, channel and model."""
        numbers = [self.weights.tolist(), self.mean.tolist(), self.deviation.tolist(), self.intercept]
        identity = {name: self.facts.get(name) for name in ("channel", "model")}
        return digest([self.family, list(self.shape), [list(c) for c in self.components], numbers, identity])


def save_readout(readout: Readout, folder: Path) -> list[Path]:
    """Write both files; returns their paths."""
    tensors = {
        "layers": readout.layers,
        "indices": readout.indices,
        "weights": readout.weights,
        "mean": readout.mean,
        "deviation": readout.deviation,
        "intercept": np.array([readout.intercept]),
    }
    body = {
        "family": readout.family,
        "shape": list(readout.shape),
        "fingerprint": readout.fingerprint,
        "facts": readout.facts,
    }
    return FILES.write(folder, tensors, body)


def load_readout(folder: Path) -> Readout:
    """Read both files; damage is an IntegrityError, an absent readout a UsageError."""
    folder = folder.parent if folder.is_file() else folder
    body = FILES.body(folder, "make a readout with 'levercheck probe' or import one")
    tensors = FILES.arrays(folder, body)
    try:
        readout = Readout(
            shape=(int(body["shape"][0]), int(body["shape"][1])),
            **{name: tensors[name] for name in ("layers", "indices", "weights", "mean", "deviation")},
            intercept=float(tensors["intercept"][0]),
            facts=body["facts"],
            family=body["family"],
        )
    except (KeyError, ValueError) as error:
        raise IntegrityError(f"{TENSORS} cannot be read ({error}): restore it") from None
    FILES.check(folder, body, readout.fingerprint)
    return readout


def from_coefficients(
    coefficients: Sequence[float] | Floats, intercept: float, shape: tuple[int, int], facts: dict[str, Any]
) -> Readout:
    """A readout from flat coefficients as scikit-learn has them, [layers * neurons] in layer order (raw features)."""
    flat = np.asarray(coefficients, dtype=np.float64).ravel()
    if len(flat) != shape[0] * shape[1]:
        raise UsageError(
            f"{len(flat)} coefficients, expected {shape[0]} layers x {shape[1]} neurons = {shape[0] * shape[1]}: give "
            "the shape of the model they were fitted on"
        )
    return Readout.of_dense(flat.reshape(shape), intercept, facts)
