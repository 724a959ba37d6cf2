"""Rules of the house that no single room can check."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    "room", ["", ".evidence", ".stats", ".audit", ".publish", ".cli", ".audit.derive", ".demo.run"]
)
def test_these_rooms_import_no_model_runtime(room):
    code = f"import sys, levercheck{room}; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_modules_stay_short():
    long = {p.name: n for p in (ROOT / "src").rglob("*.py") if (n := len(p.read_text().splitlines())) > 450}
    assert not long


def test_no_address_of_an_index_and_no_machine_path_is_tracked():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"https?://[^\s\"')]*(?:/simple|pypi|index-url)|(?<![\w./])/(?:home|Users|work|root|opt)/\w")
    for name in listed.stdout.split():
        path = ROOT / name
        if path.suffix in {".png", ".parquet"} or not path.is_file() or path == Path(__file__):
            continue
        found = pattern.search(path.read_text(errors="replace"))
        assert not found, f"{name}: {found.group() if found else ''}"


def test_readme_python_runs(smollm, capsys):
    """The README's own example, executed as it stands."""
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block, "README.md shows no Python example"
    code = block.group(1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 25
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    shown = capsys.readouterr().out
    assert all(gate in shown for gate in ("measurement", "localization", "control", "externality"))
