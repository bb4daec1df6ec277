"""Refuse configuration files that would have Hydra run, read or write something.

Who types a command is trusted; a file that a stranger sent, used with `-cd DIR -cn NAME`, is not:
Hydra would instantiate the `_target_` of its callbacks and hand a launcher's `setup` to a shell.
The named file may set in its node `hydra` what is listed here; every other file, reached through a
defaults list, an override or a sweep, may not touch `hydra`.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lymphoml.cli.config import CONF
from lymphoml.cli.overrides import check_overrides
from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import SETTINGS, leaves, parse_yaml, read_text

NAME = r"(?![.-])[A-Za-z0-9_.-]{1,100}"
FOLDER = r"(?!\.)(?:[\w.,=-]|\$\{name\})+"
FOLDERS = rf"{FOLDER}(?:/{FOLDER})*"
WORD = r"[\w.,:=+-]*"
ALLOWED = {  # key below `hydra`: what its value, as text, must match
    r"mode": r"RUN|MULTIRUN",
    r"verbose": r"True|False",
    r"output_subdir": r"null",
    r"job\.name": NAME,
    r"run\.dir|sweep\.dir|sweep\.subdir": FOLDERS,
    r"sweeper\.params\.(?!.*hydra)[^ ]+": r"[^$]*",
    r"launcher\.(n_jobs|timeout_min|cpus_per_task|gpus_per_node|tasks_per_node|mem_gb|nodes"
    r"|partition|qos|account|constraint|gres|max_num_timeout|array_parallelism|signal_delay_s"
    r"|wait|num_cpus|num_gpus|max_retries)":
        WORD,
}  # fmt: skip
DEFAULTS = {  # group below `hydra` that the named file may choose: the options
    "launcher": r"basic|joblib|ray|side_by_side|slurm|submitit_local|submitit_slurm",
    "job_logging": r"none|disabled",
    "hydra_logging": r"none|disabled",
}


def check_command_line(words: Sequence[str]) -> list[str]:
    """Return the words with the overrides first, as Hydra must have them.

    Raises InputError where a file that the command line names would run, read or write.
    """
    parsed = _parse(words)
    if parsed.config_path is not None:
        raise InputError("--config-path: it would replace conf/; add files with -cd DIR -cn NAME")
    if parsed.experimental_rerun is not None:
        raise InputError("--experimental-rerun: it unpickles a file, which runs it; use overrides")
    for word in parsed.overrides:
        if not word.isprintable():
            raise InputError(f"{word}: an override must be printable")
        key, _, value = word.partition("=")
        if key.lstrip("+") == "name":
            _check_names(value)
        if key.lstrip("+") == "hydra.searchpath":
            for folder in re.findall(r"file://([^],'\"]+)", value):
                _check_files(Path(folder), parsed)
    file: dict[str, Any] = {}
    if parsed.config_dir:
        file |= _check_files(Path(parsed.config_dir), parsed)
    check_overrides(parsed.overrides, file, parsed.multirun)
    options = [*words]
    for word in parsed.overrides:
        options.remove(word)
    return [*parsed.overrides, *options]


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """Return Hydra's options, as its own parser reads them."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--info", "-i", const="all", nargs="?")
    for flags in ("--config-path -cp", "--config-name -cn", "--config-dir -cd", "--cfg -c",
                  "--package -p", "--experimental-rerun"):  # fmt: skip
        parser.add_argument(*flags.split())
    for flags in ("--help -h", "--run -r", "--multirun -m", "--shell-completion -sc",
                  "--hydra-help", "--version", "--resolve"):  # fmt: skip
        parser.add_argument(*flags.split(), action="store_true")
    return parser.parse_intermixed_args(list(words))


