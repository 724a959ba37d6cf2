"""Check a workspace against its own rows: digests of every file, the chain of units, and every derived number."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.verbosity import verbosity_effects
from levercheck.audit.verify import differences
from levercheck.detect import audit, labelling, probe, split
from levercheck.detect.stored import open_store
from levercheck.detect.workspace import MARKER, Workspace, unit_key
from levercheck.errors import LevercheckError, UsageError
from levercheck.evidence.files import read_json
from levercheck.evidence.provenance import SIDECAR
from levercheck.evidence.rows import content_digest, read_part
from levercheck.evidence.unit import RESULTS, check_outputs
from levercheck.readouts.readout import FACTS, load_readout


class _Silent:
    @contextmanager
    def stage(self, title: str, total: int, unit: str) -> Any:
        yield lambda done: None


def is_workspace(root: Path) -> bool:
    """Whether `root` is a workspace of the H-neuron pipeline."""
    return (root / MARKER).is_file()


def verify_workspace(root: Path) -> list[str]:
    """Differences between what a workspace states and what its rows give, one line each; needs no model."""
    if not is_workspace(root):
        raise UsageError(f"'{root}' is no workspace (it has no {MARKER})")
    ws = Workspace(root, _Silent())
    problems: list[str] = []
    sidecars = {path.parent.relative_to(root).as_posix(): path for path in sorted(root.rglob(SIDECAR))}
    for name, path in sidecars.items():
        try:
            problems += _unit(ws, name, read_json(path))
        except LevercheckError as error:
            problems.append(str(error))
        except (KeyError, ValueError, TypeError, pl.exceptions.PolarsError) as error:
            problems.append(f"{name}: not of the expected form: {type(error).__name__}: {str(error).splitlines()[0]}")
    for rows in sorted(root.rglob("rows")):
        folder = rows.parent.relative_to(root).as_posix()
        if rows.is_dir() and folder not in sidecars:
            problems.append(f"{folder} has rows but no {SIDECAR}")
    return list(dict.fromkeys(problems))


def _unit(ws: Workspace, name: str, sidecar: dict[str, Any]) -> list[str]:
    if sidecar["status"] != "complete":
        return [f"{name} is {sidecar['status']}, expected complete"]
    check_outputs(ws.root, sidecar)
    problems = []
    if content_digest(read_part(ws.root / name)) != sidecar["rows_sha256"]:
        problems.append(f"{name}: the rows' content is not what its sidecar recorded")
    if sidecar["key"] != unit_key(name, sidecar):
        problems.append(f"{name}: its key is not the digest of its settings: they were edited")
    for other, state in sidecar["upstream"].items():
        if ws.state(other) != state:
            problems.append(f"{name} was made from another {other} than stands there now")
    if (ws.root / name / FACTS).is_file() and _has_scores(ws, name):
        problems += _scores(ws, name)
    derive = None if "imported" in sidecar["settings"] else _derivation(ws, name, sidecar["settings"])
    if derive is not None:
        fresh = json.loads(json.dumps(derive()))
        stored = read_json(ws.root / name / RESULTS)
        problems += [f"{name}/{RESULTS}: {line}" for line in differences({k: stored.get(k) for k in fresh}, fresh)]
    return problems


def _derivation(ws: Workspace, name: str, settings: dict[str, Any]) -> Callable[[], dict[str, Any]] | None:
    """How a unit's results follow from rows; None where they need a model."""
    plain: dict[str, Callable[[], dict[str, Any]]] = {
        "answers": lambda: labelling.funnel(ws.rows(name), settings["sampling"]["samples"]),
        "verdicts": lambda: labelling.agreement(ws.rows(name), ws.rows("answers")),
        "spans": lambda: labelling.span_results(
            ws.rows(name), labelling.judged_samples(ws), ws.settings("answers")["sampling"]["samples"]
        ),
        "split": lambda: split.leakage(
            ws.rows(name).join(ws.rows("questions").select("item_id", "question", "entity"), on="item_id"),
            split.SplitSpec(**settings),
        ),
    }
    if name in plain:
        return plain[name]
    first, _, rest = name.partition("/")
    probe_name, _, part = rest.partition("/")
    if first != "probes":
        return None
    inside: dict[str, Callable[[], dict[str, Any]]] = {
        "": lambda: probe.results(ws.rows(name), ws.rows("split"), probe.ProbeSpec(**settings)),
        "path": lambda: {"path": probe.path_table(ws.rows(name))},
        "audit": lambda: audit.repeated(ws, probe_name),
        "verbosity": lambda: {"effects": verbosity_effects(ws.rows(name))},
    }
    return inside.get(part)


def _has_scores(ws: Workspace, name: str) -> bool:
    return bool(ws.rows(name)["purpose"].is_in(["train", "test"]).any())


def _scores(ws: Workspace, name: str) -> list[str]:
    """Stored train and test scores must follow from the stored features and the stored readout."""
    readout, store = load_readout(ws.root / name), open_store(ws)
    rows = ws.rows(name).filter(pl.col("purpose").is_in(["train", "test"]))
    positions = store.positions(rows["item_id"].to_list())
    fresh = readout.score(readout.select(store.channel(str(readout.facts["channel"])))[positions])
    gap = np.abs(fresh - rows["score"].to_numpy())
    if gap.max(initial=0) > 1e-6:
        return [f"{name}: {int((gap > 1e-6).sum())} scores do not follow from the store and the readout's weights"]
    return []
