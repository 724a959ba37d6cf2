"""One forward pass in two parts: the layers below a first intervened one once per prompt, the rest once per row.

Works on any decoder whose layers hand on one hidden state: the lower part is an ordinary pass that stops before layer
`first`; the upper part is an ordinary pass in which the lower layers hand on what is already known.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from levercheck.lm.model import LanguageModel
from levercheck.lm.sites import decoder_layers


class _Stop(Exception):
    pass


def lower(lm: LanguageModel, first: int, **inputs: Any) -> torch.Tensor:
    """Run the layers below `first` (at least 1) and return the hidden state that enters it, [rows, positions, hidden].

    `inputs` are those of the decoder; a cache among them gets the keys and values of the lower layers.
    """
    _, layers = decoder_layers(lm.decoder)
    caught: list[torch.Tensor] = []

    def stop(_module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        caught.append(args[0] if args else kwargs["hidden_states"])
        raise _Stop

    handle = layers[first].register_forward_pre_hook(stop, with_kwargs=True)
    try:
        lm.decoder(**inputs)
    except _Stop:
        pass
    finally:
        handle.remove()
    return caught[0]


@contextmanager
def resumed(lm: LanguageModel, first: int, hidden: torch.Tensor) -> Iterator[None]:
    """Within the block, the layers below `first` hand on `hidden`, whatever they are given, and write to no cache."""
    _, layers = decoder_layers(lm.decoder)
    below = list(layers)[:first]

    def hand_on(*_: Any, **__: Any) -> torch.Tensor:
        return hidden

    try:
        for layer in below:
            layer.forward = hand_on
        yield
    finally:
        for layer in below:
            layer.__dict__.pop("forward", None)
