"""The morphology of every image of a cohort, over all cores."""

import multiprocessing
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version

import numpy as np

from lymphoml.data.decoding import Framing, open_unchanged
from lymphoml.data.parts import Source
from lymphoml.errors import Failure
from lymphoml.features.morphology import NAMES, VERSION, measure
from lymphoml.machine.cores import available_cores
from lymphoml.stopping import end_with_parent

WHOLE = Framing(crop=None, resize=None)  # always measured on the image as it lies in its file
FEW = 400  # images that are measured before other processes would have started


class Morphology:
    """An Extractor: `morphology.NAMES` of each image."""

    names = NAMES
    settings = ",".join(
        [f"morphology-v{VERSION}"]
        + [f"{each}={version(each)}" for each in ("scikit-image", "scipy", "pillow")]
    )

    def rows(self, sources: Sequence[Source]) -> Iterator[np.ndarray | list[str]]:
        cores = available_cores()
        if cores == 1 or sum(len(source.paths) for source in sources) < FEW:
            yield from map(measure_patient, sources)
            return
        # Spawned: a copy of a process that has run torch may hang.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(cores, context, initializer=end_with_parent)
        try:
            yield from pool.map(measure_patient, sources)
        except BrokenProcessPool:
            raise Failure(
                "features: a process that measures cells was killed, often for want of memory; "
                "the same command goes on"
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def measure_patient(source: Source) -> np.ndarray | list[str]:
    """float32 (m, d); or a line for each image that cannot be used."""
    found, problems = [], []
    with warnings.catch_warnings(action="error"):
        for path, digest in zip(source.paths, source.digests, strict=True):
            opened = open_unchanged(path, digest, WHOLE)
            if isinstance(opened, str):
                problems.append(f"image {path} of patient {source.patient}: {opened}")
            else:
                found.append(measure(np.asarray(opened.image)))
    return problems or np.stack(found)
