"""The files below a folder: links are listed and never followed, nothing outside the folder is ever opened."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from levercheck.errors import UsageError

KINDS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
    ".md": "markdown",
    ".markdown": "markdown",
}
SKIPPED_FOLDERS = frozenset({".git", ".hg", ".svn", "__pycache__", ".venv", "node_modules"})
_SNIFF = 4096


@dataclass(frozen=True)
class Limits:
    """How much of a folder is read: beyond these a file is listed, and the report says that it was not read."""

    files: int = 200_000
    parse_bytes: int = 256 << 20  # a file that is parsed
    hash_bytes: int = 8 << 30  # a file that is only hashed
    table_cells: int = 200_000  # numbers taken from one CSV or parquet file
    leaves: int = 2_000_000  # numbers taken from all files together
    claims: int = 20_000


@dataclass(frozen=True)
class File:
    """One file: `path` is relative with forward slashes, `skipped` says why its content was not read."""

    path: str
    kind: str
    bytes: int
    sha256: str | None = None
    skipped: str | None = None


@dataclass
class Tree:
    """A folder's files in path order, and what was left out of the walk."""

    root: Path
    files: list[File] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def of_kind(self, *kinds: str) -> Iterator[File]:
        """Files of these kinds whose content may be parsed."""
        return (file for file in self.files if file.kind in kinds and file.skipped is None)

    def read(self, file: File) -> bytes:
        """A file's bytes, opened without following a link in its last step."""
        return b"".join(_blocks(self.root / PurePosixPath(file.path)))


def walk(root: Path, limits: Limits) -> Tree:
    """List every file below `root` with its size and SHA-256."""
    if not root.is_dir():
        raise UsageError(f"'{root}' is not a folder: give the folder that holds the results")
    tree = Tree(root)
    folders = [""]
    while folders:
        here = folders.pop()
        try:
            entries = sorted(os.scandir(root / here), key=lambda entry: entry.name)
        except OSError as error:
            tree.left_out.append(f"{here or '.'}/: {error.strerror}")
            continue
        for entry in entries:
            path = f"{here}/{entry.name}" if here else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name in SKIPPED_FOLDERS:
                    tree.left_out.append(f"{path}/: not part of the results")
                else:
                    folders.append(path)
            elif len(tree.files) >= limits.files:
                tree.left_out.append(f"{path}: and everything after it, more than {limits.files} files")
                return _sorted(tree)
            else:
                tree.files.append(_look(entry, path, limits))
    return _sorted(tree)


def _sorted(tree: Tree) -> Tree:
    tree.files.sort(key=lambda file: file.path)
    return tree


def _look(entry: os.DirEntry[str], path: str, limits: Limits) -> File:
    kind = KINDS.get(Path(entry.name).suffix.lower(), "other")
    try:
        facts = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(facts.st_mode):
            return File(path, "link", 0, skipped="link, not followed")
        if not stat.S_ISREG(facts.st_mode):
            return File(path, "special", 0, skipped="not a plain file")
        if facts.st_size > limits.hash_bytes:
            return File(path, kind, facts.st_size, skipped=f"larger than {limits.hash_bytes} bytes, not hashed")
        total, head = hashlib.sha256(), b""
        for block in _blocks(Path(entry.path)):
            head = head or block[:_SNIFF]
            total.update(block)
    except OSError as error:
        return File(path, kind, 0, skipped=f"cannot be read ({error.strerror})")
    skipped = None
    if kind != "parquet" and b"\x00" in head:
        skipped, kind = "binary", ("binary" if kind == "other" else kind)
    elif facts.st_size > limits.parse_bytes:
        skipped = f"larger than {limits.parse_bytes} bytes, hashed but not read"
    return File(path, kind, facts.st_size, total.hexdigest(), skipped)


def _blocks(path: Path) -> Iterator[bytes]:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    with os.fdopen(os.open(path, flags), "rb") as handle:
        while block := handle.read(1 << 20):
            yield block
