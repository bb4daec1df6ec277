"""The whole configuration of a run."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, model_validator

from lymphoml.core.errors import InputError
from lymphoml.core.section import Positive, Section, Text, to_override
from lymphoml.data.settings import DataConfig
from lymphoml.features.pretraining.settings import PretrainConfig
from lymphoml.training.settings import (
    LoggerConfig,
    LossConfig,
    TrainerConfig,
    WeightAveragingConfig,
)

# Of training by gradient steps, when off.
OF_FITTING = r"[+~]*(lr|optim|scheduler|data\.batch_size|data\.train_bag_size)\b"  # has none of
OF_STEPS = {
    "loss.label_smoothing": 0.0,
    "loss.after_sigmoid": False,
    "data.shuffle": True,
    "weight_averaging.kind": None,
    "model.instance_dropout": 0.0,
    "trainer.max_epochs": 1,
}


def _check_name(text: str) -> str:
    if not re.fullmatch(r"(?![.-])[A-Za-z0-9_.-]{1,100}", text):
        raise ValueError("must be letters, digits, _ - and .")
    return text


class ResumeConfig(Section):
    allow_changes: bool


class TrainConfig(Section):
    """`model`, `optim` and `scheduler` are open: `models.build` checks what they name."""

    name: Annotated[Text, AfterValidator(_check_name)]  # of a folder of runs
    tags: list[Text]
    seed: int
    fold: int | Literal["all"]
    on_fold_error: Literal["raise", "skip"]
    lr: Positive
    loss: LossConfig
    data: DataConfig
    model: dict[str, Any]
    pretrain: PretrainConfig | None = None  # absent from a run that pretrains nothing
    optim: dict[str, Any]
    scheduler: dict[str, Any]
    weight_averaging: WeightAveragingConfig
    trainer: TrainerConfig
    logger: LoggerConfig
    resume: ResumeConfig

    @model_validator(mode="after")
    def check_sections_together(self) -> Self:
        problems, count = [], self.data.folds * self.data.repeats
        if self.fold != "all" and not 0 <= self.fold < count:
            problems.append(f"fold={self.fold}: must be all or 0 to {count - 1}")
        if self.optim.get("lr", self.lr) != self.lr:
            problems.append(f"optim.lr={self.optim['lr']}: give lr={self.optim['lr']} instead")
        if self.trainer.patience is not None and not self.data.inner_val_fraction:
            problems.append(
                "trainer.patience needs data.inner_val_fraction above 0: a fold's own patients "
                "never choose when to stop"
            )
        if self.loss.after_sigmoid and self.loss.pos_weight is not None:
            value = f"loss.pos_weight={self.loss.pos_weight}"
            problems.append(f"{value}: has no effect with loss.after_sigmoid=true; set one of them")
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @property
    def folds_to_train(self) -> list[int]:
        """The folds that `fold` names."""
        count = self.data.folds * self.data.repeats
        return list(range(count)) if self.fold == "all" else [self.fold]


def reject_unused_options(config: TrainConfig, overrides: Sequence[str] = ()) -> None:
    """Raise InputError for settings of gradient steps where the model is fitted at once."""
    steps = [word for word in overrides if re.match(OF_FITTING, word)]
    problems = [f"{word}: all of this model is fitted at once; leave it out" for word in steps]
    values = config.to_dict()
    for key, off in OF_STEPS.items():
        group, name = key.split(".")
        if (value := values[group].get(name, off)) != off:
            advice = "leave it out" if off in (0, None) else f"set {key}={to_override(off)}"
            given = f"{key}={to_override(value)}"
            problems.append(f"{given}: all of this model is fitted at once; {advice}")
    if problems:
        raise InputError(problems)
