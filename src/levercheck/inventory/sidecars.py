"""Provenance-like JSON: is the run over, and does the record name machines instead of content?"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from levercheck.inventory.jsonl import iter_flat

DONE = frozenset({"complete", "completed", "done", "finished", "success", "succeeded", "ok"})
_MARKS = frozenset(
    {"argv", "started", "started_at", "started_at_utc", "git_sha", "hostname", "output_targets", "command", "cwd"}
)
_HOST_KEYS = frozenset({"host", "hostname", "host_name", "node", "nodename", "fqdn", "machine_name"})
_USER_KEYS = frozenset({"user", "username", "user_name", "login"})
_ABSOLUTE = re.compile(r"(?:^|[\s=:'\"(,\[])((?:/[\w.@+~-]+){2,}|~/[\w.@+-]+|[A-Za-z]:[\\/][\w.@+-]+|\\\\[\w.-]+\\\w+)")
_ADDRESS = re.compile(r"\w+://\S+")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DEGREE = 5


@dataclass(frozen=True)
class Sidecar:
    """One provenance record and what keeps it from backing a claim or from being shared."""

    path: str
    status: str | None
    terminal: bool
    absolute_paths: int
    path_examples: tuple[str, ...]
    machine_fields: tuple[str, ...]
    content_hashes: int
    dirty: bool


def read_record(path: str, body: Any) -> Sidecar | None:
    """The facts about a provenance-like record; None for any other JSON."""
    if not isinstance(body, dict) or not _is_record(path, body):
        return None
    paths: list[str] = []
    machines: list[str] = []
    hashes, dirty = 0, False
    for name, value in iter_flat(body):
        key = re.sub(r"\[\d+\]$", "", name).rsplit(".", 1)[-1].lower()
        if key in ("dirty", "git_dirty"):
            dirty = dirty or bool(value)
        if not isinstance(value, str) or not value.strip():
            continue
        if key in _HOST_KEYS or key in _USER_KEYS:
            machines.append(name)
        if _SHA256.fullmatch(value):
            hashes += 1
        paths += _ABSOLUTE.findall(_ADDRESS.sub(" ", value))
    status = body.get("status")
    stated = status if isinstance(status, str) else None
    return Sidecar(
        path=path,
        status=stated,
        terminal=stated is not None and stated.strip().lower() in DONE,
        absolute_paths=len(paths),
        path_examples=tuple(dict.fromkeys(paths))[:_DEGREE],
        machine_fields=tuple(machines),
        content_hashes=hashes,
        dirty=dirty,
    )


def _is_record(path: str, body: dict[str, Any]) -> bool:
    if "provenance" in path.rsplit("/", 1)[-1].lower() or "provenance" in str(body.get("schema", "")):
        return True
    return isinstance(body.get("status"), str) and bool(_MARKS & body.keys())
