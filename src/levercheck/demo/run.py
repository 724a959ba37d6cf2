"""Run the embedded study in a directory, from whatever state a kill may have left it in."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from levercheck.audit.derive import derive
from levercheck.audit.tables import STUDY
from levercheck.audit.verify import AUDIT, verify
from levercheck.benchmarks import counterfactual, facts
from levercheck.benchmarks.facts import facts_digest
from levercheck.benchmarks.prompts import PREFIX, context_prompt, question_prompt
from levercheck.demo.spec import DemoSpec
from levercheck.errors import UsageError
from levercheck.evidence.canonical import digest
from levercheck.evidence.files import read_json, write_json
from levercheck.evidence.folder import claimed
from levercheck.evidence.ledger import note
from levercheck.evidence.provenance import SIDECAR, environment, now, write_sidecar
from levercheck.evidence.reporter import Reporter


def run_demo(
    spec: DemoSpec,
    root: Path,
    reporter: Reporter,
    notify: Callable[[str], None] = lambda line: None,
    source: str | None = None,
) -> dict[str, Any]:
    """Run or continue the study in `root` and return the audit; a finished one is verified and returned.

    `source` is where to load the model from when that is not what `spec.model` calls it (a path on this machine).
    Raises UsageError for a directory that holds something else or other settings, and whatever the stages raise.
    """
    with claimed(root, STUDY):
        check_settings(root, spec)
        if (root / AUDIT).exists() and (root / SIDECAR).exists():
            notify("this study is finished; checking it against its rows")
            problems = verify(root)
            if not problems:
                finished: dict[str, Any] = read_json(root / AUDIT)
                return finished
            notify(f"{len(problems)} differences, first: {problems[0]}")
            notify(f"repairing: the old audit is kept as {_archive(root)}")
        return _run(spec, root, reporter, notify, source or spec.model)


def _archive(root: Path) -> str:
    """Move a finished audit aside, so that nothing is overwritten; returns its new name."""
    (root / SIDECAR).unlink()
    number = next(n for n in itertools.count(1) if not (root / f"audit.replaced-{n}.json").exists())
    return (root / AUDIT).rename(root / f"audit.replaced-{number}.json").name


def _run(spec: DemoSpec, root: Path, reporter: Reporter, notify: Callable[[str], None], source: str) -> dict[str, Any]:
    from levercheck.demo import stages  # torch is imported here, after the directory has been accepted
    from levercheck.lm.model import load_model
    from levercheck.publish import publish

    started, clock = now(), time.monotonic()
    notify(f"loading {spec.model}")
    lm = load_model(source, notify=notify)
    upstream = {"model": lm.identity, "facts": facts_digest(), "instrument": instrument()}
    key = spec.fingerprint(**upstream)
    _accept(root, spec, key, upstream)
    note(root, "started", key=key)
    try:
        study = stages.Study(root, spec, lm, key, reporter)
        answers = stages.sample_answers(study)
        items = stages.detection_items(answers)
        features = stages.capture(study, items)
        readout = stages.probe(study, items, features)
        behaviour = stages.behaviour_items(study, answers)
        effects = stages.attribute(study, behaviour["select"])
        arms = stages.choose_arms(study, readout, effects)
        stages.sweep(study, arms, behaviour["confirm"])
        with reporter.stage("audit and report", 1, "audit") as tick:
            audit = derive(root)
            write_json(root / AUDIT, audit)
            outputs = [root / STUDY, root / AUDIT, *publish(audit, root)]
            tick(1)
    except BaseException as error:
        kind = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        note(root, kind, error=type(error).__name__, seconds=round(time.monotonic() - clock, 1))
        raise
    body = {"unit": "study", "key": key, "started": started, "ended": now()}
    write_sidecar(root, root, body, outputs, "complete")
    note(root, "finished", key=key, seconds=round(time.monotonic() - clock, 1))
    note(root, "analysed", standings=audit["verdict"]["standings"])
    return audit


def check_settings(root: Path, spec: DemoSpec) -> None:
    """Refuse to continue a run that was started with other settings."""
    if not (root / STUDY).exists():
        return
    stored = read_json(root / STUDY)
    stored = stored.get("spec") if isinstance(stored, dict) else None
    if not isinstance(stored, dict):
        raise UsageError(f"'{root / STUDY}' is not the settings of a run: give --out a new or empty directory")
    asked = spec.model_dump(mode="json")
    changed = sorted(name for name in stored.keys() | asked.keys() if stored.get(name) != asked.get(name))
    if changed:
        name = "seed" if "seed" in changed else changed[0]
        raise UsageError(
            f"'{root}' holds a run with {name} = {stored.get(name)!r}, asked for {asked.get(name)!r}: use the same "
            "settings to continue it, or give another --out"
        )


def instrument() -> dict[str, Any]:
    """What else decides the rows: prompts, rulers and the versions that compute them."""
    versions = environment()["packages"]
    return {
        "prompts": digest([PREFIX, question_prompt("{q}"), context_prompt("{a}", "{q}")]),
        "rulers": [facts.RULER, counterfactual.RULER],
        "versions": {name: versions[name] for name in ("levercheck", "torch", "transformers") if name in versions},
    }


def _accept(root: Path, spec: DemoSpec, key: str, upstream: dict[str, Any]) -> None:
    """Write study.json before the first row, or check that a continued run still means the same things."""
    path = root / STUDY
    if not path.exists():
        write_json(path, {"key": key, "spec": spec.model_dump(mode="json"), **upstream})
        note(root, "planned", key=key)
        return
    stored = read_json(path)
    changed = [name for name, value in upstream.items() if stored.get(name) != value]
    if changed:
        raise UsageError(
            f"'{root}' was started with another {' and '.join(changed)} (see its {STUDY}): give another --out to start "
            "afresh, or go back to what it was started with"
        )
