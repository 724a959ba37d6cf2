"""Files of H-neurons runs: read whole or refused in one line, and the same rows after a round trip."""

from __future__ import annotations

import json
import subprocess
import sys
import types

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.detect.capture import capture
from levercheck.detect.probe import ProbeSpec, probe
from levercheck.detect.spans import spans as find_spans
from levercheck.detect.split import SplitSpec, split
from levercheck.detect.stored import CaptureSpec, open_store
from levercheck.detect.workspace import workspace
from levercheck.errors import IntegrityError, LevercheckError, MissingError, NotEnoughDataError, UsageError
from levercheck.interop import h_neurons_formats as formats
from levercheck.interop.h_neurons_activations import Scan
from levercheck.interop.h_neurons_read import Files, Options, import_h_neurons
from levercheck.interop.h_neurons_spans import locate, string_offsets
from levercheck.interop.h_neurons_write import export_h_neurons
from levercheck.readouts.readout import load_readout

SUFFIX = "Give only the answer, please."
SHAPE = (3, 5)
NAMES = ["Paris", "São Tomé", "O'Brien’s", "東京", "naïve café", "Ōsaka", "l'Été", "Zürich", "Kraków", "Łódź"]


class SilentReporter:
    from contextlib import contextmanager

    @contextmanager
    def stage(self, title, total, unit):
        yield lambda done: None


class Pieces:
    """A tokenizer of three-character pieces; ids are learned as texts come."""

    name = "pieces"
    identity = types.MappingProxyType({"name": "pieces", "tokenizer": "t" * 64})
    shape = SHAPE

    def __init__(self):
        self.vocabulary = []

    def encode(self, text):
        pieces = [text[i : i + 3] for i in range(0, len(text), 3)]
        self.vocabulary += [p for p in dict.fromkeys(pieces) if p not in self.vocabulary]
        return [self.vocabulary.index(p) for p in pieces]

    def decode(self, ids):
        return "".join(self.vocabulary[i] for i in ids)


@pytest.fixture
def lm():
    made = Pieces()
    made.identity = dict(made.identity)
    return made


def write_lines(path, records, end="\n"):
    path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in records) + end, encoding="utf-8")
    return path


def qids(count=40):
    return [f"qz_{i}:ä {i}" for i in range(count)]


def right(i):
    return i % 2 == 0


def text_of(i):
    return f"It is {NAMES[i % len(NAMES)]} {i}"


def sample_records(count=40, samples=3):
    for i, qid in enumerate(qids(count)):
        yield {
            qid: {
                "question": f"Where does river number {i} of basin {i * 7} rise? {SUFFIX}",
                "responses": [text_of(i)] * (samples - 1) + [text_of(i) + "."],
                "judges": ["true" if right(i) else "false"] * samples,
                "ground_truth": [f"{NAMES[i % len(NAMES)]} {i}", f"gold {i}"],
            }
        }


def token_records(lm, count=40, judge=True):
    for i, qid in enumerate(qids(count)):
        strings = [lm.decode([t]) for t in lm.encode(text_of(i))]
        record = {
            "question": f"Where does river number {i} of basin {i * 7} rise? {SUFFIX}",
            "response": text_of(i),
            "tokenized_response": strings,
            "answer_tokens": strings[2:],
        }
        yield {qid: record | ({"judge": "true" if right(i) else "false"} if judge else {})}


def write_ids(path, chosen):
    ids = qids()
    split = {"t": [ids[i] for i in chosen if right(i)], "f": [ids[i] for i in chosen if not right(i)]}
    path.write_text(json.dumps(split, ensure_ascii=False), encoding="utf-8")
    return path


def write_activations(root, ids, locations=("answer_tokens", "all_except_answer_tokens"), metadata=True):
    rng = np.random.default_rng(0)
    for location in locations:
        (root / location).mkdir(parents=True)
        for qid in ids:
            np.save(root / location / f"act_{qid}.npy", rng.random(SHAPE, dtype=np.float32))
    if metadata:
        said = {
            "aggregation_method": "mean",
            "use_abs": True,
            "use_mag": True,
            "model_path": "/" + "home/someone/models/m",
        }
        (root / "metadata.json").write_text(json.dumps(said))
    return root


