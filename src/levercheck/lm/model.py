"""Load a causal language model from anywhere a user may have one, with an identity that provenance can record."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from levercheck.errors import LevercheckError, MissingError, UsageError, nearest
from levercheck.evidence.canonical import digest, file_digest
from levercheck.evidence.provenance import model_label
from levercheck.lm.cache import cached
from levercheck.lm.embedded import EMBEDDED, gguf_file
from levercheck.lm.kernels import use_fast_kernels
from levercheck.lm.sites import MlpSite, mlp_sites

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_UNLIKE = ("A", "z", "1", "é", '"', "中")  # first characters of a turn, as unlike as tokenizers may find them
_CONVERTER = 1  # raise when conversion changes, so that older caches are not reused


@dataclass(frozen=True)
class LanguageModel:
    """A loaded model, its tokenizer and what identifies both.

    `identity` holds plain data: the name as asked for, architecture, size, dtype, digests of weights and tokenizer.
    """

    name: str
    model: Any  # transformers.PreTrainedModel; its classes are untyped
    tokenizer: Any
    identity: dict[str, Any] = field(repr=False)

    @cached_property
    def sites(self) -> tuple[MlpSite, ...]:
        """MLP sites in layer order."""
        return mlp_sites(self.decoder)

    @cached_property
    def decoder(self) -> nn.Module:
        """The trunk: everything but the language-model head."""
        decoder: nn.Module = self.model.get_decoder()
        return decoder

    @property
    def context(self) -> int | None:
        """Most positions the model was made for; None where its configuration does not say."""
        found = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return found if isinstance(found, int) and found > 0 else None

    def check_length(self, tokens: int) -> None:
        """UsageError for a text longer than the model's positions."""
        if self.context is not None and tokens > self.context:
            raise UsageError(
                f"a text of {tokens} tokens does not fit into the model's {self.context} positions: shorten it"
            )

    @cached_property
    def cache_name(self) -> str:
        """What the model calls its cache, as an argument and in its output: `cache` from transformers 5.24 on."""
        return "cache" if "cache" in inspect.signature(self.decoder.forward).parameters else "past_key_values"

    @cached_property
    def write_norms(self) -> tuple[torch.Tensor, ...]:
        """‖W[:, j]‖₂ per neuron of every layer's down-projection, float32 [neurons] each; measured once."""
        return tuple(site.write_norms() for site in self.sites)

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, neurons per layer)."""
        return len(self.sites), self.sites[0].neurons

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @cached_property
    def start_ids(self) -> list[int]:
        """Tokens that open every sequence of this model (a BOS token, or nothing; never a closing EOS)."""
        ids = list(self.tokenizer("")["input_ids"])
        return ids[:1] if ids and ids[0] == self.tokenizer.bos_token_id else []

    def chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Token ids of a chat with the generation prompt."""
        encoded = self.tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=True)
        return list(encoded["input_ids"]) if hasattr(encoded, "keys") else list(encoded)

    @cached_property
    def chat_head(self) -> list[int]:
        """Tokens that open every user turn alike, whatever the user says; found by comparing unlike turns."""
        turns = [self.chat([{"role": "user", "content": text}]) for text in _UNLIKE]
        shortest = min(map(len, turns))
        size = next((i for i in range(shortest) if len({turn[i] for turn in turns}) > 1), shortest)
        return turns[0][:size]

    def encode(self, text: str) -> list[int]:
        """Token ids of `text` without special tokens."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def answer_token(self, answer: str) -> int:
        """First token of `answer` after "Answer:", found by comparing the two encodings.

        Encoding " Paris" alone would give some tokenizers' bare space marker, the same for every answer.
        """
        stem, whole = self.encode("Answer:"), self.encode(f"Answer: {answer}")
        shared = next((i for i, (a, b) in enumerate(zip(stem, whole, strict=False)) if a != b), len(stem))
        return whole[shared]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of token ids, exactly as the model wrote it."""
        text: str = self.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
        return text

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Token ids that end a text for this model."""
        configured = self.model.generation_config.eos_token_id
        ids = set(configured if isinstance(configured, list) else [configured]) | {self.tokenizer.eos_token_id}
        return frozenset(i for i in ids if isinstance(i, int))


def load_model(
    name: str,
    *,
    dtype: str = "float32",
    device: str | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> LanguageModel:
    """Load `embedded:NAME`, `gguf:PATH`, a local directory or a Hugging Face id.

    Embedded and GGUF models are converted to safetensors once, in the user's cache; later loads give bit-identical
    logits. `notify` receives one line before anything slow (a download, a conversion). Raises UsageError for unknown
    names and for devices that are not there, MissingError when something has to be fetched and cannot be,
    IntegrityError for damaged caches.
    """
    if dtype not in DTYPES:
        raise UsageError(f"dtype '{dtype}' is unknown{nearest(dtype, DTYPES)}")
    place = _device(device)
    path, source = _locate(name, notify)
    model, tokenizer = _load(path, name, DTYPES[dtype])
    model.to(place)
    kernel = use_fast_kernels(model)
    config = model.config.get_text_config()
    revision = getattr(model.config, "_commit_hash", None)
    identity = {
        "name": model_label(name),
        **source,
        **({"revision": revision} if revision else {}),
        "architecture": type(model).__name__,
        "layers": int(config.num_hidden_layers),
        "hidden": int(config.hidden_size),
        "parameters": sum(p.numel() for p in model.parameters()),
        "dtype": dtype,
        "device": next(model.parameters()).device.type,
        "kernel": kernel,
        "tokenizer": tokenizer_digest(tokenizer),
    }
    loaded = LanguageModel(name, model, tokenizer, identity)
    _ = loaded.sites  # an unsupported architecture is refused before any work is done
    return loaded


def tokenizer_digest(tokenizer: Any) -> str:
    """SHA-256 of the tokenizer's full serialised state and chat template."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state = backend.to_str() if backend is not None else json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return digest({"state": state, "chat_template": tokenizer.chat_template})


