import hashlib
import json
import re
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path

import polars as pl
import pytest

from levercheck.benchmarks import questions as module
from levercheck.benchmarks.answers import ABSTAIN_RULER, RULER, SUBSTRING_RULER
from levercheck.benchmarks.facts import RULER as FACTS_RULER
from levercheck.benchmarks.facts import facts_digest, load_facts
from levercheck.benchmarks.questions import Draft, Question, Request, load_questions, source, source_names
from levercheck.errors import LevercheckError, MissingError, NotEnoughDataError, UsageError
from levercheck.evidence.canonical import digest

DATA = Path(__file__).with_name("data")


def triviaqa_rows() -> list[dict]:
    def row(name: str, question: str, aliases: list[str], normalised: list[str]) -> dict:
        return {
            "question": question,
            "question_id": name,
            "question_source": "http://example.org/",
            "entity_pages": {"doc_source": [], "filename": [], "title": [], "wiki_context": []},
            "search_results": {"description": [], "filename": [], "rank": [], "title": [], "url": []},
            "answer": {
                "aliases": aliases,
                "normalized_aliases": normalised,
                "matched_wiki_entity_name": "",
                "normalized_matched_wiki_entity_name": "",
                "normalized_value": normalised[0] if normalised else "<unk>",
                "type": "WikipediaEntity",
                "value": aliases[0] if aliases else "<unk>",
            },
        }

    cube = row("tc_2", "What toy did Ern\u0151 make? ", ["Rubik's Cube", "Magic Cube", "Magic Cube"], ["rubik s cube"])
    return [
        cube,
        row("tc_1", "Who runs the mill?", ["Millie", "?"], ["millie"]),
        cube,
        row("tc_3", "Who is in the test split?", [], []),
        row("tc_1", "Who runs the pub?", ["Patrick"], ["patrick"]),
    ]


@pytest.fixture
def triviaqa(tmp_path: Path) -> Path:
    path = tmp_path / "rc.nocontext" / "train-00000-of-00001.parquet"
    path.parent.mkdir()
    pl.DataFrame(triviaqa_rows(), infer_schema_length=None).write_parquet(path)
    return path


def test_triviaqa(triviaqa: Path) -> None:
    found = load_questions(f"triviaqa:{triviaqa}")
    assert (found.name, found.ruler) == ("triviaqa", RULER)
    assert [q.id for q in found.questions] == ["tc_1", "tc_2"]
    cube = found.questions[1]
    assert cube.question == "What toy did Ernő make?"
    assert cube.aliases == ("Rubik's Cube", "Magic Cube", "rubik s cube")
    assert cube.entity == "answer:rubik s cube"
    assert found.questions[0].aliases == ("Millie", "millie")
    assert found.skipped == (("tc_1", "its id belongs to another question"), ("tc_3", "no usable alias"))
    sha = hashlib.sha256(triviaqa.read_bytes()).hexdigest()
    assert found.identity["files"] == [{"name": triviaqa.name, "sha256": sha}]
    assert found.identity["repeated_rows"] == 1
    assert str(triviaqa.parent) not in json.dumps(found.identity)
    assert found.judge(cube, "It is the Rubik’s cube.").label == "true"
    assert found.judge(cube, "the rubik's cubes", ruler=SUBSTRING_RULER).label == "true"


def test_a_folder_and_its_splits(triviaqa: Path) -> None:
    folder = triviaqa.parent
    alone = load_questions(f"triviaqa:{folder}")
    assert len(alone.questions) == 2
    pl.DataFrame([{**triviaqa_rows()[0], "question_id": "v1"}]).write_parquet(
        folder / "validation-00000-of-00001.parquet"
    )
    assert [q.id for q in load_questions(f"triviaqa:{folder}", split="validation").questions] == ["v1"]
    assert load_questions(f"triviaqa:{folder}", split="train").questions == alone.questions
    assert load_questions(f"triviaqa:{folder}", split="train").identity["split"] == "train"
    fails(f"triviaqa:{folder}", "holds the splits train, validation")
    fails(f"triviaqa:{folder}", "did you mean 'validation'", split="validatoin")
    fails(f"triviaqa:{triviaqa}", "name a folder", split="train")
    (folder / "empty").mkdir()
    fails(f"triviaqa:{folder / 'empty'}", "no parquet file")


