"""A loss or weight that is no number stops a fold before it reaches a checkpoint."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lymphoml.core.errors import RuntimeFailure

LOWER = "try a lower lr in a run of another name, or trainer.precision=32-true"


def check_finite_loss(
    losses: Sequence[Tensor],
    patients: Sequence[Sequence[str]],
    first: int,
    epoch: int,
    model: nn.Module,
) -> None:
    """Raises RuntimeFailure for the first batch whose loss is nan or infinite.

    `losses` (b each) and `patients` are those of the epoch's batches from number `first` on.
    Waits once for the device.
    """
    if torch.cat(list(losses)).isfinite().all():
        return
    for batch, (loss, ids) in enumerate(zip(losses, patients, strict=True), first):
        bad = [patient for patient, value in zip(ids, loss.tolist(), strict=True)
               if not -float("inf") < value < float("inf")]  # fmt: skip
        if bad:
            earlier = _broken(model) and ", after weights that an earlier step broke"
            raise RuntimeFailure(
                f"{place(epoch, batch, bad)}: the training has diverged, its loss is no number"
                f"{earlier or ''}; {LOWER}"
            )


def check_weights(model: nn.Module, epoch: int) -> None:
    """Raises RuntimeFailure where a weight or running statistic is nan or infinite."""
    if name := _broken(model):
        raise RuntimeFailure(
            f"epoch {epoch + 1}: the training has diverged, {name} is no number; {LOWER}"
        )


def check_pretraining(losses: Tensor, network: nn.Module, epoch: int, batch: int) -> None:
    """Likewise of losses without patients, and of the weights that gave them."""
    broken = None if losses.isfinite().all() else "its loss"
    if broken := broken or _broken(network):
        raise RuntimeFailure(
            f"pretraining, epoch {epoch + 1}, batch {batch + 1}: it has diverged, {broken} is no "
            f"number; try a lower pretrain.lr, or trainer.precision=32-true"
        )


def place(epoch: int, batch: int, patients: Sequence[str]) -> str:
    """Where in a training; epochs and batches are counted from 1 for people."""
    named = ", ".join(patients[:4]) + (" and others" if len(patients) > 4 else "")
    return f"epoch {epoch + 1}, batch {batch + 1} (patient{'s' * (len(patients) > 1)} {named})"


def _broken(model: nn.Module) -> str | None:
    """The first weight that is no number, found in one wait for the device."""
    values = {name: each for name, each in model.state_dict().items() if each.is_floating_point()}
    if not values:
        return None
    sums = torch.stack(
        [each.detach().float().abs().max() for each in values.values() if each.numel()]
    )
    if sums.isfinite().all():
        return None
    names = [name for name, each in values.items() if each.numel()]
    return names[int((~sums.isfinite()).nonzero()[0])]
