"""Taking an output folder over: one process at a time, and never somebody else's files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from levercheck.errors import UsageError


@contextmanager
def claimed(root: Path, marker: str) -> Iterator[None]:
    """Create or take over an output directory; refuse one that is in use, unwritable or without our `marker` file."""
    if root.exists() and not root.is_dir():
        raise UsageError(f"'{root}' is a file, expected a directory: give another --out")
    if root.is_dir():
        foreign = [p.name for p in root.iterdir() if p.name != ".lock"]
        if foreign and marker not in foreign:
            raise UsageError(
                f"'{root}' holds other files ({sorted(foreign)[0]}, ...): give --out a new or empty directory"
            )
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"'{root}' cannot be created ({error.strerror}): give another --out") from None
    if not os.access(root, os.W_OK | os.X_OK):
        raise UsageError(f"'{root}' is not writable: give another --out")
    try:
        with FileLock(root / ".lock", timeout=0):
            yield
    except Timeout:
        raise UsageError(
            f"another levercheck process is working in '{root}': wait for it or give another --out"
        ) from None
