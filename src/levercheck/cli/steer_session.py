"""A steering session: what is in force, and what a line that was typed does."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from levercheck.errors import UsageError, nearest
from levercheck.interventions.receipts import RowReceipt
from levercheck.interventions.scopes import parse_scope
from levercheck.interventions.spec import BASELINE, Intervention, Treatment
from levercheck.lm.model import LanguageModel
from levercheck.sweep.stream import Growing, stream

COMMANDS = {
    "/dose": "/dose D        another dose (one per readout, in their order)",
    "/scope": "/scope S       positions: all, prompt, decode or first_N",
    "/max": "/max N         tokens per answer",
    "/chat": "/chat on|off   wrap prompts in the chat template",
    "/help": "/help          this list",
    "/quit": "/quit          leave (also Ctrl-D); Ctrl-C stops an answer",
}


@dataclass
class Session:
    """A model, its levers with their doses, and how prompts are put. `chat` None: where there is a template."""

    lm: LanguageModel
    levers: list[Intervention]
    doses: list[float]
    max_new_tokens: int
    chat: bool | None = None

    def __post_init__(self) -> None:
        self._set_doses(self.doses)
        templated = getattr(self.lm.tokenizer, "chat_template", None) is not None
        if self.chat and not templated:
            raise UsageError("the model has no chat template: leave --chat out")
        self.chat = templated if self.chat is None else self.chat

    @property
    def treatment(self) -> Treatment:
        """What the steered row undergoes."""
        return Treatment(tuple(zip(self.levers, self.doses, strict=True)))

    @property
    def heading(self) -> str:
        """What is in force, in one line."""
        parts = [
            f"{lever.operator} at {_places(lever)}, dose {dose:g}{'' if lever.unit == 'absolute' else ' ' + lever.unit}"
            + (" (the no-op)" if dose == lever.noop else "")
            + f", scope {lever.scope}"
            for lever, dose in zip(self.levers, self.doses, strict=True)
        ]
        return f"{'; '.join(parts)}; {'chat' if self.chat else 'plain'} prompts, at most {self.max_new_tokens} tokens"

    def answers(self, prompt: str) -> Iterator[tuple[Growing, ...]]:
        """The unsteered and the steered answer while they grow; a prompt that is too long is a UsageError."""
        lm = self.lm
        if any("\ud800" <= c <= "\udfff" for c in prompt):
            raise UsageError("the prompt is not UTF-8 text: type it again")
        tokens = lm.chat([{"role": "user", "content": prompt}]) if self.chat else lm.start_ids + lm.encode(prompt)
        room = lm.context
        if not tokens:
            raise UsageError("the prompt has no token: type some text")
        if room is not None and len(tokens) + self.max_new_tokens > room:
            raise UsageError(
                f"{len(tokens)} tokens of prompt and {self.max_new_tokens} of answer, the model has room for {room}: "
                "shorten the prompt or /max"
            )
        return stream(lm, tokens, [BASELINE, self.treatment], self.max_new_tokens)

    def command(self, line: str) -> str | None:
        """Carry out a line that begins with /; what to say, or None to leave. Mistakes are UsageErrors."""
        word, *values = line.split()
        if word not in COMMANDS:
            raise UsageError(f"command '{word}' is unknown{nearest(word, COMMANDS)}")
        if word == "/quit":
            return None
        if word == "/help":
            return "\n".join(COMMANDS.values())
        if word == "/dose":
            try:
                self._set_doses([float(value) for value in values])
            except ValueError:
                raise UsageError(f"'{' '.join(values)}' is no dose, expected numbers, e.g. /dose 3") from None
        elif len(values) != 1:
            raise UsageError(f"{word} needs one word: {COMMANDS[word]}")
        elif word == "/scope":
            scope = parse_scope(values[0])
            self.levers = [replace(lever, scope=scope) for lever in self.levers]
        elif word == "/max":
            if not values[0].isdecimal() or int(values[0]) < 1:
                raise UsageError(f"'{values[0]}' is no number of tokens, expected at least 1")
            self.max_new_tokens = int(values[0])
        else:
            if values[0] not in ("on", "off"):
                raise UsageError(f"'{values[0]}': expected on or off")
            if values[0] == "on" and getattr(self.lm.tokenizer, "chat_template", None) is None:
                raise UsageError("the model has no chat template: prompts stay plain")
            self.chat = values[0] == "on"
        return self.heading

    def report(self, prompt: str) -> dict[str, Any]:
        """Both answers as plain data."""
        *_, (plain, steered) = self.answers(prompt)
        levers = [
            {
                "operator": lever.operator,
                "dose": dose,
                "unit": lever.unit,
                "scope": str(lever.scope),
                "sites": [str(site) for site in lever.sites],
                "fingerprint": lever.fingerprint,
            }
            for lever, dose in zip(self.levers, self.doses, strict=True)
        ]
        rows = [_row("unsteered", plain), {**_row("steered", steered), "receipt": receipt_facts(steered.receipt)}]
        same = plain.tokens == steered.tokens
        return {"model": self.lm.identity, "prompt": prompt, "levers": levers, "rows": rows, "changed": not same}

    def _set_doses(self, doses: list[float]) -> None:
        if len(doses) != len(self.levers):
            raise UsageError(f"{len(doses)} doses for {len(self.levers)} levers: give one each")
        if not all(math.isfinite(dose) for dose in doses):
            raise UsageError(f"doses {doses}: expected finite numbers")
        self.doses = doses


def receipt_facts(receipt: RowReceipt | None) -> dict[str, Any] | None:
    """A receipt as plain data."""
    if receipt is None or receipt.relative_dose is None:
        return None
    positions = receipt.prompt + receipt.decode
    finite = math.isfinite(receipt.relative_dose)
    return {"relative_dose": receipt.relative_dose if finite else None, "positions": positions, "sites": receipt.sites}


def _places(lever: Intervention) -> str:
    sites = lever.sites
    return str(sites[0]) if len(sites) == 1 else f"{sites[0]} to {sites[-1]} ({len(sites)} sites)"


def _row(arm: str, answer: Growing) -> dict[str, Any]:
    return {"arm": arm, "text": answer.text, "tokens": len(answer.tokens), "stop_reason": answer.reason}
