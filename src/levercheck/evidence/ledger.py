"""The run's ledger: one line per life-cycle event, appended and never rewritten."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from levercheck.evidence.provenance import now

LEDGER = "ledger.jsonl"


def note(root: Path, event: str, **facts: Any) -> None:
    """Append `event` with its time and facts.

    Events: planned, started, finished, failed, interrupted, analysed, locked, unlocked, opened.
    """
    line = json.dumps({"time": now(), "event": event, **facts}, sort_keys=True, ensure_ascii=False)
    descriptor = os.open(root / LEDGER, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode() + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
