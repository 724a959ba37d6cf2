"""Publishing an audit: a self-contained page, a card and figures. Cheap to import; drawing packages load on use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["publish"]


def publish(audit: Mapping[str, Any], root: Path) -> list[Path]:
    """Write `report.html`, `card.md` and `figures/dose-response.svg` under `root` and return their paths.

    An audit without a sweep has no dose response and gets no figure. The same audit always gives the same bytes.
    Raises MissingError when a drawing package is not installed; then nothing is written.
    """
    from levercheck.evidence.files import write_atomic
    from levercheck.publish.card import card_markdown
    from levercheck.publish.extras import REPORT, require
    from levercheck.publish.figures import dose_response_svg
    from levercheck.publish.report import report_html

    require(*REPORT)
    pages = {
        "report.html": report_html(audit),
        "card.md": card_markdown(audit),
    }
    if audit.get("arms"):
        pages["figures/dose-response.svg"] = dose_response_svg(audit)
    written = []
    for name, text in pages.items():
        path = root / name
        write_atomic(path, text.encode())
        written.append(path)
    return written