def _device(name: str | None) -> str:
    """The device to load to, checked before anything slow."""
    there = ["cpu"]
    if torch.cuda.is_available():
        there += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        there.append("mps")
    if name is None:
        return "cuda" if "cuda" in there else "cpu"
    if name not in there:
        raise UsageError(
            f"device '{name}' cannot be used, expected cpu, cuda, cuda:N or mps: this installation of torch sees "
            + ", ".join(there)
        )
    return name


def _locate(name: str, notify: Callable[[str], None]) -> tuple[str, dict[str, Any]]:
    """Turn a model name into a path or hub id for transformers, and what is known of its source."""
    kind, _, rest = name.partition(":")
    if kind == "embedded":
        if rest not in EMBEDDED:
            raise UsageError(f"embedded model '{rest}' is unknown{nearest(rest, EMBEDDED)}")
        return _embedded(rest, notify)
    if kind == "gguf":
        path = Path(rest).expanduser()
        if not path.is_file():
            raise UsageError(f"no file at '{rest}', expected a GGUF file: check the path after 'gguf:'")
        source = file_digest(path)
        return _converted(path, f"gguf-{source[:16]}", {"gguf_sha256": source}, notify)
    local = Path(name).expanduser()
    if local.is_dir():
        if not (local / "config.json").is_file():
            raise UsageError(f"'{name}' has no config.json, expected a model directory in Hugging Face format")
        files = sorted([*local.glob("*.safetensors"), *local.glob("*.json")])
        digests = {p.name: file_digest(p) for p in files}
        return str(local), {"weights": digests}
    if "/" not in name or name.startswith(("/", ".", "~")):
        known = [f"embedded:{e}" for e in EMBEDDED]
        raise UsageError(
            f"model '{name}' is unknown{nearest(name, known)}: give embedded:NAME, gguf:PATH, a local directory "
            "or a Hugging Face id (owner/name)"
        )
    return name, {"hub": name}


