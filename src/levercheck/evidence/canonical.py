"""Digests: canonical JSON (RFC 8785) for values, SHA-256 for files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import rfc8785


def canonical(value: Any) -> bytes:
    """Encode plain JSON data as RFC 8785 bytes; NaN, infinities and integers beyond 2**53 are ValueErrors."""
    encoded: bytes = rfc8785.dumps(value)
    return encoded


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical encoding of `value`."""
    return hashlib.sha256(canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def array_digest(array: np.ndarray[Any, Any]) -> str:
    """SHA-256 (hex) of an array's dtype, shape and little-endian bytes in C order."""
    plain = np.ascontiguousarray(array)
    plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    total = hashlib.sha256(f"{plain.dtype.str} {list(plain.shape)}".encode())
    total.update(plain.data)
    return total.hexdigest()
