"""How a question is put to a model: through its chat template, or after solved examples for base-style models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from levercheck.benchmarks.prompts import PREFIX, question_prompt
from levercheck.errors import UsageError
from levercheck.evidence.canonical import digest
from levercheck.lm.model import LanguageModel

INSTRUCTION = "Reply with the answer alone and no explanation."

Style = Literal["chat", "examples"]


@dataclass(frozen=True)
class Prompting:
    """A prompt style. `shared` tokens open every sequence and belong to no region; `own` tokens are an item's."""

    style: Style
    instruction: str = INSTRUCTION  # follows the question in a chat turn

    @property
    def stop(self) -> str:
        """Text that ends an answer besides the model's end tokens; a chat turn ends itself."""
        return "\n" if self.style == "examples" else ""

    def shared(self, lm: LanguageModel) -> list[int]:
        """What opens every sequence alike: start tokens and solved examples, or the template's head of a chat."""
        return lm.start_ids + lm.encode(PREFIX) if self.style == "examples" else lm.chat_head

    def own(self, lm: LanguageModel, question: str) -> list[int]:
        """Tokens that ask `question` after the shared ones, up to where the answer starts."""
        if self.style == "examples":
            return lm.encode(question_prompt(question))
        ids, shared = lm.chat(self.messages(question)), lm.chat_head
        if ids[: len(shared)] != shared:
            raise UsageError("the model's chat template does not open every turn alike: use --prompt examples")
        return ids[len(shared) :]

    def response(self, lm: LanguageModel, question: str, text: str) -> list[int]:
        """Tokens of a response text as they would follow the item's prompt."""
        if self.style == "chat":
            return lm.encode(text)
        own, whole = self.own(lm, question), lm.encode(f"{question_prompt(question)} {text}")
        return whole[len(own) :] if whole[: len(own)] == own and len(whole) > len(own) else lm.encode(" " + text)

    def messages(self, question: str) -> list[dict[str, str]]:
        """The chat turn that asks `question`."""
        return [{"role": "user", "content": f"{question.strip()} {self.instruction}".strip()}]

    def identity(self) -> dict[str, Any]:
        """What a run records of it."""
        if self.style == "examples":
            return {"style": self.style, "examples": digest([PREFIX, question_prompt("{q}")])}
        return {"style": self.style, "instruction": self.instruction}


def prompting_for(lm: LanguageModel, style: str, instruction: str = INSTRUCTION) -> Prompting:
    """`chat`, `examples`, or `auto`: solved examples for embedded models and models without a chat template.

    The embedded models answer short facts far better after solved examples than in a chat turn.
    """
    has_template = getattr(lm.tokenizer, "chat_template", None) is not None
    if style == "auto":
        style = "chat" if has_template and not lm.name.startswith("embedded:") else "examples"
    if style == "chat" and not has_template:
        raise UsageError(f"'{lm.name}' has no chat template, which --prompt chat needs: use --prompt examples")
    if style == "chat":
        return Prompting("chat", instruction)
    if style == "examples":
        return Prompting("examples")
    raise UsageError(f"prompt style '{style}' is unknown: use auto, chat or examples")


def from_identity(identity: dict[str, Any]) -> Prompting:
    """The prompting that a run recorded; other solved examples than this version's are a UsageError."""
    style = identity["style"]
    found = Prompting(style, identity.get("instruction", INSTRUCTION))
    if found.identity() != identity:
        raise UsageError("the answers were collected with other solved examples than this version has: collect again")
    return found


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences share at their start, leaving at least one of each."""
    shortest = min(len(s) for s in sequences)
    first = sequences[0]
    for position in range(shortest - 1):
        if any(s[position] != first[position] for s in sequences):
            return position
    return max(shortest - 1, 0)