@pytest.fixture
def release(tmp_path, lm):
    """A whole release in files."""
    folder = tmp_path / "release"
    folder.mkdir()
    coefficients = {"coef_": [[0.0] * 14 + [2.0]], "intercept_": [-0.5]}
    coefficients["coef_"][0][1] = -1.0
    (folder / "clf.json").write_text(json.dumps(coefficients))
    return Files(
        write_lines(folder / "samples.jsonl", sample_records()),
        write_lines(folder / "tokens.jsonl", token_records(lm)),
        write_ids(folder / "train.json", range(24)),
        write_ids(folder / "test.json", range(24, 40)),
        (write_activations(folder / "acts", qids()),),
        folder / "clf.json",
    )


def take(root, files, lm=None, **options):
    return import_h_neurons(root, files, SilentReporter(), lm=lm, options=Options(**{"instruction": SUFFIX, **options}))


def rows(root, name):
    with workspace(root, SilentReporter()) as ws:
        return ws.rows(name)


def test_a_whole_release(tmp_path, release, lm):
    report = take(tmp_path / "ws", release, lm)
    with workspace(tmp_path / "ws", SilentReporter()) as ws:
        questions, answers, spans, split = (ws.rows(n) for n in ("questions", "answers", "spans", "split"))
        assert ws.settings("answers")["sampling"]["samples"] == 3
        assert ws.settings("answers")["prompting"] == {"style": "chat", "instruction": SUFFIX}
        assert ws.settings("answers")["model"] is None
        store = open_store(ws)
        captured = ws.rows("capture")
    assert len(questions) == 40 and len(answers) == 120
    assert not questions["question"].str.contains("please").any()
    assert questions["aliases"].list.len().to_list() == [2] * 40
    assert answers["tokens"].is_null().all() and answers["match"].is_null().all()
    assert set(answers["ruler"]) == {"imported"}
    assert spans["reason"].is_null().all() and spans["agreement"].to_list() == pytest.approx([2 / 3] * 40)
    for row in spans.iter_rows(named=True):
        assert lm.decode(row["tokens"]) == row["text"]
        i = qids().index(row["item_id"])
        assert row["text"][row["char_start"] : row["char_stop"]] == f"{NAMES[i % len(NAMES)]} {i}"
        assert lm.decode(row["tokens"][row["start"] : row["stop"]]).strip() == f"{NAMES[i % len(NAMES)]} {i}"
    assert split.group_by("role", "label").len().sort("role", "label")["len"].to_list() == [8, 8, 12, 12]
    assert split.filter(pl.col("role") == "train")["fold"].n_unique() == 5
    assert store.channels == ("answer.cett.mean", "other.cett.mean") and store.array.shape == (2, 40, *SHAPE)
    for location, channel in (("answer_tokens", 0), ("all_except_answer_tokens", 1)):
        for at, qid in enumerate(store.item_ids):
            theirs = np.load(release.activations[0] / location / f"act_{qid}.npy")
            assert (store.array[channel, at] == theirs).all()
    assert captured["answer_tokens"].is_not_null().all()
    readout = load_readout(tmp_path / "ws" / "probes" / "imported")
    assert readout.components == ((0, 1), (2, 4)) and readout.neurons == ((2, 4),) and readout.intercept == -0.5
    scores = rows(tmp_path / "ws", "probes/imported")
    at = store.item_ids.index(scores["item_id"][0])
    assert scores["score"][0] == pytest.approx(2 * store.array[0, at, 2, 4] - store.array[0, at, 0, 1] - 0.5)
    assert report.parts["readout"]["test"]["n"] == 16
    assert "someone" not in "".join(p.read_text() for p in (tmp_path / "ws").rglob("*.json*"))


def test_a_second_import_changes_nothing_and_other_files_are_refused(tmp_path, release, lm):
    first = take(tmp_path / "ws", release, lm)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "ws").rglob("*") if p.is_file() and p.name != ".lock"}
    assert take(tmp_path / "ws", release, lm) == first
    assert before == {p: p.stat().st_mtime_ns for p in before}
    records = list(sample_records())
    next(iter(records[3].values()))["responses"][0] = "It is elsewhere"
    write_lines(release.samples, records)
    with pytest.raises(UsageError, match=r"questions/ was made with .*sha256"):
        take(tmp_path / "ws", release, lm)


