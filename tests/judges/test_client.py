"""The client against a real server: what it sends, what it survives, what it never tells."""

from __future__ import annotations

import email.utils
import signal
import subprocess
import sys
import threading
import time

import pytest
from pydantic import ValidationError
from tests.judges.server import Completion, EndpointServer, answer, hang, raw, status, trickle, truncated

from levercheck.errors import MissingError, UsageError
from levercheck.judges.client import ChatClient, Endpoint
from levercheck.judges.reply import read_reply

KEY = "sk-very-secret-0123456789"
HELLO = [{"role": "user", "content": "What is the capital of France?"}]


def ask(client, **settings):
    return client.chat(HELLO, **{"temperature": 0.0, "max_tokens": 8, **settings})


def impatient(server, **settings):
    return ChatClient(server.endpoint(**{"timeout_s": 0.3, "attempts": 2, **settings}), backoff_s=0.01)


def test_a_plain_question_sends_what_was_asked_and_nothing_else(client, endpoint_server):
    reply = ask(client)
    assert (reply.text, reply.finish, reply.model) == ("Paris", "stop", "test-model-2026-01-01")
    assert reply.usage == {"prompt_tokens": 7, "completion_tokens": 3, "cached_tokens": 2}
    assert reply.tokens is None and reply.logprobs is None
    (request,) = endpoint_server.requests
    assert request.path == "/v1/chat/completions"
    assert request.body == {"model": "test-model", "messages": HELLO, "temperature": 0.0, "max_tokens": 8}
    assert "Authorization" not in request.headers


def test_optional_settings_are_sent_when_given(client, endpoint_server):
    reply = ask(client, top_p=0.9, top_k=50, seed=0, logprobs=True, schema={"type": "object"})
    assert (reply.tokens, reply.logprobs) == (["Par", "is"], [-0.5, -0.25])
    body = endpoint_server.requests[0].body
    assert (body["top_p"], body["top_k"], body["seed"], body["logprobs"]) == (0.9, 50, 0, True)
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


FAILURES = {
    "429 with Retry-After": [status(429, Retry_After=0)],
    "500 twice": [status(500), status(500, b"<html>down</html>")],
    "408, 409 and 503": [status(408), status(409), status(503)],
    "garbage": [raw(b"\x00\xff not json")],
    "an error under status 200": [raw(b'{"error": {"message": "upstream"}}')],
    "no choices": [raw(b'{"choices": []}')],
    "not a number": [raw(b'{"choices": [{"message": {"content": "x"}, "logprobs": {"content": [{"logprob": NaN}]}}]}')],
    "nested without end": [raw(b"[" * 200_000)],
    "a truncated body": [truncated()],
}


@pytest.mark.parametrize("script", FAILURES.values(), ids=FAILURES)
def test_what_may_pass_is_tried_again(script, client, endpoint_server):
    endpoint_server.script += script
    assert ask(client).text == "Paris"
    assert len(endpoint_server.requests) == len(script) + 1


def test_retry_after_is_honoured(client, endpoint_server):
    endpoint_server.script += [status(429, Retry_After=1)]
    start = time.monotonic()
    assert ask(client).text == "Paris"
    assert 0.95 < time.monotonic() - start < 3


@pytest.mark.parametrize("form", ["s", "date"])
def test_a_wait_beyond_patience_ends_at_once(form, client, endpoint_server):
    wait = "3600" if form == "s" else email.utils.formatdate(time.time() + 3600, usegmt=True)
    endpoint_server.script += [status(429, Retry_After=wait)]
    with pytest.raises(MissingError, match=r"HTTP 429, and asks to wait 3[56]\d\d s"):
        ask(client)
    assert len(endpoint_server.requests) == 1


@pytest.mark.parametrize("nonsense", ["soon", "-5", "", "nan", "1e9999", "Mon, 99 Foo"])
def test_an_unreadable_retry_after_is_ignored(nonsense, client, endpoint_server):
    endpoint_server.script += [status(503, Retry_After=nonsense)]
    assert ask(client).text == "Paris"


