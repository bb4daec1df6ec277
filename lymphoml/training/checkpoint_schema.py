"""What a checkpoint must hold to be one of ours: names, kinds and shapes, before anything is made.

Whoever can change a checkpoint can change its digest; that nothing in it runs is `archive`'s.
"""

import math
from typing import Any

from torch import Tensor, nn

SETTINGS = {"model", "optim", "scheduler", "clinical_dim", "pos_weight"}
MEASURED = {"epoch", "lr", "images_per_second"}
STAGES = ("train/", "val/", "inner/")
DEEPEST = 40
# Beside an average of weights, which then is the `state_dict`: those that learn, and of how many.
LEARNING, AVERAGING = "current_model_state", "averaging_state"


def validate_checkpoint(content: Any) -> None:
    """Raises ValueError with what is wrong, in a few words; parts may be missing."""
    _expect(isinstance(content, dict), "it is no mapping")
    for part, check in CHECKS.items():
        if part in content:
            _expect(isinstance(content[part], dict), f"its {part} is no mapping")
            check(content[part])


def check_complete(content: dict[str, Any]) -> None:
    """Raises ValueError where a part is missing without which nobody can be predicted."""
    for part in ("state_dict", "hyper_parameters", "BagDataModule"):
        _expect(part in content, f"it has no {part}")


def assert_compatible(module: nn.Module, content: dict[str, Any]) -> None:
    """Whether `module`, and an optimiser of all its parameters, can take the content's state."""
    check_complete(content)
    check_weights(module, content["state_dict"])
    if LEARNING in content:
        check_weights(module, content[LEARNING])
        count = content.get(AVERAGING, {}).get("n_averaged")
        counts = isinstance(count, Tensor) and not count.ndim and not count.is_floating_point()
        _expect(counts and len(content[AVERAGING]) == 1, "its average does not tell of how many")
    parameters = list(module.parameters())
    states: Any = content.get("optimizer_states")
    _expect(isinstance(states, list) and len(states) == 1, "it has no state of one optimiser")
    try:
        groups, state = states[0]["param_groups"], states[0]["state"]
        asked = [number for group in groups for number in group["params"]]
        _expect(asked == list(range(len(parameters))), "its optimiser has other parameters")
        for number, values in state.items():
            for value in values.values():
                if isinstance(value, Tensor) and value.ndim:
                    fits = value.shape == parameters[number].shape
                    _expect(fits, "its optimiser's state has other shapes than the model")
    except (TypeError, KeyError, AttributeError, IndexError):
        raise ValueError("its optimiser's state is damaged") from None