def test_parts_come_one_after_another(tmp_path, release, lm):
    root = tmp_path / "ws"
    take(root, Files(samples=release.samples))
    take(root, Files(answer_tokens=release.answer_tokens), lm)
    take(root, Files(train_ids=release.train_ids, test_ids=release.test_ids))
    take(root, Files(activations=release.activations))
    take(root, Files(classifier=release.classifier))
    together = tmp_path / "together"
    take(together, release, lm)
    for name in ("questions", "answers", "spans", "split", "capture", "probes/imported"):
        assert rows(root, name).equals(rows(together, name)), name


def test_probe_goes_on_from_an_import(tmp_path, release, lm):
    take(tmp_path / "ws", release, lm)
    with workspace(tmp_path / "ws", SilentReporter()) as ws:
        assert probe(ws, open_store(ws), ProbeSpec(cs=(0.5, 1.0))).shape == SHAPE


def test_spans_and_split_go_on_from_samples(tmp_path, release, lm):
    write_lines(release.samples, sample_records(120))
    take(tmp_path / "ws", Files(samples=release.samples))
    with workspace(tmp_path / "ws", SilentReporter()) as ws:
        assert find_spans(ws, lm)["reason"].is_null().all()
        assert set(split(ws, SplitSpec(disjoint="question", test_share=0.5))["role"]) >= {"train", "test"}


def test_an_interrupted_import_continues(tmp_path, release, lm, monkeypatch):
    whole = take(tmp_path / "whole", release, lm)
    load, calls = Scan.load, []

    def failing(self, location, qid):
        calls.append(qid)
        if len(calls) == 40:
            raise KeyboardInterrupt
        return load(self, location, qid)

    monkeypatch.setattr(Scan, "load", failing)
    with pytest.raises(KeyboardInterrupt):
        take(tmp_path / "ws", release, lm)
    assert take(tmp_path / "ws", release, lm).parts == whole.parts
    assert len(calls) == 80 + 40 % 16  # finished batches are not read again
    with workspace(tmp_path / "ws", SilentReporter()) as ws, workspace(tmp_path / "whole", SilentReporter()) as other:
        assert (open_store(ws).array == open_store(other).array).all()


def test_activations_and_ids_alone(tmp_path, release):
    files = Files(train_ids=release.train_ids, test_ids=release.test_ids, activations=release.activations)
    report = take(tmp_path / "ws", files)
    assert report.parts["split"]["shared_by_train_and_test"]["questions"] is None
    assert report.parts["capture"]["items"] == 40
    lone = take(tmp_path / "lone", Files(activations=release.activations), locations=("answer_tokens",))
    assert lone.parts["capture"]["channels"] == ["answer.cett.mean"]


def test_answer_tokens_without_samples_take_labels_from_judge_or_ids(tmp_path, release, lm):
    take(tmp_path / "judged", Files(answer_tokens=release.answer_tokens), lm)
    write_lines(release.answer_tokens, token_records(lm, judge=False))
    files = Files(answer_tokens=release.answer_tokens, train_ids=release.train_ids, test_ids=release.test_ids)
    take(tmp_path / "ids", files, lm)
    for root in (tmp_path / "judged", tmp_path / "ids"):
        spans = rows(root, "spans").sort("item_id")
        assert spans["label"].to_list() == ["right" if right(qids().index(q)) else "wrong" for q in spans["item_id"]]
        assert spans["agreement"].is_null().all()


def test_round_trip_gives_equal_rows(tmp_path, release, lm):
    take(tmp_path / "ws", release, lm)
    done = export_h_neurons(tmp_path / "ws", tmp_path / "out", SilentReporter(), lm=lm)
    assert not done.left_out
    out = tmp_path / "out"
    files = Files(
        out / "consistency_samples.jsonl",
        out / "answer_tokens.jsonl",
        out / "train_qids.json",
        out / "test_qids.json",
        (out / "activations",),
        out / "classifier.npz",
    )
    take(tmp_path / "again", files, lm)
    for name in ("questions", "answers", "spans", "split", "capture", "probes/imported"):
        assert rows(tmp_path / "again", name).equals(rows(tmp_path / "ws", name)), name
    with workspace(tmp_path / "ws", SilentReporter()) as ws, workspace(tmp_path / "again", SilentReporter()) as other:
        assert (open_store(ws).array == open_store(other).array).all()
    first, second = (load_readout(tmp_path / n / "probes" / "imported") for n in ("ws", "again"))
    assert first.fingerprint == second.fingerprint
    body = json.loads((out / "classifier.json").read_text())
    assert formats.read_coefficients(out / "classifier.json")[1] == body["intercept"][0] == -0.5
    record = json.loads((out / "answer_tokens.jsonl").read_text(encoding="utf-8").splitlines()[0])
    ((_, first_line),) = record.items()
    assert (
        first_line["question"].endswith(SUFFIX) and "".join(first_line["tokenized_response"]) == first_line["response"]
    )


