"""Every key that may be set, and its type; what it means stands beside its value in `conf/`.

Groups whose content is open (`model`, `optim`, `scheduler`) stay untyped here; `build` checks them.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from lymphoml.core.errors import InputError


@dataclass
class AugmentConfig:
    flip: bool = False
    rotate: Any = False
    scale: float = 0.0
    color_jitter: float = 0.0
    stain_jitter: float = 0.0


@dataclass
class LossConfig:
    pos_weight: Any = None
    label_smoothing: float = 0.0


@dataclass
class DataConfig:
    name: str = MISSING
    layout: str = MISSING
    root: str = MISSING
    # The clinical table.
    table: str = "clinical.csv"
    image_dir: str = "."
    image_pattern: str = "*"
    id_column: str = "ID"
    label_column: str = "LABEL"
    label_values: dict[str, Any] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    date_formats: dict[str, str] = field(default_factory=dict)
    reference_date: str = "2020-01-01"
    missing: str = "error"
    clinical: list[str] = field(default_factory=list)
    hard_stratum: Any = None
    standardize_clinical: bool = True
    # Folds.
    folds: int = 5
    repeats: int = 1
    folds_csv: str | None = None
    inner_val_fraction: float = 0.0
    # Bags.
    batch_size: int = 1
    train_bag_size: int | None = None
    eval_bag_size: int | None = None
    shuffle_bag_labels: bool = False
    # Images.
    cache: str = ".cache"
    crop: int | None = None
    resize: int | None = None
    normalize_images: bool = False
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    stain_norm: str | None = None
    eval_tta: int = 1
    features: str | None = None
    image_baselines: list[str] = field(default_factory=list)
    num_workers: int = 0
    timeout: int = 600


@dataclass
class PretrainConfig:
    method: str = "simclr"
    loss: dict[str, Any] = field(default_factory=dict)
    encoder: Any = field(default_factory=dict)
    crop: int | None = 128
    resize: int | None = 64
    normalize_images: bool = True
    stain_norm: str | None = None
    zoom: float = 0.65
    shift: float = 0.1
    colour: float = 0.1
    epochs: int = 10
    batch_size: int = 128
    lr: float = 2e-3
    weight_decay: float = 1e-4
    seed: int = 0


@dataclass
class TrainerConfig:
    max_epochs: int = 20
    accelerator: str = "auto"
    precision: str = "auto"
    num_threads: int | None = None
    encoder_chunk_size: Any = "auto"
    check_val_every_n_epoch: int = 1
    patience: int | None = None
    enable_progress_bar: bool = True


@dataclass
class LoggerConfig:
    wandb: bool = True
    tensorboard: bool = True
    mode: str = "auto"
    project: str = "lymphoml"
    entity: str | None = None


@dataclass
class WeightAveragingConfig:
    kind: str | None = None
    decay: float | None = None
    start: float | None = None


@dataclass
class ResumeConfig:
    allow_changes: bool = False


@dataclass
class TrainConfig:
    name: str = "cv"
    tags: list[str] = field(default_factory=list)
    seed: int = 0
    fold: Any = "all"
    on_fold_error: str = "raise"
    lr: float = MISSING
    loss: LossConfig = field(default_factory=LossConfig)
    data: DataConfig = field(default_factory=DataConfig)
    model: Any = field(default_factory=dict)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    optim: Any = field(default_factory=dict)
    scheduler: Any = field(default_factory=dict)
    weight_averaging: WeightAveragingConfig = field(default_factory=WeightAveragingConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    resume: ResumeConfig = field(default_factory=ResumeConfig)


# Values of a configuration that are of the right type and still mean nothing.

AT_LEAST_ONE = {
    "data": (
        "timeout",
        "repeats",
        "batch_size",
        "train_bag_size",
        "eval_bag_size",
        "crop",
        "resize",
    ),
    "trainer": ("max_epochs", "check_val_every_n_epoch", "patience", "num_threads"),
}
CHOICES = {
    "stain_norm": (None, "reinhard", "macenko"),
    "eval_tta": (1, 8),
}
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")  # others would turn pixels too
IMAGE_BASELINES = ("morphology", "random_features")
# Of training by steps, when off; by the words that set them.
OF_STEPS = {
    "loss.label_smoothing": 0.0,
    "weight_averaging.kind": None,
    "model.instance_dropout": 0.0,
    "trainer.max_epochs": 1,
}


def check(config: dict[str, Any]) -> None:
    """Raises InputError naming every such value, and what is allowed."""
    data, options, problems = config["data"], config["trainer"], []
    for group, keys in AT_LEAST_ONE.items():
        for key in keys:
            value = config[group][key]
            if value is not None and value < 1:
                problems.append(f"{group}.{key}: {value} is too small, allowed is 1 or more")
    if data["num_workers"] < 0:
        problems.append(f"data.num_workers={data['num_workers']}: allowed is 0 or more")
    if config["on_fold_error"] not in ("raise", "skip"):
        problems.append(f"on_fold_error={config['on_fold_error']}: allowed are raise and skip")
    if options["precision"] not in PRECISIONS:
        problems.append(
            f"trainer.precision={options['precision']}: allowed are {', '.join(PRECISIONS)}"
        )
    if options["check_val_every_n_epoch"] > options["max_epochs"]:
        problems.append(
            "trainer.check_val_every_n_epoch is above trainer.max_epochs: nothing is validated"
        )
    if not 0 <= data["inner_val_fraction"] <= 0.5:
        problems.append(
            f"data.inner_val_fraction={data['inner_val_fraction']}: allowed are 0 to 0.5"
        )
    augment = data["augment"]
    if augment["rotate"] not in (False, True, "any"):
        problems.append(f"data.augment.rotate={augment['rotate']}: allowed are false, true, any")
    for key in ("color_jitter", "stain_jitter", "scale"):
        if not 0 <= augment[key] < 1:
            problems.append(f"data.augment.{key}={augment[key]}: allowed are 0 to below 1")
    for key, allowed in CHOICES.items():
        if data[key] not in allowed:
            told = ", ".join("null" if each is None else str(each).lower() for each in allowed)
            problems.append(f"data.{key}={data[key]}: allowed are {told}")
    if unknown := set(data["image_baselines"]) - set(IMAGE_BASELINES):
        problems.append(
            f"data.image_baselines: {', '.join(sorted(unknown))}; "
            f"allowed are {', '.join(IMAGE_BASELINES)}"
        )
    if options["patience"] is not None and not data["inner_val_fraction"]:
        problems.append(
            "trainer.patience needs data.inner_val_fraction above 0: a fold's own patients never "
            "choose when to stop"
        )
    if options["encoder_chunk_size"] not in ("auto", None) and not _whole(
        options["encoder_chunk_size"]
    ):
        problems.append(
            f"trainer.encoder_chunk_size={options['encoder_chunk_size']}: allowed are auto, null, and 1 or more"
        )
    if not (
        config["loss"]["pos_weight"] in (None, "balanced")
        or _positive(config["loss"]["pos_weight"])
    ):
        problems.append(
            f"loss.pos_weight={config['loss']['pos_weight']}: null, balanced or a number above 0"
        )
    if not 0 <= config["loss"]["label_smoothing"] < 1:
        problems.append(
            f"loss.label_smoothing={config['loss']['label_smoothing']}: allowed are 0 to below 1"
        )
    problems += _of_averaging(config["weight_averaging"])
    if problems:
        raise InputError(problems)


def folds_asked(config: dict[str, Any]) -> list[int]:
    """The folds that `config["fold"]` names, `all` or a number. Raises InputError."""
    asked, count = config["fold"], config["data"]["folds"] * config["data"]["repeats"]
    if asked == "all":
        return list(range(count))
    if type(asked) is int and 0 <= asked < count:
        return [asked]
    raise InputError(f"fold={asked}: allowed are all and 0 to {count - 1}")


def _of_averaging(spec: dict[str, Any]) -> list[str]:
    """What is wrong with a `weight_averaging`, whose kinds have a setting each."""
    settings = {None: None, "ema": "decay", "swa": "start"}
    if spec["kind"] not in settings:
        return [f"weight_averaging.kind={spec['kind']}: allowed are null, ema and swa"]
    own, problems = settings[spec["kind"]], []
    for key in ("decay", "start"):
        value = spec[key]
        if key == own and not (value is not None and 0 <= value < 1):
            problems.append(f"weight_averaging.{key}={value}: allowed are 0 to below 1")
        if key != own and value is not None:
            kind = spec["kind"] or "none"
            problems.append(f"weight_averaging.{key}={value}: weight_averaging={kind} has none")
    return problems


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 1


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def reject_unused_options(config: dict[str, Any]) -> None:
    """Raises InputError for settings of training by steps, where the model learns by none."""
    problems = []
    for words, off in OF_STEPS.items():
        value: Any = config
        for key in words.split("."):
            value = (value or {}).get(key, off)
        if value != off:
            told = "leave it out" if off in (0, None) else f"set {words}={off}"
            problems.append(f"{words}={value}: all of this model is fitted at once; {told}")
    if problems:
        raise InputError(problems)
