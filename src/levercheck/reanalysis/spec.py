"""The analysis file: which estimates to make of which rows, written by a person, checked before any row is read."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, field_validator

from levercheck.errors import UsageError, nearest
from levercheck.evidence.documents import Model, read_yaml, validated

Filter = dict[str, JsonValue]
Stream = Literal["blocks", "serial"]
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)\}")


class Defaults(Model):
    """Settings of every estimate that does not state its own.

    `order` sorts items before they are resampled: `item` by the key, `file` by the `row_index` of the first arm's
    lowest dose, `table` by where they stand, or a list of columns (folds pooled in order: `[fold, item_id]`).
    """

    level: float = Field(default=0.95, gt=0, lt=1)
    seed: int = 42
    resamples: int = Field(default=10_000, ge=1)
    stream: Stream = "blocks"
    order: Literal["item", "file", "table"] | list[str] = "item"


class Measure(Model):
    """What is measured on a row: a column as it is, or a yes/no test of it.

    `same_as` compares with another column of the row. A missing cell stays missing unless the test is `absent`; a row
    whose `unless` column holds something (a judge's error message, true) counts as missing too.
    """

    column: str
    equals: JsonValue = None
    one_of: list[JsonValue] | None = None
    min: float | None = None
    max: float | None = None
    same_as: str | None = None
    absent: bool | None = None
    unless: str | None = None
    negate: bool = False


class EstimateSpec(Model):
    """One number to estimate (or a family of them, before `for_each` is expanded).

    `filter` keeps rows: column to value, list, null, `{min, max}` or `{not: value}`. `contrast` names two or more arms,
    each a further filter; the first is compared with the second. `key` identifies an item within one arm (and dose).
    `missing` says what a row without the measure counts as. `mixed` is the reason why rows of several rulers may be
    pooled in one arm; without it that is an error. `part` picks one number of an estimator that makes several.
    """

    id: str
    table: str
    estimator: str
    filter: Filter = Field(default={})
    contrast: dict[str, Filter] | None = None
    measure: str | Measure = "positive"
    key: list[str] = Field(default=["item_id"])
    dose: str = "alpha"
    clusters: str | None = None
    missing: Literal["error", "drop", "no", "yes"] = "error"
    pairing: Literal["strict", "complete", "independent"] = "strict"
    mixed: str | None = None
    parameters: dict[str, JsonValue] = Field(default={})
    part: str | None = None
    unit: str | None = None
    note: str | None = None
    level: float = Field(default=0.95, gt=0, lt=1)
    seed: int = 42
    resamples: int = Field(default=10_000, ge=1)
    stream: Stream = "blocks"
    order: Literal["item", "file", "table"] | list[str] = "item"

    @field_validator("missing", mode="before")
    @classmethod
    def _yes_or_no(cls, value: Any) -> Any:
        """YAML reads a bare no or yes as false or true."""
        return {False: "no", True: "yes"}[value] if isinstance(value, bool) else value

    @property
    def cluster_unit(self) -> str | None:
        """What a cluster is called: its column without `_id`."""
        return None if self.clusters is None else self.clusters.removesuffix("_id")

    def settings(self) -> dict[str, Any]:
        """Everything that decides the computation: what two parts of one estimator share."""
        return self.model_dump(mode="json", exclude={"id", "part", "note"})


class Analysis(Model):
    """A whole analysis file with every family expanded."""

    analysis: str
    estimates: list[EstimateSpec]
    not_expressible: dict[str, str] = Field(default={})


def read_analysis(path: Path) -> Analysis:
    """Read and expand an analysis file; every mistake is one line that names the estimate."""
    document = read_yaml(path, "an analysis file")
    return parse_analysis(document, path.name)


def parse_analysis(document: Any, name: str = "analysis") -> Analysis:
    """Check and expand an analysis given as plain data."""
    if not isinstance(document, dict):
        raise UsageError(f"'{name}' holds {type(document).__name__}, expected keys analysis and estimates")
    known = ("analysis", "defaults", "estimates", "not_expressible")
    for key in document:
        if key not in known:
            raise UsageError(f"'{name}' has the key '{key}'{nearest(str(key), known)}")
    blocks = document.get("estimates")
    if not isinstance(blocks, list) or not blocks:
        raise UsageError(f"'{name}' lists no estimates: expected `estimates:` with at least one block")
    defaults = validated(Defaults, document.get("defaults") or {}, "defaults").model_dump()
    expanded: list[EstimateSpec] = []
    for number, block in enumerate(blocks, 1):
        where = f"estimate {number}"
        if not isinstance(block, dict):
            raise UsageError(f"{where} holds {type(block).__name__}, expected keys such as id, table and estimator")
        where += f" ('{block['id']}')" if "id" in block else ""
        for item in _expand(block, where):
            expanded.append(validated(EstimateSpec, {**defaults, **item}, where))
    seen: set[str] = set()
    for estimate in expanded:
        if estimate.id in seen:
            raise UsageError(f"the id '{estimate.id}' is used twice: ids of estimates must differ")
        seen.add(estimate.id)
    rest = {"analysis": document.get("analysis"), "not_expressible": document.get("not_expressible") or {}}
    return validated(Analysis, {**rest, "estimates": expanded}, f"'{name}'")


def _expand(block: dict[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """One block per combination of the lists under `for_each`."""
    body = {key: value for key, value in block.items() if key != "for_each"}
    lists = block.get("for_each")
    if lists is None:
        yield body
        return
    if not isinstance(lists, dict) or not all(isinstance(values, list) and values for values in lists.values()):
        raise UsageError(f"{where}: for_each must map each placeholder to a list of values")
    for combination in itertools.product(*lists.values()):
        names: dict[str, Any] = {}
        for key, value in zip(lists, combination, strict=True):
            names[key] = value
            if isinstance(value, dict):
                names |= {f"{key}.{inner}": part for inner, part in value.items()}
        yield _fill(body, names, where)


def _fill(value: Any, names: dict[str, Any], where: str) -> Any:
    """Replace placeholders; a text that is nothing but one placeholder takes the value with its type."""
    if isinstance(value, dict):
        return {_fill(key, names, where): _fill(item, names, where) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, names, where) for item in value]
    if not isinstance(value, str):
        return value

    def look_up(found: re.Match[str]) -> Any:
        if found[1] not in names:
            raise UsageError(f"{where}: for_each has no '{found[1]}'{nearest(found[1], names)}")
        return names[found[1]]

    whole = _PLACEHOLDER.fullmatch(value)
    return look_up(whole) if whole else _PLACEHOLDER.sub(lambda found: str(look_up(found)), value)
