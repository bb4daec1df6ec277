"""The configuration's sections for training and loggers."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lymphoml.core.section import AtLeastOne, Positive, Section, Share, Text


class TrainerConfig(Section):
    location: ClassVar[str] = "trainer"

    max_epochs: AtLeastOne
    accelerator: Text
    # Other precisions would round pixels too.
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    num_threads: Annotated[int, Field(ge=1, le=1024)] | None
    encoder_chunk_size: AtLeastOne | Literal["auto"] | None
    check_val_every_n_epoch: AtLeastOne
    patience: AtLeastOne | None
    enable_progress_bar: bool

    @model_validator(mode="after")
    def check_interval(self) -> Self:
        if self.check_val_every_n_epoch > self.max_epochs:
            raise ValueError(
                f"trainer.check_val_every_n_epoch={self.check_val_every_n_epoch}: must be <= "
                f"trainer.max_epochs={self.max_epochs}, else nothing is validated"
            )
        return self


class LossConfig(Section):
    location: ClassVar[str] = "loss"

    pos_weight: Positive | Literal["balanced"] | None
    label_smoothing: Share
    after_sigmoid: bool


class WeightAveragingConfig(Section):
    """Each kind has a setting of its own, which the others lack."""

    location: ClassVar[str] = "weight_averaging"

    kind: Literal["ema", "swa"] | None
    decay: Share | None = None
    start: Share | None = None

    @model_validator(mode="after")
    def check_setting(self) -> Self:
        own = {"ema": "decay", "swa": "start"}.get(self.kind or "")
        for key in ("decay", "start"):
            value = getattr(self, key)
            if key == own and value is None:
                raise ValueError(f"weight_averaging.{key}: must be >= 0 and < 1")
            if key != own and value is not None:
                raise ValueError(
                    f"weight_averaging.{key}={value}: has no effect with "
                    f"weight_averaging={self.kind or 'none'}"
                )
        return self


class LoggerConfig(Section):
    location: ClassVar[str] = "logger"

    wandb: bool
    tensorboard: bool
    mode: Literal["auto", "online", "offline", "disabled"]
    project: Text | None
    entity: Text | None
