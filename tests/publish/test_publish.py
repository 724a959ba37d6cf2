from __future__ import annotations

import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from levercheck.errors import MissingError
from levercheck.publish import publish


def test_writes_page_card_and_figure(audit: dict[str, Any], tmp_path: Path) -> None:
    written = publish(audit, tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in written] == [
        "report.html",
        "card.md",
        "figures/dose-response.svg",
    ]
    first = [p.read_bytes() for p in written]
    publish(audit, tmp_path)
    assert [p.read_bytes() for p in written] == first
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["card.md", "dose-response.svg", "report.html"]


def test_without_a_sweep_there_is_no_figure(rowless_audit: dict[str, Any], tmp_path: Path) -> None:
    assert [p.name for p in publish(rowless_audit, tmp_path)] == ["report.html", "card.md"]


@pytest.mark.parametrize("module", ["altair", "vl_convert", "jinja2"])
def test_a_missing_package_is_one_line_and_nothing_is_written(
    audit: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    real = util.find_spec
    monkeypatch.setattr("levercheck.publish.extras.find_spec", lambda name: None if name == module else real(name))
    with pytest.raises(MissingError) as caught:
        publish(audit, tmp_path)
    message = str(caught.value)
    assert module in message
    assert "pip install 'levercheck[report]'" in message
    assert "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_importing_loads_no_drawing_package_and_no_model_runtime() -> None:
    code = (
        "import sys, levercheck.publish\n"
        "from levercheck.publish import card, figures, report\n"
        "print([m for m in ('altair', 'vl_convert', 'jinja2', 'torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
