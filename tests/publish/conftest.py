"""A hand-made audit with every key, hostile texts and estimates that do not exist; and a browser."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

HOSTILE = "<script>alert(1)</script>"
HOSTILE_MARKDOWN = "a|b `c` [x](javascript:alert(1))\n# heading"
DOSES = (0.0, 1.0, 2.0, 3.0)


def record(value: float | None, unit: str, half: float = 1.0, **more: Any) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - half, value + half)
    base = {"value": value, "low": low, "high": high, "level": 0.95, "unit": unit, "n": 110, "method": "by_hand"}
    return base | more


def clustered(value: float | None, unit: str, half: float = 1.0, **more: Any) -> dict[str, Any]:
    return record(value, unit, half, clusters=69, cluster_unit="entity", **more)


def arm_records(label: str, slope: float) -> dict[str, Any]:
    found = {
        f"{label}.slope": clustered(slope, "pp/dose"),
        f"{label}.logit_slope": clustered(slope / 10, "logit/dose", 0.1),
        f"{label}.bare_slope": clustered(0.0, "pp/dose"),
        f"{label}.first_order": clustered(slope / 10, "logit/dose", 0.1),
    }
    for dose in DOSES:
        found[f"{label}.compliance.a{dose:g}"] = record(35.0 + slope * (dose - 1), "%", 5.0)
        found[f"{label}.bare.a{dose:g}"] = record(95.0, "%", 4.0)
        if dose != 1:
            found[f"{label}.bare_accuracy_change.a{dose:g}"] = clustered(-1.0, "pp", 3.0)
            found[f"{label}.relative_dose.a{dose:g}"] = clustered(0.02 * abs(dose - 1), "‖Δ‖/‖h‖", 0.001)
    return found


def all_estimates(sets: int) -> dict[str, Any]:
    found = arm_records("h_neurons", 0.2) | arm_records("gradient", 20.0)
    for index in range(sets):
        found |= arm_records(f"random-{index}", 0.1 * index)
    found |= {
        "assay.with_context": record(35.0, "%", 8.0),
        "assay.without_context": record(0.0, "%", 0.0),
        "assay.context_effect": clustered(35.0, "pp", 9.0),
        "labels.right": record(0.23, "fraction", 0.02),
        "labels.wrong": record(0.35, "fraction", 0.02),
        "labels.mixed": record(0.42, "fraction", 0.02),
        "labels.wrong_agreeing": record(0.12, "fraction", 0.02),
        "labels.right_agreeing": record(0.94, "fraction", 0.02),
        "probe.auroc": clustered(0.8, "AUROC", 0.1),
        "probe.auroc.matched": clustered(0.75, "matched AUROC", 0.15, seed=3, resamples=2000),
        "probe.auroc.within_category": clustered(None, "within AUROC", note=f"one class only {HOSTILE}"),
        "probe.accuracy": record(0.73, "fraction", 0.05),
        "probe.minus_neg_logprob": clustered(-0.1, "AUROC difference", 0.15),
        "baseline.neg_logprob.auroc": clustered(0.9, "AUROC", 0.05),
        "baseline.length.auroc": clustered(0.5, "AUROC", 0.1),
        "h_neurons.minus_random": clustered(0.1, "pp/dose", 1.5),
        "h_neurons.minus_random.logit": clustered(0.01, "logit/dose", 0.1),
        "random.new_set": record(0.1, "pp/dose", 2.0),
        "random.new_set.logit": record(0.01, "logit/dose", 0.2),
        "h_neurons.slope.90": clustered(0.2, "pp/dose", 0.8, level=0.9),
        "null.percentile": record(0.39, "fraction", 0.01, n=5000),
    }
    return found


def criterion(id: str, estimate: str, relation: str, threshold: float, outcome: str) -> dict[str, Any]:
    return {
        "id": id,
        "text": f"criterion {id}",
        "estimate": estimate,
        "relation": relation,
        "threshold": threshold,
        "outcome": outcome,
    }


def gate(name: str, standing: str, *criteria: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "claim": f"The claim of {name} & more.",
        "standing": standing,
        "reason": "a reason",
        "criteria": list(criteria),
    }


def make_audit(sets: int = 3) -> dict[str, Any]:
    layers = {"3": 2, "10": 1}
    conditions = [("h_neurons", "h_neurons"), ("gradient", "gradient")]
    conditions += [(f"random-{index}", "random") for index in range(sets)]
    margins = {
        "auroc": 0.1,
        "matched_auroc": 0.05,
        "context_pp": 10.0,
        "headroom_pp": 5.0,
        "slope_pp": 2.0,
        "harm_pp": 5.0,
    }
    return {
        "schema": "levercheck.audit/v1",
        "study": {
            "key": "ab" * 32,
            "facts": "cd" * 32,
            "model": {
                "name": f"tiny {HOSTILE}",
                "architecture": "TinyForCausalLM",
                "layers": 12,
                "hidden": 8,
                "parameters": 123456,
                "dtype": "float32",
                "device": "cpu",
                "kernel": "reference",
                "weights": "ef" * 32,
            },
            "spec": {
                "model": "tiny",
                "quick": False,
                "samples": 5,
                "random_sets": sets,
                "seed": 0,
                "audit": {"doses": list(DOSES), "noop_dose": 1.0, "level": 0.95, "margins": margins, "seed": 0},
            },
        },
        "rows": {"answers": "01" * 32, "cells": "23" * 32},
        "counts": {
            "questions": 1600,
            "answers": 8000,
            "answers_cut_by_cap": 142,
            "confirm_entities": 69,
            "confirm_items": 110,
            "select_items": 39,
            "entities_shared_between_roles": 0,
            "probe_test": {"items": 185, "wrong": 109},
            "roles": {
                "confirm": {"mixed": 273, "right": 154, "wrong": 209},
                "readout": {"mixed": 339, "right": 176, "wrong": 283},
            },
            "dropped": {HOSTILE: 44},
        },
        "probe": {
            "c": 0.02,
            "c_used": 0.02,
            "c_grid": [
                {"c": 0.01, "folds": 5, "mean_fold_auroc": 0.5, "sd": 0.0},
                {"c": 0.02, "folds": 5, "mean_fold_auroc": None, "sd": 0.1},
            ],
            "train_items": 272,
            "train_wrong": 172,
            "nonzero": 27,
            "h_neurons": 3,
            "layers": layers,
        },
        "instrument": {
            "noop_rows": 220,
            "noop_expected": 220,
            "noop_largest_difference": 0.0,
            "rows_without_receipt": 0,
            "mean_candidate_mass": 0.71,
        },
        "specificity": {
            "random_sets": sets,
            "rank_p": 1.0,
            "rank_p_logit": 1.0,
            "attainable_p": 0.5,
            "equivalent_within_margin": True,
        },
        "null": {
            "draws": 5000,
            "mean": 0.0,
            "sd": 0.1,
            "low": -0.2,
            "high": 0.2,
            "p": 0.78,
            "predicted_vs_measured": record(0.8, "rho", 0.15, n=5),
        },
        "design": {
            "slope_mde_pp": 2.65,
            "slope_needed_pp": 4.65,
            "rank_attainable_p": 0.25,
            "random_sets_for_p_05": 19,
            "margins": "declared before the run",
        },
        "arms": [{"label": a, "condition": c, "neurons": 3, "layers": layers} for a, c in conditions],
        "estimates": all_estimates(sets),
        "gates": [
            gate(
                "measurement",
                "supported",
                criterion("context", "assay.context_effect", ">", 10.0, "met"),
                criterion("noop", "instrument.noop_largest_difference", "=", 0.0, "met"),
                criterion("receipts", "instrument.rows_without_receipt", "=", 0.0, "met"),
            ),
            gate("localization", "inconclusive", criterion("predicts", "probe.auroc", ">", 0.6, "met")),
            gate("control", "contradicted", criterion("effect", "h_neurons.slope", ">", 2.0, "violated")),
            gate("externality", "missing", criterion("harm", "h_neurons.no_such", ">", -5.0, "missing")),
        ],
        "findings": [
            {
                "code": "x",
                "text": f"A finding {HOSTILE}",
                "estimates": "probe.minus_neg_logprob, labels.wrong_agreeing",
            },
            {"code": "y", "text": HOSTILE_MARKDOWN, "estimates": "random.new_set"},
        ],
        "verdict": {
            "standings": "supported/inconclusive/contradicted/missing",
            "sentence": "The H-neurons are a test.",
        },
    }


@pytest.fixture
def audit() -> dict[str, Any]:
    return make_audit()


@pytest.fixture
def audit_with() -> Callable[[int], dict[str, Any]]:
    """Make an audit with a given number of random sets."""
    return make_audit


@pytest.fixture
def rowless_audit() -> dict[str, Any]:
    """What an audit without a sweep and without settings looks like."""
    full = copy.deepcopy(make_audit())
    kept = {name: e for name, e in full["estimates"].items() if name.startswith(("probe.", "baseline."))}
    return {
        "schema": full["schema"],
        "study": {"key": None, "spec": None, "model": None, "facts": None},
        "rows": {},
        "arms": [],
        "estimates": kept,
        "gates": full["gates"],
        "findings": [],
        "verdict": full["verdict"],
    }


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: the page stays unseen")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"none of {', '.join(names)} is on the path: the page was not looked at in a browser")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        yield launched
        launched.close()