def _check_files(folder: Path, parsed: argparse.Namespace) -> dict[str, Any]:
    """Check the named file of `folder` and every other that it or an override reaches; return it.

    {} where `folder` has no such file.
    """
    file: dict[str, Any] = {}
    if folder.resolve() == CONF.resolve():
        return file
    named = PurePosixPath((parsed.config_name or "train").removesuffix(".yaml") + ".yaml")
    choices = [_override(word) for word in parsed.overrides]
    if (folder / named).is_file():
        file = _read(folder / named)
        _check_hydra(folder / named, file.get("hydra"))
        params = ((file.get("hydra") or {}).get("sweeper") or {}).get("params") or {}
        for each in (file, params):
            if "name" in each:
                _check_names(str(each["name"]))
        choices += [_override(f"{key}={value}") for key, value in params.items()]
        choices += _defaults(folder, named, file, trusted=True)
    seen = {named}
    while choices:
        group, options = choices.pop()
        for path in set(_files(folder, group, options)) - seen:
            seen.add(path)
            content = _read(folder / path)
            _check_nested(folder, path, content, is_global="@_global_" in group)
            choices += _defaults(folder, path, content)
    return file


def _check_hydra(path: Path, hydra: Any) -> None:
    if not isinstance(hydra, dict | None):
        raise InputError(f"{path}: hydra is not a mapping")
    for key, value in leaves(hydra) if hydra else ():
        text = "null" if value is None else str(value)
        values = next((ALLOWED[keys] for keys in ALLOWED if re.fullmatch(keys, key)), None)
        if values is None or not re.fullmatch(values, text):
            raise _refusal(path, f"hydra.{key}")


def _check_nested(folder: Path, path: PurePosixPath, content: Any, is_global: bool) -> None:
    lines = read_text(folder / path, SETTINGS).splitlines()
    packages = " ".join(line for line in lines if "@pack" in line)
    for what, text in (("name", str(path)), ("package", packages)):
        if "hydra" in text:
            raise _refusal(folder / path, f"hydra by its {what}")
    for key in content:
        if str(key).startswith("hydra"):
            raise _refusal(folder / path, str(key))
    if "name" in content and (is_global or "_global_" in packages):
        _check_names(str(content["name"]))


def _defaults(
    folder: Path, path: PurePosixPath, content: dict[str, Any], trusted: bool = False
) -> list[tuple[str, str]]:
    """Return groups with packages, from the root or the file's, and options of a defaults list."""
    found = []
    for entry in content.get("defaults") or []:
        for key, value in entry.items() if isinstance(entry, dict) else [("", entry)]:
            text = f"{key} {value}"
            if "$" in text or ".." in text:
                raise InputError(f"{folder / path}: defaults: {text}: name an option of a group")
            if "hydra" in text:
                group = re.fullmatch(r"override /?hydra/(\w+)", str(key))
                options = DEFAULTS.get(group[1], "") if trusted and group else ""
                # A folder of that name could bring options of its own.
                if not re.fullmatch(options, str(value)) or (folder / "hydra").exists():
                    raise _refusal(folder / path, text.strip())
                continue
            group_name = str(key).split(" ")[-1].lstrip("/")
            found += [(group_name, str(value)), (f"{path.parent}/{group_name}", str(value))]
    return found


def _override(word: str) -> tuple[str, str]:
    key, _, value = word.lstrip("+~").partition("=")
    return key, value


def _files(folder: Path, group: str, options: str) -> Iterator[PurePosixPath]:
    """Return the files of these options; of all options where the text is more than names."""
    place = PurePosixPath(group.partition("@")[0])
    if re.fullmatch(r"[\w./, '\"\[\]-]*", options):
        for option in filter(None, re.split(r"[, '\"\[\]]+", options)):
            path = place / f"{option.lstrip('/').removesuffix('.yaml')}.yaml"
            if (folder / path).is_file():
                yield path
    elif (folder / place).is_dir():
        for found in (folder / place).rglob("*.yaml"):
            yield PurePosixPath(found.relative_to(folder))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = parse_yaml(read_text(path, SETTINGS))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not isinstance(content, dict | None):
        raise InputError(f"{path}: is not a mapping")
    return content or {}


def _check_names(value: str) -> None:
    for name in value.split(","):
        if not re.fullmatch(NAME, name):
            raise InputError(f"name={name}: it names a folder; use letters, digits, _ - and .")


def _refusal(path: Path, what: str) -> InputError:
    return InputError(
        f"{path}: it may not set {what}, which could run, read or write something; remove it, or "
        f"give it on the command line"
    )
