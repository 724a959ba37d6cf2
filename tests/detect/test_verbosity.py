"""Length and truth, planted: rows with known effects, and the whole stage with a readout that sees only one of them."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from levercheck.audit.verbosity import dominance, paired_effects, standardised, verbosity_effects, wilcoxon
from levercheck.errors import IntegrityError, NotEnoughDataError, UsageError
from levercheck.evidence import schema
from levercheck.stats import Estimate


def planted_rows(length=2.0, truth=0.2, items=40, noise=1.0, per_entity=1, seed=0):
    """Rows of the score and of two components: 0:1 follows length, 1:2 follows truth (when the effects differ)."""
    rng = np.random.default_rng(seed)
    rows = []
    for item in range(items):
        base = rng.normal(0, 5)
        mine = {name: rng.normal(0, noise, 2) for name in ("score", "a", "b")}
        for size, true in itertools.product(("short", "long"), (True, False)):
            is_long, is_false = size == "long", not true
            for reduce in ("mean", "max"):
                common = {
                    "item_id": f"q{item:03d}",
                    "entity": f"e{item // per_entity}",
                    "length": size,
                    "truth": true,
                    "reduce": reduce,
                    "tokens": 12 if is_long else 2,
                }
                for key, place, up, down in (
                    ("score", (None, None), length, truth),
                    ("a", (0, 1), length, 0.0),
                    ("b", (1, 2), 0.0, length),
                ):
                    value = base + (up + mine[key][0]) * is_long + (down + mine[key][1]) * is_false
                    rows.append({**common, "layer": place[0], "index": place[1], "value": value})
                rows.append({**common, "layer": 1, "index": 3, "value": 0.25})  # a component that never moves
    return pl.DataFrame(rows, schema=schema.VERBOSITY, orient="row")


def test_d_z_by_hand():
    found = standardised(np.array([1.0, 2.0, 3.0, 6.0]), list("abcd"))
    assert found.value == pytest.approx(3 / np.std([1, 2, 3, 6], ddof=1))
    assert found.unit == "d_z" and found.n == 4 and found.clusters == 4 and found.cluster_unit == "group"
    assert found.low < found.value < found.high
    assert standardised(1e-9 * np.array([1.0, 2.0, 3.0, 6.0]), list("abcd")).value == pytest.approx(found.value)
    assert standardised(np.array([1, 2, 3, 6.0]) - 9, list("abcd")).value < 0
    still = standardised(np.full(4, 0.3), list("abcd"))
    assert still.value is None and still.low is None and still.note


def test_intervals_of_d_z_cover_it_and_follow_entities():
    rng = np.random.default_rng(0)
    draws = rng.normal(0.8, 1, (400, 40))
    names = [f"e{i}" for i in range(40)]
    hits = sum(e.low <= 0.8 <= e.high for e in (standardised(x, names) for x in draws))
    assert 366 <= hits <= 393
    x = draws[0]
    one, doubled = standardised(x, names), standardised(np.repeat(x, 2), [n for n in names for _ in range(2)])
    assert doubled.n == 80 and doubled.clusters == 40
    assert doubled.width == pytest.approx(one.width, rel=0.05)  # copies of an entity tell nothing new
    assert one.width == pytest.approx(2 * 2.02 * ((1 + one.value**2 / 2) / 40) ** 0.5, rel=0.3)


def test_dominance_is_paired_and_counts_an_absent_effect_as_zero():
    rng = np.random.default_rng(1)
    up, down = rng.normal(3, 1, 40), rng.normal(-3, 1, 40)
    names = [f"e{i}" for i in range(40)]
    same = dominance({"length": up, "truth": -up}, names)
    assert same.value == pytest.approx(0, abs=1e-12)  # sizes are compared, and errors that are shared cancel
    assert dominance({"length": up, "truth": down}, names).excludes() is False
    alone = dominance({"length": up, "truth": np.zeros(40)}, names)
    assert alone.value == pytest.approx(standardised(up, names).value)
    assert dominance({"length": np.zeros(40), "truth": down}, names).value < 0
    assert dominance({"length": np.zeros(40), "truth": np.zeros(40)}, names).value is None
    assert dominance({"length": up, "truth": np.full(40, 0.3)}, names).value is None


def test_per_item_effects_average_over_the_other_factor():
    rows = [
        {"item_id": "q", "entity": "e", "length": size, "truth": true, "reduce": "mean", "value": value}
        for (size, true), value in {
            ("long", True): 7.0, ("long", False): 9.0, ("short", True): 2.0, ("short", False): 1.0,
        }.items()
    ]  # fmt: skip
    (effect,) = paired_effects(pl.DataFrame(rows, schema=schema.VERBOSITY, orient="row")).to_dicts()
    assert effect["length"] == ((7 - 2) + (9 - 1)) / 2
    assert effect["truth"] == ((9 - 7) + (1 - 2)) / 2


def test_planted_effects_are_found():
    found = verbosity_effects(planted_rows())
    for reduce in ("mean", "max"):
        part = found[reduce]
        length, truth = (Estimate.from_dict(part["score"][name]) for name in ("length", "truth"))
        assert length.value == pytest.approx(2, abs=0.6) and length.excludes() is True
        assert abs(truth.value) < 0.6
        assert part["score"]["length_shift"]["value"] == pytest.approx(2, abs=0.5)
        assert part["score"]["p_length"] < 1e-6
        ratio = Estimate.from_dict(part["score"]["ratio"])
        assert ratio.value == pytest.approx(abs(length.value / truth.value)) and ratio.low > 1
        a, b, still = part["components"]
        assert (a["layer"], a["index"]) == (0, 1)
        assert a["dominance"]["low"] > 0 and b["dominance"]["high"] < 0
        assert a["p_length_holm"] >= a["p_length_bh"] >= a["p_length"]
        assert b["p_truth_holm"] < 1e-4
        assert still["length"]["value"] is None and still["dominance"]["value"] is None and still["p_length"] == 1
        assert part["length_dominant"]["value"] == 0.5 and part["length_dominant"]["n"] == 2
        assert part["clearly_length"]["value"] == part["clearly_truth"]["value"] == 0.5
        assert part["not_comparable"] == 1


def test_nothing_planted_nothing_found():
    part = verbosity_effects(planted_rows(length=0.0, truth=0.0, items=60, seed=1))["mean"]
    assert Estimate.from_dict(part["score"]["length"]).excludes() is False
    assert part["score"]["p_length"] > 0.01
    assert Estimate.from_dict(part["score"]["dominance"]).excludes() is False


def test_items_of_one_entity_count_once():
    alone, shared = (planted_rows(length=0.3, per_entity=k) for k in (1, 8))
    for rows, clusters in ((alone, 40), (shared, 5)):
        found = verbosity_effects(rows)["mean"]["score"]["length"]
        assert found["clusters"] == clusters and found["n"] == 40
    assert wilcoxon(np.ones(40), ["e"] * 40) > 0.3
    assert wilcoxon(np.arange(1.0, 41), [str(i) for i in range(40)]) < 1e-6
    assert wilcoxon(np.zeros(4), list("abcd")) == 1


def test_damaged_rows_are_refused():
    rows = planted_rows(items=4)
    with pytest.raises(NotEnoughDataError):
        verbosity_effects(rows.clear())
    with pytest.raises(IntegrityError, match="lacks one of its four"):
        verbosity_effects(rows.filter((pl.col("item_id") != "q001") | (pl.col("length") == "long") | pl.col("truth")))
    with pytest.raises(IntegrityError, match="lacks one of its four"):
        verbosity_effects(rows.filter(pl.col("truth")))
    with pytest.raises(IntegrityError, match="twice"):
        verbosity_effects(pl.concat([rows, rows.head(1)]))


# the stage itself

torch = pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.detect import verbosity as stage  # noqa: E402
from levercheck.detect.prompting import Prompting  # noqa: E402
from levercheck.detect.workspace import workspace  # noqa: E402
from levercheck.lm.model import LanguageModel  # noqa: E402
from levercheck.readouts.readout import Readout  # noqa: E402


class Words:
    """A tokenizer of whole words, enough for the tiny models."""

    chat_template = None
    bos_token_id = 1
    eos_token_id = 2

    def __init__(self):
        self.known: dict[str, int] = {}

    def __call__(self, text, add_special_tokens=True):
        ids = [3 + self.known.setdefault(word, len(self.known)) % 90 for word in text.split()]
        return {"input_ids": [1, *ids] if add_special_tokens else ids}


class Silent:
    def stage(self, title, total, unit):
        from contextlib import nullcontext

        return nullcontext(lambda done: None)


one_architecture = pytest.mark.parametrize("tiny", ["llama"], indirect=True)


@pytest.fixture
def lm(tiny):
    """A tiny model with a tokenizer; prompts are longer than its positions, so solved examples are left out."""
    return LanguageModel("tiny", tiny.model, Words(), {"name": "tiny", "tokenizer": "words", "weights": "w"})


QUESTIONS = [
    ("capital:FR", "What is the capital of France?", ["Paris"], "capital", True),
    ("capital:DE", "What is the capital of Germany?", ["Berlin"], "capital", True),
    ("capital:IT", "What is the capital of Italy?", ["Rome", "Roma"], "capital", True),
    ("x:author", "Who wrote Hamlet?", ["William Shakespeare"], None, None),
    ("x:painter", "Who painted Guernica?", ["Pablo Picasso"], None, None),
    ("x:none", "Who was first on Mars?", ["nobody"], None, False),
    ("x:bare", "Which river is longest?", [], None, None),
    ("x:alone", "How many?", ["one two three four five"], None, None),
    ("train:river", "Which river runs through Cairo?", ["Nile"], "river", True),
    ("x:river", "Which river runs through London?", ["Thames"], "river", True),
]


def fill(ws, lm):
    """Units as the stages before leave them."""

    def unit(name, settings, upstream, columns, rows):
        ws.compute(name, settings, upstream, columns, ["item_id"], title=name, batches=[None], rows=len(rows),
                   work=lambda _: rows)  # fmt: skip

    unit("questions", {}, [], schema.QUESTIONS, [
        {"item_id": i, "question": q, "aliases": a, "category": c, "answerable": k} for i, q, a, c, k in QUESTIONS
    ])  # fmt: skip
    settings = {"model": lm.identity, "prompting": Prompting("examples").identity()}
    unit("answers", settings, ["questions"], schema.SAMPLES, [])
    unit("split", {}, ["questions"], schema.SPLIT, [
        {"item_id": i, "label": "right", "group": f"g-{i}", "role": "train" if i.startswith("train") else "test"}
        for i, *_ in QUESTIONS
    ])  # fmt: skip


@pytest.fixture
def readout():
    weights = np.zeros((3, 48))
    weights[0, 3], weights[1, 4], weights[2, 9] = 2.0, 1.0, -0.5
    return Readout.of_dense(weights, -0.25, {"channel": "answer.cett.mean"})


@pytest.fixture
def short_prompts(monkeypatch):
    monkeypatch.setattr(Prompting, "shared", lambda self, lm: lm.start_ids)


def planted_capture(lm, prefix, sequences, regions, channels):
    """0:3 is the response's length; 1:4 is 1 for an answer of Berlin, Nile or Picasso; 2:9 is constant."""
    values = torch.zeros(len(channels), len(sequences), *lm.shape)
    words = {i: w for w, i in ((w, lm.encode(w)[0]) for w in ("Berlin", "Berlin."))}
    for at, (sequence, pieces) in enumerate(zip(sequences, regions, strict=True)):
        (start, stop) = pieces["response"][0]
        assert stop == len(sequence) and 0 < start < stop
        values[:, at, 0, 3] = stop - start
        values[:, at, 1, 4] = float(any(token in words for token in sequence[start:stop]))
        values[:, at, 2, 9] = 0.5
    return values


