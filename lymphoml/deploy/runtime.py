"""An exported model on raw images and clinical values: onnxruntime and numpy, no torch.

A graph answers anything: no image, NaN, a count of 0. What is no input is refused here.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import numpy as np

from lymphoml.core.cores import available_cores
from lymphoml.core.errors import InputError, one_line
from lymphoml.core.section import Section
from lymphoml.core.untrusted import read_mapping, reject_symlinks
from lymphoml.data.decoding import ImageProblem, Preprocessing, check_size, open_rgb, read_image
from lymphoml.deploy import settings
from lymphoml.runs.checksums import changed_files

FORMAT = 1  # of the folder
CONFIG, PREPROCESSING, RANGES, RULE = (
    "config.json", "preprocessing.json", "training_ranges.json", "rule_out.json",
)  # fmt: skip
ENCODER, HEAD = "encoder.onnx", "head.onnx"
CHUNK = 4  # images at a time, of a network at 224 pixels: more leave the processor's cache
EXPORT_AGAIN = "export the run again with `python -m lymphoml export`"
DECODING = Lock()


Kind = TypeVar("Kind", bound=Section)


class Answer(NamedTuple):
    probability: float  # of tumoral, mean over the models
    logit: float  # of that mean
    by_fold: np.ndarray  # float64 (k)


class ExportedModel:
    """The models of a run's folds, as `python -m lymphoml export` wrote them into `folder`.

    Raises InputError where the folder is damaged or of another format.
    """

    def __init__(self, folder: Path):
        if not (folder / CONFIG).is_file():
            raise InputError(f"model={folder}: has no {CONFIG}. Give a folder of export.")
        reject_symlinks(folder)
        self.folder = folder
        self.config = self._read(CONFIG)
        if self.config.get("format") != FORMAT:
            raise InputError(
                f"model={folder}: its format is {self.config.get('format')}; this version reads "
                f"format {FORMAT}. {EXPORT_AGAIN}, or use the version of lymphoml that wrote it."
            )
        if changed := changed_files(folder, (".json", ".onnx")):
            raise InputError(
                f"{each}: is not as it was exported; {EXPORT_AGAIN}" for each in changed
            )
        self._read_settings()
        self._head = self._session(HEAD)
        self._encoder = self._session(ENCODER) if self.uses_images else None

    def _read_settings(self) -> None:
        config = self._section(settings.Exported, CONFIG, self.config)
        self.folds, self.data = config.folds, config.data
        of_folds = {"by_fold": self._read(RANGES)}
        by_fold = self._section(settings.Ranges, RANGES, of_folds).to_dict()["by_fold"]
        if by_fold.keys() != {str(fold) for fold in self.folds}:
            raise InputError(f"{self.folder / RANGES}: has other folds; {EXPORT_AGAIN}")
        self.ranges = [by_fold[str(fold)] for fold in self.folds]
        self.trained_on = self._section(settings.Inputs, PREPROCESSING, self._read(PREPROCESSING))
        inputs = self.trained_on.to_dict()
        self.columns: dict[str, dict[str, Any]] = inputs["clinical"]
        self.features: list[str] | None = inputs["features"]  # names, where bags hold vectors
        images = inputs["images"]
        self.size = tuple(images["size"]) if images and images["size"] else None
        self.preprocessing = images and Preprocessing(images["crop"], images["resize"])
        self.views = images["views"] if images else 1
        self.uses_images = bool(images or self.features)

    @cached_property
    def rule(self) -> dict[str, Any] | None:
        """The rule-out rule, None where the run had none."""
        if not (self.folder / RULE).exists():
            return None
        rule = self._section(settings.Rule, RULE, self._read(RULE))
        if not {fold for each in rule.lowest for fold in each.folds} <= {*self.folds}:
            raise InputError(f"{self.folder / RULE}: has other folds; {EXPORT_AGAIN}")
        return rule.to_dict()

    def _section(self, kind: type[Kind], name: str, content: dict[str, Any]) -> Kind:
        """Return a file's content, checked. Raises InputError."""
        try:
            return kind.read(content)
        except InputError as error:
            where = self.folder / name
            raise InputError(
                f"{where}: {each}; {EXPORT_AGAIN}" for each in error.problems
            ) from None

    def row(self, table: Any, patient: str) -> dict[str, Any]:
        """Return a patient's values, by column, of a cohort's table."""
        return dict(table.loc[patient, [*self.columns]])

    def predict(self, instances: Iterable[np.ndarray], values: Mapping[str, Any]) -> Answer:
        """Return what the models answer for one patient.

        `instances` are images, uint8 (h w 3), of any number and sizes, or vectors (d); `values` by
        column a number as in the table, a category's name, or None where it is missing.
        """
        return self.classify(self.encode(instances), values)

    def encode(self, instances: Iterable[np.ndarray]) -> np.ndarray | None:
        """Return each model's features (m n e) of a patient's images; None without images.

        Raises InputError for no image, or for vectors that are not finite.
        """
        if self._encoder is None:
            return None
        return self.run_encoder(self._encoder, instances)

    def run_encoder(self, session: Any, instances: Iterable[np.ndarray]) -> np.ndarray:
        """Return `encode` by the session of an encoder, or of some folds' part of it."""
        checked = map(self._checked, instances)
        chunks = _chunks(checked, max(1, CHUNK // self.views))
        parts = [np.concatenate(_run(session, {"instances": each})) for each in chunks]
        if not parts:
            raise InputError("there is no image: a patient needs at least one")
        features = np.concatenate(parts, axis=1)
        if not np.isfinite(features).all():
            raise InputError("an image's features are not finite; check the feature vectors")
        return features

    def classify(self, features: np.ndarray | None, values: Mapping[str, Any]) -> Answer:
        """Return the answer for the features of all images. Raises InputError for `values`."""
        feed = {"features": features, "values": self._numbers(values)}
        names = [each.name for each in self._head.get_inputs()]
        probability, logit, by_fold = _run(self._head, {name: feed[name] for name in names})
        if not np.isfinite(by_fold).all():
            raise InputError("the model's answer is not a number; check the patient's values")
        return Answer(float(probability), float(logit), by_fold)

    def read_images(self, paths: Sequence[Path]) -> Iterator[np.ndarray]:
        """Yield a patient's images as they are decoded. Raises InputError for the first problem."""
        for path in paths:
            try:
                yield self.decode(read_image(path))
            except ImageProblem as problem:
                raise InputError(f"image {path}: {problem}") from None

    def decode(self, content: bytes) -> np.ndarray:
        """Return the image in a file's content, uint8 (h w 3). Raises ImageProblem."""
        with DECODING, warnings.catch_warnings(action="error"):  # filters are the process's
            image = np.array(open_rgb(content).image)
        self._check_size(image)
        return image

    def _check_size(self, image: np.ndarray) -> None:
        """Raise ImageProblem for a size that the graph would read beyond the edge of."""
        height, width, _ = image.shape
        check_size((width, height), self.preprocessing)
        if self.size not in (None, (height, width)):
            what = f"{width} x {height} pixels, in training {self.size[1]} x {self.size[0]}"
            raise ImageProblem("of another size", what, "give images of the same size")

    def _checked(self, instance: np.ndarray) -> np.ndarray:
        """Return an image or a vector. Raises InputError for what is none."""
        if self.features:
            if instance.shape != (len(self.features),):
                raise InputError(f"a vector has {instance.shape}, not {len(self.features)} numbers")
            return instance.astype(np.float32, copy=False)
        if instance.ndim != 3 or instance.shape[2] != 3 or instance.dtype != np.uint8:
            shape, kind = instance.shape, instance.dtype
            raise InputError(f"an image is {kind} of shape {shape}; must be uint8 (h, w, 3)")
        try:
            self._check_size(instance)
        except ImageProblem as problem:
            raise InputError(f"an image: {problem}") from None
        return instance

    def _numbers(self, values: Mapping[str, Any]) -> np.ndarray:
        """Return the values as the graph takes them. Raises InputError for one it must not get."""
        numbers, problems = [], []
        if unknown := sorted(values.keys() - self.columns.keys()):
            known = ", ".join(self.columns) or "none"
            problems.append(f"{', '.join(unknown)}: the model's clinical values are {known}")
        for name, column in self.columns.items():
            value: Any = values.get(name)
            missing = value is None or value != value
            number = np.nan
            if missing:
                if not column["may_be_missing"]:
                    problems.append(f"{name} is missing; the model needs it")
            elif "categories" in column:
                if value not in column["categories"]:
                    known = ", ".join(column["categories"])
                    problems.append(f"{name}={value}: must be one of {known}")
                else:
                    number = column["categories"].index(value)
            else:
                with suppress(ValueError, TypeError):  # else it stays NaN
                    number = float(value)
                if not np.isfinite(number):
                    problems.append(f"{name}={value}: must be a finite number")
                elif column["positive"] and number <= 0:
                    problems.append(f"{name}={value}: must be above 0")
            numbers.append(number)
        if problems:
            raise InputError(problems)
        return np.array(numbers, np.float64)

    def _read(self, name: str) -> dict[str, Any]:
        return read_mapping(self.folder / name, EXPORT_AGAIN)

    def _session(self, name: str) -> Any:
        try:
            return open_session(str(self.folder / name))
        except ImportError:
            raise InputError(
                "model=...: onnxruntime is not installed; `pip install -r "
                f"{self.folder / 'requirements.txt'}`"
            ) from None
        except Exception as error:  # whatever a foreign graph makes onnxruntime say
            reason = one_line(error)[:200]
            raise InputError(f"{self.folder / name}: {reason}; {EXPORT_AGAIN}") from None


def _run(session: Any, feed: dict[str, Any]) -> Any:
    """Return the outputs of a graph. Raises InputError where it does not take these inputs."""
    try:
        return session.run(None, feed)
    except Exception as error:  # as above
        raise InputError(f"the graph fails ({one_line(error)[:200]}); {EXPORT_AGAIN}") from None


def open_session(graph: str | bytes) -> Any:
    """Return what runs a graph, given as a file's name or its content."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False  # keeps what a run has freed, and is no faster
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _chunks(instances: Iterable[np.ndarray], most: int) -> Iterator[np.ndarray]:
    """Yield up to `most` neighbours of one size as one array (n ...)."""
    for _, same in groupby(instances, np.shape):
        while chunk := list(islice(same, most)):
            yield np.stack(chunk)
