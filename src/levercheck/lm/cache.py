"""The user's model cache: converted models with a manifest of digests that every load checks."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock

from levercheck.errors import IntegrityError
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import read_json, write_json

MANIFEST = "manifest.json"


def cache_root() -> Path:
    """Folder of all cached models: $LEVERCHECK_CACHE or the platform's user cache."""
    configured = os.environ.get("LEVERCHECK_CACHE")
    return Path(configured) if configured else Path(platformdirs.user_cache_dir("levercheck")) / "models"


def cached(name: str, build: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """Return the folder `name` of the cache and its checked manifest, calling `build(folder)` once to fill it.

    `build` gets an empty folder and returns facts for the manifest. The folder appears under its name only when it is
    complete. Two processes that ask at once build it once. Damage is an IntegrityError that says what to delete.
    """
    root = cache_root()
    target = root / name
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.lock"):
        if not target.exists():
            for leftover in root.glob(f".{name}.*"):  # of a process that was killed while building
                if leftover.is_dir():
                    shutil.rmtree(leftover, ignore_errors=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
            try:
                facts = build(staging)
                write_json(staging / MANIFEST, {**facts, "files": _digests(staging)})
                staging.replace(target)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
    return target, check(target)


def check(folder: Path) -> dict[str, Any]:
    """Compare every file of a cached model with its manifest and return the manifest."""
    remedy = f"delete the folder {folder} and run again"
    try:
        manifest: dict[str, Any] = read_json(folder / MANIFEST)
        expected: dict[str, str] = manifest["files"]
    except (FileNotFoundError, IntegrityError, KeyError, TypeError):
        raise IntegrityError(f"the model cache '{folder.name}' has no readable manifest: {remedy}") from None
    for name, digest in expected.items():
        path = folder / name
        found = file_digest(path) if path.is_file() else "nothing"
        if found != digest:
            raise IntegrityError(
                f"the model cache '{folder.name}' is damaged: {name} has sha256 {found[:12]}, expected {digest[:12]}: "
                f"{remedy}"
            )
    return manifest


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.is_file()}