def test_after_the_last_attempt_the_error_names_the_model_and_no_address(endpoint_server):
    endpoint_server.script += [status(500)] * 3
    with impatient(endpoint_server, attempts=3) as client, pytest.raises(MissingError) as caught:
        ask(client)
    assert len(endpoint_server.requests) == 3
    shown = str(caught.value)
    assert "endpoint for model 'test-model' did not answer (HTTP 500)" in shown and "\n" not in shown
    assert "127.0.0.1" not in shown and "http:" not in shown
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("failure", [hang(), trickle()], ids=["silence", "a trickle"])
def test_no_answer_in_time(failure, endpoint_server):
    endpoint_server.script += [failure, failure]
    start = time.monotonic()
    with impatient(endpoint_server) as client, pytest.raises(MissingError, match=r"no (complete )?reply in 0\.3 s"):
        ask(client)
    assert time.monotonic() - start < 3


def test_nobody_listens():
    with EndpointServer(lambda asked: Completion("")) as server:
        endpoint = server.endpoint(attempts=2)
    with ChatClient(endpoint, backoff_s=0.01) as client, pytest.raises(MissingError, match="no connection"):
        ask(client)


def test_back_off_doubles_and_is_the_same_every_time(endpoint_server, monkeypatch):
    waits = []
    for _ in range(2):
        with ChatClient(endpoint_server.endpoint(attempts=5), backoff_s=2.0) as client:
            monkeypatch.setattr(client._closed, "wait", lambda seconds: waits.append(seconds) and False)
            endpoint_server.script += [status(500)] * 5
            with pytest.raises(MissingError):
                ask(client)
    assert waits[:4] == waits[4:]
    assert all(2.0**k <= wait <= 2.0 ** (k + 1) for k, wait in enumerate(waits[:4]))


# --- keys -------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(endpoint_server, monkeypatch):
    endpoint_server.key = KEY
    monkeypatch.setenv("LEVERCHECK_TEST_KEY", KEY)
    return endpoint_server


def test_the_key_is_sent_and_kept_nowhere(guarded, client):
    assert ask(client).text == "Paris"
    assert guarded.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(vars(client)) + repr(vars(client._http)) + repr(client.endpoint.identity())


def test_a_refused_key_is_one_line_without_the_key(guarded, client, monkeypatch):
    monkeypatch.setenv("LEVERCHECK_TEST_KEY", KEY + "x")
    with pytest.raises(MissingError, match="refuses the key in LEVERCHECK_TEST_KEY") as caught:
        ask(client)
    assert KEY not in str(caught.value) and len(guarded.requests) == 1


def test_a_server_that_repeats_the_key_is_not_quoted(guarded, client):
    for padding in ("", "x" * 185):  # the second would cut the key in two
        guarded.script += [status(400, {"message": f"{padding} bad key {KEY} at http://10.0.0.1/v1 \x1b[31m"})]
        with pytest.raises(UsageError) as caught:
            ask(client)
        assert KEY[:8] not in str(caught.value) and "10.0.0.1" not in str(caught.value)
        assert "\x1b" not in str(caught.value)


def test_a_missing_key_matters_only_to_a_server_that_wants_one(endpoint_server, client):
    assert ask(client).text == "Paris"
    endpoint_server.key = KEY
    with pytest.raises(MissingError, match="set LEVERCHECK_TEST_KEY"):
        ask(client)


def test_the_key_does_not_travel_in_clear(monkeypatch):
    monkeypatch.setenv("LEVERCHECK_TEST_KEY", KEY)
    sent = {}
    for url in ("http://10.1.2.3:8000", "http://judge.example", "https://judge.example", "http://[::1]:8000"):
        with ChatClient(Endpoint(url=url, model="m", key_variable="LEVERCHECK_TEST_KEY")) as client:
            sent[url] = "Authorization" in client._headers()
    assert sent == {
        "http://10.1.2.3:8000": False,
        "http://judge.example": False,
        "https://judge.example": True,
        "http://[::1]:8000": True,
    }


@pytest.mark.parametrize("key", ["two words", "tab\tbed", "clé", "a\nb"])
def test_an_unusable_key_is_named_by_its_variable(key, client, monkeypatch):
    monkeypatch.setenv("LEVERCHECK_TEST_KEY", key)
    with pytest.raises(MissingError, match="LEVERCHECK_TEST_KEY holds no usable key") as caught:
        ask(client)
    assert key not in str(caught.value)


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_redirects_are_not_followed(code, guarded, client):
    with EndpointServer(lambda asked: Completion("stolen")) as other:
        guarded.script += [status(code, Location=f"{other.url}/v1/chat/completions")]
        with pytest.raises(UsageError, match="redirects") as caught:
            ask(client)
        assert not other.requests and other.url not in str(caught.value)


# --- refusals ---------------------------------------------------------------------------------------------------


