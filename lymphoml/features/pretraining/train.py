"""Pretrain an encoder on the images of some patients, without labels, once per set of settings.

Each epoch is a function of its number: an interrupted pretraining resumes to the same bytes.
"""

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lymphoml.core.errors import InputError, cache_error
from lymphoml.core.files import remove_stale_temp_files
from lymphoml.core.progress import progress_bar
from lymphoml.core.seeding import keyed_seed
from lymphoml.data.cache import Images, cache_lock, content_key, hash_images
from lymphoml.data.decoding import Preprocessing
from lymphoml.data.image_store import ImageStore, read_images
from lymphoml.features.pretraining.encoder_file import ENCODER, is_whole, write_encoder
from lymphoml.features.pretraining.methods import make_method
from lymphoml.features.pretraining.settings import PretrainConfig
from lymphoml.features.pretraining.views import Cells, Views
from lymphoml.models.build import build, limit_size
from lymphoml.training import hardware
from lymphoml.training.checkpoint import (
    LAST,
    PREVIOUS,
    AtomicCheckpointIO,
    load_checkpoint,
    verify_checksum,
)
from lymphoml.training.checkpoint_schema import check_weights
from lymphoml.training.finite import check_pretraining
from lymphoml.training.settings import TrainerConfig

VERSION = 1  # of the computation: another number, another folder in the cache
PRECISIONS = {"bf16-mixed": True, "32-true": False}
WARMUP = 0.1  # of all steps
START = 0.04  # of the largest learning rate


class Hardware(NamedTuple):
    device: str
    bfloat16: bool


def pretrain_encoder(
    settings: PretrainConfig, images: Images, cache: str, trainer: TrainerConfig
) -> Path:
    """Return the folder in `cache` of the encoder of these settings and images; train it if absent.

    Labels are not used. Raises InputError, and RuntimeFailure where training diverges or the
    machine gives out.
    """
    precision = hardware.resolve_precision(trainer.precision, trainer.accelerator)
    if precision not in PRECISIONS:
        raise InputError(
            f"trainer.precision={precision}: pretraining supports {' and '.join(PRECISIONS)}"
        )
    record = {
        "version": VERSION,
        "settings": settings.to_dict(),
        "precision": precision,
        "images": content_key(hash_images(images)),
    }
    name = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:32]
    folder = Path(cache).expanduser() / "pretrained" / name
    if is_whole(folder):
        return folder
    store, _ = read_images(images, Preprocessing.of(settings), cache)
    device = "cuda" if hardware.uses_cuda(trainer.accelerator) else "cpu"
    try:
        with cache_lock(folder):
            remove_stale_temp_files(folder)
            if not is_whole(folder):  # another process may have finished it meanwhile
                _train_and_write(folder, record, store, Hardware(device, PRECISIONS[precision]))
    except OSError as error:
        raise cache_error(f"pretrained encoder {folder}", error) from None
    return folder


def _train_and_write(
    folder: Path, record: dict[str, Any], store: ImageStore, where: Hardware
) -> None:
    settings = record["settings"]
    cells = Cells(store)
    if len(cells) < 2:
        raise InputError(f"pretraining: {len(cells)} images; at least 2 are needed")
    print(
        f"{folder / ENCODER}: pretraining by {settings['method']} on {len(cells):,} images of "
        f"{len(store.lengths)} patients",
        flush=True,
    )
    with torch.random.fork_rng():
        torch.manual_seed(keyed_seed(settings["seed"], "pretraining", "weights"))
        with limit_size():
            encoder = build(settings["encoder"])
        network = nn.ModuleDict({"encoder": encoder, "method": make_method(settings, encoder.dim)})
        losses = learn(network, cells, settings, where, folder)
    counts = {"patients": len(store.lengths), "cells": len(cells), "losses": losses}
    write_encoder(folder, network["encoder"], record | counts)
    for name in (LAST, PREVIOUS):
        AtomicCheckpointIO().remove_checkpoint(folder / name)


def learn(
    network: nn.ModuleDict, cells: Cells, settings: dict[str, Any], where: Hardware, folder: Path
) -> list[float]:
    """Train `network`, an `encoder` and a `method`; return the mean loss of each epoch.

    Resumes from the last epoch in `folder`. Raises RuntimeFailure for a loss that is NaN or Inf.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    network.to(where.device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), settings["lr"], weight_decay=settings["weight_decay"]
    )
    losses = _resume(folder, network, optimizer)
    for epoch in range(len(losses), settings["epochs"]):
        started = time.perf_counter()
        losses.append(_epoch(epoch, network, optimizer, cells, settings, where))
        seconds = time.perf_counter() - started
        content = {
            "epoch": epoch,
            "losses": losses,
            "state_dict": network.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        AtomicCheckpointIO().save_checkpoint(content, folder / LAST)
        print(
            f"pretraining, epoch {epoch + 1} of {settings['epochs']}: loss {losses[-1]:.4f}, "
            f"{len(cells) / seconds:.0f} images/s, {seconds:.0f} s",
            flush=True,
        )
    return losses


def one_cycle(progress: float) -> float:
    """Return the learning rate at a share of all steps, as a share of the largest.

    It rises, then falls to 0, both by a cosine (Smith and Topin 2019, as torch's OneCycleLR).
    """
    if progress < WARMUP:
        return START + (1 - START) * (1 - math.cos(math.pi * progress / WARMUP)) / 2
    return (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP))) / 2


def _epoch(
    epoch: int,
    network: nn.ModuleDict,
    optimizer: torch.optim.Optimizer,
    cells: Cells,
    settings: dict[str, Any],
    where: Hardware,
) -> float:
    views, seed = Views(settings), settings["seed"]
    steps = max(1, len(cells) // settings["batch_size"])
    losses = []
    with progress_bar(f"pretraining, epoch {epoch + 1}", steps) as bar:
        for step, images in enumerate(cells.batches(settings["batch_size"], seed, epoch)):
            torch.manual_seed(keyed_seed(seed, "pretraining", epoch, step))
            progress = (epoch * steps + step) / (settings["epochs"] * steps)
            for group in optimizer.param_groups:
                group["lr"] = settings["lr"] * one_cycle(progress)
            loss = _loss(network, views, images.to(where.device), where)
            if where.device == "cpu" or step + 1 == steps:  # a look waits for another device
                check_pretraining(loss.detach(), network, epoch, step)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            bar.advance()
    check_pretraining(torch.stack(losses), network, epoch, steps - 1)
    return float(torch.stack(losses).double().mean())


def _loss(network: nn.ModuleDict, views: Views, images: Tensor, where: Hardware) -> Tensor:
    method: Any = network["method"]
    batch = torch.cat([views(images), views(images)])
    batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.autocast(where.device, torch.bfloat16, enabled=where.bfloat16):
        outputs = method.head(network["encoder"](batch))
    return method.loss(*outputs.float().chunk(2))


def _resume(folder: Path, network: nn.ModuleDict, optimizer: torch.optim.Optimizer) -> list[float]:
    """Load the newest intact checkpoint, if there is one; return the losses of its epochs."""
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        if problem := verify_checksum(path):
            print(f"pretraining: {path} {problem}; it is ignored", flush=True)
            continue
        content = load_checkpoint(path)
        check_weights(network, content["state_dict"])
        network.load_state_dict(content["state_dict"])
        optimizer.load_state_dict(content["optimizer"])
        print(f"pretraining resumes after epoch {content['epoch'] + 1}", flush=True)
        return list(content["losses"])
    return []
