"""The reference's tables, in Markdown, from what they describe: schema, conf/ and commands.

`fill` puts each in place of its comment in a page, such as `<!-- generated: commands -->`.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from functools import cache, reduce
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lymphoml.cli.config import CONF
from lymphoml.cli.main import COMMANDS
from lymphoml.cli.options import KINDS, REQUIRED
from lymphoml.core.section import to_override
from lymphoml.runs.settings import TrainConfig

SCHEMA = TrainConfig.model_json_schema()
INTERNAL = ("data.site_folds",)  # data.folds=site sets it
# Groups of keys or options, as the page has them; no schema lists the keys of OPEN.
GROUPS = ("experiment", "loss", "data", "data/features", "model", "model/encoder", "model/pooling",
          "model/fusion", "pretrain", "optim", "scheduler", "weight_averaging", "trainer",
          "logger", "resume", "hydra/launcher")  # fmt: skip
OPEN = ("model", "optim", "scheduler", "hydra")
TYPES = {"integer": "whole number", "number": "number", "boolean": "true or false",
         "string": "text", "null": "null", "array": "list", "object": "mapping"}  # fmt: skip
LIMITS = {"minimum": "≥ {:.10g}", "exclusiveMinimum": "> {:.10g}", "maximum": "≤ {:.10g}",
          "exclusiveMaximum": "< {:.10g}"}  # fmt: skip


class Key(NamedTuple):
    name: str
    default: Any
    comment: str
    topic: str  # the comment on a line of its own above this key, or one before it


def fill(app: Any, page: str, source: list[str]) -> None:
    """Replace each `<!-- generated: NAME -->` of a page: Sphinx's event source-read."""
    makers = {"configuration": configuration, "commands": commands}
    source[0] = re.sub(r"<!-- generated: (\w+) -->", lambda e: makers[e[1]](), source[0])


def commands() -> str:
    """Return a section for each command, with a table of its options."""
    sections = []
    for name, command in COMMANDS.items():
        rows = []
        for key in dataclasses.fields(command):
            kinds = [KINDS[each] for each in (key.type, *get_args(key.type)) if each in KINDS]
            kind = f"{key.name}.KEY=VALUE" if get_origin(key.type) is dict else [*kinds, "text"][0]
            default = key.default_factory() if callable(key.default_factory) else key.default
            empty = default in (None, {}, [])
            shown = "required" if default == REQUIRED else "" if empty else _value(default)
            rows.append([f"`{key.name}`", kind, shown, _text(key.metadata["help"])])
        table = _table(["option", "type", "default", "meaning"], rows)
        sections.append(f"## {name}\n\n{command.__doc__}\n\n{table}")
    return "\n".join(sections)


def configuration() -> str:
    """Return a section for each group of `train.py`'s keys, with tables of options and keys."""
    sections = ["## A run\n", *_typed("")]
    for group in GROUPS:
        nested = "/" in group and not group.startswith("hydra")
        sections.append(f"{'###' if nested else '##'} {group}\n")
        files = [each for each in sorted((CONF / group).glob("*.yaml")) if each.stem != "base"]
        if len(files) > 1:
            rows = [[f"`{group}={each.stem}`", _summary(each)] for each in files]
            sections.append(_table(["option", "meaning"], rows))
        if group.startswith(OPEN):
            sections.append(_untyped(files))
        elif group != "experiment":
            sections += _typed(group.replace("/", ".") + ".")
    return "\n".join(sections)


def _typed(group: str) -> Iterator[str]:
    """Yield a table of a group's keys for each topic of its file, in that file's order."""
    known = _keys()
    deeper = tuple(f"{each.replace('/', '.')}." for each in GROUPS if len(each) >= len(group))
    names = [name for name in schema_keys() if name.startswith(group)
             and not name.startswith(deeper) and (group or "." not in name)]  # fmt: skip
    names.sort(key=lambda name: (known[name].topic != "", [*known].index(name)))
    for topic, same in groupby(names, lambda name: known[name].topic):
        yield f"**{_text(topic)}**\n" if topic else ""
        rows = [[f"`{name}`", _kind(schema_keys()[name]), _value(_default(known[name])),
                 _text(known[name].comment)] for name in same]  # fmt: skip
        yield _table(["key", "type", "default", "meaning"], rows)


def _untyped(files: Sequence[Path]) -> str:
    """Return a table of the keys of these files, and which of them give which default."""
    found: dict[str, dict[str, list[str]]] = {}
    comments: dict[str, str] = {}
    for path in files:
        for key in read_keys(path):
            if key.name.endswith("_target_"):
                continue
            found.setdefault(key.name, {}).setdefault(_value(key.default), []).append(path.stem)
            comments[key.name] = comments.get(key.name) or key.comment
    rows = []
    for name, values in found.items():
        shown = [value if len(options) == len(files) else f"{value} ({', '.join(options)})"
                 for value, options in values.items()]  # fmt: skip
        rows.append([f"`{name}`", ", ".join(shown), _text(comments[name])])
    return _table(["key", "default", "meaning"], rows) if rows else ""


