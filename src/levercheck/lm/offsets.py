"""Where each token stands in the text it was decoded to, for any tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

REPLACEMENT = "\ufffd"  # what a decoder writes for bytes that are not yet a character


def token_offsets(decode: Callable[[Sequence[int]], str], tokens: Sequence[int]) -> list[tuple[int, int]]:
    """Half-open character positions of every token in `decode(tokens)`, from the decodings of its prefixes.

    Every token that holds bytes of a character takes that character, so the positions of neighbours overlap where a
    character is cut. Decoders that strip a leading space do so for every prefix, so positions still agree.
    """
    whole = decode(tokens)
    offsets: list[tuple[int, int]] = []
    done = 0  # characters that are complete after the tokens so far
    for count in range(1, len(tokens) + 1):
        text = whole if count == len(tokens) else decode(tokens[:count])
        complete = max(done, _agreement(text.rstrip(REPLACEMENT) if count < len(tokens) else text, whole))
        begun = count < len(tokens) and text.endswith(REPLACEMENT)
        offsets.append((done, min(complete + begun, len(whole))))
        done = complete
    return offsets


def _agreement(text: str, whole: str) -> int:
    if whole.startswith(text):
        return len(text)
    return next((i for i, (a, b) in enumerate(zip(text, whole, strict=False)) if a != b), min(len(text), len(whole)))


def token_span(offsets: Sequence[tuple[int, int]], start: int, stop: int) -> tuple[int, int]:
    """Tokens that hold characters [start, stop), half-open; a token that straddles an end belongs to the span.

    Raises ValueError when no token holds any of the characters.
    """
    inside = [i for i, (a, b) in enumerate(offsets) if a < stop and b > start]
    if not inside:
        raise ValueError(f"no token holds characters {start}-{stop}")
    return inside[0], inside[-1] + 1
