"""Stop a training whose loss or weights are NaN or Inf before it reaches a checkpoint."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lymphoml.core.errors import RuntimeFailure

HINT = "try a lower lr in a run of another name, or trainer.precision=32-true"


def check_finite_loss(
    losses: Sequence[Tensor], patients: Sequence[Sequence[str]], first: int, epoch: int,
    model: nn.Module,
) -> None:  # fmt: skip
    """Raise RuntimeFailure for the first batch whose loss is NaN or Inf.

    `losses` (b each) and `patients` are of the epoch's batches from number `first` on. Waits once
    for the device.
    """
    if torch.cat(list(losses)).isfinite().all():
        return
    for batch, (loss, ids) in enumerate(zip(losses, patients, strict=True), first):
        finite = loss.isfinite().tolist()
        if bad := [patient for patient, good in zip(ids, finite, strict=True) if not good]:
            cause = ", after an earlier step broke the weights" if _first_broken(model) else ""
            raise RuntimeFailure(
                f"{format_place(epoch, batch, bad)}: loss is NaN or Inf{cause}; {HINT}"
            )


def check_finite_weights(model: nn.Module, epoch: int) -> None:
    """Raise RuntimeFailure where a weight or running statistic is NaN or Inf."""
    if name := _first_broken(model):
        raise RuntimeFailure(f"epoch {epoch + 1}: {name} is NaN or Inf; {HINT}")


def format_place(epoch: int, batch: int, patients: Sequence[str]) -> str:
    """Return epoch and batch, counted from 1, and the patients."""
    names = ", ".join(patients[:4]) + (" and others" if len(patients) > 4 else "")
    return f"epoch {epoch + 1}, batch {batch + 1} (patient{'s' * (len(patients) > 1)} {names})"


def _first_broken(model: nn.Module) -> str | None:
    """Return the first weight that is NaN or Inf, found in one wait for the device."""
    highest = {
        name: each.float().abs().max()
        for name, each in model.state_dict().items()
        if each.is_floating_point() and each.numel()
    }
    finite = torch.stack([*highest.values()]).isfinite().tolist() if highest else []
    return next((name for name, good in zip(highest, finite, strict=True) if not good), None)


def check_pretraining(losses: Tensor, network: nn.Module, epoch: int, batch: int) -> None:
    """Raise RuntimeFailure where a loss or a weight is NaN or Inf."""
    broken = _first_broken(network) if losses.isfinite().all() else "loss"
    if broken:
        raise RuntimeFailure(
            f"pretraining, epoch {epoch + 1}, batch {batch + 1}: {broken} is NaN or Inf; try a "
            f"lower pretrain.lr, or trainer.precision=32-true"
        )
