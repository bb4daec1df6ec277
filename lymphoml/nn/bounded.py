"""A network may not outgrow what it was said to hold: told while it is built, not afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules import module as hooks

from lymphoml.errors import InputError

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