@one_architecture
def test_a_readout_of_length_is_called_one(lm, readout, tmp_path, monkeypatch, short_prompts):
    monkeypatch.setattr(stage, "capture_batch", planted_capture)
    with workspace(tmp_path / "ws", Silent(), create=True) as ws:
        fill(ws, lm)
        rows = stage.verbosity(ws, lm, readout, "main")
        results = ws.results("probes/main/verbosity")
    assert rows.columns == list(schema.VERBOSITY)
    assert results["items"] == 6 and results["test_items"] == 9
    assert results["skipped"] == {
        "no accepted answer is recorded": 1, "no other item offers a false answer": 1, "the question has no answer": 1,
    }  # fmt: skip
    assert len(rows) == 6 * 4 * 2 * (1 + 3)
    assert results["false_answers"] == {"of test items": 5, "of other questions": 1}
    assert results["sentences"] == {"statement": 3, "template": 3}
    score = results["effects"]["mean"]["score"]
    assert score["ratio"]["value"] > 3
    first, _, third = results["effects"]["mean"]["components"]
    assert first["dominance"]["value"] == first["length"]["value"] > 1.5
    assert first["p_truth"] == 1 and first["truth"]["value"] is None
    assert third["length"]["value"] is None is third["dominance"]["value"]
    assert results["tokens"]["short.true"]["value"] < 2 < 7 < results["tokens"]["long.true"]["value"]
    lengths = rows.filter(pl.col("layer") == 0, pl.col("reduce") == "mean")
    assert (lengths["value"] == lengths["tokens"]).all()
    one = {(r["layer"], r["index"]): r["value"] for r in rows.filter(
        pl.col("item_id") == "capital:FR", pl.col("length") == "long", pl.col("truth"), pl.col("reduce") == "max"
    ).to_dicts()}  # fmt: skip
    assert one[(None, None)] == pytest.approx(2 * one[0, 3] + one[1, 4] - 0.5 * one[2, 9] - 0.25)


