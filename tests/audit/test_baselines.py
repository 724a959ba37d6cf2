"""Baselines, matching, added value and selection, from rows with planted truths."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize
from scipy.stats import mannwhitneyu

from levercheck.audit.baselines import BASELINES, ITEMS, baselines, matched, shown, surface, unseen_answers
from levercheck.audit.incremental import RIDGE, incremental, ridge_logistic
from levercheck.audit.selection import label_difference, selection


def item_rows(n=400, seed=0, **columns):
    """ITEMS rows that tell nothing, with the given columns planted; half of them test items."""
    rng = np.random.default_rng(seed)
    wrong = np.arange(n) % 2 == 1
    rows = {
        "item_id": [f"i{k:04d}" for k in range(n)],
        "role": np.where(np.arange(n) < n // 2, "train", "test"),
        "label": np.where(wrong, "wrong", "right"),
        "group": [f"g{k // 2}" for k in range(n)],
        "category": rng.choice(["a", "b", "c"], n),
        "answer": [f"x{k}" for k in range(n)],
        "fold": [k % 5 if k < n // 2 else None for k in range(n)],
        "score": rng.normal(size=n),
        "mean_logprob": rng.normal(-1, 0.5, n),
        "agreement": rng.choice([0.6, 0.8, 1.0], n),
        "answer_tokens": rng.integers(1, 9, n),
        "response_tokens": rng.integers(9, 20, n),
        "question_characters": rng.integers(20, 80, n),
    }
    return pl.DataFrame({**rows, **columns}, schema=ITEMS, strict=False)


WRONG = np.arange(400) % 2 == 1


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_area_of_a_baseline_is_that_of_mann_whitney(rng):
    rows = item_rows(mean_logprob=rng.normal(size=400) - 0.8 * WRONG)
    found = baselines(rows)["neg_logprob"]
    test = rows.filter(pl.col("role") == "test")
    values, wrong = -test["mean_logprob"].to_numpy(), (test["label"] == "wrong").to_numpy()
    u = mannwhitneyu(values[wrong], values[~wrong]).statistic / (wrong.sum() * (~wrong).sum())
    assert found["auroc"]["value"] == pytest.approx(u)
    assert found["auroc"]["cluster_unit"] == "group" and found["auroc"]["clusters"] == 100


def test_a_probe_that_reads_length_does_not_beat_length(rng):
    tokens = rng.integers(1, 7, 400) + 2 * WRONG
    rows = item_rows(answer_tokens=tokens, score=0.3 * tokens - 1)
    found, equal, added = baselines(rows), matched(rows), incremental(rows)
    assert found["answer_tokens"]["wrong_when"] == "longer"
    assert found["answer_tokens"]["probe_minus_baseline"]["value"] == 0
    assert shown(found["neg_logprob"]["probe_minus_baseline"], 0) == "shown"
    assert equal["answer_tokens"]["value"] == 0.5
    assert shown(equal["confidence"], 0.5) == "shown"
    assert shown(added["log_loss_gain"], 0) != "shown"


def test_a_length_that_is_shorter_for_wrong_answers_is_turned_by_the_training_items(rng):
    rows = item_rows(response_tokens=30 + rng.integers(0, 5, 400) - 6 * WRONG)
    found = baselines(rows)["response_tokens"]
    assert found["wrong_when"] == "shorter"
    assert found["auroc"]["value"] > 0.95


def test_a_probe_that_reads_confidence_is_at_chance_where_confidence_is_equal(rng):
    logprob = rng.normal(-1, 0.5, 400) - 0.6 * WRONG
    rows = item_rows(mean_logprob=logprob, score=-logprob + rng.normal(0, 0.02, 400))
    equal, added = matched(rows), incremental(rows)
    assert equal["confidence"]["low"] < 0.55 < baselines(rows)["neg_logprob"]["auroc"]["value"]
    assert abs(equal["confidence_check"]["value"] - 0.5) < 0.1
    assert shown(added["log_loss_gain"], 0) != "shown" and added["surface"]["value"] > 0.7


def test_an_independent_signal_adds_to_every_baseline(rng):
    logprob = rng.normal(-1, 0.5, 400) - 0.5 * WRONG
    rows = item_rows(mean_logprob=logprob, score=rng.normal(size=400) + 1.5 * WRONG)
    equal, added = matched(rows), incremental(rows)
    for entry in (equal["confidence"], equal["answer_tokens"], equal["response_tokens"], equal["category"]):
        assert shown(entry, 0.5) == "shown"
    assert shown(added["log_loss_gain"], 0) == "shown" and shown(added["difference"], 0) == "shown"
    assert added["surface_and_probe"]["value"] > added["surface"]["value"]
    assert added["train_items"] == 200 and added["log_loss_gain"]["unit"] == "nats per item"


def test_missing_logprobs_are_absent_and_never_filled_in():
    none = baselines(item_rows(mean_logprob=[None] * 400))
    assert "absent" in none["neg_logprob"] and "auroc" not in none["neg_logprob"]
    rows = item_rows(mean_logprob=[None if k % 4 < 2 else -1.0 - k % 3 for k in range(400)])
    some = baselines(rows)["neg_logprob"]
    assert some["missing"] == 100 and some["auroc"]["n"] == 100 and some["probe_minus_baseline"]["n"] == 100
    assert matched(rows)["confidence"]["n"] == 100
    assert "absent" in matched(item_rows(mean_logprob=[None] * 400))["confidence"]
    assert "neg_logprob" in incremental(rows)["left_out"]
    few = incremental(item_rows(mean_logprob=[None if k % 40 == 0 else -1.0 - k % 3 for k in range(400)]))
    assert "neg_logprob" in few["baselines"] and few["incomplete_items"] == 10 and few["train_items"] == 195


def test_priors_are_learnt_out_of_fold():
    """Every string occurs twice in one fold with one label: an in-sample prior would know it, an honest one cannot."""
    answers = [f"x{k // 4}" for k in range(400)]
    labels = ["wrong" if (k // 4) % 2 else "right" for k in range(400)]
    rows = item_rows(answer=answers, label=labels, fold=[(k // 4) % 5 if k < 200 else None for k in range(400)])
    train = surface(rows).filter(rows["role"] == "train")
    assert train["answer_prior"].n_unique() == 1
    spread = rows.with_columns(
        pl.Series("fold", [k % 4 if k < 200 else None for k in range(400)]),
        pl.Series("answer", [f"x{(k % 200) // 4}" for k in range(400)]),
        pl.Series("label", ["wrong" if ((k % 200) // 4) % 2 else "right" for k in range(400)]),
    )
    known = surface(spread)
    wrong = spread["label"] == "wrong"
    assert known["answer_prior"].filter(wrong).min() > known["answer_prior"].filter(~wrong).max()
    assert baselines(spread)["answer_prior"]["auroc"]["value"] == 1.0
    assert not unseen_answers(spread)["disjoint"] and unseen_answers(rows)["disjoint"]
    assert unseen_answers(spread)["unseen"]["value"] is None


def test_categories_that_are_all_missing_and_constant_columns():
    rows = item_rows(category=[None] * 400, question_characters=[9] * 400)
    assert "absent" in baselines(rows)["category_prior"] and "absent" in matched(rows)["category"]
    assert baselines(rows)["question_characters"]["auroc"]["low"] is None
    assert incremental(rows)["left_out"]["question_characters"] == "the same for every training item"
    json.dumps([baselines(rows), matched(rows), incremental(rows)], allow_nan=False)


def test_one_class_is_not_estimable_and_no_crash():
    rows = item_rows(label=["wrong"] * 400)
    assert baselines(rows)["disagreement"]["auroc"]["value"] is None
    assert "absent" in incremental(rows)
    assert matched(rows)["confidence"]["value"] is None
    assert set(baselines(rows)) == set(BASELINES)


def test_the_logistic_model_is_at_its_optimum(rng):
    x = rng.normal(size=(120, 3))
    y = x[:, 0] + rng.normal(size=120) > 0.3

    def loss(w):
        m = x @ w[1:] + w[0]
        return np.logaddexp(0, np.where(y, -m, m)).sum() + 0.5 * RIDGE * (w[1:] ** 2).sum()

    assert ridge_logistic(x, y) == pytest.approx(minimize(loss, np.zeros(4), tol=1e-12).x, abs=1e-4)
    separable = ridge_logistic(np.where(y, 1.0, -1.0)[:, None] * 50, y)
    assert np.isfinite(separable).all()


def test_selection_by_label_is_told(rng):
    n = 400
    spans = pl.DataFrame(
        {
            "label": np.where(WRONG, "wrong", "right"),
            "method": [None if k % 5 == 1 else ("whole" if k % 2 else "alias") for k in range(n)],
            "reason": ["no answer found" if k % 5 == 1 and k % 2 else None for k in range(n)],
        }
    )
    split = pl.DataFrame(
        {
            "label": np.where(WRONG, "wrong", "right"),
            "group": [str(k) for k in range(n)],
            "reason": ["its answer belongs to train" if k % 10 == 1 else None for k in range(n)],
        }
    )
    found = selection(spans, split, item_rows(answer_tokens=rng.integers(1, 5, n) + WRONG))
    assert found["spans"]["method alias"]["difference"]["high"] < 0
    assert found["spans"]["found"]["difference"]["high"] < 0 and found["spans"]["found"]["right"]["value"] == 1
    assert found["reserve"]["its answer belongs to train"]["wrong"]["value"] == pytest.approx(0.2)
    length = found["lengths"]["answer_tokens"]["difference"]
    assert length["low"] > 0 and length["value"] == pytest.approx(1, abs=0.3) and length["unit"] == "tokens"
    assert found["lengths"]["question_characters"]["difference"]["low"] < 0


def test_label_difference_is_the_difference_of_means(rng):
    values = rng.normal(size=40)
    wrong = np.arange(40) % 3 == 0
    found = label_difference(values, wrong, np.arange(40) // 2)
    assert found.value == pytest.approx(values[wrong].mean() - values[~wrong].mean())
    assert found.low < found.value < found.high and found.clusters == 20
    assert label_difference(values, np.zeros(40, bool)).value is None
