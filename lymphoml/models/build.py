"""Build objects from `_target_` specifications, and only those that are allowed."""

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from lymphoml.core.errors import InputError, one_line, quoted, unknown_key
from lymphoml.core.untrusted import texts
from lymphoml.models.encoders import FeatureEncoder
from lymphoml.models.fusion import Fusion

# Built before the model that contains them, each from its own module: only an encoder reads a file.
PARTS = {
    "encoder": "lymphoml.models.encoders",
    "pooling": "lymphoml.models.pooling",
    "fusion": "lymphoml.models.fusion",
}
ALLOWED = (*PARTS.values(), "lymphoml.models.mil", "lymphoml.models.schedulers", "torch.optim")
MAX_VALUES = 2 << 30  # in a network's parameters and buffers
MAX_LAYERS = 8_000
# What a constructor says to arguments of its names.
UNUSABLE = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, TypeError,
    ValueError, RuntimeError,
)  # fmt: skip


def build(spec: dict[str, Any], *args: Any, part: str | None = None, **kwargs: Any) -> Any:
    """Return what `spec["_target_"]` makes of the rest of `spec`; code adds `args` and `kwargs`.

    Only public classes and functions *defined* below ALLOWED, for one of PARTS in its module, are
    called, so nothing that they import (`torch.load`, say) is reachable; a `_target_` within an
    argument is refused. Raises InputError for any other target, and for arguments that the target
    does not accept.
    """
    options = {key: value for key, value in spec.items() if key != "_target_"}
    if "_target_" in texts(list(options.values())):
        raise InputError(f"{spec.get('_target_')}: remove the _target_ within an argument")
    target = _resolve(str(spec.get("_target_")), part)
    signature = inspect.signature(target)
    try:
        signature.bind(*args, **options, **kwargs)
    except TypeError as error:
        known = signature.parameters
        lines = [unknown_key(key, known) for key in options if key not in known] or [str(error)]
        raise InputError(f"{spec['_target_']}: {line}" for line in lines) from None
    try:
        return target(*args, **options, **kwargs)
    except UNUSABLE as error:
        given = quoted(str(options), 200)
        raise InputError(f"{spec['_target_']} with {given}: {one_line(error)[:200]}") from None


def build_model(spec: dict[str, Any], clinical_dim: int, feature_dim: int | None = None) -> Any:
    """Return the model, each part given its input's width; `feature_dim` is that of vectors."""
    _check_parts(spec)
    encoder = pooling = None
    with limit_size():
        if uses_images(spec):
            width = {}
            if feature_dim is not None:
                width["feature_dim"] = feature_dim
            elif takes_features(spec):  # until it is known: one that the heads divide
                heads = spec["pooling"].get("heads")
                width["feature_dim"] = 2 * heads if type(heads) is int else 2
            encoder = build(spec["encoder"], part="encoder", **width)
            pooling = build(spec["pooling"], encoder.dim, part="pooling")
        image_dim = pooling.dim if pooling is not None else 0
        fusion = build(spec["fusion"], image_dim, clinical_dim, part="fusion")
        options = {key: value for key, value in spec.items() if key not in PARTS}
        return build(options, encoder, pooling, fusion)


def uses_images(spec: dict[str, Any]) -> bool:
    """Return whether a model of this specification uses images at all."""
    return _fusion(spec).uses_images


def uses_clinical(spec: dict[str, Any]) -> bool:
    """Return whether a model of this specification uses clinical values at all."""
    return _fusion(spec).uses_clinical


def is_fitted(spec: dict[str, Any]) -> bool:
    """Return whether all of a model of this specification is fitted at once, without steps."""
    _check_parts(spec)
    return build(spec["fusion"], 1, 1, part="fusion").fits_images


def _check_parts(spec: dict[str, Any]) -> None:
    for key in PARTS:
        if not isinstance(spec.get(key), dict):
            raise InputError(f"model.{key}: must be a mapping with a _target_, as in conf/model")


def _fusion(spec: dict[str, Any]) -> type[Fusion]:
    _check_parts(spec)
    fusion = _resolve(str(spec["fusion"].get("_target_")), "fusion")
    if not (isinstance(fusion, type) and issubclass(fusion, Fusion)):
        raise InputError(f"model.fusion._target_: {fusion.__name__} is not a fusion")
    return fusion


def weighs_images(spec: dict[str, Any]) -> bool:
    """Return whether the pooling of this specification gives each image a weight."""
    return hasattr(_resolve(str(spec["pooling"].get("_target_")), "pooling"), "weights")


def takes_features(spec: dict[str, Any]) -> bool:
    """Return whether the encoder of this specification takes feature vectors, not images."""
    return _resolve(str((spec.get("encoder") or {}).get("_target_"))) is FeatureEncoder


@contextmanager
def limit_size(max_values: int = MAX_VALUES) -> Iterator[None]:
    """Raise InputError as soon as a network exceeds `max_values` or MAX_LAYERS."""
    values = layers = 0

    def count_values(_: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal values
        values += 0 if tensor is None else tensor.numel()
        if values > max_values:
            raise InputError(f"model: it needs more than {max_values:,} numbers; make it smaller")

    def count_layers(*_: object) -> None:
        nonlocal layers
        layers += 1
        if layers > MAX_LAYERS:
            raise InputError(f"model: it has more than {MAX_LAYERS:,} layers; make it smaller")

    handles = [
        hooks.register_module_parameter_registration_hook(count_values),
        hooks.register_module_buffer_registration_hook(count_values),
        hooks.register_module_module_registration_hook(count_layers),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _resolve(target: str, part: str | None = None) -> Any:
    roots = ALLOWED if part is None else (PARTS[part],)
    module_name, _, name = target.rpartition(".")
    resolved = None
    if _is_below(roots, module_name) and not name.startswith("_"):
        with suppress(ImportError):
            resolved = getattr(importlib.import_module(module_name), name, None)
    if not callable(resolved) or not _is_below(roots, getattr(resolved, "__module__", "")):
        raise InputError(f"_target_: {target}: must be a class or function of {' or '.join(roots)}")
    return resolved


def _is_below(roots: tuple[str, ...], module: str) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in roots)
