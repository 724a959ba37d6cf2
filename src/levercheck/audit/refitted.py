"""What refits of a probe say: control tasks (Hewitt and Liang, EMNLP 2019) and categories it has not seen.

All functions read REFITS rows, ITEMS rows and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from levercheck.audit.baselines import CLUSTER, area, wrong_of
from levercheck.audit.classification import Floats
from levercheck.stats import Estimate, attainable_p, auroc, auroc_difference, mean, monte_carlo_p, percentile_bounds

LEVEL = 0.95
Component = tuple[int, int]


def component_name(layer: int, index: int) -> str:
    """A component as text, "L20:4288"; layers and indices count from 0."""
    return f"L{layer}:{index}"


def scores_of(refits: pl.DataFrame, purpose: str, test: pl.DataFrame) -> dict[int, pl.DataFrame]:
    """Per draw the ITEMS rows it was scored on, with its `refit` score, in order of item id."""
    rows = refits.filter((pl.col("purpose") == purpose) & (pl.col("metric") == "score"))
    rows = rows.select("draw", "item_id", pl.col("value").alias("refit"))
    joined = rows.join(test, on="item_id", how="inner", validate="m:1").sort("draw", "item_id")
    return {int(part["draw"][0]): part for part in joined.partition_by("draw", maintain_order=True)}


def failed(refits: pl.DataFrame, purpose: str) -> int:
    """Refits without a solution: their draw had one class only, or did not converge."""
    return refits.filter((pl.col("purpose") == purpose) & (pl.col("metric") == "failed")).height


def over_draws(values: list[float], unit: str, seed: int) -> Estimate:
    """Median over draws with the middle 95 % of the draws: where one more would likely fall."""
    drawn = np.asarray(values, np.float64)
    if len(drawn) < 2:
        value = float(drawn[0]) if len(drawn) else None
        return Estimate(
            value, None, None, LEVEL, unit, len(drawn), "percentile_over_draws", note="fewer than two draws"
        )
    low, high = percentile_bounds(drawn, LEVEL)
    return Estimate(float(np.median(drawn)), low, high, LEVEL, unit, len(drawn), "percentile_over_draws", seed=seed)


def gap(real: Estimate, control: Estimate) -> Estimate:
    """Real minus mean control. `real` has its confidence interval over items, `control` that of a mean over its draws.

    Both are put together as Zou and Donner (2008) do for independent intervals: each end is as far from the difference
    as the root of the summed squares of the two ends it comes from. It holds for these training items; draws differ in
    the labels of both roles, so that the control's share holds the noise of the test items as well.
    """
    method, note = "mover", "real task: interval over items; control: interval of its mean over draws"
    if real.value is None or control.value is None:
        return Estimate(
            None, None, None, LEVEL, "AUROC difference", real.n, method, note="one of the two is not estimable"
        )
    value = real.value - control.value
    low = high = None
    if real.low is not None and real.high is not None and control.low is not None and control.high is not None:
        low = value - math.hypot(real.value - real.low, control.high - control.value)
        high = value + math.hypot(real.high - real.value, control.value - control.low)
    unit, clusters, name = "AUROC difference", real.clusters, real.cluster_unit
    return Estimate(value, low, high, LEVEL, unit, real.n, method, clusters, name, note=note)


def _average(values: list[float]) -> Estimate:
    """Mean over draws with Student's interval, one point when all draws agree."""
    found = mean(values, level=LEVEL, unit="AUROC")
    if found.low is None and len(values) > 1:
        found = replace(found, low=found.value, high=found.value)
    return replace(found, method="t_over_draws")


