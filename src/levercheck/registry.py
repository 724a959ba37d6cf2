"""One registry pattern: a decorator registers, an entry-point group lets other packages add theirs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from typing import Generic, TypeVar

from levercheck.errors import UsageError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind, e.g. operators.

    A plug-in names a module by an entry point `name` of `group`; the module is loaded when that name is first asked
    for, and registers the thing with the same decorator.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind, self.group = kind, group
        self._found: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator; a name that is taken is a ValueError."""

        def add(thing: T) -> T:
            if name in self._found:
                raise ValueError(f"the {self.kind} '{name}' is registered twice")
            self._found[name] = thing
            return thing

        return add

    def names(self) -> list[str]:
        """Every name, plug-ins included."""
        return sorted({*self._found, *(entry.name for entry in metadata.entry_points(group=self.group))})

    def find(self, name: str) -> T:
        """The thing called `name`, or a UsageError with the nearest word or what is wrong with its plug-in."""
        entry = next((e for e in metadata.entry_points(group=self.group) if e.name == name), None)
        if name not in self._found and entry is not None:
            try:
                entry.load()
            except Exception as error:
                raise UsageError(
                    f"the plug-in '{entry.value}' of the {self.kind} '{name}' cannot be loaded: {error}"
                ) from None
        if name not in self._found:
            raise UsageError(f"unknown {self.kind} '{name}'{nearest(name, self.names())}")
        return self._found[name]
