"""A thing on disk as two files: its arrays in safetensors, what they mean in JSON with their digest. No pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from levercheck.errors import IntegrityError, UsageError
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import read_json, write_atomic, write_json

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Pair:
    """The names of both files and the schema they follow."""

    tensors: str
    facts: str
    schema: str

    def write(self, folder: Path, arrays: Mapping[str, Array], body: Mapping[str, Any]) -> list[Path]:
        """Write both files, the JSON last, and return their paths."""
        plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        write_atomic(folder / self.tensors, save(plain, metadata={"schema": self.schema}))
        stated = {"tensors": self.tensors, "tensors_sha256": file_digest(folder / self.tensors)}
        write_json(folder / self.facts, {"schema": self.schema, **body, **stated})
        return [folder / self.tensors, folder / self.facts]

    def body(self, folder: Path, absent: str) -> dict[str, Any]:
        """The JSON; a folder without it is a UsageError that says `absent`, another schema an IntegrityError."""
        if not (folder / self.facts).is_file():
            raise UsageError(f"'{folder}' holds no {self.facts}: {absent}")
        body = read_json(folder / self.facts)
        if not isinstance(body, dict) or body.get("schema") != self.schema:
            raise IntegrityError(f"{self.facts} in '{folder.name}' is not of {self.schema}: restore it")
        return body

    def arrays(self, folder: Path, body: Mapping[str, Any]) -> dict[str, Array]:
        """The arrays that the JSON describes; other bytes are an IntegrityError."""
        path = folder / self.tensors
        if not path.is_file() or file_digest(path) != body.get("tensors_sha256"):
            raise IntegrityError(f"{self.tensors} in '{folder.name}' does not match {self.facts}: restore both")
        try:
            found: dict[str, Array] = load(path.read_bytes())
        except SafetensorError as error:
            raise IntegrityError(f"{self.tensors} in '{folder.name}' cannot be read ({error}): restore it") from None
        return found

    def check(self, folder: Path, body: Mapping[str, Any], fingerprint: str) -> None:
        """IntegrityError unless the JSON states this fingerprint."""
        if body.get("fingerprint") != fingerprint:
            raise IntegrityError(
                f"{self.facts} in '{folder.name}' states another fingerprint than its numbers have: restore both"
            )
