"""Audits of probes with a planted fault: each must be told, and a sound probe must pass."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from tests.detect.builders import LAYERS, MODEL, NEURONS, Plant, Silent

from levercheck.detect.audit import audit_readout, item_rows
from levercheck.detect.probe import ProbeSpec
from levercheck.detect.split import SplitSpec
from levercheck.detect.stored import CaptureSpec
from levercheck.detect.workspace import Workspace
from levercheck.errors import MissingError, UsageError
from levercheck.stats import Estimate


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A probe of one neuron that knows the label and nothing else."""
    plant = Plant()
    plant.signal(1, 7)
    ws = plant.write(tmp_path_factory.mktemp("audit") / "sound")
    return ws, audit_readout(ws, refits=10)


def estimates(value, where=""):
    """Every Estimate in nested results, with its place."""
    if isinstance(value, dict):
        if "method" in value and "level" in value:
            yield where, Estimate.from_dict(value)
        else:
            for name, entry in value.items():
                yield from estimates(entry, f"{where}.{name}")
    elif isinstance(value, list):
        for k, entry in enumerate(value):
            yield from estimates(entry, f"{where}[{k}]")


def test_a_genuine_signal_passes_every_audit(sound):
    _, found = sound
    assert set(found["checks"].values()) == {"shown", "stable"}
    top = found["top_component"]
    assert (top["component"], top["verdict"], top["auroc_rank"]) == ("L1:7", "stable", 1)
    assert top["without"]["minus_full"]["high"] < -0.2
    assert found["stability"]["bootstrap"]["readout_in_80_percent_of_refits"] >= 1
    assert found["selectivity"]["p"] == pytest.approx(1 / 21)
    assert all("left_out" in entry for entry in found["transfer"]["categories"].values())
    assert found["transfer"]["answers"]["disjoint"]


def test_every_number_has_an_interval_or_says_why_not(sound):
    _, found = sound
    listed = list(estimates(found))
    assert len(listed) > 60
    assert all(e.estimable or e.note for _, e in listed)
    json.dumps(found, allow_nan=False)
    assert found["detector"]["auroc"]["cluster_unit"] == "group"


def test_training_items_carry_out_of_fold_scores(sound):
    """In-sample scores are overfitted; a model that adds them to baselines would trust the probe too much."""
    ws, found = sound
    rows = item_rows(ws, "probes/default", found["c"])
    scores = ws.rows("probes/default").filter(pl.col("c") == found["c"])
    for role, purpose in (("train", "cv"), ("test", "test")):
        expected = scores.filter(pl.col("purpose") == purpose).sort("item_id")
        assert rows.filter(pl.col("role") == role)["score"].to_list() == expected["score"].to_list()
    assert set(rows["role"]) == {"train", "test"}


def test_noise_passes_no_audit(tmp_path):
    found = audit_readout(Plant(seed=19).write(tmp_path / "w"), refits=10)
    wanted = {name: word for name, word in found["checks"].items() if not name.startswith("beats")}
    assert "shown" not in wanted.values() and wanted["heaviest component"] != "stable"


def test_a_second_audit_reads_and_other_settings_are_refused(sound):
    ws, found = sound
    path = ws.root / "probes" / "default" / "audit" / "results.json"
    before = path.read_bytes()
    assert audit_readout(Workspace(ws.root, Silent()), refits=10) == found
    assert path.read_bytes() == before and json.loads(before) == found
    with pytest.raises(UsageError, match="refits = 10, asked for 11"):
        audit_readout(Workspace(ws.root, Silent()), refits=11)
    with pytest.raises(UsageError, match="neither can be negative"):
        audit_readout(ws, refits=-1)


def test_a_missing_probe_names_its_command(sound):
    with pytest.raises(MissingError, match="levercheck probe"):
        audit_readout(sound[0], "other")


