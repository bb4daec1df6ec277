"""An encoder pretrained on the images of some patients, kept by what it was made from."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from lymphoml.core.errors import InputError, cache_error
from lymphoml.core.files import remove_stale_temp_files
from lymphoml.core.seeding import keyed_seed
from lymphoml.data.cache import Images, cache_lock, content_key, hash_images
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.image_store import read_images
from lymphoml.features.pretraining.encoder_file import ENCODER, is_whole, write_encoder
from lymphoml.features.pretraining.module import Cells, PretrainingModule
from lymphoml.features.pretraining.settings import PretrainConfig
from lymphoml.models.build import build, limit_size
from lymphoml.training.callbacks import KeyedSeeds
from lymphoml.training.checkpoint import (
    LAST,
    PREVIOUS,
    AtomicCheckpointIO,
    SaveEpoch,
    verify_checksum,
)
from lymphoml.training.hardware import resolve_precision
from lymphoml.training.settings import TrainerConfig
from lymphoml.training.trainer import make_trainer

VERSION = 3  # of pretraining: another number, another place in the cache


def pretrain_encoder(
    settings: PretrainConfig, images: Images, cache: str, trainer: TrainerConfig
) -> Path:
    """Return the folder in `cache` of the encoder that `settings` make of these images.

    `trainer` is the section of that name. Labels are not used. Killed anywhere, the same call
    resumes after the last finished epoch and ends in the same bytes. Raises InputError, and
    RuntimeFailure where training diverges or the machine gives out.
    """
    content = content_key(hash_images(images))
    precision = resolve_precision(trainer.precision, trainer.accelerator)
    made_from = {
        "version": VERSION,
        "settings": settings.to_dict(),
        "images": content,
        "precision": precision,
    }
    name = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]
    folder = Path(cache).expanduser() / "pretrained" / name
    if is_whole(folder):
        return folder
    store, _ = read_images(images, Preprocessing.of(settings), cache)
    try:
        with cache_lock(folder):
            remove_stale_temp_files(folder)
            if not is_whole(folder):  # whoever held the lock before may have finished it
                _pretrain(settings, Cells(store), folder, trainer, made_from)
    except OSError as error:
        raise cache_error(f"pretrained encoder {folder}", error) from None
    return folder


def _pretrain(
    settings: PretrainConfig,
    cells: Cells,
    folder: Path,
    trainer: TrainerConfig,
    made_from: dict[str, Any],
) -> None:
    if len(cells) < 2:
        raise InputError(f"pretraining: {len(cells)} images; at least 2 are needed")
    print(
        f"{folder / ENCODER}: pretraining by {settings.method} on {len(cells):,} images", flush=True
    )
    with torch.random.fork_rng():
        torch.manual_seed(keyed_seed(settings.seed, "pretraining", "weights"))
        with limit_size():
            module = PretrainingModule(settings, build(settings.encoder), cells)
        options = trainer.replace(
            {"max_epochs": settings.epochs, "check_val_every_n_epoch": 1, "patience": None}
        )
        callbacks = [KeyedSeeds(settings.seed, "pretraining"), SaveEpoch(folder, select=False)]
        lightning = make_trainer(options, folder, logger=False, callbacks=callbacks)
        lightning.fit(module, ckpt_path=_last_epoch(folder), weights_only=True)
    write_encoder(folder, module.encoder, made_from | {"losses": module.losses})
    for name in (LAST, PREVIOUS):
        AtomicCheckpointIO().remove_checkpoint(folder / name)


def _last_epoch(folder: Path) -> Path | None:
    """Return the newer intact checkpoint; None: pretraining starts again, to the same end."""
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        if problem := verify_checksum(path):
            print(f"pretraining: {path} {problem}; resuming without it", flush=True)
            AtomicCheckpointIO().remove_checkpoint(path)
        else:
            print(f"pretraining resumes from {path}", flush=True)
            return path
    return None
