"""The files of an H-neurons run from a workspace, in a new folder that appears whole or not at all.

consistency_samples.jsonl, answer_tokens.jsonl, train_qids.json, test_qids.json,
activations/<location>/act_<qid>.npy, activations/metadata.json, classifier.npz, classifier.json
export.json: what was written, from what, and what these files cannot hold
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from levercheck.detect.labelling import judged_samples
from levercheck.detect.probe import checked_name
from levercheck.detect.stored import open_store
from levercheck.detect.workspace import Workspace, workspace
from levercheck.errors import MissingError, UsageError
from levercheck.evidence.canonical import file_digest
from levercheck.evidence.files import sync_folder, write_json
from levercheck.evidence.reporter import Reporter
from levercheck.interop.h_neurons_formats import EXACT, FORMAT, LABEL_OF, METADATA, REGION_OF, file_name
from levercheck.lm.model import LanguageModel
from levercheck.lm.offsets import token_offsets, token_span
from levercheck.readouts.readout import FACTS, load_readout

SAMPLES = "consistency_samples.jsonl"
TOKENS = "answer_tokens.jsonl"
IDS = {"train": "train_qids.json", "test": "test_qids.json"}
ACTIVATIONS = "activations"
MANIFEST = "export.json"
SCHEMA = "levercheck.h-neurons-export/v1"
_VERDICT_OF = {label: verdict for verdict, label in LABEL_OF.items()}


@dataclass
class Exported:
    """What was written, and what was left out because the formats, or the options, have no place for it."""

    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {"parts": self.parts, "left_out": self.left_out}


def export_h_neurons(
    root: Path,
    out: Path,
    reporter: Reporter,
    *,
    lm: LanguageModel | None = None,
    reduce: str | None = None,
    probe: str | None = None,
) -> Exported:
    """Write every finished stage of the workspace at `root`; token strings need the model that wrote the answers.

    `reduce` picks the channels (mean where there are such), `probe` the readout where there are several. Raises
    UsageError for a target that is not empty and for item ids that cannot be part of a file name.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"'{out}' is not empty: give --out a new or empty folder")
    if out.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"'{out}' is inside the workspace: give --out a folder beside it")
    with workspace(root, reporter) as ws, _new_folder(out) as folder:
        found = _Export(ws, folder, lm)
        found.check_ids()
        found.samples()
        found.answer_tokens()
        found.ids()
        found.activations(reduce, out.parent)
        found.classifier(probe)
        found.manifest()
    return found.report


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that becomes `out` when all went well, and vanishes otherwise."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        yield folder
        folder.chmod(0o755)
        if out.exists():
            out.rmdir()
        folder.replace(out)
        sync_folder(out.parent)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