def test_a_probe_that_reads_length_is_told(tmp_path):
    plant = Plant(seed=11)
    plant.answer_tokens = plant.rng.integers(1, 7, plant.n) + 2 * plant.wrong
    plant.response_tokens = plant.answer_tokens + plant.rng.integers(1, 6, plant.n)
    plant.features[:, :, 0, 0] = plant.answer_tokens - 5
    found = audit_readout(plant.write(tmp_path / "w"), refits=0)
    assert found["checks"]["detects"] == "shown" and found["top_component"]["component"] == "L0:0"
    assert found["checks"]["beats answer_tokens"] != "shown" and found["checks"]["beats neg_logprob"] == "shown"
    assert found["checks"]["detects at equal answer length"] != "shown"
    assert found["checks"]["adds to all baselines"] != "shown"
    assert found["selection"]["lengths"]["answer_tokens"]["difference"]["low"] > 0
    assert found["checks"]["heaviest component"] == "not estimable"  # no refits were asked for
    assert "absent" in found["stability"]["bootstrap"]


def test_a_probe_that_reads_confidence_is_told(tmp_path):
    plant = Plant(seed=12)
    plant.mean_logprob = plant.rng.normal(-1, 0.5, plant.n) - 0.7 * plant.wrong
    plant.features[:, :, 2, 5] = -3 * plant.mean_logprob - 4
    found = audit_readout(plant.write(tmp_path / "w"), refits=0)
    checks = found["checks"]
    assert checks["detects"] == checks["beats answer_tokens"] == checks["detects at equal answer length"] == "shown"
    assert checks["beats neg_logprob"] != "shown" and checks["adds to all baselines"] != "shown"
    assert found["matched"]["confidence"]["value"] < found["detector"]["auroc"]["value"] - 0.1
    assert abs(found["matched"]["confidence_check"]["value"] - 0.5) < 0.1


def test_the_heaviest_of_two_equal_components_is_an_artefact(tmp_path):
    plant = Plant(seed=13)
    plant.signal(1, 7)
    plant.features[:, :, 2, 30] = plant.features[:, :, 1, 7]
    found = audit_readout(plant.write(tmp_path / "w"), refits=10)
    top = found["top_component"]
    assert top["verdict"] == "L1 artefact" and top["rules_passed"]["correlation"] is False
    assert {top["component"], top["correlation"]["with"]} == {"L1:7", "L2:30"}
    assert top["correlation"]["value"] == pytest.approx(1)
    assert abs(top["without"]["minus_full"]["value"]) < 0.02  # the other one takes over
    assert found["checks"]["heaviest component"] == "L1 artefact"


def test_a_probe_that_remembers_answers_is_not_selective(tmp_path):
    """Features that only name the answer string; strings occur in both roles and have one label each."""
    plant = Plant(n=480, seed=14)
    label = plant.rng.random(24) < 0.5
    which = plant.rng.integers(0, 24, plant.n)
    plant.wrong = label[which]
    plant.answer = [f"answer {k}" for k in which]
    codes = plant.rng.normal(size=(24, LAYERS, NEURONS))
    plant.features = (codes[which] + 0.3 * plant.rng.normal(size=(2, plant.n, LAYERS, NEURONS))).astype(np.float32)
    split = SplitSpec(test_share=0.4, folds=4, disjoint="question")
    found = audit_readout(plant.write(tmp_path / "w", split_spec=split, spec=ProbeSpec(mode="1-vs-1")), refits=0)
    assert found["checks"]["detects"] == "shown" and found["checks"]["selective"] == "not shown"
    assert found["selectivity"]["control"]["value"] > 0.9 and found["selectivity"]["p"] > 0.05
    assert found["selectivity"]["seen_answers"] > 100 and not found["transfer"]["answers"]["disjoint"]
    assert found["checks"]["beats answer_prior"] != "shown"


def test_a_category_the_probe_does_not_carry_over_to(tmp_path):
    """In songs another neuron tells the label, so that a probe without songs is blind for them."""
    plant = Plant(n=480, seed=15)
    songs = np.array([c == "song" for c in plant.category])
    plant.features[0, :, 0, 4] += 3 * (plant.wrong & ~songs)
    plant.features[0, :, 0, 5] += 3 * (plant.wrong & songs)
    found = audit_readout(plant.write(tmp_path / "w"), refits=0)["transfer"]["categories"]
    assert found["song"]["left_out_minus_full"]["high"] < 0
    assert found["song"]["left_out"]["low"] < 0.5 < found["song"]["full"]["low"]
    assert found["city"]["left_out"]["low"] > 0.6


