"""The one place where a `_target_` becomes an object, and the only targets there are."""

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from lymphoml.core.errors import InputError, one_line, quoted
from lymphoml.models.fusion.interface import Fusion

# A network may not outgrow what it was said to hold: told while it is built, not afterwards.

MOST = 2 << 30  # numbers in a network's parameters and buffers
MODULES = 8_000


@contextmanager
def bounded(most: int = MOST) -> Iterator[None]:
    """Raises InputError where a network built within needs more than `most` numbers.

    A layer allocates a parameter and registers it before it fills it, so nothing beyond `most` is
    ever written to, and memory that is not written to is not used.
    """
    numbers = modules = 0

    def count_numbers(_: nn.Module, name: str, tensor: Tensor | None) -> None:
        nonlocal numbers
        numbers += 0 if tensor is None else tensor.numel()
        if numbers > most:
            raise InputError(f"model: it needs more than {most:,} numbers; make it smaller")

    def count_modules(*_: object) -> None:
        nonlocal modules
        modules += 1
        if modules > MODULES:
            raise InputError(f"model: it has more than {MODULES:,} layers; make it smaller")

    handles = [
        hooks.register_module_parameter_registration_hook(count_numbers),
        hooks.register_module_buffer_registration_hook(count_numbers),
        hooks.register_module_module_registration_hook(count_modules),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


ALLOWED = ("lymphoml.models", "torch.optim")
PARTS = ("encoder", "pooling", "fusion")  # of a model, built before it


def build(spec: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
    """Call what `spec["_target_"]` names with the rest of `spec`; `args`, `kwargs` come from code.

    Only public classes and functions *defined* below ALLOWED are callable, so that nothing they
    import (`torch.load`, say) can be reached through them; a `_target_` within an argument is never
    built. Raises InputError for any other target, and for arguments that the target does not take.
    """
    options = {key: value for key, value in spec.items() if key != "_target_"}
    for key, value in options.items():
        _refuse_nested(value, f"{spec.get('_target_')}: {key}")
    target = _resolve(str(spec.get("_target_")))
    try:
        inspect.signature(target).bind(*args, **options, **kwargs)
    except TypeError as error:
        raise InputError(f"{spec['_target_']}: {error}") from None
    try:
        return target(*args, **options, **kwargs)
    except (TypeError, ValueError, RuntimeError, MemoryError, OverflowError) as error:
        told = quoted(str(options), 200)
        raise InputError(f"{spec['_target_']} with {told}: {one_line(error)[:200]}") from None


def build_model(spec: dict[str, Any], clinical_dim: int) -> Any:
    """Encoder, pooling and fusion, each told the width of what reaches it."""
    for key in PARTS:
        if not isinstance(spec.get(key), dict):
            raise InputError(f"model.{key}: give a mapping with a _target_, as conf/model does")
    encoder = pooling = None
    with bounded():
        if uses_images(spec):
            encoder = build(spec["encoder"])
            pooling = build(spec["pooling"], encoder.dim)
        image_dim = pooling.dim if pooling is not None else 0
        fusion = build(spec["fusion"], image_dim, clinical_dim)
        options = {key: value for key, value in spec.items() if key not in PARTS}
        return build(options, encoder, pooling, fusion)


def uses_images(spec: dict[str, Any]) -> bool:
    """Whether a model of this configuration uses images at all."""
    fusion = _resolve(str(spec["fusion"].get("_target_")))
    if not (isinstance(fusion, type) and issubclass(fusion, Fusion)):
        raise InputError(f"model.fusion._target_: {fusion.__name__} is not a fusion")
    return fusion.uses_images


def _refuse_nested(value: Any, where: str) -> None:
    if isinstance(value, dict):
        if "_target_" in value:
            raise InputError(f"{where}: a _target_ within an argument is never built; remove it")
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            _refuse_nested(each, where)


def _resolve(target: str) -> Any:
    module_name, _, name = target.rpartition(".")
    found = None
    if _below_allowed(module_name) and not name.startswith("_"):
        try:
            found = getattr(importlib.import_module(module_name), name, None)
        except ImportError:
            found = None
    if not callable(found) or not _below_allowed(getattr(found, "__module__", "")):
        raise InputError(
            f"_target_: {target}; allowed are the classes and functions of {', '.join(ALLOWED)}"
        )
    return found


def _below_allowed(module: str) -> bool:
    return any(module == root or module.startswith(f"{root}.") for root in ALLOWED)
