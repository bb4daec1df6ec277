"""The configuration's section `pretrain`: an encoder trained without labels."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from lymphoml.core.errors import InputError
from lymphoml.core.section import AtLeastOne, Positive, Section, Share
from lymphoml.data.settings import Normalization

LOSS_KEYS = {"simclr": {"temperature"}, "vicreg": {"invariance", "variance", "covariance"}}
PRETRAINED = "pretrained"  # as model.encoder.weights, and as a block of features
INPUTS = ("crop", "resize", "normalize_images", "stain_norm")  # of images to what an encoder sees


class PretrainConfig(Section):
    location: ClassVar[str] = "pretrain"

    method: Literal["simclr", "vicreg"]
    loss: dict[str, Annotated[float, Field(ge=0)]]
    encoder: dict[str, Any]
    crop: AtLeastOne | None
    resize: AtLeastOne | None
    normalize_images: Normalization
    stain_norm: Literal["reinhard", "macenko"] | None
    zoom: Annotated[float, Field(gt=0, le=1)]
    shift: Share
    colour: Share
    epochs: AtLeastOne
    batch_size: Annotated[int, Field(ge=2)]
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    seed: int

    @model_validator(mode="after")
    def check_loss(self) -> Self:
        if self.loss.keys() != LOSS_KEYS[self.method] or self.loss.get("temperature") == 0:
            names = ", ".join(sorted(LOSS_KEYS[self.method]))
            raise ValueError(f"pretrain.loss={self.loss} of {self.method}: must have {names} > 0")
        return self


def gives_weights(config: Any) -> bool:
    """Return whether the run's own encoder starts from pretrained weights."""
    return (config.model.get("encoder") or {}).get("weights") == PRETRAINED


def resolve_pretraining(config: Any) -> Any:
    """Return the configuration with `pretrain` as the run uses it, or none. Raises InputError."""
    values = config.to_dict()
    given = values.pop("pretrain", None)
    if given is None and (gives_weights(config) or PRETRAINED in config.data.features.blocks):
        raise InputError("pretrain: is missing; leave ~pretrain out")
    if gives_weights(config):
        given |= {key: values["data"][key] for key in INPUTS}
        given["encoder"] = values["model"]["encoder"]
    elif PRETRAINED not in config.data.features.blocks:
        return config.read(values)
    return config.read(values | {"pretrain": given | {"encoder": trainable(given["encoder"])}})


def refuse_pretraining(words: Sequence[str]) -> None:
    """Raise InputError for overrides of `pretrain` in a run that pretrains nothing."""
    given = [word for word in words if re.match(r"[+~]*(pretrain(?![^.=])|[^=]*@pretrain)", word)]
    if given:
        raise InputError(
            f"{' '.join(given)}: this run pretrains nothing; add model.encoder.weights=pretrained "
            f"or data/features=pretrained, or leave it out"
        )


def trainable(encoder: dict[str, Any]) -> dict[str, Any]:
    """Return the specification of the same network from scratch, all of it trainable."""
    if "hidden" in encoder:
        raise InputError(
            "pretrain.encoder: must be a network that takes images, such as "
            "model/encoder@pretrain.encoder=resnet18"
        )
    kept = {key: value for key, value in encoder.items() if key not in ("weights", "trainable")}
    return kept | {"norm": "batch"} if kept.get("norm") == "frozen" else kept