def test_nq_open(tmp_path: Path) -> None:
    found = load_questions(f"nq-open:{DATA / 'nq-open.jsonl'}")
    assert len(found.questions) == 2 and found.identity["repeated_rows"] == 1
    painted = next(q for q in found.questions if "painted" in q.question)
    assert painted.aliases == ("Ada Brush", "A. Brush")
    assert re.fullmatch(r"q-[0-9a-f]{16}", painted.id)
    assert [reason for _, reason in found.skipped] == ["no usable alias"]
    assert found.identity["licence"] == "CC-BY-SA-3.0"
    rows = [json.loads(line) for line in (DATA / "nq-open.jsonl").read_text().splitlines()]
    pl.DataFrame(rows).write_parquet(tmp_path / "train-00000-of-00001.parquet")
    same = load_questions(f"nq-open:{tmp_path}")
    assert same.questions == found.questions
    assert same.identity["questions_sha256"] == found.identity["questions_sha256"]


def test_bioasq() -> None:
    found = load_questions(f"bioasq:{DATA / 'bioasq.json'}")
    assert [q.aliases for q in found.questions] == [("ABC1", "ATP transporter 1"), ("Lipase", "pancreatic lipase")]
    assert [(name[-1], reason) for name, reason in found.skipped] == [
        ("3", "type 'yesno' is not factoid"),
        ("4", "type 'list' is not factoid"),
        ("5", "type 'summary' is not factoid"),
        ("6", "no usable alias"),
    ]


def test_own_csv() -> None:
    found = load_questions(f"csv:{DATA / 'own.csv'}")
    assert found.questions == load_questions(str(DATA / "own.csv")).questions
    assert found.questions == (
        Question("r1", 'Which colour is a ripe "Minnow" plum?', ("violet", "purple"), "fruit", "plum:minnow"),
        Question("r2", "Who invented the pencil sharpener of Quarrytown?", ("Bo Graphite", "B; Graphite"), "tool"),
        Question("r3", "Which king ruled the moon in 1700?", (), answerable=False),
        Question("r4", "A question over\ntwo lines?", ("yes",)),
    )
    assert found.judge(found.questions[2], "Nobody did; there was no such king").label == "true"
    assert found.judge(found.questions[2], "Henry").label == "false"
    with pytest.raises(UsageError, match="no alias that the ruler"):
        found.judge(found.questions[2], "Henry", ruler=RULER)
    with pytest.raises(UsageError, match="cannot judge"):
        found.judge(found.questions[0], "violet", ruler=FACTS_RULER)


def test_own_jsonl_and_parquet(tmp_path: Path) -> None:
    found = load_questions(str(DATA / "own.jsonl"))
    assert found.name == "jsonl" and found.identity["columns"] == [
        "aliases",
        "answer",
        "answers",
        "category",
        "question",
    ]
    assert sorted((q.aliases, q.category) for q in found.questions) == [
        (("7", "seven"), None),
        (("Mx. Hive",), "people"),
    ]
    assert len(found.skipped) == 1 and found.skipped[0][1] == "no usable alias"
    path = tmp_path / "own.parquet"
    pl.DataFrame({"id": [2, 1], "question": ["Two?", "One?"], "answers": [["two"], ["one", "1"]]}).write_parquet(path)
    table = load_questions(str(path))
    assert table.name == "parquet" and [(q.id, q.aliases) for q in table.questions] == [
        ("1", ("one", "1")),
        ("2", ("two",)),
    ]


def test_the_default_id_ignores_case_and_marks(tmp_path: Path) -> None:
    def only_id(text: str) -> str:
        path = tmp_path / "q.jsonl"
        path.write_text(json.dumps({"question": text, "answer": "x"}))
        return load_questions(str(path)).questions[0].id

    assert only_id("Who keeps the bees?") == only_id(" who keeps THE bees ")
    assert only_id("Who keeps the bees?") != only_id("Who keeps bears?")


