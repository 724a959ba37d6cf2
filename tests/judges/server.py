"""A real HTTP server that speaks the chat part of the OpenAI protocol, and fails as it is told to.

Each request takes the next entry of `script`, if there is one; else it is answered by `complete`. Everything that
arrives is kept in `requests`. Import it with `from tests.judges.server import EndpointServer, ...`, or use the fixtures
`endpoint_server` (scripted) and `model_server` (SmolLM2) of `tests/judges/conftest.py`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from levercheck.judges.client import Endpoint


@dataclass
class Completion:
    text: str | None
    tokens: list[str] | None = None
    logprobs: list[float] | None = None
    finish: str = "stop"


@dataclass
class Request:
    path: str
    headers: dict[str, str]
    body: dict


def body_of(completion, asked):
    choice = {"index": 0, "message": {"role": "assistant", "content": completion.text}}
    choice["finish_reason"] = completion.finish
    if asked.get("logprobs") and completion.tokens is not None:
        steps = zip(completion.tokens, completion.logprobs, strict=True)
        choice["logprobs"] = {"content": [{"token": t, "logprob": v, "top_logprobs": []} for t, v in steps]}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": f"{asked['model']}-2026-01-01",
        "choices": [choice],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}},
    }


def answer(completion):
    """A scripted answer: a Completion, or its text."""
    completion = completion if isinstance(completion, Completion) else Completion(completion)
    return lambda handler, asked: handler.send_json(200, body_of(completion, asked))


def status(code, payload=None, **headers):
    """An answer with this status; `payload` is its body, a dict is sent as the `error` of one."""
    payload = payload if isinstance(payload, bytes) else json.dumps({"error": payload or {}}).encode()
    named = {k.replace("_", "-"): str(v) for k, v in headers.items()}
    return lambda handler, asked: handler.send_bytes(code, payload, named)


def raw(payload):
    """Status 200 with these bytes as the body."""
    return lambda handler, asked: handler.send_bytes(200, payload)


def truncated():
    """Headers promise more than is sent, then the connection ends."""

    def respond(handler, asked):
        whole = json.dumps(body_of(Completion("never whole"), asked)).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(whole)))
        handler.end_headers()
        handler.wfile.write(whole[: len(whole) // 2])
        handler.close_connection = True

    return respond


def hang(seconds=30.0):
    """No answer for so long, or until the server is stopped."""
    return lambda handler, asked: handler.server.owner.stopped.wait(seconds) and None


def trickle(pause=0.05, seconds=30.0):
    """A body that never ends, a space at a time: no single read waits long."""

    def respond(handler, asked):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        for _ in range(int(seconds / pause)):
            handler.wfile.write(b" ")
            if handler.server.owner.stopped.wait(pause):
                return

    return respond


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        self._serve()

    def do_GET(self):  # what a followed redirect may turn into
        self._serve()

    def _serve(self):
        owner = self.server.owner
        asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        with owner.lock:
            owner.requests.append(Request(self.path, dict(self.headers), asked))
            respond = owner.script.pop(0) if owner.script else owner.respond
        try:
            respond(self, asked)
        except (BrokenPipeError, ConnectionResetError):  # the client gave up, as tests make it do
            self.close_connection = True

    def send_json(self, code, value):
        self.send_bytes(code, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send_bytes(self, code, payload, headers=None):
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


@dataclass
class EndpointServer:
    """Context manager. `key` None means that no key is asked for; `model` is the only one that is known."""

    complete: Callable[[dict], Completion]
    model: str = "test-model"
    key: str | None = None
    script: list = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self):
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.owner = self

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def endpoint(self, **settings):
        """An Endpoint for this server: short time limits, a key variable that nobody sets by accident."""
        defaults = {"url": self.url, "model": self.model, "key_variable": "LEVERCHECK_TEST_KEY", "timeout_s": 20}
        return Endpoint(**{**defaults, **settings})

    def respond(self, handler, asked):
        given = handler.headers.get("Authorization", "")
        if handler.path != "/v1/chat/completions":
            return handler.send_json(404, {"error": {"message": f"no such path: {handler.path}"}})
        if self.key is not None and given != f"Bearer {self.key}":
            return handler.send_json(401, {"error": {"message": f"Incorrect API key provided: {given}"}})
        if asked["model"] != self.model:
            return handler.send_json(404, {"error": {"message": f"The model {asked['model']} does not exist"}})
        return handler.send_json(200, body_of(self.complete(asked), asked))

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


def model_completion(lm, most_tokens=24):
    """`complete` for a loaded language model: its chat template, seeded draws, log-probabilities per token."""
    import torch

    from levercheck.lm.batches import SharedPrefix
    from levercheck.lm.sample import Sampling, sample_batch

    busy = threading.Lock()

    @torch.inference_mode()
    def own_logprobs(ids, chosen):
        logits = lm.model(torch.tensor([[*ids, *chosen]], device=lm.device), logits_to_keep=len(chosen) + 1).logits[0]
        return logits[:-1].float().log_softmax(-1)[range(len(chosen)), chosen].tolist()

    def complete(asked):
        prompt = lm.tokenizer.apply_chat_template(asked["messages"], add_generation_prompt=True, tokenize=False)
        ids, greedy = lm.encode(prompt), asked["temperature"] == 0
        sampling = Sampling(
            samples=1,
            temperature=asked["temperature"] or 1.0,
            top_k=1 if greedy else asked.get("top_k") or 10**6,
            top_p=asked.get("top_p") or 1.0,
            max_new_tokens=min(asked["max_tokens"], most_tokens),
            stop="\x00",
        )
        with busy:
            key = str(asked.get("seed", ""))
            drawn = sample_batch(lm, SharedPrefix(lm, []), [ids], [key], sampling, 0)[0][0]
            chosen = list(drawn.tokens)
            logprobs = own_logprobs(ids, chosen) if asked.get("logprobs") and chosen else []
        finish = "stop" if drawn.stopped else "length"
        return Completion(lm.decode(chosen), [lm.decode([t]) for t in chosen][: len(logprobs)], logprobs, finish)

    return complete
