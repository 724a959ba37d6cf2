"""How a study uses its benchmarks, with every path resolved inside the study's folder."""

from __future__ import annotations

from pathlib import Path

from levercheck.benchmarks.base import Benchmark, labelled_names, used
from levercheck.benchmarks.data import Use
from levercheck.benchmarks.manifests import read_manifest
from levercheck.benchmarks.questions import source_names
from levercheck.errors import UsageError, nearest
from levercheck.study.spec import Readout, Settings, StudySpec, inside


def uses_of(spec: StudySpec, base: Path) -> list[Use]:
    """Every benchmark of a study, in its order."""
    return [use_of(spec, base, name) for name in spec.benchmarks]


def use_of(spec: StudySpec, base: Path, name: str) -> Use:
    """One benchmark with its settings: those of its full name, or else of its name without the style."""
    declared = settings_of(spec, name)

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


def settings_of(spec: StudySpec, name: str) -> Settings:
    """What the study file says of a benchmark."""
    return spec.settings.get(name) or spec.settings.get(name.partition("/")[0]) or Settings()


def check_source(name: str, declared: Readout, base: Path) -> None:
    """UsageError where a declared readout names data that do not exist, before anything is computed."""
    source = declared.source
    kind, _, argument = source.partition(":")
    known = source_names() if declared.family == "neurons" else ["facts", *labelled_names()]
    if kind in known or (declared.family != "neurons" and kind.partition("/")[0] in known):
        path = argument if "/" in argument or "." in argument else ""
    elif "." in source:
        path = source
    else:
        raise UsageError(f"readout '{name}' is to be made from '{source}'{nearest(kind, known)}")
    if path and not inside(base, path).is_file() and not inside(base, path).is_dir():
        raise UsageError(
            f"readout '{name}' is to be made from '{path}', which is not there: give a file beside the study"
        )


def check_ready(spec: StudySpec, base: Path) -> None:
    """UsageError for the first thing that a run would miss late: readouts, what they are made from, manifests."""
    for name, declared in spec.readouts.items():
        if declared.folder is None:
            check_source(name, declared, base)
        elif not inside(base, declared.folder).is_dir():
            raise UsageError(
                f"readout '{name}': no folder '{declared.folder}' beside the study: fit it, or import it, there"
            )
    seen: dict[tuple[str, str], str] = {}
    for use in uses_of(spec, base):
        if use.manifest is not None:
            read_manifest(use.manifest)
        benchmark = used(use)
        same = seen.setdefault((use.name.partition("/")[0], benchmark.style_name), use.name)
        if same != use.name:
            raise UsageError(f"'{same}' and '{use.name}' are the same benchmark in the same style: leave one out")


def benchmark_of(spec: StudySpec, base: Path, name: str) -> Benchmark:
    """A benchmark as the study uses it."""
    return used(use_of(spec, base, name))
