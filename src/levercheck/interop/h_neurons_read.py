"""Units of a workspace from the files of an H-neurons run; whatever is given is read, and the stages go on from there.

Every part is checked against those before it: ids against questions, labels against verdicts, files against ids. The
same files a second time change nothing; other files are an error.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from levercheck.detect.stored import STORE, CaptureSpec
from levercheck.detect.workspace import Workspace, workspace
from levercheck.errors import MissingError, UsageError
from levercheck.evidence import schema
from levercheck.evidence.canonical import digest
from levercheck.evidence.reporter import Reporter
from levercheck.evidence.unit import Row, open_array
from levercheck.interop.h_neurons_activations import Folder, Scan, open_folder, scan
from levercheck.interop.h_neurons_context import Context, Files, Imported, Options
from levercheck.interop.h_neurons_formats import REGION_OF, read_coefficients, read_samples, read_tokens
from levercheck.interop.h_neurons_readout import import_readout
from levercheck.interop.h_neurons_split import Roles, assign, leaked
from levercheck.interop.h_neurons_text import import_responses, import_samples, import_spans
from levercheck.lm.model import LanguageModel

__all__ = ["Files", "Imported", "Options", "import_h_neurons"]

FOLDS, SEED = 5, 0
_ITEMS_AT_ONCE = 8


def import_h_neurons(
    root: Path,
    files: Files,
    reporter: Reporter,
    *,
    lm: LanguageModel | None = None,
    options: Options | None = None,
) -> Imported:
    """Read the files into the workspace at `root`, which is made when it is not there.

    `lm` gives the tokenizer of the answer tokens, and is recorded as the model of the activations. Raises UsageError
    for parts that do not belong together, IntegrityError for damaged files; both before the part is written.
    """
    options = options or Options()
    if not any(vars(files).values()):
        raise UsageError("nothing to import: give at least one of the files")
    # All but the activations' numbers is read first, so that a damaged file is found before anything is written.
    samples = read_samples(files.samples) if files.samples else []
    tokens = read_tokens(files.answer_tokens) if files.answer_tokens else []
    roles = Roles.read(files.train_ids, files.test_ids) if files.train_ids or files.test_ids else None
    folder = open_folder(files.activations, options.locations, options.reduce) if files.activations else None
    coefficients = read_coefficients(files.classifier) if files.classifier else None
    with workspace(root, reporter, create=True) as ws:
        ctx = Context(ws, files, options, lm, Imported())
        if tokens and lm is None and folder is None and not ws.has("capture"):
            raise UsageError(
                "answer tokens need the tokenizer that capture will use: give --model, or the activations as well"
            )
        if samples:
            import_samples(ctx, samples)
        if tokens:
            import_responses(ctx, tokens, roles.label_of if roles else {})
            import_spans(ctx, tokens)
        found = _checked(ctx, folder, roles) if folder else None
        if roles:
            _split(ctx, roles, found)
        if found:
            _capture(ctx, found)
        if coefficients:
            shape = options.shape or (found.shape if found else lm.shape if lm else None)
            channel = f"answer.cett.{folder.reduce if folder else options.reduce or 'mean'}"
            facts = {"model": ctx.model, "imported": files.identity("classifier")}
            ctx.report.parts["readout"] = import_readout(ws, coefficients, shape, channel, facts)
    return ctx.report


def _checked(ctx: Context, folder: Folder, roles: Roles | None) -> Scan:
    """Read every file of the items that count: those of the ids, else of the split, else all."""
    wanted = None
    if roles is not None:
        wanted = sorted(roles.label_of)
    elif ctx.ws.has("split"):
        wanted = _used(ctx.ws)
    shape = ctx.options.shape or (ctx.lm.shape if ctx.lm else None)
    count = len(folder.locations) * len(folder.qids() if wanted is None else wanted)
    with ctx.ws.reporter.stage("check activations", count, "files") as tick:
        found = scan(folder, wanted, shape, tick)
    if wanted is None:
        ctx.check_known(found.complete, "activations")
    if ctx.lm and ctx.lm.shape != found.shape:
        raise UsageError(f"--shape says {found.shape}, '{ctx.lm.name}' has {ctx.lm.shape}: give the model's own shape")
    if found.negative:
        ctx.report.notes.append(f"{found.negative} activation files have values below zero, which CETT never has")
    return found


def _split(ctx: Context, roles: Roles, found: Scan | None) -> None:
    """Roles of the id files; items that lack anything go to reserve with the reason."""
    ws = ctx.ws
    ctx.check_known(list(roles.label_of), "id files")
    ctx.check_labels(dict(roles.label_of), "id files")
    missing = found.missing if found else {}
    lost = roles.check_missing(missing, ctx.options.max_missing)
    upstream = [name for name in ("questions", "spans") if ws.has(name)]
    items = roles.items(*(ws.rows(name) if name in upstream else None for name in ("questions", "spans")))
    reasons = {}
    if "spans" in upstream and found is None and not ws.has("capture"):
        reasons = dict.fromkeys(items.filter(~pl.col("has_span"))["item_id"], "it has no answer span")
    reasons |= {qid: f"no activations of {', '.join(names)}" for qid, names in missing.items()}
    if ctx.labels:
        known = {qid: ctx.labels.get(qid, "incomplete") for qid in roles.label_of}
        reasons |= {q: f"its samples are labelled {known[q]}" for q in known if known[q] not in ("right", "wrong")}
    frame = ws.compute(
        "split",
        {
            "imported": ctx.files.identity("train_ids", "test_ids"),
            "folds": FOLDS,
            "seed": SEED,
            "reserve": digest(sorted(reasons)) if reasons else None,
        },
        upstream,
        schema.SPLIT,
        ["item_id"],
        title="import split",
        batches=[None],
        rows=len(items),
        work=lambda _: assign(items, reasons, folds=FOLDS, seed=SEED),
        summarise=lambda rows: leaked(rows, items),
    )
    results = ws.results("split")
    ctx.report.parts["split"] = {
        **{role: int((frame["role"] == role).sum()) for role in ("train", "test", "reserve")},
        "reserve_reasons": results["reserve"],
        "shared_by_train_and_test": results["shared"],
        "missing_activations": lost,
    }


def _capture(ctx: Context, found: Scan) -> None:
    """All complete items, of train and test where there is a split, in one store."""
    ws, folder, (layers, neurons) = ctx.ws, found.folder, found.shape
    ids = _used(ws) if ws.has("split") else list(found.complete)
    absent = sorted(set(ids) - set(found.complete))
    if absent:
        raise UsageError(
            f"{len(absent)} items of the split (first '{absent[0]}') lack activations: give the id files together with "
            "the activations to a new workspace, so that these items go to reserve"
        )
    regions = tuple(REGION_OF[name] for name in folder.locations)
    spec = CaptureSpec.model_validate({"regions": regions, "reduces": (folder.reduce,)})
    path, shape = ws.root / "capture" / STORE, (len(regions), len(ids), layers, neurons)
    size, free = 4 * len(regions) * len(ids) * layers * neurons, shutil.disk_usage(ws.root).free
    if not path.exists() and size > free:
        raise MissingError(
            f"the store needs {size / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free: free space, or leave locations "
            "out with --locations"
        )
    lengths: dict[str, int | None] = {}
    if ws.has("spans"):
        lengths = dict(ws.rows("spans").select("item_id", pl.col("stop") - pl.col("start")).iter_rows())

    def work(batch: Sequence[int]) -> list[Row]:
        array = open_array(path, shape)
        for at in batch:
            for channel, location in enumerate(folder.locations):
                array[channel, at] = found.load(location, ids[at])
        array.flush()
        return [{"item_id": ids[at], "index": at, "answer_tokens": lengths.get(ids[at])} for at in batch]

    origin: dict[str, Any] = {
        **ctx.files.identity(),
        "activations": [root.name for root in folder.roots],
        "locations": list(folder.locations),
        "sha256": found.sha256,
        "claimed_model": folder.claimed_model,
    }
    frame = ws.compute(
        "capture",
        {**spec.model_dump(mode="json"), "model": ctx.model, "shape": [layers, neurons], "imported": origin},
        [name for name in ("questions", "answers", "spans", "split") if ws.has(name)],
        schema.CAPTURED_REGIONS,
        ["index"],
        title="import capture",
        batches=[range(i, min(i + _ITEMS_AT_ONCE, len(ids))) for i in range(0, len(ids), _ITEMS_AT_ONCE)],
        rows=len(ids),
        work=work,
        array=path,
    )
    ctx.report.parts["capture"] = {
        "items": len(frame),
        "shape": [layers, neurons],
        "channels": [channel.name for channel in spec.channels],
        "items_without_files": len(found.missing),
        "items_not_asked_for": found.others,
    }


def _used(ws: Workspace) -> list[str]:
    rows = ws.rows("split").filter(pl.col("role").is_in(["train", "test"]))
    ids: list[str] = rows["item_id"].sort().to_list()
    return ids
