"""Prompt templates: text in which a name in braces stands for a field of the item.

What a field holds is never read as a template. Two braces stand for one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from levercheck.errors import UsageError, nearest

_MARK = re.compile(r"\{\{|\}\}|\{([^{}\n]*)\}")


def render(template: str, fields: Mapping[str, str], where: str) -> str:
    """The template with its fields filled in; `UsageError` for a name the item has not."""

    def fill(found: re.Match[str]) -> str:
        if found.group() in ("{{", "}}"):
            return found.group()[0]
        name = found.group(1)
        if name not in fields:
            raise UsageError(f"{where}: the prompt names {{{name}}}{nearest(name, fields)}")
        return fields[name]

    return _MARK.sub(fill, template)


def read_template(path: Path) -> tuple[str, str]:
    """A local prompt file and its sha256; it must be UTF-8 text that names at least one field."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"prompt_file {path.name} cannot be read ({error.strerror}): give a text file") from None
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path.name}:{line}: not UTF-8 text (byte {data[error.start]:#04x})") from None
    if not any(found.group(1) for found in _MARK.finditer(text)):
        raise UsageError(
            f"prompt_file {path.name} names no field in braces, such as {{question}}: every prompt would be alike"
        )
    return text.removesuffix("\n"), hashlib.sha256(data).hexdigest()
