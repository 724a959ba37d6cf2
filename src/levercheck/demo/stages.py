"""The stages of the embedded study: each reads the units before it, writes its own, and can be killed at any time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.cells import cell_results
from levercheck.audit.choice import choose_c, fold_aurocs
from levercheck.audit.labels import consistency
from levercheck.benchmarks import counterfactual
from levercheck.benchmarks.counterfactual import WITH_CONTEXT, WITHOUT_CONTEXT, ContextItem
from levercheck.benchmarks.facts import Fact, load_facts
from levercheck.benchmarks.prompts import PREFIX, question_prompt
from levercheck.demo.spec import DemoSpec
from levercheck.errors import NotEnoughDataError
from levercheck.evidence import schema
from levercheck.evidence.canonical import digest
from levercheck.evidence.reporter import Reporter
from levercheck.evidence.splits import folds_by_entity, roles_by_entity, shuffled, spread
from levercheck.evidence.unit import Row, Unit, batch_names, open_array, read_array
from levercheck.lm.batches import SharedPrefix, equal_batches, token_batches
from levercheck.lm.model import LanguageModel
from levercheck.lm.sample import Sampling, sample_batch
from levercheck.readouts.attribution import ATTRIBUTION_TOKENS, attribution_batch
from levercheck.readouts.cett import cett_batch
from levercheck.readouts.probe import fit_probe, out_of_fold
from levercheck.sweep.answers import answer_rows
from levercheck.sweep.arms import Arm, Cell, CellRunner, plan_cells, random_arms, strongest_arm

BENCHMARKS = (WITH_CONTEXT, WITHOUT_CONTEXT)
MIN_PER_CLASS = 15
MIN_ITEMS = 5


@dataclass(frozen=True)
class Study:
    """A run directory, its settings, and the model they are applied to."""

    root: Path
    spec: DemoSpec
    lm: LanguageModel
    key: str
    reporter: Reporter

    @cached_property
    def facts(self) -> dict[str, Fact]:
        """The questions of this run by id: a seeded draw from the chosen categories."""
        pool = {fact.id: fact for fact in load_facts(self.spec.categories)}
        chosen = shuffled(list(pool), self.spec.seed, "question")[: self.spec.questions]
        return {fact_id: pool[fact_id] for fact_id in sorted(chosen)}

    @cached_property
    def roles(self) -> dict[str, str]:
        """Role of every entity."""
        return roles_by_entity([f.entity for f in self.facts.values()], self.spec.role_shares, self.spec.seed)

    def unit(self, name: str, columns: dict[str, Any], order: Sequence[str], *upstream: Any) -> Unit:
        """A unit of this run, keyed by the run and whatever else its rows depend on."""
        return Unit(self.root, name, digest([self.key, name, *upstream]), columns, order)

    def compute(
        self, unit: Unit, title: str, batches: Sequence[Any], rows: int, work: Callable[[Any], list[Row]], **more: Any
    ) -> None:
        """Run a unit under a progress bar, or show it as done when it is complete."""
        with self.reporter.stage(title, rows, "rows") as tick:
            if unit.complete:
                tick(rows)
            else:
                unit.run(batch_names(batches), work, facts={"stage": title}, tick=lambda n: tick(min(n, rows)), **more)


def sample_answers(study: Study) -> pl.DataFrame:
    """Sample every question and score each answer; returns ANSWERS rows."""
    spec, lm = study.spec, study.lm
    facts = list(study.facts.values())
    prompts = [lm.encode(question_prompt(fact.question)) for fact in facts]
    sampling = Sampling(samples=spec.samples)
    unit = study.unit("answers", schema.ANSWERS, ["item_id", "sample"], vars(sampling))
    prefix = SharedPrefix(lm, lm.start_ids + lm.encode(PREFIX))

    def work(batch: list[int]) -> list[Row]:
        drawn = sample_batch(lm, prefix, [prompts[i] for i in batch], [facts[i].id for i in batch], sampling, spec.seed)
        return [
            row
            for i, answers in zip(batch, drawn, strict=True)
            for row in answer_rows(facts[i], study.roles[facts[i].entity], answers)
        ]

    study.compute(unit, "sample answers", equal_batches(prompts, len, 64), len(facts) * spec.samples, work)
    return unit.rows()


def detection_items(answers: pl.DataFrame) -> pl.DataFrame:
    """Usable readout-role items with their labels; too few of a class is an error."""
    labels = consistency(answers)
    items = labels.filter((pl.col("role") == "readout") & pl.col("usable"))
    for label in ("right", "wrong"):
        found = int((items["label"] == label).sum())
        if found < MIN_PER_CLASS:
            raise NotEnoughDataError(
                f"{found} questions are consistently {label} in the readout role, expected at least {MIN_PER_CLASS}: "
                "ask more questions (leave out --quick) or use another model"
            )
    return items


def capture(study: Study, items: pl.DataFrame) -> np.ndarray[Any, np.dtype[np.float32]]:
    """CETT over the answer tokens of every detection item, float32 [items, layers, neurons]."""
    lm = study.lm
    records = items.select("item_id", "tokens").to_dicts()
    prompts = [lm.encode(question_prompt(study.facts[r["item_id"]].question)) for r in records]
    sequences = [[*prompt, *r["tokens"]] for prompt, r in zip(prompts, records, strict=True)]
    unit = study.unit("capture", schema.CAPTURED, ["index"], [[r["item_id"], r["tokens"]] for r in records])
    path = study.root / "capture" / "cett.npy"
    prefix = SharedPrefix(lm, lm.start_ids + lm.encode(PREFIX))

    def work(batch: list[int]) -> list[Row]:
        spans = [(len(prompts[i]), len(sequences[i])) for i in batch]
        array = open_array(path, (len(records), *lm.shape))
        array[batch] = cett_batch(lm, prefix, [sequences[i] for i in batch], spans).numpy()
        array.flush()
        return [{"item_id": records[i]["item_id"], "index": i, "tokens": len(sequences[i])} for i in batch]

    study.compute(unit, "capture CETT", token_batches(sequences), len(records), work, array=path)
    return read_array(path)


@dataclass(frozen=True)
class Readout:
    """What later stages need of the probe."""

    c: float
    neurons: tuple[tuple[int, int], ...]
    nonzero: tuple[tuple[int, int], ...]


def probe(study: Study, items: pl.DataFrame, features: np.ndarray[Any, np.dtype[np.float32]]) -> Readout:
    """Choose C on training folds, fit, score the test items once; writes PROBE_SCORES and READOUT rows."""
    spec = study.spec
    entity, ids = items["entity"].to_list(), items["item_id"].to_list()
    labels = (items["label"] == "wrong").to_numpy().astype(np.float64)
    shares = {"train": 1 - spec.test_share, "test": spec.test_share}
    side = roles_by_entity(entity, shares, spec.seed)
    train = np.array([side[e] == "train" for e in entity])
    folds_of = folds_by_entity([e for e, t in zip(entity, train, strict=True) if t], spec.folds, spec.seed)
    folds = np.array([folds_of.get(e, -1) for e in entity])
    upstream = digest([ids, labels.tolist()])
    scores = study.unit("probe", schema.PROBE_SCORES, ["purpose", "c", "item_id"], upstream)
    readout = study.unit("readout", schema.READOUT, ["layer", "index"], upstream)

    for fold in [*range(spec.folds), -1]:
        kept = labels[train & (folds != fold)]
        if not 0 < kept.sum() < len(kept):
            raise NotEnoughDataError(
                "the right and the wrong answers fall on too few entities to be split into folds: ask more questions "
                "(leave out --quick) or use another model"
            )

    @cache
    def fitted_rows() -> tuple[list[Row], list[Row]]:
        cv = out_of_fold(features[train], labels[train], folds[train], spec.c_grid)
        c = choose_c(cv.cs, fold_aurocs(cv.scores, labels[train], folds[train]))
        fitted = fit_probe(features[train], labels[train], [v for v in spec.c_grid if v <= c])
        at = np.flatnonzero(fitted.weights)
        mean, deviation = fitted.scaling.mean[at], fitted.scaling.deviation[at]
        rows: list[Row] = [
            {"c": c, "layer": None, "index": None, "weight": fitted.intercept, "mean": None, "deviation": None}
        ]
        rows += [
            {
                "c": c,
                "layer": layer,
                "index": index,
                "weight": float(fitted.weights[layer, index]),
                "mean": float(m),
                "deviation": float(d),
            }
            for (layer, index), m, d in zip(fitted.nonzero, mean, deviation, strict=True)
        ]
        trained = [i for i, t in zip(ids, train, strict=True) if t]
        score_rows: list[Row] = [
            {"item_id": item, "purpose": "cv", "c": value, "fold": int(fold), "score": float(score)}
            for value, row in zip(cv.cs, cv.scores, strict=True)
            for item, fold, score in zip(trained, folds[train], row, strict=True)
        ]
        score_rows += [
            {"item_id": item, "purpose": "test", "c": c, "fold": -1, "score": float(score)}
            for item, score in zip(
                [i for i, t in zip(ids, train, strict=True) if not t], fitted.score(features[~train]), strict=True
            )
        ]
        return score_rows, rows

    study.compute(scores, "fit probe", [None], 1, lambda _: fitted_rows()[0])
    study.compute(readout, "store readout", [None], 1, lambda _: fitted_rows()[1])
    table = readout.rows().filter(pl.col("layer").is_not_null())
    neurons = _components(table.filter(pl.col("weight") > 0))
    if not neurons:
        raise NotEnoughDataError(
            f"the probe gave no neuron a positive weight (C = {readout.rows()['c'][0]:g}), expected at "
            "least one H-neuron: the answers do not separate; ask more questions or use another model"
        )
    return Readout(float(readout.rows()["c"][0]), neurons, _components(table))


def _components(table: pl.DataFrame) -> tuple[tuple[int, int], ...]:
    return tuple(zip(table["layer"].to_list(), table["index"].to_list(), strict=True))


def behaviour_items(study: Study, answers: pl.DataFrame) -> dict[str, list[ContextItem]]:
    """Counterfactual-context items of the select and confirm roles, from facts the model knows."""
    spec, lm = study.spec, study.lm
    share = pl.col("right") / pl.col("samples")
    known = consistency(answers).filter((share >= spec.known_share) & (pl.col("role") != "readout"))
    pool = load_facts(spec.categories)

    facts = [study.facts[i] for i in known["item_id"]]
    items, dropped = counterfactual.build_items(facts, pool, lm.answer_token, spec.seed)
    unit = study.unit("items", schema.ITEMS, ["item_id"], known["item_id"].to_list())
    chosen: dict[str, list[ContextItem]] = {}
    limits = {
        "select": (spec.select_items, spec.select_items),
        "confirm": (spec.confirm_items, spec.confirm_per_entity),
    }
    for role, (limit, per_entity) in limits.items():
        of_role = [item for item in items if study.roles[item.entity] == role]
        chosen[role] = spread(of_role, lambda i: (i.item_id, i.entity), limit, per_entity, spec.seed)
        if len(chosen[role]) < MIN_ITEMS:
            raise NotEnoughDataError(
                f"{len(chosen[role])} known facts are left for the {role} role, expected at least {MIN_ITEMS}: ask "
                "more questions (leave out --quick) or use another model"
            )
    used = {item.item_id for group in chosen.values() for item in group}

    def work(_: None) -> list[Row]:
        rows: list[Row] = []
        for item in items:
            over = None if item.item_id in used else "over the role's limit of items or of items per entity"
            rows.append(
                {
                    "item_id": item.item_id,
                    "category": item.category,
                    "entity": item.entity,
                    "role": study.roles[item.entity],
                    "asserted": item.asserted,
                    "true": item.true,
                    "asserted_token": item.asserted_token,
                    "true_token": item.true_token,
                    "dropped": over,
                }
            )
        for item_id, reason in dropped.items():
            fact = study.facts[item_id]
            rows.append(
                {
                    "item_id": item_id,
                    "category": fact.category,
                    "entity": fact.entity,
                    "role": study.roles[fact.entity],
                    "true": fact.answer,
                    "dropped": reason,
                }
            )
        return rows

    study.compute(unit, "build items", [None], len(items) + len(dropped), work)
    return chosen


def attribute(study: Study, items: Sequence[ContextItem]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """First-order effect of every neuron on every select item, float32 [items, layers, neurons]."""
    lm = study.lm
    start = lm.start_ids + lm.encode(PREFIX)
    sequences = [start + lm.encode(item.prompt(WITH_CONTEXT)) for item in items]
    unit = study.unit("attribution", schema.CAPTURED, ["index"], [item.item_id for item in items])
    path = study.root / "attribution" / "effects.npy"

    def work(batch: list[int]) -> list[Row]:
        pairs = [(items[i].asserted_token, items[i].true_token) for i in batch]
        array = open_array(path, (len(items), *lm.shape))
        array[batch] = attribution_batch(lm, [sequences[i] for i in batch], pairs).numpy()
        array.flush()
        return [{"item_id": items[i].item_id, "index": i, "tokens": len(sequences[i])} for i in batch]

    study.compute(unit, "attribute", token_batches(sequences, ATTRIBUTION_TOKENS), len(items), work, array=path)
    return read_array(path)


def choose_arms(study: Study, readout: Readout, effects: np.ndarray[Any, np.dtype[np.float32]]) -> list[Arm]:
    """The H-neurons, as many neurons with the largest first-order effect, and layer-matched random sets."""
    spec = study.spec
    arms = [Arm("h_neurons", readout.neurons), strongest_arm(effects, len(readout.neurons))]
    arms += random_arms(study.lm, readout.neurons, exclude=readout.nonzero, draws=spec.random_sets, seed=spec.seed)
    unit = study.unit("sets", schema.SETS, ["condition", "control_seed", "layer", "index"])
    rows: list[Row] = [
        {"condition": arm.condition, "control_seed": arm.control_seed, "layer": layer, "index": index}
        for arm in arms
        for layer, index in arm.neurons
    ]
    study.compute(unit, "choose sets", [None], len(rows), lambda _: rows)
    return arms


def sweep(study: Study, arms: Sequence[Arm], items: Sequence[ContextItem]) -> None:
    """Run every cell; SWEEP rows in `cells/<label>-<key>/`."""
    cells = plan_cells(arms, study.spec.audit.doses, BENCHMARKS)
    ids = [item.item_id for item in items]
    with study.reporter.stage("sweep doses", len(cells) * len(items), "rows") as tick:
        for cell in cells:
            unit = cell_unit(study, cell, ids)
            if unit.complete:
                tick(len(items))
                continue
            runner = CellRunner(study.lm, cell, items)
            batches = batch_names(runner.batches())
            unit.run(batches, runner.score, facts={"stage": "sweep doses"}, tick=tick, summarise=cell_results)


def cell_unit(study: Study, cell: Cell, ids: Sequence[str]) -> Unit:
    """The folder of one cell: its name carries the key, so two settings can never share it."""
    key = digest([study.key, cell.label, [list(n) for n in cell.arm.neurons], cell.alpha, list(ids)])
    return Unit(study.root, f"cells/{cell.label}-{key[:12]}", key, schema.SWEEP, ["item_id"])
