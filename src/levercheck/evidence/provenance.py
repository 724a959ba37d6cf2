"""Provenance sidecar v1: what made a folder's files, from what, with which settings and versions. No host, no user."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import read_json, write_json

SIDECAR = "provenance.json"
SCHEMA = "levercheck.provenance/v1"
_PACKAGES = ("levercheck", "numpy", "scipy", "polars", "torch", "transformers", "safetensors")


def now() -> str:
    """The current time, UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@functools.cache
def environment() -> dict[str, Any]:
    """Versions and hardware class, without anything that names the machine or its user."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "packages": versions,
    }


@functools.cache
def code() -> dict[str, Any]:
    """The commit of the checkout this package runs from, digest of uncommitted changes; {} when installed."""
    here = Path(__file__).resolve().parent
    commit = _git(here, "rev-parse", "HEAD")
    if commit is None or _git(here, "ls-files", "--error-unmatch", Path(__file__).name) is None:
        return {}  # installed, perhaps inside another project's checkout
    patch = _git(here, "diff", "HEAD", "--", str(here.parent)) or ""
    patch += _git(here, "ls-files", "--others", "--exclude-standard", "--", str(here.parent)) or ""
    return {
        "commit": commit.strip(),
        "dirty": bool(patch),
        "patch_sha256": hashlib.sha256(patch.encode()).hexdigest() if patch else None,
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed program and arguments
            ["git", *arguments],  # noqa: S607
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def model_label(name: str) -> str:
    """A model's name as run files may state it: of a path on this machine only the last part."""
    kind, _, rest = name.partition(":")
    if kind == "gguf":
        return f"gguf:{Path(rest).name}"
    return f"dir:{Path(name).resolve().name}" if Path(name).expanduser().is_dir() else name


def write_sidecar(folder: Path, root: Path, facts: dict[str, Any], outputs: list[Path], status: str) -> None:
    """Write `folder/provenance.json`; output paths are stored relative to `root` with size and SHA-256."""
    listed = [
        {"path": path.relative_to(root).as_posix(), "bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in outputs
    ]
    body = {"schema": SCHEMA, "status": status, **facts, "outputs": listed}
    write_json(folder / SIDECAR, {**body, "environment": environment(), "code": code()})


def read_sidecar(folder: Path) -> dict[str, Any] | None:
    """The folder's sidecar, or None when it has none yet."""
    path = folder / SIDECAR
    if not path.exists():
        return None
    sidecar: dict[str, Any] = read_json(path)
    return sidecar
