"""Checkpoints that survive a kill while they are written, and run nothing when they are read."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO

from lymphoml.core.errors import InputError, one_line
from lymphoml.core.files import fsync, replacing, sha256, write_text
from lymphoml.core.tensor_files import check_torch_archive
from lymphoml.training.checkpoint_schema import validate_checkpoint
from lymphoml.training.finite import check_weights

LAST = "last.ckpt"  # the end of the last finished epoch
PREVIOUS = "previous.ckpt"  # the end of the one before, should the last be damaged
SELECTED = "selected.ckpt"  # the epoch that the inner validation split chose, weights only


class AtomicCheckpointIO(CheckpointIO):
    """Written beside its place, flushed, moved into it; a `.sha256` beside it says it is whole.

    `last.ckpt` becomes `previous.ckpt` just before, by a move. A kill between the two moves leaves
    no `last.ckpt` and a good `previous.ckpt`; one anywhere else leaves both files whole. Sidecars
    name the old and the new digest while files change hands, and those of the two count for both,
    so that whichever file a kill leaves is recognised.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        path = Path(path)
        previous = path.with_name(PREVIOUS)
        rotates = path.name == LAST and path.exists()
        old = _digests(path) if path.exists() else []
        with replacing(path) as file:
            _save(checkpoint, file)
            fsync(file)  # before anything that is good gives way
            new = sha256(Path(file.name))
            _note(path, [*old, new])
            if rotates:
                os.replace(path, previous)
        if rotates:
            _note(previous, old)
        _note(path, [new])

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
        _sidecar(Path(path)).unlink(missing_ok=True)


def damage(path: Path) -> str | None:
    """What is wrong with the file `path`, after its name; None where it is as it was written."""
    sidecar = _sidecar(path)
    if not path.exists():
        return "is missing"
    pair = (LAST, PREVIOUS) if path.name in (LAST, PREVIOUS) else (path.name,)
    if sha256(path) in [each for name in pair for each in _digests(path.with_name(name))]:
        return None
    if not sidecar.exists():
        return f"cannot be verified: {sidecar.name} is missing"
    if not path.stat().st_size:
        return "is empty"
    return f"differs from its {sidecar.name}: it is truncated, corrupted or was changed"


def write_digest(path: Path, place: Path) -> None:
    """Let the sidecar of `place` name the file `path`, which is about to be moved there."""
    _note(place, [sha256(path)])


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `path` holds, on the CPU: tensors and primitives; InputError where it is not whole."""
    if problem := damage(path):
        raise InputError(f"checkpoint {path} {problem}; {retrain_hint(path.parent)}")
    try:
        check_torch_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        validate_checkpoint(content)
        return content
    except Exception as error:  # whatever a foreign file makes the unpickler say
        raise InputError(
            f"checkpoint {path} cannot be read as weights ({one_line(error)[:120]}); "
            f"{retrain_hint(path.parent)}"
        ) from None


def retrain_hint(fold_folder: Path) -> str:
    """What to do about a fold that cannot be mended."""
    return (
        f"remove {fold_folder} and give the run's command again: it trains this fold from its start"
    )


class SaveEpoch(pl.callbacks.Checkpoint):
    """`last.ckpt` at every epoch's end; with an inner split, `selected.ckpt` at its lowest loss.

    Lightning runs a Checkpoint after all other callbacks, so their state of this epoch is in it.
    Within `reported(module)` the module has the weights that the fold will be judged by.
    """

    def __init__(
        self,
        folder: Path,
        select: bool,
        reported: Callable[[Any], AbstractContextManager] = nullcontext,
    ):
        self.folder, self.select, self.reported = folder, select, reported
        self.selected_epoch: int | None = None
        self.selected_loss = float("inf")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        check_weights(module, trainer.current_epoch)  # what is kept can be gone on from
        loss = trainer.callback_metrics.get("inner/loss")
        if self.select and loss is not None and float(loss) < self.selected_loss:
            self.selected_epoch, self.selected_loss = trainer.current_epoch, float(loss)
            with self.reported(module):  # Lightning puts averages in full checkpoints alone
                trainer.save_checkpoint(self.folder / SELECTED, weights_only=True)
        trainer.save_checkpoint(self.folder / LAST)

    def state_dict(self) -> dict[str, Any]:
        return {"selected_epoch": self.selected_epoch, "selected_loss": self.selected_loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.selected_epoch = state["selected_epoch"]
        self.selected_loss = state["selected_loss"]
        if self.selected_epoch is not None and (problem := damage(self.folder / SELECTED)):
            raise InputError(
                f"checkpoint {self.folder / SELECTED} {problem}, and no later epoch makes it "
                f"again; {retrain_hint(self.folder)}"
            )


def reported_checkpoint(fold_folder: Path, selected_epoch: int | None) -> Path:
    """The checkpoint whose predictions are the fold's: the selected epoch's, else the last's."""
    return fold_folder / (LAST if selected_epoch is None else SELECTED)


def _save(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:  # torch's writer hides what the file said
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digests(path: Path) -> list[str]:
    """What the checkpoint's sidecar says it may be; nothing where there is none."""
    sidecar = _sidecar(path)
    if not sidecar.exists():
        return []
    lines = sidecar.read_text(errors="replace").splitlines()
    return [line.split()[0] for line in lines if line.strip()]


def _note(path: Path, digests: Sequence[str]) -> None:
    write_text(_sidecar(path), "".join(f"{digest}  {path.name}\n" for digest in digests))


# Where a fold goes on: from its last checkpoint, else the one before, never silently anew.


class Start(NamedTuple):
    checkpoint: Path | None  # None: from the start
    told: str | None  # what the user should know: what is damaged, what is lost


def find_resume_checkpoint(folder: Path, fold: int) -> Start:
    """Of the fold in `folder`. A damaged `last.ckpt` gives way to `previous.ckpt`.

    Raises InputError where epochs were trained and no good checkpoint is left of them.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    problem = damage(last)
    if problem is None:
        return Start(last, None)
    if not last.exists() and not previous.exists():
        return _without_checkpoint(folder, fold)
    if older := damage(previous):
        raise InputError(
            f"fold {fold}: {last} {problem}, and {PREVIOUS} {older}; {retrain_hint(folder)}"
        )
    epoch = load_checkpoint(previous)["epoch"] + 1
    _take_place(previous, last)
    return Start(
        last, f"fold {fold}: {last} {problem}; going on from {PREVIOUS}, the end of epoch {epoch}"
    )


def _without_checkpoint(folder: Path, fold: int) -> Start:
    """History comes before its epoch's checkpoint: of one row none need have been lost."""
    history = folder / "history.csv"
    epochs = len(history.read_text().splitlines()) - 1 if history.exists() else 0
    if epochs > 1:
        raise InputError(
            f"fold {fold}: {history} tells of {epochs} epochs, and {LAST} and {PREVIOUS} are "
            f"missing; {retrain_hint(folder)}"
        )
    lost = f"fold {fold}: stopped before {LAST} was first written; it begins anew"
    return Start(None, lost if epochs else None)


def _take_place(previous: Path, last: Path) -> None:
    """Of the damaged one: the next epoch's end must not move it over the good one."""
    write_digest(previous, last)
    os.replace(previous, last)
