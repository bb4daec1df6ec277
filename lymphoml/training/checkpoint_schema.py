"""What a checkpoint may contain: names, types, ranges and shapes, checked before anything is built.

Whoever can change a checkpoint can change its digest as well. That nothing in it runs code is
checked by `core.tensor_files`.
"""

from typing import Annotated, Any, Self

from annotated_types import Len
from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, JsonValue, ValidationError
from pydantic import model_validator as validator
from torch import Tensor, nn

Count = Annotated[int, Field(ge=0, lt=1 << 31)]
Number = Annotated[float, AllowInfNan(True)]
Plain = dict[str, JsonValue]
Weights = dict[str, Tensor]
Measured = Annotated[
    str, Field(pattern=r"^(epoch|lr|images_per_second|(train|val|inner)/[a-z_]{1,40})$")
]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False,
                              arbitrary_types_allowed=True)  # fmt: skip


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, arbitrary_types_allowed=True)


class _Model(_Open):
    __pydantic_extra__: Plain
    encoder: Plain = {}
    pooling: Plain = {}
    fusion: Plain = {}


class _HyperParameters(_Closed):
    model: _Model
    optim: Plain
    scheduler: Plain | None
    clinical_dim: Count
    feature_dim: Count | None
    pos_weight: float | None


class _Column(_Open):
    __pydantic_extra__: Plain
    log: bool | None = None
    categories: list[str] | None = None

    @validator(mode="after")
    def check(self) -> Self:
        if self.categories is None and self.log is None:
            raise ValueError("neither categories nor log")
        return self


class _Scaling(_Closed):
    """Mean and scale of as many columns as there are names."""

    mean: list[float]
    scale: list[float]

    @property
    def width(self) -> int:
        raise NotImplementedError

    @validator(mode="after")
    def check(self) -> Self:
        if not len(self.mean) == len(self.scale) == self.width or 0 in self.scale:
            raise ValueError("mean and scale do not fit the columns")
        return self


class _Features(_Scaling):
    names: Annotated[list[str], Len(1)]
    weights: list[float]

    @property
    def width(self) -> int:
        return len(set(self.names))

    @validator(mode="after")
    def check_weights(self) -> Self:
        if len(self.weights) not in (0, self.width):
            raise ValueError("weights do not fit the columns")
        return self


class _Clinical(_Scaling):
    columns: dict[str, _Column]
    fill: dict[str, str | float]

    @property
    def width(self) -> int:
        if not self.fill.keys() <= self.columns.keys():
            raise ValueError("fill has other columns")
        categories = [column.categories for column in self.columns.values()]
        return sum(1 if each is None else max(0, len(each) - 1) for each in categories)


class _Data(_Closed):
    next_epoch: Count
    clinical: _Clinical
    cohort_schema: JsonValue = Field(alias="schema")
    image_size: Annotated[list[Count], Len(2, 2)] | None
    features: _Features | None


class _History(_Closed):
    rows: list[dict[Measured, Number | None]]
    seconds: float


class _SaveEpoch(_Closed):
    selected_epoch: Count | None
    selected_loss: Number


class _Callbacks(_Open):
    History: _History | None = None
    SaveEpoch: _SaveEpoch | None = None


class _Averaging(_Closed):
    n_averaged: Tensor


class _ParamGroup(_Open):
    params: list[Count]


class _Optimizer(_Open):
    state: dict[Count, dict[str, Any]]
    param_groups: list[_ParamGroup]


class Checkpoint(_Open):
    """Any checkpoint of this package; parts may be missing."""

    state_dict: Weights | None = None
    callbacks: _Callbacks | None = None


class FoldCheckpoint(Checkpoint):
    """A checkpoint of a fold, complete for prediction."""

    state_dict: Weights
    hyper_parameters: _HyperParameters
    data: _Data = Field(alias="BagDataModule")
    optimizer_states: Annotated[list[_Optimizer], Len(1, 1)] | None = None
    current_model_state: Weights | None = None  # of averaged weights, which are the `state_dict`
    averaging_state: _Averaging | None = None


def validate_checkpoint(content: Any, schema: type[Checkpoint] = Checkpoint) -> None:
    """Raise ValueError, in a few words, unless the content has this schema."""
    if isinstance(content, dict) and "BagDataModule" in content:
        schema = FoldCheckpoint
    try:
        schema.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(key)[:40] for key in first["loc"][:5])
        raise ValueError(f"{place or 'content'}: {first['msg']}") from None


def assert_compatible(module: nn.Module, content: dict[str, Any]) -> None:
    """Raise ValueError unless `module` and an optimiser of its parameters can resume from it."""
    validate_checkpoint(content, FoldCheckpoint)
    check_weights(module, content["state_dict"])
    if "current_model_state" in content or "averaging_state" in content:
        check_weights(module, content.get("current_model_state") or {})
        count = content.get("averaging_state", {}).get("n_averaged")
        if count is None or count.ndim or count.is_floating_point():
            raise ValueError("averaging_state.n_averaged is not a count")
    if not content.get("optimizer_states"):
        raise ValueError("optimizer_states is empty")
    (optimizer,), parameters = content["optimizer_states"], list(module.parameters())
    numbers = [number for group in optimizer["param_groups"] for number in group["params"]]
    if numbers != list(range(len(parameters))) or not optimizer["state"].keys() <= set(numbers):
        raise ValueError("the optimiser has other parameters than the model")
    for number, values in optimizer["state"].items():
        tensors = [value for value in values.values() if isinstance(value, Tensor) and value.ndim]
        if any(value.shape != parameters[number].shape for value in tensors):
            raise ValueError("the optimiser's state has other shapes than the model")


def check_weights(module: nn.Module, state: Weights) -> None:
    """Raise ValueError unless names, shapes and kinds of numbers are those of `module`."""
    own = module.state_dict()
    if different := sorted(own.keys() ^ state.keys()):
        raise ValueError(f"weights of another model: {different[0][:80]!r} is in only one of them")
    for name, tensor in own.items():
        given = state[name]
        if given.shape != tensor.shape or given.is_floating_point() != tensor.is_floating_point():
            raise ValueError(
                f"{name[:80]} is {given.dtype} {tuple(given.shape)}, in the model {tensor.dtype} "
                f"{tuple(tensor.shape)}"
            )


def count_values(state: Weights) -> int:
    """Return how many numbers all tensors have together."""
    return sum(tensor.numel() for tensor in state.values())