def _embedded(name: str, notify: Callable[[str], None]) -> tuple[str, dict[str, Any]]:
    spec = EMBEDDED[name]

    def build(folder: Path) -> dict[str, Any]:
        notify(f"fetching {spec.title}, {spec.megabytes} MB, licence: {spec.licence}")
        with gguf_file(spec) as path:
            notify(f"converting {spec.title} to safetensors (once)")
            _convert(path, folder)
        return {"gguf_sha256": spec.sha256, "licence": spec.licence, "title": spec.title}

    folder, manifest = cached(f"{spec.name}-{spec.sha256[:12]}-v{_CONVERTER}", build)
    return str(folder), _source(manifest)


def _converted(
    path: Path, name: str, facts: dict[str, Any], notify: Callable[[str], None]
) -> tuple[str, dict[str, Any]]:
    def build(folder: Path) -> dict[str, Any]:
        notify(f"converting {path.name} to safetensors (once)")
        _convert(path, folder)
        return facts

    folder, manifest = cached(f"{name}-v{_CONVERTER}", build)
    return str(folder), _source(manifest)


def _source(manifest: dict[str, Any]) -> dict[str, Any]:
    weights = {n: d for n, d in manifest["files"].items() if n.endswith(".safetensors")}
    return {"gguf_sha256": manifest["gguf_sha256"], "weights": weights}


def _convert(gguf: Path, folder: Path) -> None:
    """De-quantise a GGUF file to float32 and save it in Hugging Face format."""
    with _quiet(), Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        try:
            arguments = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
            tokenizer = transformers.AutoTokenizer.from_pretrained(**arguments)
            model = transformers.AutoModelForCausalLM.from_pretrained(**arguments, dtype=torch.float32)
        except Exception as error:  # a damaged file fails in as many ways as there are readers
            raise UsageError(f"'{gguf.name}' cannot be read as a GGUF language model: {_first_line(error)}") from None
        model.hf_quantizer = None  # de-quantised on load; transformers would refuse to save it otherwise
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.config._name_or_path = ""
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _load(path: str, name: str, dtype: torch.dtype) -> tuple[Any, Any]:
    is_local = Path(path).is_dir()
    options = {"local_files_only": True} if is_local else _hub_options(name)
    try:
        with _quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(path, **options)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                path, dtype=dtype, use_safetensors=True, **options
            )
    except Exception as error:  # a damaged file fails in as many ways as there are readers
        raise _explain(error, name, is_local) from None
    model.eval().requires_grad_(False)
    return model, tokenizer


def _hub_options(name: str) -> dict[str, Any]:
    """The immutable revision to load, or the local cache alone when the hub cannot be reached: one try, no retries."""
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return {"revision": huggingface_hub.HfApi().model_info(name, timeout=10).sha}
    except HFValidationError as error:
        raise UsageError(f"'{name}' is no Hugging Face id ({_first_line(error)}): expected owner/name") from None
    except HfHubHTTPError as error:
        if error.response is None or error.response.status_code not in (401, 403, 404):
            return {"local_files_only": True}
        raise MissingError(
            f"the hub refuses model '{name}' ({_first_line(error)}): check the id, accept its licence there and log in "
            "with 'hf auth login', or use embedded:smollm2-135m"
        ) from None
    except Exception:  # which one depends on the hub client's HTTP library: all mean that there was no answer
        return {"local_files_only": True}


def _explain(error: Exception, name: str, is_local: bool) -> LevercheckError:
    if is_local or not isinstance(error, OSError):
        return UsageError(f"'{name}' cannot be loaded as a causal language model: {_first_line(error)}")
    reason = "HF_HUB_OFFLINE is set" if os.environ.get("HF_HUB_OFFLINE") == "1" else _first_line(error)
    return MissingError(
        f"model '{name}' is not cached and could not be fetched ({reason}): check the id and the network, run "
        f"'hf download {name}' where there is one, or use embedded:smollm2-135m"
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    line = next((line for line in text.splitlines() if line.strip()), type(error).__name__)
    return " ".join(word for word in line.split() if "://" not in word)[:200]


class _quiet:
    """Silence transformers' progress bars and advice while loading; errors still raise."""

    def __enter__(self) -> None:
        self.verbosity = transformers.logging.get_verbosity()
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        transformers.logging.set_verbosity(self.verbosity)
        transformers.logging.enable_progress_bar()
