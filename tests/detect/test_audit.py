"""Audits of probes with a planted fault: each must be told, and a sound probe must pass."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from tests.detect.builders import LAYERS, MODEL, NEURONS, Plant, Silent

from levercheck.detect.audit import LENGTH_CHECK, audit_readout, item_rows, with_length
from levercheck.detect.material import material
from levercheck.detect.overlap import PROMPTS, drawn
from levercheck.detect.probe import ProbeSpec
from levercheck.detect.split import SplitSpec
from levercheck.detect.stored import CaptureSpec
from levercheck.detect.transferred import _shared
from levercheck.detect.workspace import Workspace
from levercheck.errors import MissingError, UsageError
from levercheck.evidence import schema
from levercheck.evidence.ledger import note
from levercheck.evidence.provenance import write_sidecar
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
    assert set(found["checks"].values()) == {"shown", "stable", "not applicable"}
    top = found["top_component"]
    assert (top["component"], top["verdict"], top["auroc_rank"]) == ("L1:7", "stable", 1)
    assert top["without"]["minus_full"]["high"] < -0.2
    assert found["stability"]["bootstrap"]["readout_in_80_percent_of_refits"] >= 1
    assert found["selectivity"]["p"] == pytest.approx(1 / 21)
    assert all("left_out" in entry for entry in found["transfer"]["categories"].values())
    assert found["transfer"]["answers"]["disjoint"]


def test_checks_that_could_not_fail_are_not_applicable(sound):
    _, found = sound
    words = {name: word for name, word in found["checks"].items() if word == "not applicable"}
    assert words.keys() == found["not_applicable"].keys()
    constant = "beats question_characters"  # the planted questions are equally long
    assert words.keys() == {"beats answer_prior", "detects on unseen answers", "selective", constant}
    assert "every test answer is new" in found["not_applicable"]["beats answer_prior"]
    assert (
        found["baselines"]["answer_prior"]["constant"] and found["transfer"]["answers"]["unseen"]["value"] is not None
    )


def test_a_baseline_that_is_the_same_everywhere_is_not_beaten(tmp_path):
    plant = Plant(n=120, seed=23)
    plant.signal(1, 7, 2)
    plant.answer_tokens[:] = 2
    found = audit_readout(plant.write(tmp_path / "w"), refits=0)
    assert found["checks"]["beats answer_tokens"] == "not applicable"
    assert found["not_applicable"]["beats answer_tokens"] == "the baseline is the same for every test item"
    assert "beats response_tokens" not in found["not_applicable"]


@pytest.mark.parametrize(
    ("dominance", "truth", "word", "told"),
    [
        ((-0.8, -0.2), (0.3, 1.3), "shown", False),
        ((-0.8, -0.2), (-1.3, -0.3), "not shown", True),
        ((-0.2, 0.4), (0.3, 1.3), "not shown", False),
    ],
)
def test_truth_over_length_needs_the_right_direction(dominance, truth, word, told):
    def estimate(low, high):
        return {
            "value": (low + high) / 2,
            "low": low,
            "high": high,
            "unit": "d_z",
            "n": 9,
            "level": 0.95,
            "method": "m",
        }

    effects = {"mean": {"score": {"dominance": estimate(*dominance), "truth": estimate(*truth)}}}
    found = with_length({"checks": {}}, {"effects": effects})
    assert found["checks"] == {LENGTH_CHECK: word}
    number = found["truth_over_length"]
    assert (number["low"], number["high"]) == (-dominance[1], -dominance[0]) and ("note" in number) == told


def test_an_imported_probe_cannot_be_audited(sound, tmp_path):
    ws, _ = sound
    ws.compute(
        "probes/imported",
        {"imported": {}, "channel": "answer.cett.mean"},
        [],
        schema.PROBE_SCORES,
        ["item_id"],
        title="import",
        batches=[None],
        rows=0,
        work=lambda _: [],
        summarise=lambda _: {},
    )
    with pytest.raises(UsageError, match="probe 'imported' was not fitted here, so that it cannot be refitted"):
        audit_readout(ws, "imported")


def test_prompts_of_an_overlap_are_drawn_by_the_seed():
    ids = [f"{kind}{k:03d}" for kind in "ab" for k in range(100)]
    split = pl.DataFrame({"item_id": [*ids, "c"], "role": ["test"] * 200 + ["train"]})
    one, other = drawn(split, 0), drawn(split, 1)
    assert len(one) == PROMPTS == 100 and one == sorted(one) and one != other and "c" not in one
    assert 30 < sum(i.startswith("b") for i in one) < 70
    assert drawn(split.sample(fraction=1.0, shuffle=True, seed=1), 0) == one


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
    assert set(own["shared_with_training"].values()) == {0}


def test_reworded_questions_and_shared_entities_are_not_fresh(sound, tmp_path):
    ws, _ = sound
    train = ws.rows("split").filter(pl.col("role") == "train").join(ws.rows("questions"), on="item_id").sort("item_id")
    new = Plant(n=120, seed=24)
    new.answer = [f"other {k}" for k in range(new.n)]
    other = new.captured(tmp_path / "other", prefix="n")
    test = other.rows("split").filter(pl.col("role") == "test").sort("item_id")
    asked = other.rows("questions")
    three = test["item_id"].to_list()[:3]
    asked = asked.with_columns(
        question=pl.when(pl.col("item_id") == three[0])
        .then(pl.lit(train["question"][0] + " the"))
        .otherwise(pl.col("question")),
        entity=pl.when(pl.col("item_id") == three[1]).then(pl.lit(train["entity"][1])).otherwise(pl.col("entity")),
        aliases=pl.when(pl.col("item_id") == three[2])
        .then(pl.lit(["x", train["aliases"][2][0].upper()]))
        .otherwise(pl.col("aliases")),
    )
    changed = SimpleNamespace(rows={"questions": asked}.__getitem__)
    assert _shared(ws, changed, test) == {
        "ids": [],
        "questions": [],
        "near_duplicates": [three[0]],
        "entities": [three[1]],
        "accepted_answers": [three[2]],
        "answers": [],
        "items": three,
    }


def test_material_lists_transfers_openings_and_the_labels_used(sound, elsewhere, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(sound[0].root, root)
    ws = Workspace(root, Silent())
    audit_readout(ws, refits=10, transfer=elsewhere)
    audit_readout(ws, refits=10, transfer=sound[0])
    digest_of = {p.name.removeprefix("transfer-") for p in (root / "probes/default").glob("transfer-*")}
    stale = root / "probes/default/transfer-000000000000"
    stale.mkdir()
    write_sidecar(stale, root, {"unit": "probes/default/transfer-000000000000"}, [], "started")
    found = material(ws, "default")
    assert {t["name"] for t in found["audit"]["transferred"]} == digest_of and len(digest_of) == 2
    assert found["openings"] == ["default"] and found["verdicts"] is None and "verdicts" not in found["settings"]
    spans = root / "spans" / "results.json"
    labels = {"questions": 7, "labels": {"right": {"value": 0.5}}}
    judged = {"distinct_answers": 3, "kappa_with_ruler": {"value": 0.5}, "table": []}
    note(root, "test opened", probe="second", c=1.0, items=3)
    note(root, "test opened", probe="default", c=1.0, items=3)
    results = {"spans": {**json.loads(spans.read_text()), "labels": labels}, "verdicts": judged}
    fake = Judged(root, Silent(), results)
    found = material(fake, "default")
    assert found["collect"]["questions"] == 7 and found["collect"]["labels"] == labels["labels"]
    assert found["verdicts"] == judged and found["settings"]["verdicts"] == {"model": "judge-1"}
    assert found["openings"] == ["default", "second"]


class Judged(Workspace):
    """A workspace whose results are in part given."""

    def __init__(self, root, reporter, given):
        super().__init__(root, reporter)
        object.__setattr__(self, "given", given)

    def has(self, name):
        return name == "verdicts" or super().has(name)

    def results(self, name):
        return self.given[name] if name in self.given else super().results(name)

    def settings(self, name):
        return {"model": "judge-1"} if name == "verdicts" else super().settings(name)


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