def test_an_unknown_model(endpoint_server):
    with impatient(endpoint_server, model="nonesuch") as client, pytest.raises(UsageError, match="'nonesuch'"):
        ask(client)
    assert len(endpoint_server.requests) == 1


REFUSALS = {
    "OpenAI": ({"message": "temperature is too high", "param": "temperature"}, "over 'temperature'.*too high"),
    "Ollama": (b'{"error": "temperature is too high"}', "HTTP 400.: temperature is too high"),
    "vLLM": (b'{"object": "error", "message": "temperature is too high", "code": 400}', "too high"),
    "FastAPI": (b'{"detail": [{"loc": ["body", "top_k"], "msg": "not an integer"}]}', "over 'top_k'.*not an integer"),
    "nothing": (b"", r"HTTP 400\)$"),
    "a list": (b"[1]", r"HTTP 400\)$"),
    "max_tokens beyond the context": ({"message": "max_tokens is too large: 9000", "param": "max_tokens"}, "too large"),
}


@pytest.mark.parametrize(("payload", "shown"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_request_says_why(payload, shown, client, endpoint_server):
    endpoint_server.script += [status(400, payload)]
    with pytest.raises(UsageError, match=shown):
        ask(client, top_k=4)
    assert len(endpoint_server.requests) == 1


@pytest.mark.parametrize("script", [status(402), status(429, {"code": "insufficient_quota"})], ids=["402", "429"])
def test_a_used_up_quota_is_not_asked_again(script, client, endpoint_server):
    endpoint_server.script += [script]
    with pytest.raises(MissingError, match="quota"):
        ask(client)
    assert len(endpoint_server.requests) == 1


def test_options_that_a_server_does_not_know_are_left_out_from_then_on(client, endpoint_server):
    newer = "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
    endpoint_server.script += [
        status(400, {"message": newer, "param": "max_tokens"}),
        status(400, {"message": "response_format json_schema is not supported"}),
        status(422, {"message": "unknown field", "param": "logprobs"}),
    ]
    for _ in range(2):
        assert ask(client, schema={"type": "object"}, logprobs=True, seed=3).text == "Paris"
    assert len(endpoint_server.requests) == 5
    for request in endpoint_server.requests[3:]:
        assert set(request.body) == {"model", "messages", "temperature", "seed", "max_completion_tokens"}
        assert request.body["max_completion_tokens"] == 8


# --- replies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("null", ""),
        ('[{"type": "text", "text": "Pa"}, {"type": "image"}, {"type": "text", "text": "ris"}]', "Paris"),
        (r'"half \ud83d a pair"', "half \ufffd a pair"),
        ('"\u6771\u4eac \U0001f600"', "東京 😀"),
    ],
)
def test_contents(content, text):
    assert read_reply(f'{{"choices": [{{"message": {{"content": {content}}}}}]}}'.encode()).text == text


@pytest.mark.parametrize("content", ["7", '{"a": 1}', "[1]", "true"])
def test_contents_that_are_no_text(content):
    assert read_reply(f'{{"choices": [{{"message": {{"content": {content}}}}}]}}'.encode()) is None


# --- the pool ---------------------------------------------------------------------------------------------------


def test_map_starts_in_order_and_yields_everything_once(client):
    started = []
    found = list(client.map(lambda i: started.append(i) or i * i, range(200)))
    assert sorted(found) == [(i, i * i) for i in range(200)]
    assert all(abs(i - position) <= 16 for position, i in enumerate(started))
    assert list(client.map(str, [])) == []


def test_map_asks_at_once_and_never_more_than_allowed(endpoint_server):
    lock, now, most = threading.Lock(), [0], [0]

    def complete(asked):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return Completion(asked["messages"][0]["content"])

    endpoint_server.complete = complete
    with ChatClient(endpoint_server.endpoint(concurrency=4)) as client:
        texts = dict(
            client.map(
                lambda i: client.chat([{"role": "user", "content": str(i)}], temperature=0, max_tokens=1).text,
                range(24),
            )
        )
    assert texts == {i: str(i) for i in range(24)}
    assert 2 <= most[0] <= 4


def test_map_yields_what_is_finished_before_it_fails(endpoint_server):
    def work(i):
        if i in (5, 6):
            raise UsageError(f"item {i}")
        time.sleep(0.02)
        return i

    with ChatClient(endpoint_server.endpoint(concurrency=3)) as client:
        found = []
        with pytest.raises(UsageError, match="item 5"):
            for index, _ in client.map(work, range(1000)):
                found.append(index)
    assert {0, 1, 2, 3, 4} <= set(found) and len(found) < 20