def test_facts() -> None:
    found = load_questions("facts:capital, continent")
    assert {q.category for q in found.questions} == {"capital", "continent"}
    assert found.ruler == FACTS_RULER and found.identity["files"][0]["sha256"] == facts_digest()
    assert len(load_questions("facts").questions) == len(load_facts())
    by_id = {q.id: q for q in load_questions("facts").questions}
    assert by_id["capital:FR"].entity == "country:FR"
    for name, response, label in [
        ("capital:FR", "Paris", "true"),
        ("capital:FR", "London or Paris", "false"),
        ("capital:FR", "I don’t know", "uncertain"),
        ("capital:FR", "", "uncertain"),
        ("capital:FR", "Lyon", "false"),
        ("symbol:I", "I don't know", "uncertain"),
        ("symbol:I", "I", "true"),
        ("atomic_number:Al", "13.", "true"),
        ("atomic_number:Al", "26.98", "false"),
    ]:
        assert found.judge(by_id[name], response).label == label, (name, response)
    fact = by_id["capital:FR"]
    assert found.judge(fact, "London or Paris", ruler=RULER).label == "true"
    with pytest.raises(UsageError, match="did you mean 'capital'"):
        load_questions("facts:capitol")
    stranger = Question("q", "Who?", ("Me",))
    with pytest.raises(UsageError, match="embedded facts only"):
        found.judge(stranger, "Me")


@pytest.mark.parametrize("fact", load_facts()[::17], ids=lambda fact: fact.id)
def test_every_fact_accepts_its_own_answers(fact) -> None:
    found = load_questions(f"facts:{fact.category}")
    question = next(q for q in found.questions if q.id == fact.id)
    for alias in fact.aliases:
        verdict = found.judge(question, alias)
        assert (verdict.label, verdict.alias is not None) == ("true", True)


def test_the_limit_is_a_draw_by_id() -> None:
    full = load_questions("facts:capital")
    ten, twenty = (load_questions("facts:capital", limit=n, seed=3) for n in (10, 20))
    assert len(ten.questions) == 10 and set(ten.questions) < set(twenty.questions) < set(full.questions)
    assert [q.id for q in ten.questions] == sorted(q.id for q in ten.questions)
    assert ten.questions != full.questions[:10]
    assert load_questions("facts:capital", limit=10, seed=4).questions != ten.questions
    assert load_questions("facts:capital", limit=10**6).questions == full.questions
    assert ten.identity["questions_sha256"] == full.identity["questions_sha256"]
    assert (ten.identity["limit"], ten.identity["seed"], ten.identity["usable"]) == (10, 3, len(full.questions))
    assert digest(ten.identity)


def fails(spec: str, message: str, error: type[LevercheckError] = UsageError, **options) -> None:
    with pytest.raises(error, match=message) as raised:
        load_questions(spec, **options)
    assert "\n" not in str(raised.value)


BAD_FILES = [
    ("a.jsonl", b'{"question": "Who?"}', r"a\.jsonl:1: no column 'aliases', 'answer' or 'answers'"),
    ("a.jsonl", b'{"qestion": "Who?", "answer": "x"}', r"a\.jsonl:1: no column 'question' \(did you mean 'qestion'"),
    (
        "a.jsonl",
        b'{"question": "Who?", "answer": "x"}\n{"question": " ", "answer": "x"}',
        r"a\.jsonl:2: question is empty",
    ),
    ("a.jsonl", b'{"question": "?!", "answer": "x"}', r"a\.jsonl:1: question is '\?!', which has no letter"),
    ("a.jsonl", b'{"question": 5, "answer": "x"}', r"a\.jsonl:1: question is '5', expected text"),
    ("a.jsonl", b'{"question": "Who?", "answer": true}', r"a\.jsonl:1: answer is 'true', expected texts"),
    ("a.jsonl", b'{"question": "Who?", "answer": [["x"]]}', r"a\.jsonl:1: answer holds"),
    (
        "a.jsonl",
        b'{"question": "Who?", "answer": {"aliases": ["x"]}}',
        r"a\.jsonl:1: answer is an object: name the source",
    ),
    ("a.jsonl", b'{"question": "Who?", "answer": "[\'x\', \'y\']"}', r"a\.jsonl:1: answer is .* no JSON list"),
    ("a.jsonl", b'{"question": "Who?", "answer": "\\ud800"}', r"a\.jsonl:1: answer holds half a surrogate"),
    (
        "a.jsonl",
        b'{"question": "Who?", "answer": "x", "answerable": "perhaps"}',
        r"a\.jsonl:1: answerable is 'perhaps'",
    ),
    ("a.jsonl", b'{"question": "Who?", "answer": "x", "id": ""}', r"a\.jsonl:1: id is empty"),
    (
        "a.jsonl",
        b'{"id": 1, "question": "A?", "answer": "x"}\n\n{"id": "1", "question": "B?", "answer": "y"}',
        r"a\.jsonl:3: the id '1' was given before, in a\.jsonl:1",
    ),
    (
        "a.jsonl",
        b'{"question": "A?", "answer": "x"}\n{"question": "a", "answer": "y"}',
        r"a\.jsonl:2: the question was given before, in a\.jsonl:1",
    ),
    ("a.jsonl", b'{"question": "Who?", "answer": "x"}\nnot json\n', r"a\.jsonl:2: not a JSON object"),
    ("a.jsonl", b'{"question": "Who?", "answer": "x"}\n["list"]\n', r"a\.jsonl:2: expected a JSON object, found list"),
    ("a.jsonl", b'{"question": "Who?", "answer": "x"}\n{"question": "W\xff"}', r"a\.jsonl:2: not UTF-8"),
    ("a.csv", b"question,aliases\nWho?,x,y\n", r"a\.csv:2: 3 cells, expected 2"),
    ("a.csv", b"question,answer\nWho?,x\n,y\n", r"a\.csv:3: question is empty"),
    ("a.csv", b"question,note\nWho?,x\n", r"a\.csv:2: no column 'aliases'"),
    ("a.csv", b"question,answer\nWho?,[x]\n", r"a\.csv:2: answer is '\[x\]', which is no JSON list"),
    ("a.csv", b"question,answer\nA?,x\nB?,\xe9\n", r"a\.csv:3: not UTF-8"),
    ("a.csv", b"", r"a\.csv:1: no header"),
    ("a.parquet", b"not parquet at all", r"a\.parquet: not a readable parquet"),
]


