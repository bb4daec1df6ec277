"""`python -m lymphoml instances`: whether a run found the cells that make a patient tumoral."""

from dataclasses import dataclass
from pathlib import Path

from lymphoml.cli.options import REQUIRED, option
from lymphoml.core.errors import InputError


@dataclass
class Instances:
    """How well a run's per-image probabilities tell cells apart whose kind is known."""

    run: str = option(REQUIRED, "finished run folder")
    truth: str = option(
        REQUIRED, "truth.json of a synthetic cohort, or a .csv: patient,image,truth"
    )


def run(options: Instances) -> None:
    from lymphoml.evaluation.pooled import within_bag_auroc
    from lymphoml.reports.instance_truth import with_truth

    found = within_bag_auroc(with_truth(Path(options.run), Path(options.truth)))
    if not found.bags:
        raise InputError(f"truth={options.truth}: no patient has images of both kinds")
    print(
        f"AUROC of single images, within patients: {found.value:.3f} [{found.low:.3f}, "
        f"{found.high:.3f}], the mean of {found.bags} patients with both kinds; chance 0.5"
    )
