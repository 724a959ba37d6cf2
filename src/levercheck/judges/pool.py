"""A bounded pool of threads whose failure or interruption loses nothing that was finished."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class _Outcome:
    """What a worker hands over; `index` None says that the worker has ended."""

    index: int | None = None
    result: Any = None
    error: BaseException | None = None


def run_threads(work: Callable[[T], R], items: Sequence[T], threads: int) -> Iterator[tuple[int, R]]:
    """Run `work` on `items` in up to `threads` threads; yields (index, result) as they finish.

    Items are started in order. After a failure no further item starts; those under way are finished and yielded, then
    the failure of the lowest index is raised. Leaving the loop early, or an interrupt, waits for nothing.
    """
    stop, lock, indices = threading.Event(), threading.Lock(), iter(range(len(items)))
    outcomes: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()

    def worker() -> None:
        while not stop.is_set():
            with lock:
                index = next(indices, None)
            if index is None:
                break
            try:
                outcomes.put(_Outcome(index, work(items[index])))
            except BaseException as error:  # raised in the caller's thread
                stop.set()
                outcomes.put(_Outcome(index, error=error))
        outcomes.put(_Outcome())

    running = min(threads, len(items))
    for _ in range(running):  # daemons: a program that is interrupted does not wait for them
        threading.Thread(target=worker, daemon=True).start()
    failures: dict[int, BaseException] = {}
    try:
        while running:
            outcome = _next(outcomes)
            if outcome.index is None:
                running -= 1
            elif outcome.error is not None:
                failures[outcome.index] = outcome.error
            else:
                yield outcome.index, outcome.result
    finally:
        stop.set()
    if failures:
        raise failures[min(failures)]


def _next(outcomes: queue.SimpleQueue[_Outcome]) -> _Outcome:
    """The next outcome, waiting in short steps: on some systems only they can be interrupted."""
    while True:
        try:
            return outcomes.get(timeout=0.5)
        except queue.Empty:
            continue
