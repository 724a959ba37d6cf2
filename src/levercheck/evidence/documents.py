"""Documents that a person writes: read safely, checked whole, every mistake one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from levercheck.errors import UsageError, nearest

M = TypeVar("M", bound=BaseModel)


class Model(BaseModel):
    """Frozen; an unknown key is an error, and so is a number that is not finite, which no digest or JSON could hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def read_yaml(path: Path, what: str) -> Any:
    """The plain data of a YAML file; a missing or malformed file is a UsageError."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, IsADirectoryError):
        raise UsageError(f"'{path}' does not exist: expected {what}") from None
    except RecursionError:
        raise UsageError(f"'{path.name}' is nested too deeply: expected {what}") from None
    except OSError as error:
        raise UsageError(f"'{path}' cannot be read ({error.strerror}): expected {what}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark is not None else ""
        raise UsageError(
            f"'{path.name}' is not valid YAML{where}: {getattr(error, 'problem', None) or error}"
        ) from None


def validated(model: type[M], data: Any, where: str) -> M:
    """`model` built from `data`; the first mistake is a UsageError naming the key, what was got and what fits."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = min(error.errors(), key=lambda mistake: mistake["type"] != "extra_forbidden")
        path = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            fields = _fields(model, first["loc"][:-1])
            inside = f" in {'.'.join(map(str, first['loc'][:-1]))}" if len(first["loc"]) > 1 else ""
            word = str(first["loc"][-1])
            raise UsageError(f"{where}: unknown key '{word}'{inside}{nearest(word, fields)}") from None
        if first["type"] == "missing":
            raise UsageError(f"{where}: the key '{path}' is missing") from None
        got = repr(first.get("input"))
        got = got if len(got) <= 60 else f"{got[:57]}..."
        what = f"{path} is {got}: " if path else ""
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{where}: {what}{message[0].lower()}{message[1:]}") from None


def _fields(model: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """Keys that fit at a place inside a document; those of `model` where the place cannot be followed."""
    current: Any = model
    for step in path:
        field = getattr(current, "model_fields", {}).get(step)
        annotation = field.annotation if field is not None else current
        options = [annotation, *getattr(annotation, "__args__", ())]
        found = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)
        current = found or current
    return list(getattr(current, "model_fields", model.model_fields))
