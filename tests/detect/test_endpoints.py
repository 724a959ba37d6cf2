"""The stages through an endpoint: a real server on this machine, with a real model or scripted replies behind it."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")
pytest.importorskip("httpx", reason="needs levercheck[api]")

from tests.conftest import SilentReporter
from tests.judges.server import Completion, EndpointServer, model_completion, status

from levercheck.benchmarks.questions import load_questions
from levercheck.detect.endpoints import collect_from, extractor, judge_answers
from levercheck.detect.prompting import Prompting
from levercheck.detect.spans import spans
from levercheck.detect.workspace import workspace
from levercheck.errors import MissingError, UsageError
from levercheck.judges.client import ChatClient
from levercheck.judges.sampler import ChatSampling

QUESTIONS = load_questions("facts:capital", limit=12)
SAMPLING = ChatSampling(samples=2, max_new_tokens=12)
ANSWERS = {q.question: q.aliases[0] for q in QUESTIONS.questions}


def scripted(asked):
    """Right answers in a long sentence for every second question, one wrong city for the others; judges them too."""
    text = asked["messages"][-1]["content"]
    system = asked["messages"][0]["content"] if len(asked["messages"]) > 1 else ""
    question = next(q for q in ANSWERS if q in text)
    known = sorted(ANSWERS).index(question) % 2 == 0
    city = ANSWERS[question] if known else "Atlantis"
    if "verdict" in system:
        return Completion(json.dumps({"verdict": "correct" if known else "incorrect"}))
    if "Copy" in system:
        return Completion(json.dumps({"answer": city}))
    return Completion(f"As far as I can tell, and I looked it up twice, that city is called {city}.")


def sampled(ws, client):
    return collect_from(ws, client, QUESTIONS, prompting=Prompting("chat"), sampling=SAMPLING)


def test_a_real_model_behind_an_endpoint(smollm, tmp_path):
    with EndpointServer(model_completion(smollm)) as server, ChatClient(server.endpoint()) as client:
        with workspace(tmp_path / "a", SilentReporter(), create=True) as ws:
            rows = sampled(ws, client)
            assert rows.height == 24 and rows["text"].str.len_chars().min() > 0
            assert rows["tokens"].null_count() == 24
            asked = len(server.requests)
            assert sampled(ws, client).equals(rows)
            assert len(server.requests) == asked  # a finished stage asks nothing again
        with workspace(tmp_path / "b", SilentReporter(), create=True) as ws:
            assert sampled(ws, client).equals(rows)  # seeds are per item and sample
        for path in (tmp_path / "a").rglob("*.json"):
            assert "127.0.0.1" not in path.read_text()


def test_judge_and_extractor(smollm, tmp_path):
    with (
        EndpointServer(scripted) as server,
        ChatClient(server.endpoint()) as client,
        workspace(tmp_path / "ws", SilentReporter(), create=True) as ws,
    ):
        sampled(ws, client)
        verdicts = judge_answers(ws, client)
        assert verdicts["verdict"].value_counts().sort("verdict").rows() == [("false", 6), ("true", 6)]
        assert ws.results("verdicts")["distinct_answers"] == 12
        rows = spans(ws, smollm, extract=extractor(client), identity={"extractor": "test"})
        assert rows["method"].to_list() == ["extracted"] * 12
        assert rows["reencoded"].all()
        for row in rows.iter_rows(named=True):
            quoted = row["text"][row["char_start"] : row["char_stop"]]
            assert quoted in smollm.decode(row["tokens"][row["start"] : row["stop"]])
            assert (quoted == "Atlantis") == (row["label"] == "wrong")


def test_long_answers_without_an_extractor_are_rows_with_a_reason(smollm, tmp_path):
    with (
        EndpointServer(scripted) as server,
        ChatClient(server.endpoint()) as client,
        workspace(tmp_path / "ws", SilentReporter(), create=True) as ws,
    ):
        sampled(ws, client)
        rows = spans(ws, smollm)
        wrong = ws.results("spans")["per_label"]["wrong"]
        assert wrong["found"]["value"] == 0.0 and wrong["found"]["n"] == 6
        assert rows["reason"].str.contains("no extractor given").all()  # right answers get no span by their alias


def test_aliases_mark_long_right_answers_on_request(smollm, tmp_path):
    with (
        EndpointServer(scripted) as server,
        ChatClient(server.endpoint()) as client,
        workspace(tmp_path / "ws", SilentReporter(), create=True) as ws,
    ):
        sampled(ws, client)
        rows = spans(ws, smollm, aliases=True)
        assert set(rows.filter(rows["label"] == "right")["method"]) == {"alias"}
        assert rows.filter(rows["label"] == "wrong")["reason"].is_not_null().all()


def test_unanswerable_questions_keep_the_ruler_and_an_unfinished_judge_is_named(smollm, tmp_path):
    questions = load_questions("nonexist:12")
    known = {q.question: number % 2 == 0 for number, q in enumerate(questions.questions)}

    def reply(asked):
        text = asked["messages"][-1]["content"]
        assert len(asked["messages"]) == 1, "no judge may be asked about a question nobody can answer"
        return Completion("I do not know." if known[next(q for q in known if q in text)] else "In Atlantis.")

    with EndpointServer(reply) as server, ChatClient(server.endpoint()) as client:
        with workspace(tmp_path / "ws", SilentReporter(), create=True) as ws:
            collect_from(ws, client, questions, prompting=Prompting("chat"), sampling=SAMPLING)
            judged = judge_answers(ws, client)
            assert sorted(judged["verdict"].to_list()) == ["false"] * 6 + ["true"] * 6
        sidecar = tmp_path / "ws" / "verdicts" / "provenance.json"
        sidecar.write_text(sidecar.read_text().replace('"status": "complete"', '"status": "started"'))
        with (
            workspace(tmp_path / "ws", SilentReporter()) as ws,
            pytest.raises(MissingError, match="no finished verdicts: run 'levercheck collect'"),
        ):
            spans(ws, smollm)


def test_an_endpoint_that_dies_keeps_what_was_finished(tmp_path):
    questions = load_questions("facts:capital", limit=80)
    answers = {q.question: q.aliases[0] for q in questions.questions}

    def reply(asked):
        if len(server.requests) > 100:
            server.script.extend([status(401)] * 40)
        return Completion(next(a for q, a in answers.items() if q in asked["messages"][-1]["content"]))

    with EndpointServer(reply) as server, ChatClient(server.endpoint(), backoff_s=0.01) as client:
        with workspace(tmp_path / "ws", SilentReporter(), create=True) as ws:
            with pytest.raises((MissingError, UsageError)):
                collect_from(ws, client, questions, prompting=Prompting("chat"), sampling=SAMPLING)
            server.script.clear()
            before = len(server.requests)
            server.complete = lambda asked: Completion("Rome")
            rows = collect_from(ws, client, questions, prompting=Prompting("chat"), sampling=SAMPLING)
        assert rows.height == 160
        assert len(server.requests) - before < 160  # the first batches were not asked again
        assert (rows["text"] != "Rome").any()
