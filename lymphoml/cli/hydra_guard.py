"""What a configuration file may make Hydra do: choose values and sweeps, never run or write.

Who types a command is trusted; a file that a stranger sent, used with `-cd DIR -cn NAME`, is not.
Hydra would instantiate the `_target_` of its callbacks, hand a launcher's `setup` to a shell and
set environment variables before any job of ours begins. So the composed `hydra` node is compared
with that of `conf/train.yaml` alone, and only what is listed here may differ, unless a word of the
command line names it.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource as Unchecked
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import OmegaConf

from lymphoml.cli.config import CONF
from lymphoml.core.errors import InputError
from lymphoml.core.untrusted import SETTINGS, check_yaml, read_text

MAY_DIFFER = re.compile(
    r"(mode|verbose|runtime\..*|overrides\..*|help\..*|hydra_help\..*|sweeper\.params.*"
    r"|job\.(name|config_name|override_dirname|id|num|config\..*)"
    r"|launcher\.(n_jobs|timeout_min|cpus_per_task|gpus_per_node|tasks_per_node|mem_gb|nodes"
    r"|partition|qos|account|constraint|gres|max_num_timeout|array_parallelism|signal_delay_s))"
)
LAUNCHERS = (
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
)
# What a launcher's own option sets without being asked to; any other value is refused.
USUAL: dict[str, Any] = {
    "backend": None, "prefer": "processes", "require": None, "verbose": 0, "timeout": None,
    "pre_dispatch": "2*n_jobs", "batch_size": "auto", "temp_folder": None, "max_nbytes": None,
    "mmap_mode": "r", "submitit_folder": "${hydra.sweep.dir}/.submitit/%j",
    "name": "${hydra.job.name}", "stderr_to_stdout": False, "comment": None, "exclude": None,
    "cpus_per_gpu": None, "gpus_per_task": None, "mem_per_gpu": None, "mem_per_cpu": None,
    "additional_parameters": {}, "setup": None,
}  # fmt: skip
FOLDERS = ("run.dir", "sweep.dir", "sweep.subdir")
FOLDER = r"(?!\.)(?:[\w.,=-]|\$\{name\})+"
NAME = re.compile(r"(?![.-])[A-Za-z0-9_.-]{1,100}")


class FileConfigSource(Unchecked):
    """Hydra's reader of configuration files, which looks at them before it reads them."""

    def load_config(self, config_path: str) -> ConfigResult:
        path = Path(self.path, self._normalize_file_name(config_path))
        try:
            check_yaml(read_text(path, SETTINGS))
        except FileNotFoundError:
            pass  # Hydra says what there is
        except (OSError, ValueError) as error:
            told = (error.strerror if isinstance(error, OSError) else None) or error
            raise InputError(f"{path}: {told}") from None
        loaded = super().load_config(config_path)
        # Hydra would import a package that it names, while it still composes.
        if not path.is_relative_to(CONF) and OmegaConf.select(loaded.config, "hydra.searchpath"):
            raise InputError(f"{path}: it may not set hydra.searchpath; remove it")
        return loaded


SourcesRegistry.instance().types["file"] = FileConfigSource  # before Hydra registers its own


def check_command_line(words: Sequence[str]) -> None:
    """Raises InputError where a file named on the command line would run, read or write."""
    parsed = get_args_parser().parse_args(list(words))
    if parsed.experimental_rerun is not None:
        raise InputError("--experimental-rerun: it unpickles a file, which runs it; give words")
    for word in parsed.overrides:
        if not word.isprintable():
            raise InputError(f"{word}: only what can be seen may stand in a word")
        key, _, value = word.partition("=")
        if key.lstrip("+") == "name":
            for each in value.split(","):
                _check_name(each)
    if parsed.config_dir or parsed.config_path:
        _check_file(parsed)


def _check_file(parsed: Any) -> None:
    named = [word.lstrip("+~").partition("=")[0].replace("/", ".").partition("@")[0]
             for word in parsed.overrides]  # fmt: skip
    given = _compose(parsed, parsed.config_name or "train", parsed.overrides)
    ours = _compose(None, "train", [])["hydra"]
    folder = parsed.config_dir or parsed.config_path
    where = f"configuration {parsed.config_name or 'train'} in {folder}"
    _check_name(str(given.get("name")))
    before = dict(_leaves(ours))
    for key, value in _leaves(given["hydra"]):
        trusted = any(f"hydra.{key}.".startswith(f"{name}.") for name in named)
        if not trusted and before.get(key, "") != value and not _harmless(key, value):
            raise InputError(
                f"{where}: it may not set hydra.{key}, which could run, read or write something; "
                f"remove it, or give it on the command line"
            )


def _harmless(key: str, value: Any) -> bool:
    if key in FOLDERS:
        return re.fullmatch(f"{FOLDER}(?:/{FOLDER})*", str(value)) is not None
    if key.startswith("sweeper.params."):
        return not key.removeprefix("sweeper.params.").lstrip("+~").startswith("hydra")
    if key == "launcher._target_":
        return value in LAUNCHERS
    group, _, name = key.partition(".")
    if group == "launcher" and name in USUAL:
        return value == USUAL[name]
    return MAY_DIFFER.fullmatch(key) is not None and "_target_" not in key


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise InputError(f"name={name}: it names a folder; use letters, digits, _ - and .")


def _compose(parsed: Any, name: str, words: Sequence[str]) -> dict[str, Any]:
    """As `hydra.main` would, with nothing resolved and nothing built."""
    main = str(CONF)
    if parsed is not None and parsed.config_path:
        main = str(Path(parsed.config_path).absolute())
    search = create_config_search_path(main)
    if parsed is not None and parsed.config_dir:
        folder = f"file://{Path(parsed.config_dir).absolute()}"
        search.prepend("command-line", folder, SearchPathQuery(provider="schema"))
    GlobalHydra.instance().clear()
    try:
        composed = Hydra.create_main_hydra2("train", search).compose_config(
            name, list(words), RunMode.MULTIRUN, with_log_configuration=False,
            validate_sweep_overrides=False,
        )  # fmt: skip
        return OmegaConf.to_container(composed, resolve=False)  # type: ignore[return-value]
    except KeyError as error:
        raise InputError(
            f"configuration {name}: it may not set hydra.job.env_copy, to {error}; remove it"
        ) from None
    finally:
        GlobalHydra.instance().clear()


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(each, f"{key}.{name}".lstrip("."))
    else:
        yield key, value
