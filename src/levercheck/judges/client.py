"""A small client of OpenAI-compatible chat endpoints: bounded, retried, and silent about keys and addresses.

The key is read from the environment for each request and kept nowhere. It goes to https addresses and to this machine
only, and redirects are never followed, so no other host can be handed it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PureWindowsPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from levercheck.errors import MissingError, UsageError
from levercheck.judges.pool import run_threads
from levercheck.judges.reply import Refusal, Reply, asked_wait, read_refusal, read_reply, refused_option, without

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
R = TypeVar("R")
Message = Mapping[str, str]

LONGEST_WAIT_S = 120.0
_FIELDS = frozenset({"messages", "temperature", "max_tokens", "top_p", "top_k", "seed"})
_LARGEST_REPLY = 1 << 24  # bytes; a reply beyond it is not an answer


class Endpoint(BaseModel):
    """Where a model answers. `key_variable` names the environment variable that holds the key, if one is needed."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str
    model: str = Field(min_length=1)
    key_variable: str = "OPENAI_API_KEY"
    timeout_s: float = Field(default=60.0, gt=0)
    attempts: int = Field(default=5, ge=1, le=20)
    concurrency: int = Field(default=8, ge=1, le=256)

    @field_validator("url")
    @classmethod
    def _base_url(cls, url: str) -> str:
        """Lower-case scheme and host, no trailing slash, `/v1` where the path names no version."""
        parts = urllib.parse.urlsplit(url.strip())
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("expected no user, password, query or fragment: keys belong in an environment variable")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:  # reading it checks it
            raise ValueError("expected the base address of an endpoint, such as https://HOST/v1")
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        if not re.search(r"/v\d", path):
            path += "/v1"
        return urllib.parse.urlunsplit((parts.scheme, parts.netloc.lower(), path, "", ""))

    @field_validator("key_variable")
    @classmethod
    def _name_of_a_variable(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            raise ValueError("expected the name of an environment variable in capitals, never the key itself")
        return name

    def identity(self) -> dict[str, Any]:
        """What may be recorded of the endpoint: model, protocol and a digest of the address; no host, no key."""
        return {
            "model": self.label,
            "api": "openai-chat",
            "url_sha256": hashlib.sha256(self.url.encode()).hexdigest(),
        }

    @property
    def label(self) -> str:
        """The model's name as files and messages may state it: of a path on the server only the last part."""
        is_path = re.match(r"[/~.\\]|[A-Za-z]:[/\\]", self.model)
        return f"dir:{PureWindowsPath(self.model).name}" if is_path else self.model  # parts at / and \\ alike

    @property
    def is_local(self) -> bool:
        """Whether the endpoint runs on this machine."""
        host = urllib.parse.urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


class _Transient(Exception):
    """An attempt failed in a way that may pass; `wait` is what the server asked for, in seconds."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class ChatClient:
    """Asks one endpoint; use as a context manager. Safe to share between threads."""

    def __init__(self, endpoint: Endpoint, *, backoff_s: float = 1.0) -> None:
        """`backoff_s` is the longest wait before the second attempt; it doubles with each further one.

        Raises MissingError when httpx is not installed.
        """
        try:
            import httpx
        except ImportError:
            raise MissingError("asking an endpoint needs httpx: run \"pip install 'levercheck[api]'\"") from None
        self.endpoint = endpoint
        self.backoff_s = backoff_s
        self._unsupported: frozenset[str] = frozenset()  # optional fields this server refused once
        self._closed = threading.Event()
        self._http: httpx.Client = httpx.Client(
            timeout=httpx.Timeout(endpoint.timeout_s, pool=None),
            limits=httpx.Limits(max_connections=endpoint.concurrency),
            follow_redirects=False,
            trust_env=not endpoint.is_local,  # a proxy of the environment cannot reach this machine's own servers
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all waiting and close the connections; requests under way fail."""
        self._closed.set()
        self._http.close()

    def chat(
        self,
        messages: Sequence[Message],
        *,
        temperature: float,
        max_tokens: int,
        top_p: float | None = None,
        top_k: int | None = None,
        seed: int | None = None,
        logprobs: bool = False,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Ask once and return the answer, after retries where they can help.

        `schema` asks for JSON of that schema and `logprobs` for token log-probabilities; a server may ignore or refuse
        either, so a reply's text must still be parsed strictly. Nothing else that was asked for is ever dropped.

        Raises MissingError when the endpoint does not answer, wants a key or has no quota left, and UsageError when it
        knows no such model or refuses the request.
        """
        body: dict[str, Any] = {
            "model": self.endpoint.model,
            "messages": [dict(m) for m in messages],
            "temperature": temperature,
            "max_tokens": max_tokens,
        }
        body |= {k: v for k, v in {"top_p": top_p, "top_k": top_k, "seed": seed}.items() if v is not None}
        if logprobs:
            body["logprobs"] = True
        if schema is not None:
            wanted = {"name": "reply", "schema": dict(schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": wanted}
        reason = ""
        for attempt in range(self.endpoint.attempts):
            try:
                return self._ask(body)
            except _Transient as error:
                reason = str(error)
                if error.wait > LONGEST_WAIT_S:
                    reason += f", and asks to wait {error.wait:.0f} s"
                    break
                if attempt + 1 < self.endpoint.attempts:
                    self._pause(body, attempt, error.wait)
        raise MissingError(
            f"the endpoint for model '{self.endpoint.label}' did not answer ({reason}): check that it is running and "
            "run the same command again"
        )

    def map(self, work: Callable[[T], R], items: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Run `work` on `items` in `endpoint.concurrency` threads; yields (index, result) as they finish.

        What was under way when one fails is finished and yielded before the failure is raised (`pool.run_threads`).
        """
        return run_threads(work, items, self.endpoint.concurrency)

    def _ask(self, body: Mapping[str, Any]) -> Reply:
        """One attempt; a refused optional field is left out from then on and the request repeated at once."""
        while True:
            sent = without(body, self._unsupported)
            status, headers, content = self._post(sent)
            if status == 200:
                reply = read_reply(content)
                if reply is None:
                    raise _Transient("an unreadable reply")
                return reply
            refusal = read_refusal(content, self._key())
            option = refused_option(sent, refusal) if status in {400, 422} else None
            if option is None:
                raise self._failure(status, headers, refusal)
            self._unsupported |= {option}

    def _post(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of the answer, within the time limit as a whole."""
        import httpx

        if self._closed.is_set():
            raise _Transient("the client was closed")
        limit = time.monotonic() + self.endpoint.timeout_s
        content = bytearray()
        payload = json.dumps(body, allow_nan=False).encode()
        try:
            with self._http.stream(
                "POST", f"{self.endpoint.url}/chat/completions", content=payload, headers=self._headers()
            ) as response:
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > _LARGEST_REPLY:
                        raise _Transient("an endless reply")
                    if time.monotonic() > limit:
                        raise _Transient(f"no complete reply in {self.endpoint.timeout_s:g} s")
                return response.status_code, response.headers, bytes(content)
        except httpx.TimeoutException:
            raise _Transient(f"no reply in {self.endpoint.timeout_s:g} s") from None
        except httpx.RequestError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise UsageError(
                    f"the endpoint for model '{self.endpoint.label}' shows a certificate that is not trusted: correct "
                    "its address, or point SSL_CERT_FILE to the certificate of its issuer"
                ) from None
            refused = isinstance(error, httpx.ConnectError)
            raise _Transient("no connection" if refused else "the connection broke off") from None

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        key = self._key()
        return {**headers, "Authorization": f"Bearer {key}"} if key else headers

    def _key(self) -> str:
        """The key, or nothing where there is none or where it would travel in clear."""
        key = os.environ.get(self.endpoint.key_variable, "").strip()
        if not re.fullmatch(r"[!-~]*", key):
            raise MissingError(
                f"{self.endpoint.key_variable} holds no usable key: expected one word of plain characters"
            )
        return key if self.endpoint.is_local or self.endpoint.url.startswith("https:") else ""

    def _failure(self, status: int, headers: Mapping[str, str], refusal: Refusal) -> Exception:
        name, variable = f"the endpoint for model '{self.endpoint.label}'", self.endpoint.key_variable
        if status in {401, 403}:
            if self._key():
                return MissingError(
                    f"{name} refuses the key in {variable} (HTTP {status}): check the key and its rights"
                )
            if os.environ.get(variable):
                return MissingError(f"{name} wants a key, which is not sent over plain http: use its https address")
            return MissingError(f"{name} wants a key (HTTP {status}): set {variable}")
        if status == 402 or refusal.code == "insufficient_quota":
            return MissingError(f"{name} reports that the quota is used up: top it up and run the same command again")
        if status in {408, 409, 429} or status >= 500:
            return _Transient(f"HTTP {status}", asked_wait(headers.get("retry-after", "")))
        if status == 404:
            return UsageError(f"{name} knows no such model, or its address is wrong (HTTP 404): check both")
        if 300 <= status < 400:
            return UsageError(f"{name} redirects (HTTP {status}), which is not followed: give its final address")
        about = f" over '{refusal.about}'" if refusal.about in _FIELDS else ""
        reason = f": {refusal.message}" if refusal.message else ""
        return UsageError(f"{name} refuses the request{about} (HTTP {status}){reason}")

    def _pause(self, body: Mapping[str, Any], attempt: int, asked: float) -> None:
        """Wait before the next attempt: exponential, with a jitter that the request itself fixes."""
        name = f"{attempt}\x00{json.dumps(body, sort_keys=True)}"
        jitter = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
        wait = self.backoff_s * 2**attempt * (1 + jitter) / 2
        if self._closed.wait(min(max(wait, asked), LONGEST_WAIT_S)):
            raise MissingError(f"asking model '{self.endpoint.label}' was stopped")
