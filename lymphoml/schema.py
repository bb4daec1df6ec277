"""Every key that may be set, and its type; what it means stands beside its value in `conf/`.

Groups whose content is open (`model`, `optim`, `scheduler`) stay untyped here; `build` checks them.
"""

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


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
    missing: str = "refuse"
    clinical: list[str] = field(default_factory=list)
    hard_stratum: Any = None
    standardise: bool = True
    # Folds.
    folds: int = 5
    repeats: int = 1
    fold_file: str | None = None
    inner_fraction: float = 0.0
    # Bags.
    bags_per_batch: int = 1
    max_instances: int | None = None
    eval_max_instances: int | None = None
    permute_bags: bool = False
    # Images.
    cache: str = ".cache"
    crop: int | None = None
    resize: int | None = None
    normalise: bool = False
    flip: bool = False
    rotate: Any = False
    zoom: float = 0.0
    colour: float = 0.0
    stain: float = 0.0
    stain_norm: str | None = None
    tta: int = 1
    features: str | None = None
    image_baselines: list[str] = field(default_factory=list)
    workers: int = 0
    worker_timeout: int = 600


@dataclass
class PretrainConfig:
    method: str = "simclr"
    loss: dict[str, Any] = field(default_factory=dict)
    scope: str = "cohort"
    include_test: bool = False
    encoder: Any = field(default_factory=dict)
    crop: int | None = 128
    resize: int | None = 64
    normalise: bool = True
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
    threads: int | None = None
    chunk_size: Any = "auto"
    validate_every: int = 1
    patience: int | None = None
    progress: bool = True


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
    allow_drift: bool = False


@dataclass
class TrainConfig:
    name: str = "cv"
    tags: list[str] = field(default_factory=list)
    seed: int = 0
    fold: Any = "all"
    on_fold_error: str = "stop"
    lr: float = MISSING
    pos_weight: Any = None
    label_smoothing: float = 0.0
    bag_mixup: float = 0.0
    data: DataConfig = field(default_factory=DataConfig)
    model: Any = field(default_factory=dict)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    optim: Any = field(default_factory=dict)
    scheduler: Any = field(default_factory=dict)
    weight_averaging: WeightAveragingConfig = field(default_factory=WeightAveragingConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    resume: ResumeConfig = field(default_factory=ResumeConfig)
