"""Which module reads or writes a vector file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from levercheck.errors import UsageError, nearest
from levercheck.interventions.formats import arrays, lm_eval, svec, torch_file
from levercheck.interventions.formats.vectors import Floats, VectorFile
from levercheck.lm.places import Site

FORMATS = {"gguf": ".gguf", "repeng": ".gguf", "lm-eval": ".pt", "svec": ".svec", "safetensors": ".safetensors"}
"""Formats that can be written, and the ending of their files."""
READABLE = (".gguf", ".svec", ".safetensors", ".npy", ".pt", ".pth")
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".npz", ".bin", ".ckpt")


def read_vectors(path: Path, *, layers: int | None = None, layer: int | None = None) -> VectorFile:
    """Read any known vector file, told apart by its ending and content.

    `layers`: the model's number of blocks, for tables without names. `layer`: the block whose output a lone vector
    belongs to. Unknown endings, files that need unpickling and ambiguous content are UsageErrors, damaged files
    IntegrityErrors.
    """
    if not path.is_file():
        raise UsageError(f"no file at '{path}', expected a vector file")
    ending = path.suffix.lower()
    if ending == ".gguf":
        from levercheck.interventions.formats import control_gguf

        return control_gguf.read(path)
    if ending == ".svec":
        return svec.read(path)
    if ending == ".safetensors":
        return arrays.read_safetensors(path, layers, layer)
    if ending == ".npy":
        return arrays.read_npy(path, layers, layer)
    if ending in (".pt", ".pth"):
        return torch_file.read(path, layers, layer)
    if ending in _PICKLES:
        raise UsageError(
            f"'{path.name}' may need unpickling, which runs whatever code it holds: convert it to safetensors where "
            "you trust it"
        )
    raise UsageError(f"'{path.name}' is no known vector file, expected {', '.join(READABLE)}")


def write_vectors(
    path: Path,
    to: str,
    vectors: Mapping[Site, Floats],
    *,
    model_type: str,
    layer_path: str,
    metadata: Mapping[str, str],
) -> None:
    """Write what is to be added at each site, float32 [width], in one of `FORMATS`; a file that exists is a UsageError.

    `model_type` is the architecture's name in Hugging Face configurations, `layer_path` the name of the list of blocks
    inside the base model; `metadata` goes where the format has room for it.
    """
    if to not in FORMATS:
        raise UsageError(f"vector format '{to}' is unknown{nearest(to, FORMATS)}")
    if path.suffix.lower() != FORMATS[to]:
        raise UsageError(f"a {to} file ends in {FORMATS[to]}, got '{path.name}'")
    if path.exists():
        raise UsageError(f"'{path}' exists: give another --out")
    path.parent.mkdir(parents=True, exist_ok=True)
    if to in ("gguf", "repeng"):
        from levercheck.interventions.formats import control_gguf

        control_gguf.write(path, vectors, model_type, first_block=to == "repeng")
    elif to == "lm-eval":
        lm_eval.write(path, vectors, layer_path)
    elif to == "svec":
        svec.write(path, vectors, model_type)
    else:
        arrays.write_safetensors(path, vectors, metadata)