def test_real_model_round_trip(tmp_path, smollm):
    """Token strings of a byte-level tokenizer, which cut characters in pieces; captured, exported, read back."""
    records = list(token_records(smollm))
    write_lines(tmp_path / "tokens.jsonl", records)
    for name, chosen in (("train.json", range(24)), ("test.json", range(24, 40))):
        write_ids(tmp_path / name, chosen)
    files = Files(None, tmp_path / "tokens.jsonl", tmp_path / "train.json", tmp_path / "test.json")
    take(tmp_path / "ws", files, smollm)
    spans = rows(tmp_path / "ws", "spans")
    assert spans["reason"].is_null().all()
    with workspace(tmp_path / "ws", SilentReporter()) as ws:
        store = capture(ws, smollm, CaptureSpec(regions=("answer",), reduces=("mean", "max")))
        kept = np.array(store.channel("answer.cett.max"))
    done = export_h_neurons(tmp_path / "ws", tmp_path / "out", SilentReporter(), lm=smollm, reduce="max")
    assert any("answer.cett.mean" in line for line in done.left_out)
    out = tmp_path / "out"
    back = Files(
        None,
        out / "answer_tokens.jsonl",
        out / "train_qids.json",
        out / "test_qids.json",
        (out / "activations",),
    )
    take(tmp_path / "again", back, smollm)
    assert rows(tmp_path / "again", "spans").equals(spans)
    assert rows(tmp_path / "again", "split").equals(rows(tmp_path / "ws", "split"))
    with workspace(tmp_path / "again", SilentReporter()) as ws:
        assert (open_store(ws).channel("answer.cett.max") == kept).all()


@pytest.mark.parametrize(
    ("text", "strings", "answer", "stated"),
    [
        ("It is Paris.", ["▁It", "▁is", "▁Paris", "."], ["▁Paris"], "Paris"),
        ("It is Tomé!", ["It", "Ġis", "ĠTom", "Ã©", "!"], ["ĠTom", "Ã©"], "Tomé"),
        ("It is Tomé!", ["It", " is", " Tom", "�", "�", "!"], [" Tom", "�", "�"], "Tomé"),
        ("It is Tomé!", ["▁It", "▁is", "▁Tom", "<0xC3>", "<0xA9>", "!"], ["▁Tom", "<0xC3>", "<0xA9>"], "Tomé"),
        ("It is Paris", ["It", "is", "Paris"], ["Paris"], "Paris"),  # decoders strip the space of a lone token
        ("Big, very big Ben", ["Big", ",", " very", " big", " Ben"], ["Big", "big"], "Big, very big"),
        ("a b a c", ["a", " b", " a", " c"], ["a", " c"], "a c"),  # the shortest place that has them in order
        ("東京", ["�", "�", "�", "京"], ["�", "�", "�"], "東"),
        ("it's O'Brien", ["it", "'s", " O", "'", "Brien"], ["O", "'", "Brien"], "O'Brien"),
    ],
)
def test_token_strings_are_found_in_the_text(text, strings, answer, stated):
    found = locate(strings, answer, text)
    assert not isinstance(found, str), found
    assert text[found.char_start : found.char_stop] == stated


@pytest.mark.parametrize(
    ("strings", "answer", "reason"),
    [
        ([], [], "gives no answer tokens"),
        (["Par", "is"], ["London"], "not among those"),
        (["Ber", "lin"], ["lin"], "do not spell"),
        (["Par"], ["Par"], "do not spell"),
        (["Par", "is", " "], [" "], "state nothing"),
    ],
)
def test_token_strings_that_do_not_fit_give_a_reason(strings, answer, reason):
    found = locate(strings, answer, "Paris " if " " in strings else "Paris")
    assert isinstance(found, str) and reason in found


