"""Sections of the configuration: typed, with ranges; defaults stand in `conf/*.yaml` alone."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import getitem
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lymphoml.core.errors import InputError, quoted, unknown_key
from lymphoml.core.untrusted import is_safe_text, leaves

LONGEST_VALUE = 80  # characters of a value in a message
NAMES = {"None": "null", "True": "true", "False": "false"}  # as YAML writes them
KINDS = {  # pydantic's type of error, up to its last word: what is allowed
    "int": "a whole number", "float": "a number", "finite": "a finite number",
    "bool": "true or false", "string": "text", "list": "a list",
    "dict": "a mapping", "model": "a mapping",
}  # fmt: skip
LIMITS = {"greater_than_equal": ">= {ge:g}", "greater_than": "> {gt:g}",
          "less_than_equal": "<= {le:g}", "less_than": "< {lt:g}"}  # fmt: skip


def must(be: str, valid: Callable[[str], bool]) -> AfterValidator:
    """Refuse a text that is not `valid`, as one that must `be` so."""

    def check(text: str) -> str:
        if not valid(text):
            raise ValueError(f"must be {be}")
        return text

    return AfterValidator(check)


def _to_text(value: Any) -> str:
    if type(value) not in (str, int):
        raise ValueError("quote what YAML does not read as text, such as 'yes', 'no' and 'null'")
    return str(value)


# A name such as 2024 is text.
Text = Annotated[str, BeforeValidator(lambda v: str(v) if type(v) in (int, float) else v)]
AtLeastOne = Annotated[int, Field(ge=1, lt=2**31)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Cell = Annotated[str, BeforeValidator(_to_text)]
Category = Annotated[Cell, must("visible, and not begin with = + - @", is_safe_text)]
Heading = Annotated[Text, must("visible, and not begin with = + - @", is_safe_text)]


class Section(BaseModel):
    """A group of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    location: ClassVar[str] = ""  # of the group in the whole configuration

    @classmethod
    def read(cls, values: dict[str, Any]) -> Self:
        """Return the section of these values. Raises InputError, a line per problem."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise InputError(_problems(error, values, cls.location)) from None

    def replace(self, changes: Mapping[str, Any]) -> Self:
        """Return a copy with other values, keys such as `augment.flip`. Raises InputError."""
        values = self.to_dict()
        for key, value in changes.items():
            *sections, last = key.split(".")
            reduce(getitem, sections, values)[last] = value
        return self.read(values)

    def to_dict(self) -> dict[str, Any]:
        """Return dicts, lists and scalars, without keys that were never given."""
        return self.model_dump(exclude_unset=True)


def to_override(value: Any) -> str:
    """Return a value as the command line takes it; a mapping in quotes, for the shell."""
    if isinstance(value, dict):
        return "'" + json.dumps(value, separators=(",", ":")).replace('"', "") + "'"
    return NAMES.get(str(value), str(value))


def _problems(error: ValidationError, values: Any, path: str) -> list[str]:
    """Return one line per problem; what the members of a union allow is joined by `or`."""
    allowed: dict[str, list[str]] = {}
    lines: dict[str, str] = {}
    problems = error.errors(include_url=False)
    unknown = {_locate(each["loc"], values, path) for each in problems
               if each["type"] == "extra_forbidden"}  # fmt: skip
    known = [key for key, _ in leaves(values, path)
             if not any(f"{key}.".startswith(f"{each}.") for each in unknown)]  # fmt: skip
    for each in problems:
        key, found = _locate(each["loc"], values, path), each["input"]
        shown = f"{key}={_shown(found)}"
        match each["type"]:
            case "missing":
                lines[key] = f"{key}: is missing; give {key}=..."
            case "extra_forbidden":
                lines[key] = unknown_key(key, known)
            case "union_tag_not_found":
                lines[key] = f"{key}: has no {each['ctx']['discriminator']}"
            case "union_tag_invalid":
                tag, expected = each["ctx"]["tag"], each["ctx"]["expected_tags"]
                name = each["ctx"]["discriminator"].strip("'")
                lines[key] = f"{key}.{name}={tag}: must be one of {expected.replace(chr(39), '')}"
            case "value_error" if isinstance(found, dict):  # of several keys
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
        try:
            values = values[part]
        except (TypeError, LookupError):
            if part != location[-1] or not isinstance(values, dict) or part == "[key]":
                continue
        keys.append(str(part))
    return ".".join(keys)


def _shown(value: Any) -> str:
    text = to_override(value)
    return text if len(text) <= LONGEST_VALUE else quoted(text, LONGEST_VALUE)
