"""The sanity check of a direction: marks of broken text, and a real model that breaks at a large dose."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.errors import UsageError
from levercheck.sweep.sanity import Sample, corruption_doses, marks, sanity, summaries


@pytest.mark.parametrize(
    ("text", "tokens", "reason", "expected"),
    [
        ("Paris is the capital of France.", range(8), "end", ()),
        ("42", [7], "end", ()),
        ("", [], "end", ("empty",)),
        (" \n\t", [1, 2], "length", ("empty",)),
        ("x", [5], "non_finite", ("non_finite",)),
        ("the cat the cat", [1, 2] * 8, "length", ("loop",)),
        ("a b c d", [9, 8, 7, 6, 5, 4, *[1, 2, 3] * 4], "length", ("loop",)),
        ("a b c d", [*range(20), *[1, 2, 3] * 3], "length", ()),  # under half of the answer repeats
        ("Yes. Yes.", [1, 2] * 4, "length", ()),  # too short to call
        ("?!" * 20, range(30), "length", ("not_words",)),
        ("!" * 30, range(30), "length", ("not_words", "run")),
        ("Well aaaaaaaa then, that was all there was", range(20), "length", ("run",)),
        ("ab\nab\ncd\nab\nab", range(10), "length", ("scraps",)),
        ("东京是日本的首都，也是世界上人口最多的都市圈之一，历史悠久。", range(30), "end", ()),
    ],
)
def test_marks(text, tokens, reason, expected):
    assert marks(text, list(tokens), reason) == expected


def sample(operator, dose, key, broken):
    return Sample(operator, dose, key, "t", "end", -1.0, abs(dose) or None, ("loop",) if broken else ())


def test_answers_broken_before_are_not_held_against_a_dose():
    keys = ["a", "b", "c", "d"]
    rows = [sample("none", 0.0, k, k in "ab") for k in keys]
    rows += [sample("add", 0.5, k, k in "abc") for k in keys]
    rows += [sample("add", 1.0, k, True) for k in keys]
    rows += [sample("add", -1.0, k, k in "ab") for k in keys]
    found = {(s.operator, s.dose): s for s in summaries(rows)}
    assert found["add", 0.5].broken.value == 0.75 and found["add", 0.5].newly_broken.value == 0.25
    assert found["add", 1.0].newly_broken.value == 0.5
    assert found["add", 1.0].broken.low < 1.0 and found["add", 1.0].broken.n == 4
    assert corruption_doses(summaries(rows)) == {"positive": 1.0, "negative": None}


def test_a_large_dose_breaks_a_real_model_and_a_small_one_does_not(smollm):
    hidden = smollm.identity["hidden"]
    vector = np.random.default_rng(0).normal(size=hidden)
    vector /= np.linalg.norm(vector)
    prompts = ["The capital of France is", "Water is made of"]
    found = sanity(
        smollm,
        {15: vector},
        dict.fromkeys(range(30), vector),
        [smollm.encode(p) for p in prompts],
        prompts,
        [0.02, 4.0],
        max_new_tokens=24,
    )
    assert [(s.operator, s.dose) for s in found[::2]] == [
        ("none", 0.0), ("add", -4.0), ("add", -0.02), ("add", 0.02), ("add", 4.0), ("ablate", 1.0),
    ]  # fmt: skip
    table = {(s.operator, s.dose): s for s in summaries(found)}
    assert table["none", 0.0].broken.value == 0 and table["none", 0.0].relative_dose is None
    assert table["add", 0.02].broken.value == 0
    assert table["add", 4.0].broken.value == table["add", -4.0].broken.value == 1
    assert table["add", 4.0].relative_dose == pytest.approx(4.0, rel=1e-4)
    assert corruption_doses(summaries(found)) == {"positive": 4.0, "negative": -4.0}


def test_doses_must_be_positive(smollm):
    vector = np.eye(1, smollm.identity["hidden"])[0]
    with pytest.raises(UsageError, match="positive"):
        sanity(smollm, {0: vector}, {0: vector}, [[1]], ["a"], [0.0])
