"""What one measuring process is asked, and what it answers: JSON files between processes."""

from dataclasses import asdict, dataclass, field
from typing import Any

VARIANTS = {
    "reference": "(a) report's recipe",
    "plain": "(b) plain loop",
    "lymphoml": "(c) lymphoml",
}


@dataclass(frozen=True)
class Condition:
    """What is trained on: all patients of a cohort have as many images, all of one size."""

    size: int  # pixels a side
    bag: int  # images a patient
    patients: int  # labelled; one in five is held out
    workers: int = 0  # loader processes; 0 loads in the training process

    def describe(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """`epochs` whole epochs after one that is not counted; or, where given, so many `steps`."""

    variant: str
    condition: Condition
    cohort: str  # folder
    cache: str  # folder of decoded images, which the processes of one condition share
    threads: int
    precision: str  # Lightning's name; the reference is in fp32 whatever it says
    accelerator: str = "auto"
    epochs: int = 1
    passes: int = 0  # over all patients, predicting, after one that is not counted
    steps: int | None = None
    words: list[str] = field(default_factory=list)  # more for train.py


@dataclass
class Answer:
    """What a process measured; seconds are raw, a number an epoch, pass or step."""

    first_step_at: float | None = None  # of time.monotonic(), which all processes share
    training: list[float] = field(default_factory=list)  # images a second, an epoch each
    inference: list[float] = field(default_factory=list)  # images a second, a pass each
    steps: list[float] = field(default_factory=list)  # seconds a training step
    cuda_peak_mib: float | None = None

    def merged(self, other: "Answer") -> "Answer":
        """This one with the inference of another process, which `other` is."""
        peaks = [peak for peak in (self.cuda_peak_mib, other.cuda_peak_mib) if peak is not None]
        return Answer(
            self.first_step_at, self.training, other.inference, self.steps,
            max(peaks) if peaks else None,
        )  # fmt: skip


def job_from(content: dict[str, Any]) -> Job:
    return Job(**content | {"condition": Condition(**content["condition"])})
