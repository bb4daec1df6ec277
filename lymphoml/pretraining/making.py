"""An encoder trained on the images of some patients, once: kept by what it was made from."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lymphoml.build import build
from lymphoml.checkpoint import LAST, PREVIOUS, AtomicCheckpointIO
from lymphoml.data.building import locked
from lymphoml.data.images import Images, ImageStore, content_key, hash_images, read_images
from lymphoml.errors import InputError
from lymphoml.failures import cache_refusal
from lymphoml.files import remove_leftovers
from lymphoml.machine import compute
from lymphoml.nn.bounded import bounded
from lymphoml.pretraining.cells import Cells
from lymphoml.pretraining.encoder_file import ENCODER, is_whole, write_encoder
from lymphoml.pretraining.learning import Arithmetic, learn
from lymphoml.pretraining.methods import make_method
from lymphoml.seeding import keyed_seed

VERSION = 1  # of what this package makes of images: another number, another place in the cache
PRECISIONS = {"bf16-mixed": True, "32-true": False}


def pretrained(
    settings: dict[str, Any], images: Images, cache: str, trainer: dict[str, Any]
) -> Path:
    """The folder in `cache` of the encoder that `settings` make of these images, made if lacking.

    `settings` are the settled group `pretrain`, `trainer` the group of that name. No label is
    given, so none is read. Killed anywhere, the same call goes on from the last finished epoch and
    ends in the same bytes. Raises InputError, and Failure where training or machine give out.
    """
    precision = compute.precision(trainer["precision"], trainer["accelerator"])
    if precision not in PRECISIONS:
        raise InputError(
            f"trainer.precision={precision}: pretraining knows {' and '.join(PRECISIONS)}"
        )
    content = content_key(hash_images(images))
    told = {"version": VERSION, "settings": settings, "precision": precision, "images": content}
    name = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]
    folder = Path(cache).expanduser() / "pretrained" / name
    if is_whole(folder):
        return folder
    store, _ = read_images(images, settings | {"cache": cache})
    device = "cuda" if compute.uses_cuda(trainer["accelerator"]) else "cpu"
    try:
        with locked(folder):
            remove_leftovers(folder)
            if not is_whole(folder):  # whoever held it before may have finished it
                _make(folder, told, store, Arithmetic(device, PRECISIONS[precision]))
    except OSError as error:
        raise cache_refusal(f"pretrained encoder {folder}", error) from None
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
    with bounded():
        encoder = build(settings["encoder"])
    return nn.ModuleDict({"encoder": encoder, "method": make_method(settings, encoder.dim, size)})
