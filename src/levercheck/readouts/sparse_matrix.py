"""Column access to a wide feature matrix that is never copied: rows, standardisation and float16 stay implicit.

The matrix may be larger than memory (`np.memmap`). It is read in tiles; what leaves this module is float64 and small:
one number per column, or a few gathered columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from levercheck.errors import UsageError

Array = np.ndarray[Any, np.dtype[np.float64]]
Matrix = np.ndarray[Any, Any]  # float16, float32 or float64 [items, features], in memory or mapped
Rows = np.ndarray[Any, Any]  # bool [items] or integer indices

TILE = 1 << 17  # values per float64 tile: 1 MiB, so that a tile is converted and used inside the processor's cache


@dataclass(frozen=True)
class Scaling:
    """Mean and standard deviation of the training items, float64 [features]; constant features get deviation 1."""

    mean: Array
    deviation: Array

    @classmethod
    def of(cls, x: Matrix, rows: Rows | None = None) -> Scaling:
        """Measure both in float64 on the given rows of `x`, float [items, features], a block of columns at a time."""
        chosen = row_indices(rows, len(x))
        items = len(x) if chosen is None else len(chosen)
        width = max(8, 16 * TILE // max(items, 1))
        mean, deviation = np.empty(x.shape[1]), np.empty(x.shape[1])
        for left in range(0, x.shape[1], width):
            block = x[:, left : left + width] if chosen is None else x[chosen, left : left + width]
            block = np.asarray(block, np.float64)
            constant = block.max(axis=0) == block.min(axis=0)  # rounding can leave a constant a deviation above zero
            with np.errstate(invalid="ignore"):  # values that are not finite are refused by the fit, with their place
                mean[left : left + width] = block.mean(axis=0)
                deviation[left : left + width] = np.where(constant, 1.0, block.std(axis=0))
        return cls(mean, np.where(deviation > 0, deviation, 1.0))

    @classmethod
    def identity(cls, features: int) -> Scaling:
        """The scaling that leaves raw features as they are."""
        return cls(np.zeros(features), np.ones(features))

    def __call__(self, x: Matrix) -> Array:
        """Standardise float [items, features]; makes a float64 copy."""
        scaled: Array = (x - self.mean) / self.deviation
        return scaled


def row_indices(rows: Rows | None, items: int) -> np.ndarray[Any, np.dtype[np.intp]] | None:
    """Indices [rows] of a bool mask or of an index array; None means every row."""
    if rows is None:
        return None
    chosen = np.asarray(rows)
    if chosen.ndim == 1 and chosen.dtype == np.bool_ and len(chosen) == items:
        return np.flatnonzero(chosen)
    within = chosen.ndim == 1 and np.issubdtype(chosen.dtype, np.integer)
    if within and -items <= chosen.min(initial=0) and chosen.max(initial=0) < items:
        return np.asarray(chosen % items if items else chosen, np.intp)
    raise ValueError(f"rows must be a bool mask [{items}] or indices below {items}, got {chosen.dtype} {chosen.shape}")


class Columns:
    """The chosen rows of `x`, standardised when `scaling` is given, as products and gathered columns in float64."""

    def __init__(self, x: Matrix, rows: Rows | None = None, scaling: Scaling | None = None):
        """x: float16, float32 or float64 [items, features]; rows: bool mask or indices; scaling: of those features."""
        if x.ndim != 2 or x.dtype not in (np.float16, np.float32, np.float64):
            raise ValueError(f"x must be float16, float32 or float64 [items, features], got {x.dtype} {x.shape}")
        if scaling is not None and not len(scaling.mean) == len(scaling.deviation) == x.shape[1]:
            raise ValueError(f"scaling must have {x.shape[1]} features, got {len(scaling.mean)}")
        self._x = x.view(np.ndarray)
        self._rows = row_indices(rows, len(x))
        self._scaling = scaling
        self.items = len(x) if self._rows is None else len(self._rows)
        self.features = x.shape[1]
        self._by_column = x.flags.f_contiguous and not x.flags.c_contiguous
        self.passes = 0  # how often every column has been read

    def gather(self, columns: np.ndarray[Any, np.dtype[np.intp]]) -> Array:
        """Columns as float64 [rows, columns], standardised; a few times faster when `columns` ascend."""
        if self._by_column:
            block = self._x.T[columns].T
            block = block if self._rows is None else block[self._rows]
        elif self._rows is None:
            block = np.take(self._x, columns, axis=1)
        else:
            block = self._x[self._rows[:, None], columns]
        dense = np.asarray(block, np.float64, order="F")
        if self._scaling is None:
            return dense
        scaled: Array = (dense - self._scaling.mean[columns]) / self._scaling.deviation[columns]
        return scaled

    def margins(self, weights: Array, intercept: float) -> Array:
        """Log-odds float64 [rows] of a sparse solution; only the columns with a weight are read.

        Raises `UsageError` when one of their values is not finite.
        """
        support = np.flatnonzero(weights)
        with np.errstate(invalid="ignore"):
            margins: Array = self.gather(support) @ weights[support] + intercept
        if not np.isfinite(margins).all():
            self._refuse(support)
        return margins

    def gradient(self, residual: Array) -> Array:
        """Xᵀ residual, float64 [features], with products in the matrix's own precision: finds columns, certifies none.

        Raises `UsageError` when a value is not finite; rows whose `residual` is not zero are seen by that check.
        """
        work = np.dtype(np.float64 if self._x.dtype == np.float64 else np.float32)
        direct = self._rows is None and self._x.dtype == work and self._x.flags.c_contiguous
        weights = residual[:, None].astype(work)
        products = self._whole_rows(weights[:, 0]) if direct else self._products(weights)
        gradient: Array = self._checked(products, residual[:, None])[0]
        return gradient

    def gradients(self, residuals: Array) -> Array:
        """Xᵀ residuals, float64 [solutions, features], every product and sum in float64: what certificates rest on.

        Raises `UsageError` as `gradient` does.
        """
        return self._checked(self._products(residuals), residuals)

    def _whole_rows(self, residual: Matrix) -> Array:
        """Products [1, features] without tiles, for a matrix that is used as it lies in memory."""
        total = np.zeros((1, self.features))
        with np.errstate(over="ignore", invalid="ignore"):
            for top in range(0, self.items, 512):
                total[0] += residual[top : top + 512] @ self._x[top : top + 512]
        return total

    def _products(self, residuals: Matrix) -> Array:
        """Tile by tile in the precision of `residuals` [rows, solutions], summed in float64 [solutions, features]."""
        total = np.zeros((self.features, residuals.shape[1]))
        buffer = np.empty(TILE, residuals.dtype)
        with np.errstate(over="ignore", invalid="ignore"):
            for down, across in self._tiles():
                source = self._x[down if self._rows is None else self._rows[down], across]
                if source.dtype != buffer.dtype:
                    tile = buffer[: source.size].reshape(source.shape, order="F" if self._by_column else "C")
                    np.copyto(tile, source)
                    source = tile
                total[across] += source.T @ residuals[down]
        return np.ascontiguousarray(total.T)

    def _tiles(self) -> Iterator[tuple[slice, slice]]:
        """(positions of rows, columns) in the order the matrix lies in memory."""
        height = min(self.items, 2048 if self._by_column else 128)
        width = max(1, TILE // height)
        for left in range(0, self.features, width):
            for top in range(0, self.items, height):
                yield slice(top, top + height), slice(left, left + width)

    def _checked(self, products: Array, residuals: Array) -> Array:
        """Standardised products, every one finite."""
        self.passes += 1
        finite = np.isfinite(products).all(axis=0)
        if not finite.all():
            self._refuse(np.flatnonzero(~finite))
        if self._scaling is not None:
            products -= residuals.sum(axis=0)[:, None] * self._scaling.mean
            products /= self._scaling.deviation
        return products

    def _refuse(self, suspects: np.ndarray[Any, np.dtype[np.intp]]) -> NoReturn:
        """Raise for the first value, in row order, that is not finite in the suspected columns."""
        first: tuple[int, int] | None = None
        for column in suspects.tolist():
            values = self._x[:, column] if self._rows is None else self._x[self._rows, column]
            for at in np.flatnonzero(~np.isfinite(values))[:1].tolist():
                row = at if self._rows is None else int(self._rows[at])
                first = min(first or (row, column), (row, column))
        if first is None:
            raise UsageError(
                f"column {suspects[0]} of x overflows when it is summed, expected values far below the limit of "
                f"{self._x.dtype}: divide the features by a constant"
            )
        raise UsageError(
            f"x holds {self._x[first]} at row {first[0]}, column {first[1]}, expected finite values: capture that item "
            "again or leave its row out"
        )