def test_offsets_cover_the_text():
    assert string_offsets(["Par", "is"], "Paris") == [(0, 3), (3, 5)]
    assert string_offsets(["Ġcaf", "Ã", "©"], "café") == [(0, 3), (3, 3), (3, 4)]


def test_missing_verdicts_stay_missing(tmp_path):
    records = list(sample_records(6))
    one, two, three = (next(iter(records[i].values())) for i in (0, 1, 2))
    one["judges"].pop()
    two["judges"][1] = None
    three["judges"].append("true")
    records.append({"empty": {"question": "Nothing?", "responses": [], "judges": [], "ground_truth": []}})
    report = take(tmp_path / "ws", Files(samples=write_lines(tmp_path / "s.jsonl", records)))
    answers = rows(tmp_path / "ws", "answers")
    assert (answers["verdict"] == "error").sum() == 1 + 1 + 3
    assert report.parts["answers"]["error"] == 3 and "of 3 questions are missing" in report.notes[0]
    assert rows(tmp_path / "ws", "questions").filter(pl.col("item_id") == "empty")["skipped"][0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"q": {"question": "a", "resp', "s.jsonl line 3 is no JSON .*torn"),
        ('{"q": 1}\n', "line 3 is not of the form"),
        ('{"qz_0:ä 0": {"question": "a", "responses": [], "judges": []}}\n', "line 3: duplicate qid .* line 1"),
        ('{"q": {"question": "a", "responses": ["b"], "judges": ["maybe"]}}\n', "line 3: verdict 'maybe' is unknown"),
        ('{"q": {"question": "a", "responses": [1], "judges": ["true"]}}\n', r"responses\[0\] is int"),
        ('{"q": {"responses": ["b"], "judges": ["true"]}}\n', "question is missing"),
        ('{"../q": {"question": "a", "responses": ["b"], "judges": ["true"]}}\n', "cannot be part of a file name"),
        ('{"..": {"question": "a", "responses": ["b"], "judges": ["true"]}}\n', "cannot be part of a file name"),
        ('{"q": {"question": "a\\ud800", "responses": ["b"], "judges": ["true"]}}\n', "surrogate"),
        ("[" * 100_000 + "\n", "line 3 is no JSON"),
    ],
)
def test_damaged_lines_name_file_and_line(tmp_path, line, words):
    path = write_lines(tmp_path / "s.jsonl", sample_records(2))
    with path.open("a", encoding="utf-8") as handle:
        handle.write(line)
    with pytest.raises(LevercheckError, match=words) as caught:
        take(tmp_path / "ws", Files(samples=path))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ws").exists()


def test_parts_that_do_not_belong_together(tmp_path, release, lm):
    with pytest.raises(UsageError, match="give --model"):
        take(tmp_path / "a", Files(answer_tokens=release.answer_tokens))
    with pytest.raises(UsageError, match="nothing to import"):
        take(tmp_path / "a", Files())
    write_ids(release.test_ids, range(20, 40))
    with pytest.raises(UsageError, match=r"4 ids stand in both train.json and test.json"):
        take(tmp_path / "b", release, lm)
    ids = json.loads(write_ids(release.test_ids, range(24, 40)).read_text())
    release.test_ids.write_text(json.dumps({"t": ids["f"], "f": ids["t"]}))
    with pytest.raises(IntegrityError, match="disagree on 16 items"):
        take(tmp_path / "c", release, lm)
    release.test_ids.write_text(json.dumps({"t": ["new"], "f": []}))
    with pytest.raises(UsageError, match=r"1 of 25 qids .*'new'"):
        take(tmp_path / "d", release, lm)
    release.test_ids.write_text(json.dumps({"t": ["x", "x"], "f": []}))
    with pytest.raises(IntegrityError, match="'x' twice"):
        take(tmp_path / "e", release, lm)
    records = list(token_records(lm))
    next(iter(records[0].values()))["question"] = "Another?"
    write_lines(release.answer_tokens, records)
    with pytest.raises(UsageError, match="another question"):
        take(tmp_path / "f", Files(release.samples, release.answer_tokens), lm)


