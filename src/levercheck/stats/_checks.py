"""Input checks shared by the estimators: every refusal names the count and what to do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def finite(values: npt.ArrayLike, name: str, ndim: int) -> Floats:
    """``values`` as float64 with ``ndim`` axes; ``ValueError`` naming the count of missing or infinite
    entries.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim:
        raise ValueError(f"{name} has {array.ndim} axes, expected {ndim}")
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise ValueError(f"{name} has {bad} missing or infinite entries out of {array.size}: drop or bound them first")
    return array


def boolean(values: npt.ArrayLike, name: str, ndim: int = 1) -> Bools:
    """``values`` as booleans; anything but 0, 1, True or False is a ``ValueError`` naming the count."""
    array = np.asarray(values)
    if array.dtype != np.bool_:
        numbers = finite(array, name, ndim)
        bad = int(((numbers != 0.0) & (numbers != 1.0)).sum())
        if bad:
            raise ValueError(f"{name} has {bad} entries that are neither 0 nor 1 out of {numbers.size}")
        array = numbers == 1.0
    if array.ndim != ndim:
        raise ValueError(f"{name} has {array.ndim} axes, expected {ndim}")
    return array.astype(np.bool_, copy=False)


def same_length(**arrays: npt.NDArray[np.generic]) -> int:
    """Common length of the first axes; ``ValueError`` naming the lengths when they differ."""
    lengths = {name: int(array.shape[0]) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listing = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"lengths differ: {listing}")
    return next(iter(lengths.values()))


def codes(labels: npt.ArrayLike, n: int, name: str = "clusters") -> tuple[Ints, int]:
    """Integer codes ``int64 [n]`` of arbitrary labels (by first appearance) and the number of distinct
    labels.

    Missing labels (``None`` or NaN) and a length other than ``n`` are ``ValueError``.
    """
    array = np.asarray(labels)
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}, expected ({n},)")
    index: dict[object, int] = {}
    result = np.empty(n, dtype=np.int64)
    missing = 0
    for position, label in enumerate(array.tolist()):
        if label is None or label != label:
            missing += 1
            continue
        result[position] = index.setdefault(label, len(index))
    if missing:
        raise ValueError(f"{name} has {missing} missing labels out of {n}")
    return result, len(index)