def schema_keys() -> dict[str, Any]:
    """Return the JSON schema of each key that is no section, dotted."""

    def walk(properties: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, each in properties.items():
            if "$ref" in each or name == "pretrain":
                yield from walk(_section(each), f"{prefix}{name}.")
            elif f"{prefix}{name}" not in (*INTERNAL, *OPEN):
                yield f"{prefix}{name}", each

    return dict(walk(SCHEMA["properties"], ""))


def _section(schema: Any) -> Any:
    """Return the keys of the section that a schema, or one of its members, refers to."""
    name = next(each["$ref"] for each in (schema, *schema.get("anyOf", ())) if "$ref" in each)
    return SCHEMA["$defs"][name.rpartition("/")[2]]["properties"]


def _kind(schema: Any) -> str:
    """Return type and range in words."""
    if "$ref" in schema:
        keys = (f"{name}: {_kind(each)}" for name, each in _section(schema).items())
        return f"{{{', '.join(keys)}}}"
    if members := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(map(_kind, members))
    if choices := schema.get("enum") or [schema[key] for key in schema if key == "const"]:
        return " or ".join(map(_value, choices))
    inner = schema.get("items") or schema.get("additionalProperties")
    of = f" of {_kind(inner)}" if isinstance(inner, dict) else ""
    limits = [form.format(schema[key]) for key, form in LIMITS.items()
              if key in schema and schema[key] != 2**31]  # fmt: skip
    return f"{TYPES[schema['type']]}{of} {', '.join(limits)}".strip()


def read_keys(path: Path) -> Iterator[Key]:
    """Yield each key of a file of conf/, dotted, with the comment behind it."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    topics = {number: line[2:] for number, line in enumerate(lines) if number
              and line.startswith("# ") and not lines[number - 1].startswith("#")}  # fmt: skip

    def walk(node: yaml.MappingNode, prefix: str) -> Iterator[Key]:
        for key, value in node.value:
            number, column = key.start_mark.line, key.start_mark.column
            if column == 0 and key.value in ("defaults", "hydra"):
                continue
            comment = [lines[number].partition(" # ")[2]]
            for line in lines[number + 1 :]:  # goes on below, further right than the key
                if not line.lstrip().startswith("#") or line.index("#") <= column:
                    break
                comment.append(line.strip(" #"))
            topic = next((topics[each] for each in range(number, 0, -1) if each in topics), "")
            default = yaml.SafeLoader("").construct_object(value, deep=True)
            yield Key(f"{prefix}{key.value}", default, " ".join(comment).strip(), topic)
            if isinstance(value, yaml.MappingNode) and not value.flow_style:
                yield from walk(value, f"{prefix}{key.value}.")

    if isinstance(node := yaml.compose(text), yaml.MappingNode):
        yield from walk(node, "".join(f"{each}." for each in path.parent.relative_to(CONF).parts))


@cache
def _keys() -> dict[str, Key]:
    """Return the keys of conf/, each from the first file that explains it."""
    files = sorted(CONF.rglob("*.yaml"), key=lambda e: (e.stem != "base", e.stem != "table", e))
    found = {"pretrain.encoder": Key("pretrain.encoder", None, "as model/encoder", "")}
    for path in files:
        for key in () if path.parent.name == "experiment" else read_keys(path):
            first = found.setdefault(key.name, key)
            found[key.name] = first._replace(comment=first.comment or key.comment)
    return found


@cache
def _composed() -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return OmegaConf.to_container(compose("train"), resolve=False)


def _default(key: Key) -> Any:
    """Return what `train.py` has without overrides, else what the option with this key has."""
    parts = key.name.split(".")
    return reduce(lambda section, part: section.get(part, key.default), parts, _composed())


def _summary(path: Path) -> str:
    """Return the comment that a file begins with, else that behind its first key."""
    lines = path.read_text(encoding="utf-8").removeprefix("# @package _global_\n").splitlines()
    head = [line[2:] for line in takewhile(lambda each: each.startswith("# "), lines)]
    return _text(" ".join(head) or lines[0].partition("# ")[2]) or f"`{lines[0].split()[-1]}`"


def _value(value: Any) -> str:
    return f"`{to_override(value)}`".replace("'", "") if value != "" else ""


def _text(comment: str) -> str:
    """Return plain text as Markdown, with links to pages that it names."""
    escaped = re.sub(r"(`[^`]*`)|([|*<\[\]_])", lambda e: e[1] or f"\\{e[2]}", comment)
    return re.sub(r"docs/(\w+)\.md", r"[\1](\1.md)", escaped)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