def test_missing_activations_go_to_reserve_up_to_a_share(tmp_path, release, lm):
    acts = release.activations[0]
    lost = qids()[1]
    (acts / "all_except_answer_tokens" / f"act_{lost}.npy").unlink()
    with pytest.raises(UsageError, match=r"1 of 24 train items have no activations of all_except_answer_tokens"):
        take(tmp_path / "a", release, lm)
    report = take(tmp_path / "b", release, lm, max_missing=0.1)
    assert report.parts["split"]["missing_activations"] == {"train": 1, "test": 0}
    split = rows(tmp_path / "b", "split").filter(pl.col("item_id") == lost)
    assert split["role"][0] == "reserve" and split["reason"][0] == "no activations of all_except_answer_tokens"
    assert report.parts["capture"]["items"] == 39
    elsewhere = write_activations(tmp_path / "more", [lost])
    files = Files(**{**vars(release), "activations": (acts, elsewhere)})
    assert take(tmp_path / "c", files, lm).parts["capture"]["items"] == 40


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full(SHAPE, np.nan, dtype=np.float32), r"answer_tokens/act_.*not finite in layer 0"),
        (np.zeros((3, 6), dtype=np.float32), r"has shape \(3, 6\), expected 3 x 5"),
        (np.zeros(SHAPE), "holds float64, expected float32"),
        (np.array([[object()]], dtype=object), "cannot be read as an array"),
        (None, "cannot be read as an array"),
    ],
)
def test_damaged_activations_are_named(tmp_path, release, array, words):
    path = release.activations[0] / "answer_tokens" / f"act_{qids()[9]}.npy"
    if array is None:
        path.write_bytes(path.read_bytes()[:-3])
    else:
        np.save(path, array, allow_pickle=True)
    with pytest.raises(IntegrityError, match=words):
        take(tmp_path / "ws", Files(activations=release.activations))


def test_activations_say_how_they_were_reduced(tmp_path):
    root = write_activations(tmp_path / "acts", qids(4), metadata=False)
    with pytest.raises(UsageError, match="do not say how"):
        take(tmp_path / "a", Files(activations=(root,)))
    assert take(tmp_path / "a", Files(activations=(root,)), reduce="max").parts["capture"]["channels"] == [
        "answer.cett.max",
        "other.cett.max",
    ]
    (root / "metadata.json").write_text('{"aggregation_method": "mean"}')
    with pytest.raises(UsageError, match="say max and mean"):
        take(tmp_path / "b", Files(activations=(root,)), reduce="max")
    (root / "metadata.json").write_text('{"aggregation_method": "mean", "use_mag": false}')
    with pytest.raises(UsageError, match="not CETT"):
        take(tmp_path / "b", Files(activations=(root,)))
    with pytest.raises(UsageError, match="location 'anser_tokens' is unknown"):
        take(tmp_path / "b", Files(activations=(root,)), reduce="mean", locations=("anser_tokens",))


def test_a_store_larger_than_the_disk_is_refused(tmp_path, release, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=10))
    with pytest.raises(MissingError, match="are free"):
        take(tmp_path / "ws", Files(activations=release.activations))


def test_classifiers(tmp_path):
    def given(name, write):
        path = tmp_path / name
        write(path)
        return Files(classifier=path)

    for name in ("m.pkl", "m.joblib"):
        with pytest.raises(UsageError, match=r"is a pickle.*joblib.load.*numpy.savez") as caught:
            take(tmp_path / "a", given(name, lambda p: p.write_bytes(b"x")))
        assert "\n" not in str(caught.value)
    good = given("m.npz", lambda p: np.savez(p, coef=np.arange(15.0)[None], intercept=np.array([1.0])))
    with pytest.raises(UsageError, match="--shape"):
        take(tmp_path / "a", good)
    with pytest.raises(UsageError, match="15 coefficients, expected 4 layers"):
        take(tmp_path / "a", good, shape=(4, 5))
    report = take(tmp_path / "a", good, shape=SHAPE)
    assert report.parts["readout"]["components"] == report.parts["readout"]["h_neurons"] == 14
    for name, write, words in (
        ("a.npz", lambda p: np.savez(p, coef=np.array([object()]), intercept=[1.0]), "cannot be read"),
        ("b.npz", lambda p: p.write_bytes(b"PK"), "cannot be read"),
        ("c.json", lambda p: p.write_text('{"coef": [[1, NaN]], "intercept": [0]}'), "not finite"),
        ("d.json", lambda p: p.write_text('{"coef": [[1], [2]], "intercept": [0, 1]}'), "two classes"),
        ("e.json", lambda p: p.write_text('{"coef": [["x"]], "intercept": [0]}'), "not an array of numbers"),
        ("f.json", lambda p: p.write_text('{"weights": []}'), "no 'coef'"),
    ):
        with pytest.raises(LevercheckError, match=words):
            take(tmp_path / "x", given(name, write), shape=SHAPE)


