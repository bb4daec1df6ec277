"""Checkpoints that survive a kill while they are written, and run nothing when they are read."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO

from lymphoml.core.errors import InputError, one_line
from lymphoml.core.files import atomic_write, fsync, sha256, write_text
from lymphoml.core.tensor_files import check_claims, check_torch_archive
from lymphoml.training.checkpoint_schema import Checkpoint, validate_checkpoint
from lymphoml.training.finite import check_finite_weights

LAST = "last.ckpt"  # the end of the last finished epoch
PREVIOUS = "previous.ckpt"  # the end of the epoch before, should the last be corrupt
SELECTED = "selected.ckpt"  # the epoch that the inner validation split chose


class AtomicCheckpointIO(CheckpointIO):
    """Writes a temporary file, flushes it and moves it into place, a `.sha256` next to it.

    `last.ckpt` becomes `previous.ckpt` just before, by a move. A kill between the two moves leaves
    no `last.ckpt` and a good `previous.ckpt`; one at any other moment leaves both files good.
    While files are moved a digest file has the old and the new digest, and those of the two files
    count for both, so that whichever file a kill leaves is recognised.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        path = Path(path)
        previous = path.with_name(PREVIOUS)
        rotates = path.name == LAST and path.exists()
        old = _read_digests(path) if path.exists() else []
        with atomic_write(path) as file:
            _save(checkpoint, file)
            fsync(file)  # before a good file is moved away
            new = sha256(Path(file.name))
            _write_digests(path, [*old, new])
            if rotates:
                os.replace(path, previous)
        if rotates:
            _write_digests(previous, old)
        _write_digests(path, [new])

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
        _digest_file(Path(path)).unlink(missing_ok=True)


def _save(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:  # torch's writer hides the file's own error
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def load_checkpoint(path: Path, schema: type[Checkpoint] = Checkpoint) -> dict[str, Any]:
    """Return the content of `path` on the CPU: tensors and primitives.

    Raises InputError where it is corrupt, would run code, or does not have the schema.
    """
    if problem := verify_checksum(path):
        raise InputError(f"checkpoint {path} {problem}; {retrain_hint(path.parent)}")
    try:
        check_torch_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        check_claims(content)
        validate_checkpoint(content, schema)
        return content
    except Exception as error:  # whatever an untrusted file makes the unpickler raise
        raise InputError(
            f"checkpoint {path} cannot be read as weights ({one_line(error)[:120]}); "
            f"{retrain_hint(path.parent)}"
        ) from None


def verify_checksum(path: Path) -> str | None:
    """Return what is wrong with the file, to follow its name; None where it is as written."""
    if not path.exists():
        return "is missing"
    pair = (LAST, PREVIOUS) if path.name in (LAST, PREVIOUS) else (path.name,)
    if sha256(path) in [each for name in pair for each in _read_digests(path.with_name(name))]:
        return None
    digest_file = _digest_file(path)
    if not digest_file.exists():
        return f"cannot be verified: {digest_file.name} is missing"
    differs = f"is corrupt: it differs from its {digest_file.name}"
    return differs if path.stat().st_size else "is empty"


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _read_digests(path: Path) -> list[str]:
    file = _digest_file(path)
    lines = file.read_text(errors="replace").splitlines() if file.exists() else []
    return [line.split()[0] for line in lines if line.strip()]


def _write_digests(path: Path, digests: Sequence[str]) -> None:
    write_text(_digest_file(path), "".join(f"{digest}  {path.name}\n" for digest in digests))


def retrain_hint(fold_folder: Path) -> str:
    return f"remove {fold_folder} and rerun the run's command to train this fold again"


def reported_checkpoint(fold_folder: Path, selected_epoch: int | None) -> Path:
    """Return the checkpoint that the fold's predictions come from."""
    return fold_folder / (LAST if selected_epoch is None else SELECTED)


class SaveEpoch(pl.callbacks.Checkpoint):
    """`last.ckpt` at every epoch's end; with an inner split, `selected.ckpt` at its lowest loss.

    Lightning runs a Checkpoint after all other callbacks, so their state of this epoch is in it.
    With `averages` the selected checkpoint is a full one: Lightning puts averages in no other.
    """

    def __init__(self, folder: Path, select: bool, averages: bool = False):
        self.folder, self.select, self.averages = folder, select, averages
        self.selected_epoch: int | None = None
        self.selected_loss = float("inf")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        check_finite_weights(module, trainer.current_epoch)
        loss = trainer.callback_metrics.get("inner/loss")
        if self.select and loss is not None and float(loss) < self.selected_loss:
            self.selected_epoch, self.selected_loss = trainer.current_epoch, float(loss)
            trainer.save_checkpoint(self.folder / SELECTED, not self.averages)
        trainer.save_checkpoint(self.folder / LAST)

    def state_dict(self) -> dict[str, Any]:
        return {"selected_epoch": self.selected_epoch, "selected_loss": self.selected_loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.selected_epoch, self.selected_loss = state["selected_epoch"], state["selected_loss"]
        path = self.folder / SELECTED
        if self.selected_epoch is not None and (problem := verify_checksum(path)):
            raise InputError(
                f"checkpoint {path} {problem}, and no later epoch writes it again; "
                f"{retrain_hint(self.folder)}"
            )


class ResumePoint(NamedTuple):
    checkpoint: Path | None  # None: train from the start
    notice: str | None = None  # what is corrupt or lost


def find_resume_checkpoint(folder: Path, fold: int) -> ResumePoint:
    """Return the last good checkpoint of the fold: `last.ckpt`, else `previous.ckpt`.

    Raises InputError where epochs were trained and no good checkpoint is left.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    problem = verify_checksum(last)
    if problem is None:
        return ResumePoint(last)
    if not last.exists() and not previous.exists():
        return _without_checkpoint(folder, fold)
    if older := verify_checksum(previous):
        raise InputError(
            f"fold {fold}: {last} {problem}, and {PREVIOUS} {older}; {retrain_hint(folder)}"
        )
    epoch = load_checkpoint(previous)["epoch"] + 1
    # It takes the place of the corrupt file, which the next epoch would move over the good one.
    _write_digests(last, [sha256(previous)])
    os.replace(previous, last)
    notice = f"{last} {problem}; resuming from {PREVIOUS}, the end of epoch {epoch}"
    return ResumePoint(last, f"fold {fold}: {notice}")


def _without_checkpoint(folder: Path, fold: int) -> ResumePoint:
    """An epoch's history row is written before its checkpoint, so a single row is no loss."""
    history = folder / "history.csv"
    epochs = len(history.read_text().splitlines()) - 1 if history.exists() else 0
    if epochs > 1:
        raise InputError(
            f"fold {fold}: {history} has {epochs} epochs, but {LAST} and {PREVIOUS} are missing; "
            f"{retrain_hint(folder)}"
        )
    notice = f"fold {fold}: interrupted before the first {LAST}; training from the start"
    return ResumePoint(None, notice if epochs else None)