def check_weights(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Raises ValueError unless names and shapes are exactly those of `module`."""
    own = module.state_dict()
    if odd := sorted(own.keys() ^ state.keys()):
        raise ValueError(f"its weights are of another model: {odd[0][:80]!r} is in one alone")
    for name, tensor in own.items():
        shapes = tuple(state[name].shape), tuple(tensor.shape)
        _expect(shapes[0] == shapes[1], f"its {name[:80]} is {shapes[0]}, the model's {shapes[1]}")
        same_kind = state[name].is_floating_point() == tensor.is_floating_point()
        _expect(same_kind, f"its {name[:80]} is {state[name].dtype}, the model's {tensor.dtype}")


def numbers(state: dict[str, Tensor]) -> int:
    """How many numbers there are in all tensors."""
    return sum(tensor.numel() for tensor in state.values())


def _check_tensors(state: dict[str, Any]) -> None:
    tensors = all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    _expect(tensors, "its state_dict holds more than tensors")


def _check_settings(settings: dict[str, Any]) -> None:
    _expect(settings.keys() == SETTINGS, f"its hyper_parameters are not {sorted(SETTINGS)}")
    _expect(_is_plain(settings), "its hyper_parameters hold more than plain values")
    for key in ("model", "optim"):
        _expect(isinstance(settings[key], dict), f"its {key} is no mapping")
    _expect(isinstance(settings["scheduler"], dict | None), "its scheduler is no mapping")
    model = settings["model"]
    parts = all(isinstance(model.get(part, {}), dict) for part in ("encoder", "pooling", "fusion"))
    _expect(parts, "a part of its model is no mapping")
    _expect(_whole(settings["clinical_dim"]), "its clinical_dim is no whole number")
    _expect(settings["pos_weight"] is None or _finite(settings["pos_weight"]), "its pos_weight")


def _check_data(state: dict[str, Any]) -> None:
    known = {"next_epoch", "clinical", "schema", "image_size"}
    fits = state.keys() == known | {"features"}
    _expect(fits, f"its BagDataModule does not hold {sorted(known)}")
    _expect(_is_plain(state), "its BagDataModule holds more than plain values")
    _expect(_whole(state["next_epoch"]), "its next_epoch is no whole number")
    size = state["image_size"]
    sides = isinstance(size, list) and len(size) == 2 and all(map(_whole, size))
    _expect(size is None or sides, "its image_size is no height and width")
    if state["features"] is not None:
        _check_features(state["features"])
    clinical = state["clinical"]
    _expect(isinstance(clinical, dict), "its clinical is no mapping")
    _expect(clinical.keys() == {"columns", "fill", "mean", "scale"}, "its clinical has other keys")
    columns, fill = clinical["columns"], clinical["fill"]
    _expect(isinstance(columns, dict) and isinstance(fill, dict), "its clinical columns")
    width = 0
    for column in columns.values():
        _expect(isinstance(column, dict), "its clinical columns")
        categories = column.get("categories")
        if categories is None:
            _expect(isinstance(column.get("log"), bool), "its clinical columns")
        else:
            texts = isinstance(categories, list) and all(isinstance(c, str) for c in categories)
            _expect(texts, "its clinical categories")
        width += 1 if categories is None else max(0, len(categories) - 1)
    _check_scaling(clinical, width, "clinical")
    filled = all(isinstance(v, str) or _finite(v) for v in fill.values())
    _expect(filled and fill.keys() <= columns.keys(), "its clinical fill")


def _check_features(features: Any) -> None:
    _expect(isinstance(features, dict), "its features are no mapping")
    _expect(features.keys() == {"names", "mean", "scale"}, "its features have other keys")
    names = features["names"]
    texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
    _expect(texts and len(set(names)) == len(names) > 0, "its names of features")
    _check_scaling(features, len(names), "features")


def _check_scaling(fitted: dict[str, Any], width: int, what: str) -> None:
    """A mean and a scale, by which is divided, for each of `width` columns."""
    for key in ("mean", "scale"):
        values = fitted[key]
        fits = isinstance(values, list) and len(values) == width and all(map(_finite, values))
        _expect(fits, f"its {what} {key} does not fit its columns")
    _expect(all(fitted["scale"]), f"its {what} scale holds a zero")


def _check_callbacks(callbacks: dict[str, Any]) -> None:
    history, save = callbacks.get("History"), callbacks.get("SaveEpoch")
    if history is not None:
        rows = history.get("rows") if isinstance(history, dict) else None
        _expect(isinstance(rows, list) and _finite(history.get("seconds")), "its history")
        for row in rows or []:
            known = isinstance(row, dict) and all(
                isinstance(key, str)
                and (key in MEASURED or key.startswith(STAGES))
                and key.replace("/", "_").isidentifier()
                and isinstance(value, int | float | None)
                for key, value in row.items()
            )
            _expect(known, "its history holds more than numbers")
    if save is not None:
        _expect(isinstance(save, dict), "its SaveEpoch")
        epoch = save.get("selected_epoch", "")
        _expect(epoch is None or _whole(epoch), "its selected_epoch is no whole number")
        _expect(isinstance(save.get("selected_loss"), float), "its selected_loss is no number")


def _is_plain(value: Any, depth: int = 0) -> bool:
    if depth > DEEPEST:
        return False
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v, depth + 1) for k, v in value.items())
    if isinstance(value, list):
        return all(_is_plain(each, depth + 1) for each in value)
    return value is None or isinstance(value, str | int | float | bool)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 31


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


CHECKS = {
    "state_dict": _check_tensors,
    "hyper_parameters": _check_settings,
    "BagDataModule": _check_data,
    "callbacks": _check_callbacks,
    LEARNING: _check_tensors,
    AVERAGING: _check_tensors,
}