def test_a_role_needs_both_labels(tmp_path, release):
    ids = json.loads(release.test_ids.read_text())
    release.test_ids.write_text(json.dumps({"t": ids["t"], "f": []}))
    with pytest.raises(NotEnoughDataError, match="test role has usable items of right only"):
        take(tmp_path / "ws", Files(train_ids=release.train_ids, test_ids=release.test_ids))


def test_leaks_between_roles_are_counted(tmp_path, release, lm):
    records = list(sample_records())
    first, last = (next(iter(records[i].values())) for i in (0, 38))
    last["question"] = first["question"].upper().replace(SUFFIX.upper(), SUFFIX)
    last["responses"] = first["responses"]
    write_lines(release.samples, records)
    tokens = list(token_records(lm))
    qid = qids()[38]
    tokens[38] = {qid: {**next(iter(tokens[0].values())), "question": last["question"]}}
    write_lines(release.answer_tokens, tokens)
    shared = take(tmp_path / "ws", release, lm).parts["split"]["shared_by_train_and_test"]
    assert shared["questions"] == 1 and shared["answers"] == 1 and shared["near_duplicate_pairs"] == 1


def test_an_instruction_in_every_question_is_pointed_out(tmp_path, release):
    report = import_h_neurons(tmp_path / "ws", Files(samples=release.samples), SilentReporter())
    assert any(SUFFIX in note and "--instruction" in note for note in report.notes)


def test_export_refuses_what_it_cannot_do(tmp_path, release, lm):
    root = tmp_path / "ws"
    take(root, release, lm)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UsageError, match="is not empty"):
        export_h_neurons(root, tmp_path / "full", SilentReporter())
    with pytest.raises(UsageError, match="inside the workspace"):
        export_h_neurons(root, root / "out", SilentReporter())
    with pytest.raises(UsageError, match="no channel of CETT reduced by max"):
        export_h_neurons(root, tmp_path / "out", SilentReporter(), lm=lm, reduce="max")
    assert not list(tmp_path.glob("*out*"))
    other = Pieces()
    other.identity = {"name": "other", "tokenizer": "x" * 64}
    with pytest.raises(UsageError, match="another tokenizer"):
        export_h_neurons(root, tmp_path / "out", SilentReporter(), lm=other)
    done = export_h_neurons(root, tmp_path / "out", SilentReporter())
    assert any("--model" in line for line in done.left_out)
    assert not (tmp_path / "out" / "answer_tokens.jsonl").exists()


def test_command_line(tmp_path, release):
    program = [sys.executable, "-c", "from levercheck.cli.interop import *; import cyclopts, sys; a = cyclopts.App(); "]
    program[-1] += "a.command(import_h_neurons); a.command(export_h_neurons); sys.exit(a(result_action='return_value'))"
    call = [*program, "import-h-neurons", "--out", str(tmp_path / "ws"), "--samples", str(release.samples)]
    call += ["--train-ids", str(release.train_ids), "--test-ids", str(release.test_ids), "--classifier"]
    call += [str(release.classifier), "--activations", str(release.activations[0]), "--instruction", SUFFIX, "--json"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["parts"]["capture"]["items"] == 40
    call = [*program, "export-h-neurons", str(tmp_path / "ws"), "--out", str(tmp_path / "out")]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "written to" in done.stdout
    exported = json.loads((tmp_path / "out" / "export.json").read_text(encoding="utf-8"))
    assert exported["instruction"] == SUFFIX and set(exported["files"]) >= {"train_qids.json", "classifier.npz"}
