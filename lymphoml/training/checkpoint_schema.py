"""What a checkpoint may contain: names, types, ranges and shapes, checked before anything is built.

Whoever can change a checkpoint can change its digest as well. That nothing in it runs code is
checked by `core.tensor_files`.
"""

from typing import Annotated, Any

from annotated_types import Len
from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    create_model,
)
from torch import Tensor, nn

Count = Annotated[int, Field(ge=0, lt=1 << 31)]
Number = Annotated[float, AllowInfNan(True)]  # of others NaN and infinity are refused
Plain = dict[str, JsonValue]
Weights = dict[str, Tensor]
Measured = Annotated[
    str, Field(pattern=r"^(epoch|lr|images_per_second|(train|val|inner)/[a-z_]{1,40})$")
]


class Checkpoint(BaseModel):
    """Any checkpoint of this package. Parts may be missing, and others present."""

    model_config = ConfigDict(
        extra="allow", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )
    state_dict: Weights | None = None


def _closed(name: str, **types: Any) -> Any:
    """Return the schema of a mapping with exactly these keys."""
    fields: Any = {key: (kind, ...) for key, kind in types.items()}
    return create_model(name, __config__={**Checkpoint.model_config, "extra": "forbid"}, **fields)


def _open(name: str, **types: Any) -> Any:
    """Return the schema of a mapping in which these keys may be missing, and others present."""
    fields: Any = {key: (kind | None, None) for key, kind in types.items()}
    return create_model(name, __config__=Checkpoint.model_config, **fields)


def _check_model(model: Plain) -> Plain:
    if not all(isinstance(model.get(part, {}), dict) for part in ("encoder", "pooling", "fusion")):
        raise ValueError("a part of the model is not a mapping")
    return model


def _count_columns(column: Plain) -> int:
    categories = column.get("categories")
    if categories is None and isinstance(column.get("log"), bool):
        return 1
    if isinstance(categories, list) and all(isinstance(each, str) for each in categories):
        return max(0, len(categories) - 1)
    raise ValueError("a column has neither categories nor log")


def _check_scaling(scaling: Any) -> Any:
    """Raise ValueError unless there are a mean and a scale for each feature."""
    if hasattr(scaling, "names"):
        width = len(set(scaling.names))
        if len(scaling.weights) not in (0, width):
            raise ValueError("weights do not fit the columns")
    else:
        width = sum(map(_count_columns, scaling.columns.values()))
        if not scaling.fill.keys() <= scaling.columns.keys():
            raise ValueError("fill has other columns")
    if not len(scaling.mean) == len(scaling.scale) == width or 0 in scaling.scale:
        raise ValueError("mean and scale do not fit the columns")
    return scaling


_HYPER_PARAMETERS = _closed(
    "HyperParameters", model=Annotated[Plain, AfterValidator(_check_model)], optim=Plain,
    scheduler=Plain | None, clinical_dim=Count, feature_dim=Count | None, pos_weight=float | None,
)  # fmt: skip
_CLINICAL = _closed(
    "Clinical", columns=dict[str, Plain], fill=dict[str, str | float], mean=list[float],
    scale=list[float], constant=list[str],
)  # fmt: skip
_RANGE = _closed("Range", missing=float, low=float, high=float,
                 quantiles=Annotated[list[float], Len(3, 3)])  # fmt: skip
_SEEN = _closed("Seen", missing=float, categories=list[str])
_RANGES: Any = dict[str, _RANGE | _SEEN]  # type: ignore[valid-type]
_FEATURES = _closed(
    "Features", names=Annotated[list[str], Len(1)], mean=list[float], scale=list[float],
    weights=list[float],
)  # fmt: skip
_DATA = _closed(
    "Data", next_epoch=Count, clinical=Annotated[_CLINICAL, AfterValidator(_check_scaling)],
    image_size=Annotated[list[Count], Len(2, 2)] | None,
    features=Annotated[_FEATURES, AfterValidator(_check_scaling)] | None,
    ranges=_RANGES,
    columns_schema=Annotated[JsonValue, Field(alias="schema")],
)  # fmt: skip
_HISTORY = _closed("History", rows=list[dict[Measured, Number | None]], seconds=float)
_SAVE_EPOCH = _closed("SaveEpoch", selected_epoch=Count | None, selected_loss=Number)
_CALLBACKS = _open("Callbacks", History=_HISTORY, SaveEpoch=_SAVE_EPOCH)
_PARAM_GROUP = _open("ParamGroup", params=list[Count])
_GROUPS: Any = list[_PARAM_GROUP]  # type: ignore[valid-type]
_OPTIMIZER = _closed("Optimizer", state=dict[Count, dict[str, Any]], param_groups=_GROUPS)
_AVERAGING = _closed("Averaging", n_averaged=Tensor)


class FoldCheckpoint(Checkpoint):
    """A checkpoint of a fold, complete for prediction."""

    state_dict: Weights
    hyper_parameters: _HYPER_PARAMETERS  # type: ignore[valid-type]
    data: _DATA = Field(alias="BagDataModule")  # type: ignore[valid-type]
    callbacks: _CALLBACKS | None = None  # type: ignore[valid-type]
    optimizer_states: Annotated[list[_OPTIMIZER], Len(1, 1)] | None = None  # type: ignore[valid-type]
    current_model_state: Weights | None = None  # of averaged weights, which are the `state_dict`
    averaging_state: _AVERAGING | None = None  # type: ignore[valid-type]


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
    numbers = [each for group in optimizer["param_groups"] for each in group.get("params") or []]
    if numbers != list(range(len(parameters))) or not optimizer["state"].keys() <= set(numbers):
        raise ValueError("the optimiser has other parameters than the model")
    for number, values in optimizer["state"].items():
        tensors = [value for value in values.values() if isinstance(value, Tensor) and value.ndim]
        if any(value.shape != parameters[number].shape for value in tensors):
            raise ValueError("the optimiser's state has other shapes than the model")


def check_weights(module: nn.Module, state: Weights) -> None:
    """Raise ValueError unless names, shapes and kinds of numbers are those of `module`."""
    own, given = (
        {name: (tuple(each.shape), each.is_floating_point()) for name, each in weights.items()}
        for weights in (module.state_dict(), state)
    )
    for name in sorted(own.keys() | given.keys()):
        if own.get(name) != given.get(name):
            raise ValueError(f"weights of another model: {name[:80]!r} differs, or is in one alone")