def test_spans_found_by_label_are_told(tmp_path):
    plant = Plant(seed=16)
    plant.signal(1, 7)
    plant.method = ["whole" if w or k % 4 else "alias" for k, w in enumerate(plant.wrong)]
    plant.method = [
        None if w and k % 5 == 1 else m for k, (w, m) in enumerate(zip(plant.wrong, plant.method, strict=True))
    ]
    found = audit_readout(plant.write(tmp_path / "w"), refits=0)["selection"]["spans"]
    assert found["method alias"]["difference"]["high"] < 0 and found["found"]["difference"]["high"] < 0


def test_thin_data_is_not_estimable_and_no_crash(tmp_path):
    """No categories, no log-probabilities, and a penalty that leaves no component."""
    plant = Plant(n=120, seed=17)
    plant.mean_logprob, plant.category = None, [None] * plant.n
    found = audit_readout(plant.write(tmp_path / "w", spec=ProbeSpec(mode="1-vs-1", cs=(1e-6,))), refits=5)
    assert found["detector"]["auroc"]["value"] == 0.5 and found["checks"]["detects"] == "not estimable"
    assert "absent" in found["baselines"]["neg_logprob"] and "absent" in found["matched"]["confidence"]
    assert found["transfer"]["categories"] == {} and found["components"]["heaviest"] == []
    assert found["top_component"] == {"absent": "no positive weight"}
    assert found["stability"]["bootstrap"]["empty"] == 5
    json.dumps(found, allow_nan=False)


def test_three_against_one_with_scaling(tmp_path):
    plant = Plant(n=200, seed=18)
    plant.signal(1, 7, 2)
    found = audit_readout(plant.write(tmp_path / "w", spec=ProbeSpec(scale=True)), refits=5)
    assert found["checks"]["detects"] == "shown" and found["top_component"]["component"] == "L1:7"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Other questions to the same model, some of which the first set has too."""
    plant = Plant(n=200, seed=21)
    plant.signal(1, 7)
    return plant.captured(tmp_path_factory.mktemp("audit") / "other", prefix="r")


def test_transfer_to_other_questions(sound, elsewhere):
    ws, found = sound
    more = audit_readout(ws, refits=10, transfer=elsewhere)
    there = more.pop("transferred")
    assert more == found
    assert there["detector"]["auroc"]["low"] > 0.7 and there["shared_with_training"]["ids"] == 0
    assert there["shared_with_training"]["answers"] > 0  # both write "answer 0", "answer 1", ...
    unshared = there["detector"]["auroc"]["n"] - there["shared_with_training"]["items"]
    assert there["auroc_without_shared"]["n"] == unshared > 0
    assert audit_readout(ws, refits=10, transfer=elsewhere)["transferred"] == there
    own = audit_readout(ws, refits=10, transfer=ws)["transferred"]
    assert own["detector"]["auroc"] == found["detector"]["auroc"]
    assert own["shared_with_training"] == {"ids": 0, "questions": 0, "answers": 0, "items": 0}


def test_transfer_refuses_another_model_shape_or_channel(sound, tmp_path):
    ws, _ = sound
    plant = Plant(n=120, seed=22)
    with pytest.raises(UsageError, match="differs in weights"):
        audit_readout(ws, refits=10, transfer=plant.captured(tmp_path / "a", model={**MODEL, "weights": "v"}))
    with pytest.raises(UsageError, match=r"no channel 'answer.cett.mean'"):
        other = plant.captured(tmp_path / "d", capture=CaptureSpec(reduces=("max",)))
        audit_readout(ws, refits=10, transfer=other)
    plant.features = plant.features[..., :20]
    with pytest.raises(UsageError, match=r"shape \(3, 20\), expected \(3, 40\)"):
        audit_readout(ws, refits=10, transfer=plant.captured(tmp_path / "b"))
    with pytest.raises(MissingError, match="levercheck capture"):
        (tmp_path / "c").mkdir()
        audit_readout(ws, refits=10, transfer=Workspace(tmp_path / "c", Silent()))
