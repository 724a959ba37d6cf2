"""Questions that say the same thing in nearly the same words."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from levercheck.benchmarks.answers import normalise

RARE = 30
"""A near-duplicate pair shares a word that at most this many questions have."""


def near_duplicates(questions: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """Pairs (i, j, similarity) with i < j whose words overlap by at least `threshold`.

    The similarity is the Jaccard index of the normalised words, each weighted by log(N / frequency) + 0.1: words of a
    template ("what is the capital of") count little, names count much.
    """
    words = [frozenset(normalise(q).split()) for q in questions]
    where: dict[str, list[int]] = {}
    for i, own in enumerate(words):
        for word in own:
            where.setdefault(word, []).append(i)
    weight = {word: math.log(len(questions) / len(at)) + 0.1 for word, at in where.items()}
    candidates = {pair for word, at in where.items() if len(at) <= RARE for pair in itertools.combinations(at, 2)}
    found = []
    for i, j in sorted(candidates):
        union = sum(weight[w] for w in words[i] | words[j])
        similarity = sum(weight[w] for w in words[i] & words[j]) / union
        if similarity >= threshold:
            found.append((i, j, similarity))
    return found


def components(count: int, edges: Iterable[tuple[int, int]]) -> list[int]:
    """The smallest member of each element's connected component, as a list of `count`."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in edges:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return [root(i) for i in range(count)]