def selectivity(refits: pl.DataFrame, items: pl.DataFrame, in_sample: dict[str, Any], seed: int = 0) -> dict[str, Any]:
    """The real task beside control tasks in which every answer string has a drawn label.

    A control task can be learnt only by remembering strings, so that its test AUROC is what memory gives; the real
    one's minus their mean is the selectivity. When no test answer occurs in training, memory cannot help and the
    control must stand near 0.5: then the test AUROC already is free of it, and `in_sample` tells how much the probe
    could memorise. `p` is the rank of the real AUROC among the control tasks. `in_sample`: the probe's AUROC on its
    training items.
    """
    test = items.filter(pl.col("role") == "test")
    known = items.filter(pl.col("role") == "train")["answer"].to_list()
    found: dict[str, Any] = {
        "labels": "one label per distinct answer string, wrong with the training share",
        "seen_answers": int(test["answer"].is_in(known).sum()),
        "failed": failed(refits, "control"),
    }
    rows = refits.filter(pl.col("purpose") == "control")
    labels = rows.filter(pl.col("metric") == "label").select("draw", "item_id", pl.col("value").alias("drawn"))
    own, accuracy = [], []
    for draw, part in scores_of(refits, "control", test).items():
        both = part.join(labels.filter(pl.col("draw") == draw), on="item_id", validate="1:1")
        scores, drawn = both["refit"].to_numpy(), both["drawn"].to_numpy() > 0
        value = auroc(scores, drawn).value
        if value is not None:
            own.append(value)
            accuracy.append(float(((scores > 0) == drawn).mean()))
    real = area(test)
    control = over_draws(own, "AUROC", seed)
    average = _average(own)
    found |= {
        "draws": len(own),
        "real": real.to_dict(),
        "control": control.to_dict(),
        "control_mean": average.to_dict(),
    }
    found["control_accuracy"] = over_draws(accuracy, "fraction", seed).to_dict()
    fitted = [v for v in rows.filter(pl.col("metric") == "train_auroc")["value"].to_list() if v is not None]
    found["in_sample"] = {
        "real": in_sample,
        "control": over_draws(fitted, "AUROC", seed).to_dict(),
    }
    if real.value is None or not own:
        return {**found, "absent": real.note or "no control task could be fitted"}
    return {
        **found,
        "selectivity": gap(real, average).to_dict(),
        "p": monte_carlo_p(real.value, own),
        "attainable_p": attainable_p(len(own)),
    }


def left_out_categories(refits: pl.DataFrame, items: pl.DataFrame, least: int) -> dict[str, Any]:
    """AUROC on each category's test items of the probe refitted without that category, beside the full probe.

    Categories with fewer than `least` test items of a class were not refitted and are listed with that reason.
    """
    test = items.filter(pl.col("role") == "test")
    by_name = {part["category"][0]: part for part in scores_of(refits, "category", test).values()}
    found: dict[str, Any] = {}
    for category in sorted(test["category"].drop_nulls().unique().to_list()):
        here = test.filter(pl.col("category") == category)
        wrong = int(wrong_of(here).sum())
        entry: dict[str, Any] = {"right": len(here) - wrong, "wrong": wrong}
        part = by_name.get(category)
        if part is not None:
            refit, full = part["refit"].to_numpy(), part["score"].to_numpy()
            entry |= {
                "left_out": area(part, refit).to_dict(),
                "full": area(part).to_dict(),
                "left_out_minus_full": auroc_difference(
                    refit, full, wrong_of(part), clusters=part["group"].to_numpy(), cluster_unit=CLUSTER
                ).to_dict(),
            }
        elif min(wrong, len(here) - wrong) < least:
            entry["absent"] = f"fewer than {least} test items of a class"
        else:
            entry["absent"] = "the training items of the other categories allow no fit"
        found[category] = entry
    return found


def without_component(refits: pl.DataFrame, items: pl.DataFrame) -> dict[str, Any]:
    """AUROC of the probe refitted without its heaviest component, and that minus the full probe's."""
    parts = scores_of(refits, "without", items.filter(pl.col("role") == "test"))
    if not parts:
        return {"absent": "the probe cannot be refitted without it"}
    part = parts[0]
    refit = part["refit"].to_numpy()
    return {
        "auroc": area(part, refit).to_dict(),
        "minus_full": auroc_difference(
            refit,
            part["score"].to_numpy(),
            wrong_of(part),
            clusters=part["group"].to_numpy(),
            cluster_unit=CLUSTER,
        ).to_dict(),
    }


def draw_areas(refits: pl.DataFrame, purpose: str, items: pl.DataFrame) -> list[float]:
    """Test AUROC of every refit of a purpose, in the order of draws; refits without one are left out."""
    test = items.filter(pl.col("role") == "test")
    values = [auroc(_refit(part), wrong_of(part)).value for part in scores_of(refits, purpose, test).values()]
    return [v for v in values if v is not None]


def _refit(part: pl.DataFrame) -> Floats:
    scores: Floats = part["refit"].to_numpy()
    return scores
