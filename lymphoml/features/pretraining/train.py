"""Epochs of pretraining, each a function of its number: killed and resumed, it ends in the same."""

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

RISE = 0.1  # of all steps
FIRST = 0.04  # of the largest rate


class Arithmetic(NamedTuple):
    device: str
    half: bool  # bfloat16 where it is multiplied


def learn(
    network: nn.ModuleDict, cells: Cells, settings: dict[str, Any], how: Arithmetic, folder: Path
) -> list[float]:
    """Train `network`, an `encoder` and a `method`, from the last epoch that `folder` keeps.

    The mean loss of each epoch. Raises RuntimeFailure where one is no number.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    network.to(how.device).to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(
        network.parameters(), settings["lr"], weight_decay=settings["weight_decay"]
    )
    losses = _restore(folder, network, optimiser)
    for epoch in range(len(losses), settings["epochs"]):
        started = time.perf_counter()
        losses.append(_epoch(epoch, network, optimiser, cells, settings, how))
        seconds = time.perf_counter() - started
        content = {
            "epoch": epoch,
            "losses": losses,
            "state_dict": network.state_dict(),
            "optimiser": optimiser.state_dict(),
        }
        AtomicCheckpointIO().save_checkpoint(content, folder / LAST)
        print(
            f"pretraining, epoch {epoch + 1} of {settings['epochs']}: loss {losses[-1]:.4f}, "
            f"{len(cells) / seconds:.0f} images/s, {seconds:.0f} s",
            flush=True,
        )
    return losses


def one_cycle(done: float) -> float:
    """The rate when a share `done` of all steps is, as a share of the largest.

    It rises, then falls to 0, both by a cosine (Smith and Topin 2019, as torch's OneCycleLR).
    """
    if done < RISE:
        return FIRST + (1 - FIRST) * (1 - math.cos(math.pi * done / RISE)) / 2
    return (1 + math.cos(math.pi * (done - RISE) / (1 - RISE))) / 2


def _epoch(
    epoch: int,
    network: nn.ModuleDict,
    optimiser: torch.optim.Optimizer,
    cells: Cells,
    settings: dict[str, Any],
    how: Arithmetic,
) -> float:
    views, seed = Views(settings), settings["seed"]
    steps = max(1, len(cells) // settings["batch_size"])
    losses = []
    with progress_bar(f"pretraining, epoch {epoch + 1}", steps) as bar:
        for step, images in enumerate(cells.batches(settings["batch_size"], seed, epoch)):
            # Views, and whatever else draws.
            torch.manual_seed(keyed_seed(seed, "pretraining", epoch, step))
            share = (epoch * steps + step) / (settings["epochs"] * steps)
            for group in optimiser.param_groups:
                group["lr"] = settings["lr"] * one_cycle(share)
            loss = _loss(network, views, images.to(how.device), how)
            if how.device == "cpu" or step + 1 == steps:  # elsewhere looking waits for the device
                check_pretraining(loss.detach(), network, epoch, step)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.detach())
            bar.advance()
    check_pretraining(torch.stack(losses), network, epoch, steps - 1)
    return float(torch.stack(losses).double().mean())


def _loss(network: nn.ModuleDict, views: Views, images: Tensor, how: Arithmetic) -> Tensor:
    method: Any = network["method"]
    seen = torch.cat([views(images) for _ in range(method.views)])
    seen = seen.contiguous(memory_format=torch.channels_last)
    with torch.autocast(how.device, torch.bfloat16, enabled=how.half):
        outputs = method.head(network["encoder"](seen))
    return method.loss(outputs.float(), seen)


def _restore(folder: Path, network: nn.ModuleDict, optimiser: torch.optim.Optimizer) -> list[float]:
    """Of the epochs that are done, by the newer checkpoint that is whole; none begins anew.

    Nothing is lost but time: whatever is begun again ends in the same.
    """
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        if problem := verify_checksum(path):
            print(f"pretraining: {path} {problem}; going on without it", flush=True)
            continue
        content = load_checkpoint(path)
        check_weights(network, content["state_dict"])
        network.load_state_dict(content["state_dict"])
        optimiser.load_state_dict(content["optimiser"])
        print(f"pretraining goes on after epoch {content['epoch'] + 1}", flush=True)
        return list(content["losses"])
    return []


# An encoder trained on the images of some patients, once: kept by what it was made from.

VERSION = 1  # of what this package makes of images: another number, another place in the cache
PRECISIONS = {"bf16-mixed": True, "32-true": False}


def pretrained(
    settings: PretrainConfig, images: Images, cache: str, trainer: TrainerConfig
) -> Path:
    """The folder in `cache` of the encoder that `settings` make of these images, made if lacking.

    `settings` are the settled group `pretrain`, `trainer` the group of that name. No label is
    given, so none is read. Killed anywhere, the same call goes on from the last finished epoch and
    ends in the same bytes. Raises InputError, and RuntimeFailure where training or machine give out.
    """
    precision = hardware.resolve_precision(trainer["precision"], trainer["accelerator"])
    if precision not in PRECISIONS:
        raise InputError(
            f"trainer.precision={precision}: pretraining knows {' and '.join(PRECISIONS)}"
        )
    content = content_key(hash_images(images))
    told = {
        "version": VERSION,
        "settings": settings.to_dict(),
        "precision": precision,
        "images": content,
    }
    name = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
    folder = Path(cache).expanduser() / "pretrained" / name
    if is_whole(folder):
        return folder
    store, _ = read_images(images, Preprocessing.of(settings), cache)
    device = "cuda" if hardware.uses_cuda(trainer["accelerator"]) else "cpu"
    try:
        with cache_lock(folder):
            remove_stale_temp_files(folder)
            if not is_whole(folder):  # whoever held it before may have finished it
                _make(folder, told, store, Arithmetic(device, PRECISIONS[precision]))
    except OSError as error:
        raise cache_error(f"pretrained encoder {folder}", error) from None
    return folder


def _make(folder: Path, told: dict[str, Any], store: ImageStore, how: Arithmetic) -> None:
    settings = told["settings"]
    cells = Cells(store)
    if len(cells) < 2:
        raise InputError(f"pretraining: {len(cells)} images; at least 2 are needed")
    print(
        f"{folder / ENCODER}: pretraining by {settings['method']} on {len(cells):,} images of "
        f"{len(store.lengths)} patients",
        flush=True,
    )
    with torch.random.fork_rng():
        network = _network(settings, store.size)
        losses = learn(network, cells, settings, how, folder)
    counts = {"patients": len(store.lengths), "cells": len(cells), "losses": losses}
    write_encoder(folder, network["encoder"], told | counts)
    for name in (LAST, PREVIOUS):
        AtomicCheckpointIO().remove_checkpoint(folder / name)


def _network(settings: dict[str, Any], size: tuple[int, int]) -> nn.ModuleDict:
    torch.manual_seed(keyed_seed(settings["seed"], "pretraining", "weights"))
    with limit_size():
        encoder = build(settings["encoder"])
    return nn.ModuleDict({"encoder": encoder, "method": make_method(settings, encoder.dim, size)})
