"""What the documents say is what the package does: benchmarks, rulers, studies, and examples that run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import yaml

from levercheck.benchmarks.base import Benchmark, Request, benchmark_names, find_benchmark
from levercheck.study.spec import StudySpec, read_study

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "docs/benchmarks.md", "docs/studies.md")
STUDIES = sorted(ROOT.glob("studies/*/*.yaml"))


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text(page), re.DOTALL | re.MULTILINE)


def row(page: str, first: str, number: int = 0) -> list[str]:
    """The cells of a table's row that begins with `first` (the one of that `number` on the page)."""
    found = [line for line in text(page).splitlines() if line.startswith("| ") and first in line.split("|")[1]]
    assert len(found) > number, f"{page}: no row for {first}"
    return [cell.strip() for cell in found[number].strip("|").split("|")]


def shipped() -> list[str]:
    """Benchmarks of this package; others may be installed beside it."""
    return [name for name in benchmark_names() if find_benchmark(name).items.__module__.startswith("levercheck.")]


def count(benchmark: Benchmark) -> int:
    """Items of a model that knows every fact, or those of the published data."""
    if benchmark.source is not None:
        return benchmark.published or 0
    return len(benchmark.made(Request(lambda answer: crc32(answer.encode()), lambda _: True, 0)))


@pytest.mark.parametrize("name", shipped())
def test_the_tables_hold_what_a_benchmark_declares(name: str) -> None:
    found = find_benchmark(name)
    _, construct, metric, better = row("docs/benchmarks.md", f"`{name}`")
    assert (construct, metric, better) == (found.construct, found.metric, found.better)
    _, kind, styles, ruler, items, data = row("docs/benchmarks.md", f"`{name}`", 1)
    assert (kind, styles, ruler) == (found.kind, ", ".join(found.styles), f"`{found.ruler}`")
    assert items == f"{count(found):,}"
    place = "shipped"
    if found.source is not None:
        place = f"`{found.source.name}.{'/'.join(found.source.endings)}`"
    assert data == f"{place}; {found.licence}"


def test_every_benchmark_and_ruler_is_explained() -> None:
    first = [line.split("|")[1].strip() for line in text("docs/benchmarks.md").splitlines() if line.startswith("| `")]
    for name in shipped():
        assert first.count(f"`{name}`") == 2
        assert any(f"`{find_benchmark(name).ruler}`" in cell for cell in first), find_benchmark(name).ruler


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_that_is_shipped_is_in_the_table(path: Path) -> None:
    spec, cells = read_study(path), row("docs/studies.md", f"`{path.name}`")
    assert spec.primary is not None
    assert f"`{spec.primary.benchmark}`" in cells[3]
    assert cells[3].endswith(f", {spec.primary.direction}, {spec.primary.margin:g} pp")


def examples() -> list[tuple[str, dict[str, Any]]]:
    """Every study of the pages; what is only part of one stands in for that part of the first."""
    found = []
    first = yaml.safe_load(blocks("docs/studies.md", "yaml")[0])
    for page in PAGES:
        for number, block in enumerate(blocks(page, "yaml"), 1):
            body = yaml.safe_load(block)
            found.append((f"{page}-{number}", body if "study" in body else {**first, **body}))
    return found


@pytest.mark.parametrize(("where", "body"), examples(), ids=[where for where, _ in examples()])
def test_studies_in_the_documents_are_valid(where: str, body: dict[str, Any]) -> None:
    spec = StudySpec.model_validate(body)
    assert all(find_benchmark(name) for name in spec.benchmarks), where


def test_the_short_study_is_six_lines() -> None:
    for page in ("README.md", "docs/studies.md"):
        short = [block for block in blocks(page, "yaml") if block.startswith("study: six-lines")]
        assert [len(block.splitlines()) for block in short] == [6]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text(page)):
        path, _, anchor = target.partition("#")
        place = (ROOT / page).parent / path if path else ROOT / page
        assert place.exists(), f"{page}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.fixture
def plug_in(tmp_path: Path) -> dict[str, str]:
    """The package of the page, as an installer leaves it; the environment in which it is installed."""
    (module,), (table,) = blocks("docs/benchmarks.md", "python"), blocks("docs/benchmarks.md", "toml")
    group, name, value = re.fullmatch(r'\[project\.entry-points\."([\w.]+)"\]\n(\w+) = "(\w+)"\n', table).groups()  # type: ignore[union-attr]
    (tmp_path / f"{value}.py").write_text(module)
    about = tmp_path / "kitchen-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: kitchen\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {value}\n")
    rows = [("What thickens a roux?", "flour"), ("What raises a sourdough?", "wild yeast")]
    lines = [json.dumps({"question": question, "answer": answer}) for question, answer in rows]
    (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return {**os.environ, "PYTHONPATH": str(tmp_path), "LEVERCHECK_DATA": str(tmp_path)}


def run(environment: dict[str, str], *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_plug_in_of_the_page_runs(plug_in: dict[str, str]) -> None:
    shown = run(plug_in, "-m", "levercheck", "benchmarks", "show", "recipes/short", "-n", "1", "--json")
    assert (shown["count"], shown["data"], shown["ruler"]) == (2, "here", "alias-tiers/v1")
    assert shown["items"][0]["prompt"].endswith("?\nReply with the answer alone.")
    listed = run(plug_in, "-m", "levercheck", "benchmarks", "--json")
    assert "recipes" in [benchmark["id"] for benchmark in listed]


def test_the_plug_in_of_the_page_scores(plug_in: dict[str, str]) -> None:
    code = """
import json, sys
from levercheck.benchmarks.base import Request, find_benchmark
from levercheck.benchmarks.data import Use
from levercheck.benchmarks.outcomes import Response, scored
found = find_benchmark("recipes")
item, = (i for i in found.made(Request(len, bool, 0, Use("recipes"))) if "roux" in i.text)
said = ("It is flour.", "Butter does.", "I do not know.", "")
print(json.dumps([scored(item, Response(text, "stop", 3), found.score)[0].label for text in said]))
"""
    assert run(plug_in, "-c", code) == ["right", "wrong", "not_attempted", "empty"]
