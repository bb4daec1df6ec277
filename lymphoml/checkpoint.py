"""Checkpoints that survive a kill while they are written, and run nothing when they are read."""

import hashlib
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO

from lymphoml.archive import check_archive
from lymphoml.checkpoint_content import check_content
from lymphoml.errors import InputError, one_line
from lymphoml.files import replacing, write_text

LAST = "last.ckpt"  # the end of the last finished epoch
SELECTED = "selected.ckpt"  # the epoch that the inner validation split chose, weights only


class AtomicCheckpointIO(CheckpointIO):
    """Written beside its place, flushed, moved into it; a `.sha256` beside it says it is whole.

    The sidecar names the old and the new digest while the file changes hands, so that whichever
    file a kill leaves is recognised.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        path = Path(path)
        sidecar = _sidecar(path)
        old = sidecar.read_text() if path.exists() and sidecar.exists() else ""
        with replacing(path) as file:
            torch.save(checkpoint, file)
            file.flush()
            new = f"{_sha256(Path(file.name))}  {path.name}\n"
            write_text(sidecar, old + new)
        write_text(sidecar, new)

    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        return load_checkpoint(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
        _sidecar(Path(path)).unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `path` holds, on the CPU: tensors and primitives; InputError where it is not whole."""
    sidecar = _sidecar(path)
    if not path.exists() or not sidecar.exists():
        missing = path if not path.exists() else sidecar
        raise InputError(
            f"checkpoint {missing} is missing; remove the fold's folder and train it again"
        )
    known = {line.split()[0] for line in sidecar.read_text().splitlines() if line.strip()}
    if _sha256(path) not in known:
        raise InputError(
            f"checkpoint {path} differs from its {sidecar.name}: it is damaged or was changed; "
            f"remove the fold's folder and train it again"
        )
    try:
        check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        check_content(content)
        return content
    except Exception as error:  # whatever a foreign file makes the unpickler say
        raise InputError(
            f"checkpoint {path} cannot be read as weights ({one_line(error)[:120]})"
        ) from None


class SaveEpoch(pl.callbacks.Checkpoint):
    """`last.ckpt` at every epoch's end; with an inner split, `selected.ckpt` at its lowest loss.

    Lightning runs a Checkpoint after all other callbacks, so their state of this epoch is in it.
    """

    def __init__(self, folder: Path, select: bool):
        self.folder, self.select = folder, select
        self.selected_epoch: int | None = None
        self.selected_loss = float("inf")

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        loss = trainer.callback_metrics.get("inner/loss")
        if self.select and loss is not None and float(loss) < self.selected_loss:
            self.selected_epoch, self.selected_loss = trainer.current_epoch, float(loss)
            trainer.save_checkpoint(self.folder / SELECTED, weights_only=True)
        trainer.save_checkpoint(self.folder / LAST)

    def state_dict(self) -> dict[str, Any]:
        return {"selected_epoch": self.selected_epoch, "selected_loss": self.selected_loss}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.selected_epoch = state["selected_epoch"]
        self.selected_loss = state["selected_loss"]


def reported_checkpoint(fold_folder: Path) -> Path:
    """The checkpoint whose predictions are the fold's: the selected epoch's, else the last's."""
    selected = fold_folder / SELECTED
    return selected if selected.exists() else fold_folder / LAST


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