def test_leaving_map_early_starts_nothing_more(client):
    started = []
    for _ in client.map(lambda i: started.append(i) or time.sleep(0.01), range(10_000)):
        break
    time.sleep(0.1)
    count = len(started)
    time.sleep(0.1)
    assert len(started) == count < 200


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
@pytest.mark.parametrize("failure", [hang(), status(503, Retry_After=100)], ids=["waiting", "backing off"])
def test_an_interrupt_ends_the_program_at_once(failure, endpoint_server):
    endpoint_server.script += [failure] * 100
    program = f"""
from levercheck.judges.client import ChatClient, Endpoint
endpoint = Endpoint(url={endpoint_server.url!r}, model="test-model", key_variable="LEVERCHECK_TEST_KEY")
message = {{"role": "user", "content": "?"}}
with ChatClient(endpoint) as client:
    print("ready", flush=True)
    list(client.map(lambda i: client.chat([message], temperature=0, max_tokens=1), range(50)))
"""
    running = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert running.stdout.readline() == b"ready\n"
    limit = time.monotonic() + 20
    while len(endpoint_server.requests) < 8 and time.monotonic() < limit:
        time.sleep(0.02)
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, told = running.communicate(timeout=20)
    assert time.monotonic() - start < 5
    assert running.returncode != 0 and told.rstrip().endswith(b"KeyboardInterrupt")
    assert told.count(b"Traceback") <= 2  # the program's own, no thread's


def test_a_closed_client_asks_nothing(endpoint_server):
    client = ChatClient(endpoint_server.endpoint())
    client.close()
    with pytest.raises(MissingError, match="was stopped"):
        ask(client)
    assert not endpoint_server.requests


# --- endpoints --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://API.Example.com", "https://api.example.com/v1"),
        ("https://api.example.com/v1/", "https://api.example.com/v1"),
        ("https://api.example.com/v1/chat/completions", "https://api.example.com/v1"),
        ("https://api.example.com/openai", "https://api.example.com/openai/v1"),
        ("https://api.example.com/api/v1", "https://api.example.com/api/v1"),
        ("https://api.example.com/v1beta/openai/", "https://api.example.com/v1beta/openai"),
        (" http://localhost:11434 ", "http://localhost:11434/v1"),
    ],
)
def test_base_addresses(given, kept):
    assert Endpoint(url=given, model="m").url == kept


@pytest.mark.parametrize(
    "settings",
    [
        {"url": "api.example.com"},
        {"url": "ftp://api.example.com"},
        {"url": "https://"},
        {"url": f"https://user:{KEY}@api.example.com"},
        {"url": f"https://api.example.com/v1?key={KEY}"},
        {"url": "https://api.example.com:port"},
        {"key_variable": KEY},
        {"key_variable": "gsk_abcdef"},
        {"model": ""},
        {"attempts": 0},
        {"timeout_s": 0},
        {"concurrency": 0},
        {"api_key": KEY},
    ],
)
def test_wrong_settings_are_refused_without_repeating_them(settings):
    with pytest.raises(ValidationError) as caught:
        Endpoint(**{"url": "https://api.example.com", "model": "m", **settings})
    assert KEY not in str(caught.value)


def test_identity_holds_no_host_no_key_and_no_path(guarded):
    one = Endpoint(url="https://secret-host.example", model="/data/models/judge-7b/")
    other = Endpoint(url="https://SECRET-HOST.example/v1/", model="/srv/judge-7b", concurrency=2)
    assert one.identity() == other.identity()
    assert one.identity()["model"] == "dir:judge-7b"
    assert Endpoint(url="https://x.example", model="owner/judge-7b").identity()["model"] == "owner/judge-7b"
    assert "secret-host" not in repr(one.identity())


def test_without_httpx_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingError, match=r"levercheck\[api\]"):
        ChatClient(Endpoint(url="https://api.example.com", model="m"))


def test_this_room_needs_no_model_runtime_and_no_http_library_to_be_imported():
    code = (
        "import sys, levercheck.judges.verdict, levercheck.judges.extract, levercheck.judges.sampler\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'httpx', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_scripted_answer_is_an_answer(client, endpoint_server):
    endpoint_server.script += [answer("Lyon")]
    assert ask(client).text == "Lyon"
