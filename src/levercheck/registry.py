"""One registry pattern: a decorator registers, an entry-point group lets other packages add theirs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module, metadata
from typing import Generic, TypeVar

from levercheck.errors import UsageError, nearest

T = TypeVar("T")


class Registry(Generic[T]):
    """Named things of one kind, e.g. operators. Plug-ins name a module by an entry point `name` of `group`; the module
    is imported when that name is first asked for and registers the thing with the same decorator.
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
        """The thing called `name`, or a UsageError with the nearest word."""
        if name not in self._found:
            entry = next((e for e in metadata.entry_points(group=self.group) if e.name == name), None)
            if entry is None:
                raise UsageError(f"{self.kind} '{name}' is unknown{nearest(name, self.names())}")
            try:
                import_module(entry.module)
            except ImportError as error:
                raise UsageError(f"{self.kind} '{name}' comes from '{entry.module}', which fails: {error}") from None
            if name not in self._found:
                raise UsageError(f"'{entry.module}' registers no {self.kind} '{name}': ask its authors")
        return self._found[name]
