"""What an OpenAI-compatible server sends back, read without trust, and what its refusals ask of us."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn


@dataclass(frozen=True)
class Reply:
    """One answer of an endpoint. `tokens` and `logprobs` are parallel, and None where the server gave none."""

    text: str
    finish: str | None = None
    tokens: list[str] | None = None
    logprobs: list[float] | None = None
    model: str | None = None  # the name the server gives itself, often a dated one
    usage: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """What a server says of a request it did not answer: fit for one line of an error, no addresses."""

    code: str = ""
    about: str = ""  # the field of the request that it names
    message: str = ""


def strict_json(text: str | bytes) -> Any:
    """Parse JSON; a repeated key, NaN, an infinity or nesting without end is a ValueError, as any damage is."""
    try:
        return json.loads(text, object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def json_field(text: str, name: str) -> Any:
    """The value of an object's only field `name`; ValueError when `text` is anything else.

    The object may stand alone in a Markdown fence, never within other words.
    """
    fenced = re.fullmatch(r"```(?:json)?[ \t]*\n(.*)\n?```", text.strip(), re.DOTALL | re.IGNORECASE)
    value = strict_json(fenced.group(1) if fenced else text)
    if not isinstance(value, dict) or set(value) != {name}:
        raise ValueError(f"expected an object with the one field '{name}'")
    return value[name]


def read_reply(content: bytes) -> Reply | None:
    """The first choice of a chat completion, or None when these bytes are not one."""
    try:
        data = strict_json(content)
        choice = data["choices"][0]
        tokens, logprobs = _token_logprobs(choice.get("logprobs"))
        return Reply(
            text=_well_formed(_text(choice["message"].get("content"))),
            finish=_word(choice.get("finish_reason")),
            tokens=tokens,
            logprobs=logprobs,
            model=_word(data.get("model")),
            usage=_counts(data.get("usage")),
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def read_refusal(content: bytes, secret: str = "") -> Refusal:
    """The reason in an error's body, in any of the shapes that servers use; `secret` is struck out of it."""
    try:
        data = strict_json(content)
    except ValueError:
        return Refusal()
    if not isinstance(data, dict):
        return Refusal()
    error = data.get("error", data.get("detail", data))
    if isinstance(error, list):  # one entry per field that is wrong
        error = error[0] if error else {}
    if isinstance(error, str):
        return Refusal(message=_one_line(error, secret))
    if not isinstance(error, dict):
        return Refusal()
    where = error.get("loc") or [error.get("param") or ""]
    about = str(where[-1]) if isinstance(where, list) else ""
    message = error.get("message") or error.get("msg") or ""
    return Refusal(*(_one_line(str(part), secret) for part in (error.get("code") or "", about, message)))


def refused_option(sent: Mapping[str, Any], refusal: Refusal) -> str | None:
    """The field of a refused request that can be done without or has a newer name, if one is to blame."""
    named = f"{refusal.about} {refusal.message}"
    if "max_tokens" in sent and "max_completion_tokens" in named:
        return "max_tokens"
    return next((option for option in ("response_format", "logprobs") if option in sent and option in named), None)


def without(body: Mapping[str, Any], unsupported: Iterable[str]) -> dict[str, Any]:
    """The request as a server takes it that refused these options; what decides the draw is never among them."""
    sent = dict(body)
    for option in unsupported:
        value = sent.pop(option, None)
        if option == "max_tokens":
            sent["max_completion_tokens"] = value
    return sent


def asked_wait(header: str) -> float:
    """Seconds of a Retry-After header, which holds a number or a date; 0 when it holds neither."""
    try:
        if re.fullmatch(r"\d+(\.\d+)?", header.strip()):
            return float(header)
        return max(email.utils.parsedate_to_datetime(header).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _text(content: Any) -> str:
    """A message's content: text, a list of text parts, or nothing (a refusal, or a cut before the answer began)."""
    if content is None:
        return ""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    if not isinstance(content, str):
        raise TypeError("content is no text")
    return content


def _token_logprobs(entry: Any) -> tuple[list[str] | None, list[float] | None]:
    steps = entry.get("content") if isinstance(entry, dict) else None
    if not steps:
        return None, None
    values = [float(step["logprob"]) for step in steps]
    if not all(math.isfinite(v) for v in values):
        return None, None
    return [_well_formed(str(step["token"])) for step in steps], values


def _counts(usage: Any) -> dict[str, int]:
    """Token counts by name, with those the provider had cached."""
    if not isinstance(usage, dict):
        return {}
    found = {k: usage.get(k) for k in ("prompt_tokens", "completion_tokens")}
    details = usage.get("prompt_tokens_details")
    found["cached_tokens"] = details.get("cached_tokens") if isinstance(details, dict) else None
    return {k: v for k, v in found.items() if isinstance(v, int)}


def _word(value: Any) -> str | None:
    return _well_formed(value) if isinstance(value, str) else None


def _well_formed(text: str) -> str:
    """Text that can be written as UTF-8: half surrogate pairs become replacement characters."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _one_line(text: str, secret: str) -> str:
    told = text.replace(secret, "***") if secret else text
    printable = "".join(c if c.isprintable() else " " for c in told)
    return " ".join(word for word in printable.split() if "://" not in word)[:200]


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
