"""Every operator by its published formula, written out by hand: raw hooks, one prompt at a time, no cache."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def pre_hook(module, change):
    """x -> change(x) on a module's input."""
    handle = module.register_forward_pre_hook(lambda _m, args: (change(args[0]), *args[1:]))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def post_hook(module, change):
    """y -> change(y) on a module's output, a tensor or the first of a tuple."""

    def hook(_m, _a, out):
        return (change(out[0]), *out[1:]) if isinstance(out, tuple) else change(out)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def inside(scope, prompt, length):
    """Positions of one sequence that a scope covers, by its words."""
    places = range(length)
    if scope == "all":
        return list(places)
    if scope == "prompt":
        return [p for p in places if p < prompt]
    after = [p for p in places if p >= prompt - 1]
    return after if scope == "decode" else after[: int(scope.removeprefix("first_"))]


def at(x, positions, change):
    """Change some positions of [1, positions, width]."""
    new = x.clone()
    new[:, positions] = change(x[:, positions])
    return new


@torch.inference_mode()
def generate(lm, prompt, new, edits, scope="all"):
    """Greedy tokens, the whole sequence computed again for every one; `edits(positions)` gives context managers."""
    ids = list(prompt)
    for _ in range(new):
        with ExitStack() as stack:
            for manager in edits(inside(scope, len(prompt), len(ids))):
                stack.enter_context(manager)
            logits = lm.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float()
        ids.append(int(logits.argmax()))
    return ids[len(prompt) :], logits