@one_architecture
def test_the_design(lm, tmp_path, short_prompts):
    with workspace(tmp_path / "ws", Silent(), create=True) as ws:
        fill(ws, lm)
        questions = ws.rows("questions")
        test = (
            ws.rows("split").filter(pl.col("role") == "test").select("item_id", "group").join(questions, on="item_id")
        )
    chosen, _ = stage.designs(test, questions, lm, stage.VerbositySpec())
    by_id = {d.item_id: d for d in chosen}
    assert by_id["x:author"].false == "Pablo Picasso" and by_id["x:painter"].false == "William Shakespeare"
    assert by_id["x:river"].false == "Nile" and by_id["x:river"].borrowed
    assert by_id["capital:FR"].false in {"Berlin", "Rome"}
    assert by_id["capital:FR"].text("long", True) == "The capital of France is Paris."
    assert by_id["capital:FR"].text("short", False) == by_id["capital:FR"].false
    long = by_id["x:author"].text("long", False)
    assert "Who wrote Hamlet?" in long and "Pablo Picasso" in long
    assert [d.item_id for d in chosen] == sorted(by_id)
    fewer, _ = stage.designs(test, questions, lm, stage.VerbositySpec(items=3))
    assert len(fewer) == 3 and set(fewer) <= set(chosen)
    again, _ = stage.designs(test.reverse(), questions.reverse(), lm, stage.VerbositySpec())
    assert again == chosen