class _Export:
    def __init__(self, ws: Workspace, folder: Path, lm: LanguageModel | None) -> None:
        self.ws, self.folder, self.lm = ws, folder, lm
        self.report = Exported()
        self.questions = ws.rows("questions") if ws.has("questions") else None
        prompting = ws.settings("answers")["prompting"] if ws.has("answers") else {}
        self.style = prompting.get("style", "chat")
        self.instruction = str(prompting.get("instruction", ""))

    def check_ids(self) -> None:
        """Refuse ids that could leave a folder before anything is written."""
        if not any(self.ws.has(name) for name in ("answers", "split", "capture")) and not self._probes():
            raise UsageError(f"'{self.ws.root}' has no finished stage to export: run 'levercheck collect' on it first")
        for name in ("answers", "spans", "split", "capture"):
            if self.ws.has(name):
                for qid in self.ws.rows(name)["item_id"].unique():
                    file_name(qid, name)

    def samples(self) -> None:
        """Every question that was asked, its answers in order, with the verdicts that the spans use."""
        if not self.ws.has("answers"):
            return
        answers = judged_samples(self.ws)
        by_item = (
            answers.sort("item_id", "sample")
            .group_by("item_id", maintain_order=True)
            .agg("text", pl.col("verdict").fill_null("error"))
        )
        asked = self._asked()

        def records() -> Iterator[tuple[str, dict[str, Any]]]:
            for item in by_item.iter_rows(named=True):
                about = asked[item["item_id"]]
                record = {"question": about["question"], "responses": item["text"], "judges": item["verdict"]}
                if about["aliases"] is not None:
                    record["ground_truth"] = about["aliases"]
                yield item["item_id"], record

        self._jsonl(SAMPLES, records())
        self.report.parts["samples"] = {"questions": len(by_item), "responses": len(answers)}
        if self.style != "chat":
            self.report.left_out.append("the solved examples of the prompt: questions stand alone")

    def answer_tokens(self) -> None:
        """Every answer span as decoded token strings, with the exact ids and positions under one key of ours."""
        if not self.ws.has("spans"):
            return
        if self.lm is None:
            self.report.left_out.append("answer tokens: they need the tokenizer, give --model")
            return
        recorded = self.ws.settings("spans").get("tokenizer")
        if recorded is not None and recorded != self.lm.identity["tokenizer"]:
            raise UsageError(
                f"the spans were made with another tokenizer than that of '{self.lm.name}': give --model the model "
                "that wrote the answers"
            )
        rows = self.ws.rows("spans")
        found = rows.filter(pl.col("reason").is_null())
        asked = self._asked()
        with self.ws.reporter.stage("export spans", len(found), "rows") as tick:

            def records() -> Iterator[tuple[str, dict[str, Any]]]:
                for row in found.sort("item_id").iter_rows(named=True):
                    yield row["item_id"], {"question": asked[row["item_id"]]["question"], **self._tokened(row)}
                    tick(1)

            self._jsonl(TOKENS, records())
        self.report.parts["answer_tokens"] = {"rows": len(found)}
        if len(rows) > len(found):
            self.report.left_out.append(f"{len(rows) - len(found)} responses without an answer span")

    def _tokened(self, row: Mapping[str, Any]) -> dict[str, Any]:
        assert self.lm is not None
        tokens, text = row["tokens"], row["text"]
        start, stop = row["start"], row["stop"]
        if tokens is None:
            tokens = self.lm.encode(text)
            try:
                start, stop = token_span(token_offsets(self.lm.decode, tokens), row["char_start"], row["char_stop"])
            except ValueError as error:
                raise UsageError(
                    f"item '{row['item_id']}': {error} of '{self.lm.name}': give its own --model"
                ) from None
        strings = [self.lm.decode([i]) for i in tokens]
        own = row["tokens"] is not None and row["reencoded"] is False
        return {
            "response": text,
            "tokenized_response": strings,
            "answer_tokens": strings[start:stop],
            "judge": _VERDICT_OF[row["label"]],
            EXACT: {
                "token_ids": tokens if own else None,
                "span": [start, stop],
                "chars": [row["char_start"], row["char_stop"]],
                "method": row["method"],
                "mentions": row["mentions"],
                "mean_logprob": row["mean_logprob"],
            },
        }

    def ids(self) -> None:
        """Right and wrong ids of train and test."""
        if not self.ws.has("split"):
            return
        rows = self.ws.rows("split").sort("item_id")
        counts: dict[str, Any] = {}
        for role, name in IDS.items():
            part = rows.filter(pl.col("role") == role)
            if part.is_empty():
                continue
            right, wrong = (part.filter(pl.col("label") == label)["item_id"].to_list() for label in ("right", "wrong"))
            write_json(self.folder / name, {"t": right, "f": wrong})
            counts[role] = len(part)
        self.report.parts["ids"] = counts

    def activations(self, reduce: str | None, beside: Path) -> None:
        """One file per captured item and location, item by item."""
        if not self.ws.has("capture"):
            return
        store = open_store(self.ws)
        reduces = [name for name in ("mean", "max") if any(c.endswith(f".cett.{name}") for c in store.channels)]
        chosen = reduce or next(iter(reduces), None)
        if chosen not in reduces:
            raise UsageError(f"the store has no channel of CETT reduced by {chosen or 'mean or max'}: capture it first")
        location_of = {region: location for location, region in REGION_OF.items()}
        written = {c: location_of[c.partition(".")[0]] for c in store.channels if c.endswith(f".cett.{chosen}")}
        others = [c for c in store.channels if c not in written]
        if others:
            self.report.left_out.append(f"channels {', '.join(others)}: the format holds CETT of one reduction")
        layers, neurons = store.array.shape[2:]
        size, free = 4 * len(written) * len(store.item_ids) * layers * neurons, shutil.disk_usage(beside).free
        if size > free:
            raise MissingError(
                f"the activations need {size / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free: free space, or give "
                "--out on another disk"
            )
        root = self.folder / ACTIVATIONS
        with self.ws.reporter.stage("export activations", len(store.item_ids), "items") as tick:
            for location in written.values():
                (root / location).mkdir(parents=True)
            for at, qid in enumerate(store.item_ids):
                for channel, location in written.items():
                    values = np.asarray(store.channel(channel)[at], dtype=np.float32)
                    np.save(root / location / file_name(qid, location), values, allow_pickle=False)
                tick(1)
        model = self.ws.settings("capture").get("model")
        metadata = {
            "locations": sorted(written.values()),
            "aggregation_method": chosen,
            "use_abs": True,
            "use_mag": True,
            "n_target_ids": len(store.item_ids),
            "input_path": TOKENS,
            "train_ids_path": IDS["train"],
            **({"model_path": model["name"]} if isinstance(model, dict) and "name" in model else {}),
        }
        write_json(root / METADATA, metadata)
        shape = [int(layers), int(neurons)]
        self.report.parts["activations"] = {"items": len(store.item_ids), "shape": shape, "reduce": chosen}

    def classifier(self, probe: str | None) -> None:
        """Coefficients for raw features, as scikit-learn has them."""
        names = self._probes()
        if probe is None and not names:
            return
        if probe is None and len(names) > 1:
            raise UsageError(f"the workspace has the probes {', '.join(names)}: say which with --probe")
        name = checked_name(probe or names[0])
        readout = load_readout(self.ws.root / "probes" / name)
        if readout.family != "neurons":
            raise UsageError(f"probe '{name}' is of family {readout.family}: only neurons have this format")
        dense = np.zeros(readout.shape)
        raw = readout.weights / readout.deviation
        dense[readout.layers, readout.indices] = raw
        intercept = readout.intercept - float((raw * readout.mean).sum())
        np.savez_compressed(self.folder / "classifier.npz", coef=dense.reshape(1, -1), intercept=np.array([intercept]))
        body = {"coef": [dense.ravel().tolist()], "intercept": [intercept]}
        (self.folder / "classifier.json").write_text(json.dumps(body, allow_nan=False) + "\n", encoding="utf-8")
        self.report.parts["classifier"] = {"probe": name, "components": len(readout.components)}

    def manifest(self) -> None:
        """Names and digests of the files, and what a reader needs to know of them."""
        top = sorted(p for p in self.folder.iterdir() if p.is_file())
        for path in top:
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
        body = {
            "schema": SCHEMA,
            "format": FORMAT,
            "instruction": self.instruction,
            "files": {path.name: file_digest(path) for path in top},
            "units": {
                name: self.ws.sidecar(name)["key"]
                for name in ("questions", "answers", "spans", "split", "capture")
                if self.ws.has(name)
            },
            **self.report.to_dict(),
        }
        write_json(self.folder / MANIFEST, body)

    def _asked(self) -> dict[str, dict[str, Any]]:
        """Question, as it stood in the chat turn, and accepted answers of every item."""
        assert self.questions is not None
        ending = f" {self.instruction}" if self.instruction else ""
        return {
            row["item_id"]: {
                "question": f"{(row['question'] or '').strip()}{ending}".strip(),
                "aliases": row["aliases"],
            }
            for row in self.questions.iter_rows(named=True)
        }

    def _probes(self) -> list[str]:
        folder = self.ws.root / "probes"
        return sorted(p.name for p in folder.iterdir() if (p / FACTS).is_file()) if folder.is_dir() else []

    def _jsonl(self, name: str, records: Iterable[tuple[str, dict[str, Any]]]) -> None:
        with (self.folder / name).open("w", encoding="utf-8", newline="\n") as handle:
            for qid, record in records:
                handle.write(json.dumps({qid: record}, ensure_ascii=False, allow_nan=False) + "\n")
