"""The mapping file of `levercheck import`: where somebody else's tables keep what a row needs."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from levercheck.errors import UsageError, nearest
from levercheck.evidence.row_schema import BY_NAME, REQUIRED, nearest_column

VERSION: Literal["levercheck.mapping/v1"] = "levercheck.mapping/v1"
RESPONSE = "response"
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
MAPPING_BYTES = 1 << 20

Scalar = bool | int | float | str


class Strict(BaseModel):
    """A part of the mapping: unknown keys are errors, nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Source(Strict):
    """Where one of our columns comes from: a foreign column, with an optional translation of its values."""

    from_: Annotated[str, Field(alias="from", min_length=1)]
    values: dict[Scalar, Scalar | None] | None = None


class Dose(Strict):
    """How the dose is known: from the file name, from a column, or from both, which must then agree."""

    file_name: str | None = None
    column: str | None = None

    @model_validator(mode="after")
    def _some(self) -> Dose:
        if self.file_name is None and self.column is None:
            raise ValueError("a dose needs 'file_name' (such as alpha_{dose}.jsonl), 'column', or both")
        if self.file_name is not None and self.file_name.count("{dose}") != 1:
            raise ValueError("'file_name' needs {dose} once, such as alpha_{dose}.jsonl")
        return self

    def text_in(self, name: str) -> str | None:
        """What stands at {dose} in a file's name; None when the name does not follow the pattern."""
        before, _, after = (self.file_name or "").partition("{dose}")
        found = re.fullmatch(re.escape(before) + r"(.+)" + re.escape(after), name)
        return found.group(1) if found else None


class Table(Strict):
    """One set of files that are read the same way."""

    files: Annotated[str, Field(min_length=1)]
    format: Literal["jsonl", "csv", "parquet"] | None = None
    dose: Dose | None = None
    columns: dict[str, Source]
    constants: dict[str, Scalar] = {}

    @field_validator("files")
    @classmethod
    def _inside(cls, value: str) -> str:
        path = PurePosixPath(value)
        if path.is_absolute() or ".." in path.parts or "\\" in value or re.match(r"[A-Za-z]:", value):
            raise ValueError("must be a pattern inside the rows folder, without '..' or a leading '/'")
        return value

    @field_validator("columns", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: {"from": v} if isinstance(v, str) else v for k, v in value.items()}
        return value

    @model_validator(mode="after")
    def _complete(self) -> Table:
        for name in [*self.columns, *self.constants]:
            if name not in BY_NAME and not (name == RESPONSE and name in self.columns):
                raise ValueError(f"'{name}' is not a column of rows v1{nearest_column(name)}")
        twice = sorted(set(self.columns) & set(self.constants))
        if twice:
            raise ValueError(f"{', '.join(twice)} cannot be both a column and a constant")
        known = {*self.columns, *self.constants}
        absent = [name for name in REQUIRED if name not in known]
        if absent:
            raise ValueError(f"no column and no constant for {', '.join(absent)}")
        if "item_id" in self.constants:
            raise ValueError("item_id must come from a column")
        if self.dose is not None and "alpha" in known:
            raise ValueError("alpha is given by 'dose': remove it from columns and constants")
        if self.dose is None and "alpha" not in known:
            raise ValueError("no dose: give 'dose', or alpha as a column or a constant")
        return self

    def format_of(self, path: Path) -> str:
        """The format stated, or the one the file's suffix stands for."""
        if self.format:
            return self.format
        if path.suffix.lower() not in SUFFIXES:
            raise UsageError(f"{path.name}: cannot tell the format, expected {', '.join(SUFFIXES)}: give 'format'")
        return SUFFIXES[path.suffix.lower()]


class Mapping(Strict):
    """The whole file."""

    version: Literal["levercheck.mapping/v1"] = VERSION
    tables: Annotated[list[Table], Field(min_length=1)]


class _Loader(yaml.SafeLoader):
    """safe_load that refuses a key given twice: YAML would silently keep the last one."""


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, bool | int | float | str):
            raise yaml.YAMLError(f"a key in line {key_node.start_mark.line + 1} is not plain text")
        if key in seen:
            raise yaml.YAMLError(f"key '{key}' is given twice, the second time in line {key_node.start_mark.line + 1}")
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _unique_mapping)


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file; every mistake is one line that says where it is."""
    if not path.is_file():
        raise UsageError(f"there is no mapping file '{path}'")
    if path.stat().st_size > MAPPING_BYTES:
        raise UsageError(f"{path.name} is larger than {MAPPING_BYTES} bytes: this is not a mapping file")
    try:
        data = yaml.load(path.read_text("utf-8"), Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path.name} must hold 'tables:', found {type(data).__name__}")
    try:
        return Mapping.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{path.name}: {_first(error)}") from None


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False)
    one = found[0]
    where = ".".join(str(part) for part in one["loc"])
    text = one["msg"].removeprefix("Value error, ")
    if one["type"] == "extra_forbidden":
        fields = {**Mapping.model_fields, **Table.model_fields, **Dose.model_fields}
        text = f"unknown key{nearest(str(one['loc'][-1]), [*fields, 'from', 'values'])}"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{where}: {text}{more}" if where else f"{text}{more}"
