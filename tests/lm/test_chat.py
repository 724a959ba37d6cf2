"""The head of a chat: what opens every turn alike, and only that."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs levercheck[lm]")

from levercheck.detect.prompting import Prompting


@pytest.mark.parametrize("question", ["What is 2+2?", "中国的首都?", "“Quoted” first", "7 or 8?"])
def test_head_and_own_tokens_make_the_whole_turn(smollm, question):
    prompting = Prompting("chat")
    whole = smollm.chat(prompting.messages(question))
    assert [*prompting.shared(smollm), *prompting.own(smollm, question)] == whole
    assert question not in smollm.decode(smollm.chat_head)
    own = smollm.decode(prompting.own(smollm, question))
    assert own.startswith(question) and "system" not in own
