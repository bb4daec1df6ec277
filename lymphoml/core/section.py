"""Sections of the configuration: typed, their ranges in the types, unknown keys refused.

Default values stand in `conf/*.yaml` alone; a class says what a key may hold.
"""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lymphoml.core.errors import InputError, quoted

LONGEST_VALUE = 80  # characters of a value in a message
NAMES = {"None": "null", "True": "true", "False": "false"}  # as YAML writes them
KINDS = {  # pydantic's type of error, up to its last word: what is allowed
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}
LIMITS = {"greater_than_equal": ">= {ge:g}", "greater_than": "> {gt:g}",
          "less_than_equal": "<= {le:g}", "less_than": "< {lt:g}"}  # fmt: skip


def _number_to_text(value: Any) -> Any:
    return str(value) if type(value) in (int, float) else value


Text = Annotated[str, BeforeValidator(_number_to_text)]  # a name such as 2024 is one
AtLeastOne = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A group of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    location: ClassVar[str] = ""  # of the group in the whole configuration

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return the section of these values. Raises InputError, a line per problem."""
        plain = to_plain(values)
        try:
            return cls.model_validate(plain)
        except ValidationError as error:
            raise InputError(_problems(error, plain, cls.location)) from None

    def replace(self, changes: Mapping[str, Any]) -> Self:
        """Return a copy with other values; `{"augment.flip": True}` reaches into a section.

        Raises InputError.
        """
        values = self.to_dict()
        for key, value in changes.items():
            *sections, last = key.split(".")
            inner = values
            for section in sections:
                inner = inner[section]
            inner[last] = value
        return self.read(values)

    def to_dict(self) -> dict[str, Any]:
        """Return dicts, lists and scalars, without keys that were never given."""
        return to_plain(self)

    # A section can also be read as a mapping.

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, key)
        except AttributeError:
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**self, **other}

    def get(self, key: str, default: Any = None) -> Any:
        return getattr(self, key, default)

    def keys(self) -> KeysView[str]:
        return self._given().keys()

    def items(self) -> ItemsView[str, Any]:
        return self._given().items()

    def _given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields
                if name in self.model_fields_set}  # fmt: skip


Mapping.register(Section)


def to_plain(value: Any) -> Any:
    """Return the value with sections as dicts."""
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value


def to_override(value: Any) -> str:
    """Return a value as the command line takes it."""
    return NAMES.get(str(value), str(value))


def _problems(error: ValidationError, values: Any, path: str) -> list[str]:
    """Return one line per problem; what the members of a union allow is joined by `or`."""
    allowed: dict[str, list[str]] = {}
    lines: dict[str, str] = {}
    for each in error.errors(include_url=False):
        key, found = _locate(each["loc"], values, path), each["input"]
        shown = f"{key}={_shown(found)}"
        match each["type"]:
            case "missing":
                lines[key] = f"{key}: is missing; give {key}=..."
            case "extra_forbidden":
                lines[key] = f"{key}: no such key"
            case "union_tag_not_found":
                lines[key] = f"{key}: has no {each['ctx']['discriminator']}"
            case "union_tag_invalid":
                tag, expected = each["ctx"]["tag"], each["ctx"]["expected_tags"]
                name = each["ctx"]["discriminator"].strip("'")
                lines[key] = f"{key}.{name}={tag}: must be one of {expected.replace(chr(39), '')}"
            case "value_error" if isinstance(found, Mapping):  # of several keys
                for line in str(each["ctx"]["error"]).split("\n"):
                    lines[line] = line
            case "value_error":
                lines[key] = f"{shown}: {each['ctx']['error']}"
            case _:
                allowed.setdefault(key, []).append(_allowed(each))
                lines[key] = f"{shown}: must be {' or '.join(dict.fromkeys(allowed[key]))}"
    return list(lines.values())


def _allowed(problem: Any) -> str:
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in LIMITS:
        return LIMITS[kind].format(**context)
    if kind == "literal_error":
        words = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        names = [to_override(word) for word in words]
        return names[0] if len(names) == 1 else f"one of {', '.join(names)}"
    return KINDS.get(kind.split("_")[0], problem["msg"])


def _locate(location: Sequence[int | str], values: Any, path: str) -> str:
    """Return the key, without the union members that pydantic names within a location."""
    keys = [path] if path else []
    for part in location:
        if _has(values, part):
            values = values[part]
        elif part != location[-1] or not isinstance(values, Mapping) or part == "[key]":
            continue
        keys.append(str(part))
    return ".".join(keys)


def _has(values: Any, part: int | str) -> bool:
    if isinstance(values, list):
        return isinstance(part, int) and part < len(values)
    return isinstance(values, Mapping) and part in values


def _shown(value: Any) -> str:
    text = to_override(to_plain(value))
    return text if len(text) <= LONGEST_VALUE else quoted(text, LONGEST_VALUE)
