"""What becomes of a response before and after its ruler: broken, silent, looping, cut."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from levercheck.benchmarks.base import Item, benchmark_names, find_benchmark
from levercheck.benchmarks.embedded import facts
from levercheck.benchmarks.outcomes import NO_VERDICT, Label, Outcome, Response, scored

VERDICTS = [label for label in get_args(Label) if label not in NO_VERDICT]


def outcome(response: Response, found: Outcome) -> Outcome:
    return scored("item", response, lambda _item, _response: found)[0]


@pytest.mark.parametrize("score", [0.0, 1.0])
@pytest.mark.parametrize("label", VERDICTS)
def test_a_cut_response_has_no_verdict_whichever_it_was(label: Label, score: float) -> None:
    """Good and bad ones alike: else every rate would rise with the share of cut responses."""
    found = Outcome(label, score, "A", "line", 0.5)
    assert outcome(Response("It is", "eos", 3), found) == found
    for cut in (Response("It is", "length", 3), Response("It is", "eos", 3, "It may be", "length")):
        assert cut.capped and outcome(cut, found) == Outcome("truncated", None, "A", "line")


@pytest.mark.parametrize("label", ["unparsed", "ambiguous"])
def test_what_was_not_found_yet_is_truncated_too(label: Label) -> None:
    assert outcome(Response("It is", "length", 3), Outcome(label, how="several")) == Outcome("truncated", how="several")


@pytest.mark.parametrize("label", VERDICTS)
def test_a_final_verdict_stands(label: Label) -> None:
    found = Outcome(label, 1.0, "A", "line", final=True)
    assert outcome(Response("It is", "length", 3), found) == found
    assert outcome(Response("It is", "eos", 3, "It may be", "length"), found) == found


def test_what_could_not_flip_stays_not_eligible() -> None:
    found = Outcome("not_eligible", chosen="Oslo", how="none")
    for stop in ("eos", "length"):  # whatever is said at the second turn
        assert outcome(Response("It is", stop, 3, "No", "eos"), found) == found
        cut = Response("It is", stop, 3, "No", "length")  # the first answer might have been right
        assert outcome(cut, found) == Outcome("truncated", chosen="Oslo", how="none")


@pytest.mark.parametrize(
    ("turns", "capped"),
    [
        (("eos", None), False),
        (("length", None), True),
        (("eos", "eos"), False),
        (("eos", "length"), True),
        (("length", "eos"), True),
    ],
)
def test_the_cap_cuts_either_turn(turns: tuple[str, str | None], capped: bool) -> None:
    assert Response("It is", turns[0], 3, None if turns[1] is None else "It", turns[1]).capped is capped


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("It is Oslo", "non_finite", Outcome("broken")),
        (" \n", "length", Outcome("empty")),
        ("I cannot do it. " * 30, "length", Outcome("degenerate", how="cycle")),
    ],
)
def test_numbers_silence_and_loops_come_before_any_ruler(text: str, stop: str, expected: Outcome) -> None:
    def refuse(item: Any, response: Response) -> Outcome:
        raise AssertionError(f"{item} was scored on {response}")

    found, shape = scored("item", Response(text, stop, 90), refuse)
    assert found == expected
    assert (shape.empty, shape.loop) == (expected.label == "empty", expected.label == "degenerate")


FACTS = {"aliases": ("Paris",), "options": {"A": "Paris", "B": "Rome"}, "key": "A", "check": "no-digit"}
SEVEN = "It is Paris. " * 7


@pytest.mark.parametrize("name", [name for name in benchmark_names() if find_benchmark(name).kind == "answer"])
def test_which_verdicts_are_final(name: str) -> None:
    """An answer of few tokens is what they hold, a premise is read in six sentences; nothing else is ever final."""
    score = find_benchmark(name).score
    assert score is not None
    item = Item(next(iter(facts())), "c", fields={"question": "Which town is it?"}, facts=FACTS)
    for text in ("Paris", "Rome", "I do not know.", SEVEN, SEVEN + "I do not know."):
        found = score(item, Response(text, "length", 9, "Paris", "eos"))
        assert found.final is (name == "facts-answers" or (name == "falseqa" and text.startswith(SEVEN)))
