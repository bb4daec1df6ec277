"""Epochs of pretraining, each a function of its number: killed and resumed, it ends in the same."""

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lymphoml.checkpoint import LAST, PREVIOUS, AtomicCheckpointIO, damage, load_checkpoint
from lymphoml.checkpoint_content import check_weights
from lymphoml.data.building import progress_bar
from lymphoml.divergence import check_pretraining
from lymphoml.pretraining.cells import Cells
from lymphoml.pretraining.views import Views
from lymphoml.seeding import keyed_seed

RISE = 0.1  # of all steps
FIRST = 0.04  # of the largest rate


class Arithmetic(NamedTuple):
    device: str
    half: bool  # bfloat16 where it is multiplied


def learn(
    network: nn.ModuleDict, cells: Cells, settings: dict[str, Any], how: Arithmetic, folder: Path
) -> list[float]:
    """Train `network`, an `encoder` and a `method`, from the last epoch that `folder` keeps.

    The mean loss of each epoch. Raises Failure where one is no number.
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
    with progress_bar() as bar:
        task = bar.add_task(f"pretraining, epoch {epoch + 1}", total=steps)
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
            bar.advance(task)
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
        if problem := damage(path):
            print(f"pretraining: {path} {problem}; going on without it", flush=True)
            continue
        content = load_checkpoint(path)
        check_weights(network, content["state_dict"])
        network.load_state_dict(content["state_dict"])
        optimiser.load_state_dict(content["optimiser"])
        print(f"pretraining goes on after epoch {content['epoch'] + 1}", flush=True)
        return list(content["losses"])
    return []
