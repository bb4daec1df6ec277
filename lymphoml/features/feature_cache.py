"""Features of every image, computed in one pass over the images and kept in the cache."""

import multiprocessing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lymphoml.core.cores import available_cores
from lymphoml.core.errors import InputError, RuntimeFailure, cache_error
from lymphoml.core.progress import progress_bar
from lymphoml.core.signals import end_with_parent
from lymphoml.data.cache import BagSource, cache_lock, check_entries, read_entry, write_entry
from lymphoml.data.decoding import Preprocessing, Size, common_size, decode_patient
from lymphoml.data.feature_store import FeatureStore
from lymphoml.data.problems import shortened
from lymphoml.features.blocks import FeatureBlock

FEW = 600  # images that this process computes before others would have started
MAX_PROCESSES = 8  # each holds its own copy of the networks, at most some 1.3 GB
Result = dict[int, np.ndarray] | list[str]  # features by block, or what is wrong with the images


class Task(NamedTuple):
    source: BagSource
    missing: tuple[int, ...]  # blocks


def load_features(
    blocks: Sequence[FeatureBlock], sources: Sequence[BagSource], cache: str
) -> list[FeatureStore]:
    """Return each block's store, computing what the cache lacks in one pass. Raises InputError."""
    folders = [Path(cache).expanduser() / "features" / block.key for block in blocks]
    try:
        if _tasks(blocks, sources, folders):
            with ExitStack() as locks:
                for folder in sorted({*folders}):
                    locks.enter_context(cache_lock(folder))
                # Another process may have computed some of them meanwhile.
                _compute_missing(blocks, _tasks(blocks, sources, folders), folders, sources)
    except OSError as error:
        raise cache_error(f"cache {folders[0].parent}", error) from None
    return [
        FeatureStore(
            {each.patient: np.array(read_entry(each.entry(folder))) for each in sources},
            block.names,
        )
        for block, folder in zip(blocks, folders, strict=True)
    ]


def _tasks(
    blocks: Sequence[FeatureBlock], sources: Sequence[BagSource], folders: Sequence[Path]
) -> list[Task]:
    """Return what is missing of each patient."""
    states = [check_entries(folder, sources) for folder in folders]
    tasks = [
        Task(source, tuple(
            index for index, block in enumerate(blocks)
            if states[index][number] != (len(source.paths), len(block.names))
        ))
        for number, source in enumerate(sources)
    ]  # fmt: skip
    return [task for task in tasks if task.missing]


def _compute_missing(
    blocks: Sequence[FeatureBlock], tasks: Sequence[Task], folders: Sequence[Path],
    sources: Sequence[BagSource],
) -> None:  # fmt: skip
    if not tasks:
        return
    total = sum(len(task.source.paths) for task in tasks)
    print(f"cache {folders[0].parent}: computing features of {total:,} images", flush=True)
    missing = [blocks[index] for index in sorted({i for task in tasks for i in task.missing})]
    of_one_size = {block.preprocessing for block in missing if block.one_size}
    sizes = {
        each: (common_size(sources, each) or (0, 0)) if each in of_one_size else None
        for each in (block.preprocessing for block in missing)
    }
    problems: list[str] = []
    with progress_bar("computing features", total) as bar:
        for task, result in zip(tasks, _results(blocks, tasks, sizes), strict=True):
            if isinstance(result, list):
                problems += result
            else:
                for index, features in result.items():
                    write_entry(task.source.entry(folders[index]), features.shape, features)
            bar.advance(len(task.source.paths))
    if problems:
        raise InputError(shortened(problems, "images like these"))


def _results(
    blocks: Sequence[FeatureBlock], tasks: Sequence[Task],
    sizes: Mapping[Preprocessing, Size | None],
) -> Iterator[Result]:  # fmt: skip
    """Yield the result of each task in turn, by several processes where that pays."""
    compute = partial(compute_patient, blocks, sizes=sizes)
    processes = min(available_cores(), MAX_PROCESSES, len(tasks))
    if processes == 1 or sum(len(task.source.paths) for task in tasks) < FEW:
        yield from map(compute, tasks)
        return
    # Spawned: a copy of a process that has run torch may hang.
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _start)
    try:
        yield from pool.map(compute, tasks)
    except BrokenProcessPool:
        raise RuntimeFailure(
            "features: a process was killed, often because memory is short; rerun the same command "
            "to resume"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start() -> None:
    end_with_parent()
    import torch

    torch.set_num_threads(1)  # there is a process for each core


def compute_patient(
    blocks: Sequence[FeatureBlock], task: Task, sizes: Mapping[Preprocessing, Size | None]
) -> Result:
    """Return the features of a patient's images for each block that misses them."""
    missing = {index: blocks[index].preprocessing for index in task.missing}
    with warnings.catch_warnings(action="error"):
        decoded = decode_patient(task.source, {each: sizes[each] for each in missing.values()})
        images: list[Any] = list(decoded)
    if problems := [each for each in images if isinstance(each, str)]:
        return problems
    return {
        index: blocks[index].compute([image[each] for image in images])
        for index, each in missing.items()
    }