@one_architecture
def test_an_alias_of_the_item_is_never_false(lm):
    frame = pl.DataFrame(
        [
            {"item_id": "a", "question": "Big country?", "aliases": ["The USA", "America"], "category": "c"},
            {"item_id": "b", "question": "Other name?", "aliases": ["america!"], "category": "c"},
            {"item_id": "d", "question": "Spoken in Canada?", "aliases": ["Canada"], "category": "c"},
            {"item_id": "e", "question": "North of Canada?", "aliases": ["Greenland"], "category": "c"},
        ],
        schema=schema.QUESTIONS,
        orient="row",
    ).with_columns(pl.col("item_id").alias("group"))
    chosen, _ = stage.designs(frame, frame, lm, stage.VerbositySpec())
    false = {d.item_id: d.false for d in chosen}
    assert false["a"] in {"Canada", "Greenland"} and false["b"] in {"Canada", "Greenland"}
    assert false["e"] != "Canada"  # it stands in the question


def test_a_sentence_keeps_braces_of_the_question():
    text = stage.sentence("What is {answer} in {0}?", "{42}")
    assert text == 'The answer to the question "What is {answer} in {0}?" is {42}, as far as is known.'


@one_architecture
def test_the_real_capture_and_resume(lm, readout, tmp_path, monkeypatch, short_prompts):
    """Batches and a kill in the middle change nothing; the values are those of one sequence alone."""
    from levercheck.lm.batches import SharedPrefix
    from levercheck.readouts.cett import capture_batch
    from levercheck.readouts.store import Channel

    with workspace(tmp_path / "one", Silent(), create=True) as ws:
        fill(ws, lm)
        whole = stage.verbosity(ws, lm, readout, "main")
        (design,) = (d for d in stage.designs(
            ws.rows("split").select("item_id", "group").join(ws.rows("questions"), on="item_id"),
            ws.rows("questions"), lm, stage.VerbositySpec(),
        )[0] if d.item_id == "x:author")  # fmt: skip
    prompt = Prompting("examples").own(lm, design.question)
    tokens = Prompting("examples").response(lm, design.question, design.text("short", True))
    assert tokens == lm.encode("William Shakespeare")
    values = capture_batch(
        lm, SharedPrefix(lm, lm.start_ids), [[*prompt, *tokens]], [{"r": [(len(prompt), len(prompt) + 2)]}],
        [Channel("r", "cett", "max")],
    )[0].numpy()  # fmt: skip
    got = whole.filter(
        pl.col("item_id") == "x:author", pl.col("length") == "short", pl.col("truth"), pl.col("reduce") == "max"
    ).sort("layer")
    expected = readout.select(values)
    assert got["value"].to_list() == pytest.approx(
        [float(readout.score(expected)[0]), *expected[0]], rel=1e-5, abs=1e-6
    )

    calls = []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return capture_batch(*arguments)

    spec = stage.VerbositySpec(batch_tokens=64)
    with workspace(tmp_path / "two", Silent(), create=True) as ws:
        fill(ws, lm)
        monkeypatch.setattr(stage, "capture_batch", dying)
        with pytest.raises(KeyboardInterrupt):
            stage.verbosity(ws, lm, readout, "main", spec)
        resumed = stage.verbosity(ws, lm, readout, "main", spec)
        done = len(calls)
        assert stage.verbosity(ws, lm, readout, "main", spec).equals(resumed)
        assert len(calls) == done  # a finished unit is only read
    keys = [c for c in whole.columns if c != "value"]
    assert resumed.select(keys).equals(whole.select(keys))
    assert np.allclose(resumed["value"], whole["value"], rtol=1e-4, atol=1e-6)