@pytest.mark.parametrize(("name", "data", "message"), BAD_FILES)
def test_a_bad_file_is_named_with_its_row_and_field(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    fails(str(tmp_path / name), message)


BAD_BIOASQ = [
    (b"{", r"b\.json:1: not JSON"),
    (b'{"question": []}', r"b\.json: expected an object with a list 'questions'"),
    (b'{"questions": [3]}', r"b\.json: questions\[0\] is '3', expected an object"),
    (b'{"questions": [{"id": "1", "type": "factoid"}]}', r"b\.json: questions\[0\]: no column 'body'"),
    (b'{"questions": [{"id": "1", "type": "factoid", "body": "B?", "exact_answer": {"a": 1}}]}', "exact_answer is"),
    (b'{"questions": [{"id": "1", "body": "B?"}]}', r"questions\[0\]: no column 'type'"),
]


@pytest.mark.parametrize(("data", "message"), BAD_BIOASQ)
def test_a_bad_training_file(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "b.json").write_bytes(data)
    fails(f"bioasq:{tmp_path / 'b.json'}", message)


def test_bad_columns_of_a_corpus(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pl.DataFrame({"question_id": ["1"], "question": ["Who?"], "answer": ["x"]}).write_parquet(path)
    fails(f"triviaqa:{path}", r"t\.parquet:row 1: answer is 'x', expected an object with 'aliases'")
    pl.DataFrame({"question": ["Who?"], "answr": [["x"]]}).write_parquet(path)
    fails(f"nq-open:{path}", r"t\.parquet:row 1: no column 'answer'")
    pl.DataFrame({"text": ["Who?"]}).write_parquet(path)
    fails(f"nq-open:{path}", r"t\.parquet: no column 'question'")


BAD_SPECS = [
    ("triviqa:x.parquet", "unknown question source 'triviqa' .did you mean 'triviaqa'"),
    ("triviaqa:missing.parquet", "missing.parquet: no such file"),
    ("missing.csv", "missing.csv: no such file"),
    ("missing.json", "use .jsonl, .csv or .parquet, or name the source"),
    ("jsonl", "'jsonl' needs a file"),
    ("jsonl:", "nothing after the colon"),
    ("bioasq", "'bioasq:PATH.json'"),
    ("nonexist:many", "expected a number"),
    ("nonexist:0", "expected 1 to"),
    ("", "unknown question source"),
]


@pytest.mark.parametrize(("spec", "message"), BAD_SPECS)
def test_a_bad_spec(spec: str, message: str) -> None:
    fails(spec, message)


def test_other_bad_requests() -> None:
    fails(f"triviaqa:{DATA / 'own.csv'}", "reads .parquet or .jsonl")
    fails("facts", "no splits", split="train")
    fails("facts", "limit is 0", limit=0)
    fails("facts", "seed is -1", seed=-1)
    fails("nq-open", "no split 'test'", split="test")


def test_nothing_usable(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": "one", "question": "Who?", "aliases": ["?"]}\n')
    fails(str(path), r"q\.jsonl: none of 1 questions can be used \(first: one, no usable alias\)", NotEnoughDataError)
    path.write_text("")
    fails(str(path), "none of 0 questions", NotEnoughDataError)


def test_without_the_package_for_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    fails("triviaqa", r"pip install datasets.*rc\.nocontext/train-\*\.parquet.*'triviaqa:FOLDER'", MissingError)


class FakeTable:
    def __init__(self, rows: list[dict], commit: str | None) -> None:
        self.rows = rows
        self.column_names = list(rows[0])
        self.info = types.SimpleNamespace(download_checksums=None)
        self.cache_files = [{"filename": f"cache/nq_open/0.0.0/{commit}/nq_open-train.arrow"}] if commit else []

    def select_columns(self, names: list[str]) -> list[dict]:
        return [{name: row[name] for name in names} for row in self.rows]


def fake_hub(monkeypatch: pytest.MonkeyPatch, load) -> None:
    library = types.ModuleType("datasets")
    library.load_dataset = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)


def test_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    rows = [{"question": "who keeps the bees", "answer": ["Mx. Hive"], "extra": 1}]

    def load(name: str, config: str, split: str) -> FakeTable:
        asked.append((name, config, split))
        return FakeTable(rows, "ab" * 20)

    fake_hub(monkeypatch, load)
    found = load_questions("nq-open", split="validation")
    assert asked == [("google-research-datasets/nq_open", "nq_open", "validation")]
    assert [q.aliases for q in found.questions] == [("Mx. Hive",)]
    assert found.identity["dataset"] == "google-research-datasets/nq_open"
    assert (found.identity["revision"], found.identity["split"]) == ("ab" * 20, "validation")
    assert load_questions("nq-open").identity["split"] == "train"
    rows[0] = {"question": "who", "text": "x"}
    fails("nq-open", "nq_open: no column 'answer'")


def test_an_unreachable_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub\nmore lines")

    fake_hub(monkeypatch, load)
    fails("nq-open", r"cannot be downloaded \(Couldn't reach the Hub\).*'nq-open:FOLDER'", MissingError)


def test_a_plug_in_adds_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.SOURCES, "_found", dict(module.SOURCES._found))
    plug_in = types.ModuleType("plug_in_of_a_test")
    monkeypatch.setitem(sys.modules, "plug_in_of_a_test", plug_in)
    point = metadata.EntryPoint("riddles", "plug_in_of_a_test:read", module.SOURCES.group)
    broken = metadata.EntryPoint("broken", "no_such_module_of_a_test", module.SOURCES.group)
    listed = metadata.EntryPoints([point, broken])
    monkeypatch.setattr(metadata, "entry_points", lambda **wanted: listed.select(**wanted))

    def read(request: Request) -> Draft:
        repeated = [Question("1", "What has keys?", ("a piano",))] * (2 if request.argument == "twice" else 1)
        return Draft(repeated, [("2", "too hard")], {"edition": 1})

    plug_in.read = source("riddles")(read)  # type: ignore[attr-defined]
    assert "riddles" in source_names()
    found = load_questions("riddles:1")
    assert found.judge(found.questions[0], "A piano!").label == "true"
    assert found.identity["edition"] == 1 and found.skipped == (("2", "too hard"),)
    fails("riddles:twice", "make ids unique")
    fails("broken", "the plug-in 'no_such_module_of_a_test' of the question source 'broken' cannot be loaded")
    with pytest.raises(ValueError, match="registered twice"):
        source("riddles")(read)


def test_no_model_runtime_is_imported() -> None:
    code = (
        "import sys; from levercheck.benchmarks.questions import load_questions; load_questions('nonexist:3');"
        "bad = [m for m in sys.modules if m in ('torch', 'transformers', 'datasets') or m.startswith('levercheck.lm')];"
        "sys.exit(str(bad) if bad else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_the_rulers_of_the_sources() -> None:
    assert {name: module._source(name).ruler for name in source_names() if name in {"facts", "nonexist", "csv"}} == {
        "facts": FACTS_RULER,
        "nonexist": ABSTAIN_RULER,
        "csv": RULER,
    }
