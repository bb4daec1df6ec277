"""How words of a command line and files of `conf/` become plain values, typed as `schema` says."""

import re
from pathlib import Path
from typing import Any, TypeVar

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from yaml import YAMLError

from lymphoml.cli.schema import DataConfig, TrainConfig
from lymphoml.core.cores import parallel_jobs
from lymphoml.core.errors import InputError, quoted
from lymphoml.core.untrusted import check_yaml, read_yaml, reject_symlinks, texts
from lymphoml.runs.naming import slug

T = TypeVar("T")
REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.]*\}")
CONF = Path(__file__).parents[2] / "conf"

ConfigStore.instance().store(name="schema", node=TrainConfig)
# They read the environment, or make a value of a text; nothing of ours needs them.
for resolver in ("oc.env", "oc.decode", "oc.create", "oc.deprecated"):
    OmegaConf.clear_resolver(resolver)
OmegaConf.register_new_resolver("slug", slug, replace=True)
OmegaConf.register_new_resolver("side_by_side", parallel_jobs, replace=True)


def run_config(folder: Path, data: dict[str, Any], trainer: dict[str, Any]) -> dict[str, Any]:
    """A run's stored configuration with some settings changed, typed as for training.

    Raises InputError for a folder that is no run, an unknown key, a value of the wrong type, and
    where the cohort lay outside the working directory: a run folder does not tell where.
    """
    reject_symlinks(folder)
    path = folder / "config.yaml"
    if not path.exists():
        raise InputError(f"run={folder}: {path} is missing; give the folder that train.py wrote")
    try:
        stored = read_yaml(path)
        if not isinstance(stored, dict):
            raise ValueError("it holds no mapping")
        if any("${" in text for text in texts(stored)):
            raise ValueError("it holds ${...}, which train.py writes out")
        return plain(
            OmegaConf.merge(
                OmegaConf.structured(TrainConfig), stored, {"data": data, "trainer": trainer}
            )
        )
    except MissingMandatoryValue as error:
        raise InputError(
            f"run={folder}: {error.full_key} is not told by a run folder, being of the machine "
            f"that trained; give {error.full_key}=..."
        ) from None
    except (OmegaConfBaseException, OSError, ValueError, TypeError) as error:
        raise InputError(f"run={folder}: {path.name}: {first_line(error)}") from None


def data_config(cohort: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The option `cohort` of the group `data` with some settings changed, typed as for training.

    Raises InputError for an option or a key that is not there, a value of the wrong type.
    """
    options = sorted(each.stem for each in (CONF / "data").glob("*.yaml") if each.stem != "base")
    if cohort not in options:
        raise InputError(f"cohort={cohort}: choose {', '.join(options)}, as data=... of train.py")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", overrides=[f"data={cohort}"])
    try:
        return plain(OmegaConf.merge(OmegaConf.structured(DataConfig), composed.data, changes))
    except OmegaConfBaseException as error:
        raise InputError(f"cohort={cohort}: {first_line(error)}") from None


def encoder_config(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """The option `name` of the group `model/encoder` with some settings changed.

    Raises InputError for an option or a setting that is not there.
    """
    networks = {each.stem for each in (CONF / "model" / "encoder").glob("*.yaml")}
    networks -= {"features", "random_features", "pretrained", "cells"}
    if name not in networks:
        raise InputError(
            f"encoder={name}: choose untrained, untrained_layer3, {', '.join(sorted(networks))}"
        )
    with initialize_config_dir(str(CONF), version_base="1.3"):
        encoder = plain(compose("train", overrides=[f"model/encoder={name}"]).model.encoder)
    if unknown := sorted(changes.keys() - encoder.keys()):
        raise InputError(f"encoder={name}: has no setting {', '.join(unknown)}")
    return encoder | changes


def pretrain_config(
    method: str, encoder: str, changes: dict[str, Any], trainer: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The groups `pretrain` and `trainer` with some settings changed, typed as for training.

    Raises InputError for an option or a setting that is not there, a value of the wrong type.
    """
    for key, group, name in (("method", "pretrain", method), ("encoder", "model/encoder", encoder)):
        options = {each.stem for each in (CONF / group).glob("*.yaml")} - {"base"}
        if name not in options:
            raise InputError(f"{key}={name}: choose {', '.join(sorted(options))}")
    words = [f"pretrain={method}", f"model/encoder@pretrain.encoder={encoder}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", overrides=words)
    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(TrainConfig),
            {"pretrain": composed.pretrain, "trainer": composed.trainer},
            {"pretrain": changes, "trainer": trainer},
        )
        return plain(merged.pretrain), plain(merged.trainer)
    except OmegaConfBaseException as error:
        raise InputError(f"pretrain: {first_line(error)}") from None


def plain(config: Any) -> dict[str, Any]:
    """The resolved configuration as dicts, lists and scalars: Hydra ends here.

    Raises InputError where a value is more than a reference to another key: what `${oc.env:HOME}`
    says would be stored with the run.
    """
    raw = OmegaConf.to_container(config, resolve=False)
    for text in texts(raw):
        if "${" in REFERENCE.sub("", text):
            raise InputError(f"{quoted(text, 80)}: only other keys can be referred to, as ${{lr}}")
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)  # type: ignore


def parse(schema: type[T], words: list[str]) -> T:
    """The `key=value` words of a command, as its typed dataclass. Raises InputError.

    Values are YAML, but that of a text is taken as it stands, without quotes around the whole: a
    message may hold any character, and Hydra's words for a path with a comma come in quotes.
    """
    texts: dict[str, str] = {}
    values = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise InputError(f"{word}: give options as key=value")
        if schema.__annotations__.get(key) is not str:
            try:
                check_yaml(value)
            except ValueError as error:
                raise InputError(f"{quoted(word, 200)}: {error}") from None
        if schema.__annotations__.get(key) is str:
            texts[key] = value[1:-1] if re.fullmatch(r"(['\"]).*\1", value, re.DOTALL) else value
        else:
            values.append(word)
    try:
        merged = OmegaConf.merge(
            OmegaConf.structured(schema), OmegaConf.from_dotlist(values), texts
        )
        for key in OmegaConf.missing_keys(merged):
            raise InputError(f"{key}=...: this option must be given")
        return OmegaConf.to_object(merged)  # type: ignore[return-value]
    except (OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"{' '.join(words)}: {first_line(error)}") from None


def first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