@one_architecture
def test_wrong_readouts_and_useless_items_are_refused(lm, readout, tmp_path, short_prompts):
    with workspace(tmp_path / "ws", Silent(), create=True) as ws:
        fill(ws, lm)
        other = Readout.of_dense(np.ones((3, 47)), 0.0, {})
        with pytest.raises(UsageError, match="3 layers x 47 neurons"):
            stage.verbosity(ws, lm, other, "main")
        stranger = LanguageModel("tiny", lm.model, lm.tokenizer, {**lm.identity, "weights": "others"})
        with pytest.raises(UsageError, match="weights differs"):
            stage.verbosity(ws, stranger, readout, "main")
        bare = ws.rows("questions").filter(pl.col("item_id").is_in(["x:none", "x:bare"]))
        assert stage.designs(bare.with_columns(pl.lit("g").alias("group")), bare, lm, stage.VerbositySpec())[0] == []


def test_real_model_reads_length(smollm):
    """Real tokens: a short response is a prefix of nothing else, and the space belongs to the answer."""
    prompting = Prompting("examples")
    question = "What is the capital of France?"
    tokens = prompting.response(smollm, question, "Paris")
    assert smollm.decode(tokens) == " Paris"
    whole = smollm.encode(f"Question: {question}\nAnswer: Paris")
    assert [*prompting.own(smollm, question), *tokens] == whole
