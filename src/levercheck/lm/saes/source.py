"""Where a dictionary's files are: a local folder, or `hf:owner/repo:folder` on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from levercheck.errors import IntegrityError, MissingError, UsageError
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import read_json

HUB = "hf:"


@dataclass
class Source:
    """A folder whose files are looked up one by one. `name` is what errors call it; the parts of `path` tell a site."""

    name: str
    path: PurePosixPath
    root: Path | None = None  # a local folder
    repo: str | None = None
    options: dict[str, Any] = field(default_factory=dict)  # revision, or the local cache alone
    used: dict[str, str] = field(default_factory=dict)  # digests of what was read
    reason: str | None = None  # why the hub gave nothing

    def has(self, *names: str) -> bool:
        """Whether all of the files are there."""
        return all(self._find(name) is not None for name in names)

    def file(self, name: str) -> Path:
        """A file to read; its digest is kept."""
        found = self._find(name)
        if found is None:
            raise UsageError(f"{self.name} has no {name}: give the folder of a complete dictionary")
        self.used[name] = file_digest(found)
        return found

    def json(self, name: str) -> dict[str, Any]:
        """A JSON object."""
        body = read_json(self.file(name))
        if not isinstance(body, dict):
            raise IntegrityError(f"{name} of {self.name} holds {type(body).__name__}, expected an object: restore it")
        return body

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        """The tensors of a safetensors file."""
        try:
            return load_file(self.file(name))
        except SafetensorError as error:
            raise IntegrityError(f"{name} of {self.name} cannot be read ({error}): get it again") from None

    def facts(self, form: str, **more: Any) -> dict[str, Any]:
        """What identifies the files: format, name, digests, and the hub's revision."""
        label = self.name.strip("'") if self.repo else self.path.name
        revision = self.options.get("revision")
        known = {"format": form, "source": label, "sha256": dict(self.used), "revision": revision, **more}
        return {name: value for name, value in known.items() if value is not None}

    def _find(self, name: str) -> Path | None:
        if self.root is not None:
            path = self.root / name
            return path if path.is_file() else None
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

        assert self.repo is not None
        try:
            return Path(huggingface_hub.hf_hub_download(self.repo, str(self.path / name), **self.options))
        except LocalEntryNotFoundError:
            self.reason = "the hub cannot be reached and the file is not in its cache"
        except EntryNotFoundError:
            pass
        except (HfHubHTTPError, OSError) as error:
            self.reason = _first_line(error)
        return None


def open_source(spec: str | Path) -> Source:
    """A folder or hub folder from what a user wrote; a file stands for its folder."""
    if isinstance(spec, str) and spec.startswith(HUB):
        return _hub(spec)
    path = Path(spec).expanduser()
    folder = path.parent if path.is_file() else path
    if not folder.is_dir():
        raise UsageError(f"'{spec}' is no folder: give that of a dictionary, or {HUB}owner/repo:folder")
    return Source(f"'{folder.name}'", PurePosixPath(folder.absolute().as_posix()), root=folder)


def _hub(spec: str) -> Source:
    repo, _, folder = spec.removeprefix(HUB).partition(":")
    if repo.count("/") != 1 or not all(repo.split("/")) or ".." in folder.split("/"):
        raise UsageError(f"'{spec}' is no place on the hub: expected {HUB}owner/repo:folder")
    return Source(f"'{spec}'", PurePosixPath(folder.strip("/")), repo=repo, options=_options(repo))


def _options(repo: str) -> dict[str, Any]:
    """The immutable revision to read, or the local cache alone where the hub gives no answer."""
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError:
        raise MissingError(
            "dictionaries from the hub need huggingface_hub, which is not installed: pip install huggingface_hub"
        ) from None
    try:
        return {"revision": huggingface_hub.HfApi().model_info(repo, timeout=10).sha}
    except HFValidationError as error:
        raise UsageError(f"'{repo}' is no repository of the hub ({_first_line(error)}): expected owner/repo") from None
    except HfHubHTTPError as error:
        if error.response is None or error.response.status_code not in (401, 403, 404):
            return {"local_files_only": True}
        raise MissingError(
            f"the hub refuses '{repo}' ({_first_line(error)}): check the name, accept its licence there and log in "
            "with 'hf auth login'"
        ) from None
    except Exception:  # which one depends on the hub client's HTTP library: all mean that there was no answer
        return {"local_files_only": True}


def _first_line(error: Exception) -> str:
    line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return " ".join(word for word in line.split() if "://" not in word)[:200]
