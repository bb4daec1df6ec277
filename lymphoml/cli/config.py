"""How overrides of a command line and files of `conf/` become typed values."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lymphoml.cli.options import first_line
from lymphoml.core.cores import parallel_jobs
from lymphoml.core.errors import InputError, quoted
from lymphoml.core.untrusted import leaves, read_mapping, reject_symlinks, texts
from lymphoml.runs.naming import slug

if TYPE_CHECKING:  # pydantic takes a third of a second, which --help need not wait for
    from lymphoml.data.settings import DataConfig
    from lymphoml.features.pretraining.settings import PretrainConfig
    from lymphoml.runs.settings import TrainConfig
    from lymphoml.training.settings import TrainerConfig

REFERENCE = re.compile(r"\$\{[A-Za-z_][\w.]*\}")
# Within the package where it is installed, beside it in a checkout.
CONF = next(
    filter(Path.is_dir, (folder / "conf" for folder in Path(__file__).parents[1:3])), Path()
)

OmegaConf.register_new_resolver("slug", slug, replace=True)
OmegaConf.register_new_resolver("side_by_side", parallel_jobs, replace=True)


def compose_config(*overrides: str) -> "TrainConfig":
    """Return what `train.py` would have with these overrides. Raises InputError, or Hydra's own."""
    return validate(_compose(overrides))


def known_keys() -> list[str]:
    """Return every key that `train.py` has without overrides, dotted."""
    return [key for key, _ in leaves(OmegaConf.to_container(_compose([]), resolve=False))]


def validate(composed: Any) -> "TrainConfig":
    """Return what Hydra composed, resolved and typed: Hydra ends here. Raises InputError."""
    from lymphoml.features.encoder_weights import resolve_weights
    from lymphoml.runs.settings import TrainConfig

    values = to_plain_dict(composed)
    for key in values.keys() - TrainConfig.model_fields.keys():
        if isinstance(values[key], dict):
            raise InputError(f"{key}: no such key; its file must begin with # @package _global_")
    model, data = values.get("model"), values.get("data")
    if (
        isinstance(model, dict)
        and isinstance(data, dict)
        and isinstance(model.get("encoder"), dict)
    ):
        model["encoder"], values["data"] = resolve_weights(model["encoder"], data)
    config = TrainConfig.read(values)
    if config.data.site_folds:
        from lymphoml.data.sites import count_sites

        config = config.replace({"data.folds": count_sites(config.data)})
    return config


def to_plain_dict(composed: Any, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what Hydra composed, resolved, as plain data; no ${oc.env:...}. Raises InputError."""
    values = OmegaConf.create(OmegaConf.to_container(composed, resolve=False))
    values = OmegaConf.merge(values, changes or {})
    for text in texts(OmegaConf.to_container(values, resolve=False)):
        if "${" in REFERENCE.sub("", text):
            raise InputError(f"{quoted(text, 80)}: only other keys can be referred to, as ${{lr}}")
    return _without_missing(OmegaConf.to_container(values, resolve=True))


def _without_missing(value: Any) -> Any:
    """Leave out the keys that are still `???`."""
    if not isinstance(value, dict):
        return value
    return {key: _without_missing(item) for key, item in value.items() if item != "???"}


def run_config(folder: Path, data: dict[str, Any], trainer: dict[str, Any]) -> "TrainConfig":
    """Return a run's stored configuration with settings of cohort and machine changed, as typed.

    Raises InputError, also for a change of what its models were trained with.
    """
    from lymphoml.data.settings import UNREAD
    from lymphoml.runs.settings import TrainConfig
    from lymphoml.runs.trained_on import check_overrides

    reject_symlinks(folder)
    path = folder / "config.yaml"
    if not path.exists():
        raise InputError(f"run={folder}: {path} is missing; give the folder that train.py wrote")
    stored = read_mapping(path, "give a run folder as train.py wrote it")
    try:
        if not isinstance(stored.get("data"), dict):
            raise InputError("it has no section data")
        if any("${" in text for text in texts(stored)):
            raise InputError("it contains ${...}, which train.py resolves")
        check_overrides({"data": data, "trainer": trainer})
        unread = UNREAD.get(data.get("layout") or stored["data"].get("layout"), {})
        changes = {"data": {"follow_links": False} | unread | data, "trainer": trainer}
        return TrainConfig.read(to_plain_dict(OmegaConf.create(stored), changes))
    except (InputError, OmegaConfBaseException) as error:
        problems = error.problems if isinstance(error, InputError) else [first_line(error)]
        raise InputError(f"run={folder}: {path.name}: {each}" for each in problems) from None


def data_config(cohort: str, changes: dict[str, Any]) -> "DataConfig":
    """Return the option `cohort` of `data` with settings changed. Raises InputError."""
    from lymphoml.data.settings import DataConfig

    _check_option("cohort", cohort, _options("data"))
    return DataConfig.read(to_plain_dict(_compose([f"data={cohort}"]).data, changes))


def encoder_config(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Return the option `name` of `model/encoder` with settings changed. Raises InputError."""
    _check_option("encoder", name, _options("model/encoder") - {"identity", "mlp"})
    encoder = to_plain_dict(_compose([f"model/encoder={name}"]).model.encoder)
    if unknown := sorted(changes.keys() - encoder.keys()):
        raise InputError(f"encoder={name}: has no setting {', '.join(unknown)}")
    return encoder | changes


def pretrain_config(
    method: str, encoder: str, changes: dict[str, Any], trainer: dict[str, Any]
) -> "tuple[PretrainConfig, TrainerConfig]":
    """Return the sections `pretrain` and `trainer` with settings changed. Raises InputError."""
    from lymphoml.features.pretraining.settings import PretrainConfig
    from lymphoml.training.settings import TrainerConfig

    _check_option("method", method, _options("pretrain"))
    _check_option("encoder", encoder, _options("model/encoder"))
    composed = _compose([f"pretrain={method}", f"model/encoder@pretrain.encoder={encoder}"])
    section = PretrainConfig.read(to_plain_dict(composed.pretrain, changes))
    return section, TrainerConfig.read(to_plain_dict(composed.trainer, trainer))


def _compose(overrides: Sequence[str]) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def _options(group: str) -> set[str]:
    return {each.stem for each in (CONF / group).glob("*.yaml")} - {"base"}


def _check_option(key: str, value: str, options: set[str]) -> None:
    if value not in options:
        raise InputError(f"{key}={value}: must be one of {', '.join(sorted(options))}")
