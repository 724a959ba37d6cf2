"""GGUF control vectors of llama.cpp and repeng.

One float32 tensor `direction.N` per layer, `general.architecture` = controlvector, `controlvector.model_hint` (the
model's type) and `controlvector.layer_count` (number of tensors). llama.cpp adds `direction.N` to the output of block
N, counted from 0 (`build_cvec(cur, il)` with the tensor stored at `n_embd * (il - 1)`), at every position, and refuses
`direction.0`; repeng numbers blocks the same way and knows block 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

from levercheck.errors import IntegrityError, UsageError
from levercheck.interventions.formats.vectors import OUTPUTS, Floats, Vector, VectorFile, block_outputs, stream_site
from levercheck.lm.places import Site

ARCHITECTURE = "controlvector"
_PLAIN = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16)


def read(path: Path) -> VectorFile:
    """Read a control vector; a GGUF file of something else is a UsageError, a damaged one an IntegrityError."""
    try:
        reader = gguf.GGUFReader(path)
        kind = _text(reader, "general.architecture")
        hint = _text(reader, f"{ARCHITECTURE}.model_hint")
        tensors = [(t.name, t.tensor_type, np.array(t.data)) for t in reader.tensors] if kind == ARCHITECTURE else []
    except Exception as error:  # a damaged file fails in as many ways as there are fields
        raise IntegrityError(f"'{path.name}' cannot be read as GGUF ({error}): restore it") from None
    if kind != ARCHITECTURE:
        raise UsageError(f"'{path.name}' is a GGUF file of architecture '{kind}', expected '{ARCHITECTURE}'")
    vectors = []
    for name, stored, values in tensors:
        word, _, number = name.partition(".")
        if word != "direction" or not number.isdecimal():
            raise UsageError(f"'{path.name}' has a tensor '{name}', expected direction.N")
        if stored not in _PLAIN:
            raise UsageError(f"{name} of '{path.name}' is quantised ({stored.name}), expected F32 or F16")
        vectors.append(Vector(stream_site(int(number)), values.astype(np.float32).reshape(-1)))
    return VectorFile("gguf", tuple(vectors), {"model_hint": hint, "layers": OUTPUTS})


def write(path: Path, vectors: Mapping[Site, Floats], model_type: str, *, first_block: bool = False) -> None:
    """Write a control vector; block 0 only with `first_block` (repeng), for llama.cpp does not load such a file."""
    found = block_outputs(vectors, "a GGUF control vector")
    if 0 in found and not first_block:
        raise UsageError("llama.cpp has no control vector for block 0: leave that layer out, or export --to repeng")
    writer = gguf.GGUFWriter(path, ARCHITECTURE)
    writer.add_string(f"{ARCHITECTURE}.model_hint", model_type)
    writer.add_uint32(f"{ARCHITECTURE}.layer_count", len(found))
    for layer, vector in found.items():
        writer.add_tensor(f"direction.{layer}", np.ascontiguousarray(vector, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _text(reader: gguf.GGUFReader, name: str) -> str | None:
    entry = reader.get_field(name)
    return None if entry is None else str(entry.contents())
