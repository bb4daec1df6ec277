"""`python -m lymphoml submit`: the Kaggle file, sent."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from lymphoml.commands.options import option, pair
from lymphoml.errors import InputError


@dataclass
class Submit:
    """Send a run's submission.csv to Kaggle, and believe only a confirmed success."""

    run: str = option(MISSING, "run folder, predicted before")
    header: list[str] = option(["ID", "LABEL"], "that the competition wants")
    message: str = option(MISSING, "what Kaggle shows beside the submission")
    competition: str = option("dlmi-lymphocytosis-classification", "its name in Kaggle's address")


def run(options: Submit) -> None:
    from lymphoml.runs import read_table
    from lymphoml.submission import check_submission
    from lymphoml.submission import submit as send

    folder = Path(options.run) / "test"
    if not (folder / "predictions.csv").exists():
        raise InputError(f"run={options.run}: {folder} holds no prediction; run predict.py first")
    patients = read_table(folder / "predictions.csv")["patient"].tolist()
    check_submission(folder / "submission.csv", patients, pair("header", options.header))
    print(send(folder / "submission.csv", options.competition, options.message))
