"""How a study uses its benchmarks, with every path resolved inside the study's folder."""

from __future__ import annotations

from pathlib import Path

from levercheck.benchmarks.base import Benchmark, used
from levercheck.benchmarks.data import Use
from levercheck.study.spec import Settings, StudySpec, inside


def uses_of(spec: StudySpec, base: Path) -> list[Use]:
    """Every benchmark of a study, in its order."""
    return [use_of(spec, base, name) for name in spec.benchmarks]


def use_of(spec: StudySpec, base: Path, name: str) -> Use:
    """One benchmark with its settings: those of its full name, or else of its name without the style."""
    declared = spec.settings.get(name) or spec.settings.get(name.partition("/")[0]) or Settings()

    def path(value: str | None) -> Path | None:
        return None if value is None else inside(base, value)

    return Use(
        name,
        data=path(declared.data),
        split=declared.split,
        revision=declared.revision,
        prompt_file=path(declared.prompt_file),
        chat=declared.chat,
        manifest=path(declared.manifest),
        shares=None if declared.shares is None else tuple(sorted(declared.shares.items())),
        max_new_tokens=declared.max_new_tokens,
        replicates=declared.replicates,
    )


def benchmark_of(spec: StudySpec, base: Path, name: str) -> Benchmark:
    """A benchmark as the study uses it."""
    return used(use_of(spec, base, name))
